//! Publishes events to `RabbitMQ` exchanges, with publisher confirms.
//!
//! Stands behind a delivery, which decides about order, retries and dead letters; this sink tries once. It waits for
//! the link before it tries, so that nothing is tried over and over while the broker is away.
//!
//! # Order
//! The delivery holds a lane while its events are tried, so several batches can be under way at once, each on a
//! channel of its own: events of one lane never are. Within a batch the broker takes the messages in their order.

use std::sync::Arc;
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::task::AbortOnDropHandle;

use self::spans::Spans;
use super::dead_letter::Cause;
use super::delivery::{DeliverySettings, RetryPolicy, WhenFull};
use super::redis_stream::BrokerFormat;
use super::{Batch, DeliveryError, Failure, Retry, traced};
use crate::brokers::rabbitmq::{
    LinkError, NAME, Outcome, Outgoing, Publisher, RabbitmqLink, WhenRefused, short,
};
use crate::config::{BufferConfig, Config, Secret};
use crate::event::{Event, EventKind};
use crate::stages::ordering_key::{Partitions, partition};
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::OpenSpan;

mod plan;
mod spans;

pub(super) use self::plan::{declare_dead_letters, declare_inbox, shards};
use self::plan::{inbox_kind, plan};

/// Messages in one window of confirms.
const MAX_BATCH: usize = 256;

/// Windows at once. A confirm waits for the broker's disk; a few windows keep it busy meanwhile.
const CONCURRENCY: usize = 4;

/// Settings of the `RabbitMQ` sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitmqConfig {
    /// Where `RabbitMQ` is, as `amqp://user:password@host:5672/vhost`; empty switches the sink off.
    pub dsn: Secret,
    /// The exchange of `connected` and `disconnected`.
    pub exchange: String,
    /// The routing key of `connected` and `disconnected`.
    pub routing_key: String,
    /// A durable queue to declare and bind for them; empty: none is declared, which is then the consumer's part.
    pub queue: String,
    /// Milliseconds that an event may wait in that queue before it goes to the dead letters; 0: for ever.
    pub queue_ttl_ms: u32,
    /// The exchange of `message_received`.
    pub inbox_exchange: String,
    /// Type of that exchange; unset: `topic` where ordering keys are appended to routing keys, else `direct`.
    pub inbox_exchange_type: Option<ExchangeType>,
    /// The routing key of `message_received`.
    pub inbox_routing_key: String,
    /// A durable queue to declare and bind for them, with shards `.{n}` for each; empty: none, the consumer's part.
    pub inbox_queue: String,
    /// Milliseconds that an event may wait in that queue before it goes to the dead letters; 0: for ever.
    pub inbox_queue_ttl_ms: u32,
    /// Whether one consumer of that queue gets everything until it goes, so that several keep the order.
    pub inbox_single_active_consumer: bool,
    /// Type of the queues that are declared; one that is there keeps its own.
    pub queue_type: QueueType,
    /// How an event is written to its message.
    pub format: BrokerFormat,
    /// The bounded buffer in front of the sink.
    pub buffer: BufferConfig,
}

impl Default for RabbitmqConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            exchange: "ws.events".into(),
            routing_key: "ws.events".into(),
            queue: String::new(),
            queue_ttl_ms: 0,
            inbox_exchange: "ws.inbox".into(),
            inbox_exchange_type: None,
            inbox_routing_key: "ws.inbox".into(),
            inbox_queue: String::new(),
            inbox_queue_ttl_ms: 0,
            inbox_single_active_consumer: false,
            queue_type: QueueType::Classic,
            format: BrokerFormat::Json,
            buffer: BufferConfig::default(),
        }
    }
}

/// Types of `RabbitMQ` exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeType {
    /// Queues get what bears exactly their binding's key.
    Direct,
    /// Queues get what matches their binding's pattern, such as `ws.inbox.#`.
    Topic,
    /// Every queue gets everything.
    Fanout,
}

/// Types of `RabbitMQ` queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueType {
    /// On one node of a cluster.
    Classic,
    /// On several nodes of a cluster, which agree on each message.
    Quorum,
}

