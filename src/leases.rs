//! Leases: each gateway says in Redis that it lives, and the others speak for one that no longer does.
//!
//! Stands beside presence. A survivor that sees a lease expire tells the backend `disconnected` for each connection
//! of the lost gateway, once, and removes their presence.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Settings of the leases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeasesConfig {
    /// Whether leases are kept, where Redis is configured.
    pub enabled: bool,
    /// Where they are kept; empty: in the Redis of `events`, else in that of `presence`.
    pub dsn: Secret,
    /// Put before the keys of leases.
    pub prefix: String,
    /// Seconds after which a gateway that says nothing counts as lost.
    #[schemars(range(min = 1.0, max = 3600.0))]
    pub ttl_seconds: f64,
}

impl Default for LeasesConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dsn: Secret::default(),
            prefix: "wsgw:".into(),
            ttl_seconds: 15.0,
        }
    }
}
