//! Ordering keys and trace context, in events and in the webhook's headers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::client::Upgrade;
use support::tokens::claims;
use support::{Client, Received, Setup, Webhook, signed, token};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const OTHER_PARENT: &str = "00-11111111111111111111111111111111-2222222222222222-00";

/// Sends the messages by one connection and gives the requests that they became.
async fn requests_of(setup: Setup, messages: &[&str]) -> Vec<Received> {
    let claims = claims("42", json!({"subjects": ["room:9", "alpha"]}));
    let upgrade = |gateway: &support::Gateway| Upgrade::to(gateway).bearer(&signed(claims));
    requests_of_upgrade(setup, upgrade, messages)
        .await
        .split_off(1)
}

/// The same with any upgrade request; the request of `connected` comes first.
async fn requests_of_upgrade(
    setup: Setup,
    upgrade: impl FnOnce(&support::Gateway) -> Upgrade,
    messages: &[&str],
) -> Vec<Received> {
    let webhook = Webhook::start().await;
    let gateway = setup.webhook(&webhook).start().await;
    let mut client = upgrade(&gateway).open().await;
    for message in messages {
        client.send(*message).await;
    }
    client.close(None).await;
    webhook.wait_for(messages.len() + 2).await;
    let mut requests = webhook.delivered();
    // Messages of different keys overtake each other on the way.
    requests.sort_by_key(|request| request.event()["seq"].as_u64());
    assert_eq!(requests.len(), messages.len() + 2);
    for end in [&requests[0], &requests[messages.len() + 1]] {
        assert!(
            end.event().get("ordering_key").is_none(),
            "only messages have a key"
        );
    }
    requests.pop();
    requests
}

async fn assert_keys(setup: Setup, strategy: &str, cases: &[(&str, Option<&str>)]) {
    let messages: Vec<&str> = cases.iter().map(|(message, _)| *message).collect();
    let requests = requests_of(setup, &messages).await;
    for (request, (message, key)) in requests.iter().zip(cases) {
        let event = request.event();
        assert_eq!(
            event.get("ordering_key").and_then(Value::as_str),
            *key,
            "{message}: {event}"
        );
        let of = key.map(|_| strategy);
        assert_eq!(
            event.get("ordering_strategy").and_then(Value::as_str),
            of,
            "{message}: {event}"
        );
    }
}

