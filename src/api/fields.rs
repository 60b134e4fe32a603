//! The fields of a JSON body: found without building a DOM, checked with errors that name the field.
//!
//! Stands between the body's bytes and the handlers. Values stay text until a handler asks for a type, so the
//! payload of a push is never parsed beyond finding its end. An error names the field and the JSON type found,
//! never the value: it may be a key or a payload.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::problem::Problem;

/// What is wrong with a body, as the `detail` of a 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(String);

impl Malformed {
    /// An error about a field that may not even be there.
    pub(super) fn of(name: &'static str, what: &str) -> Self {
        Self(format!("`{name}`: {what}"))
    }
}

impl From<Malformed> for Problem {
    fn from(malformed: Malformed) -> Self {
        Self::bad_request(malformed.0)
    }
}

/// The wanted fields of a JSON object; others are ignored.
#[derive(Debug)]
pub(super) struct Fields<'a, const N: usize> {
    names: [&'a str; N],
    found: [Option<&'a RawValue>; N],
}

impl<'a, const N: usize> Fields<'a, N> {
    /// Finds the wanted fields in a body that must be one JSON object in UTF-8.
    pub(super) fn parse(body: &'a [u8], names: [&'a str; N]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(body).map_err(|error| {
            Malformed(format!(
                "the body is not UTF-8 from byte {} on",
                error.valid_up_to()
            ))
        })?;
        let start = text.trim_start_matches([' ', '\t', '\r', '\n']);
        if start.is_empty() {
            return Err(Malformed(
                "the body is empty, expected a JSON object".into(),
            ));
        }
        if !start.starts_with('{') {
            let other: &RawValue = serde_json::from_str(text).map_err(|error| malformed(&error))?;
            let kind = kind(other);
            return Err(Malformed(format!(
                "the body must be a JSON object, found {kind}"
            )));
        }
        let mut json = serde_json::Deserializer::from_str(text);
        let found = Wanted(names)
            .deserialize(&mut json)
            .map_err(|error| malformed(&error))?;
        json.end().map_err(|error| malformed(&error))?;
        Ok(Self { names, found })
    }

    /// The field, if it is there.
    pub(super) fn get(&self, name: &str) -> Option<Field<'a>> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.found[at].map(|raw| Field {
            name: self.names[at],
            index: None,
            raw,
        })
    }

    /// The field, which must be there.
    pub(super) fn required(&self, name: &str) -> Result<Field<'a>, Malformed> {
        self.get(name)
            .ok_or_else(|| Malformed(format!("`{name}`: missing")))
    }

    /// The field if it is there and not null, as many writers of JSON put null for what is absent.
    pub(super) fn present(&self, name: &str) -> Option<Field<'a>> {
        self.get(name).filter(|field| field.raw.get() != "null")
    }
}

/// One value of a body, and where it stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field<'a> {
    name: &'a str,
    index: Option<usize>,
    raw: &'a RawValue,
}

