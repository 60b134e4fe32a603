//! The settings of where events go: sinks, their buffers, and dead letters.
//!
//! Part of the pipeline file's types; `sinks::build` reads them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sinks::dead_letter_file::DeadLetterFileConfig;
use crate::sinks::rabbitmq::RabbitmqConfig;
use crate::sinks::redis_stream::RedisStreamConfig;
use crate::sinks::stdout::StdoutConfig;
use crate::sinks::webhook::WebhookConfig;

/// Where events go: the sinks, and where what cannot be delivered goes.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Signed HTTP POSTs to the backend.
    pub webhook: WebhookConfig,
    /// Redis streams.
    pub redis_stream: RedisStreamConfig,
    /// `RabbitMQ` exchanges.
    pub rabbitmq: RabbitmqConfig,
    /// One JSON line an event on standard output.
    pub stdout: StdoutConfig,
    /// Where an event goes that finally could not be delivered.
    pub dead_letters: DeadLettersConfig,
}

/// Where an event goes that finally could not be delivered.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLettersConfig {
    /// A stream in the Redis of `events.redis_stream`, else of `transport.redis_stream`.
    pub redis_stream: DeadLetterStreamConfig,
    /// A queue in the `RabbitMQ` of `events.rabbitmq`, else of `transport.rabbitmq`.
    pub rabbitmq: DeadLetterQueueConfig,
    /// A file of JSON lines, rotated by size; used where no broker is configured.
    pub file: DeadLetterFileConfig,
}

/// The stream of dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterStreamConfig {
    /// Its name.
    pub stream: String,
}

impl Default for DeadLetterStreamConfig {
    fn default() -> Self {
        Self {
            stream: "ws.dlq".into(),
        }
    }
}

/// The queue of dead letters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterQueueConfig {
    /// The exchange that they are published to.
    pub exchange: String,
    /// The durable queue that is bound to it.
    pub queue: String,
}

impl Default for DeadLetterQueueConfig {
    fn default() -> Self {
        Self {
            exchange: "ws.dlq".into(),
            queue: "ws.dlq".into(),
        }
    }
}

/// The bounded buffer in front of a sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BufferConfig {
    /// Events held at once, those under delivery and waiting for a retry among them.
    #[schemars(range(min = 1, max = 100_000_000))]
    pub max_events: usize,
    /// Bytes of event JSON held at once.
    #[schemars(range(min = 1, max = 1_099_511_627_776_u64))]
    pub max_bytes: usize,
}

impl Default for BufferConfig {
    fn default() -> Self {
        Self {
            max_events: 10_000,
            max_bytes: 67_108_864,
        }
    }
}
