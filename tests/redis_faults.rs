//! What can go wrong between the gateway and Redis: nothing is lost, order holds, and the log says why.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Gateway, Redis, RedisSetup, Setup, eventually, within};

/// How a connection's lines come in while Redis is in trouble.
const PACE: Duration = Duration::from_millis(20);

/// A gateway that notices quickly.
fn quick(dsn: impl AsRef<str>) -> Setup {
    Setup::default()
        .redis(dsn)
        .set("brokers.redis.connect_timeout_seconds", 1)
        .set("brokers.redis.response_timeout_seconds", 1)
        .set("brokers.redis.reconnect_max_seconds", "0.5")
}

/// A client that sends numbered messages until it is told to stop; gives how many it sent.
fn sender(
    gateway: &Arc<Gateway>,
    user: usize,
    stop: &tokio::sync::watch::Receiver<bool>,
) -> tokio::task::JoinHandle<u64> {
    let (gateway, stop) = (Arc::clone(gateway), stop.clone());
    tokio::spawn(async move {
        let mut client = Client::connect(&gateway, &user.to_string()).await;
        let mut sent = 0;
        while !*stop.borrow() {
            client.send(format!("{{\"n\":{sent}}}")).await;
            sent += 1;
            tokio::time::sleep(PACE).await;
        }
        client.round_trip().await;
        client.close(None).await;
        sent
    })
}