/// Where messages go, as the settings say.
#[derive(Debug)]
pub(crate) struct Routing {
    /// Exchange and routing key of `connected` and `disconnected`.
    events: (ShortString, ShortString),
    /// Those of `message_received`.
    inbox: (ShortString, ShortString),
    /// How the inbox is split: with keys in the routing key, by as many characters of them as there is room for.
    partitions: Partitions,
    /// With shards: the routing key of each.
    shards: Vec<ShortString>,
    format: BrokerFormat,
}

/// The sink.
#[derive(Debug)]
pub struct RabbitmqSink {
    publisher: Arc<Publisher>,
    _declaring: AbortOnDropHandle<()>,
    routing: Routing,
    spans: Spans,
    returned: IntCounter,
}

/// What [`RabbitmqSink::new`] reads of a configuration, besides the link.
pub(super) fn made_of(config: &Config) -> impl PartialEq {
    let RabbitmqConfig {
        exchange,
        routing_key,
        queue,
        queue_ttl_ms,
        queue_type: _,
        format,
        // The inbox has its own list.
        inbox_exchange: _,
        inbox_exchange_type: _,
        inbox_routing_key: _,
        inbox_queue: _,
        inbox_queue_ttl_ms: _,
        inbox_single_active_consumer: _,
        // The link's.
        dsn: _,
        // The delivery's.
        buffer: _,
    } = &config.events.rabbitmq;
    (
        (exchange, routing_key, queue, queue_ttl_ms, format),
        inbox_made_of(config),
    )
}

/// Where the events go, as a configuration says, besides the link.
pub(super) fn leads_to(config: &Config) -> impl PartialEq {
    let sink = &config.events.rabbitmq;
    (
        (&sink.exchange, &sink.routing_key),
        (&sink.inbox_exchange, &sink.inbox_routing_key),
    )
}

/// What declaring the inbox reads of a configuration.
pub(super) fn inbox_made_of(config: &Config) -> impl PartialEq {
    let rabbitmq = &config.events.rabbitmq;
    (
        (&rabbitmq.inbox_exchange, inbox_kind(config)),
        (&rabbitmq.inbox_routing_key, Partitions::of(config)),
        (&rabbitmq.inbox_queue, rabbitmq.inbox_queue_ttl_ms),
        (rabbitmq.inbox_single_active_consumer, rabbitmq.queue_type),
        &config.events.dead_letters.rabbitmq,
    )
}

impl RabbitmqSink {
    /// Makes the sink of a configuration, on a link; declares what it needs on every connection, before any event.
    ///
    /// # Errors
    /// When a name is longer than AMQP allows.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn new(
        config: &Config,
        link: Arc<RabbitmqLink>,
        metrics: &Metrics,
    ) -> Result<Self, LinkError> {
        let (routing, topology) = plan(config)?;
        let spans = Spans::new(&routing, &link);
        let publisher = Publisher::new(link, "sink", topology, WhenRefused::Wait);
        let publisher = Arc::new(publisher);
        let declaring = tokio::spawn(Arc::clone(&publisher).keep_declared());
        Ok(Self {
            publisher,
            _declaring: AbortOnDropHandle::new(declaring),
            spans,
            routing,
            returned: metrics.broker_returned_total.clone(),
        })
    }

    /// How it is delivered to.
    #[must_use]
    pub fn settings(config: &RabbitmqConfig) -> DeliverySettings {
        DeliverySettings {
            name: NAME,
            buffer: config.buffer.clone(),
            concurrency: CONCURRENCY,
            max_batch: MAX_BATCH,
            when_full: WhenFull::Wait,
            linger: Duration::ZERO,
            retry: RetryPolicy {
                attempts: None,
                base: Duration::from_millis(100),
                max: Duration::from_secs(5),
            },
        }
    }

    /// The sink as a delivery takes it.
    #[must_use]
    pub fn into_service(self) -> BoxSink {
        let sink = Arc::new(self);
        BoxSink::new(tower::service_fn(move |batch: Batch| {
            let sink = Arc::clone(&sink);
            async move { sink.deliver(&batch).await }
        }))
    }

    async fn deliver(&self, batch: &[Arc<Event>]) -> Result<(), DeliveryError> {
        self.publisher.link().connected().await;
        let spans = traced::begin_all(batch, NAME);
        let messages: Vec<_> = batch
            .iter()
            .enumerate()
            .map(|(index, event)| {
                let span = spans.get(index).and_then(Option::as_ref);
                self.routing.message(event, span)
            })
            .collect();
        let outcomes = match self.publisher.publish(&messages).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                for (span, event) in spans.iter().zip(batch) {
                    if let Some(span) = span {
                        self.spans.end(span, event, Some(spans::LOST));
                    }
                }
                return Err(DeliveryError::all(
                    batch.len(),
                    error.to_string(),
                    Retry::Backoff,
                ));
            }
        };
        for ((span, event), outcome) in spans.iter().zip(batch).zip(&outcomes) {
            if let Some(span) = span {
                self.spans.end(span, event, spans::failure(outcome));
            }
        }
        let failed: Vec<_> = outcomes
            .into_iter()
            .enumerate()
            .filter_map(|(index, outcome)| self.failure(index, &messages[index], outcome))
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(DeliveryError {
            failed,
            tried: batch.len(),
        })
    }

    fn failure(&self, index: usize, message: &Outgoing<'_>, outcome: Outcome) -> Option<Failure> {
        let (reason, retry) = match outcome {
            Outcome::Confirmed => return None,
            Outcome::Returned => {
                self.returned.inc();
                let reason = format!(
                    "unroutable: no queue is bound to the exchange `{}` for the routing key `{}`",
                    message.exchange, message.routing_key
                );
                return Some(Failure::new(index, reason, Retry::Never).because(Cause::Returned));
            }
            Outcome::Nacked => (
                "the broker could not keep the message (nack)".to_owned(),
                Retry::Backoff,
            ),
            Outcome::Unknown(error) => (error.to_string(), Retry::Backoff),
        };
        Some(Failure::new(index, reason, retry))
    }
}

