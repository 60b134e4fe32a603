//! Intended send times at a constant rate.
//!
//! Stands between the options and the senders: who waits here is told when it should have sent, not when it woke.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc};
use tokio_util::task::AbortOnDropHandle;

use super::Result;

/// Times by which the pacing thread may be ahead of the senders' thread.
const AHEAD: usize = 1024;

/// Intended times of `count` sends, dealt out to the clients in turn. Stops on drop.
///
/// A thread of its own does the waiting: the runtime's timers are a millisecond coarse, which would hide the latencies
/// measured here. Who falls behind still gets every intended time, so a slow server cannot slow the load down and look
/// fast (no coordinated omission).
pub(super) struct Pacer {
    schedule: Rc<Schedule>,
    _following: AbortOnDropHandle<()>,
}

struct Schedule {
    start: Instant,
    rate: f64,
    clients: usize,
    /// How many times have come.
    reached: Cell<usize>,
    ended: Cell<bool>,
    wakers: Vec<Notify>,
}

impl Schedule {
    fn intended(&self, number: usize) -> Instant {
        self.start + Duration::from_secs_f64(number as f64 / self.rate)
    }
}

impl Pacer {
    /// Starts the clock: `rate` sends a second over all clients.
    pub(super) fn start(rate: f64, count: usize, clients: usize) -> Result<Self> {
        let schedule = Rc::new(Schedule {
            start: Instant::now(),
            rate,
            clients,
            reached: Cell::new(0),
            ended: Cell::new(false),
            wakers: (0..clients).map(|_| Notify::new()).collect(),
        });
        let (due, mut reached) = mpsc::channel(AHEAD);
        let start = schedule.start;
        std::thread::Builder::new()
            .name("pacer".to_owned())
            .spawn(move || {
                for number in 0..count {
                    let intended = start + Duration::from_secs_f64(number as f64 / rate);
                    std::thread::sleep(intended.saturating_duration_since(Instant::now()));
                    if due.blocking_send(number).is_err() {
                        return;
                    }
                }
            })?;
        let followed = Rc::clone(&schedule);
        let following = tokio::task::spawn_local(async move {
            while let Some(number) = reached.recv().await {
                followed.reached.set(number + 1);
                if let Some(waker) = followed.wakers.get(number % followed.clients) {
                    waker.notify_one();
                }
            }
            followed.ended.set(true);
            followed.wakers.iter().for_each(Notify::notify_one);
        });
        Ok(Self {
            schedule,
            _following: AbortOnDropHandle::new(following),
        })
    }

    /// Waits for a client's next time, after so many that it has had; `None` when there are no more.
    pub(super) async fn next(&self, client: usize, had: usize) -> Option<Instant> {
        let schedule = &self.schedule;
        let number = had * schedule.clients + client;
        loop {
            if number < schedule.reached.get() {
                return Some(schedule.intended(number));
            }
            if schedule.ended.get() {
                return None;
            }
            schedule.wakers.get(client)?.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn each_client_gets_every_time_in_its_turn_however_late_it_asks() {
        tokio::task::LocalSet::new()
            .run_until(async {
                let pacer = Pacer::start(5000.0, 5, 2).unwrap();
                let mut times = Vec::new();
                for client in [1, 0] {
                    let mut had = 0;
                    while let Some(time) = pacer.next(client, had).await {
                        times.push(time);
                        had += 1;
                    }
                    assert_eq!(had, 3 - client);
                }
                times.sort();
                for (n, time) in times.iter().enumerate() {
                    let after = time.duration_since(times[0]).as_secs_f64();
                    assert!((after - n as f64 / 5000.0).abs() < 1e-6, "{after}");
                }
            })
            .await;
    }
}
