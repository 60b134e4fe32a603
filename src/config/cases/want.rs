//! What a value must look like: a value itself, of maps only the named keys, or a matcher.
//!
//! Stands between the file and the comparison; numbers are kept as they are written.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde_json::value::RawValue;

use super::super::document::{Node, Value};
use super::super::problem::Problem;
use super::Place;

/// Something wanted, and where it is written.
#[derive(Debug, Clone)]
pub struct Located {
    /// Where it stands.
    pub place: Place,
    /// What is wanted.
    pub want: Want,
}

/// What a value must look like.
#[derive(Debug, Clone)]
pub enum Want {
    /// `null`.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number, as it is written.
    Number(String),
    /// A text.
    Text(String),
    /// A list of as many values.
    List(Vec<Located>),
    /// A map that has at least these keys.
    Map(Vec<(String, Located)>),
    /// `{ $matches: … }`: a text, or a number as it is written, in which the expression is found.
    Matches(Pattern),
    /// `{ $exists: … }`: whether the key is there at all.
    Exists(bool),
}

/// A regular expression; classes such as `\d` are those of ASCII.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles an expression, if it is one.
    fn new(text: &str) -> Option<Self> {
        // Over bytes: without Unicode, `[^a]` may match half a character, which an expression over texts must not.
        // Small, so that an expression cannot take all memory.
        let regex = RegexBuilder::new(text)
            .unicode(false)
            .size_limit(8 << 20)
            .build();
        regex.ok().map(Self)
    }

    /// Whether the expression is found in the text.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.0.is_match(text.as_bytes())
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.0.as_str())
    }
}

/// Reads what is wanted.
pub(super) fn read(node: &Node, problems: &mut Vec<Problem>) -> Located {
    let want = match &node.value {
        Value::Null | Value::Broken => Want::Null,
        Value::Bool(value) => Want::Bool(*value),
        Value::Int(_) | Value::Float(_) => Want::Number(number(node, problems)),
        Value::Text(text) => Want::Text(text.clone()),
        Value::List(items) => Want::List(items.iter().map(|item| read(item, problems)).collect()),
        Value::Map(entries) => match entries.as_slice() {
            [entry] if entry.key.starts_with('$') => {
                matcher(&entry.key, &entry.node, problems).unwrap_or(Want::Null)
            }
            _ => Want::Map(
                entries
                    .iter()
                    .map(|entry| {
                        let mut wanted = read(&entry.node, problems);
                        wanted.place = entry.key_start.into();
                        (entry.key.clone(), wanted)
                    })
                    .collect(),
            ),
        },
    };
    Located {
        place: node.start.into(),
        want,
    }
}

fn matcher(name: &str, node: &Node, problems: &mut Vec<Problem>) -> Option<Want> {
    let problem = match (name, &node.value) {
        ("$exists", Value::Bool(exists)) => return Some(Want::Exists(*exists)),
        ("$exists", _) => Problem::at(
            node.start,
            "bad_case",
            "`$exists` expects `true` or `false`",
        ),
        ("$matches", Value::Text(text)) => match Pattern::new(text) {
            Some(pattern) => return Some(Want::Matches(pattern)),
            None => Problem::at(
                node.start,
                "bad_case",
                "`$matches` expects a regular expression, and this is none",
            )
            .hint("classes such as `\\d` are known; look-around, back references and `\\p{…}` are not"),
        },
        ("$matches", _) => Problem::at(node.start, "bad_case", "`$matches` expects a text")
            .hint("put the expression in single quotes"),
        _ => Problem::at(
            node.start,
            "bad_case",
            format!("there is no matcher `{name}`"),
        )
        .hint("known here: `$matches`, `$exists`"),
    };
    problems.push(problem);
    None
}

/// A number as it is written, if JSON can have it.
fn number(node: &Node, problems: &mut Vec<Problem>) -> String {
    if serde_json::from_str::<&RawValue>(&node.raw).is_err() {
        problems.push(
            Problem::at(
                node.start,
                "bad_case",
                "JSON cannot have a number that is written like this",
            )
            .hint("write it in decimal digits, or in quotes to be a text"),
        );
    }
    node.raw.clone()
}

/// Writes a value as the JSON that it stands for, with its numbers as they are written.
pub(super) fn json(node: &Node, problems: &mut Vec<Problem>) -> String {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    match &node.value {
        Value::Null | Value::Broken => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::Int(_) | Value::Float(_) => number(node, problems),
        Value::Text(text) => quoted(text),
        Value::List(items) => {
            let items: Vec<_> = items.iter().map(|item| json(item, problems)).collect();
            format!("[{}]", items.join(","))
        }
        Value::Map(entries) => {
            let members: Vec<_> = entries
                .iter()
                .map(|entry| format!("{}:{}", quoted(&entry.key), json(&entry.node, problems)))
                .collect();
            format!("{{{}}}", members.join(","))
        }
    }
}
