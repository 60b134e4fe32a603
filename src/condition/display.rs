//! Conditions in a line, as `wsgw explain` shows them.
//!
//! Beside the data path.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use super::{Condition, PlainCondition, Scalar, Test};
use crate::event::EventKind;

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = parts(&self.plain());
        let nested = |list: &[PlainCondition]| {
            let each: Vec<_> = list.iter().map(ToString::to_string).collect();
            each.join(", or ")
        };
        if !self.any.is_empty() {
            parts.push(format!("({})", nested(&self.any)));
        }
        if !self.not.is_empty() {
            parts.push(format!("not ({})", nested(&self.not)));
        }
        write_all(f, &parts)
    }
}

impl fmt::Display for PlainCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_all(f, &parts(self))
    }
}

fn write_all(f: &mut fmt::Formatter<'_>, parts: &[String]) -> fmt::Result {
    if parts.is_empty() {
        return f.write_str("always");
    }
    f.write_str(&parts.join(" and "))
}

fn parts(plain: &PlainCondition) -> Vec<String> {
    let mut parts = Vec::new();
    let mut list = |what: &str, words: Vec<&str>| {
        if !words.is_empty() {
            parts.push(format!("{what} {}", words.join(" or ")));
        }
    };
    list(
        "event",
        plain
            .event
            .iter()
            .map(|kind| EventKind::as_str(*kind))
            .collect(),
    );
    list("type", plain.types.iter().map(String::as_str).collect());
    list(
        "subject",
        plain.subject.iter().map(String::as_str).collect(),
    );
    let mut tests = |what: &str, tests: &BTreeMap<String, Test>| {
        for (key, test) in tests {
            parts.push(format!("{what}{key} {test}"));
        }
    };
    tests("", &plain.json);
    tests("claim ", &plain.claim);
    tests("header ", &plain.header);
    parts
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.equals.iter().map(|one| format!("is {}", shown(one))));
        if let Some(list) = &self.one_of {
            let words: Vec<_> = list.iter().map(shown).collect();
            parts.push(format!("is {}", words.join(" or ")));
        }
        parts.extend(
            self.contains
                .iter()
                .map(|one| format!("has {}", shown(one))),
        );
        parts.extend(self.matches.iter().map(|text| format!("matches {text}")));
        parts.extend(self.exists.iter().map(|there| {
            let word = if *there { "is there" } else { "is not there" };
            word.to_owned()
        }));
        f.write_str(&parts.join(", "))
    }
}

/// A text without quotes, unless it could be taken for something else.
fn shown(scalar: &Scalar) -> String {
    match &scalar.0 {
        Value::String(text)
            if !text.is_empty()
                && text
                    .chars()
                    .all(|c| c.is_alphanumeric() || "_-:./@".contains(c))
                && serde_json::from_str::<Value>(text).is_err() =>
        {
            text.clone()
        }
        other => other.to_string(),
    }
}
