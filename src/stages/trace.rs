//! Copies or starts the message's trace context.
//!
//! The context comes from the message, else its `meta`, else the upgrade request (W3C Trace Context, section 3.2).

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

use crate::condition::Condition;
use crate::config::TracingStrategy;
use crate::message::{FieldId, Message, TraceContext};
use crate::pipeline::{ALL_EVENTS, CompileError, Handshake, Ingredients, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{BoxError, HandshakeLayer, MessageLayer, NewService, Outcome};

/// Longest trace id taken from a client, in bytes.
const MAX_TRACE_ID: usize = 128;

/// Settings of the `trace` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceConfig {
    /// What to do with trace context; unset: `tracing.strategy` decides.
    pub strategy: Option<TracingStrategy>,
    /// Which messages meet the stage; the others pass by it to the next. Empty: all. The upgrade request is always looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
}

impl Stage for TraceConfig {
    fn acts_on(&self) -> &'static str {
        ALL_EVENTS
    }

    fn does(&self) -> &'static str {
        "adds trace context"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        let tracing = &with.config.tracing;
        let header = HeaderName::try_from(tracing.header_name.as_str())
            .map_err(|_| CompileError::setting("tracing.header_name", "is no HTTP header name"))?;
        let layer = TraceLayer {
            trace_id_name: tracing.trace_id_field.as_str().into(),
            strategy: self.strategy.unwrap_or(tracing.strategy),
            traceparent: with.fields.want("traceparent")?,
            trace_id: with.fields.want(&tracing.trace_id_field)?,
            header,
        };
        Ok(StageLayers::both(
            HandshakeLayer::new(layer.clone()),
            MessageLayer::new(layer),
        ))
    }
}

#[derive(Debug, Clone)]
struct TraceLayer {
    strategy: TracingStrategy,
    traceparent: FieldId,
    trace_id: FieldId,
    header: HeaderName,
    trace_id_name: Arc<str>,
}

impl<N> Layer<N> for TraceLayer {
    type Service = Trace<N>;

    fn layer(&self, inner: N) -> Trace<N> {
        Trace {
            settings: self.clone(),
            upgrade: TraceContext::default(),
            inner,
        }
    }
}

/// Used as handshake service, as maker of message services, and as message service.
#[derive(Debug, Clone)]
struct Trace<S> {
    settings: TraceLayer,
    upgrade: TraceContext,
    inner: S,
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for Trace<N> {
    type Service = Trace<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        Trace {
            settings: self.settings.clone(),
            upgrade: session.upgrade_trace().clone(),
            inner: self.inner.new_service(session),
        }
    }
}

impl<S: Service<Handshake>> Service<Handshake> for Trace<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut handshake: Handshake) -> S::Future {
        handshake.trace = self
            .settings
            .of_upgrade(&handshake.headers, handshake.query.as_deref());
        self.inner.call(handshake)
    }
}

impl<S> Service<Message> for Trace<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut message: Message) -> S::Future {
        message.trace = self.settings.of_message(&message, &self.upgrade);
        self.inner.call(message)
    }
}

