//! How far the stream was read, and where to go on.
//!
//! Stands beside the source. The position is an entry's id, and never `$`, which would skip what is added between
//! two reads. With `replay.strategy` `bounded` or `durable` it is also kept in Redis, in the key
//! `{leases.prefix}outbox:{stream}:{node_id}`.
//!
//! # Ids below the position
//! Ids only grow, so a stream whose newest id lies below the position is another one than was read. Either it was
//! deleted and begun anew: then all of it is new. Or it is the same without its newest entries, as after a failover
//! to a replica that lagged: then all of it was delivered, and must not be again. They are told apart by entries that
//! were seen before: a new stream has none of them.

use std::collections::VecDeque;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::Instant;

use super::entry::{EntryId, StreamState};
use super::{AskError, Stream};
use crate::brokers::redis::{Atomicity, NAME};
use crate::clock::seconds;
use crate::config::Config;
use crate::replay::ReplayStrategy;
use crate::telemetry::throttle::Throttle;

/// Longest time between two notes of a position that did not change, so that it does not expire.
const REFRESH: Duration = Duration::from_hours(1);

/// Time that a gateway that stops may take to keep its position.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// Batches of which the first entry is remembered.
const REMEMBERED: usize = 64;

pub(in crate::sources) struct Position {
    stream: Stream,
    /// The last entry that was handled; nothing until the stream was found.
    last: Option<EntryId>,
    /// The oldest entry of the stream when it was looked at.
    oldest: Option<EntryId>,
    /// First entries of the last batches.
    recent: VecDeque<EntryId>,
    kept: Option<Kept>,
}

/// The position's copy in Redis.
struct Kept {
    key: String,
    every: Duration,
    retention_seconds: u64,
    value: Option<EntryId>,
    at: Instant,
    lines: Throttle,
}

impl Position {
    pub(super) fn new(stream: &Stream, config: &Config, node_id: &str) -> Self {
        let replay = &config.replay;
        let kept = (replay.strategy != ReplayStrategy::None).then(|| Kept {
            key: format!("{}outbox:{}:{node_id}", config.leases.prefix, stream.name),
            every: seconds(replay.snapshot_seconds),
            retention_seconds: replay.retention_seconds,
            value: None,
            at: Instant::now(),
            lines: Throttle::default(),
        });
        Self {
            stream: stream.clone(),
            last: None,
            oldest: None,
            recent: VecDeque::with_capacity(REMEMBERED),
            kept,
        }
    }

    /// Goes on where another one of the same stream stopped.
    pub(super) fn resume(&mut self, left: Self) {
        self.last = left.last;
        self.oldest = left.oldest;
        self.recent = left.recent;
    }

    /// The last entry that was handled.
    pub(super) fn last(&self) -> EntryId {
        self.last.unwrap_or_default()
    }

    /// Notes that a batch was read which begins with an entry.
    pub(super) fn read(&mut self, first: EntryId) {
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back(first);
    }

    /// Notes that an entry was handled.
    pub(super) fn handled(&mut self, id: EntryId) {
        self.last = Some(id);
    }

    /// The command that reads on.
    pub(super) fn read_command(&self, count: usize, block: Duration) -> Cmd {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(count);
        command.arg("BLOCK").arg(block.as_secs() * 1000);
        command.arg("STREAMS").arg(&*self.stream.name);
        command.arg(self.last().to_string());
        command
    }

    /// Looks at the stream, and moves the position where it does not fit.
    ///
    /// After a time without reading, entries may have been trimmed that were not read.
    pub(super) async fn check(&mut self, interrupted: bool) -> Result<(), AskError> {
        let known = match self.last {
            Some(last) => Some(last),
            None => self.fetch().await?,
        };
        let state = self.state().await?;
        let last = match known {
            None => state.last,
            Some(known) if state.last < known => self.below(known, state).await?,
            Some(known) => {
                if interrupted {
                    self.look_for_gap(known, state);
                }
                known
            }
        };
        self.last = Some(last);
        self.oldest = state.first;
        self.keep_if_due().await;
        Ok(())
    }

