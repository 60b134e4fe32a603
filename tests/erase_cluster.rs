//! `wsgw erase` against a cluster of Redis servers, each with some of the partitions.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use serde_json::json;
use support::erase::{SECRET, core, erased, report_in, setup, store, streams};
use support::{Client, RedisCluster, until};

#[tokio::test]
async fn partitions_are_found_on_every_server_of_a_cluster() {
    let cluster = RedisCluster::start().await;
    let gateway = setup("core", &core(&cluster.dsn())).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..60 {
        let message = json!({"topic": format!("p{n}"), "text": SECRET});
        client.feed(message.to_string()).await;
    }
    client.round_trip().await;
    client.close(None).await;
    let count = async || {
        let mut counts = Vec::new();
        for node in &cluster.nodes {
            counts.push(
                streams(node)
                    .await
                    .iter()
                    .filter(|s| s.starts_with("ws.inbox."))
                    .count(),
            );
        }
        counts
    };
    until("60 partitions", || async {
        count().await.iter().sum::<usize>() == 60
    })
    .await;
    assert!(count().await.iter().all(|count| *count > 0));
    until("the user to be gone", || async {
        let (_, report) = report_in(gateway.directory(), &["--dry-run"]).await;
        let events = store(&report, "redis_stream", "ws.events")["found"] == 2;
        events && report["open_connections"] == 0
    })
    .await;
    let report = erased(&gateway).await;
    assert_eq!(store(&report, "redis_stream", "ws.inbox.*")["erased"], 60);
    assert_eq!(
        count().await,
        [0, 0, 0],
        "what is empty and nobody's group is removed"
    );
}
