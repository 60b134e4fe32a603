//! What a gateway knows of its own leases and of which of its connections have a record.
//!
//! Stands between the ledger and the layers, which write records as events pass, and the keeper, which writes them
//! again when Redis has lost them.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use redis::Cmd;
use uuid::Uuid;

use super::keys::{Keys, new_lease};
use crate::clock::unix_millis;
use crate::event::Event;
use crate::sparse;

/// Leases that are remembered at most; a gateway that loses more than this while connections last is beyond help.
const LEASES: usize = 64;

/// Records still to be removed at most.
const MAX_LEFT_OVER: usize = 100_000;

/// What a gateway knows of its own leases.
#[derive(Debug)]
pub(super) struct Book {
    pub(super) keys: Keys,
    pub(super) node_id: Box<str>,
    pub(super) ttl: Duration,
    /// Redis refuses leases for now, as where the user may not touch their keys.
    refused: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The leases so far, the present one last, each with a connection id that only later connections are above.
    leases: Vec<(Uuid, Arc<str>)>,
    /// Connections whose `connected` was told, or is being told, and whose `disconnected` was not.
    open: HashSet<Uuid, RandomState>,
    /// Records that could not be removed when they should have been.
    left_over: HashMap<Uuid, LeftOver, RandomState>,
    /// Redis' clock less the gateway's own, in milliseconds.
    ahead: i64,
}

/// A record that is to be removed.
#[derive(Debug, Clone)]
pub(super) struct LeftOver {
    pub(super) lease: Arc<str>,
    /// Its `disconnected`, while that may still be delivered; removing waits for its end.
    pub(super) event: Option<Weak<Event>>,
}

impl Book {
    pub(super) fn new(keys: Keys, node_id: &str, ttl: Duration) -> Self {
        Self {
            keys,
            node_id: node_id.into(),
            ttl,
            refused: AtomicBool::new(false),
            state: Mutex::new(State {
                leases: vec![(Uuid::nil(), new_lease(node_id))],
                open: HashSet::default(),
                left_over: HashMap::default(),
                ahead: 0,
            }),
        }
    }

    /// The lease that is held now.
    pub(super) fn lease(&self) -> Arc<str> {
        let state = self.state.lock();
        state
            .leases
            .last()
            .map_or_else(|| Arc::from(""), |(_, lease)| Arc::clone(lease))
    }

    /// The lease that a connection lives under: the one that was held when it began.
    pub(super) fn lease_of(&self, connection: Uuid) -> Arc<str> {
        let state = self.state.lock();
        let lease = state.leases.iter().rev();
        lease
            .clone()
            .find(|(since, _)| *since <= connection)
            .or_else(|| state.leases.first())
            .map_or_else(|| Arc::from(""), |(_, lease)| Arc::clone(lease))
    }

    /// Takes a new lease, since the present one is lost; gives the connection id that all later ones are above.
    pub(super) fn begin_anew(&self) -> Uuid {
        let since = Uuid::now_v7();
        let mut state = self.state.lock();
        state.leases.push((since, new_lease(&self.node_id)));
        if state.leases.len() > LEASES {
            state.leases.remove(0);
        }
        since
    }

    /// Notes Redis' time, in Unix milliseconds.
    pub(super) fn set_clock(&self, now: u64) {
        let ahead = i128::from(now) - i128::from(unix_millis());
        self.state.lock().ahead = i64::try_from(ahead).unwrap_or_default();
    }

    /// The commands that write the record of a connection.
    pub(super) fn record(&self, connection: Uuid, record: &str) -> [Cmd; 2] {
        let lease = self.lease_of(connection);
        let expiry = {
            let mut state = self.state.lock();
            state.open.insert(connection);
            unix_millis().saturating_add_signed(state.ahead)
        };
        let expiry = expiry + u64::try_from(self.ttl.as_millis()).unwrap_or_default();
        self.keys.record(&lease, &[(connection, record)], expiry)
    }

    /// Notes a connection that was told of without a record, and is to have one.
    pub(super) fn adopt(&self, connection: Uuid) {
        self.state.lock().open.insert(connection);
    }

    /// Notes whether Redis refuses leases.
    pub(super) fn set_refused(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
    }

    /// Whether Redis refuses leases: events must not be held up by records that cannot be written.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Notes that a connection's end is told, or is being told.
    pub(super) fn close(&self, connection: Uuid) {
        let mut state = self.state.lock();
        state.open.remove(&connection);
        sparse::shrink_set(&mut state.open);
    }

    /// How many records there should be.
    pub(super) fn open_count(&self) -> usize {
        self.state.lock().open.len()
    }

    /// The connections under a lease that should have a record.
    pub(super) fn open_under(&self, lease: &str) -> Vec<Uuid> {
        let open: Vec<Uuid> = self.state.lock().open.iter().copied().collect();
        open.into_iter()
            .filter(|id| *self.lease_of(*id) == *lease)
            .collect()
    }

    pub(super) fn is_open(&self, connection: Uuid) -> bool {
        self.state.lock().open.contains(&connection)
    }

    /// Notes that a record is to be removed later.
    pub(super) fn leave_over(&self, connection: Uuid, left_over: LeftOver) {
        let mut state = self.state.lock();
        if state.left_over.len() < MAX_LEFT_OVER {
            state.left_over.insert(connection, left_over);
        }
    }

    /// The records to be removed now, by lease.
    pub(super) fn left_over(&self) -> HashMap<Arc<str>, Vec<Uuid>> {
        let state = self.state.lock();
        let mut found: HashMap<Arc<str>, Vec<Uuid>> = HashMap::new();
        for (id, left) in &state.left_over {
            if left
                .event
                .as_ref()
                .is_none_or(|event| event.strong_count() == 0)
            {
                found.entry(Arc::clone(&left.lease)).or_default().push(*id);
            }
        }
        found
    }

    /// Notes that records were removed.
    pub(super) fn removed(&self, connections: &[Uuid]) {
        let mut state = self.state.lock();
        for id in connections {
            state.left_over.remove(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_stays_under_the_lease_it_began_under() {
        let book = Book::new(Keys::new("p:", false), "node", Duration::from_secs(1));
        let (first, old) = (book.lease(), Uuid::now_v7());
        book.begin_anew();
        let (second, new) = (book.lease(), Uuid::now_v7());
        assert_ne!(first, second);
        assert_eq!(book.lease_of(old), first);
        assert_eq!(book.lease_of(new), second);
        for _ in 0..2 * LEASES {
            book.begin_anew();
        }
        assert_ne!(book.lease_of(old), book.lease());
    }
}
