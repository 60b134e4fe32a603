use std::sync::Arc;

use tower_service::Service as _;

use super::*;
use crate::brokers::Brokers;
use crate::message::Message;
use crate::session::Session;
use crate::sinks;
use crate::sinks::memory::MemorySink;
use crate::stages::auth::AuthConfig;
use crate::stages::fan_out::{EventsMode, FanOutConfig};
use crate::stages::ping_filter::PingFilterConfig;
use crate::stages::rate_limit::RateLimitConfig;
use crate::stages::trace::TraceConfig;
use crate::svc::{NewService as _, Outcome};
use crate::telemetry::traces::Tracer;

fn config(stages: Vec<StageConfig>) -> Config {
    Config {
        stages,
        ..Config::default()
    }
}

fn fan_out() -> StageConfig {
    StageConfig::FanOut(FanOutConfig {
        events_mode: Some(EventsMode::None),
        ..FanOutConfig::default()
    })
}

fn one_message() -> StageConfig {
    StageConfig::RateLimit(RateLimitConfig {
        per_second: 0.001,
        burst: 1,
        ..RateLimitConfig::default()
    })
}

fn compiled(
    config: Config,
    memory: Option<MemorySink>,
    shared: &Kept,
) -> Result<Generation, CompileError> {
    let metrics = Metrics::new().unwrap();
    let brokers = Brokers::new(config.brokers.clone(), Arc::default(), metrics.clone());
    let config = Arc::new(config);
    let outlets = sinks::build(&config, &brokers, None, memory, &sinks::Running::default())
        .unwrap()
        .outlets;
    let ingredients = Ingredients {
        config: &config,
        shared,
        metrics: &metrics,
        outlets: &outlets,
        fields: FieldSet::default(),
        tracer: &Tracer::new(&metrics),
        tap: None,
    };
    compile(1, ingredients)
}

/// What becomes of the same message sent twice.
async fn twice(stages: Vec<StageConfig>, text: &str) -> Vec<String> {
    let generation = compiled(config(stages), None, &Kept::default()).unwrap();
    let mut stack = generation
        .messages
        .new_service(Session::for_tests("1", &[]));
    let mut outcomes = Vec::new();
    for _ in 0..2 {
        outcomes.push(
            match stack
                .call(Message::text(text.to_owned(), &generation.fields))
                .await
            {
                Ok(Outcome::Ignored) => "ignored".to_owned(),
                Ok(Outcome::Published) => "published".to_owned(),
                Ok(Outcome::Reply(reply)) => reply.to_string(),
                Err(error) => error.to_string(),
            },
        );
    }
    outcomes
}

#[tokio::test]
async fn order_in_the_file_is_the_order_of_meeting() {
    let ping = || StageConfig::PingFilter(PingFilterConfig::default());
    let (ask, answer) = (r#"{"type":"ping"}"#, r#"{"type":"pong"}"#);
    assert_eq!(
        twice(vec![ping(), one_message(), fan_out()], ask).await,
        [answer, answer]
    );
    assert_eq!(
        twice(vec![one_message(), ping(), fan_out()], ask).await,
        [answer, "rate limited"]
    );
    assert_eq!(
        twice(vec![one_message(), fan_out()], "{}").await,
        ["published", "rate limited"]
    );
}

#[tokio::test]
async fn every_event_passes_the_stages_and_reaches_the_sink() {
    let memory = MemorySink::new(10);
    let mut events = memory.subscribe();
    let stages = vec![StageConfig::Trace(TraceConfig::default()), fan_out()];
    let generation = compiled(config(stages), Some(memory), &Kept::default()).unwrap();
    let mut stack = generation
        .messages
        .new_service(Session::for_tests("1", &[]));
    let text = r#"{"trace_id":"t"}"#;
    for message in [
        Message::connected(),
        Message::text(text, &generation.fields),
        Message::disconnected(1000, ""),
    ] {
        stack.call(message).await.unwrap();
    }
    for (seq, kind) in [
        (1, "connected"),
        (2, "message_received"),
        (3, "disconnected"),
    ] {
        let event = events.recv().await.unwrap();
        assert_eq!((event.seq, event.kind.as_str()), (seq, kind));
        assert_eq!(event.trace_id.as_deref(), (seq == 2).then_some("t"));
    }
}

#[tokio::test]
async fn a_stack_without_fan_out_at_its_end_does_not_compile() {
    for stages in [
        vec![],
        vec![one_message()],
        vec![fan_out(), one_message()],
        vec![fan_out(), fan_out()],
    ] {
        let error = compiled(config(stages), None, &Kept::default()).unwrap_err();
        assert!(matches!(error, CompileError::NoFanOut), "{error}");
    }
}

#[tokio::test]
async fn a_setting_that_names_nothing_is_named() {
    let mut auth = AuthConfig::default();
    auth.jwt.public_key_file = "/nonexistent/key.pem".into();
    let error = compiled(
        config(vec![StageConfig::Auth(auth), fan_out()]),
        None,
        &Kept::default(),
    )
    .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("stages.auth.jwt") && text.contains("/nonexistent/key.pem"),
        "{text}"
    );
}

