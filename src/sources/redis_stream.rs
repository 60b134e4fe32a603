//! Pushes from a Redis stream: every gateway reads every entry and delivers it to its own clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{SourceContext, SourceError};
use crate::config::Secret;

/// Settings of the Redis source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSourceConfig {
    /// Where Redis is, as `redis://user:password@host:6379/0`; empty switches the source off.
    pub dsn: Secret,
    /// The stream that the backend adds pushes to.
    pub stream: String,
}

impl Default for RedisSourceConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            stream: "ws.outbox".into(),
        }
    }
}

/// Starts the source, if it is configured.
pub(super) fn start(_context: &SourceContext) -> Result<(), SourceError> {
    Ok(())
}
