//! Keeps logs short when one thing fails over and over.
//!
//! Stands before whatever an outsider or a dead backend can cause at will: refused calls, failed deliveries.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

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