#[tokio::test]
async fn what_is_shared_outlives_a_generation() {
    let shared = Kept::default();
    let first = shared.keep(|| 1_u64);
    compiled(config(vec![one_message(), fan_out()]), None, &shared).unwrap();
    assert!(Arc::ptr_eq(&first, &shared.keep(|| 2_u64)));
}

/// A limit of one message for messages of a type.
fn one_of(kind: &str) -> StageConfig {
    let limit = serde_json::json!({"per_second": 0.001, "burst": 1, "when": {"type": [kind]}});
    StageConfig::RateLimit(serde_json::from_value(limit).unwrap())
}

#[tokio::test]
async fn limits_with_conditions_count_apart_wherever_they_stand_after_a_reload() {
    let (session, shared) = (Session::for_tests("1", &[]), Kept::default());
    let send = async |stages: Vec<StageConfig>, kind: &str| {
        let generation = compiled(config(stages), None, &shared).unwrap();
        let mut stack = generation.messages.new_service(Arc::clone(&session));
        let text = format!("{{\"type\":\"{kind}\"}}");
        stack
            .call(Message::text(text, &generation.fields))
            .await
            .is_ok()
    };
    assert!(send(vec![one_of("a"), one_of("b"), fan_out()], "a").await);
    assert!(
        !send(vec![one_of("b"), one_of("a"), fan_out()], "a").await,
        "moved, and kept"
    );
    assert!(send(vec![one_of("b"), one_of("a"), fan_out()], "b").await);
    assert!(!send(vec![one_of("a"), one_of("b"), fan_out()], "b").await);
    assert!(
        send(vec![one_message(), fan_out()], "a").await,
        "one without a condition is another"
    );
}

#[tokio::test]
async fn only_wanted_headers_stay_with_the_session() {
    use tower::ServiceExt as _;
    let stages = serde_json::json!([
        {"set": {"fields": {"tenant": {"header": "X-Tenant"}}}},
        {"trace": {"when": {"header": {"x-app": {"exists": true}}}}},
        {"fan_out": {"events_mode": "none", "routes": [
            {"when": {"not": [{"header": {"X-Route": {"equals": "a"}}}]}, "to": []},
        ]}},
    ]);
    let stages = serde_json::from_value(stages).unwrap();
    let generation = compiled(config(stages), None, &Kept::default()).unwrap();
    let mut headers = http::HeaderMap::new();
    for name in ["x-tenant", "x-app", "x-route", "x-other"] {
        headers.append(name, "first".parse().unwrap());
        headers.append(name, "second".parse().unwrap());
    }
    let handshake = Handshake {
        headers,
        query: None,
        address: None,
        identity: None,
        trace: crate::message::TraceContext::default(),
        began: 0,
    };
    let session = generation.handshake.oneshot(handshake).await.unwrap();
    for (name, value) in [
        ("x-tenant", Some("first")),
        ("x-app", Some("first")),
        ("x-route", Some("first")),
        ("x-other", None),
    ] {
        assert_eq!(
            session.header(&HeaderName::from_static(name)),
            value,
            "{name}"
        );
    }
    assert_eq!(session.claims(), None);
}
