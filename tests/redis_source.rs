//! Pushes from a stream of a real Redis: to every client once and in order, whatever happens to Redis meanwhile.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(clippy::float_cmp, reason = "counters are whole numbers")]

mod support;

use std::time::Duration;

use redis::streams::StreamRangeReply;
use serde_json::{Value, json};
use support::client::Upgrade;
use support::tokens::claims;
use support::{Client, Gateway, Redis, RedisSetup, Setup, eventually, signed, within};

const OUTBOX: &str = "ws.outbox";

/// A gateway in core mode that notices quickly.
fn core(dsn: impl AsRef<str>) -> Setup {
    Setup::default()
        .yaml(include_str!("../pipelines/core.yaml"))
        .env("REDIS_DSN", dsn.as_ref())
        .set("brokers.redis.connect_timeout_seconds", 1)
        .set("brokers.redis.response_timeout_seconds", 1)
        .set("brokers.redis.reconnect_max_seconds", "0.5")
}

/// A token of a user who listens to `all`.
fn listener(user: &str) -> String {
    signed(claims(user, json!({"subjects": ["all"]})))
}

async fn connect(gateway: &Gateway, user: &str) -> Client {
    let mut client = Client::with_token(gateway, &listener(user)).await;
    // Registered by the time it answers.
    client.round_trip().await;
    client
}

async fn push(redis: &Redis, numbers: std::ops::Range<u64>) {
    for n in numbers {
        redis.push(OUTBOX, &["all"], json!({"n": n})).await;
    }
}

fn number(text: &str) -> u64 {
    let push: Value = serde_json::from_str(text).unwrap();
    push["payload"]["n"].as_u64().unwrap()
}

/// The next pushes must be these, all of them, in this order.
async fn expect(client: &mut Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert_eq!(number(&client.text().await), n);
    }
}

/// Adds a push, and again where Redis was killed before it took it.
async fn push_surely(redis: &Redis, n: u64) {
    let push = json!({"subjects": ["all"], "payload": {"n": n}}).to_string();
    within("a push to be taken", async {
        while in_time(redis.try_command::<String>("XADD", &[OUTBOX, "*", "data", &push]))
            .await
            .is_none()
        {
            // It may be there all the same.
            let last = loop {
                let newest = [OUTBOX, "+", "-", "COUNT", "1"];
                let asking = redis.try_command::<StreamRangeReply>("XREVRANGE", &newest);
                if let Some(newest) = in_time(asking).await {
                    break newest.ids.first().and_then(|entry| entry.get("data"));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            };
            if last.as_ref() == Some(&push) {
                return;
            }
        }
    })
    .await;
}

async fn in_time<T>(asking: impl Future<Output = redis::RedisResult<T>>) -> Option<T> {
    let answer = tokio::time::timeout(Duration::from_secs(1), asking).await;
    answer.ok()?.ok()
}

async fn stopped(gateway: Gateway) {
    gateway.signal("TERM");
    assert!(gateway.ended().await.success(), "{}", gateway.stderr());
}

#[tokio::test]
async fn every_gateway_delivers_every_push_once_and_in_order() {
    const PUSHES: u64 = 500;
    for count in [2, 3] {
        let redis = Redis::start().await;
        let mut gateways = Vec::new();
        let mut clients = Vec::new();
        for _ in 0..count {
            let gateway = core(redis.dsn()).start().await;
            for user in 0..2 {
                clients.push(connect(&gateway, &user.to_string()).await);
            }
            gateways.push(gateway);
        }
        push(&redis, 0..PUSHES).await;
        // Two subjects of one connection are one push.
        let both = ["all", "user:0", "user:1"];
        redis.push(OUTBOX, &both, json!({"n": PUSHES})).await;
        redis
            .push(OUTBOX, &["user:1"], json!({"n": PUSHES + 1}))
            .await;
        push(&redis, PUSHES + 2..PUSHES + 3).await;
        for (index, client) in clients.iter_mut().enumerate() {
            expect(client, 0..PUSHES + 1).await;
            if index % 2 == 1 {
                expect(client, PUSHES + 1..PUSHES + 2).await;
            }
            expect(client, PUSHES + 2..PUSHES + 3).await;
        }
        for gateway in &gateways {
            let handled = gateway
                .metric("wsgw_source_pushes_total", &["redis", "handled"])
                .await;
            assert_eq!(handled, (PUSHES + 3) as f64);
        }
    }
}

#[tokio::test]
async fn starts_at_the_end_and_stops_while_it_waits() {
    let redis = Redis::start().await;
    push(&redis, 0..10).await;
    let gateway = core(redis.dsn()).start().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 10..20).await;
    expect(&mut client, 10..20).await;
    let handled = gateway.metric("wsgw_source_pushes_total", &[]).await;
    assert_eq!(handled, 10.0);
    stopped(gateway).await;
    let keys: Vec<String> = redis.command("KEYS", &["wsgw:outbox:*"]).await;
    assert_eq!(
        keys, [""; 0],
        "no position is kept without a replay strategy"
    );
}

