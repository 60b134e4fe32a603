//! The task that exports spans: batch after batch, with back-off, and a circuit that spares messages a dead collector.
//!
//! Stands behind the queue. A batch that the collector did not take is sent again after a back-off. After
//! [`PAUSE_AFTER`] failures in a row, or one time-out, recording is *paused*: traces go on to be propagated, no span is
//! made, and what would have been is counted. The batch in hand goes on to be tried; when it arrives, recording does.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::otlp::Then;
use super::queue::Batch;
use super::target::Target;
use super::{PAUSED, Shared, recording};
use crate::telemetry::throttle::Throttle;

/// Failures in a row after which nothing more is recorded.
const PAUSE_AFTER: u32 = 3;

/// Wait after a first failure; doubled for each further one.
const BASE: Duration = Duration::from_millis(200);

/// Longest wait between two tries, whatever the collector asks for.
const LONGEST: Duration = Duration::from_secs(30);

/// Runs until it is told to stop, and exports what is left then.
pub(super) async fn run(
    shared: Arc<Shared>,
    targets: watch::Receiver<Arc<Target>>,
    stop: CancellationToken,
) {
    let mut exporting = Exporting {
        shared,
        targets,
        stop,
        held: None,
        failures: 0,
        lines: Throttle::default(),
    };
    while !exporting.stop.is_cancelled() {
        let target = Arc::clone(&exporting.targets.borrow_and_update());
        exporting.to(&target).await;
    }
}

struct Exporting {
    shared: Arc<Shared>,
    targets: watch::Receiver<Arc<Target>>,
    stop: CancellationToken,
    /// A batch that was not taken yet.
    held: Option<Batch>,
    failures: u32,
    lines: Throttle,
}

/// What comes next.
enum Next {
    /// The next batch.
    Batch,
    /// Another target, or the end.
    Leave,
}

impl Exporting {
    /// Exports to one target until there is another, or the gateway stops.
    async fn to(&mut self, target: &Target) {
        let Some(format) = target.format() else {
            self.shared.set_state(super::OFF);
            let left = self.held.take().map_or(0, |batch| batch.spans);
            self.drop_failed(left + self.shared.queue.clear());
            tokio::select! {
                () = self.stop.cancelled() => {}
                changed = self.targets.changed() => self.gone(changed.is_err()),
            }
            return;
        };
        self.failures = 0;
        self.shared.set_state(recording(format));
        let mut ticks = interval(target.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if let Some(held) = self.held.take()
                && matches!(self.deliver(target, held).await, Next::Leave)
            {
                return;
            }
            let all = tokio::select! {
                biased;
                () = self.stop.cancelled() => return self.finish(target).await,
                changed = self.targets.changed() => return self.gone(changed.is_err()),
                () = self.shared.queue.completed() => false,
                _ = ticks.tick() => true,
            };
            if all && self.shared.state() == PAUSED {
                // Nothing is made any more, so that the collector is asked by an empty batch.
                self.held = Some(Batch::new(format));
            }
            while let Some(batch) = self.shared.queue.take(all) {
                if matches!(self.deliver(target, batch).await, Next::Leave) {
                    return;
                }
            }
        }
    }

    /// Whoever names targets may be gone, and the gateway with it.
    fn gone(&self, gone: bool) {
        if gone {
            self.stop.cancel();
        }
    }

