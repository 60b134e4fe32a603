//! Events: what the gateway tells the backend, serialised once for all sinks.
//!
//! Stands between the `fan_out` stage, which makes events, and the sinks, which deliver them. The JSON shape is
//! written down in `schemas/event.schema.json`.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};
use uuid::Uuid;

use crate::clock::unix_nanos;
use crate::close::code;
use crate::message::{Body, Message};
use crate::session::Session;
use crate::sinks::EventSpan;

/// The members of events that have a fixed name; the trace id's own is configured.
pub const MEMBERS: [&str; 14] = [
    "type",
    "connection_id",
    "user_id",
    "subjects",
    "connected_at",
    "close_code",
    "reason",
    "message",
    "raw",
    "traceparent",
    "ordering_key",
    "ordering_strategy",
    "event_id",
    "seq",
];

/// The `seq` of an event that comes after all others of its connection, however many there were: the largest
/// integer that every JSON reader keeps exactly (RFC 8259 section 6).
pub const LAST_SEQ: u64 = (1 << 53) - 1;

/// The reason of a `disconnected` that another gateway tells, since the connection's own is lost.
pub const NODE_LOST: &str = "node_lost";

/// What happened to a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The connection was admitted.
    Connected,
    /// The connection ended.
    Disconnected,
    /// The client sent a message.
    MessageReceived,
}

impl EventKind {
    /// The kind as the event's `type` names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::MessageReceived => "message_received",
        }
    }

    /// The kind that an event's `type` names.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Connected, Self::Disconnected, Self::MessageReceived]
            .into_iter()
            .find(|kind| kind.as_str() == name)
    }
}

/// One event: the facts that delivery needs, and its JSON.
#[derive(Debug)]
pub struct Event {
    /// Unique and time-ordered (`UUIDv7`, RFC 9562); the same on every retry and in every sink.
    pub id: Uuid,
    /// What happened.
    pub kind: EventKind,
    /// The connection it happened to.
    pub connection_id: Uuid,
    /// Whose connection it is.
    pub user_id: Arc<str>,
    /// Place within the connection, from 1.
    pub seq: u64,
    /// Key within which order holds across connections; absent: order holds per connection.
    pub ordering_key: Option<Arc<str>>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// Trace id, as the client named it or as `traceparent` has it.
    pub trace_id: Option<Arc<str>>,
    /// What its sinks need for their spans, where its trace is recorded.
    pub span: Option<EventSpan>,
    /// Whether it was delivered before and is sent again because someone asked for it.
    pub replayed: bool,
    /// The lost gateway whose connection it is, where another gateway tells of it; see [`crate::leases`].
    pub spoken_for: Option<Arc<str>>,
    /// Who is to be told what becomes of the event, once for each sink that took it.
    pub receipt: Option<Arc<dyn Receipt>>,
    /// The event as UTF-8 JSON on one line.
    pub json: Bytes,
}

/// Told what became of an event, exactly once for each sink that took it, on a task of that sink's delivery.
///
/// Whatever it does, it does at once: it holds up the deliveries behind it.
pub trait Receipt: Send + Sync {
    /// The sink confirmed the event.
    fn delivered(&self, sink: &'static str);

    /// The sink never will: the event became a dead letter, or was lost or dropped; the reason holds no secret.
    fn failed(&self, sink: &'static str, reason: &str);
}

impl std::fmt::Debug for dyn Receipt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Receipt")
    }
}

impl Event {
    /// Makes the event of a message under the connection's next `seq`, and serialises it.
    ///
    /// The number is only spent by [`Session::advance_seq`], so that an event that finds no room leaves no gap.
    #[must_use]
    pub fn new(session: &Session, message: &Message, trace_id_field: &str) -> Self {
        let id = new_id();
        let seq = session.next_seq();
        let kind = message.kind();
        let json = write_once(|out| encode(out, session, message, trace_id_field, id, seq));
        Self {
            id,
            kind,
            connection_id: session.id(),
            user_id: Arc::clone(session.user_id()),
            seq,
            ordering_key: message.ordering.as_ref().map(|o| Arc::clone(&o.key)),
            traceparent: message.trace.traceparent.clone(),
            trace_id: message.trace.trace_id.clone(),
            span: None,
            replayed: false,
            spoken_for: None,
            receipt: None,
            json,
        }
    }
}

