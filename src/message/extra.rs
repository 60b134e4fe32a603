//! Fields that an event has beside its own, as text that is ready to be written.
//!
//! Stands between the stage `set`, which makes them once a connection, and the event, which copies them.

use crate::event::write_string;

/// Members of an event's JSON, each with a name of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extra {
    /// Names and values, the values as JSON.
    fields: Vec<(Box<str>, Box<str>)>,
    /// All of them as `,"name":value` each.
    members: String,
}

impl Extra {
    /// Makes members of names and JSON texts, which must be valid; of two with one name the later counts.
    #[must_use]
    pub fn new(fields: impl IntoIterator<Item = (Box<str>, Box<str>)>) -> Self {
        let mut extra = Self::default();
        for (name, value) in fields {
            extra.fields.retain(|(known, _)| *known != name);
            extra.fields.push((name, value));
        }
        let mut members = Vec::new();
        for (name, value) in &extra.fields {
            members.push(b',');
            write_string(&mut members, name);
            members.push(b':');
            members.extend_from_slice(value.as_bytes());
        }
        members.shrink_to_fit();
        extra.members = String::from_utf8(members).unwrap_or_default();
        extra
    }

    /// These and others; of two with one name the other's counts.
    #[must_use]
    pub fn with(&self, other: &Self) -> Self {
        Self::new(self.fields.iter().chain(&other.fields).cloned())
    }

    /// The members as JSON, each with a comma before it; empty if there are none.
    #[must_use]
    pub fn members(&self) -> &str {
        &self.members
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(fields: &[(&str, &str)]) -> Extra {
        Extra::new(
            fields
                .iter()
                .map(|&(name, value)| (name.into(), value.into())),
        )
    }

    #[test]
    fn a_name_is_written_once() {
        assert_eq!(Extra::default().members(), "");
        let first = extra(&[("tenant", "\"a\""), ("q\"", "[1.50]")]);
        assert_eq!(first.members(), r#","tenant":"a","q\"":[1.50]"#);
        let both = first.with(&extra(&[("x", "null"), ("tenant", "\"b\"")]));
        assert_eq!(both.members(), r#","q\"":[1.50],"x":null,"tenant":"b""#);
        assert_eq!(first.with(&Extra::default()), first);
    }
}
