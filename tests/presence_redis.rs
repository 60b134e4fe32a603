//! Presence in Redis: what is written, how long it lives, what remains of whom, and what a lost Redis costs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Client, Gateway, Redis, Setup, now, until, within};

fn setup(redis: &Redis, node: &str, presence: &str) -> Setup {
    Setup::default().yaml(format!(
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
    - fan_out: {{}}
  events: {{ redis_stream: {{ dsn: "{dsn}" }} }}
  presence: {{ type: redis, redis: {{ dsn: "{dsn}" }}, {presence} }}
  leases: {{ enabled: false }}
  brokers: {{ redis: {{ reconnect_max_seconds: 0.2, response_timeout_seconds: 1 }} }}
"#,
        dsn = redis.dsn()
    ))
}

async fn keys(redis: &Redis) -> Vec<String> {
    let mut keys: Vec<String> = redis
        .try_command("KEYS", &["presence:*"])
        .await
        .unwrap_or_default();
    keys.sort();
    keys
}

async fn ids(redis: &Redis, key: &str) -> Vec<String> {
    let mut ids: Vec<String> = redis.command("SMEMBERS", &[key]).await;
    ids.sort();
    ids
}

async fn no_keys(redis: &Redis) {
    until("no key of presence", async || keys(redis).await.is_empty()).await;
}

async fn online(gateway: &Gateway, count: usize) -> Vec<String> {
    let connections = gateway.wait_for_connections(count).await;
    let id = |connection: &Value| connection["connection_id"].as_str().unwrap().to_owned();
    connections.iter().map(id).collect()
}

#[tokio::test]
async fn the_keys_are_as_promised_and_go_with_the_last_connection() {
    let redis = Redis::start().await;
    let gateway = setup(&redis, "a", "ttl_seconds: 100").start().await;
    let before = now();
    let client = Client::connect(&gateway, "42").await;
    let id = online(&gateway, 1).await.remove(0);
    let entry: BTreeMap<String, String> = redis
        .command("HGETALL", &[&format!("presence:conn:{id}")])
        .await;
    let fields: Vec<&str> = entry.keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "connected_at",
            "connection_id",
            "last_seen_at",
            "subjects",
            "user_id"
        ]
    );
    assert_eq!(entry["connection_id"], id);
    assert_eq!(entry["user_id"], "42");
    assert_eq!(entry["subjects"], r#"["user:42"]"#);
    for at in ["connected_at", "last_seen_at"] {
        let at: u64 = entry[at].parse().unwrap();
        assert!((before..=now()).contains(&at));
    }
    assert_eq!(ids(&redis, "presence:user:42").await, [id.as_str()]);
    assert_eq!(ids(&redis, "presence:subject:user:42").await, [id.as_str()]);
    let all = keys(&redis).await;
    assert_eq!(
        all,
        [
            format!("presence:conn:{id}").as_str(),
            "presence:node:a",
            "presence:nodes",
            "presence:subject:user:42",
            "presence:user:42"
        ]
    );
    for key in all {
        let ttl: i64 = redis.command("TTL", &[&key]).await;
        assert!((90..=100).contains(&ttl), "{key}: {ttl}");
    }
    let other = Client::connect(&gateway, "42").await;
    online(&gateway, 2).await;
    client.close(Some((1000, ""))).await;
    let left = online(&gateway, 1).await;
    assert_eq!(ids(&redis, "presence:user:42").await, left);
    other.close(None).await;
    no_keys(&redis).await;
}

