//! Erases entries from Redis streams: of events, pushes and dead letters.
//!
//! A stream is read from its first entry to the one that was the last when the search began, so that it ends however
//! fast others write. Batches grow while entries are small and shrink when they are large: what is held at once is
//! some megabytes, whatever the entries are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::{BoxFuture, FutureExt as _};
use redis::{Cmd, Value, cmd};

use super::redis::{ask_for, ask_one};
use super::stores::{Link, Search};
use super::{Finding, Person, Task, pause};
use crate::brokers::redis::RedisLink;
use crate::stages::ordering_key::partition;

/// Entries read at once: in the first batch of a stream, and at most.
const FIRST_BATCH: usize = 8;
const MAX_BATCH: usize = 512;

/// Bytes of a batch below which the next one is larger, and above which it is smaller.
const SMALL: usize = 256 << 10;
const LARGE: usize = 4 << 20;

/// Removes a stream that has no entries, and that nobody reads as a group. Another who erases may have done so before.
const REMOVE_EMPTY: &str = "if redis.call('EXISTS', KEYS[1]) == 1 and redis.call('XLEN', KEYS[1]) == 0 \
    and #redis.call('XINFO', 'GROUPS', KEYS[1]) == 0 then return redis.call('DEL', KEYS[1]) end return 0";

/// One stream.
pub(super) struct StreamSearch {
    link: Arc<RedisLink>,
    stream: String,
    /// The last entry that was looked at.
    last: Option<String>,
    finding: Finding,
}

impl StreamSearch {
    pub(super) fn new(link: Arc<RedisLink>, stream: &str) -> Self {
        Self {
            finding: Finding::of("redis_stream", stream, link.address()),
            stream: stream.to_owned(),
            last: None,
            link,
        }
    }
}

impl Search for StreamSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let found: String = ask_for(&self.link, of_key("TYPE", &self.stream)).await?;
            match found.as_str() {
                "none" => Ok(()),
                "stream" => {
                    let Self {
                        link,
                        stream,
                        last,
                        finding,
                    } = self;
                    erase(link, stream, last, finding, task).await
                }
                other => Err(format!("the key is a {other} and no stream")),
            }
        }
        .boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }

    fn link(&self) -> Link {
        Link::Redis(Arc::clone(&self.link))
    }
}

/// The streams that messages with an ordering key go to, now or under an earlier configuration.
pub(super) struct PartitionSearch {
    link: Arc<RedisLink>,
    /// What their names begin with.
    begin: String,
    /// Streams that are searched by themselves.
    others: HashSet<String>,
    /// Those that are named after the user.
    named: [String; 2],
    /// The last entry of each that was looked at.
    last: HashMap<String, Option<String>>,
    finding: Finding,
}

impl PartitionSearch {
    pub(super) fn new(
        link: Arc<RedisLink>,
        inbox: &str,
        others: HashSet<String>,
        person: &Person,
    ) -> Self {
        let begin = format!("{inbox}.");
        let named =
            [person.id(), person.subject()].map(|key| format!("{begin}{}", partition(key, 64)));
        Self {
            finding: Finding::of("redis_stream", format!("{begin}*"), link.address()),
            begin,
            others,
            named,
            last: HashMap::new(),
            link,
        }
    }

    async fn search_all(&mut self, task: Task<'_>) -> Result<(), String> {
        let words = |error: crate::brokers::redis::LinkError| error.0;
        let mut scan = self.link.scan(&self.begin, "stream").await.map_err(words)?;
        let mut done = HashSet::new();
        let mut removed = Ok(());
        while let Some(streams) = self.link.scan_on(&mut scan).await.map_err(words)? {
            let started = Instant::now();
            for stream in streams {
                // A key may come twice.
                if self.others.contains(&stream) || !done.insert(stream.clone()) {
                    continue;
                }
                let last = self.last.entry(stream.clone()).or_default();
                let before = self.finding.erased;
                erase(&self.link, &stream, last, &mut self.finding, task).await?;
                let emptied = self.finding.erased > before || self.named.contains(&stream);
                if emptied && !task.dry_run {
                    let mut remove = cmd("EVAL");
                    remove.arg(REMOVE_EMPTY).arg(1).arg(&stream);
                    // Its entries are gone already, and those of the other streams are to go as well.
                    removed = removed.and(ask_one(&self.link, remove).await.map(|_| ()));
                }
            }
            pause(started.elapsed()).await;
        }
        removed
    }
}

impl Search for PartitionSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        self.search_all(task).boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }

    fn link(&self) -> Link {
        Link::Redis(Arc::clone(&self.link))
    }
}

/// Erases the user's entries of a stream from the last one on that was looked at.
async fn erase(
    link: &Arc<RedisLink>,
    stream: &str,
    last: &mut Option<String>,
    finding: &mut Finding,
    task: Task<'_>,
) -> Result<(), String> {
    finding.exists = true;
    let mut newest = cmd("XREVRANGE");
    newest.arg(stream).arg("+").arg("-").arg("COUNT").arg(1);
    let Some(newest) = entries(ask_one(link, newest).await?)?.pop() else {
        return Ok(());
    };
    let mut count = FIRST_BATCH;
    loop {
        let started = Instant::now();
        let from = last.as_ref().map_or("-".to_owned(), |id| format!("({id}"));
        let mut read = cmd("XRANGE");
        read.arg(stream).arg(from).arg(&newest.id);
        read.arg("COUNT").arg(count);
        let batch = entries(ask_one(link, read).await?)?;
        let read = batch.len();
        let mut theirs = Vec::new();
        let mut bytes = 0;
        for entry in batch {
            bytes += entry.bytes();
            if finding.judge(task.person.judge_fields(&entry.fields), task.late) {
                theirs.push(entry.id.clone());
            }
            *last = Some(entry.id);
        }
        if !theirs.is_empty() && !task.dry_run {
            let mut delete = of_key("XDEL", stream);
            delete.arg(&theirs);
            ask_one(link, delete).await?;
            // Those that a worker deleted in between are gone as well.
            finding.erased += theirs.len() as u64;
        }
        (task.tell)(finding);
        if read < count {
            return Ok(());
        }
        count = match bytes {
            ..SMALL => (count * 2).min(MAX_BATCH),
            LARGE.. => (count / 2).max(1),
            _ => count,
        };
        pause(started.elapsed()).await;
    }
}

/// An entry as it is kept, whatever it holds.
struct Entry {
    id: String,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    fn bytes(&self) -> usize {
        let fields = self.fields.iter();
        fields.map(|(name, value)| name.len() + value.len()).sum()
    }
}

/// The entries in what `XRANGE` answered.
fn entries(answer: Value) -> Result<Vec<Entry>, String> {
    let entry = |value: Value| {
        let (id, fields): (String, Vec<Vec<u8>>) = redis::from_redis_value(value).ok()?;
        let mut fields = fields.into_iter();
        let mut pairs = Vec::with_capacity(fields.len() / 2);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            pairs.push((name, value));
        }
        Some(Entry { id, fields: pairs })
    };
    let read = match answer {
        Value::Array(list) => list.into_iter().map(entry).collect(),
        _ => None,
    };
    read.ok_or_else(|| "an answer of another shape than a stream's".to_owned())
}

fn of_key(name: &str, key: &str) -> Cmd {
    let mut command = cmd(name);
    command.arg(key);
    command
}
