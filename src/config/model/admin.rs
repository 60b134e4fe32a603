//! Settings of the operator's page.
//!
//! A part of the pipeline file's types.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// The operator's page at `/admin` of the internal listener.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Whether the page is served; it needs `server.internal_listen` and a key of its own.
    pub enabled: bool,
    /// Key for the page and `/admin/api/*`, another than `server.api_key`.
    pub api_key: Secret,
    /// File that holds the key, instead of `api_key`; read at the start and with each reload.
    pub api_key_file: String,
    /// What a live tail shows of one user's events and pushes, on the page and at `/internal/tail`.
    pub tail: TailMode,
}

/// What a live tail shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TailMode {
    /// Everything, with what users wrote to each other.
    Full,
    /// Kinds, ids, times and sizes.
    #[default]
    Metadata,
    /// Nothing: there is no tail.
    Off,
}
