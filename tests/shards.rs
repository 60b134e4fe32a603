//! Messages in a fixed number of streams: which one each goes to, their order, and the nodes of a cluster they lie on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};
use support::replay::{REDIS, replay};
use support::{Client, Redis, RedisCluster, Setup, until, within};
use wsgw::stages::ordering_key::shard;

const SHARDS: u16 = 16;

fn sharded(dsn: impl AsRef<str>) -> Setup {
    Setup::default()
        .redis(dsn)
        .env("ORDERING_PARTITION_MODE", "shards")
        .set("brokers.redis.connect_timeout_seconds", 2)
        .set("brokers.redis.response_timeout_seconds", 2)
        .set("brokers.redis.reconnect_max_seconds", "0.5")
}

#[tokio::test]
async fn a_key_is_in_the_shard_that_a_backend_computes() {
    let redis = Redis::start().await;
    let gateway = sharded(redis.dsn())
        .env("ORDERING_STRATEGY", "topic")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    // As PHP has it: `crc32($key) % 16`.
    let expected = [
        ("room:123", 14),
        ("room:7", 5),
        ("a b/é", 12),
        (" padded ", 2),
        ("日本", 12),
    ];
    for (topic, _) in expected {
        client.send_json(&json!({"topic": topic})).await;
    }
    let mut of_shard: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
    for (topic, number) in expected {
        of_shard.entry(number).or_default().push(topic);
    }
    for (number, topics) in of_shard {
        let stream = format!("ws.inbox.{number}");
        let events = redis.wait_for_events(&stream, topics.len()).await;
        let mut found: Vec<&str> = events
            .iter()
            .map(|event| event["ordering_key"].as_str().unwrap())
            .collect();
        found.sort_unstable();
        let mut topics = topics;
        topics.sort_unstable();
        assert_eq!(found, topics, "{stream}");
    }
    assert_eq!(redis.events("ws.inbox").await.len(), 0);
    assert_eq!(redis.events("ws.events").await.len(), 1);
}

#[tokio::test]
async fn without_a_key_a_connection_is_in_one_shard() {
    let redis = Redis::start().await;
    let gateway = sharded(redis.dsn())
        .env("ORDERING_PARTITIONS", 3)
        .start()
        .await;
    for user in 0..8 {
        let mut client = Client::connect(&gateway, &user.to_string()).await;
        for n in 0..20 {
            client.feed(json!({"topic": n, "n": n}).to_string()).await;
        }
        client.round_trip().await;
        client.close(None).await;
    }
    redis.wait_for_events("ws.events", 16).await;
    let mut order: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in 0..3_u16 {
        for event in redis.events(&format!("ws.inbox.{number}")).await {
            let id = event["connection_id"].as_str().unwrap();
            assert_eq!(shard(id, 3), number);
            let n = event["message"]["n"].as_u64().unwrap();
            order.entry(id.to_owned()).or_default().push(n);
        }
    }
    assert_eq!(order.len(), 8);
    for order in order.into_values() {
        assert_eq!(order, (0..20).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn all_shards_are_trimmed_though_nothing_is_added_to_them() {
    let redis = Redis::start().await;
    for number in 0..SHARDS {
        let stream = format!("ws.inbox.{number}");
        for n in 0..300 {
            let id = format!("1000-{n}");
            redis
                .command::<String>("XADD", &[&stream, &id, "data", "{}"])
                .await;
        }
    }
    let _gateway = sharded(redis.dsn())
        .set("replay.strategy", "bounded")
        .set("replay.retention_seconds", 10)
        .start()
        .await;
    for number in 0..SHARDS {
        let stream = format!("ws.inbox.{number}");
        until(&stream, async || {
            redis.command::<usize>("XLEN", &[&stream]).await < 101
        })
        .await;
    }
}

#[tokio::test]
async fn a_shard_that_refuses_is_named() {
    let redis = Redis::start().await;
    redis.command::<()>("SET", &["ws.inbox.5", "x"]).await;
    let gateway = sharded(redis.dsn())
        .env("ORDERING_STRATEGY", "topic")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"topic": "room:7"})).await;
    client.send_json(&json!({"topic": "room:123"})).await;
    redis.wait_for_events("ws.inbox.14", 1).await;
    gateway.wait_for_check("redis", "`ws.inbox.5`").await;
    redis.command::<()>("DEL", &["ws.inbox.5"]).await;
    redis.wait_for_events("ws.inbox.5", 1).await;
    gateway.ready().await;
}

