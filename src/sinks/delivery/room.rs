//! The bounded room of a buffer: events and bytes, handed out first come, first served.
//!
//! Room that somebody waited for comes with the turn: until its holder has passed that on, nobody else gets room.
//! Two tasks that wake at once would otherwise enqueue in either order, and events of one key with them.
//!
//! Stands between `fan_out`, which reserves before it makes an event, and the schedule, which gives the room
//! back once the event is delivered or a dead letter.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::schedule::Freed;
use crate::config::BufferConfig;

/// Room for events, bounded in number and bytes.
#[derive(Debug)]
pub(super) struct Room {
    taken: Mutex<Taken>,
}

/// How full a buffer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    pub(super) events: usize,
    pub(super) bytes: usize,
    pub(super) max_events: usize,
}

#[derive(Debug)]
struct Taken {
    max_events: usize,
    max_bytes: usize,
    events: usize,
    bytes: usize,
    /// Somebody who waited has been granted room and has not passed the turn on.
    granting: bool,
    next_ticket: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    grant: oneshot::Sender<Slot>,
}

impl Taken {
    /// Takes room where there is some; gives how many bytes, since an event larger than the whole buffer takes all of
    /// it rather than waiting for ever.
    fn take(&mut self, bytes: usize) -> Option<usize> {
        let bytes = bytes.min(self.max_bytes);
        // More may be taken than there is now, since the bounds change.
        if self.events >= self.max_events || self.bytes + bytes > self.max_bytes {
            return None;
        }
        self.events += 1;
        self.bytes += bytes;
        Some(bytes)
    }
}

/// Room for one event; given back when dropped unused.
#[derive(Debug)]
#[must_use = "a slot that is dropped gives its room back"]
pub struct Slot {
    room: Arc<Room>,
    bytes: usize,
    /// Whether dropping the slot gives the room back.
    held: bool,
    /// Whether the others wait until this slot is used or dropped.
    has_turn: bool,
}

impl Slot {
    /// Bytes of room, at most the buffer's own bound.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Hands the room over to the schedule; the turn, if it came with it, is passed on by the drop.
    pub(super) fn spend(&mut self) -> usize {
        self.held = false;
        self.bytes
    }

    /// Lets the next one have its turn, once the order of this one is settled elsewhere.
    pub fn pass_turn(&mut self) {
        if std::mem::take(&mut self.has_turn) {
            self.room.pass_turn();
        }
    }

    pub(super) fn is_of(&self, room: &Arc<Room>) -> bool {
        Arc::ptr_eq(&self.room, room)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.held {
            self.room.release(Freed {
                events: 1,
                bytes: self.bytes,
            });
        }
        self.pass_turn();
    }
}

impl Room {
    pub(super) fn new(config: &BufferConfig) -> Arc<Self> {
        Arc::new(Self {
            taken: Mutex::new(Taken {
                max_events: config.max_events.max(1),
                max_bytes: config.max_bytes.max(1),
                events: 0,
                bytes: 0,
                granting: false,
                next_ticket: 0,
                waiting: BTreeMap::new(),
            }),
        })
    }

    /// Changes the bounds; who waits for room may get it at once.
    pub(super) fn set_bounds(self: &Arc<Self>, config: &BufferConfig) {
        let mut taken = self.taken.lock();
        taken.max_events = config.max_events.max(1);
        taken.max_bytes = config.max_bytes.max(1);
        self.grant(&mut taken);
    }

    /// How full it is.
    pub(super) fn fill(&self) -> Fill {
        let taken = self.taken.lock();
        Fill {
            events: taken.events,
            bytes: taken.bytes,
            max_events: taken.max_events,
        }
    }

    fn slot(self: &Arc<Self>, bytes: usize, has_turn: bool) -> Slot {
        Slot {
            room: Arc::clone(self),
            bytes,
            held: true,
            has_turn,
        }
    }

    /// Takes room unless somebody else comes first.
    fn take_at_once(taken: &mut Taken, bytes: usize) -> Option<usize> {
        if taken.granting || !taken.waiting.is_empty() {
            return None;
        }
        taken.take(bytes)
    }

    fn pass_turn(self: &Arc<Self>) {
        let mut taken = self.taken.lock();
        taken.granting = false;
        self.grant(&mut taken);
    }

    /// Takes room at once, unless there is none or others wait for it.
    pub(super) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Slot> {
        let bytes = Self::take_at_once(&mut self.taken.lock(), bytes)?;
        Some(self.slot(bytes, false))
    }

    /// Takes room, after all who asked for it before.
    pub(super) async fn reserve(self: &Arc<Self>, bytes: usize) -> Slot {
        loop {
            let (granted, _turn) = {
                let mut taken = self.taken.lock();
                if let Some(bytes) = Self::take_at_once(&mut taken, bytes) {
                    drop(taken);
                    return self.slot(bytes, false);
                }
                let ticket = taken.next_ticket;
                taken.next_ticket += 1;
                let (grant, granted) = oneshot::channel();
                taken.waiting.insert(ticket, Waiting { bytes, grant });
                let room = Arc::clone(self);
                (granted, Turn { room, ticket })
            };
            // The sender only goes away by granting; should it ever not, the caller queues again.
            if let Ok(slot) = granted.await {
                return slot;
            }
        }
    }

    /// Gives room back, and grants it to the first of those who wait.
    pub(super) fn release(self: &Arc<Self>, freed: Freed) {
        if freed.events == 0 {
            return;
        }
        let mut taken = self.taken.lock();
        taken.events -= freed.events;
        taken.bytes -= freed.bytes;
        self.grant(&mut taken);
    }

    fn grant(self: &Arc<Self>, taken: &mut Taken) {
        while !taken.granting
            && let Some((_, first)) = taken.waiting.first_key_value()
        {
            let asked = first.bytes;
            let Some(bytes) = taken.take(asked) else {
                break;
            };
            let Some((_, waiting)) = taken.waiting.pop_first() else {
                break;
            };
            if let Err(mut refused) = waiting.grant.send(self.slot(bytes, true)) {
                // The waiter is gone; its slot must not ask for the lock that is held here.
                refused.held = false;
                refused.has_turn = false;
                taken.events -= 1;
                taken.bytes -= bytes;
                continue;
            }
            taken.granting = true;
        }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> (usize, usize) {
        let taken = self.taken.lock();
        (taken.events, taken.bytes)
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.taken.lock().waiting.len()
    }
}

/// A place among those who wait: leaving it lets the next one have its chance.
struct Turn {
    room: Arc<Room>,
    ticket: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock();
        if taken.waiting.remove(&self.ticket).is_some() {
            self.room.grant(&mut taken);
        }
    }
}
