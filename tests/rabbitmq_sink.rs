//! Events by `RabbitMQ`: what a message looks like, where it goes, and what happens where it cannot go.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use support::rabbitmq::{Message, ODD_PASSWORD, ODD_PASSWORD_ENCODED, YAML};
use support::replay::{RABBITMQ, replay};
use support::{Broker, Client, Setup, eventually, now};
use wsgw::stages::ordering_key::shard;

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// Declares the queues, so that everything is routable.
fn with_queues(setup: Setup) -> Setup {
    setup
        .set("events.rabbitmq.queue", "ws.events")
        .set("events.rabbitmq.inbox_queue", "ws.inbox")
}

fn seqs(messages: &[Message]) -> Vec<u64> {
    messages
        .iter()
        .map(|message| message.json()["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn a_message_has_exactly_the_promised_properties() {
    let vhost = Broker::shared().vhost();
    let gateway = with_queues(vhost.sink()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let text = json!({"type": "chat", "payload": "hello", "traceparent": TRACEPARENT}).to_string();
    client.send(text.as_str()).await;
    client.close(Some((1000, "bye"))).await;
    let inbox = vhost.take_count("ws.inbox", 1).await;
    let events = vhost.take_count("ws.events", 2).await;
    let [message] = &inbox[..] else {
        panic!("{inbox:?}")
    };
    let event = message.json();
    assert_eq!(
        (message.exchange.as_str(), message.routing_key.as_str()),
        ("ws.inbox", "ws.inbox")
    );
    assert_eq!(event["message"]["payload"], "hello");
    assert_eq!(event["raw"], text);
    let properties = &message.properties;
    let short = |value: &Option<lapin::types::ShortString>| value.as_ref().unwrap().to_string();
    assert_eq!(short(properties.content_type()), "application/json");
    assert_eq!(*properties.delivery_mode(), Some(2), "persistent");
    assert_eq!(
        short(properties.message_id()),
        event["event_id"].as_str().unwrap()
    );
    assert_eq!(short(properties.kind()), "message_received");
    let age = now() - properties.timestamp().unwrap();
    assert!(age < 120, "made {age} s ago");
    assert_eq!(
        message.headers(),
        BTreeMap::from([("traceparent".into(), TRACEPARENT.into())])
    );
    let kinds: Vec<_> = events
        .iter()
        .map(|message| short(message.properties.kind()))
        .collect();
    assert_eq!(kinds, ["connected", "disconnected"]);
    for message in &events {
        assert_eq!(
            (message.exchange.as_str(), message.routing_key.as_str()),
            ("ws.events", "ws.events")
        );
        assert!(message.headers().is_empty(), "no trace, no header");
    }
    assert_eq!(events[1].json()["close_code"], 1000);
    assert!(gateway.metric("broker_publish_total", &[]).await >= 3.0);
    assert!(gateway.dead_letters().is_empty());
    assert!(!gateway.stderr().contains("hello"), "no payload in the log");
}

#[tokio::test]
async fn messenger_gets_its_headers() {
    let vhost = Broker::shared().vhost();
    let setup = with_queues(vhost.sink()).set("events.rabbitmq.format", "messenger");
    let gateway = setup.start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client
        .send_json(&json!({"type": "chat", "traceparent": TRACEPARENT}))
        .await;
    let inbox = vhost.take_count("ws.inbox", 1).await;
    let event = inbox[0].json();
    let expected = [
        ("Content-Type", "application/json"),
        ("type", "message_received"),
        ("event_id", event["event_id"].as_str().unwrap()),
        ("traceparent", TRACEPARENT),
    ];
    assert_eq!(
        inbox[0].headers(),
        expected
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    );
}

#[tokio::test]
async fn order_holds_for_each_connection() {
    const CLIENTS: usize = 8;
    const MESSAGES: usize = 1500;
    let vhost = Broker::shared().vhost();
    // One queue for all, so that its order is the order of everything.
    let setup = with_queues(vhost.sink())
        .set("events.rabbitmq.queue", "ws.inbox")
        .set("events.rabbitmq.inbox_queue", "ws.inbox");
    let gateway = std::sync::Arc::new(setup.start().await);
    let mut clients = tokio::task::JoinSet::new();
    for user in 0..CLIENTS {
        let gateway = std::sync::Arc::clone(&gateway);
        clients.spawn(async move {
            let mut client = Client::connect(&gateway, &user.to_string()).await;
            for n in 0..MESSAGES {
                client.feed(json!({"n": n}).to_string()).await;
                if n % 100 == 99 {
                    client.round_trip().await;
                }
            }
            client.flush().await;
            client.close(None).await;
        });
    }
    while clients.join_next().await.transpose().unwrap().is_some() {}
    let messages = vhost.take_count("ws.inbox", CLIENTS * (MESSAGES + 2)).await;
    let mut of_connection: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in &messages {
        let event = message.json();
        let connection = event["connection_id"].as_str().unwrap().to_owned();
        of_connection
            .entry(connection)
            .or_default()
            .push(event["seq"].as_u64().unwrap());
    }
    assert_eq!(of_connection.len(), CLIENTS);
    for seqs in of_connection.values() {
        let expected: Vec<u64> = (1..=MESSAGES as u64 + 2).collect();
        assert_eq!(*seqs, expected);
    }
}

#[tokio::test]
async fn keys_are_part_of_the_routing_key_and_keep_their_order() {
    let vhost = Broker::shared().vhost();
    let setup = with_queues(vhost.sink())
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "suffix");
    let gateway = setup.start().await;
    // Declared by the sink, as a topic exchange.
    let mut clients = [
        Client::connect(&gateway, "1").await,
        Client::connect(&gateway, "2").await,
    ];
    vhost.take_count("ws.events", 2).await;
    vhost.bind("all", "ws.inbox", "ws.inbox.#").await;
    vhost.bind("one", "ws.inbox", "ws.inbox.room:1").await;
    for n in 0..20 {
        for client in &mut clients {
            client
                .send_json(&json!({"topic": format!("room:{}", n % 2), "n": n}))
                .await;
            client.round_trip().await;
        }
    }
    clients[0]
        .send_json(&json!({"topic": "ä b/c", "n": 99}))
        .await;
    clients[0]
        .send_json(&json!({"topic": "x".repeat(65), "n": 99}))
        .await;
    // A topic that does not exist, nor a type: no key, so the plain routing key, which `ws.inbox.#` matches too.
    clients[0].send_json(&json!({"n": 99})).await;
    let all = vhost.take_count("all", 43).await;
    let keys: std::collections::BTreeSet<_> = all
        .iter()
        .filter(|message| message.json()["message"]["n"] == 99)
        .map(|message| message.routing_key.as_str())
        .collect();
    let hash = "ws.inbox.78c741ddc482e4cdf8c474a0876347a0905b6233";
    assert_eq!(keys, ["ws.inbox", hash, "ws.inbox.__b_c"].into());
    let one = vhost.take_count("one", 20).await;
    let numbers: Vec<_> = one
        .iter()
        .map(|message| message.json()["message"]["n"].as_u64().unwrap())
        .collect();
    let expected: Vec<_> = (0..20)
        .filter(|n| n % 2 == 1)
        .flat_map(|n| [n, n])
        .collect();
    assert_eq!(numbers, expected, "across connections, as they were read");
    // The gateway's own queue gets all of them too.
    assert_eq!(vhost.take_count("ws.inbox", 43).await.len(), 43);
}

#[tokio::test]
async fn shards_have_queues_of_their_own_which_one_consumer_has_for_itself() {
    let vhost = Broker::shared().vhost();
    let setup = with_queues(vhost.sink())
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "shards")
        .set("ordering_key.partitions", 4)
        .set("events.rabbitmq.inbox_single_active_consumer", true);
    let gateway = setup.start().await;
    let mut clients = [
        Client::connect(&gateway, "1").await,
        Client::connect(&gateway, "2").await,
    ];
    vhost.take_count("ws.events", 2).await;
    for n in 0..40 {
        for client in &mut clients {
            client
                .send_json(&json!({"topic": format!("room:{}", n % 10), "n": n}))
                .await;
            client.round_trip().await;
        }
    }
    gateway
        .wait_for_metric("broker_publish_total", &[], 82.0)
        .await;
    let mut of_key: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for number in 0..4_u16 {
        let queue = format!("ws.inbox.{number}");
        for message in vhost.take(&queue).await {
            let event = message.json();
            let key = event["ordering_key"].as_str().unwrap().to_owned();
            assert_eq!(shard(&key, 4), number, "{key}");
            assert_eq!(message.routing_key, queue);
            let n = event["message"]["n"].as_u64().unwrap();
            of_key.entry(key).or_default().push(n);
        }
    }
    assert_eq!(of_key.len(), 10);
    for (key, numbers) in of_key {
        let room: u64 = key.strip_prefix("room:").unwrap().parse().unwrap();
        let expected: Vec<u64> = (0..40)
            .filter(|n| n % 10 == room)
            .flat_map(|n| [n, n])
            .collect();
        assert_eq!(numbers, expected, "{key}");
    }
    assert_eq!(vhost.count("ws.inbox").await, None, "not declared");

    // The second consumer gets nothing while the first is there.
    let (_first, first) = vhost.channel().await;
    let (_second, second) = vhost.channel().await;
    let consume = async |channel: &lapin::Channel| {
        channel
            .basic_consume(
                "ws.inbox.1".into(),
                "".into(),
                lapin::options::BasicConsumeOptions::default(),
                lapin::types::FieldTable::default(),
            )
            .await
            .unwrap()
    };
    let (mut first, _second) = (consume(&first).await, consume(&second).await);
    for n in 0..10 {
        // Of shard 1.
        clients[0]
            .send_json(&json!({"topic": "room:7", "n": n}))
            .await;
    }
    for n in 0..10 {
        let next = futures_util::StreamExt::next(&mut first);
        let delivery = support::within("a message", next).await.unwrap().unwrap();
        let event: Value = serde_json::from_slice(&delivery.data).unwrap();
        assert_eq!(event["message"]["n"], n, "all of them, in their order");
    }
}

#[tokio::test]
async fn a_replayed_letter_is_in_the_queue_of_its_shard() {
    let vhost = Broker::shared().vhost();
    let gateway = with_queues(vhost.sink())
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "shards")
        .start()
        .await;
    let _client = Client::connect(&gateway, "1").await;
    vhost.take_count("ws.events", 1).await;
    let letters = [
        (json!({"ordering_key": "room:7"}), 5),
        (json!({"ordering_key": "room:123"}), 14),
        (
            json!({"connection_id": "0192f5a8-4d2a-7c55-b3e7-1f4d8a6c9e02"}),
            15,
        ),
    ];
    let bodies = letters.clone().map(|(body, _)| body.to_string());
    vhost.publish("ws.dlq", "ws.dlq", &bodies).await;
    let answer = replay(&gateway, RABBITMQ, "{}").await;
    assert_eq!(answer, (200, json!({"replayed": 3})));
    for (body, number) in letters {
        let moved = vhost.take_count(&format!("ws.inbox.{number}"), 1).await;
        assert_eq!(moved[0].json(), body);
        assert_eq!(moved[0].headers()["replayed"], "true");
    }
}

