//! Copies or starts the message's trace context, and makes its span.
//!
//! The context comes from the message, else its `meta`, else the upgrade request (W3C Trace Context, section 3.2). With
//! the strategy `full` a message that is recorded has a span of its own, `ws.message`, which takes the place of the
//! client's for all below: event, sinks, backend. It ends when the message has left the stages.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;
use uuid::Uuid;

use crate::clock::unix_nanos;
use crate::close::{self, Answer};
use crate::condition::Condition;
use crate::config::TracingStrategy;
use crate::event::EventKind;
use crate::message::{FieldId, Message, TraceContext};
use crate::pipeline::{ALL_EVENTS, CompileError, Handshake, Ingredients, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{
    BoxError, HandshakeLayer, MessageFuture, MessageLayer, MessageResult, NewService, Outcome,
};
use crate::telemetry::traces::{
    Kind, OpenSpan, Sampler, SpanContext, SpanId, TraceId, Traceparent, Tracer, User,
};

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
        let layer = TraceLayer(Arc::new(Settings {
            trace_id_name: tracing.trace_id_field.as_str().into(),
            strategy: self.strategy.unwrap_or(tracing.strategy),
            traceparent: with.fields.want("traceparent")?,
            trace_id: with.fields.want(&tracing.trace_id_field)?,
            header,
            path: with.config.server.path.as_str().into(),
            sampler: Sampler::new(tracing),
            tracer: with.tracer.clone(),
        }));
        Ok(StageLayers::both(
            HandshakeLayer::new(layer.clone()),
            MessageLayer::new(layer),
        ))
    }
}

#[derive(Debug, Clone)]
struct TraceLayer(Arc<Settings>);

#[derive(Debug)]
struct Settings {
    strategy: TracingStrategy,
    traceparent: FieldId,
    trace_id: FieldId,
    header: HeaderName,
    trace_id_name: Arc<str>,
    path: Box<str>,
    sampler: Sampler,
    tracer: Tracer,
}

impl<N> Layer<N> for TraceLayer {
    type Service = Trace<N>;

    fn layer(&self, inner: N) -> Trace<N> {
        Trace {
            settings: Arc::clone(&self.0),
            inner,
        }
    }
}

/// Used as handshake service and as maker of message services.
#[derive(Debug, Clone)]
struct Trace<S> {
    settings: Arc<Settings>,
    inner: S,
}

/// The service of one connection's messages.
#[derive(Debug, Clone)]
struct TraceMessages<S> {
    settings: Arc<Settings>,
    session: Arc<Session>,
    /// How spans name the connection's user.
    user: Option<User>,
    inner: S,
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for Trace<N> {
    type Service = TraceMessages<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        let settings = &self.settings;
        let full = settings.strategy == TracingStrategy::Full;
        let user = if full {
            settings.tracer.user(session.user_id())
        } else {
            None
        };
        TraceMessages {
            settings: Arc::clone(settings),
            session: Arc::clone(&session),
            user,
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
        let settings = &self.settings;
        handshake.trace = settings.of_upgrade(&handshake.headers, handshake.query.as_deref());
        if settings.strategy == TracingStrategy::Full {
            handshake.trace.span = settings.begin_connected(&handshake);
        }
        self.inner.call(handshake)
    }
}

impl<S> Service<Message> for TraceMessages<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Into<MessageFuture>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut message: Message) -> MessageFuture {
        let upgrade = self.session.upgrade_trace();
        let (context, span) = self.settings.of_message(&message, upgrade);
        message.trace = context;
        let Some(span) = span else {
            return self.inner.call(message).into();
        };
        let passage = Passage {
            kind: message.kind(),
            bytes: message.body.len(),
            seq: self.session.next_seq(),
        };
        match self.inner.call(message).into() {
            MessageFuture::Ready(result) => {
                if let Some(result) = &result {
                    self.ended(&span, &passage, result);
                }
                MessageFuture::Ready(result)
            }
            MessageFuture::Waiting(waiting) => {
                let this = TraceMessages {
                    settings: Arc::clone(&self.settings),
                    session: Arc::clone(&self.session),
                    user: self.user.clone(),
                    inner: (),
                };
                MessageFuture::waiting(async move {
                    let result = waiting.await;
                    this.ended(&span, &passage, &result);
                    result
                })
            }
        }
    }
}

/// What a span tells of a message.
struct Passage {
    kind: EventKind,
    bytes: usize,
    seq: u64,
}

impl<S> TraceMessages<S> {
    /// Ends the span of a message.
    fn ended(&self, span: &OpenSpan, passage: &Passage, result: &MessageResult) {
        let connected = passage.kind == EventKind::Connected;
        let name = if connected {
            "ws.connected"
        } else {
            "ws.message"
        };
        span.end(name, Kind::Server, |span| {
            span.text("network.transport", "tcp");
            if connected {
                span.text("network.protocol.name", "http");
                span.text("http.request.method", "GET");
                span.text("url.path", &self.settings.path);
                span.number("http.response.status_code", 101);
            } else {
                span.text("network.protocol.name", "websocket");
                span.number("messaging.message.body.size", passage.bytes as u64);
            }
            let mut buffer = Uuid::encode_buffer();
            let id = self.session.id().hyphenated().encode_lower(&mut buffer);
            span.text("wsgw.connection.id", id);
            span.text("wsgw.event.type", passage.kind.as_str());
            span.number("wsgw.event.seq", passage.seq);
            if let Some(user) = &self.user {
                user.write(span);
            }
            span.text(
                "wsgw.outcome",
                match result {
                    Ok(Outcome::Published) => "published",
                    Ok(Outcome::Reply(_)) => "answered",
                    Ok(Outcome::Ignored) => "ignored",
                    Err(_) => "refused",
                },
            );
            if let Err(error) = result
                && let Answer::Close(close) = close::answer(error)
            {
                let code = close.code.to_string();
                span.failed(&code, "the connection is closed");
            }
        });
    }
}

