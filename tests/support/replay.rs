//! Gateways with dead letters, calls of their replay API, and `wsgw replay`.

use std::process::Output;

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Confirmation};
use reqwest::Method;
use serde_json::{Value, json};

use super::gateway::{Answer, run};
use super::rabbitmq::Vhost;
use super::{API_KEY, Gateway, Redis, Setup, within};

pub const YAML: &str = r#"
snoke_ws:
  mode: core
  server: { listen: "127.0.0.1:0", api_key: "${GATEWAY_API_KEY}", drain_seconds: 1 }
  stages:
    - auth: { jwt: { algorithm: RS256, public_key_file: "${JWT_PUBLIC_KEY_FILE}" } }
    - fan_out: {}
  events:
    stdout: { enabled: true }
    redis_stream: { dsn: "${REDIS_DSN:-}" }
    rabbitmq: { dsn: "${RABBITMQ_DSN:-}" }
  replay:
    api: { rate_limit: { strategy: "${LIMIT:-none}" } }
"#;

pub const RABBITMQ: &str = "/internal/replay/rabbitmq";
pub const REDIS: &str = "/internal/replay/redis";
pub const ARCHIVE: &str = "/internal/replay/archive";

pub fn setup() -> Setup {
    Setup::default().yaml(YAML)
}

pub fn with_rabbitmq(vhost: &Vhost<'_>) -> Setup {
    setup()
        .env("RABBITMQ_DSN", vhost.dsn())
        .set("replay.rabbitmq.max_batch", 100_000)
}

pub fn with_redis(redis: &Redis) -> Setup {
    setup().env("REDIS_DSN", redis.dsn())
}

/// Fills the queue of dead letters, which the gateway declares, with numbered bodies, and binds a queue to the inbox, which
/// a replay declares.
pub async fn fill(gateway: &Gateway, vhost: &Vhost<'_>, numbers: std::ops::Range<usize>) {
    let listed = gateway.get_with_key("/internal/dead-letters").await.json();
    assert!(listed.get("unavailable").is_none(), "{listed}");
    let (connection, channel) = vhost.channel().await;
    gateway.post_text(RABBITMQ, "").await;
    vhost.bind("ws.inbox", "ws.inbox", "ws.inbox").await;
    let options = ConfirmSelectOptions::default();
    channel.confirm_select(options).await.unwrap();
    let mut confirmations = Vec::new();
    for number in numbers {
        let body = json!({"n": number}).to_string();
        let publishing = channel.basic_publish(
            "ws.dlq".into(),
            "ws.dlq".into(),
            BasicPublishOptions::default(),
            body.as_bytes(),
            BasicProperties::default().with_delivery_mode(2),
        );
        confirmations.push(publishing.await.unwrap());
    }
    for confirmation in confirmations {
        assert!(matches!(confirmation.await.unwrap(), Confirmation::Ack(_)));
    }
    connection.close(200, "OK".into()).await.unwrap();
}

pub async fn fill_redis(redis: &Redis, count: usize) {
    for number in 0..count {
        let raw = json!({"n": number}).to_string();
        let fields = [
            "reason",
            "HTTP 400",
            "raw",
            &raw,
            "sink",
            "webhook",
            "failed_at",
            "1700000000",
        ];
        let mut arguments = vec!["ws.dlq", "*"];
        arguments.extend(fields);
        let _: String = redis.command("XADD", &arguments).await;
    }
}

pub async fn length(redis: &Redis, stream: &str) -> usize {
    redis.command("XLEN", &[stream]).await
}

/// The numbers in a queue, which is emptied.
pub async fn numbers(vhost: &Vhost<'_>, queue: &str) -> Vec<u64> {
    let messages = vhost.take(queue).await;
    messages
        .iter()
        .map(|message| message.json()["n"].as_u64().unwrap())
        .collect()
}

pub async fn replay_as(gateway: &Gateway, path: &str, key: &str, body: &str) -> Answer {
    let headers = [("x-api-key", API_KEY), ("idempotency-key", key)];
    gateway
        .request(Method::POST, path, &headers, body.into())
        .await
}

pub async fn replay(gateway: &Gateway, path: &str, body: &str) -> (u16, Value) {
    let answer = gateway.post_text(path, body).await;
    (answer.status.as_u16(), answer.json())
}

pub fn audited(gateway: &Gateway, event: &str) -> Vec<Value> {
    let mut logs = gateway.logs();
    logs.retain(|line| line["event"] == event);
    logs
}

/// Runs `wsgw replay` to its end.
pub async fn wsgw(url: &str, args: &[&str], key: &str) -> Output {
    let mut all: Vec<String> = ["replay", "--url", url].map(String::from).into();
    all.extend(args.iter().map(|arg| (*arg).to_owned()));
    let key = key.to_owned();
    let running = tokio::task::spawn_blocking(move || {
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        run(&all, &[("REPLAY_API_KEY", &key)])
    });
    within("wsgw replay", running).await.unwrap()
}

#[track_caller]
pub fn assert_output(output: &Output, code: i32, stdout: &str, stderr: &[&str]) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{told}");
    for part in stderr {
        assert!(told.contains(part), "{part:?} is not in {told:?}");
    }
}
