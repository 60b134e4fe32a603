//! The id that a client gives its message, for acknowledgements and for finding repetitions.
//!
//! Stands between a message's text and whoever answers it: the answer bears the id exactly as it was written.

use std::sync::Arc;

use super::{FieldId, Message, scalar};

/// Bytes that an id may have, a string's quotes not counted.
pub const MAX_ID_BYTES: usize = 256;

/// The field that bears a message's id.
pub const ID_FIELD: &str = "id";

/// A client's own name for its message: a JSON string or number, as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// The id as JSON.
    #[must_use]
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl Message {
    /// The id in a top-level field; a blank or overlong one counts as absent, and so does anything but a string or
    /// a number.
    #[must_use]
    pub fn id(&self, field: FieldId) -> Option<MessageId> {
        let raw = self.raw(self.fields.top[field.0])?;
        let inner = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"'));
        if inner.unwrap_or(raw).len() > MAX_ID_BYTES {
            return None;
        }
        scalar(raw).map(|_| MessageId(raw.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FieldSet;

    fn id(text: &str) -> Option<String> {
        let mut wanted = FieldSet::default();
        let field = wanted.want(ID_FIELD).unwrap();
        let id = Message::text(text, &wanted).id(field)?;
        Some(id.as_json().to_owned())
    }

    #[test]
    fn is_echoed_as_written() {
        for raw in ["\"a-1\"", "7", "-1.50e+3", r#""\u0061\"é""#, "0"] {
            let text = format!("{{\"id\" : {raw} }}");
            assert_eq!(id(&text).as_deref(), Some(raw));
        }
    }

    #[test]
    fn counts_as_absent_unless_it_is_a_short_string_or_number() {
        for raw in ["null", "true", "[1]", "{}", "\"\"", "\"  \""] {
            assert_eq!(id(&format!("{{\"id\":{raw}}}")), None, "{raw}");
        }
        assert_eq!(id(r#"{"meta":{"id":"a"}}"#), None);
        assert_eq!(id("{}"), None);
        assert_eq!(id("plain"), None);
        for (length, found) in [(MAX_ID_BYTES, true), (MAX_ID_BYTES + 1, false)] {
            let text = format!("{{\"id\":\"{}\"}}", "x".repeat(length));
            assert_eq!(id(&text).is_some(), found);
            let number = format!("{{\"id\":1{}}}", "0".repeat(length - 1));
            assert_eq!(id(&number).is_some(), found);
        }
    }
}
