//! The tasks of a delivery: workers that try, and the one that ends back-offs.
//!
//! A worker is started when something is ready and fewer than `concurrency` run, and goes away when nothing is
//! ready. Each holds its own clone of the sink. Tasks have no names, which stable tokio cannot give them.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::MutexGuard;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::ServiceExt as _;
use tower_service::Service as _;

use super::schedule::{Drawn, Failed, Freed};
use super::{Phase, STOPPING, Shared, State};
use crate::event::Event;
use crate::sinks::dead_letter::{DeadLetter, DeadLetterError};
use crate::sinks::{Batch, DeliveryError, Failure, Retry};
use crate::svc::BoxSink;

/// Dead letters of one worker under way at once: a target that takes its time, as a broker that confirms what is on
/// its disk, would otherwise hold up all that come behind them.
const LETTERS_AT_ONCE: usize = 16;

/// What a worker does next.
enum Step {
    /// Try what was drawn.
    Try,
    /// Make dead letters of them, because their sink failed or the gateway stops.
    Bury(Vec<(Failed, String)>),
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
                if drawn.events.len() < shared.max_batch {
                    shared.linger().await;
                }
                shared.settle(tried, &mut drawn)
            }
            Step::Bury(letters) => {
                let storing = letters.into_iter().map(|(failed, reason)| async {
                    let stored = shared.store(&failed.event, &reason).await;
                    (failed, reason, stored)
                });
                let mut storing = pin!(stream::iter(storing).buffered(LETTERS_AT_ONCE));
                loop {
                    let (failed, reason, stored) = tokio::select! {
                        biased;
                        stored = storing.next() => match stored {
                            Some(stored) => stored,
                            None => break,
                        },
                        () = shared.abandoned.cancelled() => return,
                    };
                    shared.bury(&failed, &reason, &stored);
                }
                shared.next(shared.state.lock(), &mut drawn)
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
                state.schedule.draw(self.max_batch, drawn);
                let stopping = DeliveryError::all(drawn.events.len(), STOPPING, Retry::Never);
                let letters: Vec<_> = state.schedule.fail(drawn, &stopping).1;
                if letters.is_empty() {
                    Step::Leave
                } else {
                    let reason = |(failed, _)| (failed, STOPPING.to_owned());
                    Step::Bury(letters.into_iter().map(reason).collect())
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
            Tried::Panicked => {
                DeliveryError::all(drawn.events.len(), "the sink panicked", Retry::Backoff)
            }
        };
        let (freed, failed) = state.schedule.fail(drawn, &error);
        if failed.is_empty() {
            return self.delivered(state, freed, drawn);
        }
        state.delivered += freed.events as u64;
        self.report.delivered(freed.events);
        let mut letters = Vec::new();
        let mut reports = Vec::with_capacity(failed.len());
        let earliest = state.schedule.next_due();
        for (failed, place) in failed {
            let Failure { reason, retry, .. } = &error.failed[place];
            reports.push((Arc::clone(&failed.event), place, failed.tries));
            if let Some(due) = self.due(&state, failed.tries, *retry) {
                state.schedule.back_off(&failed, due);
                self.report.retried();
            } else {
                let reason = match failed.tries {
                    1 => reason.to_string(),
                    count => format!("{reason} after {count} tries"),
                };
                letters.push((failed, reason));
            }
        }
        let next = state.schedule.next_due();
        let sooner = next.is_some_and(|next| earliest.is_none_or(|earliest| next < earliest));
        let step = if letters.is_empty() {
            self.next(state, drawn)
        } else {
            // The others need not wait for these dead letters.
            self.start_worker_if_needed(state);
            Step::Bury(letters)
        };
        if sooner {
            self.earlier_back_off.notify_one();
        }
        self.give_back(freed);
        for (event, place, tries) in reports {
            self.report
                .failed(&event, &error.failed[place].reason, tries);
        }
        step
    }

    /// When an event that failed is to be tried again, if ever.
    fn due(&self, state: &State, tries: u32, retry: Retry) -> Option<tokio::time::Instant> {
        if state.phase == Phase::Stopped {
            return None;
        }
        let wait = self.retry.wait(tries, retry, rand::random())?;
        let now = tokio::time::Instant::now();
        Some(match state.phase {
            Phase::Draining(deadline) => super::cut(now + wait, now, deadline),
            _ => now + wait,
        })
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

    /// Notes what became of a dead letter.
    fn bury(self: &Arc<Self>, failed: &Failed, reason: &str, stored: &Result<(), DeadLetterError>) {
        match stored {
            Ok(()) => self.report.kept(&failed.event, reason),
            Err(error) => self.report.lost(&failed.event, reason, error),
        }
        let mut state = self.state.lock();
        if state.phase == Phase::Abandoned {
            return;
        }
        let freed = state.schedule.bury(failed);
        if stored.is_ok() {
            state.dead_lettered += 1;
        } else {
            state.lost += 1;
        }
        // What waited behind it may go on while this worker keeps the next dead letter.
        self.start_worker_if_needed(state);
        self.give_back(freed);
    }

    /// Lets events gather, unless the gateway stops.
    async fn linger(&self) {
        if !self.linger.is_zero() {
            // Either ends it; which one makes no difference.
            let _ = tokio::time::timeout(self.linger, self.hurry.cancelled()).await;
        }
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
