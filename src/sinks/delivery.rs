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
//! # Versions
//! A delivery lives as long as its sink is configured or has events; a reload changes what is below it, a [`Version`].
//! Each event goes by the version it was enqueued with, so what was accepted under the old file goes to the old target,
//! in order with what follows under the new one. Versions have workers of their own, up to `concurrency` each: a target
//! that hangs never holds up the lanes of another. A version that is retired is tried until its deadline; what is
//! left then becomes dead letters, so that no lane waits for ever for a target that was given up.
//!
//! # Bounds
//! Room is taken by [`Outlet::reserve`] before the event is made and given back when the event is delivered or
//! a dead letter, so that memory is bounded whatever the backend does. At most `concurrency` tries of one version run at
//! once; an event that waits for its back-off takes part in none of them.
//!
//! # Panics
//! A sink or dead-letter target that panics counts as a failed try; the delivery goes on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::report::Report;
use self::room::Room;
use self::schedule::{Finished, Freed, Schedule};
use self::version::Line;
use super::dead_letter::DeadLetters;
use crate::brokers::Link;
use crate::config::BufferConfig;
use crate::event::Event;
use crate::svc::BoxSink;
use crate::telemetry::metrics::{Metrics, Sampled};

pub(crate) mod drain;
mod outlet;
mod receipts;
mod report;
mod retry;
mod room;
mod sample;
mod schedule;
#[cfg(test)]
mod tests;
mod version;
mod worker;

#[cfg(test)]
pub(crate) use self::tests::test_event;

pub use self::drain::Drained;
pub use self::outlet::Outlet;
pub use self::retry::RetryPolicy;
pub use self::room::Slot;
pub use self::version::{Version, VersionTrace};

/// Reason of the dead letters that are made because the gateway stops.
const STOPPING: &str = "gateway stopping";

/// Reason of the dead letters that are made because a version's deadline has passed.
const REMOVED: &str = "sink removed by a reload";

/// What those who wait for an event hear where not even a dead letter was made of it.
const LOST: &str = "the gateway stopped";

/// What those who wait for an event hear where there was no room for it.
const NO_ROOM: &str = "the buffer is full";

/// How a sink is delivered to: the name, the buffer and what it means when it is full are the delivery's, the rest is
/// a version's.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliverySettings {
    /// The sink's name in metrics, logs and dead letters.
    pub name: &'static str,
    /// Bounds of the buffer.
    pub buffer: BufferConfig,
    /// Tries of one version under way at once; the newest version's counts for all.
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

/// The delivery to one sink; its tasks stop when it is dropped.
pub struct Delivery {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    when_full: WhenFull,
    report: Report,
    metrics: Metrics,
    runtime: Handle,
    /// The broker that the newest version needs, if it needs one.
    link: Mutex<Option<Weak<dyn Link>>>,
    room: Arc<Room>,
    /// Held for bookkeeping only, never while anything waits.
    state: Mutex<State>,
    /// A back-off or a version ends earlier than all others so far.
    earlier_end: Notify,
    /// Whether anyone wants to know that the buffer is empty.
    watched: AtomicBool,
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
    /// Workers of one version at most.
    concurrency: usize,
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
    /// Starts the delivery to a sink, on the runtime of the caller; it has no version yet.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(settings: &DeliverySettings, metrics: &Metrics) -> Arc<Self> {
        let room = Room::new(&settings.buffer);
        let shared = Arc::new(Shared {
            name: settings.name,
            when_full: settings.when_full,
            report: Report::new(settings.name, metrics),
            metrics: metrics.clone(),
            runtime: Handle::current(),
            link: Mutex::default(),
            room,
            state: Mutex::new(State {
                schedule: Schedule::default(),
                concurrency: settings.concurrency.max(1),
                phase: Phase::Running,
                delivered: 0,
                dead_lettered: 0,
                lost: 0,
            }),
            earlier_end: Notify::new(),
            watched: AtomicBool::new(false),
            empty: Notify::new(),
            hurry: CancellationToken::new(),
            halt: CancellationToken::new(),
            abandoned: CancellationToken::new(),
        });
        let sampled: Arc<dyn Sampled> = Arc::clone(&shared) as _;
        metrics.sample_from(Arc::downgrade(&sampled));
        shared.runtime.spawn(worker::keep_time(Arc::clone(&shared)));
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

    /// Adds a version, which changes nothing until events are enqueued for it or it is activated.
    #[must_use]
    pub fn version(
        &self,
        settings: &DeliverySettings,
        sink: BoxSink,
        dead_letters: Arc<dyn DeadLetters>,
    ) -> Arc<Version> {
        let shared = &self.shared;
        let mut state = shared.state.lock();
        state.schedule.add(shared.halt.child_token(), |index| {
            Arc::new(Version {
                shared: Arc::clone(shared),
                line: Arc::new(Line::new(index, settings, sink, dead_letters)),
            })
        })
    }

