//! Decides whether an event, a push or a dead letter is a user's.
//!
//! Stands below all stores, which hand over the bytes that they keep. Nothing here looks into messages and payloads:
//! only `user_id` and `subjects` count, as gateway and backend write them.

use std::borrow::Cow;

use memchr::memmem;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The user whose data is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    id: String,
    /// The user's own subject, as `user:42`.
    subject: String,
    /// How the two are written in JSON, for what is no whole JSON.
    traces: [String; 2],
}

/// Whose an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The user's.
    Theirs {
        /// It is a push to others as well.
        shared: bool,
    },
    /// Somebody else's.
    Others,
    /// It is neither an event nor a push, and does not name the user.
    Unreadable,
}

/// What is looked at of an event, of a push, and of what Symfony Messenger wraps around either.
#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow)]
    connection_id: Option<&'a RawValue>,
    #[serde(borrow)]
    user_id: Option<&'a RawValue>,
    #[serde(borrow)]
    subjects: Option<&'a RawValue>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
}

impl Person {
    pub(crate) fn new(user_id: &str, user_prefix: &str) -> Self {
        let subject = format!("{user_prefix}{user_id}");
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        Self {
            traces: [quoted(&subject), format!("\"user_id\":{}", quoted(user_id))],
            id: user_id.to_owned(),
            subject,
        }
    }

    /// The user's id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// The user's own subject.
    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    /// Judges an event or a push, bare or as Symfony Messenger wraps it.
    pub(crate) fn judge(&self, json: &[u8]) -> Verdict {
        let Ok(named) = serde_json::from_slice::<Named<'_>>(json) else {
            return self.judge_traces(json);
        };
        let bare = named.user_id.is_none() && named.subjects.is_none();
        if let Some(body) = named.body.filter(|_| bare) {
            return match serde_json::from_str::<Cow<'_, str>>(body.get()) {
                // A body in a body is nobody's.
                Ok(body) if !is_wrapped(&body) => self.judge(body.as_bytes()),
                _ => self.judge_traces(json),
            };
        }
        if named.user_id.is_some_and(|id| self.is_id(id.get())) {
            return Verdict::Theirs { shared: false };
        }
        // The subjects of an event are those of its connection, which may be another user's.
        if named.connection_id.is_some() {
            return Verdict::Others;
        }
        let subjects = named.subjects.map(RawValue::get).unwrap_or_default();
        let subjects: Vec<serde_json::Value> = serde_json::from_str(subjects).unwrap_or_default();
        if subjects
            .iter()
            .any(|one| one.as_str() == Some(&self.subject))
        {
            return Verdict::Theirs {
                shared: subjects.len() > 1,
            };
        }
        Verdict::Others
    }

    /// Judges what is no JSON, or only a part of it: whether it names the user as JSON would.
    fn judge_traces(&self, text: &[u8]) -> Verdict {
        let named = |trace: &String| memmem::find(text, trace.as_bytes()).is_some();
        if self.traces.iter().any(named) {
            return Verdict::Theirs { shared: false };
        }
        Verdict::Unreadable
    }

    /// Judges an entry of a stream: by the fields that hold an event or a push, else by all of them.
    pub(crate) fn judge_fields(&self, fields: &[(Vec<u8>, Vec<u8>)]) -> Verdict {
        let holds = |name: &[u8]| matches!(name, b"data" | b"message" | b"raw");
        let anywhere = !fields.iter().any(|(name, _)| holds(name));
        let mut verdict = if anywhere {
            Verdict::Unreadable
        } else {
            Verdict::Others
        };
        for (name, value) in fields {
            if !anywhere && !holds(name) {
                continue;
            }
            match self.judge(value) {
                theirs @ Verdict::Theirs { .. } => return theirs,
                Verdict::Unreadable => verdict = Verdict::Unreadable,
                Verdict::Others => {}
            }
        }
        verdict
    }

    /// Whether a JSON text is the user's id, as text or as a number that is written in the same way.
    fn is_id(&self, json: &str) -> bool {
        if json.starts_with('"') {
            serde_json::from_str::<Cow<'_, str>>(json).is_ok_and(|id| id == self.id)
        } else {
            let number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
            number && json == self.id
        }
    }
}

