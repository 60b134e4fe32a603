//! Shards on a `RabbitMQ` cluster of two real nodes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Value, json};
use support::{Broker, BrokerSetup, Client};
use wsgw::stages::ordering_key::shard;

const SHARDS: u16 = 16;
const KEYS: u64 = 200;
const CLIENTS: usize = 2;
const BEFORE: u64 = 1_000;
const ALL: u64 = 2_000;

/// Sends so many messages of all keys, the keys in turn.
async fn send(client: &mut Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let message = json!({"topic": format!("room:{}", n % KEYS), "n": n});
        client.feed(message.to_string()).await;
    }
    client.round_trip().await;
}

/// What was taken out of the queues: for each key and connection its numbers, those that came twice where they came
/// first.
#[derive(Default)]
struct Taken {
    seen: HashSet<String>,
    numbers: BTreeMap<(String, String), Vec<u64>>,
}

impl Taken {
    async fn take(&mut self, vhost: &support::rabbitmq::Vhost<'_>) {
        for number in 0..SHARDS {
            for message in vhost.take(&format!("ws.inbox.{number}")).await {
                let event = message.json();
                let text = |member: &str| event[member].as_str().unwrap().to_owned();
                let key = text("ordering_key");
                assert_eq!(shard(&key, SHARDS), number, "{key}");
                if self.seen.insert(text("event_id")) {
                    let n = event["message"]["n"].as_u64().unwrap();
                    let lane = (key, text("connection_id"));
                    self.numbers.entry(lane).or_default().push(n);
                }
            }
        }
    }

    async fn take_all(&mut self, vhost: &support::rabbitmq::Vhost<'_>, count: u64) {
        let expected = usize::try_from(count).unwrap() * CLIENTS;
        support::within("all messages in their shards", async {
            while self.seen.len() < expected {
                self.take(vhost).await;
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quorum_queues_of_shards_lie_on_both_nodes_and_outlive_the_restart_of_one() {
    let first = BrokerSetup::default().start();
    let second = BrokerSetup {
        joins: Some(&first),
        ..BrokerSetup::default()
    }
    .start();
    let vhost = first.vhost();
    // By default all leaders are on the node that the gateway is connected to.
    let balanced = r#"{"queue-leader-locator":"balanced"}"#;
    vhost.ctl(&[
        "set_policy",
        "shards",
        r"^ws\.inbox",
        balanced,
        "--apply-to",
        "queues",
    ]);
    let gateway = vhost
        .sink()
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "shards")
        .set("events.rabbitmq.queue", "ws.events")
        .set("events.rabbitmq.inbox_queue", "ws.inbox")
        .set("events.rabbitmq.queue_type", "quorum")
        .start()
        .await;
    let mut clients = Client::connect_all(&gateway, 0..CLIENTS).await;
    for client in &mut clients {
        send(client, 0..BEFORE).await;
    }
    let leaders = leaders(&first, &vhost.name);
    println!("leaders on each node: {leaders:?}");
    assert_eq!(leaders.len(), 2, "{leaders:?}");
    assert_eq!(leaders.values().sum::<usize>(), usize::from(SHARDS));
    let mut taken = Taken::default();
    taken.take_all(&vhost, BEFORE).await;

    // Two of two are needed to agree on a message: what is sent now waits in the gateway.
    second.kill();
    for client in &mut clients {
        send(client, BEFORE..ALL).await;
    }
    gateway
        .wait_for_metric("wsgw_sink_buffer_events", &["rabbitmq"], 1.0)
        .await;
    second.start_again();
    second.wait_until_up();
    taken.take_all(&vhost, ALL).await;
    let keys: BTreeSet<&str> = taken.numbers.keys().map(|(key, _)| key.as_str()).collect();
    assert_eq!(keys.len() as u64, KEYS);
    for ((key, _), numbers) in &taken.numbers {
        let expected: Vec<u64> = (0..ALL).filter(|n| n % KEYS == numbers[0]).collect();
        assert_eq!(*numbers, expected, "{key}");
    }
    gateway.ready().await;
    assert_eq!(gateway.dead_letters(), [Value::Null; 0]);
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
}

/// How many shards are led by each node.
fn leaders(broker: &Broker, vhost: &str) -> BTreeMap<String, usize> {
    let listed = broker.ctl(&["list_queues", "-p", vhost, "name", "leader"]);
    let mut leaders = BTreeMap::new();
    for line in listed.lines() {
        if let Some((_, node)) = line
            .split_once('\t')
            .filter(|(name, _)| name.starts_with("ws.inbox."))
        {
            *leaders.entry(node.to_owned()).or_default() += 1;
        }
    }
    leaders
}