    /// A version of this delivery that is not finished, whether anyone holds it or not.
    #[must_use]
    pub fn find(&self, trace: &VersionTrace) -> Option<Arc<Version>> {
        let line = trace.0.upgrade()?;
        let shared = &self.shared;
        // A finished version's line may live on for a moment, in a worker that is about to leave.
        shared.state.lock().schedule.hold(&line, || {
            Arc::new(Version {
                shared: Arc::clone(shared),
                line: Arc::clone(&line),
            })
        })
    }

    /// Makes a version the newest one, also one that was retired: its events are no longer to end.
    pub fn activate(&self, version: &Version) {
        let shared = &self.shared;
        debug_assert!(self.has(version), "a version of another delivery");
        let mut state = shared.state.lock();
        state.concurrency = version.line.concurrency;
        if !state.schedule.is_current(version.line.index) {
            // What another target did says nothing of this one.
            shared.report.takes(true);
        }
        state
            .schedule
            .activate(version.line.index, shared.halt.child_token());
        shared.start_worker_if_needed(state);
    }

    /// Has the events of a version tried until the deadline, with back-offs cut to a quarter of the time left; what is
    /// left then becomes dead letters, also what is still enqueued for it while there is no newer version.
    pub fn retire(&self, version: &Version, deadline: Instant) {
        let shared = &self.shared;
        debug_assert!(self.has(version), "a version of another delivery");
        let now = Instant::now();
        let latest = now + deadline.saturating_duration_since(now) / 4;
        let mut state = shared.state.lock();
        state.schedule.retire(version.line.index, deadline, latest);
        drop(state);
        shared.earlier_end.notify_one();
    }

    /// Changes the buffer's bounds. Where they are lower than what is taken, nobody is admitted until that fits.
    pub fn set_buffer(&self, buffer: &BufferConfig) {
        self.shared.room.set_bounds(buffer);
    }

    /// Has the sink count as down while a link is.
    pub fn depend_on(&self, link: Option<Weak<dyn Link>>) {
        *self.shared.link.lock() = link;
    }

    /// Events in the buffer, those under delivery among them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.room.fill().events
    }

    /// Whether every event is finished.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.shared.state.lock().schedule.len() == 0
    }

    /// Waits until every event is finished.
    pub async fn wait_until_idle(&self) {
        self.shared.wait_until_empty().await;
    }

    /// Whether a version is one of this delivery's.
    fn has(&self, version: &Version) -> bool {
        Arc::ptr_eq(&self.shared, &version.shared)
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        self.shared.abandon();
        // Another one of the same name shows itself again when the metrics are next asked for.
        self.shared.forget(&self.shared.metrics);
    }
}

impl std::fmt::Debug for Delivery {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Delivery")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

impl Shared {
    /// Hands an event over, behind all others of its lane.
    fn enqueue(self: &Arc<Self>, mut slot: Slot, event: Arc<Event>, version: usize) {
        debug_assert!(slot.is_of(&self.room), "a slot of another delivery");
        let bytes = slot.spend();
        let mut state = self.state.lock();
        if state.phase == Phase::Abandoned {
            state.lost += 1;
            drop(state);
            self.report.abandoned(1);
            receipts::failed(self.name, &event, LOST);
            self.give_back(Freed { events: 1, bytes });
            return;
        }
        state.schedule.push(event, bytes, version);
        self.start_worker_if_needed(state);
    }

    /// An event for which there is no room goes on without this sink.
    fn drop_for_want_of_room(&self, event: &Event) {
        self.report.dropped(event);
        receipts::failed(self.name, event, NO_ROOM);
    }

    async fn wait_until_empty(&self) {
        self.watched.store(true, Ordering::Release);
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
        if self.watched.load(Ordering::Acquire) && self.state.lock().schedule.len() == 0 {
            self.empty.notify_waiters();
        }
    }

    /// Counts everything left as lost, and stops every task.
    fn abandon(&self) {
        let Finished { freed, awaited } = {
            let mut state = self.state.lock();
            state.phase = Phase::Abandoned;
            let finished = state.schedule.clear();
            state.lost += finished.freed.events as u64;
            finished
        };
        self.hurry.cancel();
        self.halt.cancel();
        self.abandoned.cancel();
        self.report.abandoned(freed.events);
        for event in &awaited {
            receipts::failed(self.name, event, LOST);
        }
        self.give_back(freed);
        self.empty.notify_waiters();
    }
}
