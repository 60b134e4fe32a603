//! The internal HTTP API, as a backend calls it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use reqwest::Method;
use serde_json::{Value, json};
use support::gateway::Answer;
use support::tokens::claims;
use support::{API_KEY, Client, Gateway, Setup, Webhook, now, signed};

async fn client_of(gateway: &Gateway, user: &str, subjects: &[&str]) -> Client {
    let mut client = Client::with_token(
        gateway,
        &signed(claims(user, json!({"subjects": subjects}))),
    )
    .await;
    client.round_trip().await;
    client
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert!(
        answer
            .header("content-type")
            .starts_with("application/problem+json"),
        "{answer:?}"
    );
    let problem = answer.json();
    assert_eq!(problem["status"], status);
    for name in ["type", "title", "detail"] {
        assert!(
            problem[name].as_str().is_some_and(|text| !text.is_empty()),
            "{problem}"
        );
    }
}

#[tokio::test]
async fn a_push_reaches_each_connection_once_however_many_subjects_match() {
    let gateway = Gateway::start().await;
    let mut ann = client_of(&gateway, "ann", &["room:1", "room:2"]).await;
    let mut ann_too = client_of(&gateway, "ann", &["room:1"]).await;
    let mut bob = client_of(&gateway, "bob", &["room:2"]).await;
    for (subjects, sent) in [
        (&["user:ann"][..], 2),
        (&["user:bob"], 1),
        (&["room:1"], 2),
        (&["room:2"], 2),
        (&["user:ann", "room:1", "room:2", "user:bob", "room:1"], 3),
        (&["nobody"], 0),
        (&["user:an", "USER:ANN", "room:*", "room"], 0),
    ] {
        assert_eq!(
            gateway.publish(subjects, json!({"to": subjects})).await,
            sent,
            "{subjects:?}"
        );
    }
    let mut got = Vec::new();
    for client in [&mut ann, &mut ann_too, &mut bob] {
        client.send(r#"{"type":"ping"}"#).await;
        let mut pushes = 0;
        while client.json().await["type"] == "event" {
            pushes += 1;
        }
        got.push(pushes);
    }
    assert_eq!(got, [4, 3, 3]);
}

#[tokio::test]
async fn a_payload_is_handed_on_as_it_is_written() {
    let gateway = Gateway::start().await;
    let mut client = client_of(&gateway, "42", &[]).await;
    for payload in [
        "{\"b\":1,\"a\":[1.0,1e400,12345678901234567890123],\"b\":2}",
        "null",
        "0",
        "\"żółć \\u0041\"",
        "[]",
        "{\"type\":\"ping\"}",
    ] {
        let body = format!("{{\"payload\":{payload},\"subjects\":[\"user:42\"]}}");
        let answer = gateway.post_text("/internal/publish", &body).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, "{\"sent\":1}"),
            "{payload}"
        );
        assert!(
            answer
                .header("content-type")
                .starts_with("application/json")
        );
        assert_eq!(
            client.text().await,
            format!("{{\"type\":\"event\",\"payload\":{payload}}}")
        );
    }
}

#[tokio::test]
async fn a_body_of_a_hundred_thousand_levels_hurts_nobody() {
    let gateway = Gateway::start().await;
    let mut client = client_of(&gateway, "42", &[]).await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let body = format!("{{\"x\":{deep},\"subjects\":[\"user:42\"],\"payload\":{deep}}}");
    let answer = gateway.post_text("/internal/publish", &body).await;
    assert_eq!(
        (answer.status.as_u16(), answer.text.as_str()),
        (200, "{\"sent\":1}")
    );
    assert_eq!(
        client.text().await,
        format!("{{\"type\":\"event\",\"payload\":{deep}}}")
    );
    for body in [
        deep.clone(),
        format!("{{\"subjects\":{deep},\"payload\":1}}"),
        format!("{{\"api_key\":{deep}}}"),
    ] {
        let bad = gateway.request(
            Method::POST,
            "/internal/publish",
            &[("x-api-key", API_KEY)],
            body.into_bytes(),
        );
        assert_problem(&bad.await, 400);
    }
    client.round_trip().await;
}

