//! Tells whoever waits for it what became of an event; see [`Receipt`](crate::event::Receipt).
//!
//! Stands behind the workers, outside the delivery's lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::event::{Event, Receipt};

/// A receipt that panics must not take a worker, and with it the lanes it holds, away.
fn tell(event: &Event, tell: impl FnOnce(&dyn Receipt)) {
    if let Some(receipt) = &event.receipt {
        // The panic hook has said what there is to say.
        let _ = catch_unwind(AssertUnwindSafe(|| tell(&**receipt)));
    }
}

/// The sink confirmed these events.
pub(super) fn delivered(sink: &'static str, events: &[Arc<Event>]) {
    for event in events {
        tell(event, |receipt| receipt.delivered(sink));
    }
}

/// The sink never gets this event.
pub(super) fn failed(sink: &'static str, event: &Event, reason: &str) {
    tell(event, |receipt| receipt.failed(sink, reason));
}
