//! Routes, stages with conditions and the stage `set`, with a real webhook and a real Redis.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use serde_json::{Value, json};
use support::client::Upgrade;
use support::tokens::claims;
use support::{Client, Gateway, Redis, Setup, Webhook, now, signed};

const ROUTED: &str = include_str!("../pipelines/routed.yaml");

/// What events say in `n`, or are.
fn told(events: &[Value]) -> Vec<Value> {
    let tell = |event: &Value| match &event["message"]["n"] {
        Value::Null => event["type"].clone(),
        n => n.clone(),
    };
    events.iter().map(tell).collect()
}

/// A pipeline with these stages above these routes, to the webhook and to Redis.
fn setup(stages: &[Value], fan_out: &Value, webhook: &Webhook, redis: &Redis) -> Setup {
    let mut all = vec![
        json!({"auth": {"jwt": {"public_key_file": support::in_crate("tests/keys/rsa.pub.pem")}}}),
        json!({"ping_filter": {}}),
    ];
    all.extend_from_slice(stages);
    all.push(json!({ "fan_out": fan_out }));
    let file = json!({"snoke_ws": {
        "mode": "core",
        "server": {"listen": "127.0.0.1:0", "api_key": "${GATEWAY_API_KEY}"},
        "stages": all,
        "events": {"webhook": {"url": webhook.url()}, "redis_stream": {"dsn": redis.dsn()}},
    }});
    // JSON is YAML.
    Setup::default().yaml(file.to_string())
}

async fn connect(gateway: &Gateway, user: &str, others: Value) -> Client {
    Client::with_token(gateway, &signed(claims(user, others))).await
}

#[tokio::test]
async fn the_shipped_pipeline_sends_each_event_where_it_is_needed() {
    let (webhook, redis) = (Webhook::start().await, Redis::start().await);
    let gateway = Setup::default()
        .yaml(ROUTED)
        .webhook(&webhook)
        .env("REDIS_DSN", redis.dsn())
        .env("ORDERING_STRATEGY", "none")
        .start()
        .await;
    let mut client = connect(&gateway, "1", json!({"tenant": "acme"})).await;
    for message in [
        json!({"type": "chat", "n": 1}),
        json!({"type": "typing", "n": 2}),
        json!({"type": "order", "n": 3, "payload": {"total": null}}),
        json!({"type": "order", "n": 4, "payload": {}}),
        json!({"type": "payment", "n": 5, "payload": {"total": 9}}),
    ] {
        client.send_json(&message).await;
    }
    client.close(Some((1000, ""))).await;
    // Between two connections only what has arrived comes first.
    redis.wait_for_events("ws.events", 2).await;
    redis.wait_for_events("ws.inbox", 4).await;
    let mut support = connect(&gateway, "2", json!({"roles": ["x", "support"]})).await;
    support.send_json(&json!({"type": "chat", "n": 6})).await;
    support.send_json(&json!({"type": "typing", "n": 7})).await;
    support.send("no object").await;
    support.close(Some((1000, ""))).await;
    let inbox = redis.wait_for_events("ws.inbox", 6).await;
    assert_eq!(
        told(&inbox),
        [
            json!(1),
            json!(3),
            json!(4),
            json!(5),
            json!(6),
            json!("message_received")
        ]
    );
    assert_eq!(
        inbox.iter().map(|event| &event["seq"]).collect::<Vec<_>>(),
        [2, 4, 5, 6, 2, 4],
        "what went elsewhere has its number, too"
    );
    let lifecycle = redis.wait_for_events("ws.events", 4).await;
    assert_eq!(
        told(&lifecycle),
        ["connected", "disconnected", "connected", "disconnected"]
    );
    let tenants: Vec<_> = lifecycle.iter().map(|event| &event["tenant"]).collect();
    assert_eq!(tenants, ["acme", "acme", "public", "public"]);
    let posted = webhook.wait_for(4).await;
    let mut posted = told(&posted);
    posted.sort_by_key(ToString::to_string);
    assert_eq!(
        posted,
        [json!("message_received"), json!(3), json!(5), json!(6)]
    );
    assert!(
        gateway.metric("wsgw_unrouted_total", &[]).await < 0.5,
        "nowhere was meant"
    );
}

