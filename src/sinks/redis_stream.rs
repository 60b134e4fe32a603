//! Adds events to Redis streams, many in one round trip.
//!
//! Stands behind a delivery, which decides about order, retries and dead letters; this sink tries once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{BufferConfig, Secret};

/// Settings of the Redis sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisStreamConfig {
    /// Where Redis is, as `redis://user:password@host:6379/0`; empty switches the sink off.
    pub dsn: Secret,
    /// The stream of `connected` and `disconnected`.
    pub stream: String,
    /// The stream of `message_received`.
    pub inbox_stream: String,
    /// How an event is written to its entry.
    pub format: BrokerFormat,
    /// The bounded buffer in front of the sink.
    pub buffer: BufferConfig,
}

impl Default for RedisStreamConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            stream: "ws.events".into(),
            inbox_stream: "ws.inbox".into(),
            format: BrokerFormat::Json,
            buffer: BufferConfig::default(),
        }
    }
}

/// How an event is written for a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrokerFormat {
    /// The event's JSON.
    #[default]
    Json,
    /// As Symfony Messenger's transports read it: the JSON as body, beside headers.
    Messenger,
}