fn is_wrapped(json: &str) -> bool {
    serde_json::from_str::<Named<'_>>(json)
        .is_ok_and(|named| named.body.is_some() && named.user_id.is_none())
        && !json.contains("\"subjects\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    const THEIRS: Verdict = Verdict::Theirs { shared: false };

    fn judge(json: &str) -> Verdict {
        Person::new("42", "user:").judge(json.as_bytes())
    }

    #[test]
    fn an_event_is_the_users_by_its_whole_id() {
        let event = |id: &str| {
            judge(&format!(
                r#"{{"type":"connected","connection_id":"c","user_id":{id},"subjects":["user:42"],"message":{{"user_id":"42"}}}}"#
            ))
        };
        assert_eq!(event(r#""42""#), THEIRS);
        assert_eq!(event(r#""\u0034\u0032""#), THEIRS);
        assert_eq!(event("42"), THEIRS);
        for other in [
            r#""4""#, r#""420""#, r#""142""#, r#"" 42""#, "420", "42.0", "null",
        ] {
            assert_eq!(event(other), Verdict::Others, "{other}");
        }
    }

    #[test]
    fn what_is_neither_text_nor_number_is_nobodys_id() {
        for id in ["true", "null", "[1]"] {
            let event = format!(r#"{{"connection_id":"c","user_id":{id}}}"#);
            let person = Person::new(id, "user:");
            assert_eq!(person.judge(event.as_bytes()), Verdict::Others, "{id}");
        }
        let person = Person::new("-1", "user:");
        assert_eq!(
            person.judge(br#"{"connection_id":"c","user_id":-1}"#),
            THEIRS
        );
    }

    #[test]
    fn a_push_is_the_users_by_the_users_subject() {
        assert_eq!(judge(r#"{"subjects":["user:42"],"payload":1}"#), THEIRS);
        assert_eq!(
            judge(r#"{"payload":1,"subjects":["room:1","user:42"]}"#),
            Verdict::Theirs { shared: true }
        );
        for others in [
            r#"{"subjects":["user:421","42"],"payload":{"subjects":["user:42"]}}"#,
            r#"{"subjects":"user:42","payload":1}"#,
            "{}",
        ] {
            assert_eq!(judge(others), Verdict::Others, "{others}");
        }
    }

    #[test]
    fn messengers_wrapping_is_looked_into() {
        let wrapped = |body: &str| {
            judge(&serde_json::json!({"body": body, "headers": {"type": "x"}}).to_string())
        };
        assert_eq!(wrapped(r#"{"connection_id":"c","user_id":"42"}"#), THEIRS);
        assert_eq!(wrapped(r#"{"subjects":["user:42"],"payload":1}"#), THEIRS);
        assert_eq!(
            wrapped(r#"{"connection_id":"c","user_id":"7"}"#),
            Verdict::Others
        );
        assert_eq!(wrapped("no JSON"), Verdict::Unreadable);
        let twice = serde_json::json!({"body": "{}"}).to_string();
        assert_eq!(wrapped(&twice), Verdict::Unreadable);
    }

    #[test]
    fn what_is_torn_is_the_users_if_it_names_the_user() {
        assert_eq!(judge(r#"{"subjects":["user:42"],"payl"#), THEIRS);
        assert_eq!(judge(r#"{"connection_id":"c","user_id":"42","#), THEIRS);
        for unreadable in ["", "42", r#"{"subjects":["user:421"#, "\u{0}", "[]"] {
            assert_eq!(judge(unreadable), Verdict::Unreadable, "{unreadable}");
        }
        let odd = Person::new("a\"b\\é", "");
        let event = serde_json::json!({"connection_id": "c", "user_id": "a\"b\\é"}).to_string();
        assert_eq!(odd.judge(event.as_bytes()), THEIRS);
        assert_eq!(odd.judge(&event.as_bytes()[..event.len() - 1]), THEIRS);
        let php = r#"{"subjects":["a\"b\\\u00e9"],"payload":1}"#;
        assert_eq!(odd.judge(php.as_bytes()), THEIRS);
    }

    #[test]
    fn an_entry_is_judged_by_the_field_that_holds_the_event() {
        let judge = |fields: &[(&str, &str)]| {
            let bytes = |text: &&str| text.as_bytes().to_vec();
            let fields: Vec<_> = fields.iter().map(|(n, v)| (bytes(n), bytes(v))).collect();
            Person::new("42", "user:").judge_fields(&fields)
        };
        let theirs = r#"{"connection_id":"c","user_id":"42"}"#;
        let others = r#"{"connection_id":"c","user_id":"7"}"#;
        assert_eq!(judge(&[("replayed", "1"), ("data", theirs)]), THEIRS);
        assert_eq!(
            judge(&[("note", theirs), ("data", others)]),
            Verdict::Others
        );
        assert_eq!(judge(&[("reason", "HTTP 400"), ("raw", theirs)]), THEIRS);
        assert_eq!(judge(&[("note", theirs)]), THEIRS);
        assert_eq!(judge(&[("note", "x")]), Verdict::Unreadable);
    }
}