#[tokio::test]
async fn pushes_to_one_connection_keep_their_order() {
    let gateway = Gateway::start().await;
    let mut client = client_of(&gateway, "42", &[]).await;
    for n in 0..200 {
        assert_eq!(gateway.publish(&["user:42"], json!(n)).await, 1);
    }
    for n in 0..200 {
        assert_eq!(client.json().await["payload"], n);
    }
}

#[tokio::test]
async fn a_body_of_the_wrong_shape_is_answered_400_that_names_the_field() {
    let gateway = Gateway::start().await;
    for (path, body, named) in [
        (
            "publish",
            "{\"subjects\":\"user:42\",\"payload\":1}",
            "subjects",
        ),
        ("publish", "{\"subjects\":[],\"payload\":1}", "subjects"),
        (
            "publish",
            "{\"subjects\":[\"a\",7],\"payload\":1}",
            "subjects",
        ),
        ("publish", "{\"subjects\":null,\"payload\":1}", "subjects"),
        (
            "publish",
            "{\"subjects\":{\"a\":1},\"payload\":1}",
            "subjects",
        ),
        ("publish", "{\"payload\":1}", "subjects"),
        ("publish", "{\"subjects\":[\"user:42\"]}", "payload"),
        ("publish", "{\"subjects\":[\"user:42\"],\"payload\":}", ""),
        ("publish", "{\"subjects\":[\"user:42\"]", ""),
        ("publish", "[]", ""),
        ("publish", "", ""),
        ("publish", "subjects=user:42", ""),
        ("disconnect", "{}", "user_id"),
        (
            "disconnect",
            "{\"user_id\":\"1\",\"subject\":\"a\"}",
            "user_id",
        ),
        ("disconnect", "{\"user_id\":true}", "user_id"),
        (
            "disconnect",
            "{\"connection_id\":\"no uuid\"}",
            "connection_id",
        ),
        ("disconnect", "{\"subject\":[\"a\"]}", "subject"),
        ("disconnect", "{\"user_id\":\"1\",\"reason\":7}", "reason"),
    ] {
        let answer = gateway.post_text(&format!("/internal/{path}"), body).await;
        assert_problem(&answer, 400);
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{body}: {detail}");
    }
    for query in ["limit=0", "limit=-1", "limit=many", "limit=1.5"] {
        let answer = gateway
            .get_with_key(&format!("/internal/connections?{query}"))
            .await;
        assert_problem(&answer, 400);
        assert!(answer.text.contains("limit"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_answered_413_that_the_caller_can_read() {
    let gateway = Gateway::start().await;
    let body = |bytes: usize| {
        let empty = r#"{"subjects":["user:42"],"payload":""}"#;
        empty.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - empty.len())))
    };
    let answer = gateway
        .post_text("/internal/publish", &body(10 << 20))
        .await;
    assert_problem(&answer, 413);
    let answer = gateway
        .post_text("/internal/publish", &body(1_048_577))
        .await;
    assert_problem(&answer, 413);
    let answer = gateway
        .post_text("/internal/publish", &body(1_048_576))
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let small = Setup::default()
        .set("server.max_body_bytes", 100)
        .start()
        .await;
    assert_problem(&small.post_text("/internal/publish", &body(101)).await, 413);
}

const INTERNAL: [(Method, &str); 5] = [
    (Method::POST, "/internal/publish"),
    (Method::POST, "/internal/disconnect"),
    (Method::GET, "/internal/connections"),
    (Method::GET, "/internal/users/42/connections"),
    (Method::GET, "/internal/no-such-thing"),
];

#[tokio::test]
async fn a_wrong_or_missing_key_is_answered_401() {
    let gateway = Gateway::start().await;
    let body = br#"{"subjects":["a"],"payload":1,"user_id":"1"}"#;
    for (method, path) in &INTERNAL[..4] {
        for keys in [
            &[][..],
            &[("x-api-key", "")],
            &[("x-api-key", "wrong")],
            &[("x-api-key", "itest-api-ke")],
            &[("x-api-key", "itest-api-keys")],
            &[("authorization", "Bearer itest-api-key")],
        ] {
            let answer = gateway
                .request(method.clone(), path, keys, body.to_vec())
                .await;
            assert_problem(&answer, 401);
            assert!(!answer.text.contains(API_KEY));
        }
        let path = format!("{path}?api_key={API_KEY}&x-api-key={API_KEY}");
        assert_problem(
            &gateway
                .request(method.clone(), &path, &[], body.to_vec())
                .await,
            401,
        );
    }
}

#[tokio::test]
async fn the_key_may_stand_in_the_body() {
    let gateway = Gateway::start().await;
    let post = |body: Value| {
        gateway.request(
            Method::POST,
            "/internal/publish",
            &[],
            body.to_string().into_bytes(),
        )
    };
    let answer = post(json!({"api_key": API_KEY, "subjects": ["a"], "payload": 1})).await;
    assert_eq!(
        (answer.status.as_u16(), answer.json()),
        (200, json!({"sent": 0}))
    );
    for wrong in [
        json!("wrong"),
        json!(null),
        json!(17),
        json!([API_KEY]),
        json!(""),
    ] {
        assert_problem(
            &post(json!({"api_key": wrong, "subjects": ["a"], "payload": 1})).await,
            401,
        );
    }
    let headers = [("x-api-key", "wrong")];
    let body = json!({"api_key": API_KEY, "subjects": ["a"], "payload": 1})
        .to_string()
        .into_bytes();
    let answer = gateway
        .request(Method::POST, "/internal/publish", &headers, body)
        .await;
    assert_problem(&answer, 401);
}

#[tokio::test]
async fn without_a_configured_key_every_internal_call_is_answered_403() {
    for setup in [
        Setup::default().env("GATEWAY_API_KEY", ""),
        Setup::default().without("GATEWAY_API_KEY"),
    ] {
        let gateway = setup.start().await;
        for (method, path) in INTERNAL {
            for keys in [&[][..], &[("x-api-key", "")], &[("x-api-key", "guess")]] {
                let body = br#"{"api_key":"","subjects":["a"],"payload":1}"#.to_vec();
                assert_problem(
                    &gateway.request(method.clone(), path, keys, body).await,
                    403,
                );
            }
        }
        assert_eq!(gateway.get("/health").await.status, 200);
    }
}

#[tokio::test]
async fn disconnect_closes_with_4403_by_each_selector() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut ann = client_of(&gateway, "ann", &["room:1"]).await;
    let mut ann_too = client_of(&gateway, "ann", &[]).await;
    let mut bob = client_of(&gateway, "bob", &["room:1"]).await;
    let mut numeric = client_of(&gateway, "7", &[]).await;
    let mut cleo = client_of(&gateway, "cleo", &[]).await;
    let listed = gateway.connections().await;
    let cleos = listed.iter().find(|c| c["user_id"] == "cleo").unwrap()["connection_id"].clone();

    let disconnect = |body: Value| async {
        let body = body;
        let answer = gateway.post("/internal/disconnect", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["disconnected"].as_u64().unwrap()
    };
    assert_eq!(disconnect(json!({"user_id": "nobody"})).await, 0);
    assert_eq!(
        disconnect(json!({"connection_id": "00000000-0000-7000-8000-000000000000"})).await,
        0
    );
    assert_eq!(
        disconnect(json!({"subject": "room:1", "reason": "room closed"})).await,
        2
    );
    for client in [&mut ann, &mut bob] {
        let closed = client.closed().await;
        assert_eq!((closed.code, closed.reason.as_str()), (4403, "room closed"));
    }
    assert_eq!(
        webhook.wait_for_type("bob", "disconnected").await["close_code"],
        4403
    );
    gateway.wait_for_connections(3).await;
    assert_eq!(disconnect(json!({"user_id": "ann"})).await, 1);
    assert_eq!(ann_too.closed().await.code, 4403);
    assert_eq!(disconnect(json!({"user_id": 7})).await, 1);
    assert_eq!(numeric.closed().await.code, 4403);
    // A close frame has room for 123 bytes of reason (RFC 6455 section 5.5).
    let long = "ż".repeat(500);
    assert_eq!(
        disconnect(json!({"connection_id": cleos, "reason": long})).await,
        1
    );
    let closed = cleo.closed().await;
    assert_eq!(closed.code, 4403);
    assert!(
        long.starts_with(&closed.reason) && closed.reason.len() > 100,
        "{closed:?}"
    );
    gateway.wait_for_connections(0).await;
}

#[tokio::test]
async fn pushes_before_a_disconnect_still_arrive() {
    let gateway = Gateway::start().await;
    let mut client = client_of(&gateway, "42", &[]).await;
    for n in 0..50 {
        gateway.publish(&["user:42"], json!(n)).await;
    }
    gateway
        .post("/internal/disconnect", &json!({"user_id": "42"}))
        .await;
    let (texts, closed) = client.rest().await;
    assert_eq!((texts.len(), closed.code), (50, 4403));
}

#[tokio::test]
async fn connections_are_listed_by_user_and_subject_and_in_pages() {
    let gateway = Gateway::start().await;
    let before = now();
    let _ann = client_of(&gateway, "ann", &["room:1"]).await;
    let _ann_too = client_of(&gateway, "ann", &[]).await;
    let _odd = client_of(&gateway, "a/b ż?", &["room:1"]).await;
    let all = gateway.connections().await;
    assert_eq!(all.len(), 3);
    for entry in &all {
        let mut names: Vec<&str> = entry
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "connected_at",
                "connection_id",
                "last_seen_at",
                "subjects",
                "user_id"
            ]
        );
        for time in ["connected_at", "last_seen_at"] {
            let time = entry[time].as_u64().unwrap();
            assert!((before..=now()).contains(&time), "{entry}");
        }
    }
    let users = |answer: Answer| -> Vec<String> {
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut users: Vec<String> = answer.json()["connections"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["user_id"].as_str().unwrap().into())
            .collect();
        users.sort();
        users
    };
    for (path, expected) in [
        ("connections?user_id=ann", &["ann", "ann"][..]),
        ("connections?subject=room%3A1", &["a/b ż?", "ann"]),
        ("connections?subject=room:1&user_id=ann", &["ann"]),
        ("connections?subject=none", &[]),
        ("users/ann/connections", &["ann", "ann"]),
        ("users/a%2Fb%20%C5%BC%3F/connections", &["a/b ż?"]),
        ("users/nobody/connections", &[]),
    ] {
        assert_eq!(
            users(gateway.get_with_key(&format!("/internal/{path}")).await),
            expected,
            "{path}"
        );
    }
    let mut seen = Vec::new();
    let mut path = "/internal/connections?limit=2".to_owned();
    loop {
        let page = gateway.get_with_key(&path).await.json();
        let entries = page["connections"].as_array().unwrap();
        assert!(entries.len() <= 2);
        seen.extend(
            entries
                .iter()
                .map(|entry| entry["connection_id"].to_string()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("/internal/connections?limit=2&cursor={cursor}");
    }
    seen.sort();
    let count = seen.len();
    seen.dedup();
    assert_eq!(
        (seen.len(), count),
        (3, 3),
        "the pages hold each connection once"
    );
}

#[tokio::test]
async fn unknown_paths_are_404_and_wrong_methods_405() {
    let gateway = Gateway::start().await;
    let key = [("x-api-key", API_KEY)];
    for path in [
        "/",
        "/nothing",
        "/internal/nothing",
        "/internal",
        "/internal/users/42",
        "/wss",
        "/health/x",
    ] {
        let answer = gateway.request(Method::GET, path, &key, Vec::new()).await;
        assert_problem(&answer, 404);
    }
    for (method, path, allowed) in [
        (Method::GET, "/internal/publish", "POST"),
        (Method::DELETE, "/internal/publish", "POST"),
        (Method::GET, "/internal/disconnect", "POST"),
        (Method::POST, "/internal/connections", "GET"),
        (Method::PUT, "/internal/users/42/connections", "GET"),
        (Method::POST, "/health", "GET"),
        (Method::POST, "/ready", "GET"),
        (Method::POST, "/metrics", "GET"),
    ] {
        let answer = gateway.request(method, path, &key, Vec::new()).await;
        assert_problem(&answer, 405);
        assert!(
            answer.header("allow").contains(allowed),
            "{path}: {answer:?}"
        );
    }
}

#[tokio::test]
async fn internal_listen_moves_the_api_and_leaves_the_endpoint() {
    let gateway = Setup::default()
        .set("server.internal_listen", "127.0.0.1:0")
        .start()
        .await;
    let mut client = client_of(&gateway, "42", &[]).await;
    assert_eq!(gateway.publish(&["user:42"], json!(1)).await, 1);
    assert_eq!(client.json().await["payload"], 1);
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/internal/connections", "/health", "/ready", "/metrics"] {
        let url = format!("http://{}{path}", gateway.address);
        let answer = http
            .get(url)
            .header("x-api-key", API_KEY)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 404, "{path} is gone from the public port");
        assert_eq!(
            gateway.get_with_key(path).await.status,
            200,
            "{path} is on the internal port"
        );
    }
    assert_eq!(
        gateway.get("/ws").await.status,
        404,
        "clients have no business on the internal port"
    );
}

