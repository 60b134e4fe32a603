//! What stands below a delivery and may change while the delivery goes on: the sink, how it is tried, and where its
//! dead letters go.
//!
//! Stands between a generation, whose [`Outlet`](super::Outlet)s hold one version each, and the workers. An event
//! keeps the version it was enqueued with. A version and its sink are gone once no generation holds it and none of
//! its events is left.

use std::sync::{Arc, Weak};
use std::time::Duration;

use super::retry::RetryPolicy;
use super::{DeliverySettings, Shared, Target};
use crate::sinks::dead_letter::DeadLetters;
use crate::svc::BoxSink;

/// How a delivery hands over the events of some generations; dropping it lets it go once its events are finished.
pub struct Version {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
}

/// What a version is made of, as long as it has events or someone who holds it.
pub(super) struct Line {
    /// Its place among the delivery's versions.
    pub(super) index: usize,
    pub(super) concurrency: usize,
    pub(super) max_batch: usize,
    pub(super) retry: RetryPolicy,
    pub(super) linger: Duration,
    pub(super) sink: BoxSink,
    pub(super) dead_letters: Arc<dyn DeadLetters>,
}

impl Line {
    pub(super) fn new(
        index: usize,
        settings: &DeliverySettings,
        sink: BoxSink,
        dead_letters: Arc<dyn DeadLetters>,
    ) -> Self {
        Self {
            index,
            concurrency: settings.concurrency.max(1),
            max_batch: settings.max_batch.max(1),
            retry: settings.retry,
            linger: settings.linger,
            sink,
            dead_letters,
        }
    }
}

impl Version {
    /// The sink itself, for sending again what was delivered before; it shares the sink's connections, but neither
    /// its buffer nor its order.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            name: self.shared.name,
            sink: self.line.sink.clone(),
            max_batch: self.line.max_batch,
        }
    }

    /// What finds the version again, but does not keep it.
    #[must_use]
    pub fn trace(&self) -> VersionTrace {
        VersionTrace(Arc::downgrade(&self.line))
    }
}

impl Drop for Version {
    fn drop(&mut self) {
        // The sink goes with `line`, after the lock.
        self.shared.state.lock().schedule.let_go(self.line.index);
    }
}

impl std::fmt::Debug for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Version")
            .field("sink", &self.shared.name)
            .finish_non_exhaustive()
    }
}

/// Finds a version again as long as it is not finished; see [`Delivery::find`](super::Delivery::find).
#[derive(Clone)]
pub struct VersionTrace(pub(super) Weak<Line>);

impl VersionTrace {
    /// Whether the version is finished, so that nothing will ever be found.
    #[must_use]
    pub fn is_cold(&self) -> bool {
        self.0.strong_count() == 0
    }
}

impl std::fmt::Debug for VersionTrace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VersionTrace")
    }
}
