//! A JSON value as a test sees it: numbers as they are written, members in their order.
//!
//! Stands between what came out of the pipeline and the comparison.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    Null,
    Bool(bool),
    /// As it is written.
    Number(String),
    Text(String),
    List(Vec<Seen>),
    /// Of a repeated key, the last counts.
    Map(Vec<(String, Seen)>),
}

impl Seen {
    /// Reads JSON; what is none is a text.
    pub(super) fn parse(text: &str) -> Self {
        Self::read(text).unwrap_or_else(|| Self::Text(text.to_owned()))
    }

    fn read(text: &str) -> Option<Self> {
        let raw: &RawValue = serde_json::from_str(text).ok()?;
        let text = raw.get();
        Some(match text.as_bytes().first()? {
            b'{' => {
                let Members(members) = serde_json::from_str(text).ok()?;
                let mut map: Vec<(String, Self)> = Vec::with_capacity(members.len());
                for (key, value) in members {
                    let value = Self::read(value.get())?;
                    match map.iter_mut().find(|(known, _)| *known == key) {
                        Some(known) => known.1 = value,
                        None => map.push((key, value)),
                    }
                }
                Self::Map(map)
            }
            b'[' => {
                let items: Vec<Box<RawValue>> = serde_json::from_str(text).ok()?;
                let items = items.iter().map(|item| Self::read(item.get()));
                Self::List(items.collect::<Option<_>>()?)
            }
            b'"' => Self::Text(serde_json::from_str(text).ok()?),
            b't' => Self::Bool(true),
            b'f' => Self::Bool(false),
            b'n' => Self::Null,
            _ => Self::Number(text.to_owned()),
        })
    }

    /// The member of a map.
    pub(super) fn member(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Map(members) => members
                .iter()
                .find_map(|(known, value)| (known == key).then_some(value)),
            _ => None,
        }
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(number) => f.write_str(number),
            Self::Text(text) => write!(f, "{}", quoted(text)),
            Self::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if index > 0 { "," } else { "" })?;
                }
                f.write_str("]")
            }
            Self::Map(members) => {
                f.write_str("{")?;
                for (index, (key, value)) in members.iter().enumerate() {
                    let comma = if index > 0 { "," } else { "" };
                    write!(f, "{comma}{}:{value}", quoted(key))?;
                }
                f.write_str("}")
            }
        }
    }
}

/// A text as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The members of an object in their order.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stay_as_they_are_written() {
        let text = r#"{"b":1.10,"a":[12345678901234567890123,1e5,null,true],"t":"\ud83d\ude00\n"}"#;
        let seen = Seen::parse(text);
        let shown = "{\"b\":1.10,\"a\":[12345678901234567890123,1e5,null,true],\"t\":\"😀\\n\"}";
        assert_eq!(seen.to_string(), shown);
        assert_eq!(seen.member("b"), Some(&Seen::Number("1.10".into())));
        assert_eq!(Seen::parse("hello"), Seen::Text("hello".into()));
        assert_eq!(Seen::parse(r#"{"a":1,"a":2}"#).to_string(), r#"{"a":2}"#);
    }
}