#[tokio::test]
async fn queues_carry_their_ttl_and_what_expires_is_a_dead_letter() {
    let vhost = Broker::shared().vhost();
    let setup = with_queues(vhost.sink())
        .set("events.rabbitmq.inbox_queue_ttl_ms", 200)
        .set("events.rabbitmq.queue_ttl_ms", 3_600_000);
    let gateway = setup.start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"type": "chat"})).await;
    let letters = vhost.take_count("ws.dlq", 1).await;
    assert_eq!(letters[0].json()["message"]["type"], "chat");
    assert_eq!(letters[0].headers()["x-first-death-reason"], "expired");
    assert_eq!(letters[0].headers()["x-first-death-queue"], "ws.inbox");
    let queues = vhost.ctl(&["list_queues", "name", "durable", "arguments"]);
    let line = |name: &str| {
        let line = queues
            .lines()
            .find(|line| line.starts_with(&format!("{name}\t")));
        line.unwrap_or_else(|| panic!("{name} in {queues}"))
            .to_owned()
    };
    for (name, ttl) in [("ws.inbox", "200"), ("ws.events", "3600000")] {
        let line = line(name);
        assert!(line.starts_with(&format!("{name}\ttrue")), "{line}");
        for (argument, value) in [
            ("x-message-ttl", ttl),
            ("x-dead-letter-exchange", "ws.dlq"),
            ("x-dead-letter-routing-key", "ws.dlq"),
        ] {
            assert!(
                line.contains(argument) && line.contains(value),
                "{argument}: {line}"
            );
        }
    }
    let exchanges = vhost.ctl(&["list_exchanges", "name", "type", "durable"]);
    for name in ["ws.inbox", "ws.events", "ws.dlq"] {
        assert!(
            exchanges.contains(&format!("{name}\tdirect\ttrue")),
            "{exchanges}"
        );
    }
}

