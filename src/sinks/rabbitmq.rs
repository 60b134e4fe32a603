//! Publishes events to `RabbitMQ` exchanges, with publisher confirms.
//!
//! Stands behind a delivery, which decides about order, retries and dead letters; this sink tries once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::redis_stream::BrokerFormat;
use crate::config::{BufferConfig, Secret};

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
    /// A durable queue to declare and bind for them; empty: none is declared, which is then the consumer's part.
    pub inbox_queue: String,
    /// Milliseconds that an event may wait in that queue before it goes to the dead letters; 0: for ever.
    pub inbox_queue_ttl_ms: u32,
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
