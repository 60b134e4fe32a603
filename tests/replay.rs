//! Replay of dead letters from real brokers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::json;
use support::replay::{
    RABBITMQ, REDIS, audited, fill, fill_redis, length, numbers, replay, replay_as, with_rabbitmq,
    with_redis,
};
use support::{API_KEY, Broker, BrokerSetup, Redis, within};

/// Letters that the gateway moves at once.
const WINDOW: usize = 256;

#[tokio::test]
async fn the_oldest_letters_of_rabbitmq_move_to_the_inbox() {
    let vhost = Broker::shared().vhost();
    let gateway = with_rabbitmq(&vhost).start().await;
    assert_eq!(
        replay(&gateway, RABBITMQ, "{}").await,
        (200, json!({"replayed": 0})),
        "nothing yet"
    );
    fill(&gateway, &vhost, 0..10).await;
    for (body, replayed) in [
        ("{\"limit\":0}", 0),
        ("{\"limit\":-3}", 0),
        ("{\"limit\":4}", 4),
    ] {
        let expected = (200, json!({"replayed": replayed}));
        assert_eq!(replay(&gateway, RABBITMQ, body).await, expected, "{body}");
    }
    let moved = vhost.take_count("ws.inbox", 4).await;
    for (number, message) in moved.iter().enumerate() {
        assert_eq!(message.json()["n"], number);
        assert_eq!(message.headers()["replayed"], "true");
        assert_eq!(*message.properties.delivery_mode(), Some(2), "persistent");
    }
    assert_eq!(
        replay(&gateway, RABBITMQ, "").await,
        (200, json!({"replayed": 6}))
    );
    assert_eq!(numbers(&vhost, "ws.inbox").await, [4, 5, 6, 7, 8, 9]);
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
    assert_eq!(gateway.metric("rabbitmq_replay_total", &[]).await, 10.0);
    assert_eq!(
        gateway.metric("wsgw_replayed_total", &["rabbitmq"]).await,
        10.0
    );
    assert_eq!(gateway.metric("replay_api_success_total", &[]).await, 6.0);
}

#[tokio::test]
async fn the_letters_of_redis_move_to_the_inbox() {
    let redis = Redis::start().await;
    let gateway = with_redis(&redis).start().await;
    fill_redis(&redis, 250).await;
    let (status, listed) = {
        let answer = gateway
            .get_with_key("/internal/dead-letters?sink=webhook&limit=2")
            .await;
        (answer.status, answer.json())
    };
    assert_eq!(status, 200, "{listed}");
    let letters = listed["dead_letters"].as_array().unwrap();
    assert_eq!(letters.len(), 2);
    assert_eq!(letters[0]["raw"], "{\"n\":0}");
    assert_eq!(
        (letters[0]["store"].as_str(), letters[0]["sink"].as_str()),
        (Some("redis"), Some("webhook"))
    );
    assert_eq!(
        replay(&gateway, REDIS, "{\"limit\":1000}").await,
        (200, json!({"replayed": 100})),
        "a batch"
    );
    assert_eq!(
        replay(&gateway, REDIS, "{\"limit\":30}").await,
        (200, json!({"replayed": 30}))
    );
    assert_eq!(
        (
            length(&redis, "ws.dlq").await,
            length(&redis, "ws.inbox").await
        ),
        (120, 130)
    );
    assert_eq!(redis.events("ws.inbox").await[129]["n"], 129);

    redis.kill();
    let (status, problem) = replay(&gateway, REDIS, "{}").await;
    assert_eq!(
        (status, &problem["replayed"]),
        (503, &json!(0)),
        "{problem}"
    );
    let listed = gateway.get_with_key("/internal/dead-letters").await.json();
    assert_eq!(listed["unavailable"], json!(["redis"]));
    let (status, problem) = replay(&gateway, RABBITMQ, "{}").await;
    assert_eq!(status, 503, "{problem}");
    assert!(
        problem["detail"]
            .as_str()
            .unwrap()
            .contains("no rabbitmq is configured")
    );
}

#[tokio::test]
async fn a_broker_that_is_lost_half_way_loses_nothing_and_is_counted_right() {
    const COUNT: usize = 20_000;
    let broker = BrokerSetup::default().start();
    let vhost = broker.vhost();
    let gateway = with_rabbitmq(&vhost)
        .set("replay.api.idempotency.strategy", "in_memory")
        .start()
        .await;
    fill(&gateway, &vhost, 0..COUNT).await;
    let calling = replay_as(&gateway, RABBITMQ, "a", "{}");
    let killing = async {
        within("letters to move", async {
            while vhost.count("ws.inbox").await.unwrap() < 300 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        broker.kill();
    };
    let (answer, ()) = tokio::join!(calling, killing);
    let problem = answer.json();
    assert_eq!(answer.status, 503, "{problem}");
    let told = usize::try_from(problem["replayed"].as_u64().unwrap()).unwrap();
    // A window of letters is published before the gateway hears of the first.
    assert!((300 - WINDOW..COUNT).contains(&told), "{problem}");
    assert_eq!(
        gateway.metric("rabbitmq_replay_total", &[]).await,
        told as f64
    );
    assert_eq!(gateway.metric("replay_api_errors_total", &[]).await, 1.0);
    let failed = audited(&gateway, "replay_api_error");
    assert_eq!(failed[0]["replayed"], told);

    broker.start_again();
    broker.wait_until_up();
    // The link comes back by itself.
    let rest = within("the rest to be replayed", async {
        loop {
            let headers = [("x-api-key", API_KEY), ("idempotency-key", "a")];
            let body = b"{}".to_vec();
            let answer = gateway
                .try_request(Method::POST, RABBITMQ, &headers, body)
                .await;
            // The HTTP connection was idle for so long that the gateway may have closed it.
            if let Ok(answer) = answer
                && answer.status == 200
            {
                return answer.json();
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    })
    .await;
    assert!(
        rest.get("idempotent").is_none(),
        "a failed call is not remembered: {rest}"
    );
    let rest = usize::try_from(rest["replayed"].as_u64().unwrap()).unwrap();
    let inbox = numbers(&vhost, "ws.inbox").await;
    let unique: BTreeSet<u64> = inbox.iter().copied().collect();
    assert_eq!(unique.len(), COUNT, "nothing is lost");
    // The letters under way may have been kept without the gateway's hearing of it.
    assert!(
        (told + rest..=told + rest + WINDOW).contains(&inbox.len()),
        "{told} + {rest}, {}",
        inbox.len()
    );
    // A broker that is killed may bring back what was acknowledged, so that letters can be there twice.
    assert_eq!(vhost.count("ws.dlq").await, Some(0));
}
