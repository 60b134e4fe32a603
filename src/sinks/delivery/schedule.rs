//! Which event may be tried next: lanes, the ties between them, and what waits for its back-off.
//!
//! Pure bookkeeping under the lock of [`super`]: no clock, no tasks, nothing that waits.
//!
//! # Order
//! A lane is a FIFO: one for each ordering key, and one for each connection's events without a key. Only a
//! lane's first events are ever tried, and a failed one holds its lane. Two ties cross lanes: an event waits
//! until its connection's `connected` is finished, and `disconnected` waits until all others of its connection
//! are finished.
//!
//! # No cycles
//! An event only ever waits for events that were pushed before it: those before it in its lane; `connected` only
//! if it was the first of its connection and unfinished when the event was pushed; and for `disconnected`
//! exactly those of its connection that were pushed before it. Waiting therefore follows the order of pushing,
//! which is total, so the oldest unfinished event waits for nothing but its own try or back-off.
//!
//! # Cost
//! Events live in one slab and lanes are linked lists through it, so that neither allocates for each event.
//! A lane or connection without unfinished events takes no memory. Each step is O(1) but for back-offs
//! (O(log n)); the ends of `connected` and `disconnected` ties are paid by the lanes that waited for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use slab::Slab;
use tokio::time::Instant;
use uuid::Uuid;

use crate::event::{Event, EventKind};
use crate::sinks::{DeliveryError, Failure, Retry};

/// No entry: the end of a lane's list.
const NONE: usize = usize::MAX;

/// Entries beyond which an emptied schedule gives its memory back.
const KEPT_ENTRIES: usize = 4096;

/// What an event waits for beyond its lane, fixed when it is pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tie {
    /// The connection's `connected`: waits for nothing, the others wait for it.
    First,
    /// Waits for its connection's `First`, if that is unfinished.
    Plain,
    /// The connection's `disconnected`: waits for all pushed before it.
    Last,
    /// Pushed after `disconnected`, which does not wait for it.
    After,
}

#[derive(Debug)]
struct Entry {
    event: Arc<Event>,
    bytes: usize,
    next: usize,
    connection: usize,
    tries: u32,
    tie: Tie,
}

#[derive(Debug)]
enum Owner {
    Key(Arc<str>),
    Connection(usize),
}

/// A lane with at least one unfinished event; it is in exactly one of: `ready`, `back_offs`, a connection's
/// `blocked`, or some worker's [`Drawn`].
#[derive(Debug)]
struct Lane {
    owner: Owner,
    head: usize,
    tail: usize,
}

/// A connection with at least one unfinished event.
#[derive(Debug)]
struct Connection {
    id: Uuid,
    lane: Option<usize>,
    unfinished: usize,
    /// Unfinished events that `disconnected` waits for.
    before_last: usize,
    connecting: bool,
    ended: bool,
    blocked: Vec<usize>,
}

/// Events under one try, and the lanes they lead.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    pub(super) events: Vec<Arc<Event>>,
    lanes: Vec<(usize, usize)>,
}

impl Drawn {
    fn clear(&mut self) {
        self.events.clear();
        self.lanes.clear();
    }
}

/// Room that finished events gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// An event that made a try fail; its lane is held until it is finished or backs off.
#[derive(Debug, Clone)]
pub(super) struct Failed {
    lane: usize,
    pub(super) event: Arc<Event>,
    /// Tries so far, the failed one among them.
    pub(super) tries: u32,
    /// The next event of its lane failed for good as well, and holds the lane on.
    followed: bool,
}

