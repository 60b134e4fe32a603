//! Spans that have not ended, and what those below them need to know.
//!
//! Stands between the tracer, which begins spans, and the queue, which takes them when they end.

use std::fmt;
use std::sync::Arc;

use super::encode::{Head, Kind, SpanWriter};
use super::{SpanId, TraceId, Traceparent, Tracer};
use crate::clock::unix_nanos;

/// Where a span stands in its trace, for those below it; exists only for spans that are recorded.
#[derive(Clone)]
pub struct SpanContext {
    pub(super) tracer: Tracer,
    /// The trace.
    pub trace_id: TraceId,
    /// The span.
    pub span_id: SpanId,
    /// When it began, in Unix nanoseconds.
    pub(crate) began: u64,
}

/// A span that has not ended.
#[derive(Debug, Clone)]
pub(crate) struct OpenSpan {
    pub(crate) context: SpanContext,
    pub(super) parent: Option<SpanId>,
    /// Whether the parent is in another process.
    pub(super) remote: bool,
}

/// How a span names a user.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(super) key: &'static str,
    pub(super) value: Arc<str>,
}

impl User {
    /// Writes the attribute.
    pub(crate) fn write(&self, span: &mut SpanWriter) {
        span.text(self.key, &self.value);
    }
}

impl fmt::Debug for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}/{:?}", self.trace_id, self.span_id)
    }
}

impl SpanContext {
    /// The context that goes on to whoever is below the span.
    #[must_use]
    pub fn traceparent(&self) -> Traceparent {
        Traceparent {
            trace_id: self.trace_id,
            span_id: self.span_id,
            sampled: true,
        }
    }

    /// Begins a span below this one.
    pub(crate) fn child(&self) -> OpenSpan {
        OpenSpan {
            remote: false,
            ..self
                .tracer
                .begin(self.trace_id, Some(self.span_id), unix_nanos())
        }
    }
}

impl OpenSpan {
    /// The span of a context that was begun before.
    pub(crate) fn of(context: SpanContext, parent: Option<SpanId>) -> Self {
        Self {
            context,
            remote: parent.is_some(),
            parent,
        }
    }

    /// Ends the span now, with attributes.
    pub(crate) fn end(
        &self,
        name: &'static str,
        kind: Kind,
        attributes: impl FnOnce(&mut SpanWriter),
    ) {
        let SpanContext {
            tracer,
            trace_id,
            span_id,
            began,
        } = &self.context;
        let Some(format) = tracer.format() else {
            return;
        };
        let head = Head {
            name,
            kind,
            trace_id: *trace_id,
            span_id: *span_id,
            parent: self.parent,
            remote: self.remote,
            began: *began,
            // The wall clock may have been set back meanwhile.
            ended: unix_nanos().max(*began),
        };
        let mut writer = SpanWriter::begin(format, &head);
        attributes(&mut writer);
        let shared = &tracer.0;
        if !writer.finish(|span| shared.queue.push(format, span)) {
            shared.counters.queue_full.inc();
        }
    }
}