/// Waits until every user's events are all there, and checks that none overtook another.
///
/// What arrived twice counts where it arrived first.
async fn assert_whole(redis: &Redis, sent: &BTreeMap<String, u64>) {
    let expected: u64 = sent.values().sum();
    let inbox = within("every message", async {
        loop {
            let inbox = redis.events("ws.inbox").await;
            let ids: HashSet<_> = inbox.iter().map(|e| e["event_id"].to_string()).collect();
            if ids.len() as u64 >= expected {
                return inbox;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let mut seen = HashSet::new();
    let mut last: BTreeMap<String, u64> = BTreeMap::new();
    for event in inbox {
        if !seen.insert(event["event_id"].to_string()) {
            continue;
        }
        let seq = event["seq"].as_u64().unwrap();
        let user = event["user_id"].as_str().unwrap().to_owned();
        let before = last.insert(user.clone(), seq).unwrap_or(1);
        assert_eq!(seq, before + 1, "user {user}");
    }
    let counts: BTreeMap<String, u64> = last
        .into_iter()
        .map(|(user, seq)| (user, seq - 1))
        .collect();
    assert_eq!(counts, *sent);
}

/// Several clients' messages, through whatever happens meanwhile.
async fn through(gateway: Gateway, redis: &Redis, trouble: impl AsyncFnOnce(&Gateway)) {
    let gateway = Arc::new(gateway);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let senders: Vec<_> = (0..4)
        .map(|user| sender(&gateway, user, &stopped))
        .collect();
    redis.wait_for_events("ws.inbox", 20).await;
    let pid = gateway.pid();
    trouble(&gateway).await;
    stop.send(true).unwrap();
    let mut sent = BTreeMap::new();
    for (user, sender) in senders.into_iter().enumerate() {
        sent.insert(user.to_string(), sender.await.unwrap());
    }
    assert_whole(redis, &sent).await;
    gateway.ready().await;
    assert_eq!(gateway.pid(), pid);
    assert!(gateway.metric("wsgw_dead_letters_total", &[]).await < 1.0);
}

/// The reasons of failed tries so far.
fn reasons(gateway: &Gateway) -> BTreeSet<String> {
    let logs = gateway.logs().into_iter();
    logs.filter(|line| line["event"] == "sink_failed")
        .map(|line| line["reason"].to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_gets_everything_in_order() {
    let redis = RedisSetup::default().durable().start().await;
    let gateway = quick(redis.dsn()).start().await;
    through(gateway, &redis, async |gateway| {
        for _ in 0..3 {
            redis.kill();
            gateway.wait_for_check("redis", "").await;
            let read = gateway.metric("ws_messages_total", &[]).await;
            gateway
                .wait_for_metric("ws_messages_total", &[], read + 40.0)
                .await;
            redis.up().await;
            gateway.ready().await;
            let published = gateway.metric("broker_publish_total", &[]).await;
            gateway
                .wait_for_metric("broker_publish_total", &[], published + 80.0)
                .await;
        }
        gateway.wait_for_log("broker_lost", "127.0.0.1").await;
        gateway.wait_for_log("broker_unreachable", "refused").await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_is_noticed() {
    let redis = RedisSetup::default().durable().start().await;
    let gateway = quick(redis.dsn()).start().await;
    through(gateway, &redis, async |gateway| {
        redis.freeze();
        gateway.wait_for_check("redis", "").await;
        redis.thaw();
        gateway.ready().await;
    })
    .await;
}

#[tokio::test]
async fn a_frozen_server_is_noticed_while_idle() {
    let redis = Redis::start().await;
    let gateway = quick(redis.dsn()).start().await;
    redis.freeze();
    gateway.wait_for_check("redis", "no answer").await;
    gateway.wait_for_log("broker_lost", "no answer").await;
    redis.thaw();
    gateway.ready().await;
}

#[tokio::test]
async fn a_server_that_is_absent_at_the_start_gets_everything_once_it_appears() {
    let redis = RedisSetup::default().prepare();
    let gateway = quick(redis.dsn()).start_unready().await;
    gateway.wait_for_check("redis", "refused").await;
    gateway
        .wait_for_log("broker_unreachable", "events.redis_stream.dsn")
        .await;
    let mut client = Client::connect(&gateway, "0").await;
    for n in 0..50 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    client.round_trip().await;
    redis.up().await;
    assert_whole(&redis, &[("0".to_owned(), 50)].into()).await;
    gateway.ready().await;
    assert!(reasons(&gateway).is_empty(), "an outage costs no tries");
}

#[tokio::test]
async fn a_wrong_password_is_named_and_not_shown() {
    let redis = RedisSetup::default().password("right-one").start().await;
    let dsn = redis.dsn().replace("right-one", "wr0ng-one");
    let gateway = quick(&dsn).start_unready().await;
    gateway.wait_for_check("redis", "WRONGPASS").await;
    let line = gateway
        .wait_for_log("broker_unreachable", "WRONGPASS")
        .await;
    assert_eq!(line["setting"], "events.redis_stream.dsn");
    let mut client = Client::connect(&gateway, "0").await;
    client.send_json(&json!({"n": 0})).await;
    client.round_trip().await;
    redis
        .command::<()>("ACL", &["SETUSER", "default", ">wr0ng-one"])
        .await;
    gateway.ready().await;
    assert_whole(&redis, &[("0".to_owned(), 1)].into()).await;
    assert!(!gateway.stderr().contains("wr0ng-one"));

    let without = redis.dsn().replace(":right-one@", "");
    let gateway = quick(&without).start_unready().await;
    gateway.wait_for_check("redis", "NOAUTH").await;
}

#[tokio::test]
async fn a_replica_takes_no_events_until_it_is_primary() {
    let redis = Redis::start().await;
    let gateway = quick(redis.dsn()).start().await;
    redis.command::<()>("REPLICAOF", &["127.0.0.1", "1"]).await;
    let mut client = Client::connect(&gateway, "0").await;
    client.send_json(&json!({"n": 0})).await;
    gateway.wait_for_check("redis", "READONLY").await;
    assert!(
        reasons(&gateway)
            .iter()
            .all(|reason| reason.contains("READONLY"))
    );
    redis.command::<()>("REPLICAOF", &["NO", "ONE"]).await;
    assert_whole(&redis, &[("0".to_owned(), 1)].into()).await;
    gateway.ready().await;
}

#[tokio::test]
async fn a_full_server_gets_everything_once_it_has_room() {
    let redis = Redis::start().await;
    let gateway = quick(redis.dsn()).start().await;
    redis
        .command::<()>("CONFIG", &["SET", "maxmemory", "1"])
        .await;
    let mut client = Client::connect(&gateway, "0").await;
    for n in 0..20 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    gateway.wait_for_log("sink_failed", "OOM").await;
    gateway.wait_for_check("redis", "`ws.events`: OOM").await;
    assert_eq!(gateway.get("/ready").await.status, 503);
    assert_eq!(redis.events("ws.events").await.len(), 0);
    redis
        .command::<()>("CONFIG", &["SET", "maxmemory", "0"])
        .await;
    assert_whole(&redis, &[("0".to_owned(), 20)].into()).await;
    gateway.ready().await;
}

#[tokio::test]
async fn a_forbidden_stream_holds_up_only_itself() {
    let redis = Redis::start().await;
    let rights = ["SETUSER", "gw", "on", ">acl-pass", "~ws.events", "+@all"];
    redis.command::<()>("ACL", &rights).await;
    let dsn = redis.dsn().replace("://", "://gw:acl-pass@");
    let gateway = quick(dsn).start().await;
    let mut client = Client::connect(&gateway, "0").await;
    for n in 0..20 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    gateway.wait_for_log("sink_failed", "NOPERM").await;
    // Another's `connected` passes while the messages are refused over and over.
    let _other = Client::connect(&gateway, "1").await;
    redis.wait_for_events("ws.events", 2).await;
    assert_eq!(redis.events("ws.inbox").await.len(), 0);
    redis.command::<()>("ACL", &["SETUSER", "gw", "~*"]).await;
    assert_whole(&redis, &[("0".to_owned(), 20)].into()).await;
    assert!(!gateway.stderr().contains("acl-pass"));
}

#[tokio::test]
async fn a_partition_of_the_wrong_type_delays_only_its_own_key() {
    let redis = Redis::start().await;
    let gateway = quick(redis.dsn())
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "suffix")
        .start()
        .await;
    redis.command::<()>("SET", &["ws.inbox.bad", "x"]).await;
    let mut client = Client::connect(&gateway, "0").await;
    for n in 0..100 {
        for topic in ["good", "bad", "fine"] {
            client
                .feed(json!({"topic": topic, "n": n}).to_string())
                .await;
        }
    }
    client.round_trip().await;
    for stream in ["ws.inbox.good", "ws.inbox.fine"] {
        let events = redis.wait_for_events(stream, 100).await;
        let order: Vec<u64> = events
            .iter()
            .map(|e| e["message"]["n"].as_u64().unwrap())
            .collect();
        assert_eq!(order, (0..100).collect::<Vec<_>>(), "{stream}");
    }
    gateway.wait_for_log("sink_failed", "WRONGTYPE").await;
    assert_eq!(gateway.get("/ready").await.status, 200);
    redis.command::<()>("DEL", &["ws.inbox.bad"]).await;
    let events = redis.wait_for_events("ws.inbox.bad", 100).await;
    let order: Vec<u64> = events
        .iter()
        .map(|e| e["message"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_buffer_makes_clients_wait() {
    const MESSAGES: u64 = 200;
    let redis = RedisSetup::default().durable().start().await;
    let gateway = quick(redis.dsn())
        .set("events.redis_stream.buffer.max_events", 50)
        .start()
        .await;
    redis.kill();
    let mut client = Client::connect(&gateway, "0").await;
    for n in 0..MESSAGES {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    gateway
        .wait_for_metric("wsgw_sink_full_total", &["wait"], 1.0)
        .await;
    assert!(gateway.metric("ws_messages_total", &[]).await < 60.0);
    redis.up().await;
    client.round_trip().await;
    assert_whole(&redis, &[("0".to_owned(), MESSAGES)].into()).await;
}

#[tokio::test]
async fn a_log_of_an_outage_is_short() {
    let redis = RedisSetup::default().prepare();
    let gateway = quick(redis.dsn())
        .set("brokers.redis.reconnect_max_seconds", "0.01")
        .start_unready()
        .await;
    // More than a hundred tries by then.
    let line = eventually("a line that stands for many", || {
        let logs = gateway.logs().into_iter();
        logs.filter(|line| line["event"] == "broker_unreachable")
            .find(|line: &Value| line["suppressed"].as_u64().unwrap() > 20)
    })
    .await;
    assert_eq!(line["broker"], "redis");
}
