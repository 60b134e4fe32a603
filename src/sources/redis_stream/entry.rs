//! Entries of the stream, as `XREAD` gives them, and the push that each holds.
//!
//! Stands between the connection and the source. Written by hand, because one entry that nobody expects must not make
//! those beside it unreadable.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use redis::Value;
use serde::Deserialize;

use crate::push::{Push, PushError};

/// The id of an entry: a time in milliseconds, and a number within it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct EntryId {
    ms: u64,
    number: u64,
}

impl EntryId {
    /// Before the first entry of any stream.
    pub(super) const START: Self = Self { ms: 0, number: 0 };
}

impl FromStr for EntryId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (ms, number) = text.split_once('-').ok_or(())?;
        match (ms.parse(), number.parse()) {
            (Ok(ms), Ok(number)) => Ok(Self { ms, number }),
            _ => Err(()),
        }
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// An entry of the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// Why an entry holds no push; never holds a part of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    /// It has no field that a push could be in.
    #[error("the entry has neither a field `data` nor a field `message`")]
    NoField,
    /// The field `message` is not as Symfony Messenger writes it.
    #[error("`message` is not an object of JSON with a text `body`")]
    NoEnvelope,
    /// What is there is no push.
    #[error(transparent)]
    Push(#[from] PushError),
}

/// What Symfony Messenger's Redis transport writes.
#[derive(Deserialize)]
struct Envelope {
    body: String,
}

impl Entry {
    /// The push: in the field `data`, or in `message` as Symfony Messenger writes it.
    pub(super) fn push(&self) -> Result<Push, EntryError> {
        if let Some(data) = self.field(b"data") {
            return Ok(Push::parse(data)?);
        }
        let message = self.field(b"message").ok_or(EntryError::NoField)?;
        let envelope: Envelope =
            serde_json::from_slice(message).map_err(|_| EntryError::NoEnvelope)?;
        Ok(Push::parse(envelope.body.as_bytes())?)
    }

    /// The text for a dead letter: that of the push's field, or all fields as an object.
    pub(super) fn raw(&self) -> Bytes {
        if let Some(text) = self.field(b"data").or_else(|| self.field(b"message")) {
            return Bytes::copy_from_slice(text);
        }
        let fields: serde_json::Map<String, serde_json::Value> = self
            .fields
            .iter()
            .map(|(name, value)| {
                let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                (text(name), text(value).into())
            })
            .collect();
        serde_json::Value::Object(fields).to_string().into()
    }

    fn field(&self, name: &[u8]) -> Option<&[u8]> {
        let (_, value) = self.fields.iter().find(|(field, _)| field == name)?;
        Some(value)
    }
}

/// The entries in what `XREAD` of one stream answered; nothing if the answer has an unknown shape.
pub(super) fn entries(answer: Value) -> Option<Vec<Entry>> {
    let stream = match answer {
        Value::Nil => return Some(Vec::new()),
        // RESP3 and RESP2.
        Value::Map(streams) => streams.into_iter().next()?.1,
        Value::Array(streams) => match streams.into_iter().next()? {
            Value::Array(stream) => stream.into_iter().nth(1)?,
            _ => return None,
        },
        _ => return None,
    };
    list(stream)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Option<Entry> {
    let mut parts = list(value)?.into_iter();
    let id = String::from_utf8(bytes(parts.next()?)?).ok()?;
    let mut texts = list(parts.next()?)?.into_iter();
    let mut fields = Vec::with_capacity(texts.len() / 2);
    while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Some(Entry {
        id: id.parse().ok()?,
        fields,
    })
}

/// The stream as `XINFO STREAM` tells of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct StreamState {
    /// The newest id it ever had.
    pub(super) last: EntryId,
    /// Its oldest entry.
    pub(super) first: Option<EntryId>,
    /// Entries that it has.
    pub(super) length: u64,
    /// Entries that it ever had; Redis 7 counts them.
    pub(super) added: Option<u64>,
}

