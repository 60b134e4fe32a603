//! What a delivery tells the operator: metrics by handles taken once, and logs that a dead backend cannot flood.
//!
//! Stands beside the schedule and the workers, which tell it of every try.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::{Histogram, IntCounter};
use tracing::{error, warn};

use crate::event::Event;
use crate::sinks::dead_letter::{Cause, DeadLetterCount, DeadLetterError};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;

/// Metrics and logs of one sink.
#[derive(Debug)]
pub(super) struct Report {
    sink: &'static str,
    /// Whether the last try did not fail.
    up: AtomicBool,
    duration: Histogram,
    delivered: IntCounter,
    retries: IntCounter,
    dead_letters: DeadLetterCount,
    dropped: IntCounter,
    /// The contract's own counters, which only some sinks have.
    published: Option<IntCounter>,
    publish_failed: Option<IntCounter>,
    failed_lines: Throttle,
    kept_lines: Throttle,
    lost_lines: Throttle,
    dropped_lines: Throttle,
}

impl Report {
    pub(super) fn new(sink: &'static str, metrics: &Metrics) -> Self {
        let published = match sink {
            "webhook" => Some(metrics.webhook_publish_total.clone()),
            "redis" | "rabbitmq" => Some(metrics.broker_publish_total.clone()),
            _ => None,
        };
        let publish_failed =
            (sink == "webhook").then(|| metrics.webhook_publish_failed_total.clone());
        Self {
            sink,
            up: AtomicBool::new(true),
            duration: metrics.sink_duration_seconds.with_label_values(&[sink]),
            delivered: metrics.sink_delivered_total.with_label_values(&[sink]),
            retries: metrics.sink_retries_total.with_label_values(&[sink]),
            dead_letters: DeadLetterCount::of_sink(sink, metrics),
            // The archive is the one sink that traffic does not wait for.
            dropped: metrics.archive_dropped_total.clone(),
            published,
            publish_failed,
            failed_lines: Throttle::default(),
            kept_lines: Throttle::default(),
            lost_lines: Throttle::default(),
            dropped_lines: Throttle::default(),
        }
    }

    /// Notes whether the other side takes events: also what it refuses for good, it answers.
    pub(super) fn takes(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    pub(super) fn tried(&self, took: Duration) {
        self.duration.observe(took.as_secs_f64());
    }

    pub(super) fn delivered(&self, events: usize) {
        let events = events as u64;
        self.delivered.inc_by(events);
        if let Some(published) = &self.published {
            published.inc_by(events);
        }
    }

    pub(super) fn failed(&self, event: &Event, reason: &str, attempts: u32) {
        let Some(suppressed) = self.failed_lines.pass() else {
            return;
        };
        // The contract names the webhook's event; other sinks' failures have a name of their own.
        let name = if self.sink == "webhook" {
            "webhook_failed"
        } else {
            "sink_failed"
        };
        warn!(
            event = name,
            sink = self.sink,
            event_id = %event.id,
            connection_id = %event.connection_id,
            reason,
            attempts,
            suppressed,
            "an event could not be delivered"
        );
    }

    pub(super) fn retried(&self) {
        self.retries.inc();
    }

    pub(super) fn kept(&self, event: &Event, reason: &str, cause: Cause) {
        self.dead_letters.add(cause, true, 1);
        self.given_up();
        if let Some(suppressed) = self.kept_lines.pass() {
            warn!(
                event = "dead_letter",
                sink = self.sink,
                event_id = %event.id,
                connection_id = %event.connection_id,
                reason,
                suppressed,
                "an event became a dead letter"
            );
        }
    }

    pub(super) fn lost(
        &self,
        event: &Event,
        (reason, cause): (&str, Cause),
        error: &DeadLetterError,
    ) {
        self.dead_letters.add(cause, false, 1);
        self.given_up();
        if let Some(suppressed) = self.lost_lines.pass() {
            error!(
                event = "dead_letter_lost",
                sink = self.sink,
                event_id = %event.id,
                connection_id = %event.connection_id,
                reason,
                error = %error,
                suppressed,
                "an event is lost: it could be neither delivered nor kept as a dead letter"
            );
        }
    }

    /// An event for which there was no room.
    pub(super) fn dropped(&self, event: &Event) {
        self.dropped.inc();
        if let Some(suppressed) = self.dropped_lines.pass() {
            warn!(
                event = "archive_dropped",
                sink = self.sink,
                event_id = %event.id,
                connection_id = %event.connection_id,
                suppressed,
                "an event is not archived: the archive's buffer is full"
            );
        }
    }

    /// Events whose delivery ended before they could even become dead letters.
    pub(super) fn abandoned(&self, events: usize) {
        if events == 0 {
            return;
        }
        self.dead_letters.add(Cause::Shutdown, false, events);
        if let Some(failed) = &self.publish_failed {
            failed.inc_by(events as u64);
        }
        error!(
            event = "dead_letter_lost",
            sink = self.sink,
            events,
            "events are lost: the gateway stopped before they could be delivered or kept as dead letters"
        );
    }

    fn given_up(&self) {
        if let Some(failed) = &self.publish_failed {
            failed.inc();
        }
    }
}
