//! The tasks of a delivery: workers that try, and the one that ends back-offs.
//!
//! A worker is started when something is ready and fewer than `concurrency` run, and goes away when nothing is
//! ready. Each holds its own clone of the sink. Tasks have no names, which stable tokio cannot give them.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use futures_util::FutureExt as _;
use parking_lot::MutexGuard;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::ServiceExt as _;
use tower_service::Service as _;

use super::schedule::{Drawn, Failed, Freed};
use super::{Phase, STOPPING, Shared, State};
use crate::event::Event;
use crate::sinks::dead_letter::{DeadLetter, DeadLetterError};
use crate::sinks::{Batch, DeliveryError, Retry};
use crate::svc::BoxSink;

/// What a worker does next.
enum Step {
    /// Try what was drawn.
    Try,
    /// Make a dead letter of it, because its sink failed or the gateway stops.
    Bury(Failed, String),
    /// Go away.
    Leave,
}

/// What a try came to.
enum Tried {
    Result(Result<(), DeliveryError>),
    Panicked,
    Halted,
}

/// Tries events until none is ready.
pub(super) async fn work(shared: Arc<Shared>) {
    let mut sink = shared.sink.clone();
    let mut halted = pin!(shared.halt.clone().cancelled_owned());
    let mut drawn = Drawn::default();
    let mut step = shared.next(shared.state.lock(), &mut drawn);
    loop {
        step = match step {
            Step::Try => {
                let batch = if let [event] = &drawn.events[..] {
                    Batch::from([Arc::clone(event)])
                } else {
                    Batch::from(&drawn.events[..])
                };
                let start = Instant::now();
                let tried = attempt(&mut sink, batch, halted.as_mut()).await;
                if !matches!(tried, Tried::Halted) {
                    shared.report.tried(start.elapsed());
                }
                if matches!(tried, Tried::Panicked) {
                    sink = shared.sink.clone();
                }
                shared.settle(tried, &mut drawn)
            }
            Step::Bury(failed, reason) => {
                let abandoned = shared.abandoned.cancelled();
                let stored = tokio::select! {
                    biased;
                    stored = shared.store(&failed.event, &reason) => stored,
                    () = abandoned => return,
                };
                shared.bury(&failed, &reason, &stored, &mut drawn)
            }
            Step::Leave => return,
        }
    }
}

async fn attempt(
    sink: &mut BoxSink,
    batch: Batch,
    halted: Pin<&mut WaitForCancellationFutureOwned>,
) -> Tried {
    // A panic must not take the worker, and with it the lanes it holds, silently away.
    let tried = AssertUnwindSafe(async { sink.ready().await?.call(batch).await }).catch_unwind();
    tokio::select! {
        biased;
        tried = tried => tried.map_or(Tried::Panicked, Tried::Result),
        () = halted => Tried::Halted,
    }
}

/// Ends back-offs when they are due.
pub(super) async fn end_back_offs(shared: Arc<Shared>) {
    loop {
        let next = shared.state.lock().schedule.next_due();
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.halt.cancelled() => return,
            () = shared.earlier_back_off.notified() => {}
            () = due => {
                let mut state = shared.state.lock();
                state.schedule.end_back_offs(tokio::time::Instant::now());
                shared.start_worker_if_needed(state);
            }
        }
    }
}

impl Shared {
    /// Draws what is to be tried next; the caller holds no lane.
    fn next(self: &Arc<Self>, mut state: MutexGuard<'_, State>, drawn: &mut Drawn) -> Step {
        let step = match state.phase {
            Phase::Running | Phase::Draining(_) => {
                state.schedule.draw(self.max_batch, drawn);
                if drawn.events.is_empty() {
                    Step::Leave
                } else {
                    Step::Try
                }
            }
            Phase::Stopped => {
                state.schedule.draw(1, drawn);
                match state.schedule.fail(drawn, 0).1 {
                    Some(failed) => Step::Bury(failed, STOPPING.to_owned()),
                    None => Step::Leave,
                }
            }
            Phase::Abandoned => Step::Leave,
        };
        if matches!(step, Step::Leave) {
            state.workers -= 1;
        }
        self.start_worker_if_needed(state);
        step
    }