#[tokio::test]
async fn what_nobody_is_bound_for_is_a_dead_letter_and_the_rest_goes_on() {
    let vhost = Broker::shared().vhost();
    // Only the inbox has a queue: `connected` is unroutable.
    let gateway = vhost
        .sink()
        .set("events.rabbitmq.inbox_queue", "ws.inbox")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..50 {
        client.feed(json!({"n": n}).to_string()).await;
    }
    client.flush().await;
    let inbox = vhost.take_count("ws.inbox", 50).await;
    assert_eq!(seqs(&inbox), (2..=51).collect::<Vec<_>>());
    let letters = vhost.take_count("ws.dlq", 1).await;
    let event = letters[0].json();
    assert_eq!(event["type"], "connected");
    let headers = letters[0].headers();
    assert_eq!(
        headers["reason"],
        "unroutable: no queue is bound to the exchange `ws.events` for the routing key `ws.events`"
    );
    assert_eq!(headers["sink"], "rabbitmq");
    assert_eq!(headers["event_id"], event["event_id"].as_str().unwrap());
    assert!(now() - headers["failed_at"].parse::<u64>().unwrap() < 120);
    assert_eq!(*letters[0].properties.delivery_mode(), Some(2));
    let id = letters[0]
        .properties
        .message_id()
        .as_ref()
        .unwrap()
        .to_string();
    assert_eq!(id, event["event_id"].as_str().unwrap());
    gateway
        .wait_for_metric("wsgw_broker_returned_total", &[], 1.0)
        .await;
    gateway
        .wait_for_metric(
            "wsgw_dead_letters_total",
            &[r#"sink="rabbitmq""#, "kept"],
            1.0,
        )
        .await;
    assert_eq!(gateway.metric("wsgw_broker_returned_total", &[]).await, 1.0);
    assert!(gateway.dead_letters().is_empty(), "not in the file");
}

#[tokio::test]
async fn another_type_of_exchange_is_explained_and_taken_up_once_it_is_gone() {
    let vhost = Broker::shared().vhost();
    let (_connection, channel) = vhost.channel().await;
    let declare = channel.exchange_declare(
        "ws.inbox".into(),
        lapin::ExchangeKind::Fanout,
        lapin::options::ExchangeDeclareOptions::default(),
        lapin::types::FieldTable::default(),
    );
    declare.await.unwrap();
    let mut gateway = with_queues(vhost.sink()).spawn();
    gateway.address = address(&gateway).await;
    // Before any event.
    let check = ready_says(&gateway, "already there").await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"n": 1})).await;
    let advice = "sink: the exchange `ws.inbox` is already there with another `type` ('fanout'): configure the gateway to what is there, \
         name another exchange, or delete this one so that the gateway declares it anew";
    assert!(check.starts_with(advice), "{check}");
    let logged = gateway.logs();
    let lines: Vec<_> = logged
        .iter()
        .filter(|line| line["event"] == "broker_topology_refused")
        .collect();
    assert!(
        !lines.is_empty()
            && lines[0]["reason"]
                .as_str()
                .unwrap()
                .contains("already there")
    );
    channel
        .exchange_delete(
            "ws.inbox".into(),
            lapin::options::ExchangeDeleteOptions::default(),
        )
        .await
        .unwrap();
    assert_eq!(seqs(&vhost.take_count("ws.inbox", 1).await), [2]);
    assert_eq!(seqs(&vhost.take_count("ws.events", 1).await), [1]);
    eventually_ready(&gateway).await;
}