#[tokio::test]
async fn a_stream_that_appears_later_is_read_from_its_first_entry() {
    let redis = Redis::start().await;
    let gateway = core(redis.dsn())
        .env("REDIS_STREAM", "pushes")
        .start()
        .await;
    let mut client = connect(&gateway, "1").await;
    redis.push("pushes", &["all"], json!({"n": 0})).await;
    redis.push("pushes", &["all"], json!({"n": 1})).await;
    expect(&mut client, 0..2).await;
}

#[tokio::test]
async fn what_is_no_push_is_a_dead_letter_once_for_all_gateways() {
    let redis = Redis::start().await;
    let gateways = [
        core(redis.dsn()).start().await,
        core(redis.dsn()).start().await,
    ];
    let mut clients = [
        connect(&gateways[0], "0").await,
        connect(&gateways[1], "1").await,
    ];
    let bad = [
        ("data", r#"{"subjects":["hunter2"#, "the JSON ends early"),
        (
            "data",
            r#"{"subjects":[],"payload":1}"#,
            "`subjects` is empty",
        ),
        ("data", "7", "not a push"),
        ("message", "{}", "`message` is not an object"),
        ("other", "x", "neither a field `data` nor a field `message`"),
    ];
    for (field, text, _) in bad {
        redis
            .command::<String>("XADD", &[OUTBOX, "*", field, text])
            .await;
    }
    let body = json!({"subjects": ["all"], "payload": {"n": 0}}).to_string();
    let message = json!({"body": body, "headers": {"type": "App\\Push"}}).to_string();
    redis
        .command::<String>("XADD", &[OUTBOX, "*", "message", &message])
        .await;
    push(&redis, 1..2).await;
    for (client, gateway) in clients.iter_mut().zip(&gateways) {
        expect(client, 0..2).await;
        let malformed = gateway
            .metric("wsgw_source_pushes_total", &["malformed"])
            .await;
        assert_eq!(malformed, bad.len() as f64);
        assert!(!gateway.stderr().contains("hunter2"));
    }
    let mut letters = Vec::new();
    for (_, fields) in redis.stream("ws.dlq").await {
        let field = |name: &str| {
            let (_, value) = fields.iter().find(|(field, _)| field == name).unwrap();
            value.clone()
        };
        assert_eq!(field("sink"), "redis");
        letters.push((field("raw"), field("reason")));
    }
    assert_eq!(letters.len(), bad.len(), "{letters:?}");
    for (field, text, reason) in bad {
        let raw = if field == "other" {
            json!({field: text}).to_string()
        } else {
            text.to_owned()
        };
        let (_, found) = letters.iter().find(|(letter, _)| *letter == raw).unwrap();
        assert!(found.contains(reason), "{found}");
    }
}

#[tokio::test]
async fn a_dead_letter_that_nobody_takes_is_counted_and_holds_up_nothing() {
    let redis = Redis::start().await;
    redis.command::<()>("SET", &["ws.dlq", "x"]).await;
    let gateway = core(redis.dsn())
        .set("events.dead_letters.file.path", "/dev/full")
        .start()
        .await;
    let mut client = connect(&gateway, "1").await;
    let bad: String = redis.command("XADD", &[OUTBOX, "*", "data", "{"]).await;
    push(&redis, 0..1).await;
    expect(&mut client, 0..1).await;
    let lost = gateway
        .metric("wsgw_dead_letters_total", &["redis", "lost"])
        .await;
    assert_eq!(lost, 1.0);
    let line = gateway.wait_for_log("push_malformed", &bad).await;
    assert_eq!(line["kept"], false, "{line}");
    let marked: u64 = redis
        .command("EXISTS", &[&format!("wsgw:dead:{OUTBOX}:{bad}")])
        .await;
    assert_eq!(marked, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_costs_no_push_and_doubles_none() {
    let redis = RedisSetup::default().durable().start().await;
    let gateways = [
        core(redis.dsn()).start().await,
        core(redis.dsn()).start().await,
    ];
    let mut clients = [
        connect(&gateways[0], "0").await,
        connect(&gateways[1], "1").await,
    ];
    let (sent, sending) = tokio::sync::watch::channel(0);
    let pushing = async {
        let mut n = 0;
        while n < 400 {
            push_surely(&redis, n).await;
            n += 1;
            sent.send(n).unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let trouble = async {
        let mut sending = sending.clone();
        for at in [50, 200] {
            sending.wait_for(|n| *n >= at).await.unwrap();
            redis.kill();
            for gateway in &gateways {
                gateway.wait_for_check("redis", "").await;
            }
            redis.up().await;
        }
    };
    tokio::join!(pushing, trouble);
    push(&redis, 400..401).await;
    for client in &mut clients {
        expect(client, 0..401).await;
    }
    for gateway in &gateways {
        gateway.ready().await;
        let handled = gateway
            .metric("wsgw_source_pushes_total", &["handled"])
            .await;
        assert_eq!(handled, 401.0);
    }
}

#[tokio::test]
async fn a_frozen_server_is_read_on_after_it_thaws() {
    let redis = Redis::start().await;
    let gateway = core(redis.dsn()).start().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 0..5).await;
    expect(&mut client, 0..5).await;
    redis.freeze();
    gateway.wait_for_check("redis", "no answer").await;
    redis.thaw();
    push(&redis, 5..10).await;
    expect(&mut client, 5..10).await;
    gateway.ready().await;
}

#[tokio::test]
async fn a_server_that_is_absent_at_the_start_is_read_once_it_appears() {
    let redis = RedisSetup::default().prepare();
    let gateway = core(redis.dsn()).start_unready().await;
    gateway.wait_for_check("redis", "not subscribed").await;
    gateway.wait_for_check("redis", "refused").await;
    let mut client = connect(&gateway, "1").await;
    redis.up().await;
    gateway.ready().await;
    push(&redis, 0..5).await;
    expect(&mut client, 0..5).await;
}

/// A gateway that was stopped, missed five pushes, and starts again while Redis is away, so that a client is there
/// before it reads on.
async fn restarted(strategy: &str, snapshot_seconds: f64) -> (Redis, Gateway, Client) {
    let redis = RedisSetup::default().durable().start().await;
    let setup = || {
        core(redis.dsn())
            .env("REPLAY_STRATEGY", strategy)
            .env("REPLAY_SNAPSHOT_SECONDS", snapshot_seconds)
            .set("server.node_id", "node-a")
    };
    push(&redis, 0..5).await;
    let gateway = setup().start().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 5..10).await;
    expect(&mut client, 5..10).await;
    drop(client);
    stopped(gateway).await;
    push(&redis, 10..15).await;
    redis.kill();
    let gateway = setup().start_unready().await;
    let client = connect(&gateway, "1").await;
    redis.up().await;
    gateway.ready().await;
    (redis, gateway, client)
}

#[tokio::test]
async fn with_replay_a_restart_goes_on_after_the_last_push_handled() {
    for (strategy, snapshot_seconds) in [("bounded", 0.0), ("bounded", 3600.0)] {
        let (redis, gateway, mut client) = restarted(strategy, snapshot_seconds).await;
        expect(&mut client, 10..15).await;
        push(&redis, 15..16).await;
        expect(&mut client, 15..16).await;
        drop(client);
        stopped(gateway).await;
        let kept: String = redis
            .command("GET", &["wsgw:outbox:ws.outbox:node-a"])
            .await;
        assert_eq!(kept, redis.stream(OUTBOX).await.last().unwrap().0);
    }
}

#[tokio::test]
async fn without_replay_a_restart_starts_at_the_end() {
    let (redis, _gateway, mut client) = restarted("none", 0.0).await;
    push(&redis, 15..16).await;
    expect(&mut client, 15..16).await;
}

#[tokio::test]
async fn a_killed_gateway_goes_on_where_it_was() {
    let redis = Redis::start().await;
    let setup = || {
        core(redis.dsn())
            .env("REPLAY_STRATEGY", "bounded")
            .set("server.node_id", "node-a")
    };
    push(&redis, 0..3).await;
    let gateway = setup().start().await;
    gateway.signal("KILL");
    gateway.ended().await;
    push(&redis, 3..10).await;
    redis
        .command::<u64>("XTRIM", &[OUTBOX, "MAXLEN", "4"])
        .await;
    let gateway = setup().start().await;
    gateway
        .wait_for_metric("wsgw_source_pushes_total", &["handled"], 4.0)
        .await;
    let line = gateway.wait_for_log("outbox_gap", OUTBOX).await;
    assert_eq!(line["oldest"], redis.stream(OUTBOX).await[0].0);
    let other = core(redis.dsn())
        .env("REPLAY_STRATEGY", "bounded")
        .set("server.node_id", "node-b")
        .start()
        .await;
    push(&redis, 10..11).await;
    other
        .wait_for_metric("wsgw_source_pushes_total", &["handled"], 1.0)
        .await;
    gateway
        .wait_for_metric("wsgw_source_pushes_total", &["handled"], 5.0)
        .await;
    let read = other.metric("wsgw_source_pushes_total", &["handled"]).await;
    assert_eq!(read, 1.0, "another node has a position of its own");
}

#[tokio::test]
async fn a_stream_that_is_deleted_and_begun_anew_is_read_from_its_start() {
    let redis = Redis::start().await;
    let gateway = core(redis.dsn()).start().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 0..5).await;
    expect(&mut client, 0..5).await;
    redis.command::<u64>("DEL", &[OUTBOX]).await;
    for (id, n) in [("1-1", 5), ("1-2", 6), ("2-0", 7)] {
        let push = json!({"subjects": ["all"], "payload": {"n": n}}).to_string();
        redis
            .command::<String>("XADD", &[OUTBOX, id, "data", &push])
            .await;
    }
    expect(&mut client, 5..8).await;
    gateway.wait_for_log("outbox_restarted", "begun anew").await;
    redis.command::<()>("FLUSHALL", &[]).await;
    push(&redis, 8..9).await;
    expect(&mut client, 8..9).await;
}

#[tokio::test]
async fn a_stream_that_lost_its_newest_entries_is_not_delivered_again() {
    let redis = Redis::start().await;
    let gateway = core(redis.dsn()).start().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 0..5).await;
    let mut connection = redis.connection().await;
    let dump: Vec<u8> = redis::cmd("DUMP")
        .arg(OUTBOX)
        .query_async(&mut connection)
        .await
        .unwrap();
    push(&redis, 5..10).await;
    expect(&mut client, 0..10).await;
    // As on a replica that had not got the last five when it became primary.
    let () = redis::cmd("RESTORE")
        .arg(OUTBOX)
        .arg(0)
        .arg(dump)
        .arg("REPLACE")
        .query_async(&mut connection)
        .await
        .unwrap();
    gateway.wait_for_log("outbox_restarted", "failover").await;
    push(&redis, 10..12).await;
    expect(&mut client, 10..12).await;
}

#[tokio::test]
async fn a_key_of_the_wrong_type_is_named_and_read_once_it_is_mended() {
    let redis = Redis::start().await;
    redis.command::<()>("SET", &[OUTBOX, "x"]).await;
    let gateway = core(redis.dsn()).start_unready().await;
    gateway.wait_for_check("redis", "WRONGTYPE").await;
    let line = gateway
        .wait_for_log("source_interrupted", "WRONGTYPE")
        .await;
    assert_eq!(line["stream"], OUTBOX);
    redis.command::<u64>("DEL", &[OUTBOX]).await;
    gateway.ready().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 0..3).await;
    expect(&mut client, 0..3).await;
    // The same while it reads.
    redis.command::<()>("SET", &[OUTBOX, "x"]).await;
    gateway.wait_for_check("redis", "WRONGTYPE").await;
    redis.command::<u64>("DEL", &[OUTBOX]).await;
    gateway.ready().await;
    push(&redis, 3..6).await;
    expect(&mut client, 3..6).await;
}

