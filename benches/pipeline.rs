//! What one message costs inside the gateway, without any socket.
//!
//! `cargo bench --bench pipeline`; the figures are in docs/performance.md. `six_stages` is the whole way from a
//! frame's text to the event in a sink in memory: classify, six stages, serialise, buffer, schedule, deliver.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a benchmark that cannot be set up fails by panicking"
)]

mod support;

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use criterion::{BatchSize, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use futures_util::FutureExt as _;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tower_service::Service;
use wsgw::condition::{Condition, Matcher};
use wsgw::config::{Config, TracingExporter, TracingStrategy};
use wsgw::event::Event;
use wsgw::message::{FieldSet, Message};
use wsgw::sinks::memory::MemorySink;
use wsgw::stages::StageConfig;
use wsgw::stages::fan_out::RouteConfig;
use wsgw::stages::ordering_key::partition;
use wsgw::stages::trace::TraceConfig;
use wsgw::svc::NewService;
use wsgw::telemetry::metrics::Metrics;
use wsgw::telemetry::traces::Traces;

use support::{CHAT, gateway, gateway_with, room_of_1000, session, six_stages};

fn condition(json: &str) -> Condition {
    serde_json::from_str(json).expect("a condition")
}

/// The six stages, of which one has a condition that never holds of the message.
fn passed_by() -> Config {
    let mut config = six_stages();
    config.stages.insert(
        3,
        StageConfig::Trace(TraceConfig {
            when: Some(condition(r#"{"type":["order"]}"#)),
            ..TraceConfig::default()
        }),
    );
    config
}

/// The six stages, with routes of which the last takes the message: by its type, and by a value within it.
fn routed() -> Config {
    let mut config = six_stages();
    let route = |when: &str| RouteConfig {
        when: Some(condition(when)),
        to: Some(Vec::new()),
    };
    if let Some(StageConfig::FanOut(fan_out)) = config.stages.last_mut() {
        fan_out.routes = vec![
            route(r#"{"type":["order"]}"#),
            route(r#"{"json":{"/topic":{"equals":"room:124"}}}"#),
            route("{}"),
        ];
    }
    config
}

fn stack(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("message");
    group.throughput(Throughput::Elements(1));
    for (name, config, memory) in [
        ("six_stages_no_sink", six_stages(), None),
        ("six_stages", six_stages(), Some(MemorySink::new(64))),
        ("six_stages_passed_by", passed_by(), None),
        ("six_stages_routed", routed(), None),
    ] {
        let (generation, metrics) = runtime.block_on(async { gateway(&config, memory) });
        let buffered = metrics.sink_buffer_events.with_label_values(&["memory"]);
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                runtime.block_on(async {
                    let mut service = generation.messages.new_service(session());
                    service
                        .call(Message::connected())
                        .await
                        .expect("it connects");
                    let started = Instant::now();
                    for _ in 0..rounds {
                        let message = Message::text(CHAT, &generation.fields);
                        service.call(message).await.expect("it is published");
                    }
                    while buffered.get() > 0 {
                        tokio::task::yield_now().await;
                    }
                    started.elapsed()
                })
            });
        });
    }
    // The stages alone: `poll_ready`, `call` and what they answer, of messages that are classified already.
    let (generation, _) = runtime.block_on(async { gateway(&six_stages(), None) });
    let mut service = generation.messages.new_service(session());
    group.bench_function("six_stages_call", |b| {
        b.iter_custom(|rounds| {
            let (mut left, mut took) = (rounds, Duration::ZERO);
            while left > 0 {
                let some = left.min(64);
                let text = || Message::text(CHAT, &generation.fields);
                let messages: Vec<_> = (0..some).map(|_| text()).collect();
                let started = Instant::now();
                for message in messages {
                    let ready = poll_fn(|cx| service.poll_ready(cx)).now_or_never();
                    assert!(matches!(ready, Some(Ok(()))), "it takes a message");
                    let called = service.call(message).now_or_never();
                    called.expect("at once").expect("it is published");
                }
                took += started.elapsed();
                left -= some;
            }
            took
        });
    });
    group.finish();
}

/// A collector that takes everything, on a thread of its own: what it costs is not the gateway's.
fn collector() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || take_all(stream));
        }
    });
    format!("http://{address}")
}

/// Answers requests with a length.
fn take_all(mut stream: TcpStream) -> Option<()> {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let head = loop {
            if let Some(at) = buffer.windows(4).position(|end| end == b"\r\n\r\n") {
                break at + 4;
            }
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            buffer.extend_from_slice(&chunk[..read]);
        };
        let text = String::from_utf8_lossy(&buffer[..head]).to_lowercase();
        let length = text.split("content-length: ").nth(1)?.lines().next()?;
        let whole = head + length.trim().parse::<usize>().ok()?;
        while buffer.len() < whole {
            let read = stream.read(&mut chunk).ok().filter(|read| *read > 0)?;
            buffer.extend_from_slice(&chunk[..read]);
        }
        buffer.drain(..whole);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .ok()?;
    }
}

