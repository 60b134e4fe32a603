//! Reloads that change what stands behind the gateway: sinks, sources, presence and leases come, go and move.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::reload::{pipeline, webhook_at};
use support::{Broker, Client, Gateway, Redis, Setup, Webhook, eventually, free_port, until};

const STAGES: &str = "- ping_filter: {}\n    - fan_out: {}";
const BROKERS: &str =
    "  brokers: { redis: { reconnect_max_seconds: 0.2, response_timeout_seconds: 1 } }\n";

async fn start(yaml: &str) -> Gateway {
    Setup::default().yaml(yaml).start().await
}

/// Core mode with everything in one Redis; the parts may be changed by replacing text.
fn core(dsn: &str) -> String {
    pipeline(
        ", node_id: a",
        STAGES,
        &format!(
            "  mode: core\n  \
             transport: {{ redis_stream: {{ dsn: \"{dsn}\", stream: ws.outbox }} }}\n  \
             events: {{ redis_stream: {{ dsn: \"{dsn}\", inbox_stream: ws.inbox }} }}\n  \
             presence: {{ type: redis, strategy: ttl, ttl_seconds: 100, redis: {{ dsn: \"{dsn}\", prefix: \"presence:\" }} }}\n  \
             leases: {{ ttl_seconds: 1 }}\n{BROKERS}"
        ),
    )
}

fn terminator(webhook: &Webhook) -> String {
    pipeline(", node_id: a", STAGES, &webhook_at(&webhook.url(), ""))
}

async fn keys(redis: &Redis, pattern: &str) -> Vec<String> {
    let mut keys: Vec<String> = redis
        .try_command("KEYS", &[pattern])
        .await
        .unwrap_or_default();
    keys.sort();
    keys
}

fn push_of(n: usize) -> Value {
    json!({"type": "event", "payload": n})
}

