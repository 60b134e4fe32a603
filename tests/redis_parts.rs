//! The parts that talk to Redis, each by itself: the link, the sink with a ledger, the store of dead letters.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use prometheus::IntCounter;
use redis::{Cmd, FromRedisValue as _};
use serde_json::{Value, json};
use support::{Redis, RedisCluster, within};
use tower::ServiceExt as _;
use uuid::Uuid;
use wsgw::api::Readiness;
use wsgw::brokers::redis::{Atomicity, RedisLink};
use wsgw::brokers::{BrokerConfig, BrokersConfig};
use wsgw::config::{Config, Secret};
use wsgw::event::{Event, EventKind};
use wsgw::replay::DeadLetterStore as _;
use wsgw::sinks::dead_letter::{DeadLetter, DeadLetters as _};
use wsgw::sinks::dead_letter_redis::RedisDeadLetters;
use wsgw::sinks::redis_stream::{BrokerFormat, Ledger, RedisStreamSink, Xadd};
use wsgw::sinks::{Batch, DeliveryError, Retry};

fn connects() -> IntCounter {
    IntCounter::new("connects", "Connections.").unwrap()
}

fn link(dsn: &str) -> Arc<RedisLink> {
    let readiness = Arc::new(Readiness::default());
    let config = BrokersConfig::default().redis;
    RedisLink::open(
        &Secret::from(dsn.to_owned()),
        "test",
        &config,
        (&readiness, connects()),
    )
    .unwrap()
}

fn letter(n: u64, raw: &str) -> DeadLetter {
    DeadLetter {
        reason: format!("reason {n}"),
        raw: Bytes::copy_from_slice(raw.as_bytes()),
        event_id: Some(Uuid::from_u128(n.into())),
        sink: "webhook",
        failed_at: n,
    }
}

#[tokio::test]
async fn dead_letters_are_listed_and_moved_once_by_however_many() {
    let redis = Redis::start().await;
    let mut config = Config::default();
    config.replay.redis_stream.max_batch = 1000;
    let link = link(&redis.dsn());
    link.connected().await;
    let store = Arc::new(RedisDeadLetters::new(Arc::clone(&link), &config));
    for n in 0..500 {
        let raw = json!({"type": "message_received", "n": n}).to_string();
        store.store(letter(n, &raw)).await.unwrap();
    }
    let listed = store.list(3).await.unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(
        serde_json::to_value(&listed[1]).unwrap(),
        json!({
            "store": "redis",
            "id": listed[1].id,
            "event_id": Uuid::from_u128(1).to_string(),
            "sink": "webhook",
            "reason": "reason 1",
            "failed_at": 1,
            "raw": "{\"type\":\"message_received\",\"n\":1}",
        })
    );
    assert_eq!(store.replay(2).await.unwrap(), 2);
    assert_eq!(redis.events("ws.inbox").await[1]["n"], 1);
    let moving = [(); 4].map(|()| {
        let store = Arc::clone(&store);
        tokio::spawn(async move { store.replay(1000).await.unwrap() })
    });
    let moved = futures_util::future::join_all(moving).await;
    assert_eq!(moved.into_iter().map(Result::unwrap).sum::<usize>(), 498);
    let inbox = redis.stream("ws.inbox").await;
    assert_eq!(inbox.len(), 500, "each once");
    for (_, fields) in &inbox {
        assert!(
            fields.contains(&("replayed".into(), "1".into())),
            "{fields:?}"
        );
    }
    assert_eq!(redis.command::<usize>("XLEN", &["ws.dlq"]).await, 0);
    assert_eq!(store.replay(5).await.unwrap(), 0);
}