    /// Sends a batch until it is taken, or given up; once more where the gateway stops while it waits.
    async fn deliver(&mut self, target: &Target, batch: Batch) -> Next {
        let spans = batch.spans;
        if target.format() != Some(batch.format) {
            self.drop_failed(spans);
            return Next::Batch;
        }
        let body = target.body(&batch);
        self.shared.in_hand.store(spans, Ordering::Relaxed);
        let mut stops = self.stop.is_cancelled();
        loop {
            let then = match target.send(body.clone()).await {
                Ok(rejected) => {
                    self.taken(target, spans, rejected);
                    return Next::Batch;
                }
                Err(failure) => {
                    self.failed(&failure.reason, failure.then);
                    failure.then
                }
            };
            let asked = match then {
                Then::Drop => {
                    self.shared.in_hand.store(0, Ordering::Relaxed);
                    self.drop_failed(spans);
                    return self.rest().await;
                }
                Then::Retry(asked) => asked,
                Then::Hangs => None,
            };
            let wait = back_off(self.failures, asked, rand::random());
            tokio::select! {
                biased;
                // What is in hand is counted by whoever stops the task.
                () = self.stop.cancelled() => {
                    if std::mem::replace(&mut stops, true) {
                        return Next::Leave;
                    }
                }
                changed = self.targets.changed() => {
                    self.gone(changed.is_err());
                    // `to` takes the value that it finds, whether it is marked as seen or not.
                    self.shared.in_hand.store(0, Ordering::Relaxed);
                    self.held = Some(batch);
                    return Next::Leave;
                }
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Waits after a batch that was dropped, where nothing is recorded meanwhile.
    async fn rest(&mut self) -> Next {
        if self.shared.state() != PAUSED {
            return Next::Batch;
        }
        tokio::select! {
            biased;
            () = self.stop.cancelled() => Next::Leave,
            changed = self.targets.changed() => {
                self.gone(changed.is_err());
                Next::Leave
            }
            () = tokio::time::sleep(back_off(self.failures, None, rand::random())) => Next::Batch,
        }
    }

    /// The gateway stops: what waits is tried once.
    async fn finish(&mut self, target: &Target) {
        self.shared.set_state(super::OFF);
        while let Some(batch) = self.shared.queue.take(true) {
            if matches!(self.deliver(target, batch).await, Next::Leave) {
                return;
            }
        }
    }

    fn taken(&mut self, target: &Target, spans: usize, rejected: u64) {
        let shared = &self.shared;
        let spans = spans as u64;
        let rejected = rejected.min(spans);
        shared.in_hand.store(0, Ordering::Relaxed);
        shared.counters.exported.inc_by(spans - rejected);
        shared.counters.rejected.inc_by(rejected);
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(event = "trace_export_resumed");
        }
        if shared.state() == PAUSED
            && let Some(format) = target.format()
        {
            shared.set_state(recording(format));
        }
    }

    fn failed(&mut self, reason: &str, then: Then) {
        self.shared.counters.failed_exports.inc();
        self.failures += 1;
        let pauses = self.failures >= PAUSE_AFTER || then == Then::Hangs;
        if pauses && self.shared.state() != super::OFF {
            self.shared.set_state(PAUSED);
        }
        if let Some(suppressed) = self.lines.pass() {
            tracing::warn!(
                event = "trace_export_failed",
                reason,
                failures = self.failures,
                recording = self.shared.state() != PAUSED,
                suppressed,
                "spans could not be exported"
            );
        }
    }

    fn drop_failed(&self, spans: usize) {
        self.shared.counters.export_failed.inc_by(spans as u64);
    }
}

/// The wait after some failures: half of it for certain, half by chance, and what the collector asked for at least.
fn back_off(failures: u32, asked: Option<Duration>, chance: f64) -> Duration {
    let doubled = BASE.saturating_mul(1_u32 << failures.saturating_sub(1).min(16));
    let wait = doubled.min(LONGEST);
    let wait = wait / 2 + (wait / 2).mul_f64(chance);
    wait.max(asked.unwrap_or_default()).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let ms = |failures, chance| back_off(failures, None, chance).as_millis();
        assert_eq!((ms(1, 0.0), ms(1, 1.0)), (100, 200));
        assert_eq!((ms(2, 0.0), ms(3, 1.0)), (200, 800));
        assert_eq!((ms(20, 1.0), ms(u32::MAX, 1.0)), (30_000, 30_000));
        let asked = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(back_off(1, asked(3), 0.5), Duration::from_secs(3));
        assert_eq!(back_off(1, asked(3600), 0.5), LONGEST);
    }
}