#[tokio::test]
async fn modes_are_switched_both_ways_under_open_connections() {
    let (redis, webhook) = (Redis::start().await, Webhook::start().await);
    let gateway = start(&terminator(&webhook)).await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send(r#"{"n":1}"#).await;
    webhook.wait_for(2).await;

    let line = gateway.reload(&core(&redis.dsn())).await;
    assert_eq!(line["waits_for_restart"], "");
    gateway.ready().await;
    client.send(r#"{"n":2}"#).await;
    let events = redis.wait_for_events("ws.inbox", 1).await;
    assert_eq!(
        (&events[0]["seq"], &events[0]["message"]["n"]),
        (&json!(3), &json!(2))
    );
    redis.push("ws.outbox", &["user:42"], json!(1)).await;
    assert_eq!(client.json().await, push_of(1));
    // The connection from before is adopted by presence and leases.
    until("the connection's presence", async || {
        keys(&redis, "presence:conn:*").await.len() == 1
    })
    .await;
    until("the connection's record", async || {
        keys(&redis, "wsgw:conns:*").await.len() == 1
    })
    .await;

    let line = gateway.reload(&terminator(&webhook)).await;
    // Records of open connections stay where they are.
    assert_eq!(line["waits_for_restart"], "leases.dsn, leases.ttl_seconds");
    client.send(r#"{"n":3}"#).await;
    let event = webhook
        .wait_for_event("the third message", |event| event["message"]["n"] == 3)
        .await;
    assert_eq!(event["seq"], 4);
    until("no presence in Redis", async || {
        keys(&redis, "presence:*").await.is_empty()
    })
    .await;
    assert_eq!(gateway.connections().await.len(), 1);
    assert!(!gateway.get("/ready").await.text.contains("redis"));
    let answer = gateway.publish(&["user:42"], json!(2)).await;
    assert_eq!(answer, 1);
    assert_eq!(client.json().await, push_of(2));
    client.close(Some((1000, ""))).await;
    webhook.wait_for_type("42", "disconnected").await;
    until("no record", async || {
        keys(&redis, "wsgw:conns:*").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn who_was_connected_before_leases_began_is_spoken_for() {
    let (redis, webhook) = (Redis::start().await, Webhook::start().await);
    let gateway = start(&terminator(&webhook)).await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    webhook.wait_for(1).await;
    gateway.reload(&core(&redis.dsn())).await;
    until("the connection's record", async || {
        keys(&redis, "wsgw:conns:*").await.len() == 1
    })
    .await;
    let _survivor = start(&core(&redis.dsn()).replace("node_id: a", "node_id: b")).await;
    gateway.signal("KILL");
    let events = redis.wait_for_events("ws.events", 1).await;
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["type"], &events[0]["reason"]),
        (&json!("disconnected"), &json!("node_lost"))
    );
}

#[tokio::test]
async fn a_renamed_stream_gets_what_comes_after_and_the_old_one_what_came_before() {
    let redis = Redis::start().await;
    let gateway = start(&core(&redis.dsn())).await;
    let mut client = Client::connect(&gateway, "42").await;
    let renamed = core(&redis.dsn())
        .replace("ws.inbox", "other.inbox")
        .replace("ws.outbox", "other.outbox");
    client.send(r#"{"n":1}"#).await;
    client.round_trip().await;
    redis.push("ws.outbox", &["user:42"], json!(1)).await;
    assert_eq!(client.json().await, push_of(1));
    let links: Vec<String> = clients(&redis).await;
    gateway.reload(&renamed).await;
    client.send(r#"{"n":2}"#).await;
    let before = redis.wait_for_events("ws.inbox", 1).await;
    let after = redis.wait_for_events("other.inbox", 1).await;
    assert_eq!(
        (&before[0]["message"]["n"], &after[0]["message"]["n"]),
        (&json!(1), &json!(2))
    );
    eventually("the new source to read", || {
        (gateway.lines("source_subscribed").len() == 2).then_some(())
    })
    .await;
    redis.push("other.outbox", &["user:42"], json!(2)).await;
    assert_eq!(client.json().await, push_of(2));
    until("the old source's connection to end", async || {
        clients(&redis).await.len() <= links.len()
    })
    .await;
    redis.push("ws.outbox", &["user:42"], json!(3)).await;
    redis.push("other.outbox", &["user:42"], json!(4)).await;
    assert_eq!(
        client.json().await,
        push_of(4),
        "the old stream is not read any more"
    );
    gateway.ready().await;
}

/// The ids of the connections to a Redis, but for the asking one.
async fn clients(redis: &Redis) -> Vec<String> {
    let list: String = redis.command("CLIENT", &["LIST"]).await;
    let lines = list.lines().filter(|line| !line.contains("cmd=client"));
    lines
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn what_did_not_change_keeps_its_connections() {
    let redis = Redis::start().await;
    let gateway = start(&core(&redis.dsn())).await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let before = clients(&redis).await;
    for n in 0..5 {
        let changed =
            core(&redis.dsn()).replace("drain_seconds: 2", &format!("drain_seconds: {n}.5"));
        gateway.reload(&changed).await;
    }
    client.send("{}").await;
    redis.wait_for_events("ws.inbox", 1).await;
    assert_eq!(clients(&redis).await, before);
}

#[tokio::test]
async fn a_changed_way_to_connect_makes_new_connections_and_loses_nothing() {
    const MESSAGES: usize = 200;
    let redis = Redis::start().await;
    let gateway = start(&core(&redis.dsn())).await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let before = clients(&redis).await;
    let changed = |ms: usize| {
        core(&redis.dsn()).replace(
            "response_timeout_seconds: 1",
            &format!("response_timeout_seconds: 1.{ms}"),
        )
    };
    for n in 0..MESSAGES {
        if n % 40 == 0 {
            gateway.reload(&changed(n + 1)).await;
        }
        client.send(json!({"n": n}).to_string()).await;
        redis.push("ws.outbox", &["user:42"], json!(n)).await;
    }
    for n in 0..MESSAGES {
        assert_eq!(client.json().await, push_of(n));
    }
    let events = redis.wait_for_events("ws.inbox", MESSAGES).await;
    let numbers: Vec<_> = events
        .iter()
        .map(|event| event["message"]["n"].clone())
        .collect();
    assert_eq!(numbers, (0..MESSAGES).map(Value::from).collect::<Vec<_>>());
    until(
        "as many connections as before, and other ones",
        async || {
            let now = clients(&redis).await;
            now.len() == before.len() && now.iter().all(|id| !before.contains(id))
        },
    )
    .await;
}

#[tokio::test]
async fn presence_is_changed_in_place_and_moved() {
    let redis = Redis::start().await;
    let gateway = start(&core(&redis.dsn())).await;
    let client = Client::connect(&gateway, "42").await;
    gateway.wait_for_connections(1).await;
    let key = keys(&redis, "presence:conn:*").await.remove(0);
    let ttl = async |key: &str| -> i64 { redis.command("TTL", &[key]).await };
    assert!(ttl(&key).await <= 100);

    gateway
        .reload(&core(&redis.dsn()).replace("ttl_seconds: 100", "ttl_seconds: 5000"))
        .await;
    until("a longer life", async || ttl(&key).await > 100).await;
    let session = core(&redis.dsn()).replace("strategy: ttl", "strategy: session");
    gateway.reload(&session).await;
    until("no end", async || ttl(&key).await == -1).await;
    gateway.reload(&core(&redis.dsn())).await;
    until("an end again", async || {
        (1..=100).contains(&ttl(&key).await)
    })
    .await;

    let moved = core(&redis.dsn()).replace("presence:\"", "elsewhere:\"");
    gateway.reload(&moved).await;
    until("the new entries", async || {
        keys(&redis, "elsewhere:conn:*").await.len() == 1
    })
    .await;
    until("the old ones to go", async || {
        keys(&redis, "presence:*").await.is_empty()
    })
    .await;
    gateway.wait_for_connections(1).await;
    client.close(Some((1000, ""))).await;
    until("nothing left", async || {
        keys(&redis, "elsewhere:*").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_broker_that_is_away_holds_up_no_reload() {
    let (redis, webhook) = (Redis::start().await, Webhook::start().await);
    let gateway = start(&core(&redis.dsn())).await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    redis.wait_for_events("ws.events", 1).await;
    redis.kill();
    client.send(r#"{"n":1}"#).await;
    client.round_trip().await;
    // To another Redis that is away as well: it starts, and /ready says what is missing.
    let away = format!("redis://127.0.0.1:{}/0", free_port());
    gateway.reload(&core(&away)).await;
    gateway.wait_for_check("redis", "").await;
    client.round_trip().await;
    gateway.reload(&terminator(&webhook)).await;
    gateway.ready().await;
    client.send(r#"{"n":2}"#).await;
    webhook
        .wait_for_event("the second message", |event| event["message"]["n"] == 2)
        .await;
    // What the Redis that is gone did not take in time is in the dead letters.
    eventually("the first message's dead letter", || {
        let letters = gateway.dead_letters();
        letters
            .iter()
            .any(|letter| letter["raw"].to_string().contains("\\\"n\\\":1"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn rabbitmq_comes_and_goes_by_reloads() {
    let broker = Broker::shared();
    let (vhost, webhook) = (broker.vhost(), Webhook::start().await);
    let gateway = start(&terminator(&webhook)).await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let core = |exchange: &str| {
        pipeline(
            ", node_id: a",
            STAGES,
            &format!(
                "  mode: core\n  \
                 transport: {{ rabbitmq: {{ dsn: \"{dsn}\", exchange: {exchange} }} }}\n  \
                 events: {{ rabbitmq: {{ dsn: \"{dsn}\", inbox_queue: ws.inbox }} }}\n",
                dsn = vhost.dsn()
            ),
        )
    };
    gateway.reload(&core("ws.outbox")).await;
    gateway.ready().await;
    client.send(r#"{"n":1}"#).await;
    let messages = vhost.take_count("ws.inbox", 1).await;
    assert_eq!(messages[0].json()["message"]["n"], 1);
    vhost.push("user:42", [json!(1)]).await;
    assert_eq!(client.json().await, push_of(1));
    gateway.reload(&core("other.outbox")).await;
    eventually("the other source to read", || {
        (gateway.lines("source_subscribed").len() == 2).then_some(())
    })
    .await;
    gateway.reload(&terminator(&webhook)).await;
    client.send(r#"{"n":2}"#).await;
    webhook
        .wait_for_event("the second message", |event| event["message"]["n"] == 2)
        .await;
    assert!(!gateway.get("/ready").await.text.contains("rabbitmq"));
}
