//! Answers `ping` and `heartbeat` messages, so that they are never published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `ping_filter` stage; it has none.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PingFilterConfig {}
