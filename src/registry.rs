//! The registry: which connections of this gateway listen to which subjects, and pushes to them.
//!
//! Stands between the sources of pushes (the HTTP API, brokers) and the connections' outboxes. Sharded, so that
//! ten thousand connections that end at once do not delay a new one.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use crate::close::Close;
use crate::config::BackpressureConfig;
use crate::outbox::{OutboxLimits, Pushed};
use crate::session::Session;
use crate::sparse;
use crate::tail::Tails;
use crate::telemetry::metrics::Metrics;

mod address;

pub use address::AddressPlace;

const SHARDS: usize = 64;

/// Why pushes are lost, as the metrics name it.
pub(crate) const LOSSES: [&str; 4] = ["oldest", "newest", "overflow", "closed"];

/// Which connections of this gateway listen to which subjects.
pub struct Registry {
    hasher: RandomState,
    by_id: Vec<RwLock<HashMap<Uuid, Arc<Session>, RandomState>>>,
    by_subject: Vec<RwLock<HashMap<Arc<str>, Members, RandomState>>>,
    by_user: Vec<RwLock<HashMap<Arc<str>, Members, RandomState>>>,
    by_address: Vec<RwLock<HashMap<IpAddr, usize, RandomState>>>,
    count: AtomicUsize,
    limits: OutboxLimits,
    tails: Arc<Tails>,
    metrics: Metrics,
}

/// Most subjects have one connection; one map entry without a map of its own keeps those small.
enum Members {
    One(Arc<Session>),
    Many(HashMap<Uuid, Arc<Session>, RandomState>),
}

impl Registry {
    /// Makes an empty registry.
    #[must_use]
    pub fn new(backpressure: BackpressureConfig, metrics: Metrics) -> Self {
        fn shards<K, V>() -> Vec<RwLock<HashMap<K, V, RandomState>>> {
            (0..SHARDS).map(|_| RwLock::default()).collect()
        }
        Self {
            hasher: RandomState::default(),
            by_id: shards(),
            by_subject: shards(),
            by_user: shards(),
            by_address: shards(),
            count: AtomicUsize::new(0),
            limits: OutboxLimits::new(backpressure),
            tails: Arc::default(),
            metrics,
        }
    }

    /// The bounds that all outboxes share.
    #[must_use]
    pub fn limits(&self) -> &OutboxLimits {
        &self.limits
    }

    /// Whoever looks at what users send and are sent.
    #[must_use]
    pub fn tails(&self) -> &Arc<Tails> {
        &self.tails
    }

