//! Acknowledgements: a client hears what became of its message, and may send it again without it taking effect twice.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    reason = "a test fails by panicking, and counters are whole numbers"
)]

mod support;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::{Client, Redis, RedisSetup, Reply, Setup, Webhook, in_crate};

const INBOX: &str = "ws.inbox";

/// Messages that a client sends over a connection that is lost.
const COUNT: usize = 60;

/// The shipped pipeline, at a Redis, quick to notice what becomes of it.
fn acknowledged(redis: &Redis) -> Setup {
    Setup::default()
        .yaml(include_str!("../pipelines/acknowledged.yaml"))
        .set(
            "stages.validate.schemas",
            in_crate("schemas/messages").display(),
        )
        .env("REDIS_DSN", redis.dsn())
        .set("brokers.redis.connect_timeout_seconds", 1)
        .set("brokers.redis.response_timeout_seconds", 1)
        .set("brokers.redis.reconnect_max_seconds", "0.2")
}

/// Terminator mode with acknowledgements, and repetitions passing once.
fn by_webhook(webhook: &Webhook) -> Setup {
    Setup::default()
        .edited("    - trace: {}", "    - dedupe: {}\n    - trace: {}")
        .webhook(webhook)
        .set("stages.fan_out.ack", "all")
}

fn chat(id: impl serde::Serialize) -> String {
    json!({"type": "chat", "id": id, "topic": "public:a", "payload": "hello"}).to_string()
}

fn ack(id: impl serde::Serialize) -> Value {
    json!({"type": "ack", "id": id})
}

fn nack(id: impl serde::Serialize, reason: &str) -> Value {
    json!({"type": "nack", "id": id, "reason": reason})
}

/// The ids of the messages in the inbox, in their order. An event whose answer was lost with Redis is there twice, with
/// one `event_id`, and counts once, as it does for a backend.
async fn ids(redis: &Redis) -> Vec<String> {
    let events = redis.events(INBOX).await;
    let mut seen = BTreeSet::new();
    events
        .iter()
        .filter(|event| seen.insert(event["event_id"].to_string()))
        .map(|event| event["message"]["id"].to_string())
        .collect()
}

/// The ids of the next answers, which must all be acknowledgements.
async fn acks(client: &mut Client, count: usize) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for _ in 0..count {
        let answer = client.json().await;
        assert_eq!(answer["type"], "ack", "{answer}");
        ids.insert(answer["id"].to_string());
    }
    ids
}