/// A new `UUIDv7`. The twelve bits below its milliseconds are 4096ths of one (RFC 9562 section 6.2, method 3), so that the
/// ids of a connection rise.
///
/// `Uuid::now_v7` counts instead, behind a lock that all threads share, and takes several times as long.
fn new_id() -> Uuid {
    let now = unix_nanos();
    let (millis, nanos) = (now / 1_000_000, now % 1_000_000);
    let fraction = (nanos * 4096 / 1_000_000).to_be_bytes();
    let mut rest = [0; 10];
    rest[..2].copy_from_slice(&fraction[6..]);
    rest[2..].copy_from_slice(&rand::random::<[u8; 8]>());
    uuid::Builder::from_unix_timestamp_millis(millis, &rest).into_uuid()
}

/// A connection whose gateway is lost, as far as `disconnected` needs to know it.
#[derive(Debug, Clone, Copy)]
pub struct Orphan<'a> {
    /// The connection's id.
    pub connection_id: Uuid,
    /// Its user's id.
    pub user_id: &'a str,
    /// As [`Session::identity_json`].
    pub identity_json: &'a str,
    /// The lost gateway.
    pub gateway: &'a Arc<str>,
    /// Unix milliseconds at which that gateway's lease ended.
    pub expired_at: u64,
}

impl Event {
    /// Makes the `disconnected` of a connection whose gateway is lost.
    ///
    /// Whoever makes it gives it the same id. Nobody knows how many events the lost gateway sent, so its `seq` is
    /// [`LAST_SEQ`], which sorts after all others.
    #[must_use]
    pub fn node_lost(orphan: &Orphan<'_>) -> Self {
        let id = orphan.event_id();
        let kind = EventKind::Disconnected;
        let body = Body::Disconnected {
            code: code::LOST,
            reason: NODE_LOST.into(),
        };
        let json = write_once(|out| {
            open(out, kind, orphan.identity_json);
            write_body(out, &body);
            close(out, id, LAST_SEQ);
        });
        Self {
            id,
            kind,
            connection_id: orphan.connection_id,
            user_id: orphan.user_id.into(),
            seq: LAST_SEQ,
            ordering_key: None,
            traceparent: None,
            trace_id: None,
            span: None,
            replayed: false,
            spoken_for: Some(Arc::clone(orphan.gateway)),
            receipt: None,
            json,
        }
    }
}

impl Orphan<'_> {
    /// A `UUIDv7` of the time at which the lease ended; the rest comes from the connection's id, for want of chance.
    fn event_id(&self) -> Uuid {
        let digest = Sha1::new()
            .chain_update(b"disconnected ")
            .chain_update(self.connection_id.as_bytes())
            .finalize();
        let mut rest = [0; 10];
        rest.copy_from_slice(&digest[..10]);
        uuid::Builder::from_unix_timestamp_millis(self.expired_at, &rest).into_uuid()
    }
}

/// Bytes of memory that a thread keeps for writing events: more than nearly all of them need.
const KEPT: usize = 64 * 1024;

/// Has an event written to memory that the thread keeps, and copies it from there.
///
/// How long an event gets is known when it is written. So it takes one allocation of just that size, however many
/// characters are escaped, and a buffer full of events holds no room that none of them uses.
fn write_once(write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    thread_local! {
        static WRITTEN: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    }
    WRITTEN.with_borrow_mut(|out| {
        out.clear();
        write(out);
        let json = Bytes::copy_from_slice(out);
        if out.capacity() > KEPT {
            out.clear();
            out.shrink_to(KEPT);
        }
        json
    })
}

fn encode(
    out: &mut Vec<u8>,
    session: &Session,
    message: &Message,
    trace_id_field: &str,
    id: Uuid,
    seq: u64,
) {
    open(out, message.kind(), session.identity_json());
    write_body(out, &message.body);
    write_annotations(out, message, trace_id_field);
    if let Some(extra) = &message.extra {
        out.extend_from_slice(extra.members().as_bytes());
    }
    close(out, id, seq);
}

/// Begins an event's JSON: its type and whose connection it is.
fn open(out: &mut Vec<u8>, kind: EventKind, identity_json: &str) {
    out.extend_from_slice(b"{\"type\":\"");
    out.extend_from_slice(kind.as_str().as_bytes());
    out.extend_from_slice(b"\",");
    out.extend_from_slice(identity_json.as_bytes());
}

