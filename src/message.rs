//! Messages: what passes the stages, from a client or about its connection.
//!
//! A message is classified once, when it is read: is it a JSON object, and where in its text do the fields stand
//! that the compiled stages ask for. No DOM is built; the payload stays opaque.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::event::EventKind;

/// Nesting beyond which text is not taken for a JSON object (RFC 8259 section 9 lets a parser set a limit).
///
/// The event wraps the message once more, and parsers of backends commonly stop at 128.
pub const MAX_DEPTH: usize = 120;

/// One message on its way through the stages, with what they found out about it.
#[derive(Debug, Clone)]
pub struct Message {
    /// What was sent, or what happened.
    pub body: Body,
    /// Set by `ordering_key`.
    pub ordering: Option<Ordering>,
    /// Set by `trace`.
    pub trace: TraceContext,
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
}

impl Message {
    /// Classifies a text message and finds the wanted fields in it.
    #[must_use]
    pub fn text(text: impl Into<Utf8Bytes>, wanted: &FieldSet) -> Self {
        let text = text.into();
        let found = classify(&text, wanted);
        Self {
            body: Body::Text {
                object: found.is_some(),
                text,
            },
            fields: found.unwrap_or_default(),
            ordering: None,
            trace: TraceContext::default(),
        }
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
        Self {
            body,
            fields: Fields::default(),
            ordering: None,
            trace: TraceContext::default(),
        }
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
        scalar(self.raw(self.fields.meta[field.0])?)
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
    (!value.trim().is_empty()).then_some(value)
}

fn decode_string(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// How many different fields the stages of one pipeline may ask for.
const MAX_FIELDS: usize = 8;

/// The field `type`, which every pipeline knows.
pub const TYPE: FieldId = FieldId(0);

/// Names one field of a [`FieldSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldId(usize);

/// The fields that the stages of one pipeline ask for, looked for at the top level and in `meta`.
#[derive(Debug, Clone)]
pub struct FieldSet {
    names: Vec<Box<str>>,
}

impl Default for FieldSet {
    fn default() -> Self {
        Self {
            names: vec!["type".into()],
        }
    }
}

/// A pipeline asks for more fields than a message keeps places for.
#[derive(Debug, thiserror::Error)]
#[error(
    "the stages ask for more than {MAX_FIELDS} different message fields; `{name}` is one too many"
)]
pub struct TooManyFields {
    name: String,
}

impl FieldSet {
    /// Asks for a field; asking twice gives the same id.
    ///
    /// # Errors
    /// When the pipeline already asks for as many fields as a message keeps places for.
    pub fn want(&mut self, name: &str) -> Result<FieldId, TooManyFields> {
        if let Some(index) = self.find(name) {
            return Ok(FieldId(index));
        }
        if self.names.len() == MAX_FIELDS {
            return Err(TooManyFields { name: name.into() });
        }
        self.names.push(name.into());
        Ok(FieldId(self.names.len() - 1))
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| **known == *name)
    }
}

/// A range of the text; empty: the field is absent.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    start: u32,
    end: u32,
}

#[derive(Debug, Clone, Default)]
struct Fields {
    top: [Span; MAX_FIELDS],
    meta: [Span; MAX_FIELDS],
}

/// Finds the wanted fields, or nothing when the text is not a JSON object that any backend can parse.
fn classify(text: &str, wanted: &FieldSet) -> Option<Fields> {
    let first = text.bytes().find(|b| !b.is_ascii_whitespace())?;
    if first != b'{' || too_deep(text.as_bytes()) || u32::try_from(text.len()).is_err() {
        return None;
    }
    // A lone surrogate is valid by JSON's grammar but no Unicode text (RFC 8259 section 8.2), and PHP refuses
    // it. Only a full parse tells; texts with such escapes are rare.
    if has_surrogate_escape(text.as_bytes())
        && serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text).is_err()
    {
        return None;
    }
    let mut fields = Fields::default();
    let mut meta = None;
    let mut parser = serde_json::Deserializer::from_str(text);
    parser
        .deserialize_map(Collect {
            text,
            wanted,
            spans: &mut fields.top,
            meta: Some(&mut meta),
        })
        .ok()?;
    parser.end().ok()?;
    if let Some(raw) = meta.filter(|raw: &&RawValue| raw.get().starts_with('{')) {
        serde_json::Deserializer::from_str(raw.get())
            .deserialize_map(Collect {
                text,
                wanted,
                spans: &mut fields.meta,
                meta: None,
            })
            .ok()?;
    }
    Some(fields)
}

fn has_surrogate_escape(text: &[u8]) -> bool {
    memchr::memmem::find_iter(text, b"\\u").any(|at| matches!(text.get(at + 2), Some(b'd' | b'D')))
}

fn too_deep(text: &[u8]) -> bool {
    // Most texts cannot be too deep for want of brackets; counting them is a vectorised loop.
    if text.iter().filter(|b| matches!(b, b'{' | b'[')).count() <= MAX_DEPTH {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for &byte in text {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// Notes where the wanted keys' values stand in the text; of a repeated key the last counts.
struct Collect<'a, 'de> {
    text: &'de str,
    wanted: &'a FieldSet,
    spans: &'a mut [Span; MAX_FIELDS],
    meta: Option<&'a mut Option<&'de RawValue>>,
}

impl<'de> Visitor<'de> for Collect<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key(self.wanted))? {
            match key {
                Known::Field(index) => {
                    let raw: &RawValue = map.next_value()?;
                    self.spans[index] = span_of(self.text, raw.get());
                }
                Known::Meta => match &mut self.meta {
                    Some(meta) => **meta = Some(map.next_value()?),
                    None => drop(map.next_value::<IgnoredAny>()?),
                },
                Known::Nothing => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// `part` borrows from `text`, so the difference of their addresses is its offset.
fn span_of(text: &str, part: &str) -> Span {
    let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    match (u32::try_from(start), u32::try_from(start + part.len())) {
        (Ok(start), Ok(end)) => Span { start, end },
        _ => Span::default(),
    }
}

enum Known {
    Field(usize),
    Meta,
    Nothing,
}

struct Key<'a>(&'a FieldSet);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Known;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Known, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Known, E> {
        Ok(match self.0.find(key) {
            Some(index) => Known::Field(index),
            None if key == "meta" => Known::Meta,
            None => Known::Nothing,
        })
    }
}

#[cfg(test)]
mod tests {
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
