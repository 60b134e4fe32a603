//! A generation's way into a delivery: the delivery, which outlives it, and the version that its events are for.
//!
//! Stands between `fan_out` and the delivery.

use std::sync::Arc;

use super::{Delivery, DeliverySettings, Slot, Target, Version, WhenFull};
use crate::event::Event;
use crate::sinks::dead_letter::DeadLetters;
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;

/// Where a generation hands events over to one sink.
#[derive(Debug, Clone)]
pub struct Outlet {
    delivery: Arc<Delivery>,
    version: Arc<Version>,
}

impl Outlet {
    /// Joins a delivery and one of its own versions.
    #[must_use]
    pub fn new(delivery: Arc<Delivery>, version: Arc<Version>) -> Self {
        debug_assert!(delivery.has(&version), "a version of another delivery");
        Self { delivery, version }
    }

    /// Starts a delivery with its only version, on the runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        settings: &DeliverySettings,
        sink: BoxSink,
        dead_letters: Arc<dyn DeadLetters>,
        metrics: &Metrics,
    ) -> Self {
        let delivery = Delivery::start(settings, metrics);
        let version = delivery.version(settings, sink, dead_letters);
        delivery.activate(&version);
        Self::new(delivery, version)
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.delivery.name()
    }

    /// What a full buffer means for the event that finds it full.
    #[must_use]
    pub fn when_full(&self) -> WhenFull {
        self.delivery.when_full()
    }

    /// The delivery, which is the same for all generations.
    #[must_use]
    pub fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// The version that events are enqueued for.
    #[must_use]
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// The sink itself, as [`Version::target`].
    #[must_use]
    pub fn target(&self) -> Target {
        self.version.target()
    }

    /// Takes room for an event of so many bytes of JSON, unless there is none or others wait for it.
    #[must_use]
    pub fn try_reserve(&self, bytes: usize) -> Option<Slot> {
        self.delivery.shared.room.try_reserve(bytes)
    }

    /// Takes room for an event of so many bytes of JSON, after all who asked for it before.
    ///
    /// An event larger than the whole buffer waits for all of it. Dropping the future leaves the queue.
    pub async fn reserve(&self, bytes: usize) -> Slot {
        self.delivery.shared.room.reserve(bytes).await
    }

    /// Hands an event over for delivery, behind all others of its lane; never waits and never fails.
    ///
    /// The slot must be of this delivery; whoever waits for room comes after this event.
    pub fn enqueue(&self, slot: Slot, event: Arc<Event>) {
        self.delivery
            .shared
            .enqueue(slot, event, self.version.line.index);
    }

    /// Hands an event over for delivery if there is room for it, and counts it as dropped if there is none.
    pub fn enqueue_or_drop(&self, event: &Arc<Event>) {
        match self.try_reserve(event.json.len()) {
            Some(slot) => self.enqueue(slot, Arc::clone(event)),
            None => self.delivery.shared.drop_for_want_of_room(event),
        }
    }
}
