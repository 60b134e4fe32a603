use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::message::{FieldSet, Message, TraceContext};
use crate::session::{Identity, Session};

fn condition(json: Value) -> Condition {
    serde_json::from_value(json).unwrap()
}

fn message(text: &str) -> Message {
    Message::text(text, &FieldSet::default())
}

fn session(claims: &str) -> Arc<Session> {
    let identity = Identity {
        user_id: "42".into(),
        subjects: vec!["user:42".into(), "room:a:1".into()],
        expires_at: None,
    };
    let headers = [(HeaderName::from_static("x-tenant"), "acme".into())];
    let claims = (!claims.is_empty()).then(|| claims.into());
    Arc::new(
        Session::new(identity, None, TraceContext::default()).with_upgrade(claims, headers.into()),
    )
}

/// Whether a condition holds of a message, on a connection without claims.
fn holds(of: Value, message: &Message) -> bool {
    let matcher = Matcher::new(&condition(of)).unwrap();
    matcher.bind(&session("")).holds(message)
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn a_test_of_a_value() {
    let long = r#"{"n":12345678901234567890123}"#;
    let rows: &[(&str, &str, Value, bool)] = &[
        // Numbers by value, however they are written.
        (r#"{"n":1}"#, "/n", json!({"equals": 1}), true),
        (r#"{"n":1.0}"#, "/n", json!({"equals": 1}), true),
        (r#"{"n":10e-1}"#, "/n", json!({"equals": 1.0}), true),
        (r#"{"n":100}"#, "/n", json!({"equals": 1e2}), true),
        (r#"{"n":0.05}"#, "/n", json!({"equals": 5e-2}), true),
        (r#"{"n":-0}"#, "/n", json!({"equals": 0}), true),
        (r#"{"n":0.0e5}"#, "/n", json!({"equals": 0}), true),
        (r#"{"n":-1}"#, "/n", json!({"equals": 1}), false),
        (r#"{"n":1.01}"#, "/n", json!({"equals": 1}), false),
        (r#"{"n":10}"#, "/n", json!({"equals": 1}), false),
        (
            r#"{"n":9007199254740993.0}"#,
            "/n",
            json!({"equals": 9_007_199_254_740_992_u64}),
            false,
        ),
        (
            r#"{"n":9007199254740993.0}"#,
            "/n",
            json!({"equals": 9_007_199_254_740_993_u64}),
            true,
        ),
        (
            r#"{"n":1e99999999999999999999}"#,
            "/n",
            json!({"equals": 1}),
            false,
        ),
        (
            long,
            "/n",
            json!({"equals": 12_345_678_901_234_567_890_u64}),
            false,
        ),
        (r#"{"n":"1"}"#, "/n", json!({"equals": 1}), false),
        (r#"{"n":1}"#, "/n", json!({"equals": "1"}), false),
        // Texts, in whatever escapes.
        (r#"{"t":"room"}"#, "/t", json!({"equals": "room"}), true),
        (
            r#"{"t":"r\u006fom"}"#,
            "/t",
            json!({"equals": "room"}),
            true,
        ),
        (r#"{"t":"a\"b\\"}"#, "/t", json!({"equals": "a\"b\\"}), true),
        (r#"{"t":"Room"}"#, "/t", json!({"equals": "room"}), false),
        (r#"{"t":""}"#, "/t", json!({"equals": ""}), true),
        // Truth values and null.
        (r#"{"b":true}"#, "/b", json!({"equals": true}), true),
        (r#"{"b":false}"#, "/b", json!({"equals": true}), false),
        (r#"{"b":null}"#, "/b", json!({"equals": null}), true),
        (r#"{"b":0}"#, "/b", json!({"equals": null}), false),
        ("{}", "/b", json!({"equals": null}), false),
        // One of several.
        (r#"{"t":5}"#, "/t", json!({"in": ["a", 5, null]}), true),
        (r#"{"t":null}"#, "/t", json!({"in": ["a", 5, null]}), true),
        (r#"{"t":"b"}"#, "/t", json!({"in": ["a", 5, null]}), false),
        (r#"{"t":"b"}"#, "/t", json!({"in": []}), false),
        // Lists.
        (r#"{"l":["a",2]}"#, "/l", json!({"contains": "a"}), true),
        (r#"{"l":["a",2]}"#, "/l", json!({"contains": 2.0}), true),
        (r#"{"l":["a",2]}"#, "/l", json!({"contains": "2"}), false),
        (r#"{"l":[["a"]]}"#, "/l", json!({"contains": "a"}), false),
        (r#"{"l":"a"}"#, "/l", json!({"contains": "a"}), false),
        (r#"{"l":["a"]}"#, "/l", json!({"equals": "a"}), false),
        // Patterns.
        (
            r#"{"t":"room:12"}"#,
            "/t",
            json!({"matches": r"^room:\d+$"}),
            true,
        ),
        (
            r#"{"t":"my room:12"}"#,
            "/t",
            json!({"matches": r"^room:\d+$"}),
            false,
        ),
        (
            r#"{"t":"my room:12"}"#,
            "/t",
            json!({"matches": r"room:\d+"}),
            true,
        ),
        (
            r#"{"t":"gr\u00fcn"}"#,
            "/t",
            json!({"matches": "^.r.n$"}),
            true,
        ),
        (r#"{"t":12}"#, "/t", json!({"matches": "1"}), false),
        (r#"{"t":["room"]}"#, "/t", json!({"matches": "room"}), false),
        // Being there.
        (r#"{"t":null}"#, "/t", json!({"exists": true}), true),
        ("{}", "/t", json!({"exists": true}), false),
        ("{}", "/t", json!({"exists": false}), true),
        (r#"{"t":{}}"#, "/t", json!({"exists": false}), false),
    ];
    for (text, pointer, test, expected) in rows {
        let of = json!({"json": {(*pointer): test}});
        assert_eq!(
            holds(of, &message(text)),
            *expected,
            "{text} {pointer} {test}"
        );
    }
}

#[test]
fn a_pointer_leads_to_a_value() {
    // The first rows are those of RFC 6901 section 5.
    let json = r#" {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4,
        "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8, "x": {"0": "key", "-": 9, "y": [[1], {"z": null}]},
        "twice": 1, "twi\u0063e": {"a": 2}} "#;
    for (pointer, expected) in [
        ("/foo", Some(r#"["bar", "baz"]"#)),
        ("/foo/0", Some(r#""bar""#)),
        ("/", Some("0")),
        ("/a~1b", Some("1")),
        ("/c%d", Some("2")),
        ("/e^f", Some("3")),
        ("/g|h", Some("4")),
        ("/i\\j", Some("5")),
        ("/k\"l", Some("6")),
        ("/ ", Some("7")),
        ("/m~0n", Some("8")),
        ("", Some(json.trim())),
        ("/foo/2", None),
        ("/foo/-", None),
        ("/foo/00", None),
        ("/foo/01", None),
        ("/foo/+1", None),
        ("/foo/bar", None),
        ("/foo/0/0", None),
        ("/foo/99999999999999999999999", None),
        ("/x/0", Some(r#""key""#)),
        ("/x/-", Some("9")),
        ("/x/y/0/0", Some("1")),
        ("/x/y/1/z", Some("null")),
        ("/x/y/1/z/a", None),
        ("/twice/a", Some("2")),
        ("/nothing", None),
        ("/nothing/0", None),
    ] {
        let found = Pointer::parse(pointer).unwrap().find(json);
        assert_eq!(found, expected, "{pointer}");
    }
    for (pointer, error) in [
        ("foo", BadPointer::NoSlash),
        ("/a~", BadPointer::Tilde),
        ("/a~2", BadPointer::Tilde),
        ("/~~1", BadPointer::Tilde),
    ] {
        assert_eq!(Pointer::parse(pointer), Err(error), "{pointer}");
    }
}

#[test]
fn agrees_with_pointers_of_a_dom() {
    let json = json!({"a": {"b~/": [1, {"c": [true, null, "x\u{1F600}"]}]}, "0": [{"": 1.5}]});
    let text = json.to_string();
    let mut count = 0;
    let mut pointers = vec![String::new()];
    while let Some(pointer) = pointers.pop() {
        count += 1;
        let value = json.pointer(&pointer).unwrap();
        let found = Pointer::parse(&pointer).unwrap().find(&text).unwrap();
        assert_eq!(serde_json::from_str::<Value>(found).unwrap(), *value);
        let escaped = |key: &str| key.replace('~', "~0").replace('/', "~1");
        match value {
            Value::Array(list) => {
                pointers.extend((0..list.len()).map(|at| format!("{pointer}/{at}")));
            }
            Value::Object(map) => {
                pointers.extend(map.keys().map(|key| format!("{pointer}/{}", escaped(key))));
            }
            _ => {}
        }
    }
    assert_eq!(count, 12);
}

#[test]
fn events_types_and_subjects() {
    let (chat, raw, binary) = (
        message(r#"{"type":"chat"}"#),
        message("hello"),
        Message::binary(&[1]),
    );
    let (connected, disconnected) = (Message::connected(), Message::disconnected(1000, ""));
    for (of, expected) in [
        (json!({}), [true, true, true, true, true]),
        (
            json!({"event": ["message_received"]}),
            [true, true, true, false, false],
        ),
        (
            json!({"event": ["connected", "disconnected"]}),
            [false, false, false, true, true],
        ),
        (
            json!({"type": ["chat", "typing"]}),
            [true, false, false, false, false],
        ),
        (
            json!({"type": ["raw", "binary"]}),
            [false, true, true, false, false],
        ),
        // What asks for content holds of no event without a message, whatever it asks.
        (
            json!({"json": {"/x": {"exists": false}}}),
            [true, true, true, false, false],
        ),
        (
            json!({"not": [{"type": ["chat"]}]}),
            [false, true, true, true, true],
        ),
        (
            json!({"any": [{"type": ["chat"]}, {"event": ["connected"]}]}),
            [true, false, false, true, false],
        ),
        (
            json!({"type": ["chat"], "any": [{"type": ["raw"]}]}),
            [false; 5],
        ),
        (
            json!({"event": ["message_received"], "not": [{"type": ["raw"]}, {"type": ["binary"]}]}),
            [true, false, false, false, false],
        ),
        (json!({"subject": ["user:*"]}), [true; 5]),
        (json!({"subject": ["room:*:1", "none"]}), [true; 5]),
        (json!({"subject": ["user:4"]}), [false; 5]),
        (
            json!({"subject": ["user:*", "x"], "type": ["chat"]}),
            [true, false, false, false, false],
        ),
        (
            json!({"header": {"X-Tenant": {"equals": "acme"}}}),
            [true; 5],
        ),
        (
            json!({"header": {"x-tenant": {"matches": "^b"}}}),
            [false; 5],
        ),
        (json!({"header": {"x-other": {"exists": false}}}), [true; 5]),
    ] {
        let found = [&chat, &raw, &binary, &connected, &disconnected]
            .map(|message| holds(of.clone(), message));
        assert_eq!(found, expected, "{of}");
    }
}

#[test]
fn stars_stand_for_anything() {
    for (subject, expected) in [
        ("*", true),
        ("user:42", true),
        ("user:*", true),
        ("*42", true),
        ("u*:*2", true),
        ("**", true),
        ("user:42*", true),
        ("*user:42*", true),
        ("user:4*42", false),
        ("user", false),
        ("", false),
        ("*43*", false),
    ] {
        let identity = Identity {
            user_id: "42".into(),
            subjects: vec!["user:42".into()],
            expires_at: None,
        };
        let session = Arc::new(Session::new(identity, None, TraceContext::default()));
        let matcher = Matcher::new(&condition(json!({"subject": [subject]}))).unwrap();
        assert_eq!(
            matcher.bind(&session).holds(&message("{}")),
            expected,
            "{subject}"
        );
    }
}

#[test]
fn claims_are_those_of_the_newest_token() {
    let of = condition(
        json!({"claim": {"/role": {"in": ["admin", "ops"]}, "/tags": {"contains": "x"}}}),
    );
    let matcher = Matcher::new(&of).unwrap();
    let session = session(r#"{"role":"guest","tags":["x"]}"#);
    let mut bound = matcher.bind(&session);
    assert!(!bound.holds(&message("{}")));
    session.set_claims(Some(r#"{"role":"ops","tags":["y","x"]}"#.into()));
    assert!(bound.holds(&message("{}")) && bound.holds(&Message::connected()));
    session.set_claims(None);
    assert!(!bound.holds(&message("{}")));
    let without = condition(json!({"claim": {"/role": {"exists": false}}}));
    assert!(
        Matcher::new(&without)
            .unwrap()
            .bind(&session)
            .holds(&message("{}"))
    );
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let too_large = "[a-z]{1000}".repeat(100);
    for (of, path, code) in [
        (json!({}), "", "empty_condition"),
        (json!({"any": [{}]}), "any/0", "empty_condition"),
        (
            json!({"event": ["connected"], "type": ["a"]}),
            "event",
            "condition_never_holds",
        ),
        (
            json!({"json": {"a": {"equals": 1}}}),
            "json/a",
            "bad_pointer",
        ),
        (
            json!({"not": [{"type": ["a"]}, {"claim": {"a~": {"exists": true}}}]}),
            "not/1/claim/a~",
            "bad_pointer",
        ),
        (json!({"json": {"": {}}}), "json/", "bad_test"),
        (
            json!({"json": {"": {"equals": null, "in": [1]}}}),
            "json/",
            "bad_test",
        ),
        (
            json!({"json": {"": {"matches": "(a"}}}),
            "json//matches",
            "bad_pattern",
        ),
        (
            json!({"json": {"": {"matches": too_large}}}),
            "json//matches",
            "bad_pattern",
        ),
        (
            json!({"header": {"a b": {"exists": true}}}),
            "header/a b",
            "bad_header_name",
        ),
        (
            json!({"header": {"Cookie": {"exists": true}}}),
            "header/Cookie",
            "secret_header",
        ),
        (
            json!({"header": {"x": {"equals": 1}}}),
            "header/x",
            "bad_test",
        ),
    ] {
        let faults = condition(of.clone()).faults();
        let [fault] = faults.as_slice() else {
            panic!("{of}: {faults:?}");
        };
        assert_eq!(
            (fault.path.join("/").as_str(), fault.code),
            (path, code),
            "{fault}"
        );
        assert!(!fault.message.contains('\n'), "{fault}");
        assert_eq!(Matcher::new(&condition(of)).is_err(), fault.is_error);
    }
}

#[test]
fn reads_as_a_line() {
    for (of, line) in [
        (json!({}), "always"),
        (
            json!({"event": ["connected"], "type": ["chat", "typing"], "subject": ["user:*"]}),
            "event connected and type chat or typing and subject user:*",
        ),
        (
            json!({"json": {"/meta/room": {"equals": 5}, "/n": {"in": ["5", "a b", null, true]}}}),
            r#"/meta/room is 5 and /n is "5" or "a b" or null or true"#,
        ),
        (
            json!({"claim": {"/r": {"contains": "x"}}, "header": {"X-T": {"matches": "^a"}}, "json": {"/x": {"exists": false}}}),
            "/x is not there and claim /r has x and header X-T matches ^a",
        ),
        (
            json!({"any": [{"type": ["a"]}, {"type": ["b"]}], "not": [{"subject": ["s"]}]}),
            "(type a, or type b) and not (subject s)",
        ),
    ] {
        assert_eq!(condition(of).to_string(), line);
    }
}

#[test]
fn an_identity_is_the_condition_alone() {
    let one = condition(json!({"type": ["a"], "json": {"/x": {"equals": null}}}));
    assert_eq!(identity(None), None);
    assert_eq!(identity(Some(&one)), identity(Some(&one.clone())));
    let other = condition(json!({"type": ["a"], "json": {"/x": {"exists": true}}}));
    assert_ne!(identity(Some(&one)), identity(Some(&other)));
    let again: Condition = serde_json::from_str(&identity(Some(&one)).unwrap()).unwrap();
    assert_eq!(again, one);
}
