//! Seconds: the wall clock's in Unix seconds, as events, tokens, presence and dead letters have it, and configured ones.
//!
//! Stands beside the data path. What is measured or waited for goes by tokio's monotonic clock instead, which
//! tests can pause.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longest time that is ever waited for, in seconds: a year.
const LONGEST: f64 = 31_536_000.0;

/// The current time in whole Unix seconds; a clock before 1970 counts as 1970.
#[must_use]
pub(crate) fn unix_now() -> u64 {
    since_1970().as_secs()
}

/// The current time in whole Unix milliseconds.
#[must_use]
pub(crate) fn unix_millis() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

/// The current time in Unix seconds with their fraction, as tokens write it (RFC 7519 section 2).
#[must_use]
pub(crate) fn numeric_date() -> f64 {
    since_1970().as_secs_f64()
}

/// A time to wait, in seconds: none for what is negative or no number, a year for what is longer.
///
/// Neither this nor adding it to an `Instant` can panic, whatever a configuration or a token says.
#[must_use]
pub(crate) fn seconds(count: f64) -> Duration {
    Duration::try_from_secs_f64(count.clamp(0.0, LONGEST)).unwrap_or_default()
}

fn since_1970() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_seconds_panics() {
        assert_eq!(seconds(0.25), Duration::from_millis(250));
        for none in [-1.0, f64::NEG_INFINITY, f64::NAN] {
            assert_eq!(seconds(none), Duration::ZERO);
        }
        for long in [1e300, f64::INFINITY] {
            assert_eq!(seconds(long), Duration::from_hours(8760));
        }
    }
}
