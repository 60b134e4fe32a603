//! Core mode end to end, with the shipped pipelines: several gateways, Redis, `RabbitMQ` and the webhook at once.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::rabbitmq::Vhost;
use support::{Broker, Client, Redis, Setup, Webhook, within};

const BOTH: &str = include_str!("../pipelines/both.yaml");
const CORE: &str = include_str!("../pipelines/core.yaml");
const RABBITMQ: &str = include_str!("../pipelines/core-rabbitmq.yaml");

/// A gateway on the `RabbitMQ` of a test, with queues for its events.
fn setup(yaml: &str, vhost: &Vhost<'_>) -> Setup {
    Setup::default()
        .yaml(yaml)
        .env("RABBITMQ_DSN", vhost.dsn())
        .env("RABBITMQ_INBOX_QUEUE", "inbox")
        .env("RABBITMQ_EVENTS_QUEUE", "events")
        .set("server.drain_seconds", 1)
}

/// The events of each user, as their `seq` and type.
fn by_user(events: &[Value]) -> BTreeMap<String, Vec<(u64, String)>> {
    let mut users: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for event in events {
        let of = |key: &str| event[key].as_str().unwrap().to_owned();
        let seq = event["seq"].as_u64().unwrap();
        users
            .entry(of("user_id"))
            .or_default()
            .push((seq, of("type")));
    }
    users
}

async fn rabbitmq_events(vhost: &Vhost<'_>, queue: &str, count: usize) -> Vec<Value> {
    let taken = vhost.take_count(queue, count).await;
    taken.iter().map(support::rabbitmq::Message::json).collect()
}

#[tokio::test]
async fn every_sink_gets_every_event_in_order() {
    const USERS: usize = 6;
    const MESSAGES: usize = 50;
    let (vhost, redis, webhook) = (
        Broker::shared().vhost(),
        Redis::start().await,
        Webhook::start().await,
    );
    let gateway = |n: usize| {
        setup(BOTH, &vhost)
            .env("REDIS_DSN", redis.dsn())
            .webhook(&webhook)
            .set("server.node_id", format!("node-{n}"))
            .start()
    };
    let gateways = [gateway(0).await, gateway(1).await];
    let mut clients = Client::connect_all(&gateways[0], 0..USERS / 2).await;
    clients.extend(Client::connect_all(&gateways[1], USERS / 2..USERS).await);
    for n in 0..MESSAGES {
        for client in &mut clients {
            client.send_json(&json!({"n": n})).await;
        }
    }
    for mut client in clients {
        // What was sent before is read before the close frame.
        client.round_trip().await;
        client.close(Some((1000, "bye"))).await;
    }

    let all = USERS * (MESSAGES + 2);
    let told = webhook.wait_for(all).await;
    let lifecycle = redis.wait_for_events("ws.events", 2 * USERS).await;
    let messages = redis.wait_for_events("ws.inbox", USERS * MESSAGES).await;
    let published = rabbitmq_events(&vhost, "events", 2 * USERS).await;
    let received = rabbitmq_events(&vhost, "inbox", USERS * MESSAGES).await;

    let of_type = |kind: &str| -> Vec<Value> {
        let of_kind = |event: &&Value| event["type"] == kind;
        told.iter().filter(of_kind).cloned().collect()
    };
    let last = u64::try_from(MESSAGES).unwrap() + 2;
    for (user, events) in by_user(&told) {
        let expected: Vec<_> = (1..=last)
            .map(|seq| match seq {
                1 => (seq, "connected".to_owned()),
                _ if seq == last => (seq, "disconnected".to_owned()),
                _ => (seq, "message_received".to_owned()),
            })
            .collect();
        assert_eq!(events, expected, "webhook, user {user}");
    }
    assert_eq!(by_user(&told).len(), USERS);
    for (sink, events) in [("Redis", &messages), ("RabbitMQ", &received)] {
        assert_eq!(
            by_user(events),
            by_user(&of_type("message_received")),
            "{sink}"
        );
    }
    for (sink, events) in [("Redis", &lifecycle), ("RabbitMQ", &published)] {
        let mut expected = of_type("connected");
        expected.extend(of_type("disconnected"));
        assert_eq!(by_user(events), by_user(&expected), "{sink}");
    }
    // The same event is the same everywhere, to the byte that matters for deduplication.
    let ids = |events: &[Value]| {
        let mut ids: Vec<_> = events
            .iter()
            .map(|event| event["event_id"].to_string())
            .collect();
        ids.sort();
        ids
    };
    assert_eq!(ids(&messages), ids(&received));
    assert_eq!(ids(&messages), ids(&of_type("message_received")));
    let keys: Vec<String> = redis.command("KEYS", &["presence:*"]).await;
    assert!(keys.is_empty(), "nobody is left: {keys:?}");
    for gateway in &gateways {
        assert!(gateway.metric("wsgw_dead_letters_total", &[]).await.abs() < 0.5);
    }
}

