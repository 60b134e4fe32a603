//! The ids that were seen: bounded for each user and in all, forgotten in the order of time.
//!
//! Stands behind the stage `dedupe`, beyond the life of a connection. There is no task that forgets: each new id lets
//! a few old ones go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::time::Instant;
use uuid::Uuid;

use crate::message::{Follower, MessageId};
use crate::session::Session;
use crate::stages::fan_out::ack::{Acks, Client};

/// Ids past their window that a new one lets go at most, so that nobody waits while very many go.
const GO_AT_ONCE: usize = 32;

/// Connections that may wait for one message, beside the one that sent it first.
const MAX_WAITING: usize = 8;

/// What an id is remembered by: a digest of it and of whose it is.
pub(super) type Key = [u8; 16];

/// The bounds within which ids are remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) window: Duration,
    pub(super) of_a_user: usize,
    pub(super) of_all: usize,
}

/// The ids that were seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// By the order in which they will be forgotten.
    entries: BTreeMap<u64, Entry>,
    next: u64,
    by_key: HashMap<Key, u64>,
    by_user: HashMap<Arc<str>, BTreeSet<u64>>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    user: Arc<str>,
    since: Instant,
    /// The message that bears the id, while it is not finished.
    pending: Option<Weak<Claim>>,
}

/// What is known of an id.
#[derive(Debug)]
pub(super) enum Known {
    /// Nothing: the message is the first to bear it.
    First(Arc<Claim>),
    /// The message that bears it is not finished.
    Pending(Arc<Claim>),
    /// The message that bore it was confirmed.
    Confirmed,
}

impl Seen {
    /// Looks an id up, and claims it for a message of the connection if it is new; `answer` is how that one will be
    /// answered, and by which id.
    pub(super) fn look(
        self: &Arc<Self>,
        key: Key,
        session: &Session,
        answer: (&Arc<Acks>, Option<&MessageId>),
        bounds: &Bounds,
        forgotten: &IntCounter,
    ) -> Known {
        let now = Instant::now();
        let mut memory = self.memory.lock();
        // A claim must not be dropped under the lock, which its drop takes.
        if let Some(known) = memory.known(&key, now, bounds.window) {
            return known;
        }
        let user = session.user_id();
        let mut early = 0;
        while memory
            .by_user
            .get(user)
            .is_some_and(|ids| ids.len() >= bounds.of_a_user)
        {
            let first = memory
                .by_user
                .get(user)
                .and_then(|ids| ids.first().copied());
            early += memory.forget(first, now, bounds.window);
        }
        while memory.entries.len() >= bounds.of_all {
            let first = memory.entries.keys().next().copied();
            early += memory.forget(first, now, bounds.window);
        }
        memory.let_go(now, bounds.window);
        let claim = Arc::new_cyclic(|pending| {
            let entry = Entry {
                key,
                user: Arc::clone(user),
                since: now,
                pending: Some(Weak::clone(pending)),
            };
            memory.insert(entry);
            Claim {
                key,
                seen: Arc::downgrade(self),
                origin: (session.id(), answer.1.cloned()),
                acks: Arc::clone(answer.0),
                state: Mutex::default(),
            }
        });
        drop(memory);
        forgotten.inc_by(early);
        Known::First(claim)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let memory = self.memory.lock();
        assert_eq!(memory.entries.len(), memory.by_key.len());
        let of_users: usize = memory.by_user.values().map(BTreeSet::len).sum();
        assert_eq!(memory.entries.len(), of_users);
        memory.entries.len()
    }
}

impl Memory {
    fn known(&self, key: &Key, now: Instant, window: Duration) -> Option<Known> {
        let entry = self.entries.get(self.by_key.get(key)?)?;
        match &entry.pending {
            // One that is just being dropped was refused, and its id is free.
            Some(pending) => pending.upgrade().map(Known::Pending),
            None => (now.duration_since(entry.since) < window).then_some(Known::Confirmed),
        }
    }

    fn insert(&mut self, entry: Entry) {
        if let Some(stale) = self.by_key.get(&entry.key).copied() {
            self.remove(stale);
        }
        let serial = self.next;
        self.next += 1;
        self.by_key.insert(entry.key, serial);
        let of_user = self.by_user.entry(Arc::clone(&entry.user)).or_default();
        of_user.insert(serial);
        self.entries.insert(serial, entry);
    }

