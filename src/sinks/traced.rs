//! The spans of publishing: one for each event and sink, below the span of its message.
//!
//! Stands beside the sinks that hand events to somebody: webhook, Redis, `RabbitMQ`. What a sink sends along names the
//! sink's own span, so that whoever consumes the event is below it. The event's JSON is the same for all sinks and can
//! name one span only: it is that of the sink where nothing else can be sent along, which is Redis, else of the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::brokers::{rabbitmq, redis};
use crate::event::Event;
use crate::message::TraceContext;
use crate::telemetry::traces::{OpenSpan, SpanContext, SpanId, SpanWriter, Traceparent};

/// The sinks that have spans, in the order in which they are named by an event's JSON.
const SINKS: [&str; 3] = [redis::NAME, rabbitmq::NAME, "webhook"];

/// What an event's sinks need for their spans.
#[derive(Debug)]
pub struct EventSpan {
    /// The message's span.
    context: SpanContext,
    /// The span that the event's JSON names, and whose it is.
    own: SpanId,
    owner: &'static str,
    /// The owner has begun it; a further try has another span.
    taken: AtomicBool,
}

impl EventSpan {
    /// Chooses the span that the JSON of an event for these sinks names, and has the message's context name it.
    ///
    /// Nothing where the trace is not recorded, or none of the sinks has spans.
    pub(crate) fn choose<'a>(
        trace: &mut TraceContext,
        sinks: impl Iterator<Item = &'a str>,
    ) -> Option<Self> {
        trace.span.as_ref()?;
        let place = |name| SINKS.iter().position(|sink| *sink == name);
        let owner = SINKS[sinks.filter_map(place).min()?];
        // The message goes no further, so that its context is needed nowhere else.
        let context = trace.span.take()?;
        let own = SpanId::random();
        let named = Traceparent {
            span_id: own,
            ..context.traceparent()
        };
        trace.traceparent = Some(named.to_text());
        Some(Self {
            context,
            own,
            owner,
            taken: AtomicBool::new(false),
        })
    }

    /// Begins the span of one try.
    fn begin(&self, sink: &'static str) -> OpenSpan {
        let mut span = self.context.child();
        if self.owner == sink {
            // Redis' entries have nothing but the JSON, and only the try that succeeds has a span there.
            let first = !self.taken.swap(true, Ordering::Relaxed);
            if first || sink == redis::NAME {
                span.context.span_id = self.own;
            }
        }
        span
    }
}

/// Begins the span of a try to hand over an event, if it is to have one.
pub(super) fn begin(event: &Event, sink: &'static str) -> Option<OpenSpan> {
    Some(event.span.as_ref()?.begin(sink))
}

/// The same for a batch; empty where no event has a span.
pub(super) fn begin_all(batch: &[Arc<Event>], sink: &'static str) -> Vec<Option<OpenSpan>> {
    if batch.iter().all(|event| event.span.is_none()) {
        return Vec::new();
    }
    batch.iter().map(|event| begin(event, sink)).collect()
}

/// The context that is sent along with an event.
pub(super) fn traceparent(event: &Event, span: Option<&OpenSpan>) -> Option<Arc<str>> {
    match span {
        Some(span) => Some(span.context.traceparent().to_text()),
        None => event.traceparent.clone(),
    }
}

/// Writes what every event's span has.
pub(super) fn event(span: &mut SpanWriter, event: &Event) {
    let mut buffer = uuid::Uuid::encode_buffer();
    let id = event.id.hyphenated().encode_lower(&mut buffer);
    span.text("messaging.message.id", id);
}

/// Writes what every event's span has that a broker gets.
pub(super) fn broker_event(span: &mut SpanWriter, event: &Event) {
    span.text("messaging.operation.type", "send");
    self::event(span, event);
    span.number("messaging.message.body.size", event.json.len() as u64);
}