#[tokio::test]
async fn every_client_of_every_gateway_gets_every_push_once() {
    const PUSHES: usize = 300;
    let (vhost, redis) = (Broker::shared().vhost(), Redis::start().await);
    let gateway = |n: usize| {
        setup(CORE, &vhost)
            .env("REDIS_DSN", redis.dsn())
            .set("server.node_id", format!("node-{n}"))
            .start()
    };
    let gateways = [gateway(0).await, gateway(1).await, gateway(2).await];
    let mut clients = Vec::new();
    for (n, gateway) in gateways.iter().enumerate() {
        clients.extend(Client::connect_all(gateway, 2 * n..2 * n + 2).await);
    }
    // Each client is meant by two of the subjects, and by the one twice.
    let subjects: Vec<_> = (0..clients.len()).map(|n| format!("user:{n}")).collect();
    let twice: Vec<&str> = subjects
        .iter()
        .chain(&subjects)
        .map(String::as_str)
        .collect();
    let by_redis = async {
        for n in 0..PUSHES {
            redis.push("ws.outbox", &twice, json!(["redis", n])).await;
        }
    };
    let by_rabbitmq = async {
        let bodies: Vec<_> = (0..PUSHES)
            .map(|n| json!({"subjects": twice, "payload": ["rabbitmq", n]}).to_string())
            .collect();
        vhost.publish("ws.outbox", "ws.outbox", &bodies).await;
    };
    tokio::join!(by_redis, by_rabbitmq);
    // A last one by each way, so that what came twice would have come before it.
    redis
        .push("ws.outbox", &twice, json!(["redis", "last"]))
        .await;
    let last = json!({"subjects": twice, "payload": ["rabbitmq", "last"]}).to_string();
    vhost.publish("ws.outbox", "ws.outbox", &[last]).await;

    let mut expected: Vec<_> = (0..PUSHES).map(|n| json!(n)).collect();
    expected.push(json!("last"));
    for (user, client) in clients.iter_mut().enumerate() {
        let mut got: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        let mut ended = 0;
        while ended < 2 {
            let push = client.json().await;
            assert_eq!(push["type"], "event");
            let (way, what) = (&push["payload"][0], &push["payload"][1]);
            ended += usize::from(what == "last");
            got.entry(way.as_str().unwrap().to_owned())
                .or_default()
                .push(what.clone());
        }
        for way in ["redis", "rabbitmq"] {
            assert_eq!(got[way], expected, "user {user} by {way}");
        }
    }
}

