//! What is wrong with a condition.
//!
//! Beside the data path: `wsgw check` shows every fault with its place; compiling refuses the first.

use std::collections::BTreeMap;

use http::HeaderName;

use super::test::BadTest;
use super::{Check, Condition, PlainCondition, Pointer, Test};
use crate::event::EventKind;

/// Headers whose values are secret, and must neither become part of an event nor be asked for.
const SECRET_HEADERS: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "sec-websocket-protocol",
];

/// Something wrong with a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Where: keys and places below the condition.
    pub path: Vec<String>,
    /// A row of [`crate::config::codes::TABLE`].
    pub code: &'static str,
    /// Whether the condition cannot be used at all.
    pub is_error: bool,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Whether a header's value is a secret, such as the token itself.
#[must_use]
pub fn is_secret_header(name: &HeaderName) -> bool {
    SECRET_HEADERS.contains(&name.as_str())
}

impl Condition {
    /// Everything wrong with it.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults = Faults::default();
        let plain = self.plain();
        faults.plain(&plain);
        if plain == PlainCondition::default() && self.any.is_empty() && self.not.is_empty() {
            faults.empty();
        }
        for (key, list) in [("any", &self.any), ("not", &self.not)] {
            for (index, plain) in list.iter().enumerate() {
                faults.path = vec![key.to_owned(), index.to_string()];
                faults.plain(plain);
                if *plain == PlainCondition::default() {
                    faults.empty();
                }
            }
        }
        faults.found
    }
}

#[derive(Default)]
struct Faults {
    path: Vec<String>,
    found: Vec<Fault>,
}

impl Faults {
    fn say(&mut self, below: &[&str], code: &'static str, message: String, hint: &str) {
        let path = self.path.iter().cloned();
        self.found.push(Fault {
            path: path
                .chain(below.iter().map(|&key| key.to_owned()))
                .collect(),
            code,
            is_error: !matches!(code, "empty_condition" | "condition_never_holds"),
            message,
            hint: hint.to_owned(),
        });
    }

    fn empty(&mut self) {
        self.say(
            &[],
            "empty_condition",
            "the condition asks for nothing: it always holds".into(),
            "say what must hold, as in `{ type: chat }`, or remove it",
        );
    }

    fn plain(&mut self, plain: &PlainCondition) {
        let content = !plain.types.is_empty() || !plain.json.is_empty();
        if content && !plain.event.is_empty() && !plain.event.contains(&EventKind::MessageReceived)
        {
            self.say(
                &["event"],
                "condition_never_holds",
                "the condition never holds: `connected` and `disconnected` have no message whose `type` or `json` could be tested".into(),
                "leave `event` out, or split the condition",
            );
        }
        for (part, tests) in [("json", &plain.json), ("claim", &plain.claim)] {
            self.pointers(part, tests);
        }
        self.headers(&plain.header);
    }

    fn pointers(&mut self, part: &str, tests: &BTreeMap<String, Test>) {
        for (pointer, test) in tests {
            if let Err(error) = Pointer::parse(pointer) {
                self.say(
                    &[part, pointer],
                    "bad_pointer",
                    format!("`{}` is no JSON pointer: it {error}", pointer.escape_debug()),
                    "write `/meta/room` for the key `room` in `meta`; `~1` is a slash and `~0` a tilde within a key",
                );
            }
            self.test(part, pointer, test);
        }
    }

    fn headers(&mut self, tests: &BTreeMap<String, Test>) {
        for (name, test) in tests {
            match HeaderName::try_from(name.as_str()) {
                Err(_) => self.say(
                    &["header", name],
                    "bad_header_name",
                    format!(
                        "`{}` is not a name an HTTP header can have",
                        name.escape_debug()
                    ),
                    "use letters, digits and `-`, as in `X-Tenant`",
                ),
                Ok(header) if is_secret_header(&header) => self.say(
                    &["header", name],
                    "secret_header",
                    format!("the header `{name}` holds what proves who the client is"),
                    "ask for a claim of the token instead",
                ),
                Ok(_) => {}
            }
            let lists = test.one_of.iter().flatten();
            let only_text = test
                .equals
                .iter()
                .chain(lists)
                .all(|scalar| scalar.0.is_string());
            if !only_text || test.contains.is_some() {
                self.say(
                    &["header", name],
                    "bad_test",
                    format!("the test of the header `{name}` never holds: a header is a text"),
                    "compare with a text, in quotes where it looks like a number",
                );
            } else {
                self.test("header", name, test);
            }
        }
    }

    fn test(&mut self, part: &str, key: &str, test: &Test) {
        match Check::new(test) {
            Ok(_) => {}
            Err(BadTest::Operators(count)) => self.say(
                &[part, key],
                "bad_test",
                if count == 0 {
                    format!("the test of `{}` asks for nothing", key.escape_debug())
                } else {
                    format!("the test of `{}` asks for {count} things", key.escape_debug())
                },
                "give exactly one of `equals`, `in`, `contains`, `matches`, `exists`",
            ),
            Err(BadTest::Pattern(reason)) => self.say(
                &[part, key, "matches"],
                "bad_pattern",
                format!("the regular expression cannot be used: {reason}"),
                "see https://docs.rs/regex for the syntax; there is no look-around and no backreference",
            ),
        }
    }
}
