//! Sessions: one admitted connection, as the stages, the registry and the API know it.
//!
//! Stands for the connection wherever its task is not: made by the handshake stack, dropped after `disconnected`.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};

use http::HeaderName;
use parking_lot::Mutex;
use uuid::Uuid;

use crate::clock::unix_now;
use crate::event::{write_json, write_string};
use crate::kept::Kept;
use crate::message::TraceContext;
use crate::outbox::Outbox;

/// Who connected: what the handshake stack found out before the session was made.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The user's id.
    pub user_id: String,
    /// The subjects the connection listens to, the user's own among them, without repetition.
    pub subjects: Vec<String>,
    /// Unix seconds at which the connection must end, if ever.
    pub expires_at: Option<f64>,
}

/// The end of a connection that has none.
const NEVER: f64 = f64::INFINITY;

/// Headers of an upgrade request that the stages want, each with its first value.
pub type WantedHeaders = Box<[(HeaderName, Box<str>)]>;

/// One admitted connection.
pub struct Session {
    id: Uuid,
    user_id: Arc<str>,
    subjects: Box<[Arc<str>]>,
    connected_at: u64,
    address: Option<IpAddr>,
    upgrade_trace: TraceContext,
    identity_json: Box<str>,
    last_seq: AtomicU64,
    last_seen_at: AtomicU64,
    beat_at: AtomicU64,
    /// The place of the last stage that the newest message met.
    reached: AtomicU16,
    expires_at: AtomicU64,
    /// How often the claims were replaced, so that what was made of them is made again only then.
    claims_version: AtomicU64,
    claims: Mutex<Option<Arc<str>>>,
    headers: WantedHeaders,
    outbox: Outbox,
    kept: Kept,
}

impl Session {
    /// Makes the session of a connection that was just admitted.
    #[must_use]
    pub fn new(identity: Identity, address: Option<IpAddr>, upgrade_trace: TraceContext) -> Self {
        let id = Uuid::now_v7();
        let connected_at = unix_now();
        let identity_json = identity_json(id, &identity, connected_at);
        Self {
            id,
            user_id: identity.user_id.into(),
            subjects: identity.subjects.into_iter().map(Arc::from).collect(),
            connected_at,
            address,
            upgrade_trace,
            identity_json,
            last_seq: AtomicU64::new(0),
            last_seen_at: AtomicU64::new(connected_at),
            beat_at: AtomicU64::new(connected_at),
            reached: AtomicU16::new(0),
            expires_at: AtomicU64::new(identity.expires_at.unwrap_or(NEVER).to_bits()),
            claims_version: AtomicU64::new(0),
            claims: Mutex::new(None),
            headers: WantedHeaders::default(),
            outbox: Outbox::default(),
            kept: Kept::default(),
        }
    }

    /// Adds what the upgrade told beside the identity: the token's claims as JSON, and headers.
    #[must_use]
    pub fn with_upgrade(mut self, claims: Option<Arc<str>>, headers: WantedHeaders) -> Self {
        self.claims = Mutex::new(claims);
        self.headers = headers;
        self
    }

    /// The connection's id (`UUIDv7`).
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// The user's id.
    #[must_use]
    pub fn user_id(&self) -> &Arc<str> {
        &self.user_id
    }

    /// The subjects the connection listens to.
    #[must_use]
    pub fn subjects(&self) -> &[Arc<str>] {
        &self.subjects
    }

    /// Unix seconds of the connection's start.
    #[must_use]
    pub fn connected_at(&self) -> u64 {
        self.connected_at
    }

    /// The client's address, as far as proxies are trusted to tell it.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Trace context of the upgrade request.
    #[must_use]
    pub fn upgrade_trace(&self) -> &TraceContext {
        &self.upgrade_trace
    }

    /// The members `connection_id`, `user_id`, `subjects`, `connected_at` as JSON without braces.
    #[must_use]
    pub fn identity_json(&self) -> &str {
        &self.identity_json
    }

    /// The number that the connection's next event bears.
    #[must_use]
    pub fn next_seq(&self) -> u64 {
        self.last_seq.load(Ordering::Relaxed) + 1
    }

    /// Spends the number given by [`Session::next_seq`].
    pub fn advance_seq(&self) {
        self.last_seq.fetch_add(1, Ordering::Relaxed);
    }

    /// Unix seconds at which the client was last heard of.
    #[must_use]
    pub fn last_seen_at(&self) -> u64 {
        self.last_seen_at.load(Ordering::Relaxed)
    }

