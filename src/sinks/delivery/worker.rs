//! The tasks of a delivery: workers that try, and the one that ends back-offs and versions.
//!
//! A worker is of one version. It is started when something of that is ready and fewer than `concurrency` run, and goes
//! away when nothing is ready. Each holds its own clone of the sink. Tasks have no names, which stable tokio cannot give them.

use std::panic::AssertUnwindSafe;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{FutureExt as _, StreamExt as _, stream};
use parking_lot::MutexGuard;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tower::ServiceExt as _;
use tower_service::Service as _;

use super::drain::cut;
use super::schedule::{Drawn, Failed, Finished};
use super::version::Line;
use super::{Phase, REMOVED, STOPPING, Shared, State, receipts};
use crate::event::Event;
use crate::sinks::dead_letter::{Cause, DeadLetter, DeadLetterError};
use crate::sinks::{Batch, DeliveryError, Failure, Retry};
use crate::svc::BoxSink;

/// Dead letters of one worker under way at once: a target that takes its time, as a broker that confirms what is on
/// its disk, would otherwise hold up all that come behind them.
const LETTERS_AT_ONCE: usize = 16;

/// What a worker does next.
enum Step {
    /// Try what was drawn.
    Try,
    /// Make dead letters of them, because their sink failed, or the gateway stops or their version ends.
    Bury(Vec<(Failed, String, Cause)>),
    /// Go away.
    Leave,
}

/// What a try came to.
enum Tried {
    Result(Result<(), DeliveryError>),
    Panicked,
    Halted,
}

