//! Metrics: each is there from the start, moves when its cause happens, and no outsider can add to their number.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeSet;

use serde_json::json;
use support::client::Upgrade;
use support::reload::{pipeline, webhook_at};
use support::{Broker, Client, Gateway, Raw, Redis, Setup, Webhook, within};

/// The series of a text, without their values.
fn series(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(series, _)| series.to_owned())
        .collect()
}

/// Waits until a gauge has a value.
async fn wait_for_value(gateway: &Gateway, name: &str, label: &str, value: f64) {
    support::until(&format!("{name} {label} = {value}"), async || {
        let text = gateway.metrics().await;
        let mut found = text.lines().filter(|line| {
            line.strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(['{', ' ']) && rest.contains(label))
        });
        found.any(|line| line.ends_with(&format!(" {value}")))
    })
    .await;
}

#[tokio::test]
async fn what_can_be_known_is_there_before_anything_happens() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let found = series(&gateway.metrics().await);
    for wanted in [
        "ws_connections_total",
        "ws_disconnects_total",
        "ws_connections",
        "ws_messages_total",
        "ws_rate_limited_total",
        "publish_total",
        "broker_publish_total",
        "webhook_publish_total",
        "webhook_publish_failed_total",
        "rabbitmq_replay_total",
        "replay_api_requests_total",
        "replay_api_denied_total",
        "replay_api_rate_limited_total",
        "replay_api_idempotent_total",
        "replay_api_success_total",
        "replay_api_errors_total",
        r#"wsgw_auth_failures_total{reason="expired"}"#,
        r#"wsgw_auth_failures_total{reason="keys_unavailable"}"#,
        r#"wsgw_closes_total{code="1000"}"#,
        r#"wsgw_closes_total{code="4408"}"#,
        r#"wsgw_closes_total{code="other"}"#,
        r#"wsgw_upgrades_refused_total{reason="origin"}"#,
        r#"wsgw_pushes_dropped_total{reason="overflow"}"#,
        r#"wsgw_dead_letters_total{reason="exhausted",result="kept",sink="webhook"}"#,
        r#"wsgw_dead_letters_total{reason="shutdown",result="lost",sink="webhook"}"#,
        r#"wsgw_stage_ended_total{stage="ping_filter"}"#,
        r#"wsgw_stage_duration_seconds_count{stage="fan_out"}"#,
        r#"wsgw_sink_up{sink="webhook"}"#,
        r#"wsgw_sink_buffer_limit_events{sink="webhook"}"#,
        r#"wsgw_sink_oldest_event_age_seconds{sink="webhook"}"#,
        r#"wsgw_config_reloads_total{result="failure"}"#,
        "wsgw_config_last_reload_timestamp_seconds",
        "wsgw_config_last_reload_seconds",
        "wsgw_log_lines_suppressed_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
    ] {
        assert!(found.contains(wanted), "{wanted} is not among {found:#?}");
    }
    let version = format!(r#"version="{}""#, env!("CARGO_PKG_VERSION"));
    assert!((gateway.metric("wsgw_build_info", &[&version]).await - 1.0).abs() < 0.1);
    // What the kernel says is said as it is.
    #[expect(clippy::cast_precision_loss, reason = "no more than memory has bytes")]
    let resident = gateway.resident_bytes() as f64;
    let told = gateway.metric("process_resident_memory_bytes", &[]).await;
    assert!((told / resident - 1.0).abs() < 0.5, "{told} of {resident}");
    let started = gateway.metric("process_start_time_seconds", &[]).await;
    #[expect(clippy::cast_precision_loss, reason = "seconds")]
    let now = support::now() as f64;
    assert!((now - 600.0..=now + 2.0).contains(&started), "{started}");
    assert!(gateway.metric("process_open_fds", &[]).await >= 5.0);
    assert!(gateway.metric("process_threads", &[]).await >= 2.0);
}

