//! JSON pointers (RFC 6901), followed through text without building a DOM.
//!
//! Stands between a condition and the message's text or the token's claims: what a pointer does not lead to is
//! skipped and not built.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// A parsed JSON pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer(Box<[Token]>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    key: Box<str>,
    /// As a place in a list: digits without a leading zero.
    index: Option<usize>,
}

/// A text is no JSON pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPointer {
    /// It does not begin with a slash.
    #[error("does not begin with `/`")]
    NoSlash,
    /// A tilde stands for nothing.
    #[error("has a `~` that is neither `~0`, a tilde, nor `~1`, a slash")]
    Tilde,
}

impl Pointer {
    /// Reads a pointer such as `/meta/room`; the empty one leads to the whole value.
    ///
    /// # Errors
    /// When it does not begin with `/`, or has a `~` without `0` or `1`.
    pub fn parse(text: &str) -> Result<Self, BadPointer> {
        if text.is_empty() {
            return Ok(Self(Box::default()));
        }
        let rest = text.strip_prefix('/').ok_or(BadPointer::NoSlash)?;
        rest.split('/')
            .map(Token::parse)
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Finds the text of the value that it leads to in `json`, which must be valid; of a repeated key the last counts.
    #[must_use]
    pub fn find<'a>(&self, json: &'a str) -> Option<&'a str> {
        let mut found = json.trim_ascii();
        for token in &self.0 {
            // What is no map and no list leads nowhere, and is an error to the visitor.
            let step = Step(token).deserialize(&mut serde_json::Deserializer::from_str(found));
            found = step.ok()??.get();
        }
        Some(found)
    }
}

impl Token {
    fn parse(text: &str) -> Result<Self, BadPointer> {
        let mut parts = text.split('~');
        let mut key = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let (stands_for, rest) = match part.as_bytes().first() {
                Some(b'0') => ('~', &part[1..]),
                Some(b'1') => ('/', &part[1..]),
                _ => return Err(BadPointer::Tilde),
            };
            key.push(stands_for);
            key.push_str(rest);
        }
        let canonical = key == "0" || !key.starts_with('0');
        let digits = key.bytes().all(|byte| byte.is_ascii_digit());
        Ok(Self {
            index: key.parse().ok().filter(|_| canonical && digits),
            key: key.into(),
        })
    }
}

/// One step into a value.
struct Step<'a>(&'a Token);

impl<'de> DeserializeSeed<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Step<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map or a list")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(Key(&self.0.key))? {
            if is_it {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let Some(index) = self.0.index else {
            return Ok(None);
        };
        for _ in 0..index {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Ok(None);
            }
        }
        let found = list.next_element()?;
        while found.is_some() && list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(found)
    }
}

struct Key<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}
