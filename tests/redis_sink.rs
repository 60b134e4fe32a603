//! Events in the streams of a real Redis: their shape, their order, their partitions, and how long they stay.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Value, json};
use support::{Client, Redis, Setup, Webhook, eventually, within};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn fields(entry: &(String, Vec<(String, String)>)) -> Vec<&str> {
    entry.1.iter().map(|(name, _)| name.as_str()).collect()
}

fn by_connection(events: &[Value]) -> HashMap<String, Vec<u64>> {
    let mut seqs: HashMap<String, Vec<u64>> = HashMap::new();
    for event in events {
        seqs.entry(event["connection_id"].as_str().unwrap().to_owned())
            .or_default()
            .push(event["seq"].as_u64().unwrap());
    }
    seqs
}

#[tokio::test]
async fn an_entry_holds_the_event_in_the_field_data() {
    let redis = Redis::start().await;
    let gateway = Setup::default().redis(redis.dsn()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client
        .send_json(&json!({"type": "chat", "payload": "hello world"}))
        .await;
    client.send_binary(vec![0, 255]).await;
    client.close(Some((1000, "bye"))).await;
    let inbox = redis.wait_for_events("ws.inbox", 2).await;
    let events = redis.wait_for_events("ws.events", 2).await;
    assert_eq!(inbox[0]["message"]["payload"], "hello world");
    assert_eq!(inbox[1]["message"]["encoding"], "base64");
    assert_eq!(
        [&events[0]["type"], &events[1]["type"]],
        ["connected", "disconnected"]
    );
    let order = [&events[0], &inbox[0], &inbox[1], &events[1]].map(|event| event["seq"].clone());
    assert_eq!(order, [1, 2, 3, 4]);
    for stream in ["ws.inbox", "ws.events"] {
        for entry in redis.stream(stream).await {
            assert_eq!(fields(&entry), ["data"]);
        }
    }
    let schema: Value = serde_json::from_str(include_str!("../schemas/event.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for event in inbox.iter().chain(&events) {
        assert!(schema.is_valid(event), "{event}");
    }
    gateway
        .wait_for_metric("broker_publish_total", &[], 4.0)
        .await;
}

#[tokio::test]
async fn messenger_reads_body_and_headers() {
    let redis = Redis::start().await;
    let gateway = Setup::default()
        .redis(redis.dsn())
        .set("events.redis_stream.format", "messenger")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client
        .send_json(&json!({"type": "chat", "text": "a \"quoted\" ü", "traceparent": TRACEPARENT}))
        .await;
    let inbox = within("an entry", async {
        loop {
            let inbox = redis.stream("ws.inbox").await;
            if !inbox.is_empty() {
                return inbox;
            }
        }
    })
    .await;
    assert_eq!(fields(&inbox[0]), ["message"]);
    let message: Value = serde_json::from_str(&inbox[0].1[0].1).unwrap();
    let event: Value = serde_json::from_str(message["body"].as_str().unwrap()).unwrap();
    assert_eq!(event["message"]["text"], "a \"quoted\" ü");
    assert_eq!(
        message,
        json!({
            "body": message["body"],
            "headers": {
                "Content-Type": "application/json",
                "type": "message_received",
                "event_id": event["event_id"],
                "traceparent": TRACEPARENT,
            },
        })
    );
    let connected = &redis.stream("ws.events").await[0];
    let connected: Value = serde_json::from_str(&connected.1[0].1).unwrap();
    assert_eq!(connected["headers"]["type"], "connected");
    assert!(connected["headers"].get("traceparent").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_and_every_key_keeps_its_order() {
    const CLIENTS: usize = 8;
    const MESSAGES: usize = 500;
    let redis = Redis::start().await;
    let gateway = Arc::new(
        Setup::default()
            .redis(redis.dsn())
            .env("ORDERING_STRATEGY", "topic")
            .start()
            .await,
    );
    let mut clients = tokio::task::JoinSet::new();
    for user in 0..CLIENTS {
        let gateway = Arc::clone(&gateway);
        clients.spawn(async move {
            let mut client = Client::connect(&gateway, &user.to_string()).await;
            for n in 0..MESSAGES {
                // One topic of all, one of each client's own.
                let topic = if n % 2 == 0 {
                    "all".into()
                } else {
                    format!("own-{user}")
                };
                client
                    .feed(json!({"topic": topic, "n": n}).to_string())
                    .await;
            }
            client.round_trip().await;
            client.close(None).await;
        });
    }
    clients.join_all().await;
    let inbox = redis.wait_for_events("ws.inbox", CLIENTS * MESSAGES).await;
    assert_eq!(inbox.len(), CLIENTS * MESSAGES);
    let mut last: HashMap<(String, String), u64> = HashMap::new();
    for event in &inbox {
        let lane = (
            event["connection_id"].to_string(),
            event["ordering_key"].to_string(),
        );
        let seq = event["seq"].as_u64().unwrap();
        let before = last.insert(lane, seq).unwrap_or_default();
        assert!(before < seq, "{before} before {seq}");
    }
    let events = redis.wait_for_events("ws.events", CLIENTS * 2).await;
    for seqs in by_connection(&events).values() {
        assert_eq!(seqs[..], [1, MESSAGES as u64 + 2]);
    }
}

#[tokio::test]
async fn partitions_are_streams_of_their_own() {
    let redis = Redis::start().await;
    let gateway = Setup::default()
        .redis(redis.dsn())
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "suffix")
        .env("ORDERING_PARTITION_MAX_LEN", 10)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for topic in ["room:123", "a b/ü", "longer than ten"] {
        client.send_json(&json!({"topic": topic})).await;
    }
    client.send("no topic: the type `raw` is the key").await;
    let sha1 = {
        use sha1::Digest as _;
        let digest = sha1::Sha1::digest(b"longer than ten");
        digest
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    for partition in ["room:123", "a_b__", &sha1, "raw"] {
        let stream = format!("ws.inbox.{partition}");
        assert_eq!(redis.wait_for_events(&stream, 1).await.len(), 1, "{stream}");
    }
    assert_eq!(redis.events("ws.inbox").await.len(), 0);
    assert_eq!(redis.events("ws.events").await.len(), 1);
}

#[tokio::test]
async fn bounded_streams_are_trimmed_by_length_and_by_age() {
    let redis = Redis::start().await;
    // Old entries, which no gateway ever adds to again.
    for n in 0..300 {
        let id = format!("1000-{n}");
        redis
            .command::<String>("XADD", &["ws.events", &id, "data", "{}"])
            .await;
    }
    let gateway = Setup::default()
        .redis(redis.dsn())
        .set("replay.strategy", "bounded")
        .set("replay.maxlen", 200)
        .set("replay.retention_seconds", 10)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..2000 {
        client.feed(format!("{{\"n\":{n}}}")).await;
    }
    client.round_trip().await;
    gateway
        .wait_for_metric("broker_publish_total", &[], 2001.0)
        .await;
    let length: usize = redis.command("XLEN", &["ws.inbox"]).await;
    assert!((200..=400).contains(&length), "{length}");
    within("old entries to go", async {
        while redis.command::<usize>("XLEN", &["ws.events"]).await > 100 {}
    })
    .await;
    let events = redis.stream("ws.events").await;
    assert!(events.last().unwrap().1[0].1.contains("connected"));
}

#[tokio::test]
async fn unbounded_streams_keep_everything() {
    let redis = Redis::start().await;
    let gateway = Setup::default()
        .redis(redis.dsn())
        .set("replay.maxlen", 100)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..1000 {
        client.feed(format!("{{\"n\":{n}}}")).await;
    }
    client.round_trip().await;
    let inbox = redis.wait_for_events("ws.inbox", 1000).await;
    assert_eq!(
        by_connection(&inbox).into_values().next().unwrap(),
        (2..=1001).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn webhook_and_redis_get_the_same_events() {
    let redis = Redis::start().await;
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .redis(redis.dsn())
        .webhook(&webhook)
        .env("EVENTS_MODE", "both")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"n": 1})).await;
    let delivered = webhook.wait_for(2).await;
    assert_eq!(redis.wait_for_events("ws.events", 1).await[0], delivered[0]);
    assert_eq!(redis.wait_for_events("ws.inbox", 1).await[0], delivered[1]);
}

#[tokio::test]
async fn dead_letters_of_the_webhook_go_to_redis_and_to_the_file_without_it() {
    let redis = Redis::start().await;
    let webhook = Webhook::scripted(|_| support::Reply::Status(400)).await;
    let gateway = Setup::default()
        .redis(redis.dsn())
        .env("EVENTS_MODE", "webhook")
        .webhook(&webhook)
        .start()
        .await;
    assert_eq!(
        gateway.get("/ready").await.json()["checks"].get("redis"),
        None,
        "what only keeps dead letters is not required"
    );
    let client = Client::connect(&gateway, "42").await;
    let letter = within("a dead letter", async {
        loop {
            if let Some(letter) = redis.stream("ws.dlq").await.pop() {
                return letter;
            }
        }
    })
    .await;
    let mut names = fields(&letter);
    names.sort_unstable();
    assert_eq!(names, ["event_id", "failed_at", "raw", "reason", "sink"]);
    let values: HashMap<_, _> = letter.1.into_iter().collect();
    let event: Value = serde_json::from_str(&values["raw"]).unwrap();
    assert_eq!(event["type"], "connected");
    assert_eq!(event["event_id"], values["event_id"]);
    assert_eq!(values["sink"], "webhook");
    assert!(values["reason"].contains("400"), "{values:?}");
    values["failed_at"].parse::<u64>().unwrap();
    assert_eq!(gateway.dead_letters(), [json!(null); 0]);

    redis.kill();
    client.close(None).await;
    let kept = eventually("a line in the file", || gateway.dead_letters().pop()).await;
    assert_eq!(kept["sink"], "webhook");
}

#[tokio::test]
async fn what_is_left_at_the_end_becomes_dead_letters() {
    let redis = Redis::start().await;
    let gateway = Setup::default()
        .redis(redis.dsn())
        .set("server.drain_seconds", "0.5")
        .start()
        .await;
    redis.kill();
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"n": 1})).await;
    client.round_trip().await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let seqs: Vec<u64> = gateway
        .dead_letters()
        .iter()
        .map(|letter| {
            assert_eq!(letter["sink"], "redis");
            let event: Value = serde_json::from_str(letter["raw"].as_str().unwrap()).unwrap();
            event["seq"].as_u64().unwrap()
        })
        .collect();
    assert_eq!(seqs, [1, 2, 3]);
}