/// What this thread has had of the processor.
fn on_cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux says so");
    let first = text.split(' ').next().expect("the first of three numbers");
    Duration::from_nanos(first.parse().expect("nanoseconds"))
}

/// The six stages by each strategy of tracing, exports included; `paused` is with a collector that is away.
///
/// The figures are processor time of the thread that does all of it, so that what else the machine does does not count.
fn tracing(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let mut group = c.benchmark_group("trace");
    // The system counts processor time in steps of milliseconds: few and long samples.
    group
        .throughput(Throughput::Elements(1))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    let (taking, nobody) = (collector(), "http://127.0.0.1:9".to_owned());
    for (name, strategy, sample_rate, endpoint) in [
        ("none", TracingStrategy::None, 1.0, None),
        ("propagate", TracingStrategy::Propagate, 1.0, None),
        ("full_unsampled", TracingStrategy::Full, 0.0, Some(&taking)),
        ("full", TracingStrategy::Full, 1.0, Some(&taking)),
        ("full_paused", TracingStrategy::Full, 1.0, Some(&nobody)),
    ] {
        let mut config = six_stages();
        for stage in &mut config.stages {
            if let StageConfig::Trace(trace) = stage {
                trace.strategy = Some(strategy);
            }
        }
        config.tracing.sample_rate = sample_rate;
        if let Some(endpoint) = endpoint {
            config.tracing.exporter = TracingExporter::Otlp;
            config.tracing.otlp.endpoint.clone_from(endpoint);
            config.tracing.queue_spans = 100_000;
        }
        let metrics = Metrics::new().expect("the metrics register");
        let traces = runtime.block_on(async { Traces::start(&metrics) });
        let prepared = traces.prepare(&config, "bench").expect("it can be used");
        traces.activate(prepared);
        let (generation, metrics) = runtime.block_on(async {
            gateway_with(&config, Some(MemorySink::new(64)), metrics, traces.tracer())
        });
        let buffered = metrics.sink_buffer_events.with_label_values(&["memory"]);
        if name == "full_paused" {
            // Three failures in a row.
            runtime.block_on(async {
                let failed = &metrics.span_exports_failed_total;
                let mut service = generation.messages.new_service(session());
                while failed.get() < 3 {
                    let message = Message::text(CHAT, &generation.fields);
                    service.call(message).await.expect("it is published");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        group.bench_function(name, |b| {
            b.iter_custom(|rounds| {
                runtime.block_on(async {
                    let mut service = generation.messages.new_service(session());
                    let exported = &metrics.spans_exported_total;
                    let before = exported.get();
                    let started = on_cpu();
                    for round in 0..rounds {
                        let message = Message::text(CHAT, &generation.fields);
                        service.call(message).await.expect("it is published");
                        // The export has its turn, as on a runtime with connections.
                        if round % 64 == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                    while buffered.get() > 0 {
                        tokio::task::yield_now().await;
                    }
                    let took = on_cpu().checked_sub(started).expect("time goes on");
                    if name == "full" && rounds > 100_000 {
                        assert!(exported.get() > before, "spans are exported meanwhile");
                    }
                    took
                })
            });
        });
    }
    group.finish();
}

fn parts(c: &mut Criterion) {
    let mut group = c.benchmark_group("part");
    let mut fields = FieldSet::default();
    for name in ["topic", "traceparent", "trace_id"] {
        fields.want(name).expect("there is room");
    }
    group.bench_function("classify", |b| b.iter(|| Message::text(CHAT, &fields)));
    let session = session();
    let message = Message::text(CHAT, &fields);
    group.bench_function("serialise_event", |b| {
        b.iter(|| Event::new(&session, &message, "trace_id"));
    });
    for (name, when) in [
        ("condition_type", r#"{"type":["order"]}"#),
        (
            "condition_json",
            r#"{"json":{"/topic":{"equals":"room:124"}}}"#,
        ),
        ("condition_claim", r#"{"claim":{"/role":{"equals":"ops"}}}"#),
    ] {
        let matcher = Matcher::new(&condition(when)).expect("it compiles");
        let mut bound = matcher.bind(&session);
        group.bench_function(name, |b| b.iter(|| bound.holds(&message)));
    }
    group.bench_function("partition_key", |b| b.iter(|| partition("room:123/é", 64)));
    group.finish();
}

fn fan_out(c: &mut Criterion) {
    let (registry, sessions) = room_of_1000();
    let payload = RawValue::from_string(r#"{"text":"hello"}"#.into()).expect("valid JSON");
    let mut group = c.benchmark_group("push");
    group
        .throughput(Throughput::Elements(1000))
        .measurement_time(Duration::from_secs(3));
    group.bench_function("queue_to_1000", |b| {
        b.iter_batched(
            || {
                for session in &sessions {
                    while session.outbox().pop(registry.limits()).is_some() {}
                }
            },
            |()| registry.publish(&["room:1"], &payload),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, stack, tracing, parts, fan_out);
criterion_main!(benches);
