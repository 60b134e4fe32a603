use super::*;
use crate::config::TracingConfig;
use crate::message::FieldSet;
use crate::telemetry::metrics::Metrics;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const OTHER: &str = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00";

fn layer(strategy: TracingStrategy) -> (Settings, FieldSet) {
    layer_of(strategy, &TracingConfig::default())
}

fn layer_of(strategy: TracingStrategy, config: &TracingConfig) -> (Settings, FieldSet) {
    let mut fields = FieldSet::default();
    let layer = Settings {
        strategy,
        traceparent: fields.want("traceparent").unwrap(),
        trace_id: fields.want("trace_id").unwrap(),
        header: HeaderName::from_static("x-trace-id"),
        trace_id_name: "trace_id".into(),
        path: "/ws".into(),
        sampler: Sampler::new(config),
        tracer: Tracer::new(&Metrics::new().unwrap()),
    };
    (layer, fields)
}

fn trace(strategy: TracingStrategy, text: &str, upgrade: &TraceContext) -> TraceContext {
    let (layer, fields) = layer(strategy);
    layer
        .of_message(&Message::text(text.to_owned(), &fields), upgrade)
        .0
}

#[test]
fn the_upgrade_names_its_context_by_header_or_query() {
    let (layer, _) = layer(TracingStrategy::None);
    let mut headers = HeaderMap::new();
    let query = format!("a=b&traceparent={OTHER}&trace_id=q%31");
    let found = layer.of_upgrade(&headers, Some(&query));
    assert_eq!(found.traceparent.as_deref(), Some(OTHER));
    assert_eq!(found.trace_id.as_deref(), Some("q1"));
    headers.insert("traceparent", PARENT.parse().unwrap());
    headers.insert("x-trace-id", "h1".parse().unwrap());
    let found = layer.of_upgrade(&headers, Some(&query));
    assert_eq!(found.traceparent.as_deref(), Some(PARENT));
    assert_eq!(found.trace_id.as_deref(), Some("h1"));
    assert!(
        layer
            .of_upgrade(&HeaderMap::new(), None)
            .traceparent
            .is_none()
    );
}

fn upgrade(traceparent: &str) -> TraceContext {
    TraceContext {
        traceparent: Some(traceparent.into()),
        trace_id: None,
        span: None,
    }
}

#[test]
fn takes_the_message_then_meta_then_the_upgrade() {
    let none = TracingStrategy::None;
    let both = format!(
        r#"{{"traceparent":"{PARENT}","meta":{{"traceparent":"{OTHER}","trace_id":"m"}}}}"#
    );
    let found = trace(none, &both, &upgrade(OTHER));
    assert_eq!(found.traceparent.as_deref(), Some(PARENT));
    assert_eq!(found.trace_id.as_deref(), Some("m"));
    let meta = format!(r#"{{"traceparent":"junk","meta":{{"traceparent":"{PARENT}"}}}}"#);
    assert_eq!(
        trace(none, &meta, &upgrade(OTHER)).traceparent.as_deref(),
        Some(PARENT)
    );
    assert_eq!(
        trace(none, "{}", &upgrade(OTHER)).traceparent.as_deref(),
        Some(OTHER)
    );
}

#[test]
fn none_adds_nothing_and_full_starts_a_trace() {
    let empty = TraceContext::default();
    let found = trace(TracingStrategy::None, "{}", &upgrade(PARENT));
    assert_eq!(found.trace_id, None);
    let found = trace(TracingStrategy::Propagate, "{}", &empty);
    assert!(found.traceparent.is_none() && found.trace_id.is_none());
    let found = trace(TracingStrategy::Propagate, "{}", &upgrade(PARENT));
    assert_eq!(
        found.trace_id.as_deref(),
        Some("4bf92f3577b34da6a3ce929d0e0e4736")
    );
    let found = trace(TracingStrategy::Full, "{}", &empty);
    let started = found.traceparent.unwrap();
    assert!(Traceparent::parse(&started).is_some_and(|started| started.sampled));
    assert_eq!(found.trace_id.as_deref(), Some(&started[3..35]));
}

#[test]
fn malformed_context_is_ignored() {
    let injected = r#"{"trace_id":"a\r\nX-Evil: 1"}"#;
    let found = trace(TracingStrategy::None, injected, &TraceContext::default());
    assert_eq!(found.trace_id, None);
    let junk = r#"{"traceparent":"00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}"#;
    let found = trace(TracingStrategy::None, junk, &TraceContext::default());
    assert!(found.traceparent.is_none());
}

#[test]
fn without_an_exporter_a_clients_context_goes_on_as_it_is() {
    let none = TraceContext::default();
    let text = format!(r#"{{"traceparent":"{PARENT}"}}"#);
    let found = trace(TracingStrategy::Full, &text, &none);
    assert_eq!(found.traceparent.as_deref(), Some(PARENT));
    let text = format!(r#"{{"traceparent":"{OTHER}"}}"#);
    let found = trace(TracingStrategy::Full, &text, &none);
    assert_eq!(found.traceparent.as_deref(), Some(OTHER), "not recorded");
}

#[test]
fn a_trace_that_is_not_recorded_says_so() {
    let config = TracingConfig {
        sample_rate: 0.0,
        ..TracingConfig::default()
    };
    let (layer, fields) = layer_of(TracingStrategy::Full, &config);
    let of = |text: &str, upgrade: &TraceContext| {
        let message = Message::text(text.to_owned(), &fields);
        let (context, span) = layer.of_message(&message, upgrade);
        assert!(span.is_none() && context.span.is_none());
        context.traceparent.unwrap()
    };
    assert!(of("{}", &TraceContext::default()).ends_with("-00"));
    let taken = of("{}", &upgrade(PARENT));
    assert_eq!(taken[..35], PARENT[..35], "the same trace");
    assert!(taken.ends_with("-00") && taken[36..52] != PARENT[36..52]);
    assert_eq!(&*of("{}", &upgrade(OTHER)), OTHER);
}