impl TraceLayer {
    /// From the request's headers, else from its query, since browsers cannot set headers on an upgrade.
    fn of_upgrade(&self, headers: &HeaderMap, query: Option<&str>) -> TraceContext {
        let header = |name: &HeaderName| {
            let value = headers.get(name).and_then(|value| value.to_str().ok());
            value.map(str::to_owned)
        };
        let parameter = |name: &str| {
            form_urlencoded::parse(query?.as_bytes())
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.into_owned())
        };
        TraceContext {
            traceparent: header(&HeaderName::from_static("traceparent"))
                .filter(|value| is_traceparent(value))
                .or_else(|| parameter("traceparent").filter(|value| is_traceparent(value)))
                .map(Arc::from),
            trace_id: header(&self.header)
                .filter(|value| is_trace_id(value))
                .or_else(|| parameter(&self.trace_id_name).filter(|value| is_trace_id(value)))
                .map(Arc::from),
        }
    }

    fn of_message(&self, message: &Message, upgrade: &TraceContext) -> TraceContext {
        let field = |id: FieldId, valid: fn(&str) -> bool| {
            message
                .scalar(id)
                .filter(|value| valid(value))
                .or_else(|| message.meta_scalar(id).filter(|value| valid(value)))
                .map(|value| Arc::from(&*value))
        };
        let mut context = TraceContext {
            traceparent: field(self.traceparent, is_traceparent)
                .or_else(|| upgrade.traceparent.clone()),
            trace_id: field(self.trace_id, is_trace_id).or_else(|| upgrade.trace_id.clone()),
        };
        if self.strategy == TracingStrategy::Full && context.traceparent.is_none() {
            context.traceparent = Some(new_traceparent());
        }
        if self.strategy != TracingStrategy::None && context.trace_id.is_none() {
            // Between the version and the parent id: 32 hex digits.
            context.trace_id = context
                .traceparent
                .as_deref()
                .and_then(|t| t.get(3..35))
                .map(Arc::from);
        }
        context
    }
}

/// Whether the text is a `traceparent` that may be handed on: version 00 exactly, later ones by their known part.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |part: &str| part.bytes().all(|b| b == b'0');
    if !text.is_ascii() || text.len() < 55 || text.len() > 256 {
        return false;
    }
    let (version, trace_id, parent_id, flags) =
        (&text[..2], &text[3..35], &text[36..52], &text[53..55]);
    let dashes = [2, 35, 52].iter().all(|at| text.as_bytes()[*at] == b'-');
    let length = match version {
        "00" => text.len() == 55,
        _ => text.len() == 55 || text.as_bytes()[55] == b'-',
    };
    dashes
        && length
        && version != "ff"
        && [version, trace_id, parent_id, flags].into_iter().all(hex)
        && !zero(trace_id)
        && !zero(parent_id)
        && text.bytes().all(|b| b.is_ascii_graphic())
}

/// Whether a client's trace id may be handed on: it ends up in an HTTP header.
fn is_trace_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TRACE_ID && text.bytes().all(|b| b.is_ascii_graphic())
}

fn new_traceparent() -> Arc<str> {
    use rand::Rng as _;
    let mut rng = rand::rng();
    // Zero is not a valid id; the lowest bit costs nothing of the randomness that matters.
    let (trace, parent) = (rng.random::<u128>() | 1, rng.random::<u64>() | 1);
    Arc::from(format!("00-{trace:032x}-{parent:016x}-01"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FieldSet;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const OTHER: &str = "00-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-bbbbbbbbbbbbbbbb-00";

    fn layer(strategy: TracingStrategy) -> (TraceLayer, FieldSet) {
        let mut fields = FieldSet::default();
        let layer = TraceLayer {
            strategy,
            traceparent: fields.want("traceparent").unwrap(),
            trace_id: fields.want("trace_id").unwrap(),
            header: HeaderName::from_static("x-trace-id"),
            trace_id_name: "trace_id".into(),
        };
        (layer, fields)
    }

    fn trace(strategy: TracingStrategy, text: &str, upgrade: &TraceContext) -> TraceContext {
        let (layer, fields) = layer(strategy);
        layer.of_message(&Message::text(text.to_owned(), &fields), upgrade)
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
        assert!(is_traceparent(&started));
        assert_eq!(found.trace_id.as_deref(), Some(&started[3..35]));
    }

    #[test]
    fn malformed_context_is_ignored() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 x",
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
        assert!(is_traceparent(PARENT));
        assert!(is_traceparent(
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more"
        ));
        let injected = r#"{"trace_id":"a\r\nX-Evil: 1"}"#;
        assert_eq!(
            trace(TracingStrategy::None, injected, &TraceContext::default()).trace_id,
            None
        );
    }
}