impl<'a> Field<'a> {
    /// The value as written.
    pub(super) fn raw(self) -> &'a RawValue {
        self.raw
    }

    /// The value as a string.
    pub(super) fn string(self) -> Result<Cow<'a, str>, Malformed> {
        if kind(self.raw) != "a string" {
            return Err(self.expected("a string"));
        }
        let text = self.raw.get();
        let inside = text.get(1..text.len() - 1).unwrap_or_default();
        if !inside.contains('\\') {
            return Ok(Cow::Borrowed(inside));
        }
        serde_json::from_str(text)
            .map(Cow::Owned)
            .map_err(|_| self.wrong("holds an escape that is no character"))
    }

    /// The value as a string with something other than white space in it.
    pub(super) fn filled(self) -> Result<Cow<'a, str>, Malformed> {
        let text = self.string()?;
        if text.trim().is_empty() {
            return Err(self.wrong("must not be blank"));
        }
        Ok(text)
    }

    /// The value as an id: a string, or an integer's digits.
    pub(super) fn id(self) -> Result<Cow<'a, str>, Malformed> {
        let text = self.raw.get();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Cow::Borrowed(text));
        }
        if kind(self.raw) == "a number" {
            return Err(self.wrong("expected a string or an integer, found a fraction"));
        }
        if kind(self.raw) != "a string" {
            return Err(self.expected("a string or an integer"));
        }
        self.filled()
    }

    /// The value as an integer; one that is too large is the largest there is, and likewise below zero.
    pub(super) fn integer(self) -> Result<i64, Malformed> {
        let text = self.raw.get();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if kind(self.raw) != "a number" {
            return Err(self.expected("an integer"));
        }
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(self.wrong("expected an integer, found a fraction or an exponent"));
        }
        let beyond = if digits.len() < text.len() {
            i64::MIN
        } else {
            i64::MAX
        };
        Ok(text.parse().unwrap_or(beyond))
    }

    /// The value as an array of 1 to `max` values.
    pub(super) fn array(self, max: usize) -> Result<Vec<Self>, Malformed> {
        if kind(self.raw) != "an array" {
            return Err(self.expected("an array"));
        }
        let items: Vec<&'a RawValue> =
            serde_json::from_str(self.raw.get()).map_err(|_| self.expected("an array"))?;
        if items.is_empty() {
            return Err(self.wrong("must not be empty"));
        }
        if items.len() > max {
            return Err(self.wrong(&format!("has {} items, {max} are allowed", items.len())));
        }
        let item = |(index, raw)| Self {
            name: self.name,
            index: Some(index),
            raw,
        };
        Ok(items.into_iter().enumerate().map(item).collect())
    }

    /// An error about the value.
    pub(super) fn wrong(self, what: &str) -> Malformed {
        let name = self.name;
        Malformed(match self.index {
            Some(index) => format!("`{name}[{index}]`: {what}"),
            None => format!("`{name}`: {what}"),
        })
    }

    fn expected(self, what: &str) -> Malformed {
        self.wrong(&format!("expected {what}, found {}", kind(self.raw)))
    }
}

/// The JSON type of a value, which its first character tells.
fn kind(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'"') => "a string",
        Some(b'{') => "an object",
        Some(b'[') => "an array",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

fn malformed(error: &serde_json::Error) -> Malformed {
    match error.classify() {
        // The parser's own words name no value, only what it expected and where.
        Category::Syntax | Category::Eof | Category::Io => {
            Malformed(format!("the body is not valid JSON: {error}"))
        }
        Category::Data => Malformed(error.to_string()),
    }
}

/// Reads an object and keeps the wanted fields; one that appears twice is an error, since the caller and the
/// gateway might each believe another of the two.
struct Wanted<'a, const N: usize>([&'a str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Wanted<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Wanted<'_, N> {
    type Value = [Option<&'de RawValue>; N];

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = [None; N];
        while let Some(at) = map.next_key_seed(NameOf(&self.0))? {
            match at {
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
                Some(at) if found[at].is_some() => {
                    return Err(A::Error::custom(format!("`{}`: appears twice", self.0[at])));
                }
                Some(at) => found[at] = Some(map.next_value()?),
            }
        }
        Ok(found)
    }
}

