//! Messages against the schemas of their types.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    reason = "a test fails by panicking, and counters are whole numbers"
)]

mod support;

use support::{Client, Setup, Webhook, in_crate};

/// Terminator mode with the schemas that ship.
fn validating(settings: &str) -> Setup {
    let schemas = in_crate("schemas/messages");
    let stage = format!(
        "    - validate: {{ schemas: \"{}\"{settings} }}\n    - trace: {{}}",
        schemas.display()
    );
    Setup::default().edited("    - trace: {}", &stage)
}

#[tokio::test]
async fn what_does_not_fit_is_answered_and_not_published() {
    let webhook = Webhook::start().await;
    let gateway = validating("").webhook(&webhook).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for (text, answer) in [
        (
            r#"{"type":"chat","payload":7}"#,
            r#"{"type":"invalid","errors":[{"path":"/payload","message":"value is not of type \"string\""}]}"#,
        ),
        (
            r#"{"type":"chat","id":1.50,"payload":"x"}"#,
            r#"{"type":"invalid","id":1.50,"errors":[{"path":"/id","message":"value is not of types \"integer\", \"string\""}]}"#,
        ),
        (
            r#"{"type":"../../chat","payload":"x"}"#,
            r#"{"type":"invalid","errors":[{"path":"/type","message":"no known type"}]}"#,
        ),
        (
            "plain",
            r#"{"type":"invalid","errors":[{"path":"","message":"the message is no JSON object"}]}"#,
        ),
    ] {
        assert_eq!(client.ask(text).await, answer);
    }
    client.send_binary(vec![1, 2]).await;
    assert!(client.text().await.starts_with(r#"{"type":"invalid""#));
    client.round_trip().await;
    client.send(r#"{"type":"chat","payload":"good"}"#).await;
    client.close(None).await;
    let events = webhook.wait_for(3).await;
    assert_eq!(events[1]["message"]["payload"], "good");
    for (reason, count) in [("schema", 2.0), ("unknown_type", 1.0), ("raw", 2.0)] {
        let counted = gateway
            .metric("wsgw_invalid_messages_total", &[reason])
            .await;
        assert_eq!(counted, count, "{reason}");
    }
}

#[tokio::test]
async fn what_there_is_no_schema_for_passes_if_the_file_says_so() {
    let webhook = Webhook::start().await;
    let gateway = validating(", on_unknown: pass, on_raw: pass")
        .webhook(&webhook)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for text in [r#"{"type":"other"}"#, "{}", "plain"] {
        client.send(text).await;
    }
    let answer = client.ask(r#"{"type":"chat"}"#).await;
    assert!(answer.starts_with(r#"{"type":"invalid""#), "{answer}");
    client.close(None).await;
    assert_eq!(webhook.wait_for(5).await.len(), 5);
}

#[tokio::test]
async fn a_schema_that_cannot_be_used_is_named_at_start() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("chat.json"), "{\"type\":\n \"strin\"}").unwrap();
    let gateway = validating("")
        .set("stages.validate.schemas", folder.path().display())
        .spawn();
    assert_eq!(gateway.ended().await.code(), Some(1));
    let said = gateway.stderr() + &gateway.stdout();
    for part in ["stages.validate.schemas", "chat.json", "at `#/type`"] {
        assert!(said.contains(part), "{said}");
    }
}