impl Settings {
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
        let is_traceparent = |value: &String| Traceparent::parse(value).is_some();
        TraceContext {
            traceparent: header(&HeaderName::from_static("traceparent"))
                .filter(is_traceparent)
                .or_else(|| parameter("traceparent").filter(is_traceparent))
                .map(Arc::from),
            trace_id: header(&self.header)
                .filter(|value| is_trace_id(value))
                .or_else(|| parameter(&self.trace_id_name).filter(|value| is_trace_id(value)))
                .map(Arc::from),
            span: None,
        }
    }

    /// Begins the span of a connection, if it is to have one.
    fn begin_connected(&self, handshake: &Handshake) -> Option<SpanContext> {
        let parent = parent(&handshake.trace);
        let (trace_id, sampled) = self.sample(parent.as_ref());
        if !sampled || !self.tracer.takes() {
            return None;
        }
        let span = self.tracer.begin(trace_id, None, handshake.began);
        Some(span.context)
    }

    /// The context that goes on with a message, and the message's span if it has one.
    fn of_message(
        &self,
        message: &Message,
        upgrade: &TraceContext,
    ) -> (TraceContext, Option<OpenSpan>) {
        let own = message
            .scalar(self.traceparent)
            .and_then(|text| Traceparent::parse(&text).map(|parent| (text, parent)))
            .or_else(|| {
                let text = message.meta_scalar(self.traceparent)?;
                Traceparent::parse(&text).map(|parent| (text, parent))
            });
        let trace_id = message
            .scalar(self.trace_id)
            .filter(|value| is_trace_id(value))
            .or_else(|| {
                let text = message.meta_scalar(self.trace_id);
                text.filter(|value| is_trace_id(value))
            });
        let mut context = TraceContext {
            traceparent: None,
            trace_id: trace_id
                .map(|text| Arc::from(&*text))
                .or_else(|| upgrade.trace_id.clone()),
            span: None,
        };
        let mut span = None;
        if self.strategy == TracingStrategy::Full {
            let parent = own.as_ref().map(|(_, parent)| *parent);
            let parent = parent.or_else(|| self::parent(upgrade));
            span = self.begin(message.kind(), parent, upgrade, &mut context);
        }
        if context.traceparent.is_none() {
            context.traceparent = own
                .map(|(text, _)| Arc::from(&*text))
                .or_else(|| upgrade.traceparent.clone());
        }
        if self.strategy != TracingStrategy::None && context.trace_id.is_none() {
            // Between the version and the parent id: 32 hex digits.
            context.trace_id = context
                .traceparent
                .as_deref()
                .and_then(|t| t.get(3..35))
                .map(Arc::from);
        }
        (context, span)
    }

    /// Begins a message's span, or says otherwise what goes on; leaves the context alone where that is what came in.
    fn begin(
        &self,
        kind: EventKind,
        parent: Option<Traceparent>,
        upgrade: &TraceContext,
        context: &mut TraceContext,
    ) -> Option<OpenSpan> {
        let lasting = kind != EventKind::MessageReceived;
        if let (true, Some(connected)) = (lasting, &upgrade.span) {
            // What is told of a connection's beginning and end belongs to the span of its beginning.
            context.traceparent = Some(connected.traceparent().to_text());
            context.span = Some(connected.clone());
            let parent = self::parent(upgrade).map(|parent| parent.span_id);
            return (kind == EventKind::Connected).then(|| OpenSpan::of(connected.clone(), parent));
        }
        let (trace_id, sampled) = self.sample(parent.as_ref());
        // That of a connection was decided when it was admitted.
        let sampled = sampled && !(lasting && self.tracer.is_on());
        let recorded = sampled && !lasting && self.tracer.takes();
        if recorded {
            let parent = parent.map(|parent| parent.span_id);
            let span = self.tracer.begin(trace_id, parent, unix_nanos());
            context.traceparent = Some(span.context.traceparent().to_text());
            context.span = Some(span.context.clone());
            return Some(span);
        }
        if sampled && self.tracer.is_on() {
            // Nobody takes the span now: what came in goes on, and where nothing did, the backend begins the trace.
            return None;
        }
        // Whoever changes the flag must change the parent's id (W3C Trace Context, section 3.4).
        if parent.is_none_or(|parent| parent.sampled && !sampled) {
            let started = Traceparent {
                trace_id,
                span_id: SpanId::random(),
                sampled,
            };
            context.traceparent = Some(started.to_text());
        }
        None
    }

    /// The trace, begun where there is none, and whether it is recorded.
    fn sample(&self, parent: Option<&Traceparent>) -> (TraceId, bool) {
        if let Some(parent) = parent {
            return (parent.trace_id, self.sampler.client(parent));
        }
        let trace_id = TraceId::random();
        (trace_id, self.sampler.root(trace_id))
    }
}

fn parent(context: &TraceContext) -> Option<Traceparent> {
    context.traceparent.as_deref().and_then(Traceparent::parse)
}

/// Whether a client's trace id may be handed on: it ends up in an HTTP header.
fn is_trace_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_TRACE_ID && text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests;
