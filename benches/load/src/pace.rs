//! Intended send times at a constant rate.

use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::Result;

/// Yields `count` intended times, each when it has come, `rate` a second.
///
/// A thread of its own does the waiting: the runtime's timers are a millisecond coarse, which
/// would hide the latencies measured here. Who falls behind still gets every intended time, so
/// a slow server cannot slow the load down and look fast.
pub(crate) fn start(rate: f64, count: usize) -> Result<mpsc::UnboundedReceiver<Instant>> {
    let (due, times) = mpsc::unbounded_channel();
    std::thread::Builder::new()
        .name("pacer".to_owned())
        .spawn(move || {
            let start = Instant::now();
            for index in 0..count {
                let intended = start + Duration::from_secs_f64(index as f64 / rate);
                std::thread::sleep(intended.saturating_duration_since(Instant::now()));
                if due.send(intended).is_err() {
                    return;
                }
            }
        })?;
    Ok(times)
}
