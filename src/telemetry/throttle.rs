//! Keeps logs short when one thing fails over and over.
//!
//! Stands before whatever an outsider or a dead backend can cause at will: refused calls, failed deliveries.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Lines that were left out since the process began, here and by `repeats`: there is one log, as there is one standard
/// error.
static LEFT_OUT: AtomicU64 = AtomicU64::new(0);

/// Notes that a line was left out.
pub(super) fn left_out() {
    LEFT_OUT.fetch_add(1, Ordering::Relaxed);
}

/// How many lines were left out so far.
pub(super) fn all_left_out() -> u64 {
    LEFT_OUT.load(Ordering::Relaxed)
}

/// Time between two lines of one kind.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets about one line a second pass, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    passed_at: Option<Instant>,
    suppressed: u64,
}

impl Throttle {
    /// Lines suppressed since the last one that passed, or nothing when this one is suppressed too.
    pub(crate) fn pass(&self) -> Option<u64> {
        self.0.lock().pass(Instant::now())
    }
}

impl Recent {
    fn pass(&mut self, now: Instant) -> Option<u64> {
        if self
            .passed_at
            .is_some_and(|at| now.duration_since(at) < INTERVAL)
        {
            self.suppressed += 1;
            left_out();
            return None;
        }
        self.passed_at = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_passes_and_the_others_are_counted() {
        let (mut recent, start) = (Recent::default(), Instant::now());
        assert_eq!(recent.pass(start), Some(0));
        assert_eq!(recent.pass(start + INTERVAL / 2), None);
        assert_eq!(recent.pass(start + INTERVAL / 2), None);
        assert_eq!(recent.pass(start + INTERVAL), Some(2));
        assert_eq!(recent.pass(start + INTERVAL * 2), Some(0));
    }
}
