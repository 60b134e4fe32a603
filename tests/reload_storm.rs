//! Reload after reload under traffic: no socket closes, nothing is lost or overtaken, nothing piles up.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::json;
use support::reload::{pipeline, webhook_at};
use support::{Client, Gateway, Redis, Setup, Webhook, eventually, within};

const CONNECTIONS: usize = 50;
const RELOADS: usize = 200;
const EVERY: Duration = Duration::from_millis(100);

/// Two files that differ in stages, in where events go, in presence and in the source.
fn files(redis: &Redis, webhooks: &[Webhook; 2]) -> [String; 2] {
    let dsn = redis.dsn();
    let file = |at: usize, stages: &str, strategy: &str| {
        let url = webhooks[at].url();
        pipeline(
            ", node_id: a",
            stages,
            &format!(
                "{}  transport: {{ redis_stream: {{ dsn: \"{dsn}\" }} }}\n  \
                 presence: {{ type: redis, strategy: {strategy}, redis: {{ dsn: \"{dsn}\" }} }}\n",
                webhook_at(&url, "")
            ),
        )
        .replace("drain_seconds: 2", "drain_seconds: 30")
    };
    [
        file(0, "- ping_filter: {}\n    - fan_out: {}", "ttl"),
        file(
            1,
            "- ping_filter: {}\n    - rate_limit: { per_second: 1000 }\n    - trace: {}\n    - fan_out: {}",
            "session",
        ),
    ]
}

fn count(gateway: &Gateway, what: &str) -> usize {
    std::fs::read_dir(format!("/proc/{}/{what}", gateway.pid()))
        .unwrap()
        .count()
}

async fn redis_connections(redis: &Redis) -> usize {
    let list: String = redis.command("CLIENT", &["LIST"]).await;
    list.lines().count()
}

/// Sends about ten messages a second until told to stop; gives how many.
async fn chatter(gateway: Arc<Gateway>, user: usize, stop: Arc<AtomicBool>) -> (usize, Client) {
    let mut client = Client::connect(&gateway, &user.to_string()).await;
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        client.send(json!({"n": sent}).to_string()).await;
        sent += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The connection is still the same one, and open.
    client.round_trip().await;
    (sent, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_reloads_under_traffic_lose_close_and_leak_nothing() {
    let redis = Redis::start().await;
    let webhooks = [Webhook::start().await, Webhook::start().await];
    let files = files(&redis, &webhooks);
    let gateway = Arc::new(Setup::default().yaml(&files[0]).start().await);
    let stop = Arc::new(AtomicBool::new(false));
    let mut chatting = tokio::task::JoinSet::new();
    for user in 0..CONNECTIONS {
        let (gateway, stop) = (Arc::clone(&gateway), Arc::clone(&stop));
        chatting.spawn(chatter(gateway, user, stop));
    }
    gateway.wait_for_connections(CONNECTIONS).await;
    let reload = async |count: usize| {
        let mut tick = tokio::time::interval(EVERY);
        for n in 1..=count {
            tick.tick().await;
            gateway.write_pipeline(&files[n % 2]);
            gateway.signal("HUP");
        }
    };
    // What is allocated once is there after some.
    reload(40).await;
    let (memory, threads, handles) = (
        gateway.resident_bytes(),
        count(&gateway, "task"),
        count(&gateway, "fd"),
    );
    let links = redis_connections(&redis).await;
    reload(RELOADS - 40).await;
    stop.store(true, Ordering::Relaxed);
    let mut sent = 0;
    let mut clients = Vec::new();
    while let Some(chatted) = chatting.join_next().await {
        let (count, client) = chatted.unwrap();
        sent += count;
        clients.push(client);
    }
    let all = CONNECTIONS + sent;
    eventually("every event to arrive", || {
        let arrived: usize = webhooks.iter().map(Webhook::delivered_count).sum();
        (arrived >= all).then_some(())
    })
    .await;
    let mut received: Vec<_> = webhooks.iter().flat_map(Webhook::delivered).collect();
    received.sort_by_key(|request| request.at);
    let mut seqs: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for event in received.iter().map(support::Received::event) {
        let user = event["user_id"].as_str().unwrap().to_owned();
        seqs.entry(user)
            .or_default()
            .push(event["seq"].as_u64().unwrap());
    }
    assert_eq!(seqs.len(), CONNECTIONS);
    assert_eq!(received.len(), all, "each event once");
    for (user, seqs) in &seqs {
        assert!(
            seqs.iter().copied().eq(1..=seqs.len() as u64),
            "user {user}: {seqs:?}"
        );
    }
    assert!(
        webhooks.iter().all(|webhook| webhook.count() > 0),
        "both files had their turn"
    );
    assert!(gateway.dead_letters().is_empty());
    assert!(gateway.lines("reload_failed").is_empty());
    assert_eq!(gateway.metric("ws_disconnects_total", &[]).await, 0.0);
    // Signals that come during a reload are one more reload.
    let reloads = gateway.lines("reloaded").len();
    assert!(reloads > RELOADS / 2, "{reloads}");
    within("old generations to go", async {
        while gateway.metric("wsgw_config_generations", &[]).await > 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let grown = gateway.resident_bytes().saturating_sub(memory);
    assert!(
        grown < 8 << 20,
        "{grown} bytes more after {RELOADS} reloads"
    );
    assert!(count(&gateway, "task") <= threads + 2, "threads");
    within("no more file descriptors than before", async {
        while count(&gateway, "fd") > handles + 4 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(
        redis_connections(&redis).await <= links,
        "connections to Redis"
    );
    assert_eq!(gateway.connections().await.len(), CONNECTIONS);
    drop(clients);
}
