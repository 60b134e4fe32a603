//! How fast something may come: the generic cell rate algorithm (ITU-T I.371).
//!
//! Stands below whatever limits a rate, as the stage `rate_limit` and the admission of handshakes. A limit's whole state
//! is one time, the theoretical arrival of the next message, so a changed limit keeps the history, and a bucket takes
//! a few bytes and no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// How fast something may come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    interval_nanos: u64,
    tolerance_nanos: u64,
}

impl Rate {
    /// So many a second in the long run, and `burst` at once after a quiet time.
    pub(crate) fn new(per_second: f64, burst: u32) -> Self {
        let interval = Duration::from_secs_f64((1.0 / per_second).min(1e9));
        let interval_nanos = u64::try_from(interval.as_nanos())
            .unwrap_or(u64::MAX)
            .max(1);
        Self {
            interval_nanos,
            tolerance_nanos: interval_nanos.saturating_mul(u64::from(burst.max(1)) - 1),
        }
    }
}

/// One limit's state: when the next one is due, in nanoseconds since the bucket was made.
#[derive(Debug)]
pub(crate) struct Bucket {
    made_at: Instant,
    due_nanos: AtomicU64,
}

impl Bucket {
    /// A bucket that was quiet until now.
    pub(crate) fn new() -> Self {
        Self {
            made_at: Instant::now(),
            due_nanos: AtomicU64::new(0),
        }
    }

    /// Whether one more may come now; if so, it counts.
    pub(crate) fn admits(&self, rate: Rate, now: Instant) -> bool {
        let now = u64::try_from(now.saturating_duration_since(self.made_at).as_nanos())
            .unwrap_or(u64::MAX);
        self.due_nanos
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |due| {
                (due <= now.saturating_add(rate.tolerance_nanos))
                    .then(|| due.max(now).saturating_add(rate.interval_nanos))
            })
            .is_ok()
    }
}
