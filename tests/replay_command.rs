//! `wsgw replay` against running gateways.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use serde_json::json;
use support::replay::{YAML, assert_output, fill_redis, length, setup, with_redis, wsgw};
use support::{API_KEY, Redis, Reply, Setup, Webhook};

#[tokio::test]
async fn the_command_looks_and_replays_in_batches() {
    let redis = Redis::start().await;
    let gateway = with_redis(&redis)
        .env("LIMIT", "in_memory")
        .set("replay.api.rate_limit.per_minute", 3)
        .set("replay.api.rate_limit.window_seconds", 2)
        .set("replay.redis_stream.max_batch", 2)
        .start()
        .await;
    let url = gateway.api_url();
    let nothing = wsgw(&url, &[], API_KEY).await;
    assert_output(&nothing, 0, "no dead letters\n", &[]);
    assert_output(
        &wsgw(&url, &["--dry-run"], API_KEY).await,
        0,
        "no dead letters\n",
        &[],
    );
    fill_redis(&redis, 9).await;

    let looked = wsgw(&url, &["--dry-run", "--limit", "2"], API_KEY).await;
    let table = String::from_utf8_lossy(&looked.stdout).into_owned();
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["STORE", "AGE", "SINK", "REASON", "EVENT", "ID"]);
    assert_eq!(lines.len(), 3, "{table}");
    assert_eq!(
        (lines[1][0], lines[1][2], &lines[1][3..]),
        ("redis", "d", &["webhook", "HTTP", "400", "-"][..])
    );
    assert!(!table.contains("{\"n\""), "no payload unless asked for");
    let looked = wsgw(
        &url,
        &["--dry-run", "--show-raw", "--from", "redis"],
        API_KEY,
    )
    .await;
    assert!(String::from_utf8_lossy(&looked.stdout).contains("{\"n\":8}"));
    assert_eq!(length(&redis, "ws.dlq").await, 9, "looking moves nothing");

    let some = wsgw(&url, &["--from", "redis", "--limit", "5"], API_KEY).await;
    assert_output(
        &some,
        0,
        "redis: 5 dead letters replayed\n",
        &["redis: 4 of at most 5"],
    );
    assert_eq!(length(&redis, "ws.inbox").await, 5);
    let all = wsgw(&url, &["--limit", "1000"], API_KEY).await;
    let waits = [
        "redis: 4 dead letters",
        "the rate limit is reached, waiting ",
    ];
    assert_output(&all, 0, "redis: 4 dead letters replayed\n", &waits);
    assert_eq!(
        (
            length(&redis, "ws.dlq").await,
            length(&redis, "ws.inbox").await
        ),
        (0, 9)
    );
}

#[tokio::test]
async fn the_command_says_what_is_wrong() {
    let gateway = setup()
        .set("stages.fan_out.events_mode", "none")
        .start()
        .await;
    let url = gateway.api_url();
    let wrong = wsgw(&url, &["--from", "redis"], "wrong").await;
    let nothing = "redis: 0 dead letters replayed\n";
    assert_output(
        &wrong,
        1,
        nothing,
        &["answered 401: the API key is wrong", "REPLAY_API_KEY"],
    );
    let missing = wsgw(&url, &["--from", "redis"], API_KEY).await;
    assert_output(
        &missing,
        1,
        nothing,
        &["answered 503: no redis is configured"],
    );
    let elsewhere = format!("{url}/elsewhere");
    assert_output(
        &wsgw(&elsewhere, &[], API_KEY).await,
        1,
        "",
        &["answered 404", "internal_listen"],
    );
    let nobody = format!("http://127.0.0.1:{}", support::free_port());
    let refused = wsgw(&nobody, &[], API_KEY).await;
    assert_output(
        &refused,
        1,
        "",
        &[&nobody, "cannot be reached", "Connection refused"],
    );
    for (args, told) in [
        (&["--since", "0"][..], "need --from archive"),
        (&["--from", "archive"], "needs --since"),
        (
            &["--from", "archive", "--since", "0", "--dry-run"],
            "has none of",
        ),
        (&["--show-raw"], "--dry-run"),
        (&["--limit=-1"], "--limit"),
        (&["--from", "kafka"], "rabbitmq, redis, archive"),
    ] {
        assert_output(&wsgw(&url, args, API_KEY).await, 2, "", &[told]);
    }
    assert_output(&wsgw("ftp://x", &[], API_KEY).await, 2, "", &["--url"]);
    assert_output(&wsgw(&url, &[], "").await, 2, "", &["GATEWAY_API_KEY"]);
    let keyless = Setup::default()
        .yaml(YAML)
        .env("GATEWAY_API_KEY", "")
        .set("stages.fan_out.events_mode", "none");
    let keyless = keyless.start().await;
    let off = wsgw(&keyless.api_url(), &["--dry-run"], API_KEY).await;
    assert_output(&off, 1, "", &["answered 403", "server.api_key"]);
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_with_the_same_key() {
    let gateway = Webhook::scripted(|request| match request.index {
        1 => Reply::With(429, vec![("retry-after", "1".into())]),
        0 | 2 => Reply::Reset,
        _ => Reply::Status(503),
    })
    .await;
    let url = format!("http://{}", gateway.address());
    let args = [
        "--from",
        "archive",
        "--since",
        "5",
        "--user",
        "42",
        "--type",
        "connected",
    ];
    let output = wsgw(&url, &args, API_KEY).await;
    let told = ["the answer was lost", "waiting 1 s", "answered 503"];
    assert_output(&output, 1, "archive: 0 events replayed\n", &told);
    let received = gateway.received();
    assert_eq!(received.len(), 4);
    let key = received[0].header("idempotency-key");
    for request in &received {
        assert_eq!(
            (request.path.as_str(), request.header("x-api-key")),
            ("/internal/replay/archive", API_KEY)
        );
        let expected = json!({"since": 5, "user_id": "42", "type": "connected", "limit": 100,
                              "idempotency_key": key});
        assert_eq!(request.event(), expected);
        assert_eq!(request.header("idempotency-key"), key);
    }
}
