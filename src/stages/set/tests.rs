use serde_json::{Value, json};

use super::*;
use crate::event::Event;
use crate::message::TraceContext;
use crate::session::Identity;
use crate::stages::testing::{Inner, Kept, text};

fn config(fields: Value) -> SetConfig {
    let settings = serde_json::Map::from_iter([("fields".to_owned(), fields)]);
    serde_json::from_value(Value::Object(settings)).unwrap()
}

fn layer(fields: Value) -> SetLayer {
    let config = config(fields);
    assert_eq!(config.faults("trace_id"), []);
    let fields = config.fields.iter().map(|(name, source)| Field {
        name: name.as_str().into(),
        origin: Origin::of(source).unwrap(),
        default: source.default.as_ref().map(json),
    });
    SetLayer(fields.collect())
}

fn session() -> Arc<Session> {
    let identity = Identity {
        user_id: "1".into(),
        subjects: Vec::new(),
        expires_at: None,
    };
    let headers = [(HeaderName::from_static("x-tenant"), "ac\"me".into())];
    let claims = r#"{"org":{"id":12345678901234567890123},"nothing":null}"#;
    let session = Session::new(identity, None, TraceContext::default())
        .with_upgrade(Some(claims.into()), headers.into());
    Arc::new(session)
}

fn members(message: &Message) -> &str {
    message.extra.as_ref().map_or("", |extra| extra.members())
}

#[tokio::test]
async fn every_event_gets_claims_headers_and_constants() {
    let inner = Kept::default();
    let fields = json!({
        "org": {"claim": "/org/id"},
        "nothing": {"claim": "/nothing"},
        "tenant": {"header": "X-Tenant"},
        "stack": {"value": {"name": "blue", "n": [1.5, null]}},
        "none": {"value": null},
        "absent_claim": {"claim": "/org/name"},
        "absent_header": {"header": "x-region"},
        "default_claim": {"claim": "/org/name", "default": "?"},
        "default_header": {"header": "x-region", "default": null},
    });
    let mut stage = layer(fields).layer(inner.clone()).new_service(session());
    let expected = concat!(
        r#","default_claim":"?","default_header":null,"none":null,"nothing":null"#,
        r#","org":12345678901234567890123,"stack":{"name":"blue","n":[1.5,null]},"tenant":"ac\"me""#,
    );
    for message in [
        Message::connected(),
        text("{}"),
        Message::disconnected(1000, ""),
    ] {
        stage.call(message).await.unwrap();
        assert_eq!(members(&inner.last()), expected);
    }
    let event = Event::new(&session(), &inner.last(), "trace_id");
    let event: Value = serde_json::from_slice(&event.json).unwrap();
    assert_eq!(event["tenant"], "ac\"me");
    assert_eq!(event["seq"], 1);
}

#[tokio::test]
async fn a_renewed_token_brings_its_claims() {
    let (inner, session) = (Kept::default(), session());
    let mut stage = layer(json!({"org": {"claim": "/org"}}))
        .layer(inner.clone())
        .new_service(Arc::clone(&session));
    session.set_claims(Some(r#"{"org":"new"}"#.into()));
    stage.call(text("{}")).await.unwrap();
    assert_eq!(members(&inner.last()), r#","org":"new""#);
    session.set_claims(None);
    stage.call(text("{}")).await.unwrap();
    assert_eq!(members(&inner.last()), "");
}

#[tokio::test]
async fn of_two_stages_the_lower_one_counts() {
    let inner = Kept::default();
    let lower = layer(json!({"a": {"value": 2}, "c": {"value": 3}})).layer(inner.clone());
    let upper = layer(json!({"a": {"value": 1}, "b": {"value": 1}})).layer(lower);
    upper.new_service(session()).call(text("{}")).await.unwrap();
    assert_eq!(members(&inner.last()), r#","b":1,"a":2,"c":3"#);
}

#[tokio::test]
async fn inner_errors_come_up() {
    let new = layer(json!({})).layer(Inner::fails());
    let error = new
        .new_service(session())
        .call(text("{}"))
        .await
        .unwrap_err();
    assert_eq!(error.to_string(), "inner error");
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (fields, path, code) in [
        (json!({"seq": {"value": 1}}), "fields.seq", "reserved_field"),
        (json!({"tid": {"value": 1}}), "fields.tid", "reserved_field"),
        (
            json!({"trace_id": {"value": 1}}),
            "fields.trace_id",
            "reserved_field",
        ),
        (json!({"a": {}}), "fields.a", "bad_source"),
        (json!({"a": {"default": 1}}), "fields.a", "bad_source"),
        (
            json!({"a": {"value": null, "claim": "/a"}}),
            "fields.a",
            "bad_source",
        ),
        (
            json!({"a": {"claim": "a"}}),
            "fields.a.claim",
            "bad_pointer",
        ),
        (
            json!({"a": {"header": "a b"}}),
            "fields.a.header",
            "bad_header_name",
        ),
        (
            json!({"a": {"header": "Authorization"}}),
            "fields.a.header",
            "secret_header",
        ),
    ] {
        let faults = config(fields.clone()).faults("tid");
        let [fault] = faults.as_slice() else {
            panic!("{fields}: {faults:?}");
        };
        assert_eq!((fault.path.join(".").as_str(), fault.code), (path, code));
    }
    assert_eq!(config(json!({"tenant": {"value": 1}})).faults("tid"), []);
}
