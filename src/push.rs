//! Pushes as brokers carry them: subjects, a payload that nobody looks into, and trace context.
//!
//! Stands between the sources, which read bytes, and the registry. The shape is written down in
//! `schemas/push.schema.json`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::api::MAX_SUBJECTS;
use crate::telemetry::traces::SpanWriter;

/// A push to the connections of some subjects.
#[derive(Debug, Clone, Deserialize)]
pub struct Push {
    /// Whom it is for; at least one, none of them empty.
    pub subjects: Vec<String>,
    /// What they are sent, as it was written.
    pub payload: Box<RawValue>,
    /// W3C trace context of whoever pushed; what is not even text is no reason to refuse a push.
    #[serde(default, deserialize_with = "text_or_none")]
    pub traceparent: Option<String>,
}

/// Why bytes are no push; never holds a part of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// They are not the JSON object of a push.
    #[error("not a push: {0}")]
    Malformed(String),
    /// It names nobody.
    #[error("`subjects` is empty")]
    NoSubjects,
    /// One of the subjects is empty.
    #[error("`subjects[{0}]` is empty")]
    EmptySubject(usize),
    /// It names too many.
    #[error("`subjects` has {0} entries, and {MAX_SUBJECTS} are the most")]
    TooManySubjects(usize),
}

impl Push {
    /// Reads a push.
    ///
    /// # Errors
    /// When the bytes are no JSON object with `subjects` and `payload`.
    pub fn parse(bytes: &[u8]) -> Result<Self, PushError> {
        let push: Self = serde_json::from_slice(bytes).map_err(|error| {
            // The library's own words may quote a value; its place says enough.
            let what = match error.classify() {
                serde_json::error::Category::Data => {
                    "`subjects` must be a list of strings and `payload` must be there"
                }
                serde_json::error::Category::Eof => "the JSON ends early",
                _ => "the text is not JSON",
            };
            PushError::Malformed(format!(
                "{what} (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        match push.subjects.len() {
            0 => return Err(PushError::NoSubjects),
            n if n > MAX_SUBJECTS => return Err(PushError::TooManySubjects(n)),
            _ => {}
        }
        if let Some(index) = push.subjects.iter().position(String::is_empty) {
            return Err(PushError::EmptySubject(index));
        }
        Ok(push)
    }
}

impl Push {
    /// Writes what every push's span has.
    pub(crate) fn write(&self, span: &mut SpanWriter, sent: usize) {
        span.number(
            "messaging.message.body.size",
            self.payload.get().len() as u64,
        );
        span.number("wsgw.push.subjects", self.subjects.len() as u64);
        span.number("wsgw.push.connections", sent as u64);
    }
}

fn text_or_none<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let raw = <&RawValue>::deserialize(from)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_kept_as_written() {
        let push =
            Push::parse(br#"{"subjects":["user:42"],"payload":{"n": 1.10},"more":1}"#).unwrap();
        assert_eq!(push.subjects, ["user:42"]);
        assert_eq!(push.payload.get(), r#"{"n": 1.10}"#);
        let push =
            Push::parse(br#"{"payload":null,"subjects":["a"],"traceparent":"00-1"}"#).unwrap();
        assert_eq!(
            (push.payload.get(), push.traceparent.as_deref()),
            ("null", Some("00-1"))
        );
        for odd in ["7", "null", r#"{"a":["b"]}"#] {
            let text = format!(r#"{{"payload":1,"traceparent":{odd},"subjects":["a"]}}"#);
            assert_eq!(Push::parse(text.as_bytes()).unwrap().traceparent, None);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_bytes() {
        let reason = |text: &str| Push::parse(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            reason(r#"{"subjects":[],"payload":1}"#),
            "`subjects` is empty"
        );
        assert_eq!(
            reason(r#"{"subjects":["a",""],"payload":1}"#),
            "`subjects[1]` is empty"
        );
        for text in [
            "",
            "{",
            "hunter2",
            "[]",
            "7",
            r#"{"subjects":"hunter2","payload":1}"#,
            r#"{"subjects":["a"]}"#,
            r#"{"payload":"hunter2"}"#,
        ] {
            let reason = reason(text);
            assert!(
                reason.starts_with("not a push: ") && !reason.contains("hunter2"),
                "{reason}"
            );
        }
    }
}