#[tokio::test]
async fn refusals_count_by_cause_and_the_sink_goes_down_and_up() {
    let webhook = Webhook::obedient().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_RETRY_ATTEMPTS", 2)
        .env("WS_RATE_LIMIT_PER_SEC", 0.01)
        .env("WS_RATE_LIMIT_BURST", 4)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    assert_eq!(client.ask(r#"{"type":"ping"}"#).await, r#"{"type":"pong"}"#);
    for (status, reason) in [(400, "rejected"), (413, "too_large"), (503, "exhausted")] {
        client.send_json(&json!({"answer": status})).await;
        let labels = [&format!(r#"reason="{reason}""#)[..], "kept", "webhook"];
        gateway
            .wait_for_metric("wsgw_dead_letters_total", &labels, 1.0)
            .await;
        let up = f64::from(u8::from(status != 503));
        wait_for_value(&gateway, "wsgw_sink_up", r#"sink="webhook""#, up).await;
    }
    client.send_json(&json!({"answer": 204})).await;
    wait_for_value(&gateway, "wsgw_sink_up", r#"sink="webhook""#, 1.0).await;
    let refused = client.ask(r#"{"type":"chat"}"#).await;
    assert!(refused.contains("rate_limited"), "{refused}");
    for (stage, count) in [("ping_filter", 1.0), ("rate_limit", 1.0), ("fan_out", 0.0)] {
        let label = format!(r#"stage="{stage}""#);
        wait_for_value(&gateway, "wsgw_stage_ended_total", &label, count).await;
    }
    let denied = Upgrade::to(&gateway)
        .bearer("no.token.this")
        .open()
        .await
        .closed()
        .await;
    assert_eq!(denied.code, 4401);
    gateway
        .wait_for_metric("wsgw_auth_failures_total", &[], 1.0)
        .await;
    client.close(Some((1000, ""))).await;
    gateway
        .wait_for_metric("wsgw_closes_total", &[r#"code="1000""#], 1.0)
        .await;
    assert!(
        gateway
            .metric("wsgw_handshake_duration_seconds_count", &[])
            .await
            >= 2.0
    );
}

#[tokio::test]
async fn a_redis_that_goes_and_comes_back_shows() {
    let redis = Redis::start().await;
    for n in ["1", "2", "3"] {
        let added: String = redis.command("XADD", &["ws.dlq", "*", "raw", n]).await;
        assert!(!added.is_empty());
    }
    let gateway = Setup::default()
        .redis(redis.dsn())
        .set("transport.redis_stream.dsn", redis.dsn())
        .start()
        .await;
    let (broker, sink) = (r#"broker="redis""#, r#"sink="redis""#);
    wait_for_value(&gateway, "wsgw_broker_up", broker, 1.0).await;
    wait_for_value(&gateway, "wsgw_sink_up", sink, 1.0).await;
    wait_for_value(&gateway, "wsgw_source_lag", r#"source="redis""#, 0.0).await;
    wait_for_value(
        &gateway,
        "wsgw_dead_letter_queue_depth",
        r#"store="redis""#,
        3.0,
    )
    .await;
    assert!(
        (gateway
            .metric("wsgw_broker_connects_total", &[broker])
            .await
            - 1.0)
            .abs()
            < 0.1
    );
    redis.kill();
    wait_for_value(&gateway, "wsgw_broker_up", broker, 0.0).await;
    wait_for_value(&gateway, "wsgw_sink_up", sink, 0.0).await;
    let client = Client::connect(&gateway, "42").await;
    wait_for_value(&gateway, "wsgw_sink_buffer_events", sink, 1.0).await;
    support::until("an old event", async || {
        gateway
            .metric("wsgw_sink_oldest_event_age_seconds", &[sink])
            .await
            > 0.1
    })
    .await;
    redis.up().await;
    wait_for_value(&gateway, "wsgw_broker_up", broker, 1.0).await;
    wait_for_value(&gateway, "wsgw_sink_buffer_events", sink, 0.0).await;
    wait_for_value(&gateway, "wsgw_sink_oldest_event_age_seconds", sink, 0.0).await;
    wait_for_value(&gateway, "wsgw_sink_up", sink, 1.0).await;
    assert!(
        gateway
            .metric("wsgw_broker_connects_total", &[broker])
            .await
            >= 2.0
    );
    client.close(None).await;
}

#[tokio::test]
async fn pushes_that_are_not_read_are_counted_and_a_hanging_redis_holds_up_no_scrape() {
    let redis = Redis::start().await;
    // Everything but reading, so that the source stays where it is.
    let user = [
        "SETUSER", "lame", "on", ">secret", "~*", "&*", "+@all", "-xread",
    ];
    let _: String = redis.command("ACL", &user).await;
    let push = async |count: usize| {
        for _ in 0..count {
            redis.push("ws.outbox", &["user:42"], json!(1)).await;
        }
    };
    push(2).await;
    let gateway = Setup::default()
        .env("EVENTS_MODE", "none")
        .set(
            "transport.redis_stream.dsn",
            redis.dsn().replace("redis://", "redis://lame:secret@"),
        )
        .start_unready()
        .await;
    gateway.wait_for_log("source_interrupted", "xread").await;
    push(5).await;
    wait_for_value(&gateway, "wsgw_source_lag", r#"source="redis""#, 5.0).await;
    push(300).await;
    wait_for_value(&gateway, "wsgw_source_lag", r#"source="redis""#, 305.0).await;
    redis.freeze();
    // Whoever asks gets what is known at once; what is not known any more goes away.
    support::until("the lag to be unknown", async || {
        !gateway.metrics().await.contains("wsgw_source_lag{")
    })
    .await;
    redis.thaw();
}

#[tokio::test]
async fn a_rabbitmq_without_queues_shows() {
    let vhost = Broker::shared().vhost();
    let gateway = vhost.sink().start().await;
    let client = Client::connect(&gateway, "42").await;
    let labels = [
        r#"reason="returned""#,
        r#"result="kept""#,
        r#"sink="rabbitmq""#,
    ];
    gateway
        .wait_for_metric("wsgw_dead_letters_total", &labels, 1.0)
        .await;
    let store = r#"store="rabbitmq""#;
    wait_for_value(&gateway, "wsgw_dead_letter_queue_depth", store, 1.0).await;
    wait_for_value(&gateway, "wsgw_broker_up", r#"broker="rabbitmq""#, 1.0).await;
    wait_for_value(&gateway, "wsgw_sink_up", r#"sink="rabbitmq""#, 1.0).await;
    client.close(None).await;
    drop(gateway);
    let gateway = vhost.source().start().await;
    wait_for_value(&gateway, "wsgw_source_lag", r#"source="rabbitmq""#, 0.0).await;
    vhost
        .publish("ws.outbox", "ws.outbox", &["no push".to_owned()])
        .await;
    let labels = [
        r#"reason="malformed""#,
        r#"result="kept""#,
        r#"sink="rabbitmq""#,
    ];
    gateway
        .wait_for_metric("wsgw_dead_letters_total", &labels, 1.0)
        .await;
}

#[tokio::test]
async fn a_reload_shows_and_takes_what_is_gone_away() {
    let webhook = Webhook::start().await;
    let with = pipeline("", "- fan_out: {}", &webhook_at(&webhook.url(), ""));
    let gateway = Setup::default().yaml(&with).start().await;
    let sink = r#"{sink="webhook"}"#;
    assert!(
        gateway
            .metrics()
            .await
            .contains(&format!("wsgw_sink_up{sink} 1"))
    );
    let started = gateway
        .metric("wsgw_config_last_reload_timestamp_seconds", &[])
        .await;
    gateway.reload(&pipeline("", "- fan_out: {}", "")).await;
    let gauges = [
        "up",
        "buffer_events",
        "buffer_bytes",
        "buffer_limit_events",
        "oldest_event_age_seconds",
    ];
    let shown = async || {
        let text = gateway.metrics().await;
        gauges.map(|gauge| text.contains(&format!("wsgw_sink_{gauge}{sink}")))
    };
    assert_eq!(shown().await, [false; 5]);
    assert!(gateway.metric("wsgw_config_last_reload_seconds", &[]).await > 0.0);
    let reloaded = gateway
        .metric("wsgw_config_last_reload_timestamp_seconds", &[])
        .await;
    assert!(reloaded > started);
    gateway.reload(&with).await;
    assert_eq!(shown().await, [true; 5]);
    gateway.write_pipeline("snoke_ws: { stages: [");
    gateway.hang_up("reload_failed").await;
    assert!(
        gateway
            .metric("wsgw_config_last_reload_successful", &[])
            .await
            < 0.5
    );
    assert!(
        gateway
            .metric("wsgw_config_last_reload_timestamp_seconds", &[])
            .await
            > reloaded
    );
}

#[tokio::test]
async fn no_outsider_can_add_series_without_end() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    // It is shown a moment after somebody first asks.
    wait_for_value(&gateway, "wsgw_dead_letter_queue_depth", "file", 0.0).await;
    let hostile = async |round: usize| {
        for n in 0..20 {
            let name = format!("canary-{round}-{n}\"}}\\n{{");
            let mut client = Client::connect(&gateway, &name).await;
            client
                .send_json(&json!({"type": name, "topic": name, "id": name}))
                .await;
            let push = gateway
                .publish(&[&format!("user:{name}")], json!(name))
                .await;
            assert_eq!(push, 1);
            let code = 3000 + u16::try_from(round * 100 + n).unwrap();
            client.close(Some((code, "canary"))).await;
            let mut raw = Raw::upgraded(&gateway, &name).await;
            // A close code that nobody may send.
            raw.frame(0x88, &(u16::try_from(n).unwrap() + 1014).to_be_bytes())
                .await;
            raw.finish().await;
            for path in [
                format!("/canary-{round}-{n}"),
                format!("/internal/canary-{round}-{n}"),
                format!("/internal/users/canary-{round}-{n}/connections"),
            ] {
                gateway.get_with_key(&path).await;
            }
            let method = reqwest::Method::from_bytes(format!("CANARY{n}").as_bytes()).unwrap();
            gateway
                .request(
                    method,
                    "/internal/publish",
                    &[("x-api-key", "canary")],
                    Vec::new(),
                )
                .await;
            Upgrade::to(&gateway)
                .header("origin", format!("https://canary-{n}"))
                .bearer("canary")
                .open()
                .await
                .closed()
                .await;
        }
        within("all to leave", gateway.wait_for_connections(0)).await;
        series(&gateway.metrics().await)
    };
    let first = hostile(0).await;
    let second = hostile(1).await;
    let more: Vec<_> = second.difference(&first).collect();
    assert!(more.is_empty(), "the second round added {more:?}");
    let text = gateway.metrics().await;
    assert!(!text.to_lowercase().contains("canary"), "{text}");
    assert!(second.len() < 600, "{} series", second.len());
}
