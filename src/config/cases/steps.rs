//! Reads the steps of a case: what is done, and what is expected of it.
//!
//! Used by `read` for each item of `steps`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::super::document::{Entry, Mark, Node, Value};
use super::super::suggest::quoted_list;
use super::read::Reader;
use super::want::{self, json};
use super::{Action, Closing, Expectation, Published, Step, Wanted};

const ACTIONS: [&str; 8] = [
    "send",
    "renew",
    "advance",
    "close",
    "push",
    "disconnect",
    "down",
    "up",
];
const STEP: [&str; 10] = [
    "send",
    "renew",
    "advance",
    "close",
    "push",
    "disconnect",
    "down",
    "up",
    "times",
    "expect",
];
const WANTED: [&str; 5] = ["reply", "published", "dead_letter", "close", "refused"];
const TARGET: [&str; 4] = ["stream", "exchange", "routing_key", "url"];

/// How often one step may do what it does.
const MOST_TIMES: i128 = 100_000;

impl Reader<'_> {
    pub(super) fn steps(&mut self, node: &Node) -> Vec<Step> {
        if let Value::List(items) = &node.value {
            return items.iter().map(|item| self.step(item)).collect();
        }
        self.bad(
            node.start,
            "`steps` expects a list",
            "begin each step with `- `, as in `- send: { type: ping }`",
        );
        Vec::new()
    }

    fn step(&mut self, node: &Node) -> Step {
        let entries = self.map(node, "a step", &STEP);
        let actions: Vec<&Entry> = entries
            .iter()
            .filter(|entry| ACTIONS.contains(&entry.key.as_str()))
            .collect();
        if let [first, second, ..] = actions.as_slice() {
            self.bad(
                second.key_start,
                format!(
                    "one step does two things, `{}` and `{}`",
                    first.key, second.key
                ),
                "begin a step of its own with `- `",
            );
        }
        let expect = node.entry("expect");
        if actions.is_empty() && expect.is_none() && !entries.is_empty() {
            self.bad(
                node.start,
                "a step must do or expect something",
                format!("known here: {}", quoted_list(STEP)),
            );
        }
        Step {
            place: node.start.into(),
            times: self.times(node),
            action: actions.first().and_then(|entry| self.action(entry)),
            expect: expect.map_or_else(Vec::new, |entry| self.expect(&entry.node)),
        }
    }

    fn times(&mut self, node: &Node) -> u32 {
        let Some(entry) = node.entry("times") else {
            return 1;
        };
        match entry.node.value {
            Value::Int(times) if (1..=MOST_TIMES).contains(&times) => {
                u32::try_from(times).unwrap_or(1)
            }
            _ => {
                self.bad(
                    entry.node.start,
                    format!("`times` expects a whole number from 1 to {MOST_TIMES}"),
                    "to expect that something does not happen, write `expect: nothing`",
                );
                1
            }
        }
    }

    fn action(&mut self, entry: &Entry) -> Option<Action> {
        let node = &entry.node;
        Some(match entry.key.as_str() {
            "send" => self.send(node),
            "renew" => Action::Renew(self.claims(node)),
            "advance" => Action::Advance(self.duration(entry)),
            "close" => self.close(node),
            "push" => self.push(node),
            "disconnect" => match &node.value {
                Value::Bool(true) | Value::Null => Action::Disconnect(None),
                Value::Map(_) => {
                    self.map(node, "`disconnect`", &["reason"]);
                    let reason = node.entry("reason");
                    Action::Disconnect(reason.map(|reason| self.text(reason)))
                }
                _ => {
                    self.bad(
                        node.start,
                        "`disconnect` expects `true` or a reason",
                        "write `disconnect: { reason: … }`",
                    );
                    return None;
                }
            },
            "down" => Action::Down(self.names(entry)),
            "up" => Action::Up(self.names(entry)),
            _ => return None,
        })
    }

    fn send(&mut self, node: &Node) -> Action {
        match &node.value {
            Value::Text(text) => Action::Send(text.clone()),
            Value::Map(entries) => {
                if let [entry] = entries.as_slice()
                    && entry.key == "binary"
                {
                    if let Ok(bytes) = STANDARD.decode(&entry.node.raw) {
                        return Action::SendBinary(bytes);
                    }
                    self.bad(
                        entry.node.start,
                        "`binary` expects base64",
                        "pad it with `=`",
                    );
                }
                Action::Send(json(node, self.problems))
            }
            _ => {
                self.bad(
                    node.start,
                    "`send` expects a message: a map, which is sent as JSON, or a text in quotes",
                    "quote what is no map: `send: \"[1, 2]\"`",
                );
                Action::Send(node.raw.clone())
            }
        }
    }

    fn close(&mut self, node: &Node) -> Action {
        match &node.value {
            Value::Text(text) if text == "lost" => return Action::Lose,
            Value::Text(text) if text == "none" => {
                return Action::Close {
                    code: None,
                    reason: String::new(),
                };
            }
            _ => {}
        }
        let (code, reason) = self.code_and_reason(node, "`close`");
        let reason = reason.map(|reason| self.text(reason)).unwrap_or_default();
        // What a client may send (RFC 6455 section 7.4).
        if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) || reason.len() > 123 {
            self.bad(
                node.start,
                "a client cannot send this close code or reason",
                "write 1000 or 3000 to 4999; `none` for a frame without a code, `lost` for none at all",
            );
        }
        Action::Close {
            code: Some(code),
            reason,
        }
    }

    fn push(&mut self, node: &Node) -> Action {
        self.map(node, "`push`", &["subjects", "payload"]);
        let subjects = node
            .entry("subjects")
            .map(|entry| self.names(entry))
            .unwrap_or_default();
        let payload = if let Some(entry) = node.entry("payload") {
            json(&entry.node, self.problems)
        } else {
            self.bad(
                node.start,
                "`push` needs a `payload`",
                "write what is pushed",
            );
            "null".into()
        };
        Action::Push { subjects, payload }
    }

    /// A name, or a list of names.
    fn names(&mut self, entry: &Entry) -> Vec<String> {
        let items = match &entry.node.value {
            Value::List(items) => items.iter().collect(),
            _ => vec![&entry.node],
        };
        let mut names = Vec::new();
        for item in items {
            match &item.value {
                Value::Text(text) => names.push(text.clone()),
                _ => self.bad(
                    item.start,
                    format!("`{}` expects a name, or a list of names", entry.key),
                    "write it like `redis` or [redis, webhook]",
                ),
            }
        }
        names
    }

    /// Reads what is expected: the word `nothing`, one thing, or a list of things.
    fn expect(&mut self, node: &Node) -> Vec<Expectation> {
        match &node.value {
            Value::List(items) => items
                .iter()
                .filter_map(|item| self.expected(item))
                .collect(),
            _ => self.expected(node).into_iter().collect(),
        }
    }

    fn expected(&mut self, node: &Node) -> Option<Expectation> {
        let expectation = |times, wanted| {
            Some(Expectation {
                place: node.start.into(),
                times,
                wanted,
            })
        };
        if matches!(&node.value, Value::Text(word) if word == "nothing") {
            return expectation(1, Wanted::Nothing);
        }
        let wanted: Vec<&Entry> = match &node.value {
            Value::Map(entries) => entries
                .iter()
                .filter(|entry| WANTED.contains(&entry.key.as_str()))
                .collect(),
            _ => Vec::new(),
        };
        let [entry] = wanted.as_slice() else {
            let known = quoted_list(WANTED);
            self.bad(
                wanted.get(1).map_or(node.start, |second| second.key_start),
                "`expect` needs exactly one of the things that can happen",
                format!("write `nothing`, one of {known}, or a list of such"),
            );
            return None;
        };
        let beside: &[&str] = match entry.key.as_str() {
            "published" => &["to", "stream", "exchange", "routing_key", "url"],
            "dead_letter" => &["sink", "reason"],
            _ => &[],
        };
        let known: Vec<&str> = [entry.key.as_str(), "times"]
            .into_iter()
            .chain(beside.iter().copied())
            .collect();
        let what = format!("what is expected of `{}`", entry.key);
        self.map(node, &what, &known);
        let reason = node.entry("reason");
        let wanted = match entry.key.as_str() {
            "reply" => Wanted::Reply(self.want(entry)),
            "published" => Wanted::Published(self.published(node, entry)),
            "dead_letter" => Wanted::DeadLetter {
                event: self.want(entry),
                sink: node.entry("sink").map(|sink| self.text(sink)),
                reason: reason.map(|reason| self.want(reason)),
            },
            "close" => Wanted::Close(self.closing(entry)),
            _ => Wanted::Refused(self.closing(entry)),
        };
        expectation(self.times(node), wanted)
    }

    fn published(&mut self, node: &Node, entry: &Entry) -> Published {
        Published {
            event: self.want(entry),
            to: node
                .entry("to")
                .map(|to| self.names(to))
                .unwrap_or_default(),
            target: TARGET
                .into_iter()
                .filter_map(|key| Some((key, self.want(node.entry(key)?))))
                .collect(),
        }
    }

    fn want(&mut self, entry: &Entry) -> super::Located {
        let mut wanted = want::read(&entry.node, self.problems);
        wanted.place = entry.key_start.into();
        wanted
    }

    fn closing(&mut self, entry: &Entry) -> Closing {
        let (code, reason) = self.code_and_reason(&entry.node, &format!("`{}`", entry.key));
        Closing {
            code,
            reason: reason.map(|reason| self.want(reason)),
        }
    }

    /// A code alone, or with a reason.
    fn code_and_reason<'n>(&mut self, node: &'n Node, what: &str) -> (u16, Option<&'n Entry>) {
        let (code, reason) = match &node.value {
            Value::Map(_) => {
                self.map(node, what, &["code", "reason"]);
                let code = node.entry("code").map(|entry| &entry.node);
                (code, node.entry("reason"))
            }
            _ => (Some(node), None),
        };
        let at = code.map_or(node.start, |code| code.start);
        let code = match code.map(|code| &code.value) {
            Some(Value::Int(code)) => u16::try_from(*code).ok(),
            _ => None,
        };
        if code.is_none() {
            self.no_code(at, what);
        }
        (code.unwrap_or_default(), reason)
    }

    fn no_code(&mut self, at: Mark, what: &str) {
        self.bad(
            at,
            format!("{what} expects a code"),
            "write it like 4401, or { code: 4401, reason: … }",
        );
    }
}
