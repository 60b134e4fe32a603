//! Connections to brokers, shared by whatever talks to one.
//!
//! Stands below sinks, sources, presence, leases, dead letters and replay. A link is opened once for each address
//! and lives as long as someone holds it; it reconnects for ever, with capped and jittered back-off, so that nobody
//! above it has to.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest;
use parking_lot::Mutex;
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::rabbitmq::RabbitmqLink;
use self::redis::RedisLink;
use crate::api::Readiness;
use crate::config::Secret;
use crate::telemetry::metrics::{Metrics, Sampled};

pub mod rabbitmq;
pub mod redis;

/// A connection to a broker, as far as those above want to know whether it stands.
pub trait Link: Send + Sync {
    /// Whether it takes commands and messages now.
    fn is_up(&self) -> bool;
}

impl Link for RedisLink {
    fn is_up(&self) -> bool {
        self.is_connected()
    }
}

impl Link for RabbitmqLink {
    fn is_up(&self) -> bool {
        self.is_connected() && !self.is_blocked()
    }
}

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

/// The links of one gateway, under one configuration of how to connect.
///
/// A reload makes another of these by [`Brokers::with_config`]: it finds the links that are open already, and opens
/// others beside them where settings or certificates changed.
pub struct Brokers {
    redis: How,
    rabbitmq: How,
    number: u64,
    links: Arc<Links>,
    readiness: Arc<Readiness>,
    metrics: Metrics,
}

/// How one kind of broker is connected to, and what its certificate files held.
struct How {
    config: BrokerConfig,
    identity: Arc<str>,
}

/// Every link that someone holds, by what it was opened with.
#[derive(Default)]
struct Links {
    /// How many [`Brokers`] there were.
    asking: AtomicU64,
    redis: Mutex<HashMap<Key, Open<RedisLink>>>,
    rabbitmq: Mutex<HashMap<Key, Open<RabbitmqLink>>>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    dsn: Secret,
    how: Arc<str>,
}

/// A link, and the number of the newest [`Brokers`] that asked for it.
struct Open<L> {
    link: Weak<L>,
    asked_by: u64,
    /// Only what ends still uses it.
    given_up: bool,
}

impl How {
    fn new(config: BrokerConfig) -> Self {
        let tls = &config.tls;
        let mut identity = format!("{config:?}");
        for file in [&tls.ca_file, &tls.cert_file, &tls.key_file] {
            // What cannot be read is an error when a link needs it, and not before.
            if let Ok(bytes) = std::fs::read(file) {
                let digest = digest::digest(&digest::SHA256, &bytes);
                let _ = write!(identity, " {:02x?}", digest.as_ref());
            }
        }
        Self {
            config,
            identity: identity.into(),
        }
    }
}

impl<L> Open<L> {
    /// The link of a key, opened unless it is.
    fn get_or_open(
        links: &Mutex<HashMap<Key, Self>>,
        dsn: &Secret,
        (how, asked_by): (&How, u64),
        open: impl FnOnce() -> Result<Arc<L>, DsnError>,
    ) -> Result<Arc<L>, DsnError> {
        let mut links = links.lock();
        let key = Key {
            dsn: dsn.clone(),
            how: Arc::clone(&how.identity),
        };
        if let Some(known) = links.get_mut(&key)
            && let Some(link) = known.link.upgrade()
        {
            known.asked_by = asked_by;
            known.given_up = false;
            return Ok(link);
        }
        let link = open()?;
        links.retain(|_, known| known.link.strong_count() > 0);
        let known = Self {
            link: Arc::downgrade(&link),
            asked_by,
            given_up: false,
        };
        links.insert(key, known);
        Ok(link)
    }

    /// Whether all links that are wanted stand; nothing where there is none.
    fn are_up(links: &Mutex<HashMap<Key, Self>>) -> Option<bool>
    where
        L: Link,
    {
        let links = links.lock();
        let wanted = links.values().filter(|known| !known.given_up);
        wanted
            .filter_map(|known| known.link.upgrade())
            .map(|link| link.is_up())
            .reduce(|all, up| all && up)
    }
}

