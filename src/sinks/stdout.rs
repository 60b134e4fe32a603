//! Writes events to standard output, one JSON line each.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the stdout sink.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StdoutConfig {
    /// Writes every event to standard output, beside whatever `fan_out.events_mode` selects.
    pub enabled: bool,
}
