//! The end of a whole delivery: what is buffered is delivered until a deadline, and the rest becomes dead letters.
//!
//! Stands at the gateway's stop. The end of a single version is the schedule's business.

use std::time::Duration;

use tokio::time::Instant;

use super::{Delivery, Phase, State};

/// Time after a drain's deadline for what is left to become dead letters.
pub(crate) const DEAD_LETTER_GRACE: Duration = Duration::from_secs(5);

/// Shortest back-off during a drain.
const MIN_CUT: Duration = Duration::from_millis(10);

/// What a drain came to, in events, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Delivered to the sink.
    pub delivered: u64,
    /// Kept by the dead-letter target.
    pub dead_lettered: u64,
    /// Neither.
    pub lost: u64,
}

impl Delivery {
    /// Delivers what is in the buffer until the deadline, then makes dead letters of the rest.
    ///
    /// Afterwards events that are enqueued all the same become dead letters untried. What the dead-letter target
    /// does not keep within five seconds after the deadline is lost, counted and logged. Back-offs are cut to
    /// a quarter of the time left.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        let shared = &self.shared;
        shared.hurry.cancel();
        let before = {
            let mut state = shared.state.lock();
            let before = state.totals();
            if state.phase == Phase::Running {
                state.phase = Phase::Draining(deadline);
            }
            let now = Instant::now();
            let latest = now + deadline.saturating_duration_since(now) / 4;
            state.schedule.cut_back_offs(latest, None);
            before
        };
        shared.earlier_end.notify_one();
        let _ = tokio::time::timeout_at(deadline, shared.wait_until_empty()).await;
        {
            let mut state = shared.state.lock();
            if state.phase != Phase::Abandoned {
                state.phase = Phase::Stopped;
            }
            let latest = Instant::now();
            state.schedule.cut_back_offs(latest, None);
            state.schedule.end_back_offs(latest);
            shared.start_worker_if_needed(state);
        }
        shared.halt.cancel();
        let grace = deadline.max(Instant::now()) + DEAD_LETTER_GRACE;
        if tokio::time::timeout_at(grace, shared.wait_until_empty())
            .await
            .is_err()
        {
            shared.abandon();
        }
        let after = shared.state.lock().totals();
        Drained {
            delivered: after.delivered - before.delivered,
            dead_lettered: after.dead_lettered - before.dead_lettered,
            lost: after.lost - before.lost,
        }
    }
}

impl State {
    fn totals(&self) -> Drained {
        Drained {
            delivered: self.delivered,
            dead_lettered: self.dead_lettered,
            lost: self.lost,
        }
    }
}

/// A back-off during a drain: at most a quarter of the time left, so that more than one retry fits in.
pub(super) fn cut(due: Instant, now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    due.min(now + (left / 4).max(MIN_CUT))
}