#[tokio::test]
async fn a_forbidden_stream_is_named_and_read_once_it_is_allowed() {
    let redis = Redis::start().await;
    let rights = ["SETUSER", "gw", "on", ">acl-pass", "~ws.e*", "+@all"];
    redis.command::<()>("ACL", &rights).await;
    let dsn = redis.dsn().replace("://", "://gw:acl-pass@");
    let gateway = core(dsn).start_unready().await;
    gateway.wait_for_check("redis", "NOPERM").await;
    redis.command::<()>("ACL", &["SETUSER", "gw", "~*"]).await;
    gateway.ready().await;
    let mut client = connect(&gateway, "1").await;
    push(&redis, 0..3).await;
    expect(&mut client, 0..3).await;
    assert!(!gateway.stderr().contains("acl-pass"));
}

#[tokio::test]
async fn a_full_server_is_read_though_the_position_cannot_be_kept() {
    let redis = Redis::start().await;
    let gateway = core(redis.dsn())
        .env("REPLAY_STRATEGY", "bounded")
        .set("server.node_id", "node-a")
        .start()
        .await;
    let mut client = connect(&gateway, "1").await;
    // All before Redis is full, whether it is read before or after.
    let mut pipeline = redis::pipe();
    pipeline.atomic();
    for n in 0..3 {
        let push = json!({"subjects": ["all"], "payload": {"n": n}}).to_string();
        pipeline
            .cmd("XADD")
            .arg(OUTBOX)
            .arg("*")
            .arg("data")
            .arg(push);
    }
    pipeline
        .cmd("CONFIG")
        .arg("SET")
        .arg("maxmemory")
        .arg(1)
        .ignore();
    let mut connection = redis.connection().await;
    let _: Vec<String> = pipeline.query_async(&mut connection).await.unwrap();
    expect(&mut client, 0..3).await;
    gateway.wait_for_log("outbox_position_failed", "OOM").await;
    redis
        .command::<()>("CONFIG", &["SET", "maxmemory", "0"])
        .await;
    let newest = redis.stream(OUTBOX).await.last().unwrap().0.clone();
    within("the position to be kept", async {
        loop {
            let key = "wsgw:outbox:ws.outbox:node-a";
            let kept: Option<String> = redis.command("GET", &[key]).await;
            if kept.as_ref() == Some(&newest) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

/// Pushes of a flood.
const FLOOD: u64 = 100_000;

/// Adds so many pushes as fast as Redis takes them.
async fn add_flood(redis: &Redis, count: u64) {
    // On a busy machine a thousand entries may take longer than the library would wait.
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = redis::Client::open(redis.dsn())
        .unwrap()
        .get_multiplexed_async_connection_with_config(&patient)
        .await
        .unwrap();
    let pad = "x".repeat(200);
    for chunk in 0..count / 1000 {
        let mut pipeline = redis::pipe();
        for n in chunk * 1000..(chunk + 1) * 1000 {
            let payload = json!({"n": n, "pad": pad});
            let push = json!({"subjects": ["all"], "payload": payload}).to_string();
            let add = pipeline.cmd("XADD");
            add.arg(OUTBOX).arg("*").arg("data").arg(push).ignore();
        }
        let () = pipeline.query_async(&mut connection).await.unwrap();
    }
}

/// Four clients that read, one that does not, and a flood for all of them.
async fn flood(strategy: &str) -> (Redis, Gateway, Client) {
    let redis = Redis::start().await;
    let gateway = core(redis.dsn())
        .env("BACKPRESSURE_STRATEGY", strategy)
        // The slow one must not be found out by its pings.
        .set("server.ping_interval_seconds", 3000)
        .start()
        .await;
    let slow = Upgrade::to(&gateway)
        .bearer(&listener("slow"))
        .receive_buffer(4096)
        .open()
        .await;
    let mut clients = Vec::new();
    for user in 0..4 {
        clients.push(connect(&gateway, &user.to_string()).await);
    }
    gateway.wait_for_connections(5).await;
    let before = gateway.resident_bytes();
    let mut reading = tokio::task::JoinSet::new();
    for mut client in clients {
        reading.spawn(async move {
            expect(&mut client, 0..FLOOD + 1).await;
            client
        });
    }
    add_flood(&redis, FLOOD).await;
    push(&redis, FLOOD..FLOOD + 1).await;
    let mut most = 0;
    eventually("every healthy client to get all", || {
        most = most.max(gateway.resident_bytes().saturating_sub(before));
        while let Some(client) = reading.try_join_next() {
            // Kept open, since a client that leaves is no longer healthy.
            std::mem::forget(client.unwrap());
        }
        reading.is_empty().then_some(())
    })
    .await;
    assert!(most < 48 << 20, "{most} bytes more for a flood of 24 MB");
    (redis, gateway, slow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_reaches_all_who_read_and_closes_who_does_not() {
    let (redis, gateway, slow) = flood("close").await;
    let end = within("the slow one's end", async {
        loop {
            let mut events = redis.events("ws.events").await.into_iter();
            if let Some(end) = events.find(|event| event["type"] == "disconnected") {
                return end;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(
        (&end["user_id"], &end["close_code"]),
        (&json!("slow"), &json!(4408))
    );
    gateway.wait_for_connections(4).await;
    assert!(
        gateway
            .metric("wsgw_pushes_dropped_total", &["overflow"])
            .await
            >= 256.0
    );
    drop(slow);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_reaches_all_who_read_and_drops_for_who_does_not() {
    let (_redis, gateway, mut slow) = flood("drop").await;
    let dropped = gateway
        .metric("wsgw_pushes_dropped_total", &["oldest"])
        .await;
    assert!(dropped >= 1.0);
    gateway.wait_for_connections(5).await;
    gateway
        .post("/internal/disconnect", &json!({"user_id": "slow"}))
        .await;
    let (texts, closed) = slow.rest().await;
    assert_eq!(closed.code, 4403);
    let numbers: Vec<u64> = texts.iter().map(|text| number(text)).collect();
    assert!(numbers.is_sorted_by(|a, b| a < b), "in order, none twice");
    assert_eq!(numbers.len() as f64, (FLOOD + 1) as f64 - dropped);
    assert_eq!(numbers.last(), Some(&FLOOD), "the newest waited for it");
}