/// Tries events of a version until none is ready.
pub(super) async fn work(shared: Arc<Shared>, line: Arc<Line>) {
    let mut sink = line.sink.clone();
    let mut drawn = Drawn::default();
    let (mut step, halt) = {
        let mut state = shared.state.lock();
        let halt = state.schedule.queue(line.index).halt.clone();
        (shared.next(state, &line, &mut drawn), halt)
    };
    let mut halted = pin!(halt.cancelled_owned());
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
                if matches!(tried, Tried::Halted) {
                    // A version that ended may have been brought back, and then has a new token.
                    let halt = shared.state.lock().schedule.queue(line.index).halt.clone();
                    halted.set(halt.cancelled_owned());
                } else {
                    shared.report.tried(start.elapsed());
                }
                if matches!(tried, Tried::Panicked) {
                    sink = line.sink.clone();
                }
                if !drawn.is_full(line.max_batch) {
                    shared.linger(&line).await;
                }
                shared.settle(tried, &line, &mut drawn)
            }
            Step::Bury(letters) => {
                let (delivery, version) = (&shared, &line);
                let storing = letters
                    .into_iter()
                    .map(|(failed, reason, cause)| async move {
                        let stored = delivery.store(version, &failed.event, &reason).await;
                        (failed, reason, cause, stored)
                    });
                let mut storing = pin!(stream::iter(storing).buffered(LETTERS_AT_ONCE));
                loop {
                    let (failed, reason, cause, stored) = tokio::select! {
                        biased;
                        stored = storing.next() => match stored {
                            Some(stored) => stored,
                            None => break,
                        },
                        () = shared.abandoned.cancelled() => return,
                    };
                    shared.bury(&failed, (&reason, cause), &stored);
                }
                shared.next(shared.state.lock(), &line, &mut drawn)
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

/// Ends back-offs and versions when they are due.
pub(super) async fn keep_time(shared: Arc<Shared>) {
    loop {
        let next = {
            let state = shared.state.lock();
            let ends = [state.schedule.next_due(), state.schedule.next_end()];
            ends.into_iter().flatten().min()
        };
        let due = async {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.halt.cancelled() => return,
            () = shared.earlier_end.notified() => {}
            () = due => {
                let mut state = shared.state.lock();
                let now = tokio::time::Instant::now();
                state.schedule.expire(now);
                state.schedule.end_back_offs(now);
                shared.start_worker_if_needed(state);
            }
        }
    }
}

impl Shared {
    /// Draws what is to be tried next; the caller holds no lane.
    fn next(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        line: &Line,
        drawn: &mut Drawn,
    ) -> Step {
        let (phase, concurrency) = (state.phase, state.concurrency);
        let schedule = &mut state.schedule;
        let ends = match phase {
            Phase::Running | Phase::Draining(_) => schedule
                .queue(line.index)
                .expired
                .then_some((REMOVED, Cause::Removed)),
            Phase::Stopped => Some((STOPPING, Cause::Shutdown)),
            Phase::Abandoned => {
                schedule.leave(line.index);
                return Step::Leave;
            }
        };
        // One worker too many, since the newest version wants fewer.
        let spare = schedule.queue(line.index).workers > concurrency;
        let max = if spare { 0 } else { line.max_batch };
        schedule.draw(line.index, max, drawn);
        let step = match ends {
            _ if drawn.events.is_empty() => {
                schedule.leave(line.index);
                Step::Leave
            }
            None => Step::Try,
            Some((reason, cause)) => {
                let ends = DeliveryError::all(drawn.events.len(), reason, Retry::Never);
                let letters = schedule.fail(drawn, &ends).1.into_iter();
                Step::Bury(
                    letters
                        .map(|(failed, _)| (failed, reason.to_owned(), cause))
                        .collect(),
                )
            }
        };
        self.start_worker_if_needed(state);
        step
    }

    /// Notes what a try came to, and draws again.
    fn settle(self: &Arc<Self>, tried: Tried, line: &Line, drawn: &mut Drawn) -> Step {
        let mut state = self.state.lock();
        if state.phase == Phase::Abandoned {
            return self.next(state, line, drawn);
        }
        let error = match tried {
            Tried::Result(Ok(())) => {
                let finished = state.schedule.finish(drawn);
                self.report.takes(true);
                return self.delivered(state, finished, line, drawn);
            }
            Tried::Halted => {
                state.schedule.give_back(drawn);
                return self.next(state, line, drawn);
            }
            Tried::Result(Err(error)) => error,
            Tried::Panicked => {
                DeliveryError::all(drawn.events.len(), "the sink panicked", Retry::Backoff)
            }
        };
        let (finished, failed) = state.schedule.fail(drawn, &error);
        if failed.is_empty() {
            return self.delivered(state, finished, line, drawn);
        }
        let Finished { freed, awaited } = finished;
        state.delivered += freed.events as u64;
        self.report.delivered(freed.events);
        let answered = error.failed.iter().any(|f| f.retry == Retry::Never);
        self.report.takes(freed.events > 0 || answered);
        let mut letters = Vec::new();
        let mut reports = Vec::with_capacity(failed.len());
        let earliest = state.schedule.next_due();
        let deadline = state.schedule.queue(line.index).deadline;
        for (failed, place) in failed {
            let Failure {
                reason,
                retry,
                cause,
                ..
            } = &error.failed[place];
            reports.push((Arc::clone(&failed.event), place, failed.tries));
            if let Some(due) = line.due(state.phase, deadline, failed.tries, *retry) {
                state.schedule.back_off(&failed, due);
                self.report.retried();
            } else {
                let reason = match failed.tries {
                    1 => reason.to_string(),
                    count => format!("{reason} after {count} tries"),
                };
                let cause = match state.phase {
                    Phase::Stopped => Cause::Shutdown,
                    _ => *cause,
                };
                letters.push((failed, reason, cause));
            }
        }
        let next = state.schedule.next_due();
        let sooner = next.is_some_and(|next| earliest.is_none_or(|earliest| next < earliest));
        let step = if letters.is_empty() {
            self.next(state, line, drawn)
        } else {
            // The others need not wait for these dead letters.
            self.start_worker_if_needed(state);
            Step::Bury(letters)
        };
        if sooner {
            self.earlier_end.notify_one();
        }
        receipts::delivered(self.name, &awaited);
        self.give_back(freed);
        for (event, place, tries) in reports {
            self.report
                .failed(&event, &error.failed[place].reason, tries);
        }
        step
    }

    fn delivered(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        finished: Finished,
        line: &Line,
        drawn: &mut Drawn,
    ) -> Step {
        let Finished { freed, awaited } = finished;
        state.delivered += freed.events as u64;
        // Counted under the lock, so that whoever finds the buffer empty finds everything counted.
        self.report.delivered(freed.events);
        let step = self.next(state, line, drawn);
        receipts::delivered(self.name, &awaited);
        self.give_back(freed);
        step
    }

    async fn store(&self, line: &Line, event: &Event, reason: &str) -> Result<(), DeadLetterError> {
        let letter = DeadLetter::now(
            reason.to_owned(),
            event.json.clone(),
            Some(event.id),
            self.name,
        );
        AssertUnwindSafe(async { line.dead_letters.store(letter).await })
            .catch_unwind()
            .await
            .unwrap_or_else(|_| Err(DeadLetterError::Failed("the target panicked".to_owned())))
    }

    /// Notes what became of a dead letter.
    fn bury(
        self: &Arc<Self>,
        failed: &Failed,
        (reason, cause): (&str, Cause),
        stored: &Result<(), DeadLetterError>,
    ) {
        match stored {
            Ok(()) => self.report.kept(&failed.event, reason, cause),
            Err(error) => self.report.lost(&failed.event, (reason, cause), error),
        }
        let mut state = self.state.lock();
        if state.phase == Phase::Abandoned {
            return;
        }
        let finished = state.schedule.bury(failed);
        if stored.is_ok() {
            state.dead_lettered += 1;
        } else {
            state.lost += 1;
        }
        // What waited behind it may go on while this worker keeps the next dead letter.
        self.start_worker_if_needed(state);
        receipts::failed(self.name, &failed.event, reason);
        self.give_back(finished.freed);
    }

    /// Lets events gather, unless the gateway stops.
    async fn linger(&self, line: &Line) {
        if !line.linger.is_zero() {
            // Either ends it; which one makes no difference.
            let _ = tokio::time::timeout(line.linger, self.hurry.cancelled()).await;
        }
    }

    /// Starts one more worker if something is ready and one more may run; that one does the same.
    pub(super) fn start_worker_if_needed(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let concurrency = state.concurrency;
        if let Some(queue) = state.schedule.short_of_workers(concurrency) {
            queue.workers += 1;
            let line = Arc::clone(&queue.line);
            drop(state);
            self.runtime.spawn(work(Arc::clone(self), line));
        }
    }
}

impl Line {
    /// When an event that failed is to be tried again, if ever.
    fn due(
        &self,
        phase: Phase,
        deadline: Option<tokio::time::Instant>,
        tries: u32,
        retry: Retry,
    ) -> Option<tokio::time::Instant> {
        let stop = match phase {
            Phase::Stopped => return None,
            Phase::Draining(stop) => Some(stop),
            Phase::Running | Phase::Abandoned => None,
        };
        let wait = self.retry.wait(tries, retry, rand::random())?;
        let now = tokio::time::Instant::now();
        let due = now + wait;
        let end = deadline.into_iter().chain(stop).min();
        Some(end.map_or(due, |end| cut(due, now, end)))
    }
}
