//! What each call answers.

use serde_json::json;

use super::*;
use crate::close::code;

#[tokio::test]
async fn publish_queues_the_payload_as_written() {
    let api = Api::new();
    let first = api.connect("1", &["user:1", "room"]);
    api.connect("2", &["user:2", "room"]);
    let body = r#"{"subjects":["room","user:1","nobody"],
                   "payload": {"n": 1.0, "big": 12345678901234567890123},
                   "traceparent": 7, "more": [true]}"#;
    let answer = api.publish(body).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"sent": 2})));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(
        first.outbox().pop(api.registry.limits()).unwrap().as_str(),
        r#"{"type":"event","payload":{"n": 1.0, "big": 12345678901234567890123}}"#
    );
    let nobody = api
        .publish(r#"{"subjects":["nobody"],"payload":null}"#)
        .await;
    assert_eq!((nobody.status, nobody.json()), (200, json!({"sent": 0})));
}

#[tokio::test]
async fn publish_names_the_field_that_is_wrong() {
    let api = Api::new();
    for (body, detail) in [
        ("", "the body is empty, expected a JSON object"),
        ("[]", "the body must be a JSON object, found an array"),
        ("{}", "`subjects`: missing"),
        (r#"{"payload":1}"#, "`subjects`: missing"),
        (r#"{"subjects":["a"]}"#, "`payload`: missing"),
        (
            r#"{"subjects":[],"payload":1}"#,
            "`subjects`: must not be empty",
        ),
        (
            r#"{"subjects":"a","payload":1}"#,
            "`subjects`: expected an array, found a string",
        ),
        (
            r#"{"subjects":null,"payload":1}"#,
            "`subjects`: expected an array, found null",
        ),
        (
            r#"{"subjects":["a",5],"payload":1}"#,
            "`subjects[1]`: expected a string, found a number",
        ),
        (
            r#"{"subjects":["a","b"," \t"],"payload":1}"#,
            "`subjects[2]`: must not be blank",
        ),
        (
            r#"{"subjects":["a"," "],"payload":1}"#,
            "`subjects[1]`: must not be blank",
        ),
    ] {
        let told = api.publish(body).await.problem(400);
        assert_eq!(told, detail, "{body}");
    }
    let syntax = api
        .publish("{\"subjects\":[\"a\"],\n \"payload\":}")
        .await
        .problem(400);
    assert_eq!(
        syntax,
        "the body is not valid JSON: expected value at line 2 column 12"
    );
    let twice = api
        .publish(r#"{"subjects":["a"],"payload":1,"payload":2}"#)
        .await
        .problem(400);
    assert!(twice.starts_with("`payload`: appears twice"), "{twice}");
    assert!(
        api.publish(b"{\"payload\":\"\xff\"}")
            .await
            .problem(400)
            .contains("UTF-8")
    );
}

#[tokio::test]
async fn publish_takes_ten_thousand_subjects_and_no_more() {
    let api = Api::new();
    api.set_config(config(KEY, 1_000_000));
    let body = |n| json!({"subjects": vec!["a"; n], "payload": 1}).to_string();
    assert_eq!(api.publish(body(MAX_SUBJECTS)).await.status, 200);
    let detail = api.publish(body(MAX_SUBJECTS + 1)).await.problem(400);
    assert_eq!(detail, "`subjects`: has 10001 items, 10000 are allowed");
}

#[tokio::test]
async fn disconnect_closes_by_each_selector() {
    let api = Api::new();
    let one = api.connect("42", &["user:42"]);
    let two = api.connect("42", &["user:42", "room"]);
    let three = api.connect("7", &["room"]);
    let call = async |body: Value| {
        let answer = api
            .call("POST", "/internal/disconnect", body.to_string())
            .await;
        assert_eq!(answer.status, 200, "{:?}", answer.json());
        answer.json()
    };
    let id = one.id().to_string();
    let reason = "é".repeat(100);
    assert_eq!(
        call(json!({"connection_id": id, "reason": reason})).await,
        json!({"disconnected": 1})
    );
    let close = one.outbox().close_asked().unwrap();
    assert_eq!((close.code, close.reason.len()), (code::DISCONNECTED, 122));
    assert_eq!(
        call(json!({"user_id": 42, "subject": null, "reason": null})).await,
        json!({"disconnected": 1})
    );
    assert_eq!(
        two.outbox().close_asked().unwrap().reason,
        "disconnected by the backend"
    );
    assert_eq!(
        call(json!({"subject": "room"})).await,
        json!({"disconnected": 1})
    );
    assert!(three.outbox().close_asked().is_some());
    assert_eq!(
        call(json!({"user_id": "nobody"})).await,
        json!({"disconnected": 0})
    );
}

#[tokio::test]
async fn disconnect_takes_exactly_one_selector() {
    let api = Api::new();
    for (body, detail) in [
        ("{}", "exactly one"),
        (r#"{"user_id":null}"#, "exactly one"),
        (r#"{"user_id":"1","subject":"a"}"#, "exactly one"),
        (
            r#"{"user_id":1.5}"#,
            "`user_id`: expected a string or an integer",
        ),
        (r#"{"user_id":""}"#, "`user_id`: must not be blank"),
        (
            r#"{"subject":7}"#,
            "`subject`: expected a string, found a number",
        ),
        (
            r#"{"connection_id":"7"}"#,
            "`connection_id`: expected a UUID",
        ),
        (
            r#"{"connection_id":7}"#,
            "`connection_id`: expected a string, found a number",
        ),
        (
            r#"{"user_id":"1","reason":{}}"#,
            "`reason`: expected a string, found an object",
        ),
    ] {
        let told = api
            .call("POST", "/internal/disconnect", body)
            .await
            .problem(400);
        assert!(told.starts_with(detail), "{body}: {told}");
    }
}

#[tokio::test]
async fn connections_are_listed_filtered_and_paged() {
    let api = Api::new();
    for user in ["a/b ü", "2", "2"] {
        api.connect(user, &["room", &format!("user:{user}")]);
    }
    let list = async |uri: &str| {
        let answer = api.call("GET", uri, "").await;
        assert_eq!(answer.status, 200, "{uri}");
        answer.json()
    };
    let count = |page: &Value| page["connections"].as_array().unwrap().len();
    let all = list("/internal/connections").await;
    assert_eq!(count(&all), 3);
    assert!(all.get("next_cursor").is_none());
    let keys: Vec<_> = all["connections"][0].as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "connection_id",
            "user_id",
            "subjects",
            "connected_at",
            "last_seen_at"
        ]
    );

    assert_eq!(count(&list("/internal/connections?user_id=2&x=1").await), 2);
    assert_eq!(
        count(&list("/internal/connections?subject=user%3A2").await),
        2
    );
    assert_eq!(
        count(&list("/internal/connections?subject=room&user_id=3").await),
        0
    );
    assert_eq!(count(&list("/internal/users/2/connections").await), 2);
    assert_eq!(
        count(&list("/internal/users/2/connections?user_id=9&limit=1").await),
        1
    );
    assert_eq!(
        count(&list("/internal/users/a%2Fb%20%C3%BC/connections").await),
        1
    );

    let first = list("/internal/connections?limit=9&limit=2").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = list(&format!("/internal/connections?limit=2&cursor={cursor}")).await;
    assert_eq!((count(&first), count(&rest)), (2, 1));

    for (uri, field) in [
        ("/internal/connections?limit=0", "`limit`"),
        ("/internal/connections?cursor=x", "`cursor`"),
        ("/internal/users/1/connections?limit=10001", "`limit`"),
        ("/internal/users/%FF/connections", "`user_id`"),
    ] {
        let told = api.call("GET", uri, "").await.problem(400);
        assert!(told.starts_with(field), "{uri}: {told}");
    }
    api.lose_presence();
    let told = api
        .call("GET", "/internal/connections", "")
        .await
        .problem(503);
    assert!(!told.contains("refused"), "{told}");
}

#[tokio::test]
async fn health_ready_and_metrics_need_no_key() {
    let api = Api::new();
    api.connect("1", &[]);
    let get = async |path: &str| api.send("GET", path, &[], b"").await;
    assert_eq!(get("/health").await.json(), json!({"ok": true}));
    assert_eq!(
        get("/ready").await.json(),
        json!({"ok": true, "checks": {"gateway": "ok"}})
    );
    api.state
        .readiness()
        .set_check("redis", Err("connection refused".into()));
    let down = get("/ready").await;
    assert_eq!(down.status, 503);
    let checks = json!({"gateway": "ok", "redis": "connection refused"});
    assert_eq!(down.json(), json!({"ok": false, "checks": checks}));
    api.state.readiness().set_check("redis", Ok(()));
    api.state.readiness().set_phase(Phase::Draining);
    let checks = json!({"gateway": "draining", "redis": "ok"});
    assert_eq!(
        get("/ready").await.json(),
        json!({"ok": false, "checks": checks})
    );
    assert_eq!(get("/health").await.status, 200);

    let metrics = get("/metrics").await;
    assert_eq!(
        metrics.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("ws_connections_total") && text.contains("wsgw_outbox_waiting 0"));
    assert!(
        text.contains("\nwsgw_ready 0\n"),
        "a gateway that drains is not ready"
    );
}

#[tokio::test]
async fn calls_are_counted_by_template() {
    let api = Api::new();
    api.call("GET", "/internal/users/7/connections", "").await;
    api.call("GET", "/internal/users/8/connections", "").await;
    api.call("GET", "/internal/secret", "").await;
    let count = |route, status| {
        api.metrics
            .api_requests_total
            .with_label_values(&[route, status])
            .get()
    };
    assert_eq!(count("/internal/users/{user_id}/connections", "200"), 2);
    assert_eq!(count("unknown", "404"), 1);
}

proptest::proptest! {
    #[test]
    fn any_body_is_answered_in_json(body: Vec<u8>) {
        answers_in_json(&body);
    }

    #[test]
    fn any_almost_right_body_is_answered_in_json(
        body in r#"\{("(subjects|payload|api_key|user_id|reason)": ?(\["?.?"?,?\]|"[^"]?"|-?[0-9.e]{1,3}|null|\{\}),? ?){0,4}\}?"#
    ) {
        answers_in_json(body.as_bytes());
    }
}

fn answers_in_json(body: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let api = Api::new();
        for path in ["/internal/publish", "/internal/disconnect"] {
            let answer = api.call("POST", path, body).await;
            if answer.status != 200 {
                answer.problem(if body.len() > LIMIT { 413 } else { 400 });
            }
            assert!(answer.json().is_object());
            let unkeyed = api.send("POST", path, &[], body).await;
            unkeyed.problem(if body.len() > LIMIT { 413 } else { 401 });
        }
    });
}
