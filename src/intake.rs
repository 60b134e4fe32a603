//! How much of clients' messages may wait in memory while sinks have no room: beyond that, large messages stay unread.
//!
//! Stands between `fan_out`, where messages wait for room, and the sockets that others are read from. Each connection has
//! at most one message that waits, but there may be many connections: while a broker is away, all of them fill up with
//! the largest message that a client may send. What stays unread is held by TCP, and slows its client.

use std::future::Future as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use prometheus::IntGauge;
use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use crate::kept::Kept;
use crate::telemetry::metrics::Metrics;

/// The bytes of the messages that wait, and who is not read from for their sake.
#[derive(Debug)]
pub(crate) struct Intake {
    waiting: AtomicUsize,
    max: AtomicUsize,
    /// Calls one for each message that goes on, so that not all go on at once when there is room for a few.
    turn: Arc<Notify>,
    gauge: IntGauge,
}

/// A reader's place among those that are held up; none while it is not.
pub(crate) type Turn = Option<Pin<Box<OwnedNotified>>>;

impl Intake {
    /// The one of a process, without a bound until one is set.
    pub(crate) fn of(kept: &Kept, metrics: &Metrics) -> Arc<Self> {
        kept.keep(|| Self::new(metrics.waiting_message_bytes.clone()))
    }

    /// Nothing waits, and any number of bytes may.
    fn new(gauge: IntGauge) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            max: AtomicUsize::new(usize::MAX),
            turn: Arc::default(),
            gauge,
        }
    }

    /// Changes how many bytes may wait; 0: any number.
    pub(crate) fn set_max(&self, bytes: usize) {
        let max = if bytes == 0 { usize::MAX } else { bytes };
        self.max.store(max, Ordering::SeqCst);
        self.turn.notify_waiters();
    }

    /// Counts a message as waiting, until what is given is dropped.
    pub(crate) fn wait(self: &Arc<Self>, bytes: usize) -> Waits {
        self.waiting.fetch_add(bytes, Ordering::SeqCst);
        self.gauge.add(signed(bytes));
        Waits {
            intake: Arc::clone(self),
            bytes,
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) >= self.max.load(Ordering::SeqCst)
    }

    /// Ready when more may be read of a large message.
    pub(crate) fn poll_open(&self, turn: &mut Turn, cx: &mut Context<'_>) -> Poll<()> {
        while self.is_full() {
            let place =
                turn.get_or_insert_with(|| Box::pin(Arc::clone(&self.turn).notified_owned()));
            if place.as_mut().poll(cx).is_ready() {
                // Called, but others were faster.
                *turn = None;
            } else if self.is_full() {
                return Poll::Pending;
            }
            // Else room came before the place was taken, which woke nobody.
        }
        *turn = None;
        Poll::Ready(())
    }
}

/// As what gauges count.
fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// A message that waits for room.
#[derive(Debug)]
pub(crate) struct Waits {
    intake: Arc<Intake>,
    bytes: usize,
}

impl Drop for Waits {
    fn drop(&mut self) {
        let intake = &self.intake;
        let before = intake.waiting.fetch_sub(self.bytes, Ordering::SeqCst);
        intake.gauge.sub(signed(self.bytes));
        if before == self.bytes {
            // Whoever was called may have no use for it now, as one that waits to write; the others must not wait for it.
            intake.turn.notify_waiters();
        } else if !intake.is_full() {
            intake.turn.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    fn intake(max: usize) -> Arc<Intake> {
        let intake = Intake::new(IntGauge::new("waiting", "bytes").unwrap());
        intake.set_max(max);
        Arc::new(intake)
    }

    async fn opened(intake: &Intake) {
        let mut turn = None;
        poll_fn(|cx| intake.poll_open(&mut turn, cx)).await;
    }

    #[tokio::test]
    async fn is_open_until_as_much_waits_as_may() {
        let intake = intake(100);
        let small = intake.wait(99);
        opened(&intake).await;
        let last = intake.wait(1);
        assert_eq!(intake.gauge.get(), 100);
        let mut held_up = Box::pin(opened(&intake));
        assert!(futures_util::poll!(&mut held_up).is_pending());
        drop(last);
        held_up.await;
        drop(small);
        assert_eq!(intake.gauge.get(), 0);
    }

    #[tokio::test]
    async fn a_larger_bound_lets_everybody_on() {
        for max in [1_000, 0] {
            let intake = intake(100);
            let _waits = intake.wait(500);
            let readers: Vec<_> = (0..10)
                .map(|_| {
                    let intake = Arc::clone(&intake);
                    tokio::spawn(async move { opened(&intake).await })
                })
                .collect();
            tokio::task::yield_now().await;
            assert!(readers.iter().all(|reader| !reader.is_finished()));
            intake.set_max(max);
            for reader in readers {
                reader.await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn one_that_was_called_and_does_not_come_holds_nobody_up() {
        let intake = intake(100);
        let waits = [intake.wait(60), intake.wait(60)];
        let mut readers: Vec<_> = (0..3).map(|_| Box::pin(opened(&intake))).collect();
        for reader in &mut readers {
            assert!(futures_util::poll!(reader).is_pending());
        }
        drop(waits);
        // The first two were called for a message each.
        readers.pop().unwrap().await;
    }

    /// Every reader takes room for its message once it is let on; however they come and go, none is forgotten.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nobody_is_held_up_for_ever() {
        let intake = intake(10);
        let readers: Vec<_> = (0..200)
            .map(|n| {
                let intake = Arc::clone(&intake);
                tokio::spawn(async move {
                    for _ in 0..50 {
                        if n % 7 == 0 {
                            // One that leaves while it is held up, perhaps just when it is called.
                            tokio::select! {
                                () = opened(&intake) => {}
                                () = tokio::task::yield_now() => {}
                            }
                            continue;
                        }
                        opened(&intake).await;
                        let waits = intake.wait(1 + n % 10);
                        tokio::task::yield_now().await;
                        drop(waits);
                    }
                })
            })
            .collect();
        for reader in readers {
            tokio::time::timeout(std::time::Duration::from_mins(1), reader)
                .await
                .expect("it is called")
                .unwrap();
        }
        assert_eq!(intake.gauge.get(), 0);
    }
}
