//! The log while the gateway runs: whose connection a line is about, and what level is in force.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::gateway::Answer;
use support::{API_KEY, Client, Gateway, Setup, Webhook, eventually};

async fn put(gateway: &Gateway, body: &Value) -> Answer {
    let body = body.to_string().into_bytes();
    let key = [("x-api-key", API_KEY)];
    gateway
        .request(Method::PUT, "/internal/log-level", &key, body)
        .await
}

#[tokio::test]
async fn every_line_of_a_connection_bears_its_id() {
    let webhook = Webhook::obedient().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("LOG_LEVEL", "debug")
        .env("WEBHOOK_RETRY_ATTEMPTS", 2)
        .env("WS_RATE_LIMIT_PER_SEC", 0.01)
        .env("WS_RATE_LIMIT_BURST", 3)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let [connection] = &gateway.wait_for_connections(1).await[..] else {
        panic!("one connection")
    };
    let id = connection["connection_id"].as_str().unwrap();
    let refused = client
        .ask(r#"{"type":"auth","token":"no.token.this"}"#)
        .await;
    assert!(refused.contains("auth_error"), "{refused}");
    client.send_json(&json!({"answer": 400})).await;
    client.send_json(&json!({"answer": 503})).await;
    client.send_json(&json!({"answer": 204})).await;
    let limited = client.ask(r#"{"type":"chat"}"#).await;
    assert!(limited.contains("rate_limited"), "{limited}");
    gateway
        .wait_for_metric("wsgw_dead_letters_total", &["exhausted"], 1.0)
        .await;
    client.close(Some((1000, ""))).await;
    let mut seen = Vec::new();
    for event in [
        "ws_connected",
        "ws_auth_failed",
        "webhook_failed",
        "dead_letter",
        "ws_rate_limited",
        "ws_disconnected",
    ] {
        let line = gateway.wait_for_log(event, id).await;
        assert_eq!(line["connection_id"], id, "{line}");
        seen.push(event);
    }
    // Whatever is logged of clients and events at this level has it, also what is not in the list above.
    for line in gateway.logs() {
        let event = line["event"].as_str().unwrap_or_default();
        if event.starts_with("ws_") || seen.contains(&event) {
            assert_eq!(line["connection_id"], id, "{line}");
        }
    }
}

#[tokio::test]
async fn the_level_changes_by_a_call_and_goes_back() {
    let gateway = Setup::default().start().await;
    let answer = gateway.get_with_key("/internal/log-level").await;
    assert_eq!(
        answer.json(),
        json!({"level": "info", "configured": "info"})
    );
    let published = async || {
        gateway.publish(&["nobody"], json!(1)).await;
        gateway.lines("api_publish").len()
    };
    assert_eq!(published().await, 0);
    let answer = put(
        &gateway,
        &json!({"level": "warn,wsgw::api=debug", "for_seconds": 1}),
    )
    .await;
    assert_eq!(
        answer.json(),
        json!({"level": "warn,wsgw::api=debug", "configured": "info", "for_seconds": 1})
    );
    published().await;
    gateway.wait_for_log("api_publish", "").await;
    gateway
        .wait_for_log("log_level_changed", r#""level":"info""#)
        .await;
    for (body, named) in [
        (json!({"level": "info,wsgw=loud"}), "wsgw=loud"),
        (json!({"level": "inof"}), "inof"),
        (json!({"level": 7}), "level"),
        (json!({"level": "info", "for_seconds": 0}), "for_seconds"),
        (json!({}), "level"),
    ] {
        let answer = put(&gateway, &body).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.text.contains(named), "{}", answer.text);
    }
    let level = gateway.get_with_key("/internal/log-level").await.json();
    assert_eq!(level["level"], "info", "what is wrong changes nothing");
}

#[tokio::test]
async fn sigusr1_goes_to_debug_and_back() {
    let gateway = Setup::default()
        .env("LOG_LEVEL", "warn,wsgw::server=info")
        .start()
        .await;
    gateway.signal("USR1");
    gateway
        .wait_for_log("log_level_changed", r#""level":"debug""#)
        .await;
    gateway.publish(&["nobody"], json!(1)).await;
    gateway.wait_for_log("api_publish", "").await;
    gateway.signal("USR1");
    gateway
        .wait_for_log("log_level_changed", r#""level":"warn,wsgw::server=info""#)
        .await;
    let before = gateway.lines("api_publish").len();
    gateway.publish(&["nobody"], json!(1)).await;
    gateway.signal("USR1");
    eventually("the third change", || {
        (gateway.lines("log_level_changed").len() == 3).then_some(())
    })
    .await;
    assert_eq!(gateway.lines("api_publish").len(), before);
}