    /// Notes what a try came to, and draws again.
    fn settle(self: &Arc<Self>, tried: Tried, drawn: &mut Drawn) -> Step {
        let mut state = self.state.lock();
        if state.phase == Phase::Abandoned {
            return self.next(state, drawn);
        }
        let error = match tried {
            Tried::Result(Ok(())) => {
                let freed = state.schedule.finish(drawn);
                return self.delivered(state, freed, drawn);
            }
            Tried::Halted => {
                state.schedule.give_back(drawn);
                return self.next(state, drawn);
            }
            Tried::Result(Err(error)) => error,
            Tried::Panicked => DeliveryError {
                delivered: 0,
                reason: "the sink panicked".to_owned(),
                retry: Retry::Backoff,
            },
        };
        let (freed, failed) = state.schedule.fail(drawn, error.delivered);
        let Some(failed) = failed else {
            return self.delivered(state, freed, drawn);
        };
        state.delivered += freed.events as u64;
        self.report.delivered(freed.events);
        let wait = if state.phase == Phase::Stopped {
            None
        } else {
            let dice = rand::random::<f64>();
            self.retry.wait(failed.tries, error.retry, dice)
        };
        if let Some(wait) = wait {
            let now = tokio::time::Instant::now();
            let due = match state.phase {
                Phase::Draining(deadline) => super::cut(now + wait, now, deadline),
                _ => now + wait,
            };
            let earliest = state.schedule.next_due().is_none_or(|next| due < next);
            state.schedule.back_off(&failed, due);
            let step = self.next(state, drawn);
            if earliest {
                self.earlier_back_off.notify_one();
            }
            self.report.retried();
            self.give_back(freed);
            self.report
                .failed(&failed.event, &error.reason, failed.tries);
            return step;
        }
        // The others of the batch need not wait for this one's dead letter.
        self.start_worker_if_needed(state);
        self.give_back(freed);
        self.report
            .failed(&failed.event, &error.reason, failed.tries);
        let reason = match failed.tries {
            1 => error.reason,
            count => format!("{} after {count} tries", error.reason),
        };
        Step::Bury(failed, reason)
    }

    fn delivered(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        freed: Freed,
        drawn: &mut Drawn,
    ) -> Step {
        state.delivered += freed.events as u64;
        // Counted under the lock, so that whoever finds the buffer empty finds everything counted.
        self.report.delivered(freed.events);
        let step = self.next(state, drawn);
        self.give_back(freed);
        step
    }

    async fn store(&self, event: &Event, reason: &str) -> Result<(), DeadLetterError> {
        let letter = DeadLetter::now(
            reason.to_owned(),
            event.json.clone(),
            Some(event.id),
            self.name,
        );
        AssertUnwindSafe(async { self.dead_letters.store(letter).await })
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(DeadLetterError::Failed("the target panicked".to_owned())))
    }

    /// Notes what became of a dead letter, and draws again.
    fn bury(
        self: &Arc<Self>,
        failed: &Failed,
        reason: &str,
        stored: &Result<(), DeadLetterError>,
        drawn: &mut Drawn,
    ) -> Step {
        match stored {
            Ok(()) => self.report.kept(&failed.event, reason),
            Err(error) => self.report.lost(&failed.event, reason, error),
        }
        let mut state = self.state.lock();
        if state.phase == Phase::Abandoned {
            return self.next(state, drawn);
        }
        let freed = state.schedule.bury(failed);
        if stored.is_ok() {
            state.dead_lettered += 1;
        } else {
            state.lost += 1;
        }
        let step = self.next(state, drawn);
        self.give_back(freed);
        step
    }

    /// Starts one more worker if something is ready and one more may run; that one does the same.
    pub(super) fn start_worker_if_needed(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.workers < self.concurrency && state.schedule.is_ready() {
            state.workers += 1;
            drop(state);
            self.runtime.spawn(work(Arc::clone(self)));
        }
    }
}