#[tokio::test]
async fn the_first_route_counts_or_all_and_what_goes_nowhere_is_counted() {
    for (which, webhook_gets, redis_gets) in [
        ("first", [1, 4].as_slice(), [2, 3].as_slice()),
        ("all", &[1, 2, 4], &[1, 2, 3]),
    ] {
        let (webhook, redis) = (Webhook::start().await, Redis::start().await);
        let fan_out = json!({
            "events_mode": "both",
            "route_match": which,
            "routes": [
                {"when": {"event": "connected"}, "to": ["redis"]},
                {"when": {"json": {"/n": {"in": [1, 4.0]}}}, "to": ["webhook"]},
                {"when": {"json": {"/n": {"equals": 2}}, "any": [{"subject": "user:*"}]}, "to": ["redis"]},
                {"when": {"json": {"/n": {"matches": "^3$"}}}, "to": ["redis"]},
                {"when": {"type": ["a", "b"]}, "to": ["redis"]},
                {"when": {"type": "a", "json": {"/n": {"equals": 2}}}, "to": ["webhook"]},
            ],
        });
        let gateway = setup(&[], &fan_out, &webhook, &redis).start().await;
        let mut client = connect(&gateway, "1", json!({})).await;
        for message in [
            json!({"n": 1, "type": "a"}),
            json!({"n": 2, "type": "a"}),
            json!({"n": 3, "type": "b"}),
            json!({"n": 5, "type": "c"}),
            json!({"n": 4, "type": "d"}),
        ] {
            client.send_json(&message).await;
        }
        client.close(Some((1000, ""))).await;
        gateway
            .wait_for_metric("wsgw_unrouted_total", &[], 2.0)
            .await;
        let posted = webhook.wait_for(webhook_gets.len()).await;
        assert_eq!(told(&posted), webhook_gets, "{which}");
        let inbox = redis.wait_for_events("ws.inbox", redis_gets.len()).await;
        assert_eq!(told(&inbox), redis_gets, "{which}");
        assert_eq!(told(&redis.events("ws.events").await), ["connected"]);
        let unrouted = gateway.metric("wsgw_unrouted_total", &[]).await;
        assert!(
            (unrouted - 2.0).abs() < 0.5,
            "n 5 and disconnected: {unrouted}"
        );
    }
}

