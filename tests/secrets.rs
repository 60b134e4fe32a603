//! No token, key, secret or payload is ever logged, at whatever level, nor shows in the metrics.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use reqwest::Method;
use serde_json::json;
use support::client::Upgrade;
use support::tokens::{claims, key_file, signed_with};
use support::{Client, Gateway, Reply, Setup, Webhook, eventually, gateway::run, now, signed};

const KEY: &str = "canary-api-key-0123456789";
const SECRET: &str = "canary-webhook-secret-0123456789";

/// Everything that was planted, under the name by which a failure tells it.
struct Canaries(Vec<(&'static str, String)>);

impl Canaries {
    fn plant(&mut self, name: &'static str, text: impl Into<String>) -> String {
        let text = text.into();
        self.0.push((name, text.clone()));
        text
    }

    /// A token, whose parts must not show either.
    fn plant_token(&mut self, name: &'static str, token: String) -> String {
        let parts: Vec<&str> = token.split('.').collect();
        assert_eq!(parts.len(), 3);
        self.0.push((name, parts[1][..24].to_owned()));
        self.0.push((name, parts[2][..24].to_owned()));
        token
    }

    fn assert_absent(&self, place: &str, text: &str) {
        for (name, canary) in &self.0 {
            let line = text.lines().find(|line| line.contains(canary.as_str()));
            assert!(
                line.is_none(),
                "{name} shows in {place}: {}",
                line.unwrap_or_default()
            );
        }
    }
}

/// Lives a life in which every secret is used, rightly and wrongly.
async fn live(gateway: &Gateway, webhook: &Webhook, canaries: &mut Canaries) {
    let header = canaries.plant_token(
        "header token",
        signed(claims("1", json!({"note": "canary one"}))),
    );
    let query = canaries.plant_token(
        "query token",
        signed(claims("2", json!({"note": "canary two"}))),
    );
    let cookie = canaries.plant_token(
        "cookie token",
        signed(claims("3", json!({"note": "canary three"}))),
    );
    let protocol = canaries.plant_token(
        "subprotocol token",
        signed(claims("4", json!({"note": "canary four"}))),
    );
    let expired = canaries.plant_token(
        "expired token",
        signed(claims(
            "5",
            json!({"exp": now() - 60, "note": "canary five"}),
        )),
    );
    let forged = canaries.plant_token(
        "forged token",
        signed_with(
            &key_file("rsa_other.pem"),
            None,
            claims("6", json!({"note": "canary six"})),
        ),
    );
    let garbage = canaries.plant("garbage token", "canary-garbage-token");
    let other_cookie = canaries.plant("another cookie", "canary-other-cookie");
    let other_query = canaries.plant("another query parameter", "canary-other-query");
    let to = || Upgrade::to(gateway);
    let mut first = to()
        .bearer(&header)
        .header("cookie", format!("sid={other_cookie}"))
        .open()
        .await;
    let mut clients = vec![
        to().target(format!("/ws?access_token={query}&x={other_query}"))
            .open()
            .await,
        to().header("cookie", format!("access_token={cookie}"))
            .open()
            .await,
        to().header("sec-websocket-protocol", format!("bearer, {protocol}"))
            .open()
            .await,
    ];
    for client in &mut clients {
        client.round_trip().await;
    }
    for bad in [&expired, &forged, &garbage] {
        assert_eq!(to().bearer(bad).open().await.closed().await.code, 4401);
        assert_eq!(
            to().target(format!("/ws?token={bad}"))
                .open()
                .await
                .closed()
                .await
                .code,
            4401
        );
    }
    // Requests that fail before a token is looked at.
    gateway.get(&format!("/ws?token={query}")).await;
    gateway.get(&format!("/nothing?token={query}")).await;

    let renewal = canaries.plant_token(
        "in-band token",
        signed(claims("1", json!({"note": "canary seven"}))),
    );
    for token in [&renewal, &forged, &garbage] {
        first
            .ask(json!({"type": "auth", "token": token}).to_string())
            .await;
    }
    let message = canaries.plant("message", "canary-message-payload");
    first
        .send_json(&json!({"type": "chat", "payload": message}))
        .await;
    let text = canaries.plant("text message", "canary-raw-text");
    first.send(text).await;
    let binary = canaries.plant("binary message", "canary-binary-message");
    first.send_binary(binary).await;
    let dead = canaries.plant("dead-lettered message", "canary-dead-letter");
    first
        .send_json(&json!({"type": "refused", "payload": dead}))
        .await;
    let push = canaries.plant("push", "canary-push-payload");
    assert_eq!(gateway.publish(&["user:1"], json!({"text": push})).await, 1);
    assert!(first.text().await.contains("canary-push-payload"));
    let broken = canaries.plant("broken push", "canary-broken-push");
    gateway
        .post_text(
            "/internal/publish",
            &format!("{{\"subjects\":[\"a\"],\"payload\":\"{broken}"),
        )
        .await;
    gateway
        .post_text(
            "/internal/publish",
            &format!("{{\"subjects\":\"{broken}\",\"payload\":1}}"),
        )
        .await;
    let wrong_key = canaries.plant("wrong API key", "canary-wrong-key");
    gateway
        .request(
            Method::GET,
            "/internal/connections",
            &[("x-api-key", &wrong_key)],
            Vec::new(),
        )
        .await;
    // A level that is none is named in the answer, but not in the log; payloads cannot be asked for.
    let level = canaries.plant("wrong log level", "canary-log-level");
    for level in [&level[..], "trace,lapin=trace,hyper=trace"] {
        let body = json!({"level": level}).to_string().into_bytes();
        let key = [("x-api-key", KEY)];
        gateway
            .request(Method::PUT, "/internal/log-level", &key, body)
            .await;
    }
    let body = json!({"api_key": wrong_key, "subjects": ["a"], "payload": 1}).to_string();
    gateway
        .request(Method::POST, "/internal/publish", &[], body.into_bytes())
        .await;
    webhook.wait_for_type("1", "message_received").await;
    eventually("the dead letter", || {
        (!gateway.dead_letters().is_empty()).then_some(())
    })
    .await;
    first.close(Some((1000, ""))).await;
    for client in clients {
        client.close(None).await;
    }
    gateway.wait_for_connections(0).await;
}

async fn assert_silent(format: &str) {
    let webhook = Webhook::scripted(|request| {
        let event = request.event();
        match event["message"]["type"].as_str() {
            Some("refused") => Reply::Status(400),
            _ if request.earlier == 0 => Reply::Status(503),
            _ => Reply::Status(204),
        }
    })
    .await;
    let mut canaries = Canaries(Vec::new());
    canaries.plant("API key", KEY);
    canaries.plant("webhook secret", SECRET);
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("LOG_LEVEL", "trace")
        .env("LOG_FORMAT", format)
        .env("GATEWAY_API_KEY", KEY)
        .env("SYMFONY_WEBHOOK_SECRET", SECRET)
        .set(
            "stages.auth.token_sources",
            "[header, query, subprotocol, cookie]",
        )
        .set("stages.auth.jwt.leeway", 0)
        .start_in_any_format()
        .await;
    live(&gateway, &webhook, &mut canaries).await;
    canaries.assert_absent("/metrics", &gateway.metrics().await);
    canaries.assert_absent("/ready", &gateway.get("/ready").await.text);
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    let stderr = gateway.stderr();
    assert!(stderr.contains("ws_connected"), "it does log: {stderr}");
    canaries.assert_absent("standard error", &stderr);
    canaries.assert_absent("standard output", &gateway.stdout());
}

#[tokio::test]
async fn nothing_secret_is_in_json_logs_at_trace_nor_in_metrics() {
    assert_silent("json").await;
}

#[tokio::test]
async fn nothing_secret_is_in_text_logs_at_trace_nor_in_metrics() {
    assert_silent("text").await;
}

#[tokio::test]
async fn a_password_in_the_webhooks_url_is_not_logged() {
    let address = support::webhook::free_address().await;
    let gateway = Setup::default()
        .env(
            "SYMFONY_WEBHOOK_URL",
            format!("http://user:canary-password@{address}/?sig=canary-signature"),
        )
        .env("LOG_LEVEL", "trace")
        .env("WEBHOOK_RETRY_ATTEMPTS", 2)
        .start()
        .await;
    Client::connect(&gateway, "42").await.close(None).await;
    eventually("the dead letter", || {
        (!gateway.dead_letters().is_empty()).then_some(())
    })
    .await;
    let letters = format!("{:?}", gateway.dead_letters());
    for (place, text) in [
        ("logs", gateway.stderr()),
        ("dead letters", letters),
        ("metrics", gateway.metrics().await),
    ] {
        for canary in ["canary-password", "canary-signature"] {
            let line = text.lines().find(|line| line.contains(canary));
            assert!(
                line.is_none(),
                "{canary} shows in the {place}: {}",
                line.unwrap_or_default()
            );
        }
    }
}

#[test]
fn explain_and_check_print_no_secret() {
    let file = support::in_crate("pipelines/terminator.yaml");
    let key_file = support::in_crate("tests/keys/rsa.pub.pem");
    let env = [
        ("GATEWAY_API_KEY", KEY),
        ("SYMFONY_WEBHOOK_SECRET", SECRET),
        (
            "SYMFONY_WEBHOOK_URL",
            "http://user:canary-password@127.0.0.1:1/",
        ),
        ("JWT_PUBLIC_KEY_FILE", key_file.to_str().unwrap()),
        ("WEBHOOK_RETRY_ATTEMPTS", "banana"),
    ];
    for (command, env) in [
        ("explain", &env[..4]),
        ("check", &env[..4]),
        ("explain", &env),
        ("check", &env),
        ("run", &env),
    ] {
        let output = run(&[command, file.to_str().unwrap()], env);
        let text = [output.stdout, output.stderr]
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .concat();
        assert!(
            !text.is_empty() || command == "check",
            "{command} says something"
        );
        for canary in [KEY, SECRET, "canary-password"] {
            let line = text.lines().find(|line| line.contains(canary));
            assert!(
                line.is_none(),
                "{command} prints {canary}: {}",
                line.unwrap_or_default()
            );
        }
    }
}
