//! The wall clock, in Unix seconds: the one form that a time has in events, tokens, presence and dead letters.
//!
//! Stands beside the data path. What is measured or waited for goes by tokio's monotonic clock instead, which
//! tests can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The current time in whole Unix seconds; a clock before 1970 counts as 1970.
#[must_use]
pub(crate) fn unix_now() -> u64 {
    since_1970().as_secs()
}

/// The current time in Unix seconds with their fraction, as tokens write it (RFC 7519 section 2).
#[must_use]
pub(crate) fn numeric_date() -> f64 {
    since_1970().as_secs_f64()
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