/// Ends an event's JSON.
fn close(out: &mut Vec<u8>, id: Uuid, seq: u64) {
    out.extend_from_slice(b",\"event_id\":\"");
    let mut buffer = Uuid::encode_buffer();
    out.extend_from_slice(id.hyphenated().encode_lower(&mut buffer).as_bytes());
    out.extend_from_slice(b"\",\"seq\":");
    write_json(out, &seq);
    out.push(b'}');
}

/// Appends the members that say what happened.
fn write_body(out: &mut Vec<u8>, body: &Body) {
    match body {
        Body::Connected => {}
        Body::Disconnected { code, reason } => {
            out.extend_from_slice(b",\"close_code\":");
            write_json(out, code);
            out.extend_from_slice(b",\"reason\":");
            write_string(out, reason);
        }
        Body::Text { text, object: true } => {
            out.extend_from_slice(b",\"message\":");
            write_on_one_line(out, text.as_bytes());
            out.extend_from_slice(b",\"raw\":");
            write_string(out, text);
        }
        Body::Text {
            text,
            object: false,
        } => {
            out.extend_from_slice(b",\"message\":{\"type\":\"raw\",\"payload\":");
            write_string(out, text);
            out.extend_from_slice(b"},\"raw\":");
            write_string(out, text);
        }
        Body::Binary(bytes) => {
            out.extend_from_slice(
                b",\"message\":{\"type\":\"binary\",\"encoding\":\"base64\",\"payload\":\"",
            );
            write_base64(out, bytes);
            out.extend_from_slice(b"\"}");
        }
    }
}

/// Appends the members that stages found: trace context and ordering key.
fn write_annotations(out: &mut Vec<u8>, message: &Message, trace_id_field: &str) {
    if let Some(traceparent) = &message.trace.traceparent {
        out.extend_from_slice(b",\"traceparent\":");
        write_string(out, traceparent);
    }
    if let Some(trace_id) = &message.trace.trace_id {
        out.push(b',');
        write_string(out, trace_id_field);
        out.push(b':');
        write_string(out, trace_id);
    }
    if let Some(ordering) = &message.ordering {
        out.extend_from_slice(b",\"ordering_key\":");
        write_string(out, &ordering.key);
        out.extend_from_slice(b",\"ordering_strategy\":\"");
        out.extend_from_slice(ordering.strategy.as_bytes());
        out.push(b'"');
    }
}

/// Appends a value as JSON.
///
/// Writing strings and integers to memory cannot fail, so the result carries nothing.
pub(crate) fn write_json<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) {
    let written = serde_json::to_writer(out, value);
    debug_assert!(written.is_ok(), "strings and integers always serialise");
}

/// Appends a string as JSON (RFC 8259 section 7), escaping what must be escaped and no more.
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    json_escape_simd::escape_into(text, out);
}