#[tokio::test]
async fn health_ready_and_metrics_need_no_key() {
    let gateway = Gateway::start().await;
    let health = gateway.get("/health").await;
    assert_eq!(
        (health.status.as_u16(), health.json()),
        (200, json!({"ok": true}))
    );
    let ready = gateway.get("/ready").await;
    assert_eq!(
        (ready.status.as_u16(), &ready.json()["ok"]),
        (200, &json!(true))
    );
    let metrics = gateway.get("/metrics").await;
    assert_eq!(metrics.status, 200);
    assert!(metrics.header("content-type").starts_with("text/plain"));
}

#[tokio::test]
async fn the_metrics_of_the_contract_are_there_and_count() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut client = client_of(&gateway, "42", &[]).await;
    client.send("{\"type\":\"chat\"}").await;
    client.round_trip().await;
    client_of(&gateway, "43", &[]).await.close(None).await;
    gateway.publish(&["user:42"], json!(1)).await;
    webhook.wait_for(4).await;
    gateway.wait_for_connections(1).await;
    gateway
        .wait_for_metric("webhook_publish_total", &[], 4.0)
        .await;
    let metrics = gateway.metrics().await;
    for name in [
        "ws_connections_total",
        "ws_disconnects_total",
        "ws_connections",
        "ws_messages_total",
        "ws_rate_limited_total",
        "publish_total",
        "broker_publish_total",
        "webhook_publish_total",
        "webhook_publish_failed_total",
    ] {
        assert!(
            metrics.contains(&format!("# HELP {name} ")),
            "{name} is explained in {metrics}"
        );
        let kind = if name == "ws_connections" {
            "gauge"
        } else {
            "counter"
        };
        assert!(
            metrics.contains(&format!("# TYPE {name} {kind}\n")),
            "{name}"
        );
    }
    for (name, value) in [
        ("ws_connections_total", 2.0),
        ("ws_disconnects_total", 1.0),
        ("ws_connections", 1.0),
        // Two round trips of client_of, the message, and one more round trip.
        ("ws_messages_total", 4.0),
        ("publish_total", 1.0),
    ] {
        assert_eq!(gateway.metric(name, &[]).await, value, "{name}");
    }
    for line in metrics.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let known = [
            "ws_",
            "wsgw_",
            "publish_total",
            "broker_publish_total",
            "webhook_publish_",
            "rabbitmq_replay_",
            "replay_api_",
            // What Prometheus' own libraries call these.
            "process_",
        ];
        assert!(
            known.iter().any(|known| name.starts_with(known)),
            "{name} has no prefix of its own"
        );
    }
    for own in ["wsgw_stage_duration_seconds", "wsgw_sink_duration_seconds"] {
        assert!(
            metrics.contains(&format!("# TYPE {own} histogram")),
            "{own}"
        );
    }
}
