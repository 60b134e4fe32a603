//! What connections said since the keeper last looked: at most one note for each.
//!
//! Stands between the connections' tasks, which must never wait for presence, and the keeper. While Redis is away
//! notes pile up only as far as there are connections: several about one connection become one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::session::Session;

/// Connections that ended and are still to be removed at most; beyond that the sweep after the outage finds them by
/// the gateway's index.
const MAX_GONE: usize = 10_000;

/// What connections said since the keeper last looked.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pending: Mutex<Pending>,
    /// There is something to do.
    pub(super) noted: Notify,
    /// All was done.
    settled: Notify,
}

/// Notes that were taken to be acted on.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// To be written.
    pub(super) write: HashSet<Uuid, RandomState>,
    /// To be looked at soon.
    pub(super) look: HashSet<Uuid, RandomState>,
    /// To be removed.
    pub(super) gone: HashMap<Uuid, Arc<Session>, RandomState>,
    /// Some are being acted on.
    busy: bool,
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.write.is_empty() && self.look.is_empty() && self.gone.is_empty()
    }
}

impl Notes {
    pub(super) fn write(&self, id: Uuid) {
        if self.pending.lock().write.insert(id) {
            self.noted.notify_one();
        }
    }

    pub(super) fn look(&self, id: Uuid) {
        if self.pending.lock().look.insert(id) {
            self.noted.notify_one();
        }
    }

    pub(super) fn gone(&self, session: &Arc<Session>) {
        {
            let mut pending = self.pending.lock();
            let id = session.id();
            pending.write.remove(&id);
            pending.look.remove(&id);
            if pending.gone.len() < MAX_GONE {
                pending.gone.insert(id, Arc::clone(session));
            }
        }
        self.noted.notify_one();
    }

    /// Takes all notes; the keeper is busy with them until [`Notes::settle`].
    pub(super) fn take(&self) -> Pending {
        let mut pending = self.pending.lock();
        let taken = std::mem::take(&mut *pending);
        pending.busy = !taken.is_empty();
        taken
    }

    /// Puts back what could not be acted on, behind what was noted since.
    pub(super) fn put_back(&self, taken: Pending) {
        let mut pending = self.pending.lock();
        for id in taken.write {
            if !pending.gone.contains_key(&id) {
                pending.write.insert(id);
            }
        }
        for (id, session) in taken.gone {
            if pending.gone.len() < MAX_GONE {
                pending.gone.insert(id, session);
            }
        }
    }

    /// What was taken has been acted on, or put back.
    pub(super) fn settle(&self) {
        let mut pending = self.pending.lock();
        pending.busy = false;
        if pending.is_empty() {
            drop(pending);
            self.settled.notify_waiters();
        }
    }

    /// Waits until there is nothing left to do.
    pub(super) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            {
                let pending = self.pending.lock();
                if pending.is_empty() && !pending.busy {
                    return;
                }
            }
            settled.await;
        }
    }
}
