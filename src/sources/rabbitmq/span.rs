//! The spans of pushes from `RabbitMQ`.
//!
//! Stands beside the source, which begins a span when it has read a push, and ends it when the push is queued.

use lapin::message::Delivery;
use lapin::types::AMQPValue;

use super::RabbitmqSourceConfig;
use crate::brokers::rabbitmq::RabbitmqLink;
use crate::push::Push;
use crate::telemetry::traces::{Kind, OpenSpan, Peer};

/// What the spans of a source have in common.
#[derive(Debug)]
pub(super) struct Spans {
    destination: String,
    peer: Peer,
}

impl Spans {
    pub(super) fn new(source: &RabbitmqSourceConfig, queue: &str, link: &RabbitmqLink) -> Self {
        let mut destination = format!("{}:{}", source.exchange, source.routing_key);
        if !queue.is_empty() && queue != source.routing_key {
            destination = format!("{destination}:{queue}");
        }
        Self {
            destination,
            peer: Peer::new(link.address()),
        }
    }

    /// Ends the span of a push.
    pub(super) fn end(&self, span: &OpenSpan, delivery: &Delivery, push: &Push, sent: usize) {
        span.end("ws.outbox.rabbitmq", Kind::Consumer, |span| {
            span.text("messaging.system", "rabbitmq");
            span.text("messaging.operation.type", "process");
            span.text("messaging.operation.name", "deliver");
            span.text("messaging.destination.name", &self.destination);
            let id = delivery.properties.message_id();
            if let Some(id) = id.as_ref().filter(|id| !id.as_str().is_empty()) {
                span.text("messaging.message.id", id.as_str());
            }
            let tag = delivery.delivery_tag;
            span.number("messaging.rabbitmq.message.delivery_tag", tag);
            push.write(span, sent);
            self.peer.write(span);
        });
    }
}

/// The context in the header of that name.
pub(super) fn traceparent(delivery: &Delivery) -> Option<&str> {
    let headers = delivery.properties.headers().as_ref()?;
    match headers.inner().get("traceparent")? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}
