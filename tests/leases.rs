//! One `disconnected` for every `connected`, whatever becomes of the gateway in between.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Redis, RedisSetup, Setup, Webhook, until};

fn setup(redis: &Redis, node: &str) -> Setup {
    Setup::default().yaml(yaml(redis, node, "broker"))
}

fn yaml(redis: &Redis, node: &str, mode: &str) -> String {
    let (stream, webhook) = match mode {
        "broker" => (redis.dsn(), String::new()),
        _ => (String::new(), "${SYMFONY_WEBHOOK_URL:-}".to_owned()),
    };
    format!(
        r#"snoke_ws:
  mode: core
  server:
    listen: "127.0.0.1:0"
    api_key: "${{GATEWAY_API_KEY}}"
    node_id: {node}
    drain_seconds: 1
  stages:
    - auth: {{ jwt: {{ algorithm: RS256, public_key_file: "${{JWT_PUBLIC_KEY_FILE}}" }} }}
    - ping_filter: {{}}
    - fan_out: {{ events_mode: {mode} }}
  events:
    redis_stream: {{ dsn: "{stream}" }}
    webhook: {{ url: "{webhook}", retry_attempts: 1000, retry_base_seconds: 0.02, retry_max_seconds: 0.2 }}
  presence: {{ type: redis, strategy: session, redis: {{ dsn: "{dsn}" }} }}
  leases: {{ ttl_seconds: 1 }}
  brokers: {{ redis: {{ reconnect_max_seconds: 0.3, response_timeout_seconds: 1 }} }}
"#,
        dsn = redis.dsn()
    )
}

/// The events of each user by type, in their order.
fn by_user(events: &[Value]) -> BTreeMap<String, Vec<&Value>> {
    let mut users: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for event in events {
        let user = event["user_id"].as_str().unwrap().to_owned();
        users.entry(user).or_default().push(event);
    }
    users
}

async fn events(redis: &Redis) -> Vec<Value> {
    let exists: u32 = redis
        .try_command("EXISTS", &["ws.events"])
        .await
        .unwrap_or(0);
    if exists == 0 {
        return Vec::new();
    }
    redis.events("ws.events").await
}

fn of(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["type"] == kind).count()
}

/// Each user has one connection: told of once, and ended as said.
fn assert_told(events: &[Value], users: std::ops::Range<usize>, reason: &str) {
    let told = by_user(events);
    for user in users {
        let told = &told[&user.to_string()];
        let kinds: Vec<&str> = told.iter().map(|e| e["type"].as_str().unwrap()).collect();
        assert_eq!(
            kinds,
            ["connected", "disconnected"],
            "user {user}: {told:?}"
        );
        assert_eq!(told[1]["reason"], reason, "user {user}");
        assert_eq!(told[0]["connection_id"], told[1]["connection_id"]);
    }
}

