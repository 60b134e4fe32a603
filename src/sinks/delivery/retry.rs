//! How often and when a failed try is repeated.
//!
//! Stands between a failed try and the schedule: it only says how long to wait.

use std::time::Duration;

use crate::sinks::Retry;

/// How often and when a failed try is repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in all, the first one among them; absent: until the gateway stops.
    pub attempts: Option<u32>,
    /// Wait before the first retry; doubled for each further one.
    pub base: Duration,
    /// Longest wait between two tries, also where the other side asks for more.
    pub max: Duration,
}

impl RetryPolicy {
    /// The wait after the given number of failed tries, or nothing when there is to be no further try.
    ///
    /// The wait grows exponentially with equal jitter: half of it is certain, so that a backend gets a rest, and
    /// half is random (`dice`, from 0 to 1), so that lanes that failed together do not come back together.
    pub(super) fn wait(&self, tries: u32, retry: Retry, dice: f64) -> Option<Duration> {
        if self.attempts.is_some_and(|attempts| tries >= attempts) {
            return None;
        }
        let doublings = tries.saturating_sub(1).min(63);
        let full = self
            .base
            .checked_mul(u32::try_from(1_u64 << doublings).unwrap_or(u32::MAX))
            .map_or(self.max, |wait| wait.min(self.max));
        let jittered = full / 2 + (full / 2).mul_f64(dice.clamp(0.0, 1.0));
        match retry {
            Retry::Never => None,
            Retry::Backoff => Some(jittered),
            Retry::After(asked) => Some(jittered.max(asked).min(self.max)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: Some(4),
        base: Duration::from_secs(1),
        max: Duration::from_secs(3),
    };

    #[test]
    fn waits_double_up_to_the_maximum_and_end_with_the_attempts() {
        let waits = |dice| [1, 2, 3, 4].map(|tries| POLICY.wait(tries, Retry::Backoff, dice));
        let seconds = |s| Some(Duration::from_secs_f64(s));
        assert_eq!(waits(1.0), [seconds(1.0), seconds(2.0), seconds(3.0), None]);
        assert_eq!(waits(0.0), [seconds(0.5), seconds(1.0), seconds(1.5), None]);
    }

    #[test]
    fn the_other_side_may_ask_for_longer_but_not_for_ever() {
        let wait = |asked| POLICY.wait(1, Retry::After(Duration::from_secs(asked)), 0.0);
        assert_eq!(wait(2), Some(Duration::from_secs(2)));
        assert_eq!(wait(3600), Some(Duration::from_secs(3)));
        assert_eq!(wait(0), Some(Duration::from_millis(500)));
    }

    #[test]
    fn refused_events_are_not_tried_again() {
        assert_eq!(POLICY.wait(1, Retry::Never, 0.5), None);
    }

    #[test]
    fn endless_tries_do_not_overflow() {
        let policy = RetryPolicy {
            attempts: None,
            ..POLICY
        };
        assert_eq!(policy.wait(u32::MAX, Retry::Backoff, 1.0), Some(policy.max));
    }
}
