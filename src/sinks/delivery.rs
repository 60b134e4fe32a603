//! Delivery: the bounded buffer, order, retries and dead letters in front of every sink.
//!
//! Stands between `fan_out`, which reserves room and enqueues events, and a sink, which only knows how to try
//! once. Nothing enqueued goes away but by delivery, as a dead letter, or counted and logged as lost.
//!
//! # Order
//! Events with an ordering key are delivered in the order they were enqueued, across connections; events without
//! one in their connection's order; `connected` before and `disconnected` after all else of its connection. An
//! event that fails holds back only those. A delivery that failed half-way (a timeout, say) may have reached the
//! backend, so an event may arrive twice, never out of order. `schedule` says why no event can wait for ever.
//!
//! # Bounds
//! Room is taken by [`Delivery::reserve`] before the event is made and given back when the event is delivered or
//! a dead letter, so that memory is bounded whatever the backend does. At most `concurrency` tries run at once; an
//! event that waits for its back-off takes part in none of them.
//!
//! # Panics
//! A sink or dead-letter target that panics counts as a failed try; the delivery goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::report::Report;
use self::room::Room;
use self::schedule::{Freed, Schedule};
use super::dead_letter::DeadLetters;
use crate::config::BufferConfig;
use crate::event::Event;
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;

mod report;
mod retry;
mod room;
mod schedule;
#[cfg(test)]
mod tests;
mod worker;

#[cfg(test)]
pub(crate) use self::tests::test_event;

pub use self::retry::RetryPolicy;
pub use self::room::Slot;

/// Reason of the dead letters that are made because the gateway stops.
const STOPPING: &str = "gateway stopping";

/// Time after a drain's deadline for what is left to become dead letters.
pub(crate) const DEAD_LETTER_GRACE: Duration = Duration::from_secs(5);

/// Shortest back-off during a drain.
const MIN_CUT: Duration = Duration::from_millis(10);

/// How a sink is delivered to.
#[derive(Debug, Clone)]
pub struct DeliverySettings {
    /// The sink's name in metrics, logs and dead letters.
    pub name: &'static str,
    /// Bounds of the buffer.
    pub buffer: BufferConfig,
    /// Tries under way at once.
    pub concurrency: usize,
    /// Events in one try at most.
    pub max_batch: usize,
    /// How often and when a failed try is repeated.
    pub retry: RetryPolicy,
    /// What a full buffer means for the event that finds it full.
    pub when_full: WhenFull,
    /// Wait after a try that took less than `max_batch`, so that the next one takes more; zero: none.
    pub linger: Duration,
}

/// What a full buffer means for the event that finds it full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// The event waits, or its client is told, as `on_full` of `fan_out` says.
    Wait,
    /// The event goes on without this sink, which is counted and logged; no dead letters are made either.
    Drop,
}

/// A sink apart from its delivery, for sending again what was delivered before.
#[derive(Debug, Clone)]
pub struct Target {
    /// The sink's name.
    pub name: &'static str,
    /// Tries once to deliver a batch.
    pub sink: BoxSink,
    /// Events in one try at most.
    pub max_batch: usize,
}

/// What a drain came to, in events, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Delivered to the sink.
    pub delivered: u64,
    /// Kept by the dead-letter target.
    pub dead_lettered: u64,
    /// Neither.
    pub lost: u64,
}

/// The delivery to one sink; its tasks stop when it is dropped.
pub struct Delivery {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    concurrency: usize,
    max_batch: usize,
    retry: RetryPolicy,
    when_full: WhenFull,
    linger: Duration,
    sink: BoxSink,
    dead_letters: Arc<dyn DeadLetters>,
    report: Report,
    runtime: Handle,
    room: Arc<Room>,
    /// Held for bookkeeping only, never while anything waits.
    state: Mutex<State>,
    /// A back-off ends earlier than all others so far.
    earlier_back_off: Notify,
    /// Whether anyone wants to know that the buffer is empty.
    draining: AtomicBool,
    /// The buffer became empty.
    empty: Notify,
    /// A drain has begun: nobody lingers.
    hurry: CancellationToken,
    /// No more tries: those under way are given up.
    halt: CancellationToken,
    /// No more dead letters either.
    abandoned: CancellationToken,
}

#[derive(Debug)]
struct State {
    schedule: Schedule,
    workers: usize,
    phase: Phase,
    delivered: u64,
    dead_lettered: u64,
    lost: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running,
    /// As running, but back-offs are cut to end before the deadline.
    Draining(Instant),
    /// Events become dead letters untried.
    Stopped,
    /// Events are lost.
    Abandoned,
}