    /// Where to go on in a stream whose ids all lie below the position.
    async fn below(&self, known: EntryId, state: StreamState) -> Result<EntryId, AskError> {
        let same = state.last > EntryId::START && self.has_any_known().await?;
        let next = if same { state.last } else { EntryId::START };
        // A stream that was deleted, and that nobody has added to yet, is not worth a line.
        if state.last > EntryId::START {
            tracing::warn!(
                event = "outbox_restarted",
                source = NAME,
                stream = &*self.stream.name,
                position = %known,
                newest = %state.last,
                reason = if same {
                    "the stream lost its newest entries, as after a failover"
                } else {
                    "the stream was deleted and begun anew"
                },
                after = %next,
            );
        }
        Ok(next)
    }

    /// Says so if entries were trimmed before they were read.
    fn look_for_gap(&self, known: EntryId, state: StreamState) {
        let trimmed = match state.first {
            Some(first) => first > known,
            None => state.last > known,
        };
        // While the oldest entry is the one it was, whatever is gone was gone then.
        let trimmed_since = state.first != self.oldest || self.oldest.is_none();
        if known > EntryId::START && trimmed && trimmed_since {
            tracing::warn!(
                event = "outbox_gap",
                source = NAME,
                stream = &*self.stream.name,
                position = %known,
                oldest = state.first.map(tracing::field::display),
            );
        }
    }

    /// The stream's newest id and oldest entry; both are nothing for a stream that does not exist.
    async fn state(&self) -> Result<StreamState, AskError> {
        let mut info = redis::cmd("XINFO");
        info.arg("STREAM").arg(&*self.stream.name);
        match self.stream.ask(info).await {
            Ok(answer) => StreamState::read(answer).ok_or_else(AskError::unexpected),
            Err(error) if error.0.contains("no such key") => Ok(StreamState::default()),
            Err(error) => Err(error),
        }
    }

    async fn has_any_known(&self) -> Result<bool, AskError> {
        let ask = |id: &EntryId| {
            let mut range = redis::cmd("XRANGE");
            range.arg(&*self.stream.name);
            range.arg(id.to_string()).arg(id.to_string());
            range
        };
        let commands = self.oldest.iter().chain(&self.recent).map(ask).collect();
        let answers = self.stream.link.run_owned(commands, Atomicity::Each);
        for answer in answers.await? {
            if matches!(answer?, Value::Array(found) if !found.is_empty()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The position as an earlier run of this gateway kept it.
    async fn fetch(&self) -> Result<Option<EntryId>, AskError> {
        let Some(kept) = &self.kept else {
            return Ok(None);
        };
        let mut get = redis::cmd("GET");
        get.arg(&kept.key);
        match self.stream.ask(get).await? {
            Value::BulkString(text) => {
                let text = String::from_utf8_lossy(&text);
                Ok(text.parse().ok())
            }
            _ => Ok(None),
        }
    }

    /// Keeps the position, if it changed and the time has come.
    pub(super) async fn keep_if_due(&mut self) {
        let due = self.kept.as_ref().is_some_and(|kept| {
            let elapsed = kept.at.elapsed();
            match kept.value {
                None => true,
                value if value == self.last => elapsed >= kept.refresh(),
                Some(_) => elapsed >= kept.every,
            }
        });
        if due {
            self.keep().await;
        }
    }

    /// Keeps the position of a gateway that stops.
    pub(super) async fn keep_at_end(&mut self) {
        let _ = tokio::time::timeout(STOP_GRACE, self.keep()).await;
    }

    async fn keep(&mut self) {
        let (Some(kept), Some(last)) = (&mut self.kept, self.last) else {
            return;
        };
        let mut set = redis::cmd("SET");
        set.arg(&kept.key).arg(last.to_string());
        if kept.retention_seconds > 0 {
            set.arg("EX").arg(kept.retention_seconds);
        }
        match self.stream.ask(set).await {
            Ok(_) => {
                kept.value = Some(last);
                kept.at = Instant::now();
            }
            // The next batch tries again; meanwhile pushes go on.
            Err(error) => {
                if let Some(suppressed) = kept.lines.pass() {
                    tracing::warn!(
                        event = "outbox_position_failed",
                        source = NAME,
                        stream = &*self.stream.name,
                        reason = %error,
                        suppressed,
                    );
                }
            }
        }
    }
}

impl Kept {
    /// Time after which an unchanged position is kept again.
    fn refresh(&self) -> Duration {
        let half = Duration::from_secs(self.retention_seconds) / 2;
        match self.retention_seconds {
            0 => REFRESH,
            _ => half.min(REFRESH),
        }
    }
}
