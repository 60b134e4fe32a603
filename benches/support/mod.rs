//! What the benchmarks have in common: a pipeline of six stages, a session, a room full of connections.

use std::sync::Arc;

use wsgw::brokers::Brokers;
use wsgw::config::{BackpressureConfig, Config, Secret, TracingStrategy};
use wsgw::jwt::generate_dev_key;
use wsgw::kept::Kept;
use wsgw::message::{FieldSet, TraceContext};
use wsgw::pipeline::{Generation, Ingredients, compile};
use wsgw::registry::Registry;
use wsgw::session::{Identity, Session};
use wsgw::sinks;
use wsgw::sinks::memory::MemorySink;
use wsgw::stages::StageConfig;
use wsgw::stages::auth::{AuthConfig, JwtAlgorithm, JwtConfig};
use wsgw::stages::fan_out::{EventsMode, FanOutConfig};
use wsgw::stages::ordering_key::{OrderingKeyConfig, OrderingStrategy};
use wsgw::stages::ping_filter::PingFilterConfig;
use wsgw::stages::rate_limit::RateLimitConfig;
use wsgw::stages::trace::TraceConfig;
use wsgw::telemetry::metrics::Metrics;
use wsgw::telemetry::traces::Tracer;

/// As the gateway itself has it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What a chat's client sends.
pub(crate) const CHAT: &str =
    r#"{"type":"chat","topic":"room:123","payload":"hello world","n":12345}"#;

/// The pipeline that the figures of docs/performance.md are about.
pub(crate) fn six_stages() -> Config {
    let key = generate_dev_key().expect("a key can be made");
    Config {
        stages: vec![
            StageConfig::Auth(AuthConfig {
                jwt: JwtConfig {
                    algorithm: JwtAlgorithm::Es256,
                    public_key: Secret::from(key.public_pem),
                    ..JwtConfig::default()
                },
                ..AuthConfig::default()
            }),
            StageConfig::PingFilter(PingFilterConfig::default()),
            StageConfig::RateLimit(RateLimitConfig {
                // More than any thread can send.
                per_second: 1e9,
                burst: 1_000_000,
                ..RateLimitConfig::default()
            }),
            StageConfig::OrderingKey(OrderingKeyConfig {
                strategy: OrderingStrategy::Topic,
                ..OrderingKeyConfig::default()
            }),
            StageConfig::Trace(TraceConfig {
                strategy: Some(TracingStrategy::Propagate),
                ..TraceConfig::default()
            }),
            StageConfig::FanOut(FanOutConfig {
                events_mode: Some(EventsMode::None),
                ..FanOutConfig::default()
            }),
        ],
        ..Config::default()
    }
}

/// A connection of user 42.
pub(crate) fn session() -> Arc<Session> {
    let identity = Identity {
        user_id: "42".into(),
        subjects: vec!["user:42".into()],
        expires_at: None,
    };
    Arc::new(Session::new(identity, None, TraceContext::default()))
}

/// What the pipeline is compiled to.
pub(crate) fn gateway(config: &Config, memory: Option<MemorySink>) -> (Generation, Metrics) {
    let metrics = Metrics::new().expect("the metrics register");
    let tracer = Tracer::new(&metrics);
    gateway_with(config, memory, metrics, &tracer)
}

/// The same with metrics and a tracer of the caller.
pub(crate) fn gateway_with(
    config: &Config,
    memory: Option<MemorySink>,
    metrics: Metrics,
    tracer: &Tracer,
) -> (Generation, Metrics) {
    let brokers = Brokers::new(config.brokers.clone(), Arc::default(), metrics.clone());
    let config = Arc::new(config.clone());
    let outlets = sinks::build(&config, &brokers, None, memory, &sinks::Running::default())
        .expect("the sinks can be made")
        .outlets;
    let ingredients = Ingredients {
        config: &config,
        shared: &Kept::default(),
        metrics: &metrics,
        outlets: &outlets,
        fields: FieldSet::default(),
        tracer,
        tap: None,
    };
    let generation = compile(1, ingredients).expect("the pipeline compiles");
    (generation, metrics)
}

/// A thousand connections that share the subject `room:1`, with room for a million pushes each.
pub(crate) fn room_of_1000() -> (Registry, Vec<Arc<Session>>) {
    let metrics = Metrics::new().expect("the metrics register");
    let backpressure = BackpressureConfig {
        per_conn_buffer: 1_000_000,
        global_buffer: 1_000_000_000,
        ..BackpressureConfig::default()
    };
    let registry = Registry::new(backpressure, metrics);
    let sessions: Vec<_> = (0..1000)
        .map(|n| {
            let identity = Identity {
                user_id: n.to_string(),
                subjects: vec!["room:1".into()],
                expires_at: None,
            };
            Arc::new(Session::new(identity, None, TraceContext::default()))
        })
        .collect();
    for session in &sessions {
        registry.register(session, 0).expect("no limit is set");
    }
    (registry, sessions)
}