    /// Connections registered now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether no connection is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Registers a connection unless its user has `max_per_user` already (0: no limit).
    ///
    /// # Errors
    /// When the user has as many connections as allowed; nothing is registered then.
    pub fn register(
        &self,
        session: &Arc<Session>,
        max_per_user: usize,
    ) -> Result<(), TooManyOfUser> {
        {
            let mut users = self.shard(&self.by_user, session.user_id()).write();
            let held = users.get(session.user_id()).map_or(0, Members::len);
            if max_per_user != 0 && held >= max_per_user {
                return Err(TooManyOfUser);
            }
            Members::insert(&mut users, session.user_id(), session);
        }
        for subject in session.subjects() {
            Members::insert(
                &mut self.shard(&self.by_subject, subject).write(),
                subject,
                session,
            );
        }
        self.shard(&self.by_id, &session.id())
            .write()
            .insert(session.id(), Arc::clone(session));
        self.count.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Forgets a connection; its outbox takes no more.
    pub fn unregister(&self, session: &Session) {
        {
            let mut sessions = self.shard(&self.by_id, &session.id()).write();
            if sessions.remove(&session.id()).is_none() {
                return;
            }
            sparse::shrink(&mut sessions);
        }
        for subject in session.subjects() {
            Members::remove(
                &mut self.shard(&self.by_subject, subject).write(),
                subject,
                session.id(),
            );
        }
        let user = session.user_id();
        Members::remove(
            &mut self.shard(&self.by_user, user).write(),
            user,
            session.id(),
        );
        self.count.fetch_sub(1, Ordering::Relaxed);
        let lost = session.outbox().shut(&self.limits);
        if lost > 0 {
            self.metrics
                .pushes_dropped_total
                .with_label_values(&["closed"])
                .inc_by(lost as u64);
        }
    }

    /// Takes one of an address's places, if it has fewer than `max` connections (0: no limit).
    ///
    /// Counted in any case, so that a limit that comes by a reload knows of the connections from before.
    #[must_use]
    pub fn take_address(self: &Arc<Self>, address: IpAddr, max: usize) -> Option<AddressPlace> {
        {
            let mut shard = self.shard(&self.by_address, &address).write();
            let held = shard.entry(address).or_insert(0);
            if max != 0 && *held >= max {
                return None;
            }
            *held += 1;
        }
        Some(AddressPlace {
            registry: Arc::clone(self),
            address,
        })
    }

    /// Sends a payload to every connection of any of the subjects, to each once.
    ///
    /// Returns how many connections it was queued to.
    pub fn publish<S: AsRef<str>>(&self, subjects: &[S], payload: &RawValue) -> usize {
        self.publish_noting(subjects, payload, |_| {})
    }

    /// As [`Registry::publish`]; also names the connections whose outboxes are rather full now.
    pub(crate) fn publish_noting<S: AsRef<str>>(
        &self,
        subjects: &[S],
        payload: &RawValue,
        mut note: impl FnMut(&Arc<Session>),
    ) -> usize {
        let text = Utf8Bytes::from(format!(r#"{{"type":"event","payload":{}}}"#, payload.get()));
        let mut sent = 0;
        let watched = self.tails.are_open();
        self.for_each(subjects, |session| {
            let (queued, crowded) = self.push(session, text.clone());
            if watched {
                self.tails.push(session, &text, queued);
            }
            sent += usize::from(queued);
            if crowded {
                note(session);
            }
        });
        self.metrics.publish_total.inc();
        self.metrics.pushes_queued_total.inc_by(sent as u64);
        sent
    }

    /// Whether the push was queued, and whether the outbox is rather full now.
    fn push(&self, session: &Session, text: Utf8Bytes) -> (bool, bool) {
        let pushed = session.outbox().push(text, &self.limits);
        let (queued, lost, why) = match pushed {
            Pushed::Queued => return (true, false),
            Pushed::Crowding => return (true, true),
            Pushed::QueuedDropping(oldest) => (true, oldest, "oldest"),
            Pushed::Dropped => (false, 1, "newest"),
            Pushed::Overflowed(all) => (false, all, "overflow"),
            Pushed::Closed => (false, 1, "closed"),
        };
        self.metrics
            .pushes_dropped_total
            .with_label_values(&[why])
            .inc_by(lost);
        let crowded = matches!(pushed, Pushed::QueuedDropping(_) | Pushed::Dropped);
        (queued, crowded)
    }

    /// Asks connections to close; returns how many were asked.
    pub fn disconnect(&self, selector: &Selector, close: &Close) -> usize {
        let mut asked = 0;
        let mut ask =
            |session: &Arc<Session>| asked += usize::from(session.outbox().close(close.clone()));
        match selector {
            Selector::Connection(id) => {
                if let Some(session) = self.get(*id) {
                    ask(&session);
                }
            }
            Selector::User(user) => {
                if let Some(members) = self
                    .shard(&self.by_user, user.as_str())
                    .read()
                    .get(user.as_str())
                {
                    members.for_each(ask);
                }
            }
            Selector::Subject(subject) => self.for_each(&[subject], ask),
        }
        asked
    }

    /// The connection of an id.
    #[must_use]
    pub fn get(&self, id: Uuid) -> Option<Arc<Session>> {
        self.shard(&self.by_id, &id).read().get(&id).cloned()
    }

    /// The connections of a subject.
    #[must_use]
    pub fn of_subject(&self, subject: &str) -> Vec<Arc<Session>> {
        collect(self.shard(&self.by_subject, subject).read().get(subject))
    }

    /// The connections of a user.
    #[must_use]
    pub fn of_user(&self, user: &str) -> Vec<Arc<Session>> {
        collect(self.shard(&self.by_user, user).read().get(user))
    }

    /// All connections, one shard's lock at a time.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Session>> {
        let mut all = Vec::with_capacity(self.len());
        for shard in &self.by_id {
            all.extend(shard.read().values().cloned());
        }
        all
    }

    fn for_each<S: AsRef<str>>(&self, subjects: &[S], mut act: impl FnMut(&Arc<Session>)) {
        if let [subject] = subjects {
            let subject = subject.as_ref();
            if let Some(members) = self.shard(&self.by_subject, subject).read().get(subject) {
                members.for_each(act);
            }
            return;
        }
        let mut seen = std::collections::HashSet::with_hasher(RandomState::default());
        for subject in subjects {
            let subject = subject.as_ref();
            if let Some(members) = self.shard(&self.by_subject, subject).read().get(subject) {
                members.for_each(|session| {
                    if seen.insert(session.id()) {
                        act(session);
                    }
                });
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "any bits of the hash choose a shard"
    )]
    fn shard<'a, K: Hash + ?Sized, T>(&self, shards: &'a [T], key: &K) -> &'a T {
        &shards[self.hasher.hash_one(key) as usize % SHARDS]
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Which connections to disconnect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// All of one user.
    User(String),
    /// One.
    Connection(Uuid),
    /// All that listen to one subject.
    Subject(String),
}

/// The user has as many connections as `server.max_connections_per_user` allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many connections of this user")]
pub struct TooManyOfUser;

fn collect(members: Option<&Members>) -> Vec<Arc<Session>> {
    let mut all = Vec::new();
    if let Some(members) = members {
        members.for_each(|session| all.push(Arc::clone(session)));
    }
    all
}

type MemberMap = HashMap<Arc<str>, Members, RandomState>;

impl Members {
    fn insert(map: &mut MemberMap, key: &Arc<str>, session: &Arc<Session>) {
        match map.get_mut(key) {
            None => {
                map.insert(Arc::clone(key), Self::One(Arc::clone(session)));
            }
            Some(Self::Many(many)) => {
                many.insert(session.id(), Arc::clone(session));
            }
            Some(one) => {
                let mut many = HashMap::with_hasher(RandomState::default());
                if let Self::One(first) = &*one {
                    many.insert(first.id(), Arc::clone(first));
                }
                many.insert(session.id(), Arc::clone(session));
                *one = Self::Many(many);
            }
        }
    }

    fn remove(map: &mut MemberMap, key: &Arc<str>, id: Uuid) {
        let empty = match map.get_mut(key) {
            None => return,
            Some(Self::One(one)) => one.id() == id,
            Some(Self::Many(many)) => {
                many.remove(&id);
                sparse::shrink(many);
                many.is_empty()
            }
        };
        if empty {
            map.remove(key);
            sparse::shrink(map);
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(many) => many.len(),
        }
    }

    fn for_each(&self, mut act: impl FnMut(&Arc<Session>)) {
        match self {
            Self::One(one) => act(one),
            Self::Many(many) => many.values().for_each(act),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Arc<Registry> {
        Arc::new(Registry::new(
            BackpressureConfig::default(),
            Metrics::new().unwrap(),
        ))
    }

    fn payload() -> Box<RawValue> {
        RawValue::from_string("{\"n\": 1.0}".into()).unwrap()
    }

    #[test]
    fn a_push_reaches_each_connection_once_with_the_payload_as_written() {
        let registry = registry();
        let a = Session::for_tests("1", &["user:1", "room:1"]);
        let b = Session::for_tests("2", &["user:2", "room:1"]);
        registry.register(&a, 0).unwrap();
        registry.register(&b, 0).unwrap();
        assert_eq!(
            registry.publish(&["room:1", "user:1", "nobody"], &payload()),
            2
        );
        let text = a.outbox().pop(registry.limits()).unwrap();
        assert_eq!(text.as_str(), r#"{"type":"event","payload":{"n": 1.0}}"#);
        assert!(a.outbox().pop(registry.limits()).is_none());
    }

    #[test]
    fn forgets_everything_about_a_connection() {
        let registry = registry();
        let sessions: Vec<_> = (0..50)
            .map(|_| Session::for_tests("1", &["user:1"]))
            .collect();
        for session in &sessions {
            registry.register(session, 0).unwrap();
        }
        for session in &sessions {
            registry.unregister(session);
            registry.unregister(session);
        }
        assert!(registry.is_empty() && registry.all().is_empty());
        assert!(registry.of_subject("user:1").is_empty() && registry.of_user("1").is_empty());
        assert_eq!(registry.publish(&["user:1"], &payload()), 0);
    }

    #[test]
    fn limits_a_users_connections() {
        let registry = registry();
        let first = Session::for_tests("1", &["user:1"]);
        registry.register(&first, 1).unwrap();
        let second = Session::for_tests("1", &["user:1"]);
        assert_eq!(registry.register(&second, 1), Err(TooManyOfUser));
        registry.unregister(&first);
        assert_eq!(registry.register(&second, 1), Ok(()));
    }

    #[test]
    fn limits_an_addresss_connections() {
        let registry = registry();
        let address = IpAddr::from([127, 0, 0, 1]);
        let place = registry.take_address(address, 1).unwrap();
        assert!(registry.take_address(address, 1).is_none());
        drop(place);
        assert!(registry.take_address(address, 1).is_some());
    }

    #[test]
    fn disconnects_by_each_selector() {
        let registry = registry();
        let a = Session::for_tests("1", &["user:1", "room:1"]);
        let b = Session::for_tests("2", &["user:2", "room:1"]);
        registry.register(&a, 0).unwrap();
        registry.register(&b, 0).unwrap();
        let close = Close::by_backend(None);
        assert_eq!(
            registry.disconnect(&Selector::Connection(a.id()), &close),
            1
        );
        assert_eq!(
            registry.disconnect(&Selector::Connection(a.id()), &close),
            0,
            "already asked"
        );
        assert_eq!(
            registry.disconnect(&Selector::Subject("room:1".into()), &close),
            1
        );
        assert_eq!(registry.disconnect(&Selector::User("3".into()), &close), 0);
        assert_eq!(b.outbox().close_asked(), Some(close));
    }
}