    /// Notes that the client was heard of.
    pub fn seen(&self, now: u64) {
        self.last_seen_at.store(now, Ordering::Relaxed);
    }

    /// Unix seconds of the client's last `ping` or `heartbeat` message, at first of its start.
    #[must_use]
    pub fn beat_at(&self) -> u64 {
        self.beat_at.load(Ordering::Relaxed)
    }

    /// Notes a `ping` or `heartbeat` message.
    pub fn beat(&self, now: u64) {
        self.beat_at.store(now, Ordering::Relaxed);
    }

    /// The place of the last stage that the newest message met, from 0 at the top.
    #[must_use]
    pub(crate) fn reached(&self) -> u16 {
        self.reached.load(Ordering::Relaxed)
    }

    /// Notes that the message meets a stage.
    pub(crate) fn reach(&self, place: u16) {
        self.reached.store(place, Ordering::Relaxed);
    }

    /// Unix seconds at which the connection must end, if ever.
    #[must_use]
    pub fn expires_at(&self) -> Option<f64> {
        Some(f64::from_bits(self.expires_at.load(Ordering::Relaxed))).filter(|at| *at < NEVER)
    }

    /// Moves the end of the connection, as a renewed token allows.
    pub fn set_expires_at(&self, at: Option<f64>) {
        self.expires_at
            .store(at.unwrap_or(NEVER).to_bits(), Ordering::Relaxed);
    }

    /// The claims of the connection's newest token as one compact JSON object; none where there is no token.
    #[must_use]
    pub fn claims(&self) -> Option<Arc<str>> {
        self.claims.lock().clone()
    }

    /// Changes with every change of the claims: cheaper to look at than they are.
    #[must_use]
    pub fn claims_version(&self) -> u64 {
        self.claims_version.load(Ordering::Acquire)
    }

    /// Replaces the claims by those of a renewed token.
    pub fn set_claims(&self, claims: Option<Arc<str>>) {
        *self.claims.lock() = claims;
        self.claims_version.fetch_add(1, Ordering::Release);
    }

    /// A header of the upgrade request, if a stage of the generation at connect wanted it and the client sent it.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// The pushes that wait for the connection.
    #[must_use]
    pub fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// State of the connection that outlives a reload: the one value of its type, made at the first call.
    pub fn keep<T: Any + Send + Sync>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.kept.keep(make)
    }

    /// The same for each name, as [`Kept::keep_for`] says.
    pub fn keep_for<T: Any + Send + Sync>(
        &self,
        name: Option<&Arc<str>>,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        self.kept.keep_for(name, make)
    }

    /// A session without a connection behind it.
    #[cfg(test)]
    pub(crate) fn for_tests(user_id: &str, subjects: &[&str]) -> Arc<Self> {
        Arc::new(Self::new(
            Identity {
                user_id: user_id.into(),
                subjects: subjects.iter().map(|s| (*s).into()).collect(),
                expires_at: None,
            },
            None,
            TraceContext::default(),
        ))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.id)
            .field("user_id", &self.user_id)
            .finish_non_exhaustive()
    }
}

fn identity_json(id: Uuid, identity: &Identity, connected_at: u64) -> Box<str> {
    let mut out = Vec::with_capacity(160);
    out.extend_from_slice(b"\"connection_id\":\"");
    out.extend_from_slice(
        id.hyphenated()
            .encode_lower(&mut Uuid::encode_buffer())
            .as_bytes(),
    );
    out.extend_from_slice(b"\",\"user_id\":");
    write_string(&mut out, &identity.user_id);
    out.extend_from_slice(b",\"subjects\":");
    write_json(&mut out, &identity.subjects);
    out.extend_from_slice(b",\"connected_at\":");
    write_json(&mut out, &connected_at);
    String::from_utf8(out).unwrap_or_default().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_one_value_of_a_type() {
        let session = Session::for_tests("1", &[]);
        let first = session.keep(|| AtomicU64::new(7));
        let again = session.keep(|| AtomicU64::new(8));
        assert!(Arc::ptr_eq(&first, &again));
        assert_eq!(session.keep(|| 3_u8), Arc::new(3));
    }

    #[test]
    fn a_number_is_spent_only_by_advancing() {
        let session = Session::for_tests("1", &[]);
        assert_eq!((session.next_seq(), session.next_seq()), (1, 1));
        session.advance_seq();
        assert_eq!(session.next_seq(), 2);
    }
}
