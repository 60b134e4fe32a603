//! `schemas/event.schema.json` and `schemas/push.schema.json` against the code that writes and reads them.

use serde_json::json;

use super::*;
use crate::event::Event;
use crate::message::{Extra, FieldSet, Message, Ordering};

const EVENT: &str = include_str!("../../../schemas/event.schema.json");
const PUSH: &str = include_str!("../../../schemas/push.schema.json");

/// The validator of a schema, whose own examples fit it.
fn validator(schema: &str) -> jsonschema::Validator {
    let schema: Value = serde_json::from_str(schema).unwrap();
    assert!(jsonschema::meta::is_valid(&schema));
    let validator = jsonschema::validator_for(&schema).unwrap();
    for example in schema["examples"].as_array().unwrap() {
        assert!(validator.is_valid(example), "{example}");
    }
    validator
}

fn event(message: &Message, trace_id_field: &str) -> Value {
    let session = Session::for_tests("42", &["user:42", "room"]);
    serde_json::from_slice(&Event::new(&session, message, trace_id_field).json).unwrap()
}

#[test]
fn every_kind_of_event_fits_its_schema() {
    let validator = validator(EVENT);
    let text = |text| Message::text(text, &FieldSet::default());
    let messages = [
        Message::connected(),
        Message::disconnected(1006, ""),
        Message::disconnected(4403, "signed out"),
        text(r#"{"type":"chat","n":1e400}"#),
        text("hello"),
        text(""),
        Message::binary(b""),
        Message::binary(&[0, 1, 254, 255]),
    ];
    for message in messages {
        for full in [false, true] {
            let mut message = message.clone();
            if full {
                message.trace.traceparent = Some("00-0af7-b7ad-01".into());
                message.trace.trace_id = Some("abc".into());
                message.ordering = Some(Ordering {
                    key: "room:1".into(),
                    strategy: "topic",
                });
                // What the stage `set` adds may be anything.
                let tenant = ("tenant".into(), r#"{"id":[1,null]}"#.into());
                message.extra = Some(Arc::new(Extra::new([tenant])));
            }
            for name in ["trace_id", "correlation"] {
                let session = Session::for_tests("42", &["user:42", "room"]);
                let event = Event::new(&session, &message, name);
                // Numbers beyond a double are the schema's concern no more than the client's.
                let text = String::from_utf8(event.json.to_vec()).unwrap();
                let value: Value = serde_json::from_str(&text.replace("1e400", "1")).unwrap();
                let errors: Vec<_> = validator
                    .iter_errors(&value)
                    .map(|e| e.to_string())
                    .collect();
                assert!(errors.is_empty(), "{value}: {errors:?}");
            }
        }
    }
}

#[test]
fn the_event_schema_is_strict() {
    let validator = validator(EVENT);
    let connected = event(&Message::connected(), "trace_id");
    let disconnected = event(&Message::disconnected(1000, ""), "trace_id");
    let message = event(&Message::text("{}", &FieldSet::default()), "trace_id");
    for (event, key, value) in [
        (&connected, "message", json!({})),
        (&connected, "raw", json!("")),
        (&connected, "reason", json!("")),
        (&connected, "seq", json!(2)),
        (&connected, "type", json!("opened")),
        (&connected, "user_id", json!(42)),
        (&connected, "connected_at", json!("now")),
        (
            &connected,
            "event_id",
            json!("0192f5a8-3c1f-4d10-8a4b-6e9c2f5a7b81"),
        ),
        (&connected, "ordering_key", json!("a")),
        (&connected, "trace_id", json!(7)),
        (&disconnected, "raw", json!("")),
        (&disconnected, "close_code", json!(99)),
        (&message, "message", json!("hello")),
        (&message, "close_code", json!(1000)),
        (&message, "seq", json!(0)),
    ] {
        assert!(validator.is_valid(event));
        let mut event = event.clone();
        event[key] = value;
        assert!(!validator.is_valid(&event), "{event}");
    }
    for (event, key) in [
        (&connected, "seq"),
        (&connected, "event_id"),
        (&connected, "type"),
        (&disconnected, "close_code"),
        (&disconnected, "reason"),
        (&message, "message"),
        (&message, "raw"),
    ] {
        let mut event = event.clone();
        event.as_object_mut().unwrap().remove(key);
        assert!(!validator.is_valid(&event), "without {key}");
    }
}

#[tokio::test]
async fn the_push_schema_agrees_with_publish() {
    let validator = validator(PUSH);
    let api = Api::new();
    for push in [
        json!({"subjects": ["a"], "payload": null}),
        json!({"subjects": ["a", "b"], "payload": [1], "traceparent": "00-0af7-b7ad-01", "more": 1}),
        json!({"subjects": ["a"]}),
        json!({"subjects": [], "payload": 1}),
        json!({"subjects": [""], "payload": 1}),
        json!({"subjects": [null], "payload": 1}),
        json!({"subjects": {"0": "a"}, "payload": 1}),
        json!("push"),
    ] {
        let answer = api.publish(push.to_string()).await;
        assert_eq!(validator.is_valid(&push), answer.status == 200, "{push}");
    }
}
