//! The settings of the way back to clients: what waits for them, and who is there.
//!
//! Part of the pipeline file's types; the outbox and presence read them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// What happens to a client that reads more slowly than the backend pushes.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BackpressureConfig {
    /// What a full outbox does: `close` tells the client by 4408, `drop` loses pushes and counts them.
    pub strategy: BackpressureStrategy,
    /// Pushes waiting for one connection at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_conn_buffer: usize,
    /// Bytes of pushes waiting for one connection at most; a single larger push still passes an empty outbox.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub per_conn_bytes: usize,
    /// Pushes waiting in the whole gateway at most.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub global_buffer: usize,
    /// With `drop`: which push is lost, the `oldest` waiting or the `newest` arriving.
    pub drop_policy: DropPolicy,
}

impl Default for BackpressureConfig {
    fn default() -> Self {
        Self {
            strategy: BackpressureStrategy::Close,
            per_conn_buffer: 256,
            per_conn_bytes: 4_194_304,
            global_buffer: 1_000_000,
            drop_policy: DropPolicy::Oldest,
        }
    }
}

/// What a full outbox does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackpressureStrategy {
    /// Closes the connection with 4408, so that the client knows and reconnects.
    Close,
    /// Loses a push, counts it, and keeps the connection.
    Drop,
}

/// Which push a full outbox loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DropPolicy {
    /// The one that has waited longest.
    Oldest,
    /// The one that just arrived.
    Newest,
}

/// Who is online, and when an entry expires.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PresenceConfig {
    /// Where presence is kept; empty switches it off.
    #[serde(rename = "type")]
    pub kind: Option<PresenceKind>,
    /// When an entry expires; `none` switches presence off.
    pub strategy: PresenceStrategy,
    /// With `ttl`: seconds an entry lives without a refresh.
    #[schemars(range(min = 1, max = 604_800))]
    pub ttl_seconds: u64,
    /// With `heartbeat`: seconds within which a client must send `ping` or `heartbeat`.
    #[schemars(range(min = 1, max = 604_800))]
    pub heartbeat_seconds: u64,
    /// With `heartbeat`: seconds of grace on top of `heartbeat_seconds`.
    #[schemars(range(min = 0, max = 604_800))]
    pub grace_seconds: u64,
    /// With `ttl`: whether a client's message refreshes its entry.
    pub refresh_on_message: bool,
    /// With `type: redis`: where.
    pub redis: PresenceRedisConfig,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self {
            kind: Some(PresenceKind::Memory),
            strategy: PresenceStrategy::Ttl,
            ttl_seconds: 120,
            heartbeat_seconds: 30,
            grace_seconds: 15,
            refresh_on_message: true,
            redis: PresenceRedisConfig::default(),
        }
    }
}

/// The Redis that presence is kept in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PresenceRedisConfig {
    /// Where Redis is; empty: presence is not kept in Redis, and the API lists this gateway's own connections.
    pub dsn: Secret,
    /// Put before every key of presence.
    pub prefix: String,
}

impl Default for PresenceRedisConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            prefix: "presence:".into(),
        }
    }
}

/// Where presence is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PresenceKind {
    /// In this gateway's memory: the API shows this gateway's clients.
    Memory,
    /// In Redis: the API of every gateway shows the clients of all.
    Redis,
}

/// When a presence entry expires.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PresenceStrategy {
    /// Presence is off; the backend keeps its own.
    None,
    /// After `ttl_seconds`, refreshed while the connection lives and, if wanted, on messages.
    #[default]
    Ttl,
    /// After `heartbeat_seconds + grace_seconds` unless the client sends `ping` or `heartbeat`.
    Heartbeat,
    /// Never while connected: set on connect, removed on disconnect.
    Session,
}
