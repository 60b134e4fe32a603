//! Keeps dead letters in a Redis stream, and gives them back.
//!
//! Stands behind the deliveries and the sources; the replay API reads it. An entry has the fields `reason`, `raw`,
//! `event_id` (for events), `sink` and `failed_at` (unix seconds).
//!
//! # Replay
//! A dead letter is added to the target and removed from here in one script, and only if it is still here, so that
//! two gateways that replay at once move each letter once. In a cluster where the two streams lie in different hash
//! slots there is no such script: each letter is added first and removed then, so that what is interrupted in between
//! is there twice. Names with a common hash tag, as `{ws}.dlq` and `{ws}.inbox`, avoid that.

use std::fmt::Write as _;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use redis::cluster_routing::Slot;
use redis::streams::{StreamId, StreamRangeReply};
use redis::{Cmd, FromRedisValue as _, Value};
use serde::Deserialize;
use uuid::Uuid;

use super::dead_letter::{DeadLetter, DeadLetterError, DeadLetters, StoreFuture};
use super::redis_stream::BrokerFormat;
use super::redis_stream::entry::{Entry, Headers};
use super::redis_stream::trim::{self, Trimmer};
use crate::brokers::redis::{Atomicity, NAME, RedisLink};
use crate::config::Config;
use crate::replay::{DeadLetterStore, ReplayError, StoredLetter};
use crate::stages::ordering_key::Partitions;

/// Letters that one script moves.
const CHUNK: usize = 100;

