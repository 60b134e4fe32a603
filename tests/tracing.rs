//! Traces: a real collector gets the gateway's spans, with the right parents, and its absence is noticed by nobody else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use serde_json::{Value, json};
use support::client::Upgrade;
use support::collector::{Answer, Collector, Seen};
use support::reload::{pipeline, webhook_at};
use support::tokens::claims;
use support::{
    API_KEY, Broker, Client, Gateway, Redis, Reply, Setup, Webhook, eventually, free_port, signed,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const PARENT_SPAN: &str = "00f067aa0ba902b7";

const SERVER: i32 = 2;
const CLIENT: i32 = 3;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// Every message is traced, and its spans are exported at once.
fn traced(setup: Setup, endpoint: impl ToString) -> Setup {
    setup
        .env("TRACING_STRATEGY", "full")
        .env("TRACING_EXPORTER", "otlp")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .set("tracing.batch_seconds", "0.05")
}

fn to_webhook(webhook: &Webhook, collector: &Collector) -> Setup {
    traced(Setup::default().webhook(webhook), collector.url())
}

/// Whether the spans of a message's children fit in time: none begins before its parent, nor ends before it begins.
fn assert_in_time(parent: &Seen, child: &Seen) {
    assert!(child.span.start_time_unix_nano >= parent.span.start_time_unix_nano);
    for span in [parent, child] {
        assert!(span.span.end_time_unix_nano >= span.span.start_time_unix_nano);
    }
}

#[tokio::test]
async fn a_message_and_its_webhook_are_one_trace_by_either_protocol() {
    for (collector, protocol) in [
        (Collector::http().await, "http/protobuf"),
        (Collector::grpc().await, "grpc"),
    ] {
        let webhook = Webhook::start().await;
        let gateway = to_webhook(&webhook, &collector)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .env("OTEL_SERVICE_NAME", "edge")
            .env(
                "OTEL_RESOURCE_ATTRIBUTES",
                "deployment.environment.name=test",
            )
            .env("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=one%20two")
            .start()
            .await;
        let mut client = Client::connect(&gateway, "42").await;
        client
            .send_json(&json!({"type": "chat", "traceparent": PARENT}))
            .await;
        let requests = webhook.wait_for_requests(2).await;
        let message = collector.wait_for("ws.message", 1).await.remove(0);
        let published = collector.wait_for("webhook.publish", 2).await;
        assert_eq!((message.kind, &*message.trace_id), (SERVER, TRACE));
        assert_eq!(message.parent, PARENT_SPAN);
        assert_eq!(message.span.flags, 0x301, "its parent is elsewhere");
        let event = requests[1].event();
        for (key, value) in [
            ("wsgw.event.type", "message_received"),
            ("wsgw.event.seq", "2"),
            ("wsgw.outcome", "published"),
            ("network.protocol.name", "websocket"),
            (
                "wsgw.connection.id",
                event["connection_id"].as_str().unwrap(),
            ),
        ] {
            assert_eq!(message.attribute(key), value, "{key}");
        }
        let of = |trace: &str| {
            let mut spans = published.iter().filter(|span| span.trace_id == trace);
            spans.next().unwrap()
        };
        let publish = of(TRACE);
        assert_eq!((publish.kind, &publish.parent), (CLIENT, &message.span_id));
        assert_eq!(publish.span.flags, 0x101);
        assert_in_time(&message, publish);
        assert_eq!(requests[1].header("traceparent"), publish.traceparent());
        assert_eq!(event["traceparent"], publish.traceparent());
        assert_eq!(event["trace_id"], TRACE);
        for (key, value) in [
            ("http.request.method", "POST"),
            ("url.full", &*webhook.url()),
            ("server.address", "127.0.0.1"),
            ("server.port", &*webhook.address().port().to_string()),
            ("http.response.status_code", "204"),
            ("messaging.message.id", event["event_id"].as_str().unwrap()),
        ] {
            assert_eq!(publish.attribute(key), value, "{key}");
        }
        let connected = collector.wait_for("ws.connected", 1).await.remove(0);
        assert_eq!((connected.kind, &*connected.parent), (SERVER, ""));
        assert_eq!(connected.attribute("http.response.status_code"), "101");
        let publish = of(&connected.trace_id);
        assert_eq!(publish.parent, connected.span_id);
        assert_eq!(requests[0].header("traceparent"), publish.traceparent());
        for (key, value) in [
            ("service.name", "edge"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("deployment.environment.name", "test"),
        ] {
            assert_eq!(connected.resource[key], value, "{key}");
        }
        assert!(collector.headers()[0].contains("x-tenant: one two\n"));
        client.close(Some((1000, ""))).await;
        let last = webhook.wait_for_requests(3).await.remove(2);
        let publish = collector
            .wait_for_one("the last event's span", |span| {
                last.header("traceparent") == span.traceparent()
            })
            .await;
        assert_eq!(publish.parent, connected.span_id, "of the same connection");
        gateway
            .wait_for_metric("wsgw_spans_exported_total", &[], 5.0)
            .await;
        assert_eq!(gateway.metric("wsgw_spans_dropped_total", &[]).await, 0.0);
    }
}

#[tokio::test]
async fn each_try_of_a_webhook_is_a_span() {
    let collector = Collector::http().await;
    let webhook =
        Webhook::scripted(|request| Reply::Status(if request.earlier == 0 { 503 } else { 204 }))
            .await;
    let gateway = to_webhook(&webhook, &collector).start().await;
    let _client = Client::connect(&gateway, "42").await;
    let requests = webhook.wait_for_requests(2).await;
    let spans = collector.wait_for("webhook.publish", 2).await;
    for (request, (span, status)) in requests.iter().zip(spans.iter().zip(["503", "204"])) {
        assert_eq!(request.header("traceparent"), span.traceparent());
        assert_eq!(span.attribute("http.response.status_code"), status);
    }
    assert!(spans[0].failed && !spans[1].failed);
    assert_eq!(spans[0].attribute("error.type"), "503");
    assert_eq!(spans[0].parent, spans[1].parent);
    assert_ne!(spans[0].span_id, spans[1].span_id);
}

#[tokio::test]
async fn every_sink_and_every_source_has_its_span() {
    let collector = Collector::http().await;
    let (webhook, redis) = (Webhook::start().await, Redis::start().await);
    let vhost = Broker::shared().vhost();
    let setup = Setup::default()
        .yaml(include_str!("../pipelines/both.yaml"))
        .webhook(&webhook)
        .env("REDIS_DSN", redis.dsn())
        .env("RABBITMQ_DSN", vhost.dsn())
        .env("RABBITMQ_INBOX_QUEUE", "inbox")
        .env("RABBITMQ_EVENTS_QUEUE", "events");
    let gateway = traced(setup, collector.url()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client
        .send_json(&json!({"type": "chat", "meta": {"traceparent": PARENT}}))
        .await;

    let message = collector.wait_for("ws.message", 1).await.remove(0);
    assert_eq!((&*message.trace_id, &*message.parent), (TRACE, PARENT_SPAN));
    let child = |what: &str, system: &'static str| {
        let (what, parent) = (what.to_owned(), message.span_id.clone());
        let collector = &collector;
        async move {
            let fits =
                |span: &Seen| span.parent == parent && span.attribute("messaging.system") == system;
            collector.wait_for_one(&what, fits).await
        }
    };
    let by_webhook = child("the webhook's span", "").await;
    let by_redis = child("Redis' span", "redis").await;
    let by_rabbitmq = child("RabbitMQ's span", "rabbitmq").await;
    assert_eq!(by_webhook.name, "webhook.publish");
    for (span, name) in [(&by_redis, "ws.inbox"), (&by_rabbitmq, "ws.inbox:ws.inbox")] {
        assert_eq!((&*span.name, span.kind), ("broker.publish", PRODUCER));
        assert_eq!(span.attribute("messaging.destination.name"), name);
        assert_eq!(span.attribute("messaging.operation.type"), "send");
        assert_in_time(&message, span);
    }
    let port = redis.port().to_string();
    assert_eq!(by_redis.attribute("server.port"), port);

    // What consumers read names the span of the sink that they read it from.
    let in_redis = redis.wait_for_events("ws.inbox", 1).await.remove(0);
    assert_eq!(in_redis["traceparent"], by_redis.traceparent());
    let in_rabbitmq = vhost.take_count("inbox", 1).await.remove(0);
    assert_eq!(
        in_rabbitmq.headers()["traceparent"],
        by_rabbitmq.traceparent()
    );
    let posted = eventually("the message by webhook", || {
        let requests = webhook.received();
        let is_message = |event: Value| event["type"] == "message_received";
        requests
            .into_iter()
            .find(|request| is_message(request.event()))
    })
    .await;
    assert_eq!(posted.header("traceparent"), by_webhook.traceparent());
    let id = in_redis["event_id"].as_str().unwrap();
    for span in [&by_webhook, &by_redis, &by_rabbitmq] {
        assert_eq!(span.attribute("messaging.message.id"), id);
    }

    // The other way, each push with a context of its own.
    let context = |n: u8| (format!("{n:032x}"), format!("00-{n:032x}-{n:016x}-01"));
    let push = |n: u8| {
        let (_, traceparent) = context(n);
        json!({"subjects": ["user:42"], "payload": n, "traceparent": traceparent}).to_string()
    };
    let _: String = redis
        .command("XADD", &["ws.outbox", "*", "data", &push(1)])
        .await;
    vhost.publish("ws.outbox", "ws.outbox", &[push(2)]).await;
    gateway.post_text("/internal/publish", &push(3)).await;
    for (n, name, kind) in [
        (1, "ws.outbox.redis", CONSUMER),
        (2, "ws.outbox.rabbitmq", CONSUMER),
        (3, "ws.publish.http", SERVER),
    ] {
        let (trace_id, _) = context(n);
        let span = collector
            .wait_for_one(name, |span| span.trace_id == trace_id)
            .await;
        assert_eq!((&*span.name, span.kind), (name, kind));
        assert_eq!(span.parent, format!("{n:016x}"));
        assert_eq!(span.attribute("wsgw.push.connections"), "1");
    }
    let header = [
        ("traceparent", PARENT.to_owned()),
        ("x-api-key", API_KEY.to_owned()),
    ];
    let mut request = reqwest::Client::new()
        .post(format!("{}/internal/publish", gateway.api_url()))
        .json(&json!({"subjects": ["user:0"], "payload": 4, "traceparent": "00-bad"}));
    for (name, value) in header {
        request = request.header(name, value);
    }
    assert_eq!(request.send().await.unwrap().status(), 200);
    let span = collector
        .wait_for_one("the push by header", |span| {
            span.name == "ws.publish.http" && span.trace_id == TRACE
        })
        .await;
    assert_eq!(span.parent, PARENT_SPAN);
    assert_eq!(span.attribute("wsgw.push.connections"), "0");
    assert_eq!(span.attribute("http.response.status_code"), "200");
}

/// Sends messages, stops the gateway, and gives the contexts of their events.
async fn contexts(gateway: &Gateway, webhook: &Webhook, messages: &[Value]) -> Vec<String> {
    let mut client = Client::connect(gateway, "42").await;
    for message in messages {
        client.send_json(message).await;
    }
    webhook.wait_for(messages.len() + 1).await;
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    let events = webhook.events();
    let of_messages = events
        .iter()
        .filter(|event| event["type"] == "message_received");
    of_messages
        .map(|event| event["traceparent"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[tokio::test]
async fn so_many_traces_are_recorded_as_the_rate_says_and_those_behind_know() {
    const MESSAGES: usize = 400;
    for (rate, expected) in [("0", 0..=0), ("0.5", 120..=280), ("1", MESSAGES..=MESSAGES)] {
        let (collector, webhook) = (Collector::http().await, Webhook::start().await);
        let setup = to_webhook(&webhook, &collector).env("TRACING_SAMPLE_RATE", rate);
        let gateway = setup.start().await;
        let messages = vec![json!({"type": "chat"}); MESSAGES];
        let contexts = contexts(&gateway, &webhook, &messages).await;
        let recorded = collector.named("ws.message").len();
        assert!(expected.contains(&recorded), "{rate}: {recorded}");
        let told = contexts.iter().filter(|text| text.ends_with("-01")).count();
        assert_eq!(told, recorded);
        let traces: std::collections::HashSet<_> =
            contexts.iter().map(|text| &text[3..35]).collect();
        assert_eq!(traces.len(), MESSAGES, "each has a trace of its own");
    }
}

#[tokio::test]
async fn a_clients_word_on_recording_counts_for_what_is_configured() {
    let unsampled = format!("{}00", &PARENT[..53]);
    for (rate, setting, sent, recorded) in [
        ("0", "limit", PARENT, false),
        ("1", "limit", PARENT, true),
        ("1", "limit", &*unsampled, false),
        ("0", "follow", PARENT, true),
        ("1", "follow", &*unsampled, false),
        ("1", "ignore", &*unsampled, true),
        ("0", "ignore", PARENT, false),
    ] {
        let (collector, webhook) = (Collector::http().await, Webhook::start().await);
        let gateway = to_webhook(&webhook, &collector)
            .env("TRACING_SAMPLE_RATE", rate)
            .set("tracing.client_sampling", setting)
            .start()
            .await;
        let messages = [json!({"traceparent": sent})];
        let contexts = contexts(&gateway, &webhook, &messages).await;
        let spans = collector.named("ws.message");
        let what = format!("{rate} {setting} {sent}");
        assert_eq!(spans.len(), usize::from(recorded), "{what}");
        assert_eq!(&contexts[0][3..35], TRACE, "{what}");
        assert_eq!(contexts[0].ends_with("-01"), recorded, "{what}");
    }
}

#[tokio::test]
async fn what_is_no_traceparent_begins_a_trace() {
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    let gateway = to_webhook(&webhook, &collector).start().await;
    let long = format!("01{}-{}", &PARENT[2..], "x".repeat(300));
    let bad = [
        "",
        "00",
        &PARENT[..54],
        &PARENT.to_uppercase(),
        &PARENT.replace('-', "_"),
        &format!("ff{}", &PARENT[2..]),
        &format!("{PARENT}-more"),
        &format!(" {PARENT}"),
        &PARENT.replace(TRACE, &"0".repeat(32)),
        &PARENT.replace(PARENT_SPAN, &"0".repeat(16)),
        &long,
    ];
    let mut messages: Vec<_> = bad
        .iter()
        .map(|text| json!({"traceparent": text}))
        .collect();
    messages.push(json!({"traceparent": 17}));
    messages.push(json!({"traceparent": [PARENT]}));
    contexts(&gateway, &webhook, &messages).await;
    let spans = collector.named("ws.message");
    assert_eq!(spans.len(), messages.len());
    for span in spans {
        assert!(span.parent.is_empty() && span.trace_id != TRACE, "{span:?}");
    }
}

#[tokio::test]
async fn a_later_version_is_read_by_what_is_known_of_it_and_the_upgrade_counts_for_what_has_none() {
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    let gateway = to_webhook(&webhook, &collector).start().await;
    let upgrade = Upgrade::to(&gateway).bearer(&support::token("42"));
    let mut client = upgrade.header("traceparent", PARENT).open().await;
    let later = format!("cc-{}-{}-01-what-comes", "ab".repeat(16), "cd".repeat(8));
    client.send_json(&json!({"traceparent": later})).await;
    client.send_json(&json!({})).await;
    let spans = collector.wait_for("ws.message", 2).await;
    assert_eq!(spans[0].trace_id, "ab".repeat(16));
    assert_eq!(spans[0].parent, "cd".repeat(8));
    assert_eq!(
        (&*spans[1].trace_id, &*spans[1].parent),
        (TRACE, PARENT_SPAN)
    );
    let connected = collector.wait_for("ws.connected", 1).await.remove(0);
    assert_eq!(
        (&*connected.trace_id, &*connected.parent),
        (TRACE, PARENT_SPAN)
    );
}

#[tokio::test]
async fn users_are_hashed_unless_they_may_be_named() {
    let webhook = Webhook::start().await;
    let mut hashes = Vec::new();
    for key in [
        "one key of hashes",
        "another key of hashes",
        "one key of hashes",
    ] {
        let collector = Collector::http().await;
        let setup = to_webhook(&webhook, &collector).set("tracing.user_hash_key", key);
        let gateway = setup.start().await;
        let _client = Client::connect(&gateway, "alice").await;
        let span = collector.wait_for("ws.connected", 1).await.remove(0);
        assert!(!format!("{:?}", span.span).contains("alice"));
        hashes.push(span.attribute("user.hash").to_owned());
    }
    assert_eq!(hashes[0].len(), 32);
    assert!(hashes[0] == hashes[2] && hashes[0] != hashes[1]);
    let collector = Collector::http().await;
    let setup = to_webhook(&webhook, &collector).set("tracing.hash_user_ids", "false");
    let gateway = setup.start().await;
    let _client = Client::connect(&gateway, "alice").await;
    let span = collector.wait_for("ws.connected", 1).await.remove(0);
    assert_eq!(span.attribute("user.id"), "alice");
    assert_eq!(span.attribute("user.hash"), "");
}

/// Sends until something is so; every message reaches the backend.
async fn send_until(
    client: &mut Client,
    webhook: &Webhook,
    gateway: &Gateway,
    (metric, reason): (&str, &[&str]),
) {
    let mut sent = webhook.count();
    while gateway.metric(metric, reason).await < 1.0 {
        client.send_json(&json!({"type": "chat"})).await;
        sent += 1;
        webhook.wait_for(sent).await;
    }
}

#[tokio::test]
async fn without_a_collector_messages_flow_spans_are_counted_and_the_gateway_stops() {
    let webhook = Webhook::start().await;
    let endpoint = format!("http://127.0.0.1:{}", free_port());
    for protocol in ["http/protobuf", "grpc"] {
        let setup = traced(Setup::default().webhook(&webhook), &endpoint);
        let setup = setup.env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol);
        let gateway = setup.start().await;
        let before = webhook.count();
        let mut client = Client::connect(&gateway, "42").await;
        webhook.wait_for(before + 1).await;
        let paused = ("wsgw_spans_dropped_total", &[r#"reason="paused""#][..]);
        send_until(&mut client, &webhook, &gateway, paused).await;
        assert!(gateway.metric("wsgw_span_exports_failed_total", &[]).await >= 3.0);
        let line = gateway.wait_for_log("trace_export_failed", "").await;
        assert_eq!(line["reason"], "connection refused");
        // Traces go on to be propagated, under the client's own span now.
        client.send_json(&json!({"traceparent": PARENT})).await;
        let fits = |event: &Value| event["traceparent"] == PARENT;
        webhook
            .wait_for_event("the client's own context", fits)
            .await;
        gateway.signal("TERM");
        assert!(gateway.ended().await.success());
        let lost = gateway.wait_for_log("spans_lost", "").await;
        assert!(lost["spans"].as_u64().unwrap() >= 1);
    }
}

#[tokio::test]
async fn a_collector_that_refuses_gets_the_spans_later() {
    for collector in [Collector::http().await, Collector::grpc().await] {
        let webhook = Webhook::start().await;
        let setup = to_webhook(&webhook, &collector);
        let is_grpc = collector.speaks_grpc();
        let setup = setup.env(
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            if is_grpc { "grpc" } else { "http/protobuf" },
        );
        collector.answer(Answer::Status(503));
        let gateway = setup.start().await;
        let mut client = Client::connect(&gateway, "42").await;
        webhook.wait_for(1).await;
        let paused = ("wsgw_spans_dropped_total", &[r#"reason="paused""#][..]);
        send_until(&mut client, &webhook, &gateway, paused).await;
        collector.answer(Answer::Ok);
        collector.wait_for("ws.connected", 1).await;
        gateway.wait_for_log("trace_export_resumed", "").await;
        // Recording goes on, by itself.
        let before = collector.named("ws.message").len();
        let count = webhook.count();
        client.send_json(&json!({"type": "chat"})).await;
        webhook.wait_for(count + 1).await;
        collector.wait_for("ws.message", before + 1).await;
        assert_eq!(
            gateway
                .metric("wsgw_spans_dropped_total", &[r#"reason="export_failed""#])
                .await,
            0.0
        );
    }
}

#[tokio::test]
async fn a_batch_that_is_never_wanted_is_dropped_and_a_part_is_counted() {
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    collector.answer(Answer::Status(400));
    let gateway = to_webhook(&webhook, &collector).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let failed = [r#"reason="export_failed""#];
    gateway
        .wait_for_metric("wsgw_spans_dropped_total", &failed, 1.0)
        .await;
    collector.answer(Answer::Partial(1));
    client.send_json(&json!({"type": "chat"})).await;
    let rejected = [r#"reason="rejected""#];
    gateway
        .wait_for_metric("wsgw_spans_dropped_total", &rejected, 1.0)
        .await;
}

#[tokio::test]
async fn a_collector_that_hangs_holds_nobody_up() {
    for collector in [Collector::http().await, Collector::grpc().await] {
        let webhook = Webhook::start().await;
        collector.answer(Answer::Hang);
        let protocol = if collector.speaks_grpc() {
            "grpc"
        } else {
            "http/protobuf"
        };
        let gateway = to_webhook(&webhook, &collector)
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
            .set("tracing.otlp.timeout_seconds", "0.3")
            .start()
            .await;
        let mut client = Client::connect(&gateway, "42").await;
        webhook.wait_for(1).await;
        let paused = ("wsgw_spans_dropped_total", &[r#"reason="paused""#][..]);
        send_until(&mut client, &webhook, &gateway, paused).await;
        let line = gateway.wait_for_log("trace_export_failed", "timeout").await;
        assert_eq!(line["recording"], false);
        gateway.signal("TERM");
        assert!(gateway.ended().await.success());
    }
}

#[tokio::test]
async fn a_full_queue_drops_spans_and_not_messages() {
    const MESSAGES: usize = 50;
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    collector.answer(Answer::Hang);
    let gateway = to_webhook(&webhook, &collector)
        .set("tracing.queue_spans", "3")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for _ in 0..MESSAGES {
        client.send_json(&json!({"type": "chat"})).await;
    }
    webhook.wait_for(MESSAGES + 1).await;
    let full = [r#"reason="queue_full""#];
    gateway
        .wait_for_metric("wsgw_spans_dropped_total", &full, 1.0)
        .await;
}

#[tokio::test]
async fn what_waits_is_exported_when_the_gateway_stops() {
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    let setup = to_webhook(&webhook, &collector).set("tracing.batch_seconds", "60");
    let gateway = setup.start().await;
    contexts(&gateway, &webhook, &[json!({"type": "chat"})]).await;
    for (name, count) in [
        ("ws.connected", 1),
        ("ws.message", 1),
        ("webhook.publish", 3),
    ] {
        assert_eq!(collector.named(name).len(), count, "{name}");
    }
}

#[tokio::test]
async fn spans_on_standard_output_are_lines_of_otlp_json() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("TRACING_STRATEGY", "full")
        .env("TRACING_EXPORTER", "stdout")
        .start()
        .await;
    contexts(
        &gateway,
        &webhook,
        &[json!({"type": "chat", "traceparent": PARENT})],
    )
    .await;
    let text = gateway.stdout();
    let mut names = Vec::new();
    for line in text.lines() {
        let request: ExportTraceServiceRequest = serde_json::from_str(line).unwrap();
        let resource = &request.resource_spans[0];
        assert!(!resource.resource.as_ref().unwrap().attributes.is_empty());
        let span = &resource.scope_spans[0].spans[0];
        names.push(span.name.clone());
    }
    names.sort();
    let webhooks = "webhook.publish";
    assert_eq!(
        names,
        [webhooks, webhooks, webhooks, "ws.connected", "ws.message"]
    );
}

#[tokio::test]
async fn without_the_stage_only_pushes_have_spans() {
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    let setup = Setup::default()
        .edited("    - trace: {}\n", "")
        .webhook(&webhook);
    let gateway = traced(setup, collector.url()).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send_json(&json!({"traceparent": PARENT})).await;
    webhook.wait_for(2).await;
    gateway.publish(&["user:42"], json!("hello")).await;
    collector.wait_for("ws.publish.http", 1).await;
    assert_eq!(collector.spans().len(), 1);
    assert!(webhook.events()[1].get("traceparent").is_none());
}

#[tokio::test]
async fn no_secret_and_no_payload_is_in_a_span() {
    let (collector, webhook) = (Collector::http().await, Webhook::start().await);
    let (key, secret) = (
        "canary-api-key-0123456789",
        "canary-webhook-secret-0123456789",
    );
    let token = signed(claims("canary-user", json!({"note": "canary-claim"})));
    let url = format!("{}?key=canary-query", webhook.url()).replacen(
        "://",
        "://canary-name:canary-password@",
        1,
    );
    let gateway = to_webhook(&webhook, &collector)
        .env("SYMFONY_WEBHOOK_URL", &url)
        .env("SYMFONY_WEBHOOK_SECRET", secret)
        .env("GATEWAY_API_KEY", key)
        .env("OTEL_EXPORTER_OTLP_HEADERS", "api-key=canary-header")
        .env(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            collector
                .url()
                .replacen("://", "://canary-me:canary-pass@", 1),
        )
        .env("ORDERING_STRATEGY", "topic")
        .env("LOG_LEVEL", "trace")
        .start()
        .await;
    let target = format!("/ws?access_token={token}");
    let mut client = Upgrade::to(&gateway).target(target).open().await;
    client
        .send_json(&json!({"type": "canary-type", "topic": "canary-topic", "payload": "canary-payload", "trace_id": "canary-trace"}))
        .await;
    gateway
        .publish(&["user:canary-user"], json!("canary-push"))
        .await;
    client.close(Some((1000, "canary-reason"))).await;
    collector.wait_for("webhook.publish", 3).await;
    collector.wait_for("ws.publish.http", 1).await;
    let spans = format!("{:?}", collector.spans());
    assert!(
        !spans.contains("canary") && !spans.contains(&token[..20]),
        "{spans}"
    );
    assert!(collector.headers()[0].contains("api-key: canary-header\n"));
    let metrics = gateway.metrics().await;
    for text in [&metrics, &gateway.stderr(), &gateway.stdout()] {
        for canary in [
            "canary-header",
            "canary-pass",
            "canary-query",
            "canary-payload",
            key,
            secret,
        ] {
            let line = text.lines().find(|line| line.contains(canary));
            assert_eq!(line, None, "{canary}");
        }
    }
}

#[tokio::test]
async fn a_reload_switches_traces_on_moves_them_and_switches_them_off() {
    let webhook = Webhook::start().await;
    let collectors = [Collector::http().await, Collector::grpc().await];
    let with = |tracing: &str| {
        let more = format!("{}{tracing}", webhook_at(&webhook.url(), ""));
        pipeline("", "- trace: {}\n    - fan_out: {}", &more)
    };
    let to = |collector: &Collector, protocol: &str| {
        with(&format!(
            "  tracing: {{ strategy: full, exporter: otlp, batch_seconds: 0.05, otlp: {{ endpoint: \"{}\", protocol: {protocol} }} }}\n",
            collector.url()
        ))
    };
    let gateway = Setup::default().yaml(with("")).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let mut sent = 1;
    for (collector, protocol) in collectors.iter().zip(["http/protobuf", "grpc"]) {
        gateway.reload(&to(collector, protocol)).await;
        client.send_json(&json!({"traceparent": PARENT})).await;
        sent += 1;
        let span = collector.wait_for("ws.message", 1).await.remove(0);
        assert_eq!(span.parent, PARENT_SPAN);
        assert!(!span.attribute("user.hash").is_empty());
        collector.wait_for("webhook.publish", 1).await;
    }
    gateway.reload(&with("")).await;
    client.send_json(&json!({"type": "chat"})).await;
    let events = webhook.wait_for(sent + 1).await;
    assert!(events[sent].get("traceparent").is_none());
    for collector in &collectors {
        assert_eq!(collector.spans().len(), 2);
    }
}
