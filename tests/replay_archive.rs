//! Sending again what the archive in a file has.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use support::archive::{archiving, file, rows, wait_for_rows};
use support::replay::{ARCHIVE, assert_output, audited, wsgw};
use support::{API_KEY, Client, Gateway, Reply, Setup, Webhook, eventually, within};
use uuid::Uuid;

async fn replay(gateway: &Gateway, body: Value) -> Value {
    let answer = gateway.post(ARCHIVE, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The ids of what came to the webhook from a place on.
fn ids_from(webhook: &Webhook, from: usize) -> Vec<String> {
    webhook.received()[from..]
        .iter()
        .map(|request| request.event()["event_id"].as_str().unwrap().to_owned())
        .collect()
}

fn ids_of(events: &[Value], fits: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut ids: Vec<String> = events
        .iter()
        .filter(|event| fits(event))
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Whether an event is asked for.
type Fits = fn(&Value) -> bool;

fn ms(event: &Value) -> u64 {
    let id: Uuid = event["event_id"].as_str().unwrap().parse().unwrap();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    seconds * 1000 + u64::from(nanos) / 1_000_000
}

#[tokio::test]
async fn what_was_archived_comes_again_filtered_in_order_and_in_parts() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .env("ORDERING_STRATEGY", "topic")
        .set("replay.api.rate_limit.per_minute", 0)
        .start()
        .await;
    let mut users = [
        Client::connect(&gateway, "1").await,
        Client::connect(&gateway, "2").await,
    ];
    for n in 0..100 {
        let room = if n % 3 == 0 { "a" } else { "b" };
        for client in &mut users {
            client.send_json(&json!({"topic": room, "n": n})).await;
        }
        // Not to wait for anything: the events are to spread over some milliseconds.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for client in users {
        client.close(None).await;
    }
    wait_for_rows(&file(&gateway), 204).await;
    let all = webhook.wait_for(204).await;
    let cases: [(Value, Fits); 5] = [
        (json!({"since": 0}), |_| true),
        (
            json!({"since": "1970-01-01T00:00:00Z", "user_id": 2}),
            |e| e["user_id"] == "2",
        ),
        (json!({"since": "0", "ordering_key": "a"}), |e| {
            e["ordering_key"] == "a"
        }),
        (json!({"since": 0, "type": "disconnected"}), |e| {
            e["type"] == "disconnected"
        }),
        (
            json!({"since": 0, "user_id": "1", "ordering_key": "b", "target": "webhook"}),
            |e| e["user_id"] == "1" && e["ordering_key"] == "b",
        ),
    ];
    for (body, fits) in cases {
        let before = webhook.count();
        let wanted = ids_of(&all, fits);
        let answer = replay(&gateway, body.clone()).await;
        assert_eq!(answer, json!({"replayed": wanted.len()}), "{body}");
        assert_eq!(ids_from(&webhook, before), wanted, "{body}");
    }
    // A range of time: from the first millisecond, up to the last, which is not part of it.
    let (since, until) = (ms(&all[50]), ms(&all[150]));
    assert!(since < until);
    let before = webhook.count();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let body = json!({"since": since as f64 / 1000.0, "until": until as f64 / 1000.0});
    replay(&gateway, body).await;
    let wanted = ids_of(&all, |e| (since..until).contains(&ms(e)));
    assert_eq!(ids_from(&webhook, before), wanted);
    // In parts.
    let before = webhook.count();
    let mut body = json!({"since": 0, "user_id": "2", "limit": 25});
    let mut calls = 0;
    loop {
        let answer = replay(&gateway, body.clone()).await;
        calls += 1;
        match answer.get("next_cursor") {
            Some(cursor) => {
                assert_eq!(answer["replayed"], 25);
                body["cursor"] = cursor.clone();
            }
            None => break,
        }
    }
    assert_eq!(calls, 5, "102 events, 25 at a time");
    assert_eq!(
        ids_from(&webhook, before),
        ids_of(&all, |e| e["user_id"] == "2")
    );
    for limit in [0, -1] {
        let answer = replay(&gateway, json!({"since": 0, "limit": limit})).await;
        assert_eq!(answer, json!({"replayed": 0}));
    }
    let rows = rows(&file(&gateway)).await;
    assert_eq!(rows.len(), 204, "what is replayed is not archived again");
}

#[tokio::test]
async fn a_sink_that_fails_half_way_is_told_and_the_rest_follows() {
    let webhook = Webhook::scripted(|request| match request.event()["message"]["n"].as_u64() {
        // The live delivery passes; of the replay, 5 fails often and 7 is refused.
        Some(5) if (1..=5).contains(&request.earlier) => Reply::Status(500),
        Some(7) if request.earlier > 0 => Reply::Status(400),
        _ => Reply::Status(204),
    })
    .await;
    let gateway = archiving(&webhook)
        .set("replay.archive.max_batch", 50)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..10 {
        client.send_json(&json!({"n": n})).await;
    }
    wait_for_rows(&file(&gateway), 11).await;
    webhook.wait_for(11).await;
    let mut body = json!({"since": 0});
    let failed = gateway.post(ARCHIVE, &body).await;
    assert_eq!(failed.status, 503, "{failed:?}");
    assert_eq!(failed.header("content-type"), "application/problem+json");
    let problem = failed.json();
    assert_eq!(problem["replayed"], 6, "connected and 0 to 4");
    assert_eq!(problem["detail"], "webhook: HTTP 500");
    body["cursor"] = problem["next_cursor"].clone();
    let before = webhook.count();
    let rest = replay(&gateway, body).await;
    assert_eq!(rest, json!({"replayed": 4, "refused": 1}));
    let numbers: Vec<_> = webhook.received()[before..]
        .iter()
        .map(|request| request.event()["message"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9]);
    assert_eq!(
        gateway.metric("wsgw_replayed_total", &["archive"]).await,
        10.0
    );
}

#[tokio::test]
async fn one_replay_at_a_time_and_a_stop_ends_it() {
    let webhook = Webhook::scripted(|request| match request.earlier {
        0 => Reply::Status(204),
        _ => Reply::Hold,
    })
    .await;
    let gateway = Arc::new(
        archiving(&webhook)
            .env("WEBHOOK_TIMEOUT_SECONDS", 60)
            .start()
            .await,
    );
    Client::connect(&gateway, "42").await.close(None).await;
    wait_for_rows(&file(&gateway), 2).await;
    webhook.wait_for(2).await;
    let call = || {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let headers = [("x-api-key", API_KEY)];
            let body = b"{\"since\":0}".to_vec();
            gateway
                .try_request(Method::POST, ARCHIVE, &headers, body)
                .await
        })
    };
    let first = call();
    eventually("the replay to be under way", || {
        (webhook.in_flight() == 1).then_some(())
    })
    .await;
    let second = call();
    within("the second call", async {
        while gateway.metric("replay_api_requests_total", &[]).await < 2.0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // Were it not to wait, it would have sent something by now.
    for _ in 0..50 {
        gateway.get("/health").await;
    }
    assert!(!first.is_finished() && !second.is_finished());
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert_eq!(webhook.count(), 3, "the second sent nothing");
    let failed = audited(&gateway, "replay_api_error");
    assert_eq!(failed[0]["reason"], "the gateway stops");
    // Whether an answer still came through is a matter of moments.
    for call in [first, second] {
        if let Ok(answer) = call.await.unwrap() {
            assert_eq!(answer.status, 503, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn what_guards_every_replay_guards_that_of_the_archive() {
    const REPLAY_KEY: &str = "replay-key-s3cret";
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .set("replay.api.api_key", REPLAY_KEY)
        .set("replay.api.rate_limit.per_minute", 3)
        .set("replay.api.idempotency.strategy", "in_memory")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..9 {
        client.send_json(&json!({"n": n})).await;
    }
    wait_for_rows(&file(&gateway), 10).await;
    webhook.wait_for(10).await;
    let call = async |key: &str, once: &str, body: Value| {
        let headers = [("x-api-key", key), ("idempotency-key", once)];
        let body = body.to_string().into_bytes();
        gateway.request(Method::POST, ARCHIVE, &headers, body).await
    };
    for wrong in [API_KEY, "wrong-s3cret"] {
        let answer = call(wrong, "a", json!({"since": 0})).await;
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    for limit in [json!(null), json!("5"), json!(1.5)] {
        let answer = call(REPLAY_KEY, "a", json!({"since": 0, "limit": limit})).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let problem = answer.json();
        assert!(
            problem["detail"].as_str().unwrap().starts_with("`limit`:"),
            "{problem}"
        );
    }
    let first = call(REPLAY_KEY, "a", json!({"since": 0, "limit": 4})).await;
    let mut first = first.json();
    assert_eq!(first["replayed"], 4, "{first}");
    assert!(first["next_cursor"].is_string(), "{first}");
    let again = call(REPLAY_KEY, "a", json!({"since": 0, "limit": 9})).await;
    first["idempotent"] = true.into();
    assert_eq!(again.json(), first);
    let none = call(REPLAY_KEY, "b", json!({"since": 0, "limit": -7})).await;
    assert_eq!(none.json(), json!({"replayed": 0}));
    let limited = call(REPLAY_KEY, "c", json!({"since": 0})).await;
    assert_eq!(limited.status, 429, "{limited:?}");
    let wait: u64 = limited.header("retry-after").parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(webhook.count(), 14, "ten, and four again");

    let lines = eventually("the audit log", || {
        let lines = ["denied", "error", "success", "idempotent", "rate_limited"]
            .map(|result| audited(&gateway, &format!("replay_api_{result}")));
        (lines.each_ref().map(Vec::len) == [2, 3, 2, 1, 1]).then_some(lines)
    })
    .await;
    assert!(
        lines
            .iter()
            .flatten()
            .all(|line| line["store"] == "archive")
    );
    let [denied, _, success, idempotent, _] = &lines;
    assert_eq!(success[0]["replayed"], 4);
    assert_eq!(success[0]["limit"], 4);
    assert_eq!(success[0]["address"], "127.0.0.1");
    assert_eq!(success[0]["key"], idempotent[0]["key"]);
    assert_ne!(success[0]["key"], denied[0]["key"]);
    assert!(
        audited(&gateway, "api_denied").is_empty(),
        "one line is enough"
    );
    assert!(!gateway.stderr().contains("s3cret"), "{}", gateway.stderr());
    for (name, count) in [
        ("replay_api_requests_total", 9.0),
        ("replay_api_denied_total", 2.0),
        ("replay_api_rate_limited_total", 1.0),
        ("replay_api_idempotent_total", 1.0),
        ("replay_api_success_total", 2.0),
        ("replay_api_errors_total", 3.0),
    ] {
        assert_eq!(gateway.metric(name, &[]).await, count, "{name}");
    }
    assert_eq!(
        gateway.metric("wsgw_replayed_total", &["archive"]).await,
        4.0
    );
}

#[tokio::test]
async fn a_denied_replay_is_told_once_with_and_without_the_audit_log() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .set("replay.api.audit_log", "false")
        .start()
        .await;
    let wrong = [("x-api-key", "wrong")];
    let answer = gateway
        .request(Method::POST, ARCHIVE, &wrong, Vec::new())
        .await;
    assert_eq!(answer.status, 401);
    let denied = eventually("a line", || audited(&gateway, "api_denied").pop()).await;
    assert_eq!(denied["route"], ARCHIVE);
    assert!(audited(&gateway, "replay_api_denied").is_empty());
}

/// The cursor that `wsgw replay` told.
fn cursor(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    let (_, cursor) = told.split_once("go on with --cursor ").unwrap();
    cursor.lines().next().unwrap().to_owned()
}

#[tokio::test]
async fn the_command_follows_the_cursor_to_the_end() {
    let webhook = Webhook::scripted(|request| match request.event()["message"]["n"].as_u64() {
        // The live delivery passes; of the replay, this one ends a call.
        Some(15) if (1..=5).contains(&request.earlier) => Reply::Status(500),
        _ => Reply::Status(204),
    })
    .await;
    let gateway = archiving(&webhook)
        .set("replay.archive.max_batch", 4)
        .set("replay.api.rate_limit.per_minute", 2)
        .set("replay.api.rate_limit.window_seconds", 3)
        .set("replay.api.idempotency.strategy", "in_memory")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..18 {
        client.send_json(&json!({"n": n})).await;
    }
    client.close(None).await;
    wait_for_rows(&file(&gateway), 20).await;
    let all = ids_of(&webhook.wait_for(20).await, |_| true);
    let url = gateway.api_url();
    let run = async |more: &[&str], key: &str| {
        let args = ["--from", "archive", "--since", "0", "--user", "42"];
        wsgw(&url, &[&args, more].concat(), key).await
    };
    let wrong = run(&[], "wrong").await;
    let told = ["answered 401: the API key is wrong"];
    assert_output(&wrong, 1, "archive: 0 events replayed\n", &told);

    let first = run(&["--limit", "6"], API_KEY).await;
    let told = ["there is more: go on with --cursor "];
    assert_output(&first, 0, "archive: 6 events replayed\n", &told);
    assert_eq!(ids_from(&webhook, 20), all[..6]);

    // In three calls, of which the last fails half-way.
    let second = run(&["--cursor", &cursor(&first)], API_KEY).await;
    let told = [
        "the rate limit is reached, waiting ",
        "answered 503: webhook: HTTP 500",
        "go on with --cursor ",
    ];
    assert_output(&second, 1, "archive: 10 events replayed\n", &told);

    let rest = run(&["--cursor", &cursor(&second)], API_KEY).await;
    assert_output(&rest, 0, "archive: 4 events replayed\n", &[]);
    assert!(!String::from_utf8_lossy(&rest.stderr).contains("--cursor"));
    let mut again = ids_from(&webhook, 20);
    again.dedup();
    assert_eq!(again, all, "everything once, in order, but for the tries");

    let replayed = |event: &str| -> Vec<Value> {
        let lines = audited(&gateway, event);
        lines.iter().map(|line| line["replayed"].clone()).collect()
    };
    let success = eventually("the audit log", || {
        Some(replayed("replay_api_success")).filter(|lines| lines.len() == 5)
    })
    .await;
    assert_eq!(success, [4, 2, 4, 4, 4]);
    assert_eq!(replayed("replay_api_error"), [2]);
    assert_eq!(
        gateway.metric("wsgw_replayed_total", &["archive"]).await,
        20.0
    );
}

#[tokio::test]
async fn calls_that_make_no_sense_are_told_which_field() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook).start().await;
    for (body, field) in [
        (json!({}), "`since`"),
        (json!({"since": "yesterday"}), "`since`"),
        (json!({"since": "2026-02-30T00:00:00Z"}), "`since`"),
        (json!({"since": -1}), "`since`"),
        (json!({"since": 1e300}), "`since`"),
        (json!({"since": true}), "`since`"),
        (json!({"since": 0, "until": "NaN"}), "`until`"),
        (json!({"since": 0, "limit": "10"}), "`limit`"),
        (json!({"since": 0, "limit": 1.5}), "`limit`"),
        (json!({"since": 0, "type": "chat"}), "`type`"),
        (json!({"since": 0, "user_id": []}), "`user_id`"),
        (json!({"since": 0, "ordering_key": ""}), "`ordering_key`"),
        (json!({"since": 0, "cursor": "5"}), "`cursor`"),
        (json!({"since": 0, "target": "redis"}), "`target`"),
        (json!({"since": 0, "target": "archive"}), "`target`"),
    ] {
        let answer = gateway.post(ARCHIVE, &body).await;
        assert_eq!(answer.status, 400, "{body} {answer:?}");
        let problem = answer.json();
        assert!(
            problem["detail"].as_str().unwrap().starts_with(field),
            "{body}: {problem}"
        );
    }
    let keyless = gateway
        .request(Method::POST, ARCHIVE, &[], b"{}".to_vec())
        .await;
    assert_eq!(keyless.status, 401);
    let without = Setup::default().webhook(&webhook).start().await;
    let answer = without.post(ARCHIVE, &json!({"since": 0})).await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("durable")
    );
    assert!(
        without.get("/ready").await.json()["checks"]
            .get("archive")
            .is_none()
    );
}