    fn remove(&mut self, serial: u64) -> Option<Entry> {
        let entry = self.entries.remove(&serial)?;
        self.by_key.remove(&entry.key);
        if let Some(of_user) = self.by_user.get_mut(&entry.user) {
            of_user.remove(&serial);
            if of_user.is_empty() {
                self.by_user.remove(&entry.user);
            }
        }
        Some(entry)
    }

    /// Forgets an id to make room; 1 if its time had not come.
    fn forget(&mut self, serial: Option<u64>, now: Instant, window: Duration) -> u64 {
        let entry = serial.and_then(|serial| self.remove(serial));
        u64::from(entry.is_some_and(|entry| {
            entry.pending.is_some() || now.duration_since(entry.since) < window
        }))
    }

    /// Forgets some of what is past its window.
    fn let_go(&mut self, now: Instant, window: Duration) {
        for _ in 0..GO_AT_ONCE {
            let Some((&serial, oldest)) = self.entries.first_key_value() else {
                return;
            };
            if now.duration_since(oldest.since) < window {
                return;
            }
            let Some(mut entry) = self.remove(serial) else {
                return;
            };
            // The window begins when the message is confirmed.
            if entry.pending.as_ref().is_some_and(|p| p.strong_count() > 0) {
                entry.since = now;
                self.insert(entry);
            }
        }
    }
}

/// A message that bears a new id, until it is confirmed or not; a repetition of it may wait for that.
#[derive(Debug)]
pub(super) struct Claim {
    key: Key,
    seen: Weak<Seen>,
    /// The connection that sent it, and the id that its answer bears.
    origin: (Uuid, Option<MessageId>),
    acks: Arc<Acks>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    settled: Option<bool>,
    waiting: Vec<(Uuid, MessageId, Client)>,
}

/// What a repetition of an unfinished message comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// The first one's answer is its answer.
    Waits,
    /// The first one is confirmed by now.
    Confirmed,
    /// The first one failed by now, and its id is free.
    Failed,
    /// Too many wait already.
    TooMany,
}

impl Claim {
    /// Has the connection be answered when the message is finished; once, however often it asks.
    pub(super) fn wait(&self, session: &Arc<Session>, id: MessageId) -> Waited {
        let mut state = self.state.lock();
        match state.settled {
            Some(true) => return Waited::Confirmed,
            Some(false) => return Waited::Failed,
            None => {}
        }
        let (first, first_id) = &self.origin;
        let is_first = *first == session.id() && first_id.as_ref() == Some(&id);
        let asks_again = |(other, other_id, _): &(Uuid, MessageId, Client)| {
            *other == session.id() && *other_id == id
        };
        if is_first || state.waiting.iter().any(asks_again) {
            return Waited::Waits;
        }
        if state.waiting.len() >= MAX_WAITING {
            return Waited::TooMany;
        }
        let client = Client::new(session, id.clone());
        state.waiting.push((session.id(), id, client));
        Waited::Waits
    }

    /// Whether the message is finished by now, and how.
    pub(super) fn result(&self) -> Option<bool> {
        self.state.lock().settled
    }

    fn finish(&self, confirmed: bool) {
        // First the memory: who is answered may send the id again at once.
        if let Some(seen) = self.seen.upgrade() {
            let mut memory = seen.memory.lock();
            let serial = memory.by_key.get(&self.key).copied();
            let own = serial.filter(|serial| {
                let entry = memory.entries.get(serial);
                entry
                    .and_then(|entry| entry.pending.as_ref())
                    .is_some_and(|pending| std::ptr::eq(pending.as_ptr(), self))
            });
            // Another message may bear the id by now, if this one's was forgotten early.
            if let Some(mut entry) = own.and_then(|serial| memory.remove(serial))
                && confirmed
            {
                entry.since = Instant::now();
                entry.pending = None;
                memory.insert(entry);
            }
        }
        let waiting = {
            let mut state = self.state.lock();
            state.settled = Some(confirmed);
            std::mem::take(&mut state.waiting)
        };
        for (.., client) in &waiting {
            self.acks.answer(client, confirmed);
        }
    }
}

impl Follower for Claim {
    fn settled(&self, confirmed: bool) {
        self.finish(confirmed);
    }
}

impl Drop for Claim {
    /// Untold: the message was refused on its way, and may come again.
    fn drop(&mut self) {
        if self.state.get_mut().settled.is_none() {
            self.finish(false);
        }
    }
}
