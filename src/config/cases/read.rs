//! Reads the list below `tests`: each case with its client, and its steps by `steps`.
//!
//! Stands between the YAML tree and the typed cases. Every problem is reported with its place.

use std::sync::Arc;
use std::time::Duration;

use super::super::document::{Entry, Mark, Node, Value};
use super::super::problem::Problem;
use super::super::suggest::{nearest, quoted_list};
use super::want::json;
use super::{Case, Claim, EnvVars, Who};
use crate::clock::parse_rfc3339_ms;

/// When a case begins that does not say it: 2026-01-01T00:00:00Z.
const BEGIN_MS: u64 = 1_767_225_600_000;

/// The longest time that a step may let go by: a year.
const LONGEST: Duration = Duration::from_hours(8760);

const KEYS: [&str; 11] = [
    "name",
    "env",
    "set",
    "claims",
    "forged",
    "token",
    "anonymous",
    "headers",
    "query",
    "at",
    "steps",
];

/// Reads all cases of a list; those with problems may lack what is wrong.
pub(super) fn cases(file: &str, node: &Node, problems: &mut Vec<Problem>) -> Vec<Case> {
    let mut reader = Reader { problems };
    let file = Arc::from(file);
    let items = match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null => &[],
        _ => {
            reader.bad(
                node.start,
                "`tests` expects a list of tests",
                "begin each test with `- name: …`",
            );
            &[]
        }
    };
    let cases: Vec<Case> = items
        .iter()
        .filter_map(|item| reader.case(&file, item))
        .collect();
    for (index, case) in cases.iter().enumerate() {
        if let Some(first) = cases[..index].iter().find(|first| first.name == case.name) {
            let mark = Mark {
                line: case.place.line,
                column: case.place.column,
            };
            reader.bad(
                mark,
                format!(
                    "a second test is called `{}`; the first is on line {}",
                    case.name, first.place.line
                ),
                "give each test a name of its own",
            );
        }
    }
    cases
}

pub(super) struct Reader<'a> {
    pub(super) problems: &'a mut Vec<Problem>,
}

