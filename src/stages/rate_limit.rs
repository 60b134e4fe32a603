//! Refuses messages that come faster than the limit.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `rate_limit` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitConfig {
    /// Messages a second that may pass in the long run; 0 switches the limit off.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub per_second: f64,
    /// Messages that may pass at once after a quiet time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// What shares one limit: a `connection`, or all connections of a `user` on this gateway.
    pub scope: RateLimitScope,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            per_second: 10.0,
            burst: 20,
            scope: RateLimitScope::Connection,
        }
    }
}

/// What shares one rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitScope {
    /// Each connection has its own.
    Connection,
    /// All connections of one user on this gateway share one.
    User,
}

/// A message came faster than the limit.
#[derive(Debug, thiserror::Error)]
#[error("rate limited")]
pub struct RateLimited;
