//! Pushes by `RabbitMQ`: who gets them, in which order, and what becomes of what is no push.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::rabbitmq::Vhost;
use support::{Broker, Client, Gateway};

const HANDLED: [&str; 2] = [r#"source="rabbitmq""#, r#"result="handled""#];
const MALFORMED: [&str; 2] = [r#"source="rabbitmq""#, r#"result="malformed""#];

async fn payloads(client: &mut Client, count: usize) -> Vec<Value> {
    let mut payloads = Vec::with_capacity(count);
    for _ in 0..count {
        let mut push = client.json().await;
        assert_eq!(push["type"], "event");
        payloads.push(push["payload"].take());
    }
    payloads
}

fn numbers(range: std::ops::Range<u64>) -> Vec<Value> {
    range.map(Value::from).collect()
}

/// Says by a last push that no other is still under way.
async fn assert_nothing_more(vhost: &Vhost<'_>, clients: &mut [(&str, &mut Client)]) {
    for (subject, client) in clients {
        vhost.push(subject, [json!("last")]).await;
        assert_eq!(payloads(client, 1).await, ["last"]);
    }
}

#[tokio::test]
async fn every_gateway_delivers_every_push_once_and_in_order() {
    const PUSHES: u64 = 500;
    let vhost = Broker::shared().vhost();
    let setup = || vhost.source().set("backpressure.per_conn_buffer", 10_000);
    let gateways = [
        setup().start().await,
        setup().start().await,
        setup().start().await,
    ];
    let mut clients = Vec::new();
    for gateway in &gateways {
        clients.push(Client::connect(gateway, "42").await);
    }
    vhost.push("user:42", numbers(0..PUSHES)).await;
    for client in &mut clients {
        assert_eq!(payloads(client, PUSHES as usize).await, numbers(0..PUSHES));
    }
    for client in &mut clients {
        client.round_trip().await;
    }
    vhost.push("user:42", [json!("last")]).await;
    for client in &mut clients {
        assert_eq!(payloads(client, 1).await, ["last"], "each once");
    }
    for gateway in &gateways {
        gateway
            .wait_for_metric("wsgw_source_pushes_total", &HANDLED, PUSHES as f64 + 1.0)
            .await;
    }
    let queues = vhost.ctl(&["list_queues", "name", "exclusive", "auto_delete"]);
    let own = queues
        .lines()
        .filter(|line| line.ends_with("true\ttrue"))
        .count();
    assert_eq!(own, 3, "{queues}");
}

#[tokio::test]
async fn a_shared_queue_gives_each_push_to_one_gateway() {
    let vhost = Broker::shared().vhost();
    let setup = || {
        vhost
            .source()
            .set("transport.rabbitmq.queue", "pushes")
            .set("transport.rabbitmq.queue_ttl_ms", 60_000)
    };
    let gateways = [setup().start().await, setup().start().await];
    let mut clients = Vec::new();
    for gateway in &gateways {
        clients.push(Client::connect(gateway, "42").await);
    }
    vhost.push("user:42", numbers(0..40)).await;
    support::within("all to be handled", async {
        loop {
            let mut sum = 0.0;
            for gateway in &gateways {
                sum += gateway.metric("wsgw_source_pushes_total", &HANDLED).await;
            }
            if sum >= 40.0 {
                assert!((sum - 40.0).abs() < 0.1, "each by one gateway");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut seen = Vec::new();
    for (gateway, client) in gateways.iter().zip(&mut clients) {
        let count = gateway.metric("wsgw_source_pushes_total", &HANDLED).await;
        assert!(count > 0.0, "both take part");
        #[expect(clippy::cast_sign_loss, reason = "at most 40")]
        seen.extend(payloads(client, count as usize).await);
    }
    seen.sort_by_key(Value::as_u64);
    assert_eq!(seen, numbers(0..40));
    let queues = vhost.ctl(&["list_queues", "name", "durable", "arguments"]);
    let line = queues
        .lines()
        .find(|line| line.starts_with("pushes\ttrue"))
        .unwrap();
    assert!(
        line.contains("x-message-ttl") && line.contains("60000"),
        "{line}"
    );
}

#[tokio::test]
async fn what_is_no_push_is_a_dead_letter_and_the_consumer_goes_on() {
    let vhost = Broker::shared().vhost();
    let gateway = vhost.source().start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let bad = [
        "not json hunter2",
        "{}",
        r#"{"subjects":[],"payload":1}"#,
        r#"{"subjects":["a"]}"#,
    ];
    for (n, bad) in (0..).zip(bad) {
        vhost
            .publish("ws.outbox", "ws.outbox", &[bad.to_owned()])
            .await;
        vhost.push("user:42", numbers(n..n + 1)).await;
    }
    assert_eq!(payloads(&mut client, 4).await, numbers(0..4));
    let letters = vhost.take_count("ws.dlq", 4).await;
    for (letter, bad) in letters.iter().zip(bad) {
        assert_eq!(letter.body, bad.as_bytes(), "as it was");
        let headers = letter.headers();
        assert_eq!(headers["sink"], "rabbitmq");
        assert!(!headers.contains_key("event_id"));
        assert!(!headers["reason"].contains("hunter2"));
    }
    assert!(letters[0].headers()["reason"].starts_with("not a push: "));
    assert_eq!(letters[2].headers()["reason"], "`subjects` is empty");
    gateway
        .wait_for_metric("wsgw_source_pushes_total", &MALFORMED, 4.0)
        .await;
    gateway
        .wait_for_metric("wsgw_source_pushes_total", &HANDLED, 4.0)
        .await;
    assert_nothing_more(&vhost, &mut [("user:42", &mut client)]).await;
    assert!(!gateway.stderr().contains("hunter2"));
}

fn durable(vhost: &Vhost<'_>) -> support::Setup {
    vhost
        .source()
        .set("server.node_id", "node/1")
        .set("replay.strategy", "bounded")
        .set("replay.retention_seconds", 3600)
}

#[tokio::test]
async fn with_replay_a_restart_goes_on_where_it_stopped() {
    let vhost = Broker::shared().vhost();
    let gateway = durable(&vhost).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    vhost.push("user:42", numbers(0..10)).await;
    assert_eq!(payloads(&mut client, 10).await, numbers(0..10));
    let queues = vhost.ctl(&["list_queues", "name", "durable", "arguments"]);
    let line = queues
        .lines()
        .find(|line| line.starts_with("ws.outbox.node_1\ttrue"))
        .unwrap();
    assert!(
        line.contains("x-expires") && line.contains("3600000"),
        "{line}"
    );
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    // Nobody is there for these, whose subject has a connection only once the gateway is back.
    vhost.push("user:42", numbers(10..20)).await;
    assert_eq!(
        vhost.count("ws.outbox.node_1").await,
        Some(10),
        "the first ten were acknowledged"
    );
    let gateway = durable(&vhost).start().await;
    gateway
        .wait_for_metric("wsgw_source_pushes_total", &HANDLED, 10.0)
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    assert_nothing_more(&vhost, &mut [("user:42", &mut client)]).await;
    let handled = gateway.metric("wsgw_source_pushes_total", &HANDLED).await;
    assert!((handled - 11.0).abs() < 0.1, "{handled}: none twice");
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_declared_again() {
    let vhost = Broker::shared().vhost();
    let gateway: Gateway = durable(&vhost).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    vhost.push("user:42", numbers(0..1)).await;
    assert_eq!(payloads(&mut client, 1).await, numbers(0..1));
    let (_connection, channel) = vhost.channel().await;
    let options = lapin::options::QueueDeleteOptions::default();
    channel
        .queue_delete("ws.outbox.node_1".into(), options)
        .await
        .unwrap();
    support::eventually("the source to say so", || {
        let logs = gateway.logs();
        let found = logs.iter().any(|line| {
            let reason = line["reason"].as_str().unwrap_or_default();
            line["event"] == "source_interrupted" && reason.contains("its queue is gone")
        });
        found.then_some(())
    })
    .await;
    support::within("the queue", async {
        while vhost.count("ws.outbox.node_1").await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        while gateway.get("/ready").await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    vhost.push("user:42", numbers(1..2)).await;
    assert_eq!(payloads(&mut client, 1).await, numbers(1..2));
}