impl StreamState {
    /// Reads the answer; nothing if it has an unknown shape.
    pub(super) fn read(answer: Value) -> Option<Self> {
        let pairs = match answer {
            Value::Map(pairs) => pairs,
            Value::Array(flat) => {
                let mut flat = flat.into_iter();
                let mut pairs = Vec::new();
                while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                    pairs.push((name, value));
                }
                pairs
            }
            _ => return None,
        };
        let (mut last, mut first, mut length, mut added) = (None, None, 0, None);
        let number = |value: &Value| match value {
            Value::Int(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        for (name, value) in pairs {
            match &bytes(name)?[..] {
                b"last-generated-id" => {
                    last = String::from_utf8(bytes(value)?).ok()?.parse().ok();
                }
                b"length" => length = number(&value)?,
                b"entries-added" => added = number(&value),
                b"first-entry" if value != Value::Nil => first = Some(entry(value)?.id),
                _ => {}
            }
        }
        last.map(|last| Self {
            last,
            first,
            length,
            added,
        })
    }
}

fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(list) => Some(list),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry_of(fields: &[(&str, &str)]) -> Entry {
        let bytes = |text: &&str| text.as_bytes().to_vec();
        Entry {
            id: EntryId::START,
            fields: fields.iter().map(|(n, v)| (bytes(n), bytes(v))).collect(),
        }
    }

    #[test]
    fn ids_are_ordered_by_number_and_not_by_text() {
        let ids = ["9-10", "10-2", "10-10", "1700000000000-0"];
        let parsed: Vec<EntryId> = ids.iter().map(|id| id.parse().unwrap()).collect();
        assert!(parsed.is_sorted(), "{parsed:?}");
        assert!(
            parsed
                .iter()
                .zip(ids)
                .all(|(id, text)| id.to_string() == text)
        );
        for text in ["", "1", "-", "a-1", "1-b", "1-2-3"] {
            assert!(text.parse::<EntryId>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_push_is_in_data_or_in_the_body_of_a_messenger_message() {
        let push = r#"{"subjects":["a"],"payload":{"n":1.10}}"#;
        let envelope = serde_json::json!({"body": push, "headers": {"type": "x"}}).to_string();
        for fields in [
            &[("data", push)][..],
            &[("other", "x"), ("data", push), ("message", "{")],
            &[("message", &envelope)],
        ] {
            let push = entry_of(fields).push().unwrap();
            assert_eq!(push.payload.get(), r#"{"n":1.10}"#);
        }
    }

    #[test]
    fn what_is_no_push_is_kept_as_it_was_written() {
        let cases = [
            (vec![("data", "{")], "the JSON ends early", "{"),
            (vec![("message", "7")], "`message` is not", "7"),
            (
                vec![("message", r#"{"body":{}}"#)],
                "`message` is not",
                r#"{"body":{}}"#,
            ),
            (
                vec![("message", r#"{"body":"[]"}"#)],
                "not a push",
                r#"{"body":"[]"}"#,
            ),
            (
                vec![("x", "1"), ("y", "2")],
                "neither",
                r#"{"x":"1","y":"2"}"#,
            ),
        ];
        for (fields, reason, raw) in cases {
            let entry = entry_of(&fields);
            let error = entry.push().unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
            assert_eq!(entry.raw(), raw);
        }
    }

    #[test]
    fn both_protocols_and_bytes_that_are_no_text_are_read() {
        let text = |text: &[u8]| Value::BulkString(text.to_vec());
        let stream = Value::Array(vec![Value::Array(vec![
            text(b"5-1"),
            Value::Array(vec![text(b"\xff"), text(b"\xfe")]),
        ])]);
        let resp2 = Value::Array(vec![Value::Array(vec![text(b"s"), stream.clone()])]);
        let resp3 = Value::Map(vec![(text(b"s"), stream)]);
        for answer in [resp2, resp3] {
            let entries = entries(answer).unwrap();
            assert_eq!(entries[0].id, "5-1".parse().unwrap());
            assert_eq!(entries[0].push().unwrap_err(), EntryError::NoField);
            assert_eq!(entries[0].raw(), "{\"\u{fffd}\":\"\u{fffd}\"}");
        }
        assert_eq!(entries(Value::Nil), Some(Vec::new()));
        assert_eq!(entries(Value::Okay), None);
    }
}