#[tokio::test]
async fn a_letter_stays_while_its_target_refuses_it() {
    let redis = Redis::start().await;
    let mut config = Config::default();
    config.events.redis_stream.format = BrokerFormat::Messenger;
    config.replay.redis_stream.target_stream = "again".into();
    let link = link(&redis.dsn());
    link.connected().await;
    let store = RedisDeadLetters::new(link, &config);
    let id = Uuid::from_u128(7).to_string();
    let raw = json!({"type": "connected", "event_id": id}).to_string();
    store.store(letter(7, &raw)).await.unwrap();
    redis.command::<()>("SET", &["again", "x"]).await;
    let error = store.replay(1).await.unwrap_err();
    assert_eq!(error.replayed, 0);
    assert!(error.reason.contains("WRONGTYPE"), "{error}");
    assert_eq!(store.list(10).await.unwrap().len(), 1);
    redis.command::<()>("DEL", &["again"]).await;
    assert_eq!(store.replay(1).await.unwrap(), 1);
    let (_, fields) = redis.stream("again").await.remove(0);
    assert_eq!(fields.len(), 1, "{fields:?}");
    let message = &fields.iter().find(|(name, _)| name == "message").unwrap().1;
    assert_eq!(
        serde_json::from_str::<Value>(message).unwrap(),
        json!({
            "body": raw,
            "headers": {
                "Content-Type": "application/json",
                "type": "connected",
                "event_id": id,
                "replayed": "1",
            },
        })
    );
}

#[tokio::test]
async fn dead_letters_move_between_slots_of_a_cluster() {
    let cluster = RedisCluster::start().await;
    let link = link(&cluster.dsn());
    within("the cluster", link.connected()).await;
    let store = RedisDeadLetters::new(link, &Config::default());
    for n in 0..3 {
        store.store(letter(n, "{}")).await.unwrap();
    }
    assert_eq!(store.replay(10).await.unwrap(), 3);
    assert_eq!(
        cluster
            .command::<usize>("ws.inbox", "XLEN", &["ws.inbox"])
            .await,
        3
    );
    assert_eq!(
        cluster
            .command::<usize>("ws.dlq", "XLEN", &["ws.dlq"])
            .await,
        0
    );
}

