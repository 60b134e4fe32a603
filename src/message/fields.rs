//! Finds the fields that the stages ask for in a message's text, without building a DOM.
//!
//! Stands between the frame's text and the stages, which then read a field without parsing again.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Nesting beyond which text is not taken for a JSON object (RFC 8259 section 9 lets a parser set a limit).
///
/// The event wraps the message once more, and parsers of backends commonly stop at 128.
pub const MAX_DEPTH: usize = 120;

/// How many different fields the stages of one pipeline may ask for.
pub(super) const MAX_FIELDS: usize = 12;

/// The field `type`, which every pipeline knows.
pub const TYPE: FieldId = FieldId(0);

/// Names one field of a [`FieldSet`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldId(pub(super) usize);

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
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Fields {
    pub(super) top: [Span; MAX_FIELDS],
    /// Boxed, since few messages have a `meta` and every stage moves the message.
    pub(super) meta: Option<Box<[Span; MAX_FIELDS]>>,
}

/// Finds the wanted fields, or nothing when the text is not a JSON object that any backend can parse.
pub(super) fn classify(text: &str, wanted: &FieldSet) -> Option<Fields> {
    let first = text.bytes().find(|b| !b.is_ascii_whitespace())?;
    if first != b'{' || too_deep(text.as_bytes()) || u32::try_from(text.len()).is_err() {
        return None;
    }
    // A lone surrogate is valid by JSON's grammar but no Unicode text (RFC 8259 section 8.2), and PHP refuses
    // it. Only a full parse tells; texts with such escapes are rare.
    if memchr::memchr(b'\\', text.as_bytes()).is_some()
        && has_surrogate_escape(text.as_bytes())
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
                spans: fields.meta.get_or_insert_default(),
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
    if text.len() <= MAX_DEPTH {
        return false;
    }
    // Most texts cannot be too deep for want of brackets, which are looked for many bytes at a time.
    if memchr::memchr2_iter(b'{', b'[', text)
        .nth(MAX_DEPTH)
        .is_none()
    {
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