#[tokio::test]
async fn a_replayed_letter_is_in_the_shard_of_its_event() {
    for cluster in [None, Some(RedisCluster::start().await)] {
        let redis = match &cluster {
            None => Some(Redis::start().await),
            Some(_) => None,
        };
        let dsn = match (&redis, &cluster) {
            (Some(redis), _) => redis.dsn(),
            (_, Some(cluster)) => cluster.dsn(),
            _ => panic!("one of the two"),
        };
        let node = async |key: &str| match (&redis, &cluster) {
            (_, Some(cluster)) => cluster.node_of(key).await,
            (Some(redis), _) => redis,
            _ => panic!("one of the two"),
        };
        let gateway = sharded(dsn).env("ORDERING_STRATEGY", "topic").start().await;
        let letters = [
            (
                json!({"type": "message_received", "ordering_key": "room:7"}),
                5,
            ),
            (
                json!({"type": "message_received", "ordering_key": "room:123"}),
                14,
            ),
            (
                json!({"type": "message_received", "connection_id": "0192f5a8-4d2a-7c55-b3e7-1f4d8a6c9e02"}),
                15,
            ),
            (json!("no event"), 0),
        ];
        for (raw, _) in &letters {
            let raw = raw.to_string();
            node("ws.dlq")
                .await
                .command::<String>("XADD", &["ws.dlq", "*", "reason", "x", "raw", &raw])
                .await;
        }
        let expected = (200, json!({"replayed": letters.len()}));
        assert_eq!(replay(&gateway, REDIS, "{}").await, expected);
        for (raw, number) in &letters {
            let stream = format!("ws.inbox.{number}");
            let events = node(&stream).await.events(&stream).await;
            assert_eq!(events, std::slice::from_ref(raw), "{stream}");
        }
        assert_eq!(node("ws.dlq").await.stream("ws.dlq").await.len(), 0);
    }
}

const KEYS: u64 = 200;

/// Sends so many messages of all keys, the keys in turn.
async fn send(client: &mut Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let message = json!({"topic": format!("room:{}", n % KEYS), "n": n});
        client.feed(message.to_string()).await;
    }
    client.round_trip().await;
}

/// What lies in the shards: for each key and connection its numbers, those that came twice where they came first.
async fn read(cluster: &RedisCluster) -> BTreeMap<(String, String), Vec<u64>> {
    let mut found: BTreeMap<(String, String), Vec<u64>> = BTreeMap::new();
    for number in 0..SHARDS {
        let stream = format!("ws.inbox.{number}");
        let mut seen = HashSet::new();
        for event in cluster.node_of(&stream).await.events(&stream).await {
            let text = |member: &str| event[member].as_str().unwrap().to_owned();
            let key = text("ordering_key");
            assert_eq!(shard(&key, SHARDS), number, "{key}");
            if seen.insert(text("event_id")) {
                let n = event["message"]["n"].as_u64().unwrap();
                found
                    .entry((key, text("connection_id")))
                    .or_default()
                    .push(n);
            }
        }
    }
    found
}

#[tokio::test]
async fn shards_lie_on_all_nodes_of_a_cluster_and_outlive_the_restart_of_one() {
    const CLIENTS: usize = 2;
    const BEFORE: u64 = 2_000;
    const ALL: u64 = 4_000;
    let cluster = RedisCluster::start().await;
    let gateway = sharded(cluster.dsn())
        .env("ORDERING_STRATEGY", "topic")
        .start()
        .await;
    let mut clients = Client::connect_all(&gateway, 0..CLIENTS).await;
    for client in &mut clients {
        send(client, 0..BEFORE).await;
    }
    let whole = async |count: u64| {
        within("all messages in their shards", async {
            loop {
                let found = read(&cluster).await;
                let total: usize = found.values().map(Vec::len).sum();
                for ((key, connection), numbers) in &found {
                    assert!(
                        numbers.is_sorted(),
                        "{key} of {connection} out of order: {numbers:?}"
                    );
                }
                if total as u64 == count * CLIENTS as u64 {
                    return found;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await
    };
    whole(BEFORE).await;
    let mut nodes = BTreeMap::new();
    for number in 0..SHARDS {
        let stream = format!("ws.inbox.{number}");
        let node = cluster.node_of(&stream).await;
        let length: u64 = node.command("XLEN", &[&stream]).await;
        *nodes.entry(node.port()).or_insert(0) += length;
    }
    assert_eq!(nodes.len(), 3, "{nodes:?}");
    println!("messages on each node: {nodes:?}");

    // Without replicas the shards of this node wait for it.
    let node = cluster.node_of("ws.inbox.0").await;
    node.kill();
    for client in &mut clients {
        send(client, BEFORE..ALL).await;
    }
    gateway
        .wait_for_metric("wsgw_sink_buffer_events", &["redis"], 1.0)
        .await;
    node.up().await;
    cluster.whole().await;
    let found = whole(ALL).await;
    let keys: BTreeSet<&str> = found.keys().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys.len() as u64, KEYS);
    for numbers in found.values() {
        let first = numbers[0];
        let expected: Vec<u64> = (0..ALL).filter(|n| n % KEYS == first).collect();
        assert_eq!(*numbers, expected);
    }
    gateway.ready().await;
    assert_eq!(gateway.dead_letters(), [Value::Null; 0]);
}
