//! The pause between two tries of a source to read.
//!
//! Stands beside the sources: each owns one, and takes its next pause when a subscription has ended.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Wait before the second try; doubled for each further one.
const FIRST: Duration = Duration::from_millis(50);

/// Waits that double up to a longest one, half for certain and half at random.
#[derive(Debug)]
pub(crate) struct Backoff {
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(crate) fn up_to(longest: Duration) -> Self {
        Self {
            longest,
            next: FIRST,
        }
    }

    /// Waits after a try that began at `started`; false if told to stop meanwhile. A try that lasted begins anew.
    pub(crate) async fn pause(&mut self, started: Instant, stop: &CancellationToken) -> bool {
        if started.elapsed() > self.longest {
            self.next = FIRST;
        }
        let pause = self.next.mul_f64(0.5 + rand::random::<f64>() / 2.0);
        self.next = (self.next * 2).min(self.longest);
        stop.run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn paused(backoff: &mut Backoff, started: Instant) -> Duration {
        let before = Instant::now();
        assert!(backoff.pause(started, &CancellationToken::new()).await);
        before.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn waits_double_up_to_the_longest_and_begin_anew_after_a_try_that_lasted() {
        let longest = Duration::from_millis(150);
        let mut backoff = Backoff::up_to(longest);
        for full in [50, 100, 150, 150].map(Duration::from_millis) {
            let now = Instant::now();
            let waited = paused(&mut backoff, now).await;
            // Tokio's clock has whole milliseconds.
            assert!(waited >= full / 2 && waited <= full + Duration::from_millis(1));
        }
        let started = Instant::now();
        tokio::time::advance(longest * 2).await;
        let waited = paused(&mut backoff, started).await;
        assert!(waited <= FIRST + Duration::from_millis(1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_ends_the_pause() {
        let stop = CancellationToken::new();
        stop.cancel();
        let before = Instant::now();
        let mut backoff = Backoff::up_to(Duration::from_secs(5));
        assert!(!backoff.pause(before, &stop).await);
        assert_eq!(before.elapsed(), Duration::ZERO);
    }
}
