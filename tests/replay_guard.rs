//! What guards the replay: rate limit, idempotency, the audit log, with several gateways and real brokers.

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
use support::gateway::Answer;
use support::replay::{
    RABBITMQ, REDIS, audited, fill, fill_redis, length, numbers, replay, replay_as, with_rabbitmq,
    with_redis,
};
use support::{API_KEY, Broker, Gateway, Redis, eventually, within};

#[tokio::test]
async fn gateways_share_a_rate_limit_in_redis_and_stand_still_without_it() {
    let (redis, counts) = (Redis::start().await, Redis::start().await);
    let start = async || {
        with_redis(&redis)
            .env("LIMIT", "redis")
            .set("replay.api.rate_limit.redis_dsn", counts.dsn())
            .set("replay.api.rate_limit.per_minute", 6)
            .start()
            .await
    };
    let (one, two) = (start().await, start().await);
    fill_redis(&redis, 20).await;
    let call = async |gateway: &Gateway| gateway.post_text(REDIS, "{\"limit\":1}").await;
    // Until both have connected to the Redis of the counts, calls are refused.
    for gateway in [&one, &two] {
        within("the counts", async {
            while gateway.post_text(REDIS, "{\"limit\":0}").await.status == 503 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
    let calls: Vec<_> = [&one, &two]
        .into_iter()
        .cycle()
        .take(10)
        .map(call)
        .collect();
    let answers = futures_util::future::join_all(calls).await;
    let passed = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(passed, 4, "beside the two above");
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(refused.status, 429, "{refused:?}");
        let wait: u64 = refused.header("retry-after").parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    assert_eq!(length(&redis, "ws.inbox").await, 4);
    let keys: Vec<String> = counts.command("KEYS", &["*"]).await;
    assert!(
        keys.iter()
            .all(|key| key.starts_with("wsgw:replay:rate:") && !key.contains(API_KEY))
    );

    counts.kill();
    let answer = call(&one).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("counts calls")
    );
    assert_eq!(
        length(&redis, "ws.inbox").await,
        4,
        "nothing moves uncounted"
    );
}

#[tokio::test]
async fn of_calls_at_once_at_two_gateways_with_one_key_one_acts() {
    let redis = Redis::start().await;
    let start = async || {
        with_redis(&redis)
            .set("replay.api.idempotency.strategy", "redis")
            .start()
            .await
    };
    let gateways = [start().await, start().await];
    fill_redis(&redis, 300).await;
    for round in 0..100 {
        let key = format!("round {round}");
        let [one, two] = &gateways;
        let call = |gateway| replay_as(gateway, REDIS, &key, "{\"limit\":3}");
        let answers = tokio::join!(call(one), call(two), call(one), call(two));
        let answers: [Answer; 4] = answers.into();
        let first = answers.iter().filter(|answer| {
            let json = answer.json();
            assert_eq!(
                (answer.status.as_u16(), &json["replayed"]),
                (200, &json!(3)),
                "{json}"
            );
            json.get("idempotent").is_none()
        });
        assert_eq!(first.count(), 1, "{answers:?}");
    }
    assert_eq!(
        (
            length(&redis, "ws.dlq").await,
            length(&redis, "ws.inbox").await
        ),
        (0, 300)
    );
    let later = replay_as(&gateways[1], REDIS, "round 7", "{\"limit\":99}")
        .await
        .json();
    assert_eq!(later, json!({"replayed": 3, "idempotent": true}));
    redis.kill();
    let answer = replay_as(&gateways[0], REDIS, "round 7", "{}").await;
    assert_eq!(answer.status, 503);
}

#[tokio::test]
async fn the_key_of_a_gateway_that_dies_is_free_again() {
    const COUNT: usize = 10_000;
    let (redis, vhost) = (Redis::start().await, Broker::shared().vhost());
    let start = async || {
        with_rabbitmq(&vhost)
            .set("replay.api.idempotency.strategy", "redis")
            .set("replay.api.idempotency.redis_dsn", redis.dsn())
            .start()
            .await
    };
    let (dies, lives) = (start().await, start().await);
    fill(&dies, &vhost, 0..COUNT).await;
    let body = b"{}".to_vec();
    let headers = [("x-api-key", API_KEY), ("idempotency-key", "a")];
    let calling = dies.try_request(Method::POST, RABBITMQ, &headers, body);
    let killing = async {
        within("letters to move", async {
            while vhost.count("ws.inbox").await.unwrap() < 100 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        dies.signal("KILL");
    };
    let (answer, ()) = tokio::join!(calling, killing);
    assert!(answer.is_err(), "{answer:?}");
    let answer = replay_as(&lives, RABBITMQ, "a", "{}").await.json();
    assert!(answer.get("idempotent").is_none(), "{answer}");
    assert!(answer["replayed"].as_u64().unwrap() > 0);
    let unique: BTreeSet<u64> = numbers(&vhost, "ws.inbox").await.into_iter().collect();
    assert_eq!(unique.len(), COUNT, "nothing is lost");
}

#[tokio::test]
async fn every_attempt_is_audited_without_its_key() {
    const WRONG: &str = "wrong-key-s3cret";
    let redis = Redis::start().await;
    let gateway = with_redis(&redis)
        .env("LIMIT", "in_memory")
        .set("replay.api.rate_limit.per_minute", 2)
        .set("replay.api.idempotency.strategy", "in_memory")
        .set("server.trusted_proxies", "[127.0.0.1/32]")
        .start()
        .await;
    fill_redis(&redis, 3).await;
    for _ in 0..3 {
        let headers = [("x-api-key", WRONG), ("x-forwarded-for", "203.0.113.9")];
        let answer = gateway
            .request(Method::POST, REDIS, &headers, Vec::new())
            .await;
        assert_eq!(answer.status, 401);
    }
    assert_eq!(replay(&gateway, REDIS, "{\"limit\":\"5\"}").await.0, 400);
    assert_eq!(
        replay_as(&gateway, REDIS, "idem-s3cret", "{\"limit\":2}")
            .await
            .status,
        200
    );
    assert_eq!(
        replay_as(&gateway, REDIS, "idem-s3cret", "{}").await.status,
        200
    );
    assert_eq!(
        replay_as(&gateway, REDIS, "idem-s3cret", "{}").await.status,
        429
    );
    let lines = eventually("the audit log", || {
        let lines = ["denied", "error", "success", "idempotent", "rate_limited"]
            .map(|result| audited(&gateway, &format!("replay_api_{result}")));
        (lines.each_ref().map(Vec::len) == [3, 1, 1, 1, 1]).then_some(lines)
    })
    .await;
    let [denied, error, success, idempotent, limited] = &lines;
    assert_eq!(denied[0]["address"], "203.0.113.9", "who, behind the proxy");
    assert_eq!(success[0]["address"], "127.0.0.1");
    assert_eq!(
        (&success[0]["store"], &success[0]["replayed"]),
        (&json!("redis"), &json!(2))
    );
    assert_ne!(denied[0]["key"], success[0]["key"]);
    assert_eq!(idempotent[0]["key"], success[0]["key"]);
    assert_eq!(success[0]["key"].as_str().unwrap().len(), 12);
    assert!(error[0]["reason"].as_str().unwrap().starts_with("`limit`:"));
    assert!(limited[0]["retry_after_seconds"].as_f64().unwrap() > 0.0);
    let stderr = gateway.stderr();
    assert!(
        !stderr.contains(API_KEY) && !stderr.contains("s3cret"),
        "{stderr}"
    );
    for (name, count) in [
        ("replay_api_requests_total", 7.0),
        ("replay_api_denied_total", 3.0),
        ("replay_api_rate_limited_total", 1.0),
        ("replay_api_idempotent_total", 1.0),
        ("replay_api_success_total", 1.0),
        ("replay_api_errors_total", 1.0),
        ("rabbitmq_replay_total", 0.0),
    ] {
        assert_eq!(gateway.metric(name, &[]).await, count, "{name}");
    }
}
