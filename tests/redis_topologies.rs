//! Redis behind TLS, behind Sentinels, on a socket and as a cluster.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use support::{
    Client, Gateway, Redis, RedisCluster, RedisSentinel, RedisSetup, Setup, free_port, within,
};

fn quick(dsn: impl AsRef<str>) -> Setup {
    Setup::default()
        .redis(dsn)
        .set("brokers.redis.connect_timeout_seconds", 2)
        .set("brokers.redis.response_timeout_seconds", 2)
        .set("brokers.redis.reconnect_max_seconds", "0.5")
}

async fn send(client: &mut Client, numbers: std::ops::Range<u32>) {
    for n in numbers {
        client
            .feed(json!({"topic": format!("t{}", n % 7), "n": n}).to_string())
            .await;
    }
    client.round_trip().await;
}

fn numbers(events: &[Value]) -> Vec<u64> {
    let mut numbers: Vec<u64> = events
        .iter()
        .map(|event| event["message"]["n"].as_u64().unwrap())
        .collect();
    // What arrived twice counts where it arrived first.
    let mut seen = std::collections::HashSet::new();
    numbers.retain(|n| seen.insert(*n));
    numbers
}

async fn wait_for_numbers(cluster: &RedisCluster, topic: u32, count: u32) {
    let stream = format!("ws.inbox.t{topic}");
    let expected: Vec<u64> = (0..count)
        .filter(|n| n % 7 == topic)
        .map(u64::from)
        .collect();
    within(&stream, async {
        loop {
            let found = numbers(&cluster.node_of(&stream).await.events(&stream).await);
            assert!(expected.starts_with(&found), "{stream}: {found:?}");
            if found == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_gets_every_partition_and_survives_a_nodes_end() {
    let cluster = RedisCluster::start().await;
    let gateway = quick(cluster.dsn())
        .env("ORDERING_STRATEGY", "topic")
        .env("ORDERING_PARTITION_MODE", "suffix")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    send(&mut client, 0..700).await;
    for topic in 0..7 {
        wait_for_numbers(&cluster, topic, 700).await;
    }
    let node = cluster.node_of("ws.inbox.t0").await;
    node.kill();
    send(&mut client, 700..900).await;
    node.up().await;
    cluster.whole().await;
    for topic in 0..7 {
        wait_for_numbers(&cluster, topic, 900).await;
    }
    gateway.ready().await;
}

#[tokio::test]
async fn a_node_of_a_cluster_as_a_single_server_says_so() {
    let cluster = RedisCluster::start().await;
    let owner = cluster.node_of("ws.inbox").await;
    let other = cluster
        .nodes
        .iter()
        .find(|node| node.port() != owner.port())
        .unwrap();
    let gateway = quick(other.dsn()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"n": 0})).await;
    gateway.wait_for_log("sink_failed", "MOVED").await;
    gateway.wait_for_log("sink_failed", "cluster=1").await;
    // The slots come to the node: nothing was lost meanwhile.
    let id: String = other.command("CLUSTER", &["MYID"]).await;
    for key in ["ws.inbox", "ws.events"] {
        let slot: u32 = other.command("CLUSTER", &["KEYSLOT", key]).await;
        for node in &cluster.nodes {
            let slot = slot.to_string();
            node.command::<()>("CLUSTER", &["SETSLOT", &slot, "NODE", &id])
                .await;
        }
    }
    assert_eq!(numbers(&other.wait_for_events("ws.inbox", 1).await), [0]);
}

#[tokio::test]
async fn slots_that_move_are_followed() {
    let cluster = RedisCluster::start().await;
    let gateway = quick(cluster.dsn()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    send(&mut client, 0..10).await;
    let from = cluster.node_of("ws.inbox").await;
    from.wait_for_events("ws.inbox", 10).await;
    let to = cluster
        .nodes
        .iter()
        .find(|node| node.port() != from.port())
        .unwrap();
    let slot: u32 = to.command("CLUSTER", &["KEYSLOT", "ws.inbox"]).await;
    let slot = slot.to_string();
    let id = async |node: &Redis| node.command::<String>("CLUSTER", &["MYID"]).await;
    let (from_id, to_id) = (id(from).await, id(to).await);
    // As `redis-cli --cluster reshard` moves a slot.
    to.command::<()>("CLUSTER", &["SETSLOT", &slot, "IMPORTING", &from_id])
        .await;
    from.command::<()>("CLUSTER", &["SETSLOT", &slot, "MIGRATING", &to_id])
        .await;
    let port = to.port().to_string();
    from.command::<()>("MIGRATE", &["127.0.0.1", &port, "ws.inbox", "0", "5000"])
        .await;
    // The old node answers `ASK` now.
    send(&mut client, 10..20).await;
    gateway
        .wait_for_metric("broker_publish_total", &[], 21.0)
        .await;
    to.command::<()>("CLUSTER", &["SETSLOT", &slot, "NODE", &to_id])
        .await;
    from.command::<()>("CLUSTER", &["SETSLOT", &slot, "NODE", &to_id])
        .await;
    send(&mut client, 20..30).await;
    let inbox = to.wait_for_events("ws.inbox", 30).await;
    assert_eq!(numbers(&inbox), (0..30).collect::<Vec<_>>());
    assert_eq!(gateway.metric("wsgw_dead_letters_total", &[]).await, 0.0);
}

#[tokio::test]
async fn a_failover_is_followed() {
    let group = RedisSentinel::start().await;
    let gateway = quick(group.dsn()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    send(&mut client, 0..50).await;
    // Replication is asynchronous: what the replica has not is lost with its primary, whoever sent it.
    group.replica.wait_for_events("ws.inbox", 50).await;
    group.primary.kill();
    send(&mut client, 50..100).await;
    let inbox = group.replica.wait_for_events("ws.inbox", 100).await;
    assert_eq!(numbers(&inbox), (0..100).collect::<Vec<_>>());
    gateway.ready().await;
}

#[tokio::test]
async fn a_sentinel_that_knows_no_such_master_is_named() {
    let group = RedisSentinel::start().await;
    let dsn = group.dsn().replace("=main", "=other");
    let gateway = quick(dsn).start_unready().await;
    gateway
        .wait_for_check("redis", "knows no master `other`")
        .await;
}

fn openssl(directory: &Path, arguments: &str) {
    let done = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}

/// An authority of the test's own, and a certificate of 127.0.0.1 for both sides.
fn certificates(directory: &Path) {
    let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    openssl(
        directory,
        &format!("{new} -keyout ca.key -out ca.pem -subj /CN=ca"),
    );
    openssl(
        directory,
        &format!("{new} -keyout other.key -out other.pem -subj /CN=other"),
    );
    openssl(
        directory,
        &format!(
            "{new} -keyout key.pem -out cert.pem -subj /CN=127.0.0.1 -CA ca.pem -CAkey ca.key \
             -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE"
        ),
    );
}

#[tokio::test]
async fn tls_with_a_private_authority_and_certificates_on_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let port = free_port();
    let redis = RedisSetup::default()
        .line(&format!("tls-port {port}"))
        .line(&format!("tls-cert-file {}", file("cert.pem")))
        .line(&format!("tls-key-file {}", file("key.pem")))
        .line(&format!("tls-ca-cert-file {}", file("ca.pem")))
        .line("tls-auth-clients yes")
        .start()
        .await;
    redis
        .command::<()>("ACL", &["SETUSER", "gw", "on", ">tls-pass", "~*", "+@all"])
        .await;
    let dsn = format!("rediss://gw:tls-pass@127.0.0.1:{port}/0");
    let with_ca = |ca: &str| quick(&dsn).set("brokers.redis.tls.ca_file", file(ca));
    let with_cert = |setup: Setup| {
        setup
            .set("brokers.redis.tls.cert_file", file("cert.pem"))
            .set("brokers.redis.tls.key_file", file("key.pem"))
    };
    let gateway: Gateway = with_cert(with_ca("ca.pem")).start().await;
    let _client = Client::connect(&gateway, "42").await;
    redis.wait_for_events("ws.events", 1).await;
    let user: Vec<String> = redis.command("CLIENT", &["LIST"]).await;
    assert!(user[0].contains("user=gw"), "{user:?}");
    assert!(!gateway.stderr().contains("tls-pass"));

    let stranger = with_cert(with_ca("other.pem")).start_unready().await;
    stranger.wait_for_check("redis", "certificate").await;
    let anonymous = with_ca("ca.pem").start_unready().await;
    anonymous.wait_for_check("redis", "").await;
    anonymous
        .wait_for_log("broker_unreachable", "ertificate")
        .await;

    let broken = with_ca("missing.pem").spawn();
    assert!(!broken.ended().await.success());
    assert!(
        broken.stderr().contains("tls.ca_file"),
        "{}",
        broken.stderr()
    );
    assert!(!broken.stderr().contains("tls-pass"));
}

#[tokio::test]
async fn a_socket_is_as_good_as_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock");
    let redis = RedisSetup::default()
        .line(&format!("unixsocket {}", socket.display()))
        .start()
        .await;
    let gateway = quick(format!("unix://{}?db=0", socket.display()))
        .start()
        .await;
    let _client = Client::connect(&gateway, "42").await;
    redis.wait_for_events("ws.events", 1).await;
}