#[tokio::test]
async fn strategy_topic_takes_the_topic_then_the_one_in_meta_then_the_type() {
    let cases = [
        (
            r#"{"type":"chat","topic":"room:123","meta":{"topic":"no"}}"#,
            Some("room:123"),
        ),
        (
            r#"{"type":"chat","meta":{"topic":"room:5"}}"#,
            Some("room:5"),
        ),
        (r#"{"type":"chat","meta":"topic"}"#, Some("chat")),
        (r#"{"type":"chat","topic":17}"#, Some("17")),
        (r#"{"type":"chat","topic":"  "}"#, Some("chat")),
        (r#"{"type":"chat","topic":null}"#, Some("chat")),
        (r#"{"type":"chat","topic":["a"]}"#, Some("chat")),
        (r#"{"topic":"żółć \u0041"}"#, Some("żółć A")),
        (r#"{"payload":1}"#, None),
        (r#"{"type":3}"#, Some("3")),
    ];
    assert_keys(
        Setup::default().env("ORDERING_STRATEGY", "topic"),
        "topic",
        &cases,
    )
    .await;
}

#[tokio::test]
async fn the_topics_field_is_configurable() {
    let cases = [
        (r#"{"type":"chat","topic":"no","room":"a"}"#, Some("a")),
        (
            r#"{"type":"chat","topic":"no","meta":{"room":"b"}}"#,
            Some("b"),
        ),
        (r#"{"type":"chat","topic":"no"}"#, Some("chat")),
    ];
    let setup = Setup::default()
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_TOPIC_FIELD", "room");
    assert_keys(setup, "topic", &cases).await;
}

#[tokio::test]
async fn strategy_subject_takes_the_messages_subject_then_the_user() {
    let cases = [
        (
            r#"{"subject":"order:1","subjects":["no"]}"#,
            Some("order:1"),
        ),
        (r#"{"subjects":["order:2","order:1"]}"#, Some("order:2")),
        (r#"{"subject":"","subjects":["order:3"]}"#, Some("order:3")),
        (r#"{"subjects":[]}"#, Some("42")),
        (r#"{"type":"chat"}"#, Some("42")),
        ("text", Some("42")),
    ];
    assert_keys(
        Setup::default().env("ORDERING_STRATEGY", "subject"),
        "subject",
        &cases,
    )
    .await;
}

#[tokio::test]
async fn strategy_subject_may_fall_back_to_the_connections_first_subject() {
    let cases = [
        (r#"{"subject":"order:1"}"#, Some("order:1")),
        (r#"{"type":"chat"}"#, Some("alpha")),
    ];
    let setup = Setup::default()
        .env("ORDERING_STRATEGY", "subject")
        .env("ORDERING_SUBJECT_SOURCE", "subject");
    assert_keys(setup, "subject", &cases).await;
}

#[tokio::test]
async fn without_a_strategy_no_event_has_a_key() {
    assert_keys(
        Setup::default(),
        "none",
        &[(r#"{"type":"chat","topic":"a","subject":"b"}"#, None)],
    )
    .await;
}

#[tokio::test]
async fn events_carry_the_key_as_found_however_long() {
    let long = "k".repeat(200);
    let message = format!(r#"{{"topic":"{long}"}}"#);
    let setup = || {
        Setup::default()
            .env("ORDERING_STRATEGY", "topic")
            .env("ORDERING_PARTITION_MODE", "suffix")
    };
    assert_keys(
        setup(),
        "topic",
        &[
            (&message, Some(&long)),
            (r#"{"topic":"a b/c"}"#, Some("a b/c")),
        ],
    )
    .await;
}

#[tokio::test]
async fn trace_context_is_taken_from_the_message_then_meta_then_the_upgrade() {
    let from_message = format!(
        r#"{{"traceparent":"{OTHER_PARENT}","trace_id":"mine","meta":{{"traceparent":"{PARENT}","trace_id":"no"}}}}"#
    );
    let from_meta = format!(r#"{{"meta":{{"traceparent":"{OTHER_PARENT}","trace_id":77}}}}"#);
    let upgrade = |gateway: &support::Gateway| {
        Upgrade::to(gateway)
            .bearer(&token("42"))
            .header("traceparent", PARENT)
            .header("x-trace-id", "from-upgrade")
    };
    let messages = [
        from_message.as_str(),
        from_meta.as_str(),
        r#"{"type":"chat"}"#,
        "text",
    ];
    let requests = requests_of_upgrade(Setup::default(), upgrade, &messages).await;
    let expected = [
        (PARENT, "from-upgrade"),
        (OTHER_PARENT, "mine"),
        (OTHER_PARENT, "77"),
        (PARENT, "from-upgrade"),
        (PARENT, "from-upgrade"),
    ];
    for (request, (traceparent, trace_id)) in requests.iter().zip(expected) {
        let event = request.event();
        assert_eq!(
            (&event["traceparent"], &event["trace_id"]),
            (&json!(traceparent), &json!(trace_id)),
            "{event}"
        );
        assert_eq!(request.header("x-trace-id"), trace_id);
        assert_eq!(
            request.header("traceparent")[..35],
            traceparent[..35],
            "the webhook is part of the trace"
        );
    }
}

#[tokio::test]
async fn a_malformed_traceparent_is_ignored() {
    let bad = [
        "",
        "garbage",
        "00-0AF7651916CD43DD8448EB211C80319C-B7AD6B7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\nx-injected: 1",
    ];
    let messages: Vec<String> = bad
        .iter()
        .map(|text| json!({"traceparent": text}).to_string())
        .collect();
    let mut messages: Vec<&str> = messages.iter().map(String::as_str).collect();
    messages.extend([
        r#"{"traceparent":17}"#,
        r#"{"traceparent":["a"]}"#,
        r#"{"trace_id":"a b"}"#,
        r#"{"trace_id":"a\r\nx-injected: 1"}"#,
    ]);
    for request in requests_of(Setup::default(), &messages).await {
        let event = request.event();
        assert!(
            event.get("traceparent").is_none() && event.get("trace_id").is_none(),
            "{event}"
        );
        for header in ["traceparent", "x-trace-id", "x-injected"] {
            assert_eq!(request.header(header), "", "{event}");
        }
    }
}

#[tokio::test]
async fn the_trace_ids_field_and_header_are_configurable() {
    let setup = Setup::default()
        .env("TRACING_TRACE_ID_FIELD", "correlation_id")
        .env("TRACING_HEADER_NAME", "X-Correlation-Id");
    let requests = requests_of(setup, &[r#"{"correlation_id":"c-1","trace_id":"no"}"#]).await;
    let event = requests[0].event();
    assert_eq!(event["correlation_id"], "c-1");
    assert!(event.get("trace_id").is_none(), "{event}");
    assert_eq!(requests[0].header("x-correlation-id"), "c-1");
}

#[tokio::test]
async fn strategy_propagate_derives_the_trace_id_and_starts_nothing() {
    let setup = Setup::default().env("TRACING_STRATEGY", "propagate");
    let message = json!({"traceparent": PARENT}).to_string();
    let requests = requests_of(setup, &[&message, r#"{"type":"chat"}"#]).await;
    let event = requests[0].event();
    assert_eq!(event["traceparent"].as_str().unwrap()[..35], PARENT[..35]);
    assert_eq!(event["trace_id"], PARENT[3..35]);
    assert!(requests[1].event().get("traceparent").is_none());
}

#[tokio::test]
async fn strategy_full_starts_a_trace_where_the_client_sent_none() {
    let setup = Setup::default().env("TRACING_STRATEGY", "full");
    let requests = requests_of(setup, &[r#"{"type":"a"}"#, r#"{"type":"b"}"#]).await;
    let mut traces = std::collections::BTreeSet::new();
    for request in &requests {
        let event = request.event();
        let traceparent = event["traceparent"].as_str().unwrap().to_owned();
        assert!(
            traceparent.len() == 55 && traceparent.starts_with("00-"),
            "{event}"
        );
        assert_eq!(event["trace_id"], traceparent[3..35]);
        assert_eq!(request.header("traceparent")[..35], traceparent[..35]);
        traces.insert(traceparent[3..35].to_owned());
    }
    assert_eq!(traces.len(), 2, "each message is a trace of its own");
}

#[tokio::test]
async fn a_client_gets_no_trace_fields_back() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("TRACING_STRATEGY", "full")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    gateway
        .publish(&["user:42"], json!({"traceparent": "opaque"}))
        .await;
    assert_eq!(
        client.text().await,
        r#"{"type":"event","payload":{"traceparent":"opaque"}}"#
    );
}
