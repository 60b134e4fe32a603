//! What is no push: a dead letter once for all gateways, since all of them read it.
//!
//! Stands beside the source. The first gateway that leaves a mark in Redis keeps the dead letter, and takes the mark
//! away again if it cannot.

use std::sync::Arc;

use prometheus::IntCounter;
use redis::Value;

use super::entry::{Entry, EntryError};
use super::{AskError, RedisFeed, Stream};
use crate::brokers::redis::NAME;
use crate::sinks::dead_letter::{Cause, DeadLetter, DeadLetterCount, DeadLetters as _};
use crate::sources::CurrentDeadLetters;
use crate::telemetry::throttle::Throttle;

/// Seconds for which a mark stays: longer than any gateway lags behind another.
const MARK_SECONDS: u64 = 86_400;

pub(super) struct Malformed {
    stream: Stream,
    prefix: String,
    dead_letters: Arc<CurrentDeadLetters>,
    read: IntCounter,
    count: DeadLetterCount,
    lines: Throttle,
}

impl Malformed {
    pub(super) fn new(feed: &RedisFeed) -> Self {
        let RedisFeed {
            stream,
            config,
            context,
            metrics,
            ..
        } = feed;
        Self {
            stream: stream.clone(),
            prefix: format!("{}dead:{}:", config.leases.prefix, stream.name),
            dead_letters: Arc::clone(&context.dead_letters),
            read: metrics
                .source_pushes_total
                .with_label_values(&[NAME, "malformed"]),
            count: DeadLetterCount::of_source(NAME, metrics),
            lines: Throttle::default(),
        }
    }

    /// Keeps an entry as a dead letter, unless another gateway does.
    pub(super) async fn bury(&self, entry: &Entry, reason: &EntryError) {
        self.read.inc();
        let key = format!("{}{}", self.prefix, entry.id);
        // Rather twice than not at all: without an answer it is kept as well.
        if matches!(self.mark(&key).await, Ok(false)) {
            return;
        }
        let letter = DeadLetter::now(reason.to_string(), entry.raw(), None, NAME);
        let stored = self.dead_letters.store(letter).await;
        self.count.add(Cause::Malformed, stored.is_ok(), 1);
        if stored.is_err() {
            let mut unmark = redis::cmd("DEL");
            unmark.arg(&key);
            // A mark that stays makes another gateway lose the same entry, which is lost here already.
            let _ = self.stream.ask(unmark).await;
        }
        if let Some(suppressed) = self.lines.pass() {
            tracing::warn!(
                event = "push_malformed",
                source = NAME,
                stream = &*self.stream.name,
                entry = %entry.id,
                reason = %reason,
                kept = stored.is_ok(),
                error = stored.as_ref().err().map(tracing::field::display),
                suppressed,
            );
        }
    }

    /// Leaves a mark; says whether there was none.
    async fn mark(&self, key: &str) -> Result<bool, AskError> {
        let mut mark = redis::cmd("SET");
        mark.arg(key).arg(1).arg("NX").arg("EX").arg(MARK_SECONDS);
        Ok(self.stream.ask(mark).await? != Value::Nil)
    }
}