async fn ready_says(gateway: &support::Gateway, text: &str) -> String {
    support::within(&format!("/ready to say {text:?}"), async {
        loop {
            let answer = gateway.get("/ready").await;
            let check = answer.json()["checks"]["rabbitmq"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            if check.contains(text) {
                assert_eq!(answer.status, 503);
                return check;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn eventually_ready(gateway: &support::Gateway) {
    support::within("/ready to be 200", async {
        while gateway.get("/ready").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn user_password_and_vhost_may_be_percent_encoded() {
    let broker = Broker::shared();
    let dsn = format!(
        "amqp://odd:{ODD_PASSWORD_ENCODED}@127.0.0.1:{}/odd%2Fvhost",
        broker.port()
    );
    let gateway = with_queues(Setup::default().yaml(YAML).env("SINK_DSN", dsn))
        .start()
        .await;
    let _client = Client::connect(&gateway, "42").await;
    gateway
        .wait_for_metric("broker_publish_total", &[], 1.0)
        .await;
    let connections = broker.ctl(&["list_connections", "user", "vhost", "client_properties"]);
    let line = connections
        .lines()
        .find(|line| line.starts_with("odd\todd/vhost"))
        .unwrap();
    assert!(
        line.contains("connection_name") && line.contains("wsgw "),
        "{line}"
    );
    assert!(!gateway.stderr().contains(ODD_PASSWORD));
}

#[tokio::test]
async fn a_wrong_password_is_said_and_never_shown() {
    for (login, vhost, reason) in [
        (
            "guest:hunter2",
            "%2F",
            "user or password of the DSN is wrong",
        ),
        (
            "guest:guest",
            "hunter3",
            "the vhost of the DSN does not exist",
        ),
        (
            "odd:s3cret%2Fpa%3Ass%40%23%3F%25",
            "%2F",
            "has no permissions in the vhost",
        ),
    ] {
        let dsn = format!(
            "amqp://{login}@127.0.0.1:{}/{vhost}",
            Broker::shared().port()
        );
        let mut gateway = with_queues(Setup::default().yaml(YAML).env("SINK_DSN", dsn)).spawn();
        gateway.address = address(&gateway).await;
        let check = ready_says(&gateway, reason).await;
        assert!(
            !check.contains("hunter2") && !check.contains("s3cret"),
            "{check}"
        );
        eventually("two tries", || {
            let logs = gateway.logs();
            let tries = logs
                .iter()
                .filter(|line| line["event"] == "broker_unreachable");
            (tries.count() >= 2).then_some(())
        })
        .await;
        // Clients are served all the same.
        Client::connect(&gateway, "42").await.round_trip().await;
        let stderr = gateway.stderr();
        assert!(stderr.contains(reason), "{stderr}");
        assert!(
            !stderr.contains("hunter2") && !stderr.contains("s3cret"),
            "{stderr}"
        );
    }
}

async fn address(gateway: &support::Gateway) -> std::net::SocketAddr {
    eventually("the public listener", || {
        let logs = gateway.logs();
        let line = logs.iter().find(|line| line["event"] == "listening")?;
        Some(line["address"].as_str()?.parse().unwrap())
    })
    .await
}

#[tokio::test]
async fn what_is_buffered_is_delivered_before_the_gateway_ends() {
    let vhost = Broker::shared().vhost();
    let gateway = with_queues(vhost.sink()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..500 {
        client.feed(json!({"n": n}).to_string()).await;
    }
    client.round_trip().await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert_eq!(
        seqs(&vhost.take_count("ws.inbox", 500).await),
        (2..=501).collect::<Vec<_>>()
    );
    let kinds: Vec<Value> = vhost
        .take_count("ws.events", 2)
        .await
        .iter()
        .map(|message| message.json()["type"].clone())
        .collect();
    assert_eq!(kinds, ["connected", "disconnected"]);
}
