//! How long a connection lives: the token's expiry, its renewal in-band, and WebSocket pings.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::client::Frame;
use support::raw::op;
use support::tokens::{claims, now_exactly};
use support::{Client, Raw, Setup, Webhook, now, signed, token};

const UNAUTHORISED: u16 = 4401;
const AUTH_OK: &str = r#"{"type":"auth_ok"}"#;
const AUTH_ERROR: &str = r#"{"type":"auth_error"}"#;

/// Scheduling on a busy machine; far below the minute that JWT libraries allow unless told otherwise.
const SLACK: f64 = 5.0;

fn auth(token: &str) -> String {
    json!({"type": "auth", "token": token}).to_string()
}

fn expiring_at(user: &str, exp: u64) -> String {
    signed(claims(user, json!({"exp": exp})))
}

#[tokio::test]
async fn a_connection_that_outlives_its_token_is_closed_with_4401() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let exp = now() + 2;
    let mut client = Client::with_token(&gateway, &expiring_at("42", exp)).await;
    client.round_trip().await;
    let closed = client.closed().await;
    let late = now_exactly() - exp as f64;
    assert_eq!(closed.code, UNAUTHORISED, "{closed:?}");
    assert!(
        (0.0..SLACK).contains(&late),
        "closed {late} s after the expiry"
    );
    let event = webhook.wait_for_type("42", "disconnected").await;
    assert_eq!(event["close_code"], UNAUTHORISED);
}

#[tokio::test]
async fn the_leeway_prolongs_a_connection_by_exactly_itself() {
    let gateway = Setup::default().env("JWT_LEEWAY", 2).start().await;
    let exp = now() + 1;
    let mut client = Client::with_token(&gateway, &expiring_at("42", exp)).await;
    assert_eq!(client.closed().await.code, UNAUTHORISED);
    let late = now_exactly() - exp as f64;
    assert!(
        (2.0..2.0 + SLACK).contains(&late),
        "closed {late} s after the expiry"
    );
}

#[tokio::test]
async fn a_fresh_token_in_band_keeps_the_connection_open() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let exp = now() + 3;
    let mut client = Client::with_token(&gateway, &expiring_at("42", exp)).await;
    assert_eq!(client.ask(auth(&token("42"))).await, AUTH_OK);
    while now_exactly() < exp as f64 + 1.5 {
        client.round_trip().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // And again, this time to an earlier end.
    let exp = now() + 2;
    assert_eq!(client.ask(auth(&expiring_at("42", exp))).await, AUTH_OK);
    assert_eq!(client.closed().await.code, UNAUTHORISED);
    let late = now_exactly() - exp as f64;
    assert!(
        (0.0..SLACK).contains(&late),
        "closed {late} s after the new expiry"
    );
    let events = webhook.wait_for(2).await;
    let types: Vec<_> = events
        .iter()
        .map(|event| event["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        types,
        ["connected", "disconnected"],
        "auth messages are never published"
    );
}

#[tokio::test]
async fn a_refused_token_in_band_is_answered_and_the_old_expiry_stands() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let exp = now() + 4;
    let mut client = Client::with_token(&gateway, &expiring_at("42", exp)).await;
    for refused in [
        auth(&token("43")),
        auth(&expiring_at("42", now() - 10)),
        auth("nonsense"),
        auth(&format!("{}x", token("42"))),
        r#"{"type":"auth"}"#.to_owned(),
        r#"{"type":"auth","token":null}"#.to_owned(),
        r#"{"type":"auth","token":{"a":[]}}"#.to_owned(),
        auth(""),
    ] {
        assert_eq!(client.ask(refused.clone()).await, AUTH_ERROR, "{refused}");
    }
    client.send(r#"{"type":"after"}"#).await;
    assert_eq!(client.closed().await.code, UNAUTHORISED);
    let late = now_exactly() - exp as f64;
    assert!(
        (0.0..SLACK).contains(&late),
        "closed {late} s after the old expiry"
    );
    let events = webhook.wait_for(3).await;
    assert_eq!(
        events.len(),
        3,
        "connected, the message after, disconnected: {events:?}"
    );
    assert_eq!(
        events[1]["message"]["type"], "after",
        "auth messages are never published"
    );
}

#[tokio::test]
async fn a_client_that_does_not_answer_a_ping_is_lost() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.ping_interval_seconds", "0.2")
        .set("server.pong_timeout_seconds", "0.5")
        .start()
        .await;
    let mut mute = Raw::upgraded(&gateway, "mute").await;
    let mut pinged = 0;
    while let Some(frame) = mute.next().await {
        pinged += u32::from(frame.opcode == op::PING);
    }
    assert!(pinged >= 1, "it was pinged before it counted as lost");
    let event = webhook.wait_for_type("mute", "disconnected").await;
    assert_eq!(
        (&event["close_code"], &event["reason"]),
        (&json!(1006), &json!(""))
    );
    gateway.wait_for_connections(0).await;
}

#[tokio::test]
async fn a_client_that_answers_pings_stays_though_it_says_nothing() {
    let gateway = Setup::default()
        .set("server.ping_interval_seconds", "0.2")
        .set("server.pong_timeout_seconds", "5")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let mut pings = 0;
    while pings < 8 {
        match client.next().await {
            // The library answers each by itself.
            Some(Ok(Frame::Ping(_))) => pings += 1,
            other => panic!("after {pings} pings: {other:?}"),
        }
    }
    client.round_trip().await;
}

#[tokio::test]
async fn a_clients_ping_is_answered_by_a_pong_with_its_payload() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut raw = Raw::upgraded(&gateway, "42").await;
    let longest = [b'x'; 125];
    for payload in [&b""[..], b"are you there?", &longest] {
        raw.frame(op::FIN | op::PING, payload).await;
        let pong = raw.next().await.unwrap();
        assert_eq!((pong.opcode, pong.payload.as_slice()), (op::PONG, payload));
    }
    // An unsolicited pong is allowed and means nothing (RFC 6455 section 5.5.3).
    raw.frame(op::FIN | op::PONG, b"hello").await;
    raw.frame(op::FIN | op::TEXT, br#"{"type":"after"}"#).await;
    let events = webhook.wait_for(2).await;
    assert_eq!(
        events[1]["message"]["type"], "after",
        "WebSocket pings make no event"
    );
}

#[tokio::test]
async fn a_clients_signs_of_life_show_in_last_seen_at() {
    let gateway = Setup::default()
        .set("server.ping_interval_seconds", "0.2")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let first = gateway.connections().await[0].clone();
    let seen = |entry: &serde_json::Value| entry["last_seen_at"].as_u64().unwrap();
    assert!(seen(&first) >= first["connected_at"].as_u64().unwrap());
    let started = Instant::now();
    loop {
        client.round_trip().await;
        let entry = gateway.connections().await[0].clone();
        assert_eq!(entry["connected_at"], first["connected_at"]);
        if seen(&entry) > seen(&first) {
            break;
        }
        assert!(
            started.elapsed() < support::PATIENCE,
            "{entry} never moved on from {first}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