#[tokio::test]
async fn two_limits_count_apart_and_other_messages_pass_by() {
    let (webhook, redis) = (Webhook::start().await, Redis::start().await);
    let limit = |kind: &str, burst: u32| json!({"rate_limit": {"per_second": 0.001, "burst": burst, "when": {"type": kind}}});
    let stages = [limit("a", 1), limit("b", 2)];
    let fan_out = json!({"events_mode": "webhook"});
    let gateway = setup(&stages, &fan_out, &webhook, &redis).start().await;
    let mut client = connect(&gateway, "1", json!({})).await;
    let mut refused = Vec::new();
    for (n, kind) in ["a", "b", "a", "c", "b", "c", "b", "c", "a"]
        .iter()
        .enumerate()
    {
        client.send_json(&json!({"type": kind, "n": n})).await;
        // The answer to the ping comes after that to the message, if there is one.
        if client.ask(r#"{"type":"ping"}"#).await == r#"{"type":"rate_limited"}"# {
            assert_eq!(client.text().await, r#"{"type":"pong"}"#);
            refused.push(n);
        }
    }
    assert_eq!(refused, [2, 6, 8]);
    let posted = webhook.wait_for(7).await;
    assert_eq!(told(&posted[1..]), [0, 1, 3, 4, 5, 7]);
    let limited = gateway.metric("ws_rate_limited_total", &[]).await;
    assert!((limited - 3.0).abs() < 0.5, "{limited}");
    let text = gateway.metrics().await;
    let durations = text.lines().filter(|line| {
        line.starts_with("wsgw_stage_duration_seconds_count") && line.contains("rate_limit")
    });
    assert_eq!(durations.count(), 1, "one label for both: their name");
}

#[tokio::test]
async fn a_stage_with_a_condition_keeps_the_order() {
    const MESSAGES: usize = 500;
    let (webhook, redis) = (Webhook::start().await, Redis::start().await);
    let ordering = |kind: &str| json!({"trace": {"strategy": "full", "when": {"type": kind}}});
    let stages = [
        ordering("a"),
        json!({"set": {"fields": {"b": {"value": true}}, "when": {"type": "b"}}}),
    ];
    let fan_out = json!({"events_mode": "broker"});
    let gateway = setup(&stages, &fan_out, &webhook, &redis).start().await;
    let mut client = connect(&gateway, "1", json!({})).await;
    for n in 0..MESSAGES {
        let kind = ["a", "b", "c"][n % 3];
        client.feed(json!({"type": kind, "n": n}).to_string()).await;
    }
    client.flush().await;
    let inbox = redis.wait_for_events("ws.inbox", MESSAGES).await;
    for (n, event) in inbox.iter().enumerate() {
        assert_eq!(
            (&event["message"]["n"], &event["seq"]),
            (&json!(n), &json!(n + 2))
        );
        assert_eq!(event.get("traceparent").is_some(), n % 3 == 0, "{event}");
        assert_eq!(event.get("b").is_some(), n % 3 == 1, "{event}");
    }
}

#[tokio::test]
async fn fields_come_from_claims_headers_and_constants() {
    let (webhook, redis) = (Webhook::start().await, Redis::start().await);
    let stages = [json!({"set": {"fields": {
        "tenant": {"claim": "/org/tenant"},
        "level": {"claim": "/level", "default": 0},
        "client": {"header": "X-Client"},
        "region": {"header": "X-Region", "default": "eu"},
        "stack": {"value": {"name": "blue", "list": [1, null]}},
        "missing": {"claim": "/missing"},
    }}})];
    let fan_out = json!({
        "events_mode": "both",
        "routes": [
            {"when": {"claim": {"/level": {"in": [2, 3]}}}, "to": ["redis"]},
            {"when": {"header": {"x-client": {"matches": "^app/"}}}, "to": ["webhook"]},
            {"to": []},
        ],
    });
    let gateway = setup(&stages, &fan_out, &webhook, &redis).start().await;
    let token = |level: u32| {
        let others = json!({"org": {"tenant": "acme"}, "level": level, "exp": now() + 600});
        signed(claims("1", others))
    };
    let mut client = Upgrade::to(&gateway)
        .bearer(&token(1))
        .header("X-Client", "app/1 \"beta\"")
        .open()
        .await;
    client.send_json(&json!({"n": 1})).await;
    let renewal = json!({"type": "auth", "token": token(2)});
    assert_eq!(
        client.ask(renewal.to_string()).await,
        r#"{"type":"auth_ok"}"#
    );
    client.send_json(&json!({"n": 2})).await;
    // A refused token changes nothing.
    let refused = json!({"type": "auth", "token": signed(json!({"user_id": "2", "level": 9}))});
    assert_eq!(
        client.ask(refused.to_string()).await,
        r#"{"type":"auth_error"}"#
    );
    client.send_json(&json!({"n": 3})).await;
    client.close(Some((1000, ""))).await;
    let inbox = redis.wait_for_events("ws.inbox", 2).await;
    let ends = redis.wait_for_events("ws.events", 1).await;
    let posted = webhook.wait_for(2).await;
    assert_eq!(told(&posted), [json!("connected"), json!(1)]);
    assert_eq!(told(&inbox), [2, 3]);
    assert_eq!(
        told(&ends),
        ["disconnected"],
        "the newest token counts for it, too"
    );
    for (event, level) in posted
        .iter()
        .map(|event| (event, 1))
        .chain(inbox.iter().chain(&ends).map(|event| (event, 2)))
    {
        assert_eq!(event["tenant"], "acme");
        assert_eq!(event["level"], level);
        assert_eq!(event["client"], "app/1 \"beta\"");
        assert_eq!(event["region"], "eu");
        assert_eq!(event["stack"], json!({"name": "blue", "list": [1, null]}));
        assert!(event.get("missing").is_none());
    }
    let schema: Value = serde_json::from_str(include_str!("../schemas/event.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    for event in posted.iter().chain(&inbox).chain(&ends) {
        assert!(schema.is_valid(event), "{event}");
    }
}