#[tokio::test]
async fn an_ack_comes_once_redis_has_the_event_and_not_before() {
    let redis = RedisSetup::default().durable().start().await;
    let gateway = acknowledged(&redis).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let answer = client.ask(chat("first")).await;
    assert_eq!(answer, r#"{"type":"ack","id":"first"}"#);
    assert_eq!(
        ids(&redis).await,
        ["\"first\""],
        "there by the time of the ack"
    );

    redis.kill();
    client.send(chat(2)).await;
    client.send(chat("thr\u{e9}e")).await;
    client.round_trip().await;
    assert_eq!(gateway.metric("wsgw_acks_total", &["ack"]).await, 1.0);
    redis.up().await;
    // The connection is idle: the acks come by themselves.
    assert_eq!(client.json().await, ack(2));
    assert_eq!(client.json().await, ack("thr\u{e9}e"));
    assert_eq!(ids(&redis).await, ["\"first\"", "2", "\"thr\u{e9}e\""]);
}

#[tokio::test]
async fn what_is_sent_again_after_a_lost_connection_takes_effect_once() {
    let redis = RedisSetup::default().durable().start().await;
    let gateway = acknowledged(&redis)
        .env("WS_RATE_LIMIT_PER_SEC", 0)
        .start()
        .await;
    let mut unacked: BTreeSet<String> = (0..COUNT).map(|n| n.to_string()).collect();
    let numbers = |unacked: &BTreeSet<String>| -> Vec<usize> {
        unacked.iter().map(|id| id.parse().unwrap()).collect()
    };

    let mut client = Client::connect(&gateway, "42").await;
    for n in numbers(&unacked) {
        client.send(chat(n)).await;
    }
    for id in acks(&mut client, 10).await {
        unacked.remove(&id);
    }
    // The rest may be confirmed, on its way, or not even read.
    client.reset();
    redis.kill();
    let mut client = Client::connect(&gateway, "42").await;
    for n in numbers(&unacked) {
        client.send(chat(n)).await;
    }
    client.send(chat("last")).await;
    client.round_trip_past_acks().await;
    client.reset();
    redis.up().await;
    let mut client = Client::connect(&gateway, "42").await;
    unacked.insert("\"last\"".into());
    for id in &unacked {
        client
            .send(chat(serde_json::from_str::<Value>(id).unwrap()))
            .await;
    }
    assert_eq!(acks(&mut client, unacked.len()).await, unacked);
    let mut arrived = ids(&redis).await;
    arrived.sort();
    let expected: BTreeSet<String> = (0..COUNT)
        .map(|n| n.to_string())
        .chain(["\"last\"".to_owned()])
        .collect();
    assert_eq!(arrived, expected.into_iter().collect::<Vec<_>>());
    // Once more, long after: acknowledged at once, and not published.
    assert_eq!(client.ask(chat("last")).await, ack("last").to_string());
    assert_eq!(ids(&redis).await.len(), COUNT + 1);
}

#[tokio::test]
async fn a_dead_letter_is_a_nack_and_the_id_is_free_again() {
    let webhook = Webhook::scripted(|request| {
        let refused = request.event()["message"]["payload"] == "bad" && request.earlier == 0;
        Reply::Status(if refused { 400 } else { 204 })
    })
    .await;
    let gateway = by_webhook(&webhook).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let bad = r#"{"id":"a","payload":"bad"}"#;
    let answer = client.ask(bad).await;
    assert_eq!(
        answer,
        r#"{"type":"nack","id":"a","reason":"undeliverable"}"#
    );
    assert_eq!(gateway.dead_letters().len(), 1);
    // Another message by the same id: it passes, since nothing with the id took effect.
    let good = r#"{"id":"a","payload":"good"}"#;
    assert_eq!(client.ask(good).await, r#"{"type":"ack","id":"a"}"#);
    assert_eq!(client.ask(good).await, r#"{"type":"ack","id":"a"}"#);
    client.close(None).await;
    let events = webhook.wait_for(3).await;
    let payloads: Vec<_> = events.iter().map(|e| &e["message"]["payload"]).collect();
    assert_eq!(payloads, [&Value::Null, &json!("good"), &Value::Null]);
    assert_eq!(gateway.metric("wsgw_acks_total", &["nack"]).await, 1.0);
}

#[tokio::test]
async fn any_asks_for_one_sink_and_all_for_all() {
    let redis = Redis::start().await;
    for (mode, webhook_says, answers) in [
        ("any", Reply::Hold, Some(ack(1))),
        ("any", Reply::Status(400), Some(ack(1))),
        ("all", Reply::Hold, None),
        ("all", Reply::Status(400), Some(nack(1, "undeliverable"))),
    ] {
        let webhook = Webhook::scripted(move |_| webhook_says.clone()).await;
        let gateway = acknowledged(&redis)
            .webhook(&webhook)
            .env("EVENTS_MODE", "both")
            .set("stages.fan_out.ack", mode)
            .start()
            .await;
        redis.command::<()>("DEL", &[INBOX]).await;
        let mut client = Client::connect(&gateway, "42").await;
        client.send(chat(1)).await;
        if let Some(answer) = answers {
            assert_eq!(client.json().await, answer, "{mode}");
            redis.wait_for_events(INBOX, 1).await;
        } else {
            redis.wait_for_events(INBOX, 1).await;
            client.round_trip().await;
            webhook.release();
            assert_eq!(client.json().await, ack(1), "{mode}");
        }
        webhook.release();
    }
}

#[tokio::test]
async fn with_an_id_every_refusal_is_a_nack() {
    let redis = Redis::start().await;
    let gateway = acknowledged(&redis)
        .env("WS_RATE_LIMIT_PER_SEC", "0.001")
        .env("WS_RATE_LIMIT_BURST", 6)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    assert_eq!(
        client.ask(r#"{"type":"chat","id":"a"}"#).await,
        r#"{"type":"nack","id":"a","reason":"invalid","errors":[{"path":"","message":"\"payload\" is a required property"}]}"#
    );
    assert_eq!(
        client.ask(r#"{"type":"chat"}"#).await,
        r#"{"type":"invalid","errors":[{"path":"","message":"\"payload\" is a required property"}]}"#
    );
    assert_eq!(
        client
            .ask(r#"{"type":"chat","id":"b","topic":"room:43:x","payload":"x"}"#)
            .await,
        r#"{"type":"nack","id":"b","reason":"forbidden","field":"topic"}"#
    );
    assert_eq!(
        client
            .ask(r#"{"type":"chat","topic":"room:43:x","payload":"x"}"#)
            .await,
        r#"{"type":"forbidden","field":"topic"}"#
    );
    for id in ["b", "c"] {
        assert_eq!(
            client.json_of(chat(id)).await,
            ack(id),
            "what was refused is free"
        );
    }
    assert_eq!(client.json_of(chat("d")).await, nack("d", "rate_limited"));
    assert_eq!(client.ask("{}").await, r#"{"type":"rate_limited"}"#);
    assert_eq!(
        client.ask(r#"{"type":"ping","id":"e"}"#).await,
        r#"{"type":"pong"}"#
    );
    assert_eq!(ids(&redis).await, ["\"b\"", "\"c\""]);
}

#[tokio::test]
async fn without_room_an_id_gets_a_nack_and_is_free_again() {
    let webhook = Webhook::scripted(|_| Reply::Hold).await;
    let gateway = by_webhook(&webhook)
        .set("stages.fan_out.on_full", "reject")
        .set("events.webhook.buffer.max_events", 1)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    // `connected` has the only place.
    webhook.wait_for_requests(1).await;
    for _ in 0..2 {
        assert_eq!(client.json_of(r#"{"id":7}"#).await, nack(7, "overloaded"));
    }
    assert_eq!(client.ask("{}").await, r#"{"type":"overloaded"}"#);
    webhook.release();
    loop {
        let answer = client.json_of(r#"{"id":7}"#).await;
        if answer == ack(7) {
            break;
        }
        assert_eq!(answer, nack(7, "overloaded"), "until the place is free");
    }
    let events = webhook.wait_for(2).await;
    assert_eq!(events[1]["message"], json!({"id": 7}));
}

#[tokio::test]
async fn a_client_may_wait_for_so_many_answers_and_then_is_not_read() {
    let redis = RedisSetup::default().durable().start().await;
    let gateway = acknowledged(&redis)
        .env("WS_RATE_LIMIT_PER_SEC", 0)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    assert_eq!(client.json_of(chat("first")).await, ack("first"));
    redis.kill();
    for n in 0..700 {
        client.send(chat(n)).await;
    }
    let before = 513.0;
    gateway
        .wait_for_metric("ws_messages_total", &[], before)
        .await;
    assert_eq!(gateway.metric("ws_messages_total", &[]).await, before);
    redis.up().await;
    assert_eq!(acks(&mut client, 700).await.len(), 700);
    assert_eq!(redis.events(INBOX).await.len(), 701);
}

#[tokio::test]
async fn nobody_is_acknowledged_unless_the_file_asks_for_it() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send(r#"{"id":"a"}"#).await;
    client.send(r#"{"id":"a"}"#).await;
    webhook.wait_for(3).await;
    client.round_trip().await;
}

#[tokio::test]
async fn a_message_under_way_when_the_gateway_stops_is_acknowledged_or_not_but_never_wrongly() {
    let redis = Redis::start().await;
    let gateway = acknowledged(&redis).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..20 {
        client.send(chat(n)).await;
    }
    gateway.signal("TERM");
    let (texts, closed) = client.rest().await;
    assert_eq!(closed.code, 1001);
    assert!(gateway.ended().await.success());
    let there: BTreeSet<String> = ids(&redis).await.into_iter().collect();
    let (hint, answers) = texts.split_last().unwrap();
    assert!(hint.contains(r#""type":"reconnect""#), "{hint}");
    for text in answers {
        let answer: Value = serde_json::from_str(text).unwrap();
        assert_eq!(answer["type"], "ack", "{answer}");
        assert!(there.contains(&answer["id"].to_string()), "{answer}");
    }
}

trait Ask {
    async fn json_of(&mut self, text: impl Into<String>) -> Value;
    async fn round_trip_past_acks(&mut self);
}

impl Ask for Client {
    /// Sends a message and gives the answer.
    async fn json_of(&mut self, text: impl Into<String>) -> Value {
        self.send(text.into()).await;
        self.json().await
    }

    /// Asks for a pong; acknowledgements may come before it.
    async fn round_trip_past_acks(&mut self) {
        self.send(r#"{"type":"ping"}"#).await;
        while self.text().await != r#"{"type":"pong"}"# {}
    }
}
