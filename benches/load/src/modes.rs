//! The benchmarks, one file each.

pub(crate) mod churn;
pub(crate) mod fanout;
pub(crate) mod idle;
pub(crate) mod inbound;
pub(crate) mod rtt;

use std::time::{Duration, Instant};

/// Waits until `done`, or until `progress` has not changed for `stall`.
///
/// Returns whether it is done. Polling is enough: what is measured carries its own time stamps.
async fn finished(
    stall: Duration,
    mut done: impl FnMut() -> bool,
    mut progress: impl FnMut() -> usize,
) -> bool {
    let mut last = progress();
    let mut since = Instant::now();
    while !done() {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let now = progress();
        if now != last {
            last = now;
            since = Instant::now();
        } else if since.elapsed() > stall {
            return done();
        }
    }
    true
}

/// Tells this run's messages from those that an earlier one left behind.
fn run_number() -> u64 {
    u64::from(fastrand::u32(1..))
}