#[tokio::test]
async fn ttl_outlives_itself_by_refreshes_and_messages_move_them() {
    let redis = Redis::start().await;
    let gateway = setup(&redis, "a", "ttl_seconds: 3").start().await;
    let _idle = Client::connect(&gateway, "1").await;
    let mut busy = Client::connect(&gateway, "2").await;
    let all = online(&gateway, 2).await;
    let started = tokio::time::Instant::now();
    redis.command::<()>("CONFIG", &["RESETSTAT"]).await;
    // Two lives long, every look must find both.
    while started.elapsed() < Duration::from_secs(6) {
        busy.send(json!({"n": 1}).to_string()).await;
        assert_eq!(online(&gateway, 2).await, all);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let stats: String = redis.command("INFO", &["commandstats"]).await;
    let written: u32 = stats
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_hset:calls="))
        .and_then(|rest| rest.split(',').next()?.parse().ok())
        .unwrap();
    assert!(
        (4..=13).contains(&written),
        "each connection once a second at most: {written}"
    );
    let listed = gateway.connections().await;
    let busy = listed.iter().find(|entry| entry["user_id"] == "2").unwrap();
    assert!(busy["last_seen_at"].as_u64() > busy["connected_at"].as_u64());
}

#[tokio::test]
async fn heartbeat_expires_removes_its_members_and_comes_back_with_a_beat() {
    let redis = Redis::start().await;
    let gateway = setup(
        &redis,
        "a",
        "strategy: heartbeat, heartbeat_seconds: 1, grace_seconds: 1",
    )
    .start()
    .await;
    let mut silent = Client::connect(&gateway, "1").await;
    let mut beating = Client::connect(&gateway, "1").await;
    let id = online(&gateway, 2).await.remove(0);
    within("the silent one to expire", async {
        loop {
            silent.send(json!({"is": "no heartbeat"}).to_string()).await;
            assert_eq!(
                beating.ask(r#"{"type":"heartbeat"}"#).await,
                r#"{"type":"heartbeat_ack"}"#
            );
            let members = ids(&redis, "presence:user:1").await;
            assert!(!members.is_empty(), "one of them beats");
            if members.len() == 1 {
                assert_ne!(members[0], id);
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let index: u32 = redis.command("ZCARD", &["presence:node:a"]).await;
    assert_eq!(index, 1);
    silent.round_trip().await;
    assert!(online(&gateway, 2).await.contains(&id));
    drop(beating);
    drop(silent);
    no_keys(&redis).await;
}

#[tokio::test]
async fn session_entries_do_not_expire_and_those_of_a_crash_are_swept_at_the_restart() {
    let redis = Redis::start().await;
    let setup = |node| setup(&redis, node, "strategy: session");
    let (crashing, other) = (setup("a").start().await, setup("b").start().await);
    let mut clients = Vec::new();
    for user in 0..30 {
        clients.push(Client::connect(&crashing, &user.to_string()).await);
    }
    let _stays = Client::connect(&other, "7").await;
    online(&other, 31).await;
    for key in keys(&redis).await {
        let ttl: i64 = redis.command("TTL", &[&key]).await;
        assert_eq!(ttl, -1, "{key}");
    }
    crashing.signal("KILL");
    crashing.ended().await;
    assert_eq!(other.connections().await.len(), 31, "nobody has swept yet");
    let _restarted = setup("a").start().await;
    let left = online(&other, 1).await;
    assert_eq!(ids(&redis, "presence:user:7").await, left);
    let subjects: Vec<String> = redis.command("KEYS", &["presence:subject:*"]).await;
    assert_eq!(subjects, ["presence:subject:user:7"]);
    let nodes: Vec<String> = redis
        .command("ZRANGE", &["presence:nodes", "0", "-1"])
        .await;
    assert_eq!(nodes, ["b"]);
}

#[tokio::test]
async fn every_gateway_lists_all_in_order_and_by_pages() {
    let redis = Redis::start().await;
    let a = setup(&redis, "a", "ttl_seconds: 60").start().await;
    let b = setup(&redis, "b", "ttl_seconds: 60").start().await;
    let mut clients = Vec::new();
    for n in 0..25 {
        let gateway = if n % 3 == 0 { &a } else { &b };
        clients.push(Client::connect(gateway, &(n % 2).to_string()).await);
    }
    let all = online(&a, 25).await;
    assert!(all.is_sorted());
    assert_eq!(online(&b, 25).await, all);
    // An expired entry leaves no gap in a page, and no trace.
    let removed: u32 = redis
        .command("DEL", &[&format!("presence:conn:{}", all[3])])
        .await;
    assert_eq!(removed, 1);
    for (query, expected) in [
        ("/internal/connections?", 25),
        ("/internal/connections?user_id=1&", 12),
        ("/internal/users/1/connections?", 12),
        ("/internal/connections?subject=user:0&", 13),
        ("/internal/connections?subject=user:0&user_id=0&", 13),
        ("/internal/connections?subject=user:0&user_id=1&", 0),
    ] {
        let mut found: Vec<String> = Vec::new();
        let mut cursor = String::new();
        loop {
            let answer = b
                .get_with_key(&format!("{query}limit=4&cursor={cursor}"))
                .await
                .json();
            let page = answer["connections"].as_array().unwrap();
            let next = answer["next_cursor"].as_str();
            assert!(page.len() == 4 || next.is_none(), "{query}: a short page");
            found.extend(
                page.iter()
                    .map(|c| c["connection_id"].as_str().unwrap().into()),
            );
            match next {
                Some(next) => next.clone_into(&mut cursor),
                None => break,
            }
        }
        assert!(found.is_sorted_by(|a, b| a < b), "{query}");
        // The entry that was removed is written again sooner or later.
        assert!(
            found.len() == expected || found.len() + 1 == expected && !found.contains(&all[3]),
            "{query}: {found:?}"
        );
    }
}

#[tokio::test]
async fn two_connections_of_a_user_that_close_at_once_leave_no_trace() {
    let redis = Redis::start().await;
    let a = setup(&redis, "a", "strategy: session").start().await;
    let b = setup(&redis, "b", "strategy: session").start().await;
    let stays = Client::connect(&a, "2").await;
    for round in 0..50 {
        let (one, two) = tokio::join!(Client::connect(&a, "1"), Client::connect(&b, "1"));
        let three = Client::connect(&a, "1").await;
        if round % 2 == 0 {
            online(&a, 4).await;
        }
        tokio::join!(one.close(None), two.close(None), async { drop(three) });
    }
    until("the user to be gone", async || {
        keys(&redis).await.len() == 5 && ids(&redis, "presence:user:1").await.is_empty()
    })
    .await;
    assert_eq!(online(&b, 1).await.len(), 1);
    drop(stays);
    no_keys(&redis).await;
}

#[tokio::test]
async fn a_clean_stop_leaves_nothing() {
    let redis = Redis::start().await;
    let gateway = setup(&redis, "a", "strategy: session").start().await;
    let mut clients = Vec::new();
    for user in 0..50 {
        clients.push(Client::connect(&gateway, &user.to_string()).await);
    }
    online(&gateway, 50).await;
    gateway.signal("TERM");
    for client in &mut clients {
        client.closed().await;
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(keys(&redis).await, [""; 0]);
}

#[tokio::test]
async fn everything_is_written_again_to_a_redis_that_comes_back_empty() {
    for strategy in ["session", "ttl"] {
        let redis = Redis::start().await;
        let gateway = setup(&redis, "a", &format!("strategy: {strategy}"))
            .start()
            .await;
        let mut clients = Vec::new();
        for user in 0..300 {
            clients.push(Client::connect(&gateway, &(user % 40).to_string()).await);
        }
        let before = online(&gateway, 300).await;
        redis.kill();
        let answer = gateway.get_with_key("/internal/connections").await;
        assert_eq!(answer.status, 503);
        assert_eq!(answer.json()["status"], 503);
        // Those that come and go meanwhile are told apart afterwards.
        clients.truncate(290);
        let mut late = Client::connect(&gateway, "late").await;
        late.round_trip().await;
        redis.up().await;
        until("all to be back", async || {
            let listed = gateway.get_with_key("/internal/connections").await;
            listed.status == 200 && listed.json()["connections"].as_array().unwrap().len() == 291
        })
        .await;
        let after = online(&gateway, 291).await;
        assert_eq!(after[..290], before[..290]);
        assert_eq!(ids(&redis, "presence:user:late").await, after[290..]);
        redis.command::<()>("FLUSHALL", &[]).await;
        assert_eq!(
            online(&gateway, 291).await,
            after,
            "nobody told the gateway"
        );
        drop((clients, late));
        no_keys(&redis).await;
    }
}

#[tokio::test]
async fn a_frozen_redis_delays_no_message() {
    let redis = Redis::start().await;
    let gateway = setup(&redis, "a", "strategy: heartbeat").start().await;
    let mut client = Client::connect(&gateway, "1").await;
    online(&gateway, 1).await;
    redis.freeze();
    for n in 0..50 {
        client.send(json!({"n": n}).to_string()).await;
        client.round_trip().await;
        let mut other = Client::connect(&gateway, "2").await;
        other.round_trip().await;
    }
    let answer = gateway.get_with_key("/internal/connections").await;
    assert_eq!(answer.status, 503);
    redis.thaw();
    until("the list to be right again", async || {
        let listed = gateway.get_with_key("/internal/connections").await;
        listed.status == 200 && listed.json()["connections"].as_array().unwrap().len() == 1
    })
    .await;
    until("the user who left to be gone", async || {
        ids(&redis, "presence:user:2").await.is_empty()
    })
    .await;
}

#[tokio::test]
async fn without_a_dsn_the_gateway_lists_its_own() {
    let redis = Redis::start().await;
    let gateway = setup(&redis, "a", "ttl_seconds: 60")
        .set("presence.redis.dsn", "")
        .start()
        .await;
    let _client = Client::connect(&gateway, "1").await;
    online(&gateway, 1).await;
    assert_eq!(keys(&redis).await, [""; 0]);
}
