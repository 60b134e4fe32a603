//! Copies or starts the message's trace context.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::TracingStrategy;

/// Settings of the `trace` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TraceConfig {
    /// What to do with trace context; unset: `tracing.strategy` decides.
    pub strategy: Option<TracingStrategy>,
}