impl Reader<'_> {
    pub(super) fn bad(&mut self, at: Mark, message: impl Into<String>, hint: impl Into<String>) {
        self.problems
            .push(Problem::at(at, "bad_case", message).hint(hint));
    }

    /// The entries of a map, of which unknown ones are reported.
    pub(super) fn map<'n>(&mut self, node: &'n Node, what: &str, known: &[&str]) -> &'n [Entry] {
        let Value::Map(entries) = &node.value else {
            if !matches!(node.value, Value::Broken) {
                self.bad(
                    node.start,
                    format!("{what} must be a map of keys"),
                    format!("known here: {}", quoted_list(known.iter().copied())),
                );
            }
            return &[];
        };
        for entry in entries {
            if !known.contains(&entry.key.as_str()) {
                let hint = match nearest(&entry.key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", quoted_list(known.iter().copied())),
                };
                self.bad(
                    entry.key_start,
                    format!("{what} has no key `{}`", entry.key),
                    hint,
                );
            }
        }
        entries
    }

    fn case(&mut self, file: &Arc<str>, node: &Node) -> Option<Case> {
        let entries = self.map(node, "a test", &KEYS);
        if entries.is_empty() {
            return None;
        }
        let mut case = Case {
            name: String::new(),
            file: Arc::clone(file),
            place: node.start.into(),
            env: EnvVars::new(),
            sets: Vec::new(),
            who: Who::Somebody,
            headers: Vec::new(),
            query: Vec::new(),
            at_ms: BEGIN_MS,
            steps: Vec::new(),
        };
        for entry in entries {
            let node = &entry.node;
            match entry.key.as_str() {
                "name" => self.text(entry).trim().clone_into(&mut case.name),
                "env" => case.env = self.texts(entry).into_iter().collect(),
                "set" => {
                    let sets = self.texts(entry).into_iter();
                    case.sets = sets
                        .map(|(path, value)| format!("{path}={value}"))
                        .collect();
                }
                "headers" => case.headers = self.headers(entry),
                "query" => case.query = self.texts(entry),
                "at" => {
                    if let Some(ms) = parse_rfc3339_ms(&node.raw) {
                        case.at_ms = ms;
                    } else {
                        self.bad(
                            node.start,
                            "`at` expects a moment as RFC 3339 writes it",
                            "write it like 2026-01-31T12:00:00Z",
                        );
                    }
                }
                "steps" => case.steps = self.steps(node),
                _ => {}
            }
        }
        case.who = self.who(entries);
        if case.name.is_empty() {
            self.bad(
                node.start,
                "a test needs a name",
                "write `name:` with what it shows, in a few words",
            );
        }
        if node.entry("steps").is_none() {
            self.bad(
                node.start,
                "a test needs steps",
                "write `steps:` with a list such as `- send: { type: ping }`",
            );
        }
        Some(case)
    }

    /// Who connects, by whichever of the keys is there.
    fn who(&mut self, entries: &[Entry]) -> Who {
        let find = |key: &str| entries.iter().find(|entry| entry.key == key);
        let mut ways: Vec<&Entry> = ["claims", "token", "anonymous"]
            .into_iter()
            .filter_map(find)
            .collect();
        ways.sort_by_key(|entry| entry.key_start);
        if let [first, second, ..] = ways.as_slice() {
            self.bad(
                second.key_start,
                format!("`{}` and `{}` exclude each other", first.key, second.key),
                "keep one of them",
            );
        }
        let forged = find("forged").is_some_and(|entry| self.truth(entry));
        if forged && find("claims").is_none() {
            let at = find("forged").map_or(Mark::START, |entry| entry.key_start);
            self.bad(
                at,
                "`forged` needs `claims`",
                "say what the forged token claims",
            );
        }
        let Some(entry) = ways.first() else {
            return Who::Somebody;
        };
        match entry.key.as_str() {
            "claims" => Who::Claims {
                claims: self.claims(&entry.node),
                forged,
            },
            "token" => Who::Token(self.text(entry)),
            _ if self.truth(entry) => Who::Anonymous,
            _ => Who::Somebody,
        }
    }

    fn headers(&mut self, entry: &Entry) -> Vec<(String, String)> {
        let headers = self.texts(entry);
        for (name, value) in &headers {
            if http::HeaderName::try_from(name.as_str()).is_err()
                || http::HeaderValue::try_from(value.as_str()).is_err()
            {
                let at = entry
                    .node
                    .entry(name)
                    .map_or(entry.key_start, |e| e.key_start);
                self.bad(
                    at,
                    "this is not a header that HTTP can have",
                    "names have letters, digits and `-`; values are on one line",
                );
            }
        }
        headers
    }

    /// A token's claims, where those that are times may be written from the moment of signing, as `+60s`.
    pub(super) fn claims(&mut self, node: &Node) -> Vec<(String, Claim)> {
        let Value::Map(entries) = &node.value else {
            self.bad(
                node.start,
                "the claims of a token must be a map",
                "write them like { user_id: \"42\", exp: +60s }",
            );
            return Vec::new();
        };
        let claims = entries.iter().map(|entry| {
            let is_time = matches!(entry.key.as_str(), "exp" | "nbf" | "iat");
            let claim = match (&entry.node.value, is_time) {
                (Value::Text(text), true) => from_now(text).map(Claim::In),
                _ => None,
            };
            if is_time && claim.is_none() && matches!(entry.node.value, Value::Text(_)) {
                self.bad(
                    entry.node.start,
                    format!("`{}` expects a moment", entry.key),
                    "write Unix seconds, or a time from now on such as +60s or -5m",
                );
            }
            let value = json(&entry.node, self.problems);
            let value = serde_json::from_str(&value).unwrap_or_default();
            (entry.key.clone(), claim.unwrap_or(Claim::Is(value)))
        });
        claims.collect()
    }

    /// A map of texts; other scalars count as they are written.
    fn texts(&mut self, entry: &Entry) -> Vec<(String, String)> {
        let Value::Map(entries) = &entry.node.value else {
            self.bad(
                entry.node.start,
                format!("`{}` must be a map", entry.key),
                "write it like { NAME: value }",
            );
            return Vec::new();
        };
        let pairs = entries
            .iter()
            .map(|entry| (entry.key.clone(), self.text(entry)));
        pairs.collect()
    }

    /// A text; other scalars count as they are written.
    pub(super) fn text(&mut self, entry: &Entry) -> String {
        if matches!(entry.node.value, Value::List(_) | Value::Map(_)) {
            self.bad(
                entry.node.start,
                format!("`{}` expects a text", entry.key),
                "write one value; one that begins with `{`, `[` or `*` in quotes",
            );
        }
        entry.node.raw.clone()
    }

    fn truth(&mut self, entry: &Entry) -> bool {
        if let Value::Bool(value) = entry.node.value {
            return value;
        }
        self.bad(
            entry.node.start,
            format!("`{}` expects `true` or `false`", entry.key),
            "write `true`, or leave the key out",
        );
        false
    }

    pub(super) fn duration(&mut self, entry: &Entry) -> Duration {
        let duration = duration(&entry.node.raw).filter(|duration| *duration <= LONGEST);
        if duration.is_none() {
            self.bad(
                entry.node.start,
                format!("`{}` expects a time of at most a year", entry.key),
                "write it with its unit: 500ms, 1s, 5m, 2h, 1d",
            );
        }
        duration.unwrap_or_default()
    }
}

/// A time such as `500ms`, `1.5s` or `2h`, exact to the millisecond.
fn duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let unit_ms = match unit {
        "ms" => 1.0,
        "s" => 1_000.0,
        "m" => 60_000.0,
        "h" => 3_600_000.0,
        "d" => 86_400_000.0,
        _ => return None,
    };
    let digits = number.starts_with(|c: char| c.is_ascii_digit());
    let count: f64 = number.parse().ok().filter(|_| digits)?;
    Duration::try_from_secs_f64((count * unit_ms).round() / 1_000.0).ok()
}

/// Milliseconds from now, as `+60s` and `-5m` say it.
fn from_now(text: &str) -> Option<i64> {
    let (sign, rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+')?),
    };
    let ms = duration(rest)?.as_millis();
    Some(sign * i64::try_from(ms).ok()?)
}
