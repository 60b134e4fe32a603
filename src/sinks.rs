//! Where events go, one file a sink, and the delivery that stands in front of each.
//!
//! A sink is a tower service that tries once to hand over a batch of events. Everything else — the bounded
//! buffer, order, retries, dead letters — is [`delivery`], the same for every sink.

use std::sync::Arc;
use std::time::Duration;

use crate::event::Event;

mod build;

pub mod dead_letter;
pub mod dead_letter_file;
pub mod delivery;
pub mod memory;
pub mod stdout;
pub mod webhook;

pub use build::{SinkError, build};

/// Events that a sink is to deliver in one try, in this order.
pub type Batch = Arc<[Arc<Event>]>;

/// Why a try failed, and what may follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DeliveryError {
    /// How many events of the batch, from its start, were delivered all the same.
    pub delivered: usize,
    /// What went wrong, for the log and the dead letter; never a secret or a payload.
    pub reason: String,
    /// Whether and when to try the first undelivered event again.
    pub retry: Retry,
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
