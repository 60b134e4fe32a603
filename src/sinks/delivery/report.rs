//! What a delivery tells the operator: metrics by handles taken once, and logs that a dead backend cannot flood.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus::{Histogram, IntCounter};
use tracing::{error, warn};

use crate::event::Event;
use crate::sinks::dead_letter::DeadLetterError;
use crate::telemetry::metrics::Metrics;

/// Time between two lines of one kind.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Metrics and logs of one sink.
#[derive(Debug)]
pub(super) struct Report {
    sink: &'static str,
    duration: Histogram,
    delivered: IntCounter,
    retries: IntCounter,
    kept: IntCounter,
    lost: IntCounter,
    /// The contract's own counters, which only some sinks have.
    published: Option<IntCounter>,
    publish_failed: Option<IntCounter>,
    failed_lines: Limiter,
    kept_lines: Limiter,
    lost_lines: Limiter,
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
        let dead = |result| {
            metrics
                .dead_letters_total
                .with_label_values(&[sink, result])
        };
        Self {
            sink,
            duration: metrics.sink_duration_seconds.with_label_values(&[sink]),
            delivered: metrics.sink_delivered_total.with_label_values(&[sink]),
            retries: metrics.sink_retries_total.with_label_values(&[sink]),
            kept: dead("kept"),
            lost: dead("lost"),
            published,
            publish_failed,
            failed_lines: Limiter::default(),
            kept_lines: Limiter::default(),
            lost_lines: Limiter::default(),
        }
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

    pub(super) fn kept(&self, event: &Event, reason: &str) {
        self.kept.inc();
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

    pub(super) fn lost(&self, event: &Event, reason: &str, error: &DeadLetterError) {
        self.lost.inc();
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

    /// Events whose delivery ended before they could even become dead letters.
    pub(super) fn abandoned(&self, events: usize) {
        if events == 0 {
            return;
        }
        self.lost.inc_by(events as u64);
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

/// Lets about one line a second pass, and counts the others.
#[derive(Debug, Default)]
struct Limiter(Mutex<(Option<Instant>, u64)>);

impl Limiter {
    /// Lines suppressed since the last one that passed, or nothing when this one is suppressed too.
    fn pass(&self) -> Option<u64> {
        let mut state = self.0.lock();
        let (last, suppressed) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
            *suppressed += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_passes_and_the_others_are_counted() {
        let limiter = Limiter::default();
        assert_eq!(limiter.pass(), Some(0));
        assert_eq!((limiter.pass(), limiter.pass()), (None, None));
        limiter.0.lock().0 = Instant::now().checked_sub(LOG_INTERVAL);
        assert_eq!(limiter.pass(), Some(2));
    }
}
