//! The spans of publishing to `RabbitMQ`.
//!
//! Stands beside the sink, which begins a span for each event of a batch, and ends it with the broker's confirm.

use lapin::types::ShortString;

use super::Routing;
use crate::brokers::rabbitmq::{Outcome, RabbitmqLink};
use crate::event::{Event, EventKind};
use crate::sinks::traced;
use crate::telemetry::traces::{Kind, OpenSpan, Peer};

/// Class of the failure of a batch whose connection was lost.
pub(super) const LOST: &str = "connection";

/// What the spans of a sink have in common.
#[derive(Debug)]
pub(super) struct Spans {
    events: Destination,
    inbox: Destination,
    peer: Peer,
}

/// Where events go, as spans name it: never with the key of a partition, which clients choose.
#[derive(Debug)]
struct Destination {
    name: String,
    routing_key: ShortString,
}

impl Destination {
    fn new((exchange, routing_key): &(ShortString, ShortString)) -> Self {
        Self {
            name: format!("{exchange}:{routing_key}"),
            routing_key: routing_key.clone(),
        }
    }
}

impl Spans {
    pub(super) fn new(routing: &Routing, link: &RabbitmqLink) -> Self {
        Self {
            events: Destination::new(&routing.events),
            inbox: Destination::new(&routing.inbox),
            peer: Peer::new(link.address()),
        }
    }

    /// Ends the span of an event that was published, or was not.
    pub(super) fn end(&self, span: &OpenSpan, event: &Event, failed: Option<&str>) {
        let destination = match event.kind {
            EventKind::MessageReceived => &self.inbox,
            EventKind::Connected | EventKind::Disconnected => &self.events,
        };
        span.end("broker.publish", Kind::Producer, |span| {
            span.text("messaging.system", "rabbitmq");
            span.text("messaging.operation.name", "publish");
            span.text("messaging.destination.name", &destination.name);
            span.text(
                "messaging.rabbitmq.destination.routing_key",
                destination.routing_key.as_str(),
            );
            traced::broker_event(span, event);
            self.peer.write(span);
            if let Some(class) = failed {
                span.failed(class, "the broker did not confirm the event");
            }
        });
    }
}

/// Why an event was not published, as spans name it.
pub(super) fn failure(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Confirmed => None,
        Outcome::Returned => Some("unroutable"),
        Outcome::Nacked => Some("nack"),
        Outcome::Unknown(_) => Some(LOST),
    }
}