impl Sampled for Links {
    fn sample(&self, metrics: &Metrics) {
        let brokers = [
            (redis::NAME, Open::are_up(&self.redis)),
            (rabbitmq::NAME, Open::are_up(&self.rabbitmq)),
        ];
        for (broker, up) in brokers {
            match up {
                Some(up) => metrics
                    .broker_up
                    .with_label_values(&[broker])
                    .set(up.into()),
                // It is not there where there never was a link.
                None => drop(metrics.broker_up.remove_label_values(&[broker])),
            }
        }
    }
}

impl Brokers {
    /// Makes a gateway's links, none of which is open yet.
    #[must_use]
    pub fn new(config: BrokersConfig, readiness: Arc<Readiness>, metrics: Metrics) -> Self {
        let links = Arc::<Links>::default();
        let sampled: Arc<dyn Sampled> = Arc::clone(&links) as _;
        metrics.sample_from(Arc::downgrade(&sampled));
        Self {
            redis: How::new(config.redis),
            rabbitmq: How::new(config.rabbitmq),
            number: 0,
            links,
            readiness,
            metrics,
        }
    }

    /// The same links under another configuration.
    ///
    /// A link stays the same for as long as its DSN, its settings and what its certificate files hold are the same.
    #[must_use]
    pub fn with_config(&self, config: BrokersConfig) -> Self {
        Self {
            redis: How::new(config.redis),
            rabbitmq: How::new(config.rabbitmq),
            number: self.links.asking.fetch_add(1, Ordering::Relaxed) + 1,
            links: Arc::clone(&self.links),
            readiness: Arc::clone(&self.readiness),
            metrics: self.metrics.clone(),
        }
    }

    /// Makes `/ready` no longer depend on links that were asked for by earlier configurations only.
    pub fn relinquish_others(&self) {
        let old = |asked_by| asked_by < self.number;
        for known in self.links.redis.lock().values_mut() {
            if let Some(link) = known.link.upgrade().filter(|_| old(known.asked_by)) {
                known.given_up = true;
                link.relinquish();
            }
        }
        for known in self.links.rabbitmq.lock().values_mut() {
            if let Some(link) = known.link.upgrade().filter(|_| old(known.asked_by)) {
                known.given_up = true;
                link.relinquish();
            }
        }
    }

    /// The count of connections made to a broker.
    fn connects(&self, broker: &str) -> IntCounter {
        self.metrics
            .broker_connects_total
            .with_label_values(&[broker])
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

    /// The link to the Redis of a DSN, which is connected in the background; logs name the setting that has the DSN.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read; never because Redis is away.
    pub fn redis(&self, dsn: &Secret, setting: &'static str) -> Result<Arc<RedisLink>, DsnError> {
        let link = Open::get_or_open(&self.links.redis, dsn, (&self.redis, self.number), || {
            RedisLink::open(
                dsn,
                setting,
                &self.redis.config,
                (&self.readiness, self.connects(redis::NAME)),
            )
        })?;
        link.used_by(setting);
        Ok(link)
    }

    /// The link to the `RabbitMQ` of a DSN, which is connected in the background; logs name the setting that has the
    /// DSN.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read; never because `RabbitMQ` is away.
    pub fn rabbitmq(
        &self,
        dsn: &Secret,
        setting: &'static str,
    ) -> Result<Arc<RabbitmqLink>, DsnError> {
        let link = Open::get_or_open(
            &self.links.rabbitmq,
            dsn,
            (&self.rabbitmq, self.number),
            || {
                RabbitmqLink::open(
                    dsn,
                    setting,
                    &self.rabbitmq.config,
                    (&self.readiness, self.connects(rabbitmq::NAME)),
                )
            },
        )?;
        link.used_by(setting);
        Ok(link)
    }
}

impl std::fmt::Debug for Brokers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Brokers").finish_non_exhaustive()
    }
}
