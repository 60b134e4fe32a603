//! Messages: what passes the stages, from a client or about its connection.
//!
//! A message is classified once, when it is read: is it a JSON object, and where in its text do the fields stand
//! that the compiled stages ask for. No DOM is built; the payload stays opaque.

use std::borrow::Cow;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::event::EventKind;
use crate::telemetry::traces::SpanContext;

mod extra;
mod fields;
mod id;

pub use extra::Extra;
pub use fields::{FieldId, FieldSet, MAX_DEPTH, TYPE, TooManyFields};
use fields::{Fields, Span, classify};
pub use id::{ID_FIELD, MAX_ID_BYTES, MessageId};

/// One message on its way through the stages.
///
/// One pointer, since each stage hands it to the next by value: copying what it has took a tenth of the whole way.
#[derive(Debug, Clone)]
pub struct Message(Box<Parts>);

impl Deref for Message {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl DerefMut for Message {
    fn deref_mut(&mut self) -> &mut Parts {
        &mut self.0
    }
}

/// What a message has: what was sent, and what the stages found out about it.
#[derive(Debug, Clone)]
pub struct Parts {
    /// What was sent, or what happened.
    pub body: Body,
    /// Set by `ordering_key`.
    pub ordering: Option<Ordering>,
    /// Set by `trace`.
    pub trace: TraceContext,
    /// Who is told what becomes of it; set by `dedupe`.
    pub follower: Option<Arc<dyn Follower>>,
    /// Fields that the event has beside its own; set by `set`.
    pub extra: Option<Arc<Extra>>,
    fields: Fields,
}

/// What was sent, or what happened to the connection.
#[derive(Debug, Clone)]
pub enum Body {
    /// The connection was admitted.
    Connected,
    /// The connection ended.
    Disconnected {
        /// Close code (RFC 6455 section 7.4), 1005 for none, 1006 for a lost connection.
        code: u16,
        /// The peer's reason, or empty.
        reason: Box<str>,
    },
    /// A text message.
    Text {
        /// The text as the client sent it.
        text: Utf8Bytes,
        /// Whether it is a JSON object.
        object: bool,
    },
    /// A binary message.
    Binary(Bytes),
}

impl Body {
    /// Bytes that the client sent.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::Binary(bytes) => bytes.len(),
            Self::Connected | Self::Disconnected { .. } => 0,
        }
    }

    /// Whether the client sent nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The key within which a message keeps its order, and the strategy that found it.
#[derive(Debug, Clone)]
pub struct Ordering {
    /// The key as found.
    pub key: Arc<str>,
    /// The strategy's name.
    pub strategy: &'static str,
}

/// Trace context of a message.
#[derive(Debug, Clone, Default)]
pub struct TraceContext {
    /// W3C `traceparent`.
    pub traceparent: Option<Arc<str>>,
    /// Trace id.
    pub trace_id: Option<Arc<str>>,
    /// The gateway's own span that further ones belong to; only where the trace is recorded.
    pub span: Option<SpanContext>,
}

/// Is told once what became of a message after it left the stages; dropped untold, it went no further.
pub trait Follower: Send + Sync {
    /// The sinks that had to confirm the message did, or finally did not.
    fn settled(&self, confirmed: bool);
}

impl std::fmt::Debug for dyn Follower {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Follower")
    }
}

impl Message {
    /// Classifies a text message and finds the wanted fields in it.
    #[must_use]
    pub fn text(text: impl Into<Utf8Bytes>, wanted: &FieldSet) -> Self {
        let text = text.into();
        let found = classify(&text, wanted);
        let body = Body::Text {
            object: found.is_some(),
            text,
        };
        Self::new(body, found.unwrap_or_default())
    }

    /// Makes a message of a binary frame.
    #[must_use]
    pub fn binary(bytes: &[u8]) -> Self {
        Self::bare(Body::Binary(Bytes::copy_from_slice(bytes)))
    }

    /// Makes the message that announces a connection.
    #[must_use]
    pub fn connected() -> Self {
        Self::bare(Body::Connected)
    }

    /// Makes the message that announces a connection's end.
    #[must_use]
    pub fn disconnected(code: u16, reason: &str) -> Self {
        Self::bare(Body::Disconnected {
            code,
            reason: reason.into(),
        })
    }

    fn bare(body: Body) -> Self {
        Self::new(body, Fields::default())
    }

    fn new(body: Body, fields: Fields) -> Self {
        Self(Box::new(Parts {
            body,
            fields,
            ordering: None,
            trace: TraceContext::default(),
            follower: None,
            extra: None,
        }))
    }

