//! Which event may be tried next: lanes, the ties between them, and what waits for its back-off.
//!
//! Pure bookkeeping under the lock of [`super`]: no clock, no tasks, nothing that waits. `queue` holds what there is of
//! each version, `tries` what a worker draws and what comes of it.
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
//! A lane is ready in the queue of its first event's version, so that drawing for one version never looks at
//! another's, however they alternate. Events live in one slab and lanes are linked lists through it, so that neither allocates for each event.
//! A lane or connection without unfinished events takes no memory. Each step is O(1) but for back-offs
//! (O(log n)); the ends of `connected` and `disconnected` ties are paid by the lanes that waited for them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use foldhash::fast::RandomState;
use slab::Slab;
use tokio::time::Instant;
use uuid::Uuid;

pub(super) use self::tries::{Drawn, Failed};

use self::queue::Queue;
use crate::event::{Event, EventKind};

mod queue;
mod tries;

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
    /// Its neighbours in the order of pushing, whatever their lanes.
    older: Option<usize>,
    newer: Option<usize>,
    connection: usize,
    version: usize,
    tries: u32,
    tie: Tie,
}

#[derive(Debug)]
enum Owner {
    Key(Arc<str>),
    Connection(usize),
}

/// A lane with at least one unfinished event; it is in exactly one of: a version's `ready`, `back_offs`, a connection's
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

/// Room that finished events gave back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Freed {
    pub(super) events: usize,
    pub(super) bytes: usize,
}

/// Events that are finished.
#[derive(Debug, Default)]
pub(super) struct Finished {
    pub(super) freed: Freed,
    /// Those among them that someone waits to hear of.
    pub(super) awaited: Vec<Arc<Event>>,
}

impl Finished {
    fn add(&mut self, event: Arc<Event>, bytes: usize) {
        self.freed.events += 1;
        self.freed.bytes += bytes;
        if event.receipt.is_some() {
            self.awaited.push(event);
        }
    }
}

/// All unfinished events of one sink.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: Slab<Entry>,
    lanes: Slab<Lane>,
    connections: Slab<Connection>,
    lane_of_key: HashMap<Arc<str>, usize, RandomState>,
    connection_of_id: HashMap<Uuid, usize, RandomState>,
    back_offs: BinaryHeap<Reverse<(Instant, usize)>>,
    queues: Slab<Queue>,
    /// The newest version, unless that is to end.
    current: Option<usize>,
    /// The ends of the order of pushing.
    oldest: Option<usize>,
    newest: Option<usize>,
}

impl Schedule {
    /// Unfinished events.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The unfinished event that was pushed first.
    pub(super) fn oldest(&self) -> Option<&Arc<Event>> {
        self.entries.get(self.oldest?).map(|entry| &entry.event)
    }

    /// Whether it has events, or a version that does not end.
    pub(super) fn is_wanted(&self) -> bool {
        self.current.is_some() || !self.entries.is_empty()
    }

    /// What there is of a version, which must not be finished.
    pub(super) fn queue(&mut self, version: usize) -> &mut Queue {
        &mut self.queues[version]
    }

    /// Adds an event behind all others of its lane.
    ///
    /// An event that comes too late for its version, since it waited for room, is the newest version's.
    pub(super) fn push(&mut self, event: Arc<Event>, bytes: usize, version: usize) {
        let version = match self.current {
            Some(current) if self.queues[version].expired => current,
            _ => version,
        };
        self.queues[version].unfinished += 1;
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
            older: self.newest,
            newer: None,
            connection,
            version,
            tries: 0,
            tie,
        });
        match self.newest.replace(entry) {
            Some(before) => self.entries[before].newer = Some(entry),
            None => self.oldest = Some(entry),
        }
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
            self.queues[entry.version].ready.push_back(lane);
        } else {
            let connection = entry.connection;
            self.connections[connection].blocked.push(lane);
        }
    }

    /// Forgets every event; gives those that someone waits to hear of.
    pub(super) fn clear(&mut self) -> Finished {
        let mut finished = Finished::default();
        for (_, entry) in std::mem::take(&mut self.entries) {
            finished.add(entry.event, entry.bytes);
        }
        self.reset();
        finished
    }

    /// Gives the memory of an empty schedule back; its versions stay.
    fn reset(&mut self) {
        let queues = std::mem::take(&mut self.queues);
        let current = self.current;
        *self = Self {
            queues,
            current,
            ..Self::default()
        };
        for (_, queue) in &mut self.queues {
            queue.ready = VecDeque::new();
            queue.unfinished = 0;
        }
    }

    /// How many versions are not finished.
    #[cfg(test)]
    pub(super) fn versions(&self) -> usize {
        self.queues.len()
    }

    /// Whether no event, lane, connection, key or back-off is left.
    #[cfg(test)]
    pub(super) fn is_bare(&self) -> bool {
        self.entries.is_empty()
            && self.lanes.is_empty()
            && self.connections.is_empty()
            && self.lane_of_key.is_empty()
            && self.connection_of_id.is_empty()
            && self
                .queues
                .iter()
                .all(|(_, queue)| queue.ready.is_empty() && queue.unfinished == 0)
            && self.back_offs.is_empty()
            && self.oldest.is_none()
            && self.newest.is_none()
    }

    /// Finishes the first `count` events of a lane, and says whether the lane still exists.
    fn pop(&mut self, lane: usize, count: usize, finished: &mut Finished) -> bool {
        for _ in 0..count {
            let entry = self.entries.remove(self.lanes[lane].head);
            self.unlink(&entry);
            self.queues[entry.version].unfinished -= 1;
            self.lanes[lane].head = entry.next;
            let empty = entry.next == NONE;
            if empty {
                self.close_lane(lane);
            }
            self.finished(&entry);
            finished.add(entry.event, entry.bytes);
            if empty {
                return false;
            }
        }
        true
    }

    /// Takes an entry that was removed out of the order of pushing.
    fn unlink(&mut self, entry: &Entry) {
        match entry.older {
            Some(older) => self.entries[older].newer = entry.newer,
            None => self.oldest = entry.newer,
        }
        match entry.newer {
            Some(newer) => self.entries[newer].older = entry.older,
            None => self.newest = entry.older,
        }
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
            self.reset();
        }
    }
}