/// All unfinished events of one sink.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: Slab<Entry>,
    lanes: Slab<Lane>,
    connections: Slab<Connection>,
    lane_of_key: HashMap<Arc<str>, usize, RandomState>,
    connection_of_id: HashMap<Uuid, usize, RandomState>,
    ready: VecDeque<usize>,
    back_offs: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl Schedule {
    /// Unfinished events.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether [`Schedule::draw`] would draw something.
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Adds an event behind all others of its lane.
    pub(super) fn push(&mut self, event: Arc<Event>, bytes: usize) {
        let (connection, fresh) = self.connection(event.connection_id);
        let state = &mut self.connections[connection];
        state.unfinished += 1;
        let tie = match event.kind {
            EventKind::Connected if fresh => {
                state.connecting = true;
                Tie::First
            }
            EventKind::Disconnected if !state.ended => {
                state.ended = true;
                Tie::Last
            }
            _ if state.ended => Tie::After,
            _ => Tie::Plain,
        };
        if matches!(tie, Tie::First | Tie::Plain) {
            state.before_last += 1;
        }
        let lane = match &event.ordering_key {
            Some(key) => self.lane_of_key.get(key).copied(),
            None => state.lane,
        };
        let owner = match (lane, &event.ordering_key) {
            (Some(_), _) => None,
            (None, Some(key)) => Some(Owner::Key(Arc::clone(key))),
            (None, None) => Some(Owner::Connection(connection)),
        };
        let entry = self.entries.insert(Entry {
            event,
            bytes,
            next: NONE,
            connection,
            tries: 0,
            tie,
        });
        if let Some(lane) = lane {
            let tail = std::mem::replace(&mut self.lanes[lane].tail, entry);
            self.entries[tail].next = entry;
        } else if let Some(owner) = owner {
            self.open_lane(owner, entry);
        }
    }

    fn connection(&mut self, id: Uuid) -> (usize, bool) {
        let mut fresh = false;
        let connections = &mut self.connections;
        let index = *self.connection_of_id.entry(id).or_insert_with(|| {
            fresh = true;
            connections.insert(Connection {
                id,
                lane: None,
                unfinished: 0,
                before_last: 0,
                connecting: false,
                ended: false,
                blocked: Vec::new(),
            })
        });
        (index, fresh)
    }

    fn open_lane(&mut self, owner: Owner, entry: usize) {
        let vacant = self.lanes.vacant_entry();
        let lane = vacant.key();
        match &owner {
            Owner::Key(key) => {
                self.lane_of_key.insert(Arc::clone(key), lane);
            }
            Owner::Connection(connection) => self.connections[*connection].lane = Some(lane),
        }
        vacant.insert(Lane {
            owner,
            head: entry,
            tail: entry,
        });
        self.place(lane);
    }

    fn may_start(&self, entry: &Entry) -> bool {
        let connection = &self.connections[entry.connection];
        match entry.tie {
            Tie::First => true,
            Tie::Plain | Tie::After => !connection.connecting,
            Tie::Last => connection.before_last == 0,
        }
    }

    /// Puts a lane that is nowhere where its first event belongs.
    fn place(&mut self, lane: usize) {
        let entry = &self.entries[self.lanes[lane].head];
        if self.may_start(entry) {
            self.ready.push_back(lane);
        } else {
            let connection = entry.connection;
            self.connections[connection].blocked.push(lane);
        }
    }

    /// Draws up to `max` events that may be tried together, lane after lane, and holds their lanes.
    pub(super) fn draw(&mut self, max: usize, drawn: &mut Drawn) {
        drawn.clear();
        while drawn.events.len() < max {
            let Some(lane) = self.ready.pop_front() else {
                break;
            };
            let mut count = 0;
            let mut next = self.lanes[lane].head;
            while next != NONE && drawn.events.len() < max {
                let entry = &self.entries[next];
                // The first may start, or its lane would not be ready; the others only if nothing drawn here
                // has to be finished before them.
                if count > 0 && !self.may_start(entry) {
                    break;
                }
                drawn.events.push(Arc::clone(&entry.event));
                count += 1;
                next = entry.next;
            }
            drawn.lanes.push((lane, count));
        }
    }

    /// All that was drawn is finished.
    pub(super) fn finish(&mut self, drawn: &mut Drawn) -> Freed {
        let mut freed = Freed::default();
        for &(lane, count) in &drawn.lanes {
            if self.pop(lane, count, &mut freed) {
                self.place(lane);
            }
        }
        drawn.clear();
        self.shrink_if_empty();
        freed
    }

    /// What was tried and did not fail is finished, up to each lane's first failure; the rest may be drawn again.
    ///
    /// Gives each failed lane's event with its place in `error.failed`, in the order of the batch. One that is never to
    /// be tried again brings those along that follow it in its lane and are not either, so that a backend that refuses
    /// everything is not asked again and again about the same events.
    pub(super) fn fail(
        &mut self,
        drawn: &mut Drawn,
        error: &DeliveryError,
    ) -> (Freed, Vec<(Failed, usize)>) {
        let mut freed = Freed::default();
        let mut failed = Vec::new();
        let mut untried = Vec::new();
        let mut failures = error.failed.iter().enumerate().peekable();
        let mut start = 0;
        for &(lane, count) in &drawn.lanes {
            while failures
                .next_if(|(_, failure)| failure.index < start)
                .is_some()
            {}
            let first = failures.peek().map_or(usize::MAX, |(_, f)| f.index) - start;
            let finished = count.min(error.tried.saturating_sub(start)).min(first);
            let remains = self.pop(lane, finished, &mut freed);
            if finished == count {
                if remains {
                    self.place(lane);
                }
            } else if first == finished
                && let Some((place, failure)) = failures.next()
            {
                let mut entry = self.lanes[lane].head;
                failed.push((self.failed(lane, &mut entry), place));
                let for_good = failure.retry == Retry::Never;
                for index in start + first + 1..start + count {
                    let follows = |(_, next): &(usize, &Failure)| {
                        for_good && next.index == index && next.retry == Retry::Never
                    };
                    let Some((place, _)) = failures.next_if(follows) else {
                        break;
                    };
                    if let Some((before, _)) = failed.last_mut() {
                        before.followed = true;
                    }
                    failed.push((self.failed(lane, &mut entry), place));
                }
            } else {
                untried.push(lane);
            }
            start += count;
        }
        // Those that the failure of another kept from their turn keep their place at the front.
        for lane in untried.into_iter().rev() {
            self.ready.push_front(lane);
        }
        drawn.clear();
        self.shrink_if_empty();
        (freed, failed)
    }

    /// Notes the failure of a lane's event, and goes on to the next one.
    fn failed(&mut self, lane: usize, entry: &mut usize) -> Failed {
        let failed = &mut self.entries[*entry];
        failed.tries += 1;
        *entry = failed.next;
        Failed {
            lane,
            event: Arc::clone(&failed.event),
            tries: failed.tries,
            followed: false,
        }
    }

    /// Nothing of what was drawn was tried: it may be drawn again.
    pub(super) fn give_back(&mut self, drawn: &mut Drawn) {
        for &(lane, _) in drawn.lanes.iter().rev() {
            self.ready.push_front(lane);
        }
        drawn.clear();
    }

    /// The failed event waits until `due`, and its lane with it.
    pub(super) fn back_off(&mut self, failed: &Failed, due: Instant) {
        self.back_offs.push(Reverse((due, failed.lane)));
    }

    /// The failed event is finished: it is a dead letter.
    pub(super) fn bury(&mut self, failed: &Failed) -> Freed {
        let mut freed = Freed::default();
        if self.pop(failed.lane, 1, &mut freed) && !failed.followed {
            self.place(failed.lane);
        }
        self.shrink_if_empty();
        freed
    }

    /// When the next back-off ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.back_offs.peek().map(|Reverse((due, _))| *due)
    }

    /// Makes ready what has backed off until `now`.
    pub(super) fn end_back_offs(&mut self, now: Instant) {
        while let Some(Reverse((due, lane))) = self.back_offs.peek().copied() {
            if due > now {
                break;
            }
            self.back_offs.pop();
            self.ready.push_back(lane);
        }
    }

    /// Ends every back-off at `latest` at the latest.
    pub(super) fn cut_back_offs(&mut self, latest: Instant) {
        let cut = std::mem::take(&mut self.back_offs)
            .into_iter()
            .map(|Reverse((due, lane))| Reverse((due.min(latest), lane)))
            .collect();
        self.back_offs = cut;
    }

    /// Forgets every event.
    pub(super) fn clear(&mut self) -> Freed {
        let freed = Freed {
            events: self.entries.len(),
            bytes: self.entries.iter().map(|(_, entry)| entry.bytes).sum(),
        };
        *self = Self::default();
        freed
    }

    /// Whether no event, lane, connection, key or back-off is left.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.entries.is_empty()
            && self.lanes.is_empty()
            && self.connections.is_empty()
            && self.lane_of_key.is_empty()
            && self.connection_of_id.is_empty()
            && self.ready.is_empty()
            && self.back_offs.is_empty()
    }

    /// Finishes the first `count` events of a lane, and says whether the lane still exists.
    fn pop(&mut self, lane: usize, count: usize, freed: &mut Freed) -> bool {
        for _ in 0..count {
            let entry = self.entries.remove(self.lanes[lane].head);
            freed.events += 1;
            freed.bytes += entry.bytes;
            self.lanes[lane].head = entry.next;
            let empty = entry.next == NONE;
            if empty {
                self.close_lane(lane);
            }
            self.finished(&entry);
            if empty {
                return false;
            }
        }
        true
    }

    fn close_lane(&mut self, lane: usize) {
        match self.lanes.remove(lane).owner {
            Owner::Key(key) => {
                self.lane_of_key.remove(&key);
            }
            Owner::Connection(connection) => self.connections[connection].lane = None,
        }
    }

    fn finished(&mut self, entry: &Entry) {
        let connection = &mut self.connections[entry.connection];
        connection.unfinished -= 1;
        match entry.tie {
            Tie::First => {
                connection.connecting = false;
                connection.before_last -= 1;
            }
            Tie::Plain => connection.before_last -= 1,
            Tie::Last | Tie::After => {}
        }
        let unties = entry.tie == Tie::First || connection.before_last == 0;
        if connection.unfinished == 0 {
            let id = connection.id;
            self.connections.remove(entry.connection);
            self.connection_of_id.remove(&id);
        } else if unties && !connection.blocked.is_empty() {
            for lane in std::mem::take(&mut connection.blocked) {
                self.place(lane);
            }
        }
    }

    fn shrink_if_empty(&mut self) {
        if self.entries.is_empty() && self.entries.capacity() > KEPT_ENTRIES {
            *self = Self::default();
        }
    }
}