impl Delivery {
    /// Starts the delivery to a sink, on the runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        settings: DeliverySettings,
        sink: BoxSink,
        dead_letters: Arc<dyn DeadLetters>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let DeliverySettings {
            name,
            buffer,
            concurrency,
            max_batch,
            retry,
            when_full,
            linger,
        } = settings;
        let labels = &[name];
        let room = Room::new(
            &buffer,
            metrics.sink_buffer_events.with_label_values(labels),
            metrics.sink_buffer_bytes.with_label_values(labels),
        );
        let shared = Arc::new(Shared {
            name,
            concurrency: concurrency.max(1),
            max_batch: max_batch.max(1),
            retry,
            when_full,
            linger,
            sink,
            dead_letters,
            report: Report::new(name, metrics),
            runtime: Handle::current(),
            room,
            state: Mutex::new(State {
                schedule: Schedule::default(),
                workers: 0,
                phase: Phase::Running,
                delivered: 0,
                dead_lettered: 0,
                lost: 0,
            }),
            earlier_back_off: Notify::new(),
            draining: AtomicBool::new(false),
            empty: Notify::new(),
            hurry: CancellationToken::new(),
            halt: CancellationToken::new(),
            abandoned: CancellationToken::new(),
        });
        shared
            .runtime
            .spawn(worker::end_back_offs(Arc::clone(&shared)));
        Arc::new(Self { shared })
    }

    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// What a full buffer means for the event that finds it full.
    #[must_use]
    pub fn when_full(&self) -> WhenFull {
        self.shared.when_full
    }

    /// The sink itself, for sending again what was delivered before; it shares the sink's connections, but neither
    /// its buffer nor its order.
    #[must_use]
    pub fn target(&self) -> Target {
        Target {
            name: self.shared.name,
            sink: self.shared.sink.clone(),
            max_batch: self.shared.max_batch,
        }
    }

    /// Hands an event over for delivery if there is room for it, and counts it as dropped if there is none.
    pub fn enqueue_or_drop(&self, event: &Arc<Event>) {
        match self.try_reserve(event.json.len()) {
            Some(slot) => self.enqueue(slot, Arc::clone(event)),
            None => self.shared.report.dropped(event),
        }
    }

    /// Takes room for an event of so many bytes of JSON, unless there is none or others wait for it.
    #[must_use]
    pub fn try_reserve(&self, bytes: usize) -> Option<Slot> {
        self.shared.room.try_reserve(bytes)
    }

    /// Takes room for an event of so many bytes of JSON, after all who asked for it before.
    ///
    /// An event larger than the whole buffer waits for all of it. Dropping the future leaves the queue.
    pub async fn reserve(&self, bytes: usize) -> Slot {
        self.shared.room.reserve(bytes).await
    }

    /// Hands an event over for delivery, behind all others of its lane; never waits and never fails.
    ///
    /// The slot must be of this delivery; whoever waits for room comes after this event.
    pub fn enqueue(&self, mut slot: Slot, event: Arc<Event>) {
        let shared = &self.shared;
        debug_assert!(slot.is_of(&shared.room), "a slot of another delivery");
        let bytes = slot.spend();
        let mut state = shared.state.lock();
        if state.phase == Phase::Abandoned {
            state.lost += 1;
            drop(state);
            shared.report.abandoned(1);
            shared.give_back(Freed { events: 1, bytes });
            return;
        }
        state.schedule.push(event, bytes);
        shared.start_worker_if_needed(state);
    }

    /// Delivers what is in the buffer until the deadline, then makes dead letters of the rest.
    ///
    /// Afterwards events that are enqueued all the same become dead letters untried. What the dead-letter target
    /// does not keep within five seconds after the deadline is lost, counted and logged. Back-offs are cut to
    /// a quarter of the time left.
    pub async fn drain(&self, deadline: Instant) -> Drained {
        let shared = &self.shared;
        shared.draining.store(true, Ordering::Release);
        shared.hurry.cancel();
        let before = {
            let mut state = shared.state.lock();
            let before = state.totals();
            if state.phase == Phase::Running {
                state.phase = Phase::Draining(deadline);
            }
            let now = Instant::now();
            let latest = now + deadline.saturating_duration_since(now) / 4;
            state.schedule.cut_back_offs(latest);
            before
        };
        shared.earlier_back_off.notify_one();
        let _ = tokio::time::timeout_at(deadline, shared.wait_until_empty()).await;
        {
            let mut state = shared.state.lock();
            if state.phase != Phase::Abandoned {
                state.phase = Phase::Stopped;
            }
            let latest = Instant::now();
            state.schedule.cut_back_offs(latest);
            state.schedule.end_back_offs(latest);
            shared.start_worker_if_needed(state);
        }
        shared.halt.cancel();
        let grace = deadline.max(Instant::now()) + DEAD_LETTER_GRACE;
        if tokio::time::timeout_at(grace, shared.wait_until_empty())
            .await
            .is_err()
        {
            shared.abandon();
        }
        let after = shared.state.lock().totals();
        Drained {
            delivered: after.delivered - before.delivered,
            dead_lettered: after.dead_lettered - before.dead_lettered,
            lost: after.lost - before.lost,
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.shared.abandon();
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl State {
    fn totals(&self) -> Drained {
        Drained {
            delivered: self.delivered,
            dead_lettered: self.dead_lettered,
            lost: self.lost,
        }
    }
}

impl Shared {
    async fn wait_until_empty(&self) {
        loop {
            let empty = self.empty.notified();
            if self.state.lock().schedule.len() == 0 {
                return;
            }
            empty.await;
        }
    }

    /// Gives back the room of finished events; called without the lock.
    fn give_back(&self, freed: Freed) {
        self.room.release(freed);
        if self.draining.load(Ordering::Acquire) && self.state.lock().schedule.len() == 0 {
            self.empty.notify_waiters();
        }
    }

    /// Counts everything left as lost, and stops every task.
    fn abandon(&self) {
        let freed = {
            let mut state = self.state.lock();
            state.phase = Phase::Abandoned;
            let freed = state.schedule.clear();
            state.lost += freed.events as u64;
            freed
        };
        self.hurry.cancel();
        self.halt.cancel();
        self.abandoned.cancel();
        self.report.abandoned(freed.events);
        self.give_back(freed);
        self.empty.notify_waiters();
    }
}

/// A back-off during a drain: at most a quarter of the time left, so that more than one retry fits in.
fn cut(due: Instant, now: Instant, deadline: Instant) -> Instant {
    let left = deadline.saturating_duration_since(now);
    due.min(now + (left / 4).max(MIN_CUT))
}
