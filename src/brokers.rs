//! Connections to brokers, shared by whatever talks to one.
//!
//! Stands below sinks, sources, presence, leases, dead letters and replay. A link is opened once for each address
//! and lives as long as someone holds it; it reconnects for ever, with capped and jittered back-off, so that nobody
//! above it has to.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rabbitmq::RabbitmqLink;
use self::redis::RedisLink;
use crate::api::Readiness;
use crate::config::Secret;
use crate::telemetry::metrics::Metrics;

pub mod rabbitmq;
pub mod redis;

/// How brokers are connected to, whatever for.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrokersConfig {
    /// Every connection to Redis.
    pub redis: BrokerConfig,
    /// Every connection to `RabbitMQ`.
    pub rabbitmq: BrokerConfig,
}

/// How one kind of broker is connected to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerConfig {
    /// Seconds that connecting may take, TLS and login included.
    #[schemars(range(min = 0.1, max = 300.0))]
    pub connect_timeout_seconds: f64,
    /// Seconds without an answer after which a connection counts as lost.
    #[schemars(range(min = 0.1, max = 300.0))]
    pub response_timeout_seconds: f64,
    /// Seconds between two tries to connect at most; the first follows soon, each further one waits longer.
    #[schemars(range(min = 0.01, max = 3600.0))]
    pub reconnect_max_seconds: f64,
    /// Certificates, for DSNs that ask for TLS (`rediss`, `amqps`).
    pub tls: BrokerTlsConfig,
}

impl Default for BrokerConfig {
    fn default() -> Self {
        Self {
            connect_timeout_seconds: 5.0,
            response_timeout_seconds: 10.0,
            reconnect_max_seconds: 5.0,
            tls: BrokerTlsConfig::default(),
        }
    }
}

/// Certificates of the connections to a broker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BrokerTlsConfig {
    /// PEM file of the authorities that sign the broker's certificate; empty: the system's.
    pub ca_file: String,
    /// PEM file of the gateway's own certificate, where the broker asks for one.
    pub cert_file: String,
    /// PEM file of that certificate's private key.
    pub key_file: String,
}

/// Why a link cannot be opened; never holds a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DsnError(pub String);

/// The links of one gateway.
pub struct Brokers {
    config: BrokersConfig,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    redis: Mutex<HashMap<Secret, Weak<RedisLink>>>,
    rabbitmq: Mutex<HashMap<Secret, Weak<RabbitmqLink>>>,
}

impl Brokers {
    /// Makes a gateway's links, none of which is open yet.
    #[must_use]
    pub fn new(config: BrokersConfig, readiness: Arc<Readiness>, metrics: Metrics) -> Self {
        Self {
            config,
            readiness,
            metrics,
            redis: Mutex::default(),
            rabbitmq: Mutex::default(),
        }
    }

    /// What `/ready` reports.
    #[must_use]
    pub fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }

    /// The gateway's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The link to the Redis of a DSN, which is connected in the background.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read; never because Redis is away.
    pub fn redis(&self, dsn: &Secret) -> Result<Arc<RedisLink>, DsnError> {
        let mut links = self.redis.lock();
        if let Some(link) = links.get(dsn).and_then(Weak::upgrade) {
            return Ok(link);
        }
        let link = RedisLink::open(dsn, &self.config.redis, &self.readiness)?;
        links.insert(dsn.clone(), Arc::downgrade(&link));
        Ok(link)
    }

    /// The link to the `RabbitMQ` of a DSN, which is connected in the background.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read; never because `RabbitMQ` is away.
    pub fn rabbitmq(&self, dsn: &Secret) -> Result<Arc<RabbitmqLink>, DsnError> {
        let mut links = self.rabbitmq.lock();
        if let Some(link) = links.get(dsn).and_then(Weak::upgrade) {
            return Ok(link);
        }
        let link = RabbitmqLink::open(dsn, &self.config.rabbitmq, &self.readiness)?;
        links.insert(dsn.clone(), Arc::downgrade(&link));
        Ok(link)
    }
}

impl std::fmt::Debug for Brokers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brokers").finish_non_exhaustive()
    }
}
