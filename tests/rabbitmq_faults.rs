//! `RabbitMQ` away, closed, blocked, deleted under the gateway: nothing is lost, order holds, no restart is needed.
//!
//! The server is this program's own, and the tests run one after another, since their faults hit all of it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use lapin::options::{ExchangeDeleteOptions, QueueDeleteOptions};
use serde_json::{Value, json};
use support::rabbitmq::{Message, Vhost};
use support::{Broker, BrokerSetup, Client, Gateway, Setup, eventually, within};
use tokio::sync::{Mutex, MutexGuard};

/// Clients that send while something is broken.
const CLIENTS: usize = 4;

/// Time between two messages of one client: 200 a second in all.
const PACE: Duration = Duration::from_millis(20);

/// One fault at a time.
async fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::const_new(());
    ONE.lock().await
}

fn sink(vhost: &Vhost<'_>) -> Setup {
    vhost
        .sink()
        .set("events.rabbitmq.queue", "all")
        .set("events.rabbitmq.inbox_queue", "all")
        .set("brokers.rabbitmq.reconnect_max_seconds", 0.5)
}

/// Clients that send at a pace until they are told to stop.
struct Traffic {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    clients: tokio::task::JoinSet<usize>,
}

impl Traffic {
    fn start(gateway: &Arc<Gateway>) -> Self {
        let (stop, sent) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicUsize::new(0)),
        );
        let mut clients = tokio::task::JoinSet::new();
        for user in 0..CLIENTS {
            let (gateway, stop, sent) = (Arc::clone(gateway), Arc::clone(&stop), Arc::clone(&sent));
            clients.spawn(async move {
                let mut client = Client::connect(&gateway, &user.to_string()).await;
                let mut mine = 0;
                while !stop.load(Ordering::Relaxed) {
                    client.send_json(&json!({"n": mine})).await;
                    mine += 1;
                    sent.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PACE).await;
                }
                client.round_trip().await;
                client.close(None).await;
                mine
            });
        }
        Self {
            stop,
            sent,
            clients,
        }
    }

    /// Waits until so many more messages have gone in.
    async fn more(&self, count: usize) {
        let until = self.sent.load(Ordering::Relaxed) + count;
        eventually("more messages to go in", || {
            (self.sent.load(Ordering::Relaxed) >= until).then_some(())
        })
        .await;
    }

    /// Stops and gives how many events there must be.
    async fn finish(mut self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let mut events = 0;
        while let Some(mine) = self.clients.join_next().await {
            events += mine.unwrap() + 2;
        }
        events
    }
}

fn ids(messages: &[Message]) -> BTreeSet<String> {
    messages
        .iter()
        .map(|message| message.json()["event_id"].as_str().unwrap().to_owned())
        .collect()
}

/// All events are there, in the order of their connections when the repeated ones are left out.
async fn assert_all_in_order(vhost: &Vhost<'_>, gateway: &Gateway, events: usize) {
    let messages = vhost
        .take_until("all", |messages| ids(messages).len() >= events)
        .await;
    assert_complete(&messages, events);
    assert!(
        gateway.dead_letters().is_empty(),
        "{:?}",
        gateway.dead_letters()
    );
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
    assert!(!gateway.stderr().contains("guest:guest"));
}

fn assert_complete(messages: &[Message], events: usize) {
    let mut seen = BTreeSet::new();
    let mut of_connection: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for message in messages {
        let event = message.json();
        if seen.insert(event["event_id"].as_str().unwrap().to_owned()) {
            let connection = event["connection_id"].as_str().unwrap().to_owned();
            of_connection
                .entry(connection)
                .or_default()
                .push(event["seq"].as_u64().unwrap());
        }
    }
    assert_eq!(seen.len(), events);
    for seqs in of_connection.values() {
        let expected: Vec<u64> = (1..=seqs.len() as u64).collect();
        assert_eq!(*seqs, expected, "in order, none missing");
    }
}