async fn nothing_left_of(redis: &Redis, nodes: &[&str]) {
    until("the leases of the lost to be forgotten", async || {
        let leases: Vec<String> = redis.command("ZRANGE", &["wsgw:nodes", "0", "-1"]).await;
        let mut keys: Vec<String> = redis.command("KEYS", &["wsgw:conns:*"]).await;
        keys.extend(
            redis
                .command::<Vec<String>>("KEYS", &["wsgw:claim:*"])
                .await,
        );
        keys.extend(
            redis
                .command::<Vec<String>>("KEYS", &["presence:node:*"])
                .await,
        );
        keys.extend(leases);
        nodes.iter().all(|node| {
            keys.iter().all(|key| {
                !key.contains(&format!("{node}/")) && !key.ends_with(&format!(":{node}"))
            })
        })
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_speaks_for_one_that_was_killed() {
    let redis = Redis::start().await;
    let (lost, survivor) = (
        setup(&redis, "a").start().await,
        setup(&redis, "b").start().await,
    );
    let _here = Client::connect_all(&survivor, 1000..1020).await;
    let mut clients = Client::connect_all(&lost, 0..300).await;
    for client in clients.drain(250..) {
        client.close(Some((1000, "bye"))).await;
    }
    redis.wait_for_events("ws.events", 370).await;
    lost.signal("KILL");
    let all = redis.wait_for_events("ws.events", 620).await;
    assert_told(&all, 0..250, "node_lost");
    assert_told(&all, 250..300, "bye");
    let spoken = all
        .iter()
        .find(|event| event["reason"] == "node_lost")
        .unwrap();
    assert_eq!(spoken["close_code"], 1006);
    assert_eq!(spoken["seq"], 9_007_199_254_740_991_u64);
    let id = spoken["event_id"].as_str().unwrap();
    assert_eq!(&id[14..15], "7", "a UUIDv7: {id}");
    let user = spoken["user_id"].as_str().unwrap();
    assert_eq!(spoken["subjects"], json!([format!("user:{user}")]));
    let ids: BTreeSet<&str> = all
        .iter()
        .map(|e| e["event_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 620);
    nothing_left_of(&redis, &["a"]).await;
    assert_eq!(survivor.connections().await.len(), 20, "presence is swept");
    let users: Vec<String> = redis.command("KEYS", &["presence:user:*"]).await;
    assert_eq!(users.len(), 20);
    survivor
        .wait_for_metric("wsgw_nodes_lost_total", &[], 1.0)
        .await;
    survivor
        .wait_for_metric("wsgw_node_lost_disconnects_total", &[], 250.0)
        .await;
    let logs = survivor.logs();
    let line = logs
        .iter()
        .find(|line| line["event"] == "node_lost")
        .unwrap();
    assert_eq!(
        (&line["node"], &line["connections"]),
        (&json!("a"), &json!(250))
    );
    assert_eq!(events(&redis).await.len(), 620);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_survivor_speaks_for_two() {
    let redis = Redis::start().await;
    let a = setup(&redis, "a").start().await;
    let b = setup(&redis, "b").start().await;
    let c = setup(&redis, "c").start().await;
    let _clients = (
        Client::connect_all(&a, 0..150).await,
        Client::connect_all(&b, 150..300).await,
    );
    let _stay = Client::connect_all(&c, 300..310).await;
    redis.wait_for_events("ws.events", 310).await;
    a.signal("KILL");
    b.signal("KILL");
    let all = redis.wait_for_events("ws.events", 610).await;
    assert_told(&all, 0..300, "node_lost");
    nothing_left_of(&redis, &["a", "b"]).await;
    assert_eq!(events(&redis).await.len(), 610);
    assert_eq!(c.connections().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_survivors_speak_once_and_one_may_die_while_it_speaks() {
    let redis = Redis::start().await;
    // One event at a time, so that speaking for many takes a while.
    let slow = |node| setup(&redis, node).set("events.redis_stream.buffer.max_events", 1);
    let lost = setup(&redis, "a").start().await;
    let (b, c) = (slow("b").start().await, slow("c").start().await);
    let _clients = Client::connect_all(&lost, 0..600).await;
    redis.wait_for_events("ws.events", 600).await;
    lost.signal("KILL");
    redis.wait_for_events("ws.events", 601).await;
    let claims: Vec<String> = redis.command("KEYS", &["wsgw:claim:a/*"]).await;
    let holder: String = redis.command("GET", &[&claims[0]]).await;
    let dies = if holder.starts_with("b/") { &b } else { &c };
    dies.signal("KILL");
    dies.ended().await;
    let told = events(&redis).await.len();
    assert!(told < 1200, "it was killed while it spoke");
    let all = redis.wait_for_events("ws.events", 1200).await;
    assert_told(&all, 0..600, "node_lost");
    nothing_left_of(&redis, &["a"]).await;
    assert_eq!(events(&redis).await.len(), 1200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_paused_for_too_long_closes_its_connections_and_tells_nothing_twice() {
    let redis = Redis::start().await;
    let (paused, survivor) = (
        setup(&redis, "a").start().await,
        setup(&redis, "b").start().await,
    );
    let mut clients = Client::connect_all(&paused, 0..100).await;
    redis.wait_for_events("ws.events", 100).await;
    paused.signal("STOP");
    redis.wait_for_events("ws.events", 200).await;
    nothing_left_of(&redis, &["a"]).await;
    paused.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1013);
    }
    paused.wait_for_connections(0).await;
    assert!(
        paused
            .logs()
            .iter()
            .any(|line| line["event"] == "lease_lost")
    );
    // New connections live under the new lease.
    let _again = Client::connect_all(&paused, 100..110).await;
    redis.wait_for_events("ws.events", 210).await;
    survivor.wait_for_connections(10).await;
    paused.signal("KILL");
    let all = redis.wait_for_events("ws.events", 220).await;
    assert_told(&all, 0..110, "node_lost");
    nothing_left_of(&redis, &["a"]).await;
    assert_eq!(events(&redis).await.len(), 220);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_redis_makes_nobody_lost() {
    let redis = RedisSetup::default().durable().start().await;
    let (a, b) = (
        setup(&redis, "a").start().await,
        setup(&redis, "b").start().await,
    );
    let mut clients = Client::connect_all(&a, 0..50).await;
    clients.extend(Client::connect_all(&b, 50..100).await);
    redis.wait_for_events("ws.events", 100).await;
    for outage in 0..2 {
        if outage == 0 {
            redis.kill();
            tokio::time::sleep(Duration::from_secs(3)).await;
            redis.up().await;
        } else {
            redis.freeze();
            tokio::time::sleep(Duration::from_secs(3)).await;
            redis.thaw();
        }
        until("both to be ready again", async || {
            a.get("/ready").await.status == 200 && b.get("/ready").await.status == 200
        })
        .await;
        // Longer than anyone waits before judging.
        tokio::time::sleep(Duration::from_secs(3)).await;
        for client in &mut clients {
            client.round_trip().await;
        }
        assert_eq!(of(&events(&redis).await, "disconnected"), 0);
    }
    // Redis that comes back empty is no reason either, and who is killed then is spoken for.
    redis.command::<()>("FLUSHALL", &[]).await;
    until("the records to be back", async || {
        let keys: Vec<String> = redis.command("KEYS", &["wsgw:conns:*"]).await;
        let mut records = 0;
        for key in keys {
            records += redis.command::<u32>("HLEN", &[&key]).await;
        }
        records == 100
    })
    .await;
    a.signal("KILL");
    let all = redis.wait_for_events("ws.events", 50).await;
    assert!(all.iter().all(|event| event["reason"] == "node_lost"));
    nothing_left_of(&redis, &["a"]).await;
    for client in &mut clients[50..] {
        client.round_trip().await;
    }
    assert_eq!(events(&redis).await.len(), 50);
    b.signal("TERM");
    redis.wait_for_events("ws.events", 100).await;
    b.ended().await;
    let left: Vec<String> = redis.command("KEYS", &["wsgw:*"]).await;
    assert!(
        left.iter().all(|key| key.starts_with("wsgw:lost:a/")),
        "a clean stop leaves nothing: {left:?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_started_again_speaks_for_itself_at_once() {
    let redis = Redis::start().await;
    let lost = setup(&redis, "a")
        .set("leases.ttl_seconds", 3600)
        .start()
        .await;
    let _clients = Client::connect_all(&lost, 0..100).await;
    redis.wait_for_events("ws.events", 100).await;
    lost.signal("KILL");
    lost.ended().await;
    let again = setup(&redis, "a")
        .set("leases.ttl_seconds", 3600)
        .start()
        .await;
    let _stay = Client::connect_all(&again, 100..110).await;
    let all = redis.wait_for_events("ws.events", 210).await;
    assert_told(&all, 0..100, "node_lost");
    again.wait_for_connections(10).await;
    assert_eq!(of(&events(&redis).await, "disconnected"), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_hears_of_each_once() {
    let redis = Redis::start().await;
    let webhook = Webhook::start().await;
    let setup = |node| {
        Setup::default()
            .yaml(yaml(&redis, node, "webhook"))
            .webhook(&webhook)
    };
    let (paused, lost) = (setup("a").start().await, setup("b").start().await);
    let _survivor = setup("c").start().await;
    let mut clients = Client::connect_all(&paused, 0..50).await;
    let _killed = Client::connect_all(&lost, 50..100).await;
    let heard = async |count: usize| {
        until("events at the webhook", async || {
            webhook.events().len() >= count
        })
        .await;
        webhook.events()
    };
    heard(100).await;
    for client in clients.drain(40..) {
        client.close(Some((1000, "bye"))).await;
    }
    heard(110).await;
    paused.signal("STOP");
    lost.signal("KILL");
    heard(200).await;
    nothing_left_of(&redis, &["a", "b"]).await;
    paused.signal("CONT");
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1013);
    }
    paused.wait_for_connections(0).await;
    paused.signal("TERM");
    assert_eq!(paused.ended().await.code(), Some(0));
    let all = webhook.events();
    assert_told(&all, 0..40, "node_lost");
    assert_told(&all, 40..50, "bye");
    assert_told(&all, 50..100, "node_lost");
    assert_eq!(all.len(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_hears_of_all_while_the_redis_of_the_leases_is_away() {
    let redis = Redis::start().await;
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .yaml(yaml(&redis, "a", "webhook"))
        .webhook(&webhook)
        .start()
        .await;
    let clients = Client::connect_all(&gateway, 0..20).await;
    redis.freeze();
    let more = Client::connect_all(&gateway, 20..40).await;
    for client in clients.into_iter().chain(more) {
        client.close(Some((1000, "bye"))).await;
    }
    until("events at the webhook", async || {
        webhook.events().len() == 80
    })
    .await;
    assert_told(&webhook.events(), 0..40, "bye");
    redis.thaw();
    until("no record to be left", async || {
        let keys: Vec<String> = redis
            .try_command("KEYS", &["wsgw:conns:*"])
            .await
            .unwrap_or(vec!["?".into()]);
        keys.is_empty()
    })
    .await;
}