/// Turns a key into its place among the wanted names.
struct NameOf<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for NameOf<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for NameOf<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|known| *known == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Result<Fields<'_, 2>, String> {
        Fields::parse(body.as_bytes(), ["a", "b"]).map_err(|e| e.to_string())
    }

    #[test]
    fn finds_fields_as_written() {
        let found = fields(" {\"x\":[{}],\"a\" : {\"n\": 1.0} ,\"b\":null} ").unwrap();
        assert_eq!(found.required("a").unwrap().raw().get(), "{\"n\": 1.0}");
        assert!(found.get("b").is_some() && found.present("b").is_none());
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(5000), "]".repeat(5000));
        assert!(fields(&deep).is_ok(), "depth is the receiver's concern");
    }

    #[test]
    fn says_what_is_wrong_with_the_body() {
        for (body, detail) in [
            ("", "the body is empty, expected a JSON object"),
            (" \n", "the body is empty, expected a JSON object"),
            (
                "[\"s3cret\"]",
                "the body must be a JSON object, found an array",
            ),
            (
                "\"s3cret\"",
                "the body must be a JSON object, found a string",
            ),
            (
                "nul",
                "the body is not valid JSON: EOF while parsing a value at line 1 column 3",
            ),
            (
                "{\"a\":1,\n}",
                "the body is not valid JSON: trailing comma at line 2 column 1",
            ),
            (
                "{\"a\":1} 2",
                "the body is not valid JSON: trailing characters at line 1 column 9",
            ),
        ] {
            assert_eq!(fields(body).unwrap_err(), detail, "{body}");
        }
        let twice = fields("{\"a\":1,\"\\u0061\":1}").unwrap_err();
        assert!(twice.starts_with("`a`: appears twice"), "{twice}");
        let error = Fields::parse(b"{\"a\":\"\xff\"}", ["a"]).unwrap_err();
        assert_eq!(error.to_string(), "the body is not UTF-8 from byte 6 on");
    }

    #[test]
    fn says_what_is_wrong_with_a_field() {
        let found = fields("{\"a\":[\"x\",7,\" \",\"\\ud800\"],\"b\":1.5}").unwrap();
        let array = found.required("a").unwrap().array(4).unwrap();
        assert_eq!(array[0].string().unwrap(), "x");
        let detail = |result: Result<Cow<'_, str>, Malformed>| result.unwrap_err().to_string();
        assert_eq!(
            detail(array[1].string()),
            "`a[1]`: expected a string, found a number"
        );
        assert_eq!(detail(array[2].filled()), "`a[2]`: must not be blank");
        assert_eq!(
            detail(array[3].string()),
            "`a[3]`: holds an escape that is no character"
        );
        let error = found.required("a").unwrap().array(3).unwrap_err();
        assert_eq!(error.to_string(), "`a`: has 4 items, 3 are allowed");
        let id = found.required("b").unwrap().id();
        assert_eq!(
            detail(id),
            "`b`: expected a string or an integer, found a fraction"
        );
        assert_eq!(
            fields("{}").unwrap().required("a").unwrap_err().to_string(),
            "`a`: missing"
        );
    }

    #[test]
    fn an_id_may_be_a_number() {
        for (body, id) in [
            ("{\"a\":42}", "42"),
            ("{\"a\":-7}", "-7"),
            ("{\"a\":12345678901234567890123}", "12345678901234567890123"),
            ("{\"a\":\"4\\u0032\"}", "42"),
        ] {
            assert_eq!(
                fields(body).unwrap().required("a").unwrap().id().unwrap(),
                id
            );
        }
        for (body, integer) in [
            ("{\"a\":42}", 42),
            ("{\"a\":-0}", 0),
            ("{\"a\":99999999999999999999999}", i64::MAX),
            ("{\"a\":-99999999999999999999999}", i64::MIN),
        ] {
            let field = fields(body).unwrap().required("a").unwrap();
            assert_eq!(field.integer().unwrap(), integer);
        }
        for value in ["1e3", "1.0", "\"5\"", "null", "true", "[5]", "{}"] {
            let body = format!("{{\"a\":{value}}}");
            let field = fields(&body).unwrap().required("a").unwrap();
            let told = field.integer().unwrap_err().to_string();
            assert!(
                told.starts_with("`a`: expected an integer, found"),
                "{told}"
            );
        }
        for body in ["{\"a\":1e3}", "{\"a\":true}", "{\"a\":\"\"}", "{\"a\":[]}"] {
            assert!(
                fields(body).unwrap().required("a").unwrap().id().is_err(),
                "{body}"
            );
        }
    }
}