/// Appends valid JSON text with line ends replaced by spaces: inside JSON they can only be white space, and
/// sinks that write one event a line rely on it.
fn write_on_one_line(out: &mut Vec<u8>, json: &[u8]) {
    let start = out.len();
    out.extend_from_slice(json);
    if memchr::memchr2(b'\n', b'\r', json).is_some() {
        for byte in &mut out[start..] {
            if matches!(byte, b'\n' | b'\r') {
                *byte = b' ';
            }
        }
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = STANDARD.encode_slice(bytes, &mut out[start..]);
    debug_assert!(written.is_ok(), "the buffer has the exact size");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FieldSet, Ordering};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn event(message: &Message) -> Value {
        let session = Session::for_tests("42", &["user:42"]);
        let event = Event::new(&session, message, "trace_id");
        assert!(!event.json.contains(&b'\n'), "one event, one line");
        serde_json::from_slice(&event.json).unwrap()
    }

    #[test]
    fn an_object_is_kept_as_written() {
        let text = "{\"n\": 12345678901234567890123,\n \"type\":\"chat\"}";
        let value = event(&Message::text(text, &FieldSet::default()));
        assert_eq!(value["type"], "message_received");
        assert_eq!(value["user_id"], "42");
        assert_eq!(value["subjects"], json!(["user:42"]));
        assert_eq!(value["message"]["type"], "chat");
        assert_eq!(value["raw"], text);
        assert_eq!(value["seq"], 1);
    }

    #[test]
    fn numbers_keep_their_digits() {
        let session = Session::for_tests("42", &[]);
        let message = Message::text("{\"n\":1.10000000000000000000001e5}", &FieldSet::default());
        let event = Event::new(&session, &message, "trace_id");
        let json = std::str::from_utf8(&event.json).unwrap();
        assert!(json.contains("\"message\":{\"n\":1.10000000000000000000001e5}"));
    }

    #[test]
    fn text_that_is_no_object_is_wrapped() {
        for text in [
            "hello",
            "[1,2]",
            "17",
            "\"x\"",
            "null",
            "{\"a\":",
            "",
            "{\"a\":\"\\ud800\"}",
        ] {
            let value = event(&Message::text(text, &FieldSet::default()));
            assert_eq!(
                value["message"],
                json!({"type": "raw", "payload": text}),
                "{text}"
            );
            assert_eq!(value["raw"], text);
        }
    }

    #[test]
    fn binary_becomes_base64_without_raw() {
        let value = event(&Message::binary(&[0, 1, 254, 255]));
        assert_eq!(
            value["message"],
            json!({"type": "binary", "encoding": "base64", "payload": "AAH+/w=="})
        );
        assert!(value.get("raw").is_none());
    }

    #[test]
    fn disconnected_says_code_and_reason() {
        let value = event(&Message::disconnected(1006, ""));
        assert_eq!(value["type"], "disconnected");
        assert_eq!(value["close_code"], 1006);
        assert_eq!(value["reason"], "");
        assert!(value.get("message").is_none() && value.get("raw").is_none());
    }

    #[test]
    fn ids_rise_with_the_time() {
        let before = unix_nanos() / 1_000_000;
        let ids: Vec<_> = std::iter::repeat_with(|| {
            std::thread::sleep(std::time::Duration::from_micros(1));
            new_id()
        })
        .take(1000)
        .collect();
        assert!(ids.is_sorted());
        for id in &ids {
            assert_eq!(
                (id.get_version_num(), id.get_variant()),
                (7, uuid::Variant::RFC4122)
            );
        }
        let (seconds, nanos) = ids[0].get_timestamp().unwrap().to_unix();
        let millis = seconds * 1000 + u64::from(nanos) / 1_000_000;
        assert!((before..before + 10_000).contains(&millis));
        let mut chance: Vec<_> = ids.iter().map(|id| &id.as_bytes()[8..]).collect();
        chance.sort_unstable();
        chance.dedup();
        assert_eq!(chance.len(), ids.len());
    }

    #[test]
    fn who_speaks_for_a_lost_gateway_always_says_the_same() {
        let session = Session::for_tests("42", &["user:42"]);
        let orphan = Orphan {
            connection_id: session.id(),
            user_id: "42",
            identity_json: session.identity_json(),
            gateway: &"a/1".into(),
            expired_at: 1_700_000_000_123,
        };
        let (first, second) = (Event::node_lost(&orphan), Event::node_lost(&orphan));
        assert_eq!(first.json, second.json);
        assert_eq!(first.id.get_version_num(), 7);
        assert!(first.id.to_string().starts_with("018bcfe5-687b-7"));
        let other = Orphan {
            connection_id: Uuid::now_v7(),
            ..orphan
        };
        assert_ne!(Event::node_lost(&other).id, first.id);
        let value: Value = serde_json::from_slice(&first.json).unwrap();
        assert_eq!(
            value,
            json!({
                "type": "disconnected", "connection_id": session.id(), "user_id": "42", "subjects": ["user:42"],
                "connected_at": session.connected_at(), "close_code": 1006, "reason": "node_lost",
                "event_id": first.id, "seq": 9_007_199_254_740_991_u64,
            })
        );
    }

    #[test]
    fn optional_keys_appear_only_when_they_exist() {
        let mut message = Message::text("{}", &FieldSet::default());
        let bare = event(&message);
        for key in [
            "traceparent",
            "trace_id",
            "ordering_key",
            "ordering_strategy",
        ] {
            assert!(bare.get(key).is_none(), "{key}");
        }
        message.ordering = Some(Ordering {
            key: "room:1".into(),
            strategy: "topic",
        });
        message.trace.trace_id = Some("abc".into());
        let full = event(&message);
        assert_eq!(full["ordering_key"], "room:1");
        assert_eq!(full["ordering_strategy"], "topic");
        assert_eq!(full["trace_id"], "abc");
    }

    proptest! {
        #[test]
        fn strings_are_escaped_as_elsewhere(text in r#"(\PC|[\x00-\x1f"\\\x7f\u{2028}]){0,200}"#) {
            let mut written = Vec::new();
            write_string(&mut written, &text);
            prop_assert_eq!(String::from_utf8(written).unwrap(), serde_json::to_string(&text).unwrap());
        }
    }
}