async fn ready_says(gateway: &Gateway, status: u16, text: &str) -> String {
    within(
        &format!("/ready to be {status} and to say {text:?}"),
        async {
            loop {
                let answer = gateway.get("/ready").await;
                let check = answer.json()["checks"]["rabbitmq"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned();
                if answer.status == status && check.contains(text) {
                    return check;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    )
    .await
}

/// Every connection has a thread of lapin's, which must end with it.
async fn assert_one_connection_left(gateway: &Gateway) {
    let tasks = format!("/proc/{}/task", gateway.pid());
    eventually("the threads of lost connections to end", || {
        let names = std::fs::read_dir(&tasks)
            .unwrap()
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        let count = names
            .filter(|name| name.starts_with("lapin-io-loop"))
            .count();
        (count == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_stops_and_starts() {
    let _alone = alone().await;
    let vhost = Broker::shared().vhost();
    let gateway = Arc::new(sink(&vhost).start().await);
    let traffic = Traffic::start(&gateway);
    traffic.more(200).await;
    Broker::shared().ctl(&["stop_app"]);
    ready_says(&gateway, 503, "").await;
    traffic.more(200).await;
    Broker::shared().ctl(&["start_app"]);
    ready_says(&gateway, 200, "ok").await;
    traffic.more(200).await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
    let logs = gateway.logs();
    let count = |event: &str| logs.iter().filter(|line| line["event"] == event).count();
    assert!(count("broker_lost") == 1 && count("broker_connected") == 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_killed_and_starts_again() {
    let _alone = alone().await;
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let gateway = Arc::new(sink(&vhost).start().await);
    let traffic = Traffic::start(&gateway);
    traffic.more(200).await;
    broker.kill();
    ready_says(&gateway, 503, "").await;
    traffic.more(200).await;
    broker.start_again();
    broker.wait_until_up();
    ready_says(&gateway, 200, "ok").await;
    traffic.more(100).await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_are_closed_by_an_operator() {
    let _alone = alone().await;
    let vhost = Broker::shared().vhost();
    let gateway = Arc::new(sink(&vhost).start().await);
    let traffic = Traffic::start(&gateway);
    for _ in 0..5 {
        traffic.more(100).await;
        Broker::shared().close_all_connections();
    }
    traffic.more(100).await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
    ready_says(&gateway, 200, "ok").await;
    assert_one_connection_left(&gateway).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exchange_is_deleted_under_the_sink() {
    let _alone = alone().await;
    let vhost = Broker::shared().vhost();
    let gateway = Arc::new(sink(&vhost).start().await);
    let traffic = Traffic::start(&gateway);
    let (_connection, channel) = vhost.channel().await;
    for _ in 0..3 {
        traffic.more(100).await;
        let options = ExchangeDeleteOptions::default();
        channel
            .exchange_delete("ws.inbox".into(), options)
            .await
            .unwrap();
    }
    traffic.more(100).await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_deleted_under_the_sink() {
    let _alone = alone().await;
    let vhost = Broker::shared().vhost();
    let gateway = Arc::new(sink(&vhost).start().await);
    let traffic = Traffic::start(&gateway);
    traffic.more(100).await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
    let (_connection, channel) = vhost.channel().await;
    let options = QueueDeleteOptions::default();
    channel.queue_delete("all".into(), options).await.unwrap();
    // What is unroutable becomes a dead letter, until the gateway declares the queue anew.
    let traffic = Traffic::start(&gateway);
    gateway
        .wait_for_metric("wsgw_broker_returned_total", &[], 1.0)
        .await;
    within("the queue", async {
        while vhost.count("all").await.is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    traffic.more(100).await;
    let events = traffic.finish().await;
    let (mut found, mut dead) = (BTreeSet::new(), BTreeSet::new());
    within(
        "every event in the queue or among the dead letters",
        async {
            while found.len() + dead.len() < events {
                found.extend(ids(&vhost.take("all").await));
                dead.extend(ids(&vhost.take("ws.dlq").await));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        },
    )
    .await;
    assert_eq!(found.union(&dead).count(), events, "each in one of them");
    assert!(found.len() >= 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_memory_alarm_is_waited_for() {
    let _alone = alone().await;
    let vhost = Broker::shared().vhost();
    // Shorter than the alarm: a connection that is blocked must not count as lost.
    let setup = sink(&vhost).set("brokers.rabbitmq.response_timeout_seconds", 2);
    let gateway = Arc::new(setup.start().await);
    let traffic = Traffic::start(&gateway);
    traffic.more(100).await;
    Broker::shared().ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    let check = ready_says(&gateway, 503, "blocks publishers").await;
    assert!(check.contains("memory"), "{check}");
    traffic.more(1200).await;
    assert!(gateway.metric("wsgw_sink_buffer_events", &[]).await >= 1000.0);
    Broker::shared().ctl(&["set_vm_memory_high_watermark", "0.9"]);
    ready_says(&gateway, 200, "ok").await;
    traffic.more(100).await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
    let logs = gateway.logs();
    let blocked = logs
        .iter()
        .filter(|line| line["event"] == "broker_blocked")
        .count();
    assert_eq!(blocked, 2, "blocked and unblocked");
    assert!(
        logs.iter().all(|line| line["event"] != "broker_lost"),
        "never lost"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_a_memory_alarm_loses_nothing() {
    let _alone = alone().await;
    let vhost = Broker::shared().vhost();
    let setup = sink(&vhost).set("server.drain_seconds", 3);
    let gateway = Arc::new(setup.start().await);
    let traffic = Traffic::start(&gateway);
    traffic.more(100).await;
    Broker::shared().ctl(&["set_vm_memory_high_watermark", "0.00001"]);
    ready_says(&gateway, 503, "blocks publishers").await;
    traffic.more(400).await;
    let events = traffic.finish().await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success(), "{}", gateway.stderr());
    Broker::shared().ctl(&["set_vm_memory_high_watermark", "0.9"]);
    let mut dead = BTreeSet::new();
    for letter in gateway.dead_letters() {
        let event: Value = serde_json::from_str(letter["raw"].as_str().unwrap()).unwrap();
        dead.insert(event["event_id"].as_str().unwrap().to_owned());
    }
    assert!(dead.len() >= 400, "{}", dead.len());
    let mut found = BTreeSet::new();
    within("every event in one of them", async {
        while found.union(&dead).count() < events {
            found.extend(ids(&vhost.take("all").await));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_absent_at_the_start() {
    let _alone = alone().await;
    let broker = Broker::shared();
    let vhost = broker.vhost();
    broker.kill();
    let mut gateway = sink(&vhost).env("SOURCE_DSN", vhost.dsn()).spawn();
    gateway.address = eventually("the public listener", || {
        let logs = gateway.logs();
        let line = logs.iter().find(|line| line["event"] == "listening")?;
        Some(line["address"].as_str()?.parse().unwrap())
    })
    .await;
    let gateway = Arc::new(gateway);
    ready_says(&gateway, 503, "refused").await;
    let traffic = Traffic::start(&gateway);
    traffic.more(200).await;
    broker.start_again();
    broker.wait_until_up();
    ready_says(&gateway, 200, "ok").await;
    let mut client = Client::connect(&gateway, "push").await;
    vhost.push("user:push", [json!("hello")]).await;
    assert_eq!(client.json().await["payload"], "hello", "the source reads");
    client.close(None).await;
    let events = traffic.finish().await + 2;
    assert_all_in_order(&vhost, &gateway, events).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_replay_no_push_is_lost_by_a_broken_connection() {
    const PUSHES: u64 = 600;
    let _alone = alone().await;
    let broker = Broker::shared();
    let vhost = broker.vhost();
    let setup = vhost
        .source()
        .set("server.node_id", "node")
        .set("replay.strategy", "durable")
        .set("replay.archive.dsn", "sqlite://archive.db")
        .set("brokers.rabbitmq.reconnect_max_seconds", 0.5);
    let gateway = setup.start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let mut seen: Vec<u64> = Vec::new();
    for round in 0..6 {
        let numbers = (PUSHES / 6 * round..PUSHES / 6 * (round + 1)).map(Value::from);
        // The test's own connection is closed when it is done, so the operator's hand hits the gateway's alone.
        vhost.push("user:42", numbers).await;
        match round {
            1 | 3 => broker.close_all_connections(),
            2 => {
                broker.kill();
                broker.start_again();
                broker.wait_until_up();
            }
            4 => {
                broker.ctl(&["stop_app"]);
                broker.ctl(&["start_app"]);
            }
            _ => {}
        }
        ready_says(&gateway, 200, "ok").await;
    }
    let distinct = |seen: &[u64]| seen.iter().collect::<BTreeSet<_>>().len() as u64;
    while distinct(&seen) < PUSHES {
        seen.push(client.json().await["payload"].as_u64().unwrap());
    }
    let mut first = BTreeSet::new();
    let order: Vec<_> = seen.iter().copied().filter(|n| first.insert(*n)).collect();
    assert_eq!(order, (0..PUSHES).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_is_noticed_by_heartbeats() {
    let _alone = alone().await;
    let broker = BrokerSetup::default().start();
    let vhost = broker.vhost();
    let setup = sink(&vhost).set("brokers.rabbitmq.response_timeout_seconds", 2);
    let gateway = Arc::new(setup.start().await);
    let traffic = Traffic::start(&gateway);
    traffic.more(100).await;
    broker.freeze();
    ready_says(&gateway, 503, "").await;
    traffic.more(100).await;
    broker.thaw();
    ready_says(&gateway, 200, "ok").await;
    let events = traffic.finish().await;
    assert_all_in_order(&vhost, &gateway, events).await;
    assert_one_connection_left(&gateway).await;
}
