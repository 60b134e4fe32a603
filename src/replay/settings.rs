//! The settings of replay: what is kept, who may ask for it again, and where it goes.
//!
//! Stands below the section `replay` of a pipeline file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{BufferConfig, Secret};

/// What is kept for later, and who may ask for it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayConfig {
    /// How much is kept: `none`, `bounded` (streams are trimmed), `durable` (every event also goes to the archive).
    pub strategy: ReplayStrategy,
    /// Seconds that entries of streams and of the archive are kept, unless `strategy` is `none`; 0: no limit.
    pub retention_seconds: u64,
    /// About how many entries a stream keeps, unless `strategy` is `none`; 0: no limit.
    pub maxlen: u64,
    /// Seconds between two notes of how far the pushes of a stream were handled; 0: after every batch.
    #[schemars(range(min = 0.0, max = 86400.0))]
    pub snapshot_seconds: f64,
    /// Who may ask, and how often.
    pub api: ReplayApiConfig,
    /// Dead letters of Redis.
    pub redis_stream: RedisReplayConfig,
    /// Dead letters of `RabbitMQ`.
    pub rabbitmq: RabbitmqReplayConfig,
    /// The database of `durable`.
    pub archive: ArchiveConfig,
}

impl Default for ReplayConfig {
    fn default() -> Self {
        Self {
            strategy: ReplayStrategy::None,
            retention_seconds: 604_800,
            maxlen: 1_000_000,
            snapshot_seconds: 0.0,
            api: ReplayApiConfig::default(),
            redis_stream: RedisReplayConfig::default(),
            rabbitmq: RabbitmqReplayConfig::default(),
            archive: ArchiveConfig::default(),
        }
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplayStrategy {
    /// Nothing beyond the streams themselves, which are not trimmed.
    #[default]
    None,
    /// Streams, trimmed to about `maxlen` entries and to `retention_seconds`.
    Bounded,
    /// As `bounded`, and every event in an external database.
    Durable,
}

/// Who may ask for a replay, and how often.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayApiConfig {
    /// Key of the replay calls; empty: `server.api_key`.
    pub api_key: Secret,
    /// How often it may be asked for.
    pub rate_limit: ReplayRateLimitConfig,
    /// Whether a call that is repeated acts again.
    pub idempotency: IdempotencyConfig,
    /// Whether every call is logged: who, what, and what came of it.
    pub audit_log: bool,
}

impl Default for ReplayApiConfig {
    fn default() -> Self {
        Self {
            api_key: Secret::default(),
            rate_limit: ReplayRateLimitConfig::default(),
            idempotency: IdempotencyConfig::default(),
            audit_log: true,
        }
    }
}

/// How often a replay may be asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReplayRateLimitConfig {
    /// Where calls are counted.
    pub strategy: CountStrategy,
    /// Calls in one window at most; 0: no limit.
    pub per_minute: u32,
    /// Seconds of the window.
    #[schemars(range(min = 1, max = 86400))]
    pub window_seconds: u64,
    /// With `redis`: where; empty: the Redis of `events`.
    pub redis_dsn: Secret,
    /// With `redis`: put before the keys.
    pub prefix: String,
    /// What one count is for.
    pub key: RateLimitKey,
}

impl Default for ReplayRateLimitConfig {
    fn default() -> Self {
        Self {
            strategy: CountStrategy::InMemory,
            per_minute: 10,
            window_seconds: 60,
            redis_dsn: Secret::default(),
            prefix: "wsgw:replay:rate:".into(),
            key: RateLimitKey::ApiKeyOrIp,
        }
    }
}

/// Where something is counted or remembered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CountStrategy {
    /// Nowhere: switched off.
    None,
    /// In this gateway.
    InMemory,
    /// In Redis, for all gateways together.
    Redis,
}

/// What one count of calls is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitKey {
    /// The key the caller presented, else its address.
    ApiKeyOrIp,
    /// The key the caller presented.
    ApiKey,
    /// The caller's address.
    Ip,
}

/// Whether a call that is repeated acts again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IdempotencyConfig {
    /// Where first results are remembered.
    pub strategy: CountStrategy,
    /// Seconds for which they are.
    #[schemars(range(min = 1, max = 2_592_000))]
    pub ttl_seconds: u64,
    /// With `redis`: where; empty: the Redis of `events`.
    pub redis_dsn: Secret,
    /// With `redis`: put before the keys.
    pub prefix: String,
    /// The header that bears the caller's key.
    pub header: String,
    /// The member of the body that bears it where there is no header.
    pub payload_field: String,
}

impl Default for IdempotencyConfig {
    fn default() -> Self {
        Self {
            strategy: CountStrategy::None,
            ttl_seconds: 900,
            redis_dsn: Secret::default(),
            prefix: "wsgw:replay:idempotency:".into(),
            header: "Idempotency-Key".into(),
            payload_field: "idempotency_key".into(),
        }
    }
}

/// Where dead letters of Redis go when they are replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisReplayConfig {
    /// The stream; empty: `events.redis_stream.inbox_stream`.
    pub target_stream: String,
    /// Dead letters that one call moves at most.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_batch: usize,
}

impl Default for RedisReplayConfig {
    fn default() -> Self {
        Self {
            target_stream: String::new(),
            max_batch: 100,
        }
    }
}

/// Where dead letters of `RabbitMQ` go when they are replayed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitmqReplayConfig {
    /// The exchange; empty: `events.rabbitmq.inbox_exchange`.
    pub target_exchange: String,
    /// The routing key; empty: `events.rabbitmq.inbox_routing_key`.
    pub target_routing_key: String,
    /// Dead letters that one call moves at most.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_batch: usize,
}

impl Default for RabbitmqReplayConfig {
    fn default() -> Self {
        Self {
            target_exchange: String::new(),
            target_routing_key: String::new(),
            max_batch: 100,
        }
    }
}

/// The database of every event, for `strategy: durable`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ArchiveConfig {
    /// `sqlite://path/to/file.db` for one gateway, or `postgres://user:password@host/database` for several; empty: `sqlite://wsgw-archive.db`.
    pub dsn: Secret,
    /// Events that one call replays at most.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_batch: usize,
    /// The bounded buffer in front of the database; what finds it full is not archived, and counted.
    pub buffer: BufferConfig,
}

impl Default for ArchiveConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            max_batch: 10_000,
            buffer: BufferConfig::default(),
        }
    }
}

impl ArchiveConfig {
    /// The database's address, the default one where none is configured.
    #[must_use]
    pub fn address(&self) -> &str {
        match self.dsn.reveal() {
            "" => "sqlite://wsgw-archive.db",
            dsn => dsn,
        }
    }
}