impl Routing {
    /// That of a configuration.
    ///
    /// # Errors
    /// When a name is longer than AMQP allows.
    pub(crate) fn new(config: &Config) -> Result<Self, LinkError> {
        plan(config).map(|(routing, _)| routing)
    }

    /// The exchange of an event, and its routing key.
    pub(crate) fn of(&self, event: &Event) -> (&ShortString, ShortString) {
        let (exchange, routing_key) = if event.kind == EventKind::MessageReceived {
            &self.inbox
        } else {
            &self.events
        };
        if let (EventKind::MessageReceived, Some(key), Partitions::Keys { max_len }) =
            (event.kind, &event.ordering_key, self.partitions)
        {
            let partitioned = format!("{routing_key}.{}", partition(key, max_len));
            // Never longer than AMQP allows, as `plan` saw to it.
            let partitioned = short(&partitioned).unwrap_or_else(|_| routing_key.clone());
            return (exchange, partitioned);
        }
        let shard = self.partitions.shard_of(event).map(usize::from);
        let shard = shard.and_then(|shard| self.shards.get(shard));
        (exchange, shard.unwrap_or(routing_key).clone())
    }

    fn message<'a>(&self, event: &'a Event, span: Option<&OpenSpan>) -> Outgoing<'a> {
        let (exchange, routing_key) = self.of(event);
        Outgoing {
            exchange: exchange.clone(),
            routing_key,
            body: &event.json,
            properties: self.properties(event, span),
        }
    }

    fn properties(&self, event: &Event, span: Option<&OpenSpan>) -> BasicProperties {
        let id = event.id.to_string();
        let kind = event.kind.as_str();
        let mut headers = FieldTable::default();
        if self.format == BrokerFormat::Messenger {
            headers.insert("Content-Type".into(), text("application/json"));
            headers.insert("type".into(), text(kind));
            headers.insert("event_id".into(), text(&id));
        }
        if let Some(traceparent) = traced::traceparent(event, span) {
            headers.insert("traceparent".into(), text(&traceparent));
        }
        if event.replayed {
            headers.insert("replayed".into(), true.into());
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.into())
            .with_type(kind.into())
            .with_headers(headers);
        match event.id.get_timestamp() {
            Some(at) => properties.with_timestamp(at.to_unix().0),
            None => properties,
        }
    }
}

/// The delivery mode of messages that survive the broker's restart.
pub(super) const PERSISTENT: u8 = 2;

pub(super) fn text(text: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(text))
}

#[cfg(test)]
mod tests;
