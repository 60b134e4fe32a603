//! What a delivery tells only when somebody asks for the metrics: how full its buffer is, and whether its sink is up.
//!
//! Stands beside the data path. A sink that a reload removed is forgotten here once its last event is finished.

use std::sync::Weak;

use super::Shared;
use super::room::Fill;
use crate::clock::unix_millis;
use crate::telemetry::metrics::{Metrics, Sampled, count};

impl Shared {
    /// Whether the sink takes events: its broker is there, and the last try did not fail.
    fn is_up(&self) -> bool {
        let link = self.link.lock().as_ref().and_then(Weak::upgrade);
        link.is_none_or(|link| link.is_up()) && self.report.is_up()
    }

    /// Seconds since the oldest event was made, as its id tells.
    fn oldest_age(&self) -> f64 {
        let id = self.state.lock().schedule.oldest().map(|event| event.id);
        let Some((seconds, nanos)) = id.and_then(|id| Some(id.get_timestamp()?.to_unix())) else {
            return 0.0;
        };
        let made = seconds * 1000 + u64::from(nanos / 1_000_000);
        unix_millis().saturating_sub(made) as f64 / 1000.0
    }

    /// Shows nothing of a sink that there is no more.
    pub(super) fn forget(&self, metrics: &Metrics) {
        let labels = &[self.name];
        // They are not there where nobody asked before.
        let _ = metrics.sink_up.remove_label_values(labels);
        let _ = metrics.sink_buffer_events.remove_label_values(labels);
        let _ = metrics.sink_buffer_bytes.remove_label_values(labels);
        let _ = metrics.sink_buffer_limit_events.remove_label_values(labels);
        let _ = metrics
            .sink_oldest_event_age_seconds
            .remove_label_values(labels);
    }
}

impl Sampled for Shared {
    fn sample(&self, metrics: &Metrics) {
        if !self.state.lock().schedule.is_wanted() {
            self.forget(metrics);
            return;
        }
        let labels = &[self.name];
        let Fill {
            events,
            bytes,
            max_events,
        } = self.room.fill();
        let set =
            |gauge: &prometheus::IntGaugeVec, value| gauge.with_label_values(labels).set(value);
        set(&metrics.sink_up, self.is_up().into());
        set(&metrics.sink_buffer_events, count(events));
        set(&metrics.sink_buffer_bytes, count(bytes));
        set(&metrics.sink_buffer_limit_events, count(max_events));
        let age = metrics
            .sink_oldest_event_age_seconds
            .with_label_values(labels);
        age.set(self.oldest_age());
    }
}