/// Moves letters that are still there: `KEYS` the streams, `ARGV` the target's bound (0: none), then for each letter
/// its id, the number of its texts, and these.
const MOVE: &str = r"
local moved, at = 0, 2
while ARGV[at] do
  local id, count = ARGV[at], tonumber(ARGV[at + 1])
  if #redis.call('XRANGE', KEYS[1], id, id) > 0 then
    local add = {'XADD', KEYS[2]}
    if ARGV[1] ~= '0' then
      add[3], add[4], add[5] = 'MAXLEN', '~', ARGV[1]
    end
    add[#add + 1] = '*'
    for i = at + 2, at + 1 + count do
      add[#add + 1] = ARGV[i]
    end
    redis.call(unpack(add))
    redis.call('XDEL', KEYS[1], id)
    moved = moved + 1
  end
  at = at + 2 + count
end
return moved
";

/// A stream of dead letters.
#[derive(Debug)]
pub struct RedisDeadLetters {
    link: Arc<RedisLink>,
    stream: String,
    target: String,
    /// How the target is split, if that is the inbox.
    partitions: Partitions,
    format: BrokerFormat,
    max_batch: usize,
    maxlen: Option<u64>,
    _trimmer: Option<Trimmer>,
}

/// What [`RedisDeadLetters::new`] reads of a configuration, besides the link.
pub(super) fn made_of(config: &Config) -> impl PartialEq {
    let sink = &config.events.redis_stream;
    (
        &config.events.dead_letters.redis_stream,
        &config.replay.redis_stream,
        (&sink.inbox_stream, sink.format, target(config).1),
        trim::made_of(&config.replay),
    )
}

/// The stream that letters go back to, and how it is split, which is only the inbox.
///
/// With a stream for each key all of them go to the inbox itself, as the messages without a key do.
fn target(config: &Config) -> (&str, Partitions) {
    let target = &config.replay.redis_stream.target_stream;
    if target.is_empty() {
        (
            &config.events.redis_stream.inbox_stream,
            Partitions::of(config),
        )
    } else {
        (target, Partitions::One)
    }
}

impl RedisDeadLetters {
    /// Makes the store of a configuration; must be called within a tokio runtime.
    #[must_use]
    pub fn new(link: Arc<RedisLink>, config: &Config) -> Self {
        let stream = config.events.dead_letters.redis_stream.stream.clone();
        let replay = &config.replay.redis_stream;
        let sink = &config.events.redis_stream;
        let (target, partitions) = target(config);
        Self {
            target: target.to_owned(),
            partitions,
            format: sink.format,
            max_batch: replay.max_batch,
            maxlen: trim::maxlen(&config.replay),
            _trimmer: Trimmer::start(&link, vec![stream.clone()], &config.replay),
            stream,
            link,
        }
    }

    async fn add(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        let mut command = redis::cmd("XADD");
        command.arg(&self.stream);
        if let Some(maxlen) = self.maxlen {
            command.arg("MAXLEN").arg("~").arg(maxlen);
        }
        command.arg("*").arg("reason").arg(&letter.reason);
        command.arg("raw").arg(&letter.raw[..]);
        if let Some(id) = letter.event_id {
            command.arg("event_id").arg(id.to_string());
        }
        command.arg("sink").arg(letter.sink);
        command.arg("failed_at").arg(letter.failed_at);
        let added = self.ask(command).await.map_err(DeadLetterError::Failed)?;
        drop(added);
        Ok(())
    }

    async fn ask(&self, command: Cmd) -> Result<Value, String> {
        let answers = self.link.run_owned(vec![command], Atomicity::Each).await;
        match answers.map_err(|error| error.0)?.pop() {
            Some(answer) => answer.map_err(|error| error.0),
            None => Err("no answer".to_owned()),
        }
    }

    /// The oldest letters.
    async fn oldest(&self, limit: usize) -> Result<Vec<StreamId>, String> {
        let mut command = redis::cmd("XRANGE");
        command.arg(&self.stream).arg("-").arg("+");
        command.arg("COUNT").arg(limit);
        let answer = self.ask(command).await?;
        StreamRangeReply::from_redis_value(answer)
            .map(|reply| reply.ids)
            .map_err(|_| "an unexpected answer of Redis".to_owned())
    }

    async fn move_oldest(&self, limit: usize) -> Result<usize, ReplayError> {
        let limit = limit.min(self.max_batch);
        let mut replayed = 0;
        while replayed < limit {
            let failed = |reason| ReplayError { replayed, reason };
            let chunk = CHUNK.min(limit - replayed);
            let letters = self.oldest(chunk).await.map_err(failed)?;
            if letters.is_empty() {
                break;
            }
            let targets: Vec<_> = letters
                .iter()
                .map(|letter| self.target_of(letter))
                .collect();
            let mut from = 0;
            // Those that go to one stream one after the other, of which there is often but one.
            for run in targets.chunk_by(|one, next| one == next) {
                let moved = self
                    .move_run(&letters[from..from + run.len()], &run[0])
                    .await;
                replayed += moved.map_err(|(moved, reason)| ReplayError {
                    replayed: replayed + moved,
                    reason,
                })?;
                from += run.len();
            }
        }
        Ok(replayed)
    }

    /// The stream that a letter goes back to.
    fn target_of(&self, letter: &StreamId) -> String {
        let raw = text(letter, "raw").unwrap_or_default();
        match self.partitions.shard_of_json(raw.as_bytes()) {
            Some(shard) => format!("{}.{shard}", self.target),
            None => self.target.clone(),
        }
    }

    async fn move_run(&self, letters: &[StreamId], to: &str) -> Result<usize, (usize, String)> {
        if !self.link.is_cluster() || Slot::for_key(&self.stream) == Slot::for_key(to) {
            let moved = self.move_by_script(letters, to).await;
            moved.map_err(|reason| (0, reason))
        } else {
            self.move_one_by_one(letters, to).await
        }
    }

    async fn move_by_script(&self, letters: &[StreamId], to: &str) -> Result<usize, String> {
        let mut command = redis::cmd("EVAL");
        command.arg(MOVE).arg(2).arg(&self.stream).arg(to);
        command.arg(self.maxlen.unwrap_or(0));
        for letter in letters {
            let raw = text(letter, "raw").unwrap_or_default();
            self.with_entry(&raw, |entry| {
                let count = entry.fields().count() * 2;
                command.arg(&letter.id).arg(count);
                for (name, value) in entry.fields() {
                    command.arg(name).arg(value);
                }
            });
        }
        let moved = self.ask(command).await?;
        usize::from_redis_value(moved).map_err(|_| "an unexpected answer of Redis".to_owned())
    }

    async fn move_one_by_one(
        &self,
        letters: &[StreamId],
        to: &str,
    ) -> Result<usize, (usize, String)> {
        for (moved, letter) in letters.iter().enumerate() {
            let failed = |reason| (moved, reason);
            let raw = text(letter, "raw").unwrap_or_default();
            let xadd = self.with_entry(&raw, |entry| entry.xadd(to, self.maxlen).command());
            self.ask(xadd).await.map_err(failed)?;
            let mut remove = redis::cmd("XDEL");
            remove.arg(&self.stream).arg(&letter.id);
            self.ask(remove).await.map_err(failed)?;
        }
        Ok(letters.len())
    }

    /// The entry that the sink would have written for a letter, marked as replayed.
    fn with_entry<T>(&self, raw: &str, with: impl FnOnce(&Entry<'_>) -> T) -> T {
        // What is no event has no headers.
        let known: Known = serde_json::from_str(raw).unwrap_or_default();
        let headers = Headers {
            kind: known.kind.as_deref().unwrap_or("unknown"),
            event_id: known.event_id,
            traceparent: known.traceparent.as_deref(),
        };
        with(&Entry::new(raw.as_bytes(), &headers, self.format, true))
    }
}

impl DeadLetters for RedisDeadLetters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        Box::pin(self.add(letter))
    }
}

impl DeadLetterStore for RedisDeadLetters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> BoxFuture<'_, Result<u64, ReplayError>> {
        Box::pin(async move {
            let mut length = redis::cmd("XLEN");
            length.arg(&self.stream);
            let answer = self.ask(length).await?;
            u64::from_redis_value(answer)
                .map_err(|_| "an unexpected answer of Redis".to_owned().into())
        })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredLetter>, ReplayError>> {
        Box::pin(async move {
            let letters = self.oldest(limit).await.map_err(|reason| ReplayError {
                replayed: 0,
                reason,
            })?;
            Ok(letters.iter().map(stored).collect())
        })
    }

    fn replay(&self, limit: usize) -> BoxFuture<'_, Result<usize, ReplayError>> {
        Box::pin(self.move_oldest(limit))
    }
}

/// The members of an event that headers repeat.
#[derive(Default, Deserialize)]
struct Known {
    #[serde(rename = "type")]
    kind: Option<String>,
    event_id: Option<Uuid>,
    traceparent: Option<String>,
}

fn stored(letter: &StreamId) -> StoredLetter {
    StoredLetter {
        store: NAME,
        id: Some(letter.id.clone()),
        event_id: text(letter, "event_id"),
        sink: text(letter, "sink"),
        reason: text(letter, "reason").unwrap_or_default(),
        failed_at: text(letter, "failed_at").and_then(|at| at.parse().ok()),
        raw: text(letter, "raw").unwrap_or_default(),
    }
}

fn text(letter: &StreamId, field: &str) -> Option<String> {
    match letter.map.get(field)? {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) => Some(text.clone()),
        Value::Int(number) => {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = write!(text, "{number}");
            Some(text)
        }
        _ => None,
    }
}
