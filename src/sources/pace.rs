//! Keeps a source from reading faster than healthy clients can be written to.
//!
//! Stands between the sources and the registry. Each connection's outbox is small, and a full one means that its
//! client is too slow; a source that hands over a hundred thousand pushes at once would fill everybody's. So after
//! a push that leaves outboxes more than half full, the source waits until they have drained to a quarter.
//!
//! # Clients that do not read
//! A connection that takes nothing for [`PATIENCE`], or is not done after [`LONGEST`], counts as stalled: it is not
//! waited for again until its outbox was empty once, and the third time never more. What becomes of it is up to
//! `backpressure` alone. However many stall at once, they are waited for side by side.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::push::Push;
use crate::registry::Registry;
use crate::session::Session;

/// Time in which a connection must take at least one push to be waited for further.
const PATIENCE: Duration = Duration::from_millis(200);

/// Longest time to wait after one push, for clients that read, but hardly.
const LONGEST: Duration = Duration::from_secs(2);

/// Connections noted after one push; the others are noted after the next ones, long before they overflow.
const MAX_NOTED: usize = 1024;

/// Pushes queued to connections before their tasks have a turn.
const QUEUED_PER_TURN: usize = 1024;

/// What one source keeps to pace itself.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The connections to wait for, with how many pushes each had taken; empty between two pushes.
    crowded: Vec<(Arc<Session>, u32)>,
    queued: usize,
}

impl Pace {
    /// Sends a push to every connection of its subjects, and waits while healthy ones among them are behind.
    ///
    /// Returns how many connections it was queued to. Pushes given one after the other keep their order; a call that
    /// is cancelled while it waits has sent its push.
    pub(crate) async fn publish(&mut self, registry: &Registry, push: &Push) -> usize {
        let Self { crowded, queued } = self;
        // A call before this one may have been cancelled.
        crowded.clear();
        let sent = registry.publish_noting(&push.subjects, &push.payload, |session| {
            if crowded.len() < MAX_NOTED
                && let Some(taken) = session.outbox().crowded(registry.limits())
            {
                crowded.push((Arc::clone(session), taken));
            }
        });
        *queued += sent;
        if !self.crowded.is_empty() {
            self.wait(registry).await;
            self.crowded.clear();
            self.queued = 0;
        } else if self.queued >= QUEUED_PER_TURN {
            self.queued = 0;
            tokio::task::yield_now().await;
        }
        sent
    }

    async fn wait(&mut self, registry: &Registry) {
        let limits = registry.limits();
        let started = Instant::now();
        let mut look_again = started + PATIENCE;
        loop {
            let mut drained = std::pin::pin!(limits.drained());
            drained.as_mut().enable();
            // One is watched at a time: by when it has drained, most others have.
            while self
                .crowded
                .pop_if(|(session, _)| !session.outbox().watch(limits))
                .is_some()
            {}
            if self.crowded.is_empty() {
                return;
            }
            if tokio::time::timeout_at(look_again, drained).await.is_ok() {
                continue;
            }
            if started.elapsed() >= LONGEST {
                for (session, _) in &self.crowded {
                    session.outbox().give_up(limits);
                }
                return;
            }
            self.crowded
                .retain_mut(|(session, taken)| session.outbox().progresses(taken, limits));
            look_again += PATIENCE;
        }
    }
}
