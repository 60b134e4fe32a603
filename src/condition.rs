//! Conditions: what `when` asks of a message and of its connection.
//!
//! Stands beside the stages: one with `when` meets only the messages for which it holds, and a route of `fan_out`
//! takes only those. A condition is flat, so that its schema ends: all of its parts must hold, and `any` and `not`
//! hold plain ones.
//!
//! | module | does |
//! |---|---|
//! | `test` | one value against what a test asks of it |
//! | `pointer` | finds a value in JSON text, without building a DOM |
//! | `matcher` | a condition compiled once a generation, and bound once a connection |
//! | `fault` | what is wrong with one, for `wsgw check` |
//! | `display` | a condition in a line, for `wsgw explain` |

use std::collections::BTreeMap;
use std::sync::Arc;

use http::HeaderName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::EventKind;

mod display;
mod fault;
mod lists;
mod matcher;
mod pointer;
mod test;
#[cfg(test)]
mod tests;

pub use fault::{Fault, is_secret_header};
pub use lists::{Free, OneOrMore, Scalar, absent, present};
pub use matcher::{Bound, Matcher};
pub use pointer::{BadPointer, Pointer};
pub use test::Check;

/// What must hold of a message and its connection; all that is given must.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Condition {
    /// What happened: `connected`, `message_received`, `disconnected`; one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<EventKind>")]
    pub event: Vec<EventKind>,
    /// The message's own `type` is one of these; `raw` or `binary` for what is no JSON object.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<String>")]
    pub types: Vec<String>,
    /// The connection listens to a subject like one of these, in which `*` stands for anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<String>")]
    pub subject: Vec<String>,
    /// Values of the message by JSON pointer (RFC 6901), each with its test.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Test>,
    /// Claims of the connection's token by JSON pointer, each with its test.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claim: BTreeMap<String, Test>,
    /// Headers of the upgrade request by name, each with its test; a value is always text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, Test>,
    /// At least one of these holds, too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<PlainCondition>,
    /// None of these holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<PlainCondition>")]
    pub not: Vec<PlainCondition>,
}

/// A condition without `any` and `not`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlainCondition {
    /// What happened: `connected`, `message_received`, `disconnected`; one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<EventKind>")]
    pub event: Vec<EventKind>,
    /// The message's own `type` is one of these; `raw` or `binary` for what is no JSON object.
    #[serde(rename = "type", skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<String>")]
    pub types: Vec<String>,
    /// The connection listens to a subject like one of these, in which `*` stands for anything.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "OneOrMore<String>")]
    pub subject: Vec<String>,
    /// Values of the message by JSON pointer (RFC 6901), each with its test.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub json: BTreeMap<String, Test>,
    /// Claims of the connection's token by JSON pointer, each with its test.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub claim: BTreeMap<String, Test>,
    /// Headers of the upgrade request by name, each with its test; a value is always text.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub header: BTreeMap<String, Test>,
}

/// What is asked of one value: exactly one of these.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Test {
    /// It is this text, number, truth value or null; numbers by value, so that `1` is `1.0`.
    #[serde(deserialize_with = "present", skip_serializing_if = "absent")]
    #[schemars(with = "Scalar")]
    pub equals: Option<Scalar>,
    /// It is one of these.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    pub one_of: Option<Vec<Scalar>>,
    /// It is a list that has this.
    #[serde(deserialize_with = "present", skip_serializing_if = "absent")]
    #[schemars(with = "Scalar")]
    pub contains: Option<Scalar>,
    /// It is a text in which this regular expression is found; `^` and `$` tie it to the ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matches: Option<String>,
    /// It is there at all, null included; or with `false`, it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exists: Option<bool>,
}

impl Condition {
    /// Itself without `any` and `not`.
    pub(crate) fn plain(&self) -> PlainCondition {
        PlainCondition {
            event: self.event.clone(),
            types: self.types.clone(),
            subject: self.subject.clone(),
            json: self.json.clone(),
            claim: self.claim.clone(),
            header: self.header.clone(),
        }
    }

    /// Adds the headers of the upgrade request that it asks for.
    pub fn headers(&self, wanted: &mut Vec<HeaderName>) {
        let nested = self.any.iter().chain(&self.not).map(|plain| &plain.header);
        for name in std::iter::once(&self.header)
            .chain(nested)
            .flat_map(BTreeMap::keys)
        {
            wanted.extend(HeaderName::try_from(name.as_str()));
        }
    }
}

/// Names the state of a stage apart from that of others with its name, and alike after a reload: by the stage's
/// condition, wherever it stands. None for a stage without one, whose state is the one of its kind.
#[must_use]
pub fn identity(when: Option<&Condition>) -> Option<Arc<str>> {
    let text = serde_json::to_string(when?).unwrap_or_default();
    Some(text.into())
}