#[tokio::test]
async fn the_link_ends_with_its_last_user_and_a_blocked_reader_with_the_link() {
    let redis = Redis::start().await;
    let readiness = Arc::new(Readiness::default());
    let config = BrokerConfig {
        response_timeout_seconds: 0.5,
        ..BrokerConfig::default()
    };
    let dsn = Secret::from(redis.dsn());
    let link = RedisLink::open(&dsn, "test", &config, (&readiness, connects())).unwrap();
    link.require();
    assert!(readiness.report().checks.contains_key("redis"));
    link.connected().await;

    // Longer than the response timeout.
    let mut reader = link.dedicated().await.unwrap();
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK").arg(1500).arg("STREAMS").arg("s").arg("$");
    assert_eq!(reader.run(&read).await.unwrap().unwrap(), redis::Value::Nil);
    let mut forever = redis::cmd("XREAD");
    forever.arg("BLOCK").arg(0).arg("STREAMS").arg("s").arg("$");
    let blocked = tokio::spawn(async move { reader.run(&forever).await });
    redis.freeze();
    let ended = within("the blocked reader", blocked).await.unwrap();
    assert!(ended.is_err(), "{ended:?}");
    redis.thaw();
    within("the link", link.connected()).await;

    let mut get = redis::cmd("CLIENT");
    get.arg("ID");
    let commands = [get, redis::cmd("NOSUCH"), redis::cmd("PING")];
    let mut answers = link.run(&commands, Atomicity::Each).await.unwrap();
    assert_eq!(answers[1].as_ref().unwrap_err().code(), "ERR");
    let id = i64::from_redis_value(answers.remove(0).unwrap()).unwrap();
    drop(link);
    within("the connection to close", async {
        loop {
            let clients: String = redis.command("CLIENT", &["LIST"]).await;
            if !clients.contains(&format!("id={id} ")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!readiness.report().checks.contains_key("redis"));
}

/// Counts connections in a hash, in the same transaction as the stream.
struct Counts;

impl Ledger for Counts {
    fn append(&self, event: &Event, xadd: &Xadd<'_>, commands: &mut Vec<Cmd>) {
        let mut count = redis::cmd("HINCRBY");
        let by = if event.kind == EventKind::Connected {
            1
        } else {
            -1
        };
        count.arg("online").arg(&*event.user_id).arg(by);
        commands.push(count);
        commands.push(xadd.command());
    }
}

fn event(n: u128, kind: EventKind, replayed: bool) -> Arc<Event> {
    Arc::new(Event {
        spoken_for: None,
        receipt: None,
        id: Uuid::from_u128(n),
        kind,
        connection_id: Uuid::from_u128(1),
        user_id: "42".into(),
        seq: 1,
        ordering_key: None,
        traceparent: None,
        trace_id: None,
        span: None,
        replayed,
        json: Bytes::from(json!({ "n": n.to_string() }).to_string()),
    })
}

#[tokio::test]
async fn a_ledger_acts_with_the_stream_and_fails_with_it() {
    let redis = Redis::start().await;
    let link = link(&redis.dsn());
    link.connected().await;
    let deliver = async |events: Vec<Arc<Event>>| {
        let sink = RedisStreamSink::new(
            Arc::clone(&link),
            &Config::default(),
            Some(Arc::new(Counts)),
        );
        sink.into_service().oneshot(Batch::from(events)).await
    };
    let batch = || {
        vec![
            event(1, EventKind::MessageReceived, false),
            event(2, EventKind::Connected, false),
            event(3, EventKind::MessageReceived, true),
            event(4, EventKind::Connected, false),
        ]
    };
    deliver(batch()).await.unwrap();
    let online: i64 = redis.command("HGET", &["online", "42"]).await;
    assert_eq!(online, 2);
    assert_eq!(redis.events("ws.events").await.len(), 2);
    let inbox = redis.stream("ws.inbox").await;
    assert_eq!(inbox[0].1.len(), 1);
    assert!(inbox[1].1.contains(&("replayed".into(), "1".into())));

    redis.command::<()>("DEL", &["online"]).await;
    redis.command::<()>("SET", &["online", "x"]).await;
    let error: DeliveryError = deliver(batch()).await.unwrap_err();
    assert_eq!(error.tried, 4);
    let places: Vec<usize> = error.failed.iter().map(|failure| failure.index).collect();
    assert_eq!(places, [1, 3], "only those that the ledger counts");
    for failure in &error.failed {
        assert_eq!(failure.retry, Retry::Backoff);
        assert!(failure.reason.contains("WRONGTYPE"), "{failure:?}");
    }
    assert_eq!(redis.events("ws.inbox").await.len(), 4);
}

#[tokio::test]
async fn refused_streams_leave_the_others_of_the_batch_alone() {
    let redis = Redis::start().await;
    let rights = ["SETUSER", "gw", "on", ">p", "~ws.inbox", "+@all"];
    redis.command::<()>("ACL", &rights).await;
    let link = link(&redis.dsn().replace("://", "://gw:p@"));
    link.connected().await;
    let sink = RedisStreamSink::new(link, &Config::default(), None);
    let batch = Batch::from(vec![
        event(1, EventKind::MessageReceived, false),
        event(2, EventKind::Connected, false),
        event(3, EventKind::MessageReceived, false),
    ]);
    // `NOPERM` comes before anything is done, and discards the whole transaction.
    let error = sink.into_service().oneshot(batch).await.unwrap_err();
    assert_eq!((error.failed.len(), error.failed[0].index), (1, 1));
    assert!(error.failed[0].reason.contains("NOPERM"), "{error:?}");
    let delivered: Vec<Value> = redis.events("ws.inbox").await;
    assert_eq!(delivered, [json!({"n": "1"}), json!({"n": "3"})]);
}

#[tokio::test]
async fn without_the_right_to_multi_each_event_is_added_once() {
    let redis = Redis::start().await;
    let rights = ["SETUSER", "gw", "on", ">p", "~*", "+@all", "-multi"];
    redis.command::<()>("ACL", &rights).await;
    let link = link(&redis.dsn().replace("://", "://gw:p@"));
    link.connected().await;
    let sink = RedisStreamSink::new(link, &Config::default(), None);
    let batch: Vec<_> = (0..3)
        .map(|n| event(n, EventKind::MessageReceived, false))
        .collect();
    sink.into_service()
        .oneshot(Batch::from(batch))
        .await
        .unwrap();
    assert_eq!(redis.events("ws.inbox").await.len(), 3);
}
