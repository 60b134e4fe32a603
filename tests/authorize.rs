//! What users may name in their messages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    reason = "a test fails by panicking, and counters are whole numbers"
)]

mod support;

use serde_json::json;
use support::tokens::claims;
use support::{Client, Setup, Webhook, signed};

const FORBIDDEN: &str = r#"{"type":"forbidden","field":"topic"}"#;

/// Terminator mode with rules for the topic.
fn authorizing(settings: &str) -> Setup {
    let stage = format!(
        "    - authorize:\n        rules:\n          - field: topic\n            allow: [\"public:*\", \"room:{{user_id}}:*\"]\n            allow_claim: /topics\n{settings}    - trace: {{}}"
    );
    Setup::default().edited("    - trace: {}", &stage)
}

fn token(user: &str, topics: &[&str]) -> String {
    signed(claims(user, json!({"topics": topics})))
}

#[tokio::test]
async fn users_may_name_their_own_and_what_their_token_lists() {
    let webhook = Webhook::start().await;
    let gateway = authorizing("").webhook(&webhook).start().await;
    let mut client = Client::with_token(&gateway, &token("42", &["news:*"])).await;
    for bad in [
        r#"{"topic":"room:43:a"}"#,
        r#"{"topic":["public:a","room:43:a"]}"#,
        r#"{"topic":"public:a","meta":{"topic":"room:43:a"}}"#,
        r#"{"topic":"sport:a","secret":"never echoed"}"#,
    ] {
        assert_eq!(client.ask(bad).await, FORBIDDEN, "{bad}");
    }
    for good in [
        r#"{"topic":"public:a","n":1}"#,
        r#"{"topic":["room:42:a","news:a"],"n":2}"#,
        r#"{"n":3}"#,
    ] {
        client.send(good).await;
    }
    let events = webhook.wait_for(4).await;
    let numbers: Vec<_> = events[1..].iter().map(|e| &e["message"]["n"]).collect();
    assert_eq!(numbers, [1, 2, 3]);

    // A renewed token counts from the next message on.
    let renewal = json!({"type": "auth", "token": token("42", &["sport:*"])});
    assert_eq!(
        client.ask(renewal.to_string()).await,
        r#"{"type":"auth_ok"}"#
    );
    assert_eq!(client.ask(r#"{"topic":"news:a"}"#).await, FORBIDDEN);
    client.send(r#"{"topic":"sport:a","n":4}"#).await;
    assert_eq!(webhook.wait_for(5).await[4]["message"]["n"], 4);
    assert_eq!(
        gateway.metric("wsgw_forbidden_messages_total", &[]).await,
        5.0
    );

    // Whoever is called `*` is still one user.
    let mut star = Client::with_token(&gateway, &token("*", &[])).await;
    assert_eq!(star.ask(r#"{"topic":"room:42:a"}"#).await, FORBIDDEN);
    let logs = format!("{:?}", gateway.logs());
    assert!(
        logs.contains("ws_forbidden") && !logs.contains("room:43"),
        "{logs}"
    );
}

#[tokio::test]
async fn missing_names_and_too_many_denials() {
    let webhook = Webhook::start().await;
    let gateway = authorizing("        on_missing: reject\n        close_after_denials: 3\n")
        .webhook(&webhook)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    assert_eq!(client.ask("{}").await, FORBIDDEN);
    assert_eq!(client.ask("plain").await, FORBIDDEN);
    client.round_trip().await;
    client.send(r#"{"topic":"public:a"}"#).await;
    client.send(r#"{"topic":"x"}"#).await;
    let closed = client.closed().await;
    assert_eq!((closed.code, &*closed.reason), (1008, "forbidden"));
    let events = webhook.wait_for(3).await;
    assert_eq!(events[2]["close_code"], 1008);
}
