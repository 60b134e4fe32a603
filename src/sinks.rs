//! Where events go, one file a sink, and the delivery that stands in front of each.
//!
//! A sink is a tower service that tries once to hand over a batch of events. Everything else — the bounded
//! buffer, order, retries, dead letters — is [`delivery`], the same for every sink.

use std::sync::Arc;
use std::time::Duration;

use self::dead_letter::Cause;
use crate::event::Event;

mod build;

pub mod dead_letter;
pub mod dead_letter_file;
pub mod dead_letter_rabbitmq;
pub mod dead_letter_redis;
pub mod dead_letter_routes;
pub mod delivery;
pub mod memory;
pub mod rabbitmq;
pub mod redis_stream;
pub(crate) mod rehearsal;
pub mod stdout;
mod traced;
pub mod webhook;

pub(crate) use build::primary;
pub use build::{Activation, Running, SinkError, Sinks, build};
pub use traced::EventSpan;

/// Events that a sink is to deliver in one try, in this order.
pub type Batch = Arc<[Arc<Event>]>;

/// What became of a batch that was not delivered as a whole.
///
/// An event is delivered when it was tried and did not fail. Within a lane order comes first: after a lane's first
/// failed event, what follows it in that lane is tried again whatever became of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.failed.first().map_or("not tried", |failure| &*failure.reason))]
pub struct DeliveryError {
    /// The events that failed, by their place in the batch, ascending.
    pub failed: Vec<Failure>,
    /// How many events of the batch, from its start, were tried.
    pub tried: usize,
}

/// Why one event failed, and what may follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The event's place in the batch, from 0.
    pub index: usize,
    /// What went wrong, for the log and the dead letter; never a secret or a payload.
    pub reason: Arc<str>,
    /// Whether and when to try the event again.
    pub retry: Retry,
    /// Why the event is a dead letter, should this be its last try.
    pub cause: Cause,
}

impl Failure {
    /// An event that failed; what the other side does not want at all is rejected, anything else was tried too often.
    #[must_use]
    pub fn new(index: usize, reason: impl Into<Arc<str>>, retry: Retry) -> Self {
        let cause = match retry {
            Retry::Never => Cause::Rejected,
            Retry::Backoff | Retry::After(_) => Cause::Exhausted,
        };
        Self {
            index,
            reason: reason.into(),
            retry,
            cause,
        }
    }

    /// The same for a cause of its own.
    #[must_use]
    pub fn because(self, cause: Cause) -> Self {
        Self { cause, ..self }
    }
}

impl DeliveryError {
    /// The events before `index` were delivered, this one failed, and those after it were not tried.
    #[must_use]
    pub fn at(index: usize, reason: impl Into<Arc<str>>, retry: Retry) -> Self {
        Self {
            failed: vec![Failure::new(index, reason, retry)],
            tried: index + 1,
        }
    }

    /// All events of a batch failed for one reason.
    #[must_use]
    pub fn all(count: usize, reason: impl Into<Arc<str>>, retry: Retry) -> Self {
        let reason = reason.into();
        let failure = |index| Failure::new(index, Arc::clone(&reason), retry);
        Self {
            failed: (0..count).map(failure).collect(),
            tried: count,
        }
    }
}

/// Whether and when a failed try may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After the delivery's own back-off.
    Backoff,
    /// After the time that the other side asked for.
    After(Duration),
    /// Never: the other side refused the event itself.
    Never,
}