    /// The kind of event that the message becomes.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self.body {
            Body::Connected => EventKind::Connected,
            Body::Disconnected { .. } => EventKind::Disconnected,
            Body::Text { .. } | Body::Binary(_) => EventKind::MessageReceived,
        }
    }

    /// The message's own `type`, `raw` or `binary` for what is no JSON object; none without a string `type`.
    #[must_use]
    pub fn type_name(&self) -> Option<Cow<'_, str>> {
        match &self.body {
            Body::Text { object: true, .. } => match self.raw(self.fields.top[TYPE.0])? {
                raw if raw.starts_with('"') => decode_string(raw),
                _ => None,
            },
            Body::Text { object: false, .. } => Some(Cow::Borrowed("raw")),
            Body::Binary(_) => Some(Cow::Borrowed("binary")),
            Body::Connected | Body::Disconnected { .. } => None,
        }
    }

    /// A top-level field's string, or a number's text as written; anything else and blanks count as absent.
    #[must_use]
    pub fn scalar(&self, field: FieldId) -> Option<Cow<'_, str>> {
        scalar(self.raw(self.fields.top[field.0])?)
    }

    /// The same for a field of the object `meta`.
    #[must_use]
    pub fn meta_scalar(&self, field: FieldId) -> Option<Cow<'_, str>> {
        scalar(self.raw(self.fields.meta.as_ref()?[field.0])?)
    }

    /// A field's JSON as written, at the top level and in the object `meta`.
    #[must_use]
    pub fn json_of(&self, field: FieldId) -> (Option<&str>, Option<&str>) {
        let meta = self.fields.meta.as_ref().map(|meta| meta[field.0]);
        (
            self.raw(self.fields.top[field.0]),
            meta.and_then(|span| self.raw(span)),
        )
    }

    /// The first element of a top-level array, read as [`Message::scalar`] reads a value.
    #[must_use]
    pub fn first_of(&self, field: FieldId) -> Option<Cow<'_, str>> {
        let raw = self.raw(self.fields.top[field.0])?;
        let list: Vec<&RawValue> = serde_json::from_str(raw).ok()?;
        scalar(list.first()?.get())
    }

    fn raw(&self, span: Span) -> Option<&str> {
        match &self.body {
            Body::Text { text, .. } => text.as_str().get(span.start as usize..span.end as usize),
            _ => None,
        }
        .filter(|raw| !raw.is_empty())
    }
}

fn scalar(raw: &str) -> Option<Cow<'_, str>> {
    let value = match raw.as_bytes().first()? {
        b'"' => decode_string(raw)?,
        b'-' | b'0'..=b'9' => Cow::Borrowed(raw),
        _ => return None,
    };
    let blank = value.chars().all(char::is_whitespace);
    (!blank).then_some(value)
}

/// A JSON string's text; nothing for one that is no Unicode.
pub(crate) fn decode_string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    // Nearly all are short, for which calling `memchr` takes longer than looking.
    if !inner.as_bytes().contains(&b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::fields::MAX_FIELDS;
    use super::*;
    use proptest::prelude::*;

    fn object(text: &str) -> bool {
        matches!(
            Message::text(text, &FieldSet::default()).body,
            Body::Text { object: true, .. }
        )
    }

    #[test]
    fn finds_fields_at_the_top_and_in_meta() {
        let mut wanted = FieldSet::default();
        let topic = wanted.want("topic").unwrap();
        let n = wanted.want("n").unwrap();
        let text = r#" {"a":[{"topic":"no"}],"n":1.50,"meta":{"topic":"r\u006fom","meta":{"n":2}},"type":"chat"} "#;
        let message = Message::text(text, &wanted);
        assert_eq!(message.type_name().as_deref(), Some("chat"));
        assert_eq!(message.scalar(topic), None);
        assert_eq!(message.meta_scalar(topic).as_deref(), Some("room"));
        assert_eq!(message.scalar(n).as_deref(), Some("1.50"));
        assert_eq!(message.meta_scalar(n), None);
    }

    #[test]
    fn of_a_repeated_key_the_last_counts() {
        let message = Message::text(
            r#"{"type":"ping","t\u0079pe":"chat"}"#,
            &FieldSet::default(),
        );
        assert_eq!(message.type_name().as_deref(), Some("chat"));
    }

    #[test]
    fn blanks_and_other_types_count_as_absent() {
        let mut wanted = FieldSet::default();
        let topic = wanted.want("topic").unwrap();
        for value in ["\"  \"", "\"\"", "true", "null", "[1]", "{}"] {
            let message = Message::text(format!("{{\"topic\":{value}}}"), &wanted);
            assert_eq!(message.scalar(topic), None, "{value}");
        }
    }

    #[test]
    fn depth_is_limited_and_brackets_in_strings_do_not_count() {
        let nested = |n: usize| format!("{{\"a\":{}1{}}}", "[".repeat(n), "]".repeat(n));
        assert!(object(&nested(MAX_DEPTH - 1)));
        assert!(!object(&nested(MAX_DEPTH)));
        assert!(!object(&nested(30_000)));
        assert!(object(&format!("{{\"a\":\"{}\\\"[\"}}", "[".repeat(1000))));
    }

    #[test]
    fn only_whole_objects_of_unicode_text_count() {
        assert!(object("{}") && object(" {\"a\":\"\\ud83d\\ude00\"}\n"));
        for text in [
            "",
            "  ",
            "[]",
            "{} x",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":01}",
        ] {
            assert!(!object(text), "{text}");
        }
    }

    #[test]
    fn a_pipeline_may_not_ask_for_endless_fields() {
        let mut wanted = FieldSet::default();
        for i in 1..MAX_FIELDS {
            wanted.want(&format!("f{i}")).unwrap();
        }
        assert!(wanted.want("f1").is_ok());
        assert!(wanted.want("another").is_err());
    }

    proptest! {
        #[test]
        fn agrees_with_a_full_parse(text in ".{0,200}") {
            let full = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok();
            prop_assert_eq!(object(&text), full);
        }

        #[test]
        fn agrees_on_texts_that_look_like_json(text in r#"[{}\[\]":,0-9a-z\\u ]{0,60}"#) {
            let full = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok();
            prop_assert_eq!(object(&text), full);
        }
    }
}