#[tokio::test]
async fn a_killed_gateways_clients_are_told_once_on_rabbitmq() {
    const USERS: usize = 8;
    let (vhost, redis) = (Broker::shared().vhost(), Redis::start().await);
    let gateway = |n: usize| {
        setup(RABBITMQ, &vhost)
            .env("PRESENCE_REDIS_DSN", redis.dsn())
            .set("server.node_id", format!("node-{n}"))
            .set("leases.ttl_seconds", 1)
            .start()
    };
    let (lost, left) = (gateway(0).await, gateway(1).await);
    let _clients = Client::connect_all(&lost, 0..USERS).await;
    let mut others = Client::connect_all(&left, USERS..USERS + 2).await;
    let connected = rabbitmq_events(&vhost, "events", USERS + 2).await;
    assert!(connected.iter().all(|event| event["type"] == "connected"));
    assert_eq!(left.wait_for_connections(USERS + 2).await.len(), USERS + 2);

    lost.signal("KILL");
    let mut told = rabbitmq_events(&vhost, "events", USERS).await;
    left.wait_for_connections(2).await;
    for mut client in others.drain(..) {
        client.round_trip().await;
        client.close(None).await;
    }
    // Behind whatever would have come twice.
    told.extend(rabbitmq_events(&vhost, "events", 2).await);
    let users: Vec<_> = by_user(&told)
        .into_values()
        .map(|events| events.len())
        .collect();
    assert_eq!(users, [1; USERS + 2], "{told:?}");
    for event in &told {
        assert_eq!(event["type"], "disconnected");
        let before = connected
            .iter()
            .find(|before| before["connection_id"] == event["connection_id"])
            .unwrap();
        assert_eq!(event["user_id"], before["user_id"]);
        let orphan = event["user_id"].as_str().unwrap().parse::<usize>().unwrap() < USERS;
        assert_eq!(event["reason"] == "node_lost", orphan, "{event}");
    }
    within("no presence to be left", async {
        loop {
            let keys: Vec<String> = redis.command("KEYS", &["presence:*"]).await;
            if keys.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(vhost.count("events").await, Some(0));
}

#[tokio::test]
async fn where_nothing_is_bound_each_event_is_published_once_and_kept() {
    const MESSAGES: usize = 300;
    let vhost = Broker::shared().vhost();
    let gateway = setup(RABBITMQ, &vhost)
        .env("RABBITMQ_INBOX_QUEUE", "")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "1").await;
    for n in 0..MESSAGES {
        client.feed(json!({"n": n}).to_string()).await;
    }
    client.flush().await;
    let letters = vhost.take_count("ws.dlq", MESSAGES).await;
    let mut kept: Vec<_> = letters
        .iter()
        .map(|letter| letter.json()["message"]["n"].as_u64().unwrap())
        .collect();
    kept.sort_unstable();
    let all: Vec<u64> = (0..MESSAGES as u64).collect();
    assert_eq!(kept, all);
    let returned = gateway.metric("wsgw_broker_returned_total", &[]).await;
    assert!(
        (returned - MESSAGES as f64).abs() < 0.5,
        "{returned} returned"
    );
}

#[tokio::test]
async fn a_stop_while_the_broker_hangs_loses_nothing() {
    const MESSAGES: usize = 100;
    let redis = Redis::start().await;
    let gateway = Setup::default()
        .yaml(CORE)
        .env("REDIS_DSN", redis.dsn())
        .set("server.drain_seconds", 1)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "1").await;
    client.round_trip().await;
    redis.wait_for_events("ws.events", 1).await;
    redis.freeze();
    for n in 0..MESSAGES {
        client.feed(json!({"n": n}).to_string()).await;
    }
    client.flush().await;
    client.round_trip().await;
    gateway.signal("TERM");
    client.closed().await;
    assert_eq!(gateway.ended().await.code(), Some(0));
    redis.thaw();
    let letters = gateway.dead_letters();
    assert_eq!(letters.len(), MESSAGES + 1, "{}", gateway.stderr());
    let stopped = gateway.wait_for_log("stopped", "").await;
    assert_eq!(
        (&stopped["dead_lettered"], &stopped["lost"]),
        (&json!(MESSAGES + 1), &json!(0))
    );
}
