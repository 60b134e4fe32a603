//! Starts the deliveries that a configuration asks for.
//!
//! Stands between the configuration and `fan_out`, which gets the deliveries.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::DeadLetters;
use super::dead_letter_file::{self, DeadLetterFileError};
use super::dead_letter_rabbitmq::RabbitmqDeadLetters;
use super::dead_letter_redis::RedisDeadLetters;
use super::dead_letter_routes::{DeadLetterRoutes, DeadLetterTargets};
use super::delivery::{Delivery, DeliverySettings, RetryPolicy, WhenFull};
use super::memory::MemorySink;
use super::rabbitmq::RabbitmqSink;
use super::redis_stream::RedisStreamSink;
use super::stdout::{self, StdoutSink};
use super::webhook::{Webhook, WebhookError};
use crate::brokers::rabbitmq::LinkError;
use crate::brokers::redis::RedisLink;
use crate::brokers::{self, Brokers, DsnError};
use crate::config::{BufferConfig, Config, Secret};
use crate::leases::Leases;
use crate::replay::DeadLetterStore;

/// Why a sink could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The webhook.
    #[error("`events.webhook`: {0}")]
    Webhook(#[from] WebhookError),
    /// The dead-letter file.
    #[error("`events.dead_letters.file`: {0}")]
    DeadLetterFile(#[from] DeadLetterFileError),
    /// `RabbitMQ`, by its DSN.
    #[error("`events.rabbitmq.dsn`: {0}")]
    RabbitmqDsn(DsnError),
    /// `RabbitMQ`, by the names of exchanges and queues.
    #[error("`events.rabbitmq`: {0}")]
    Rabbitmq(#[from] LinkError),
    /// Standard output.
    #[error("`events.stdout`: {0}")]
    Stdout(std::io::Error),
    /// A broker.
    #[error("`{setting}`: {reason}")]
    Dsn {
        /// The setting that is wrong.
        setting: &'static str,
        /// What is wrong with it.
        reason: DsnError,
    },
}

/// What a configuration's sinks come to.
pub struct Sinks {
    /// One for each sink that gets events.
    pub deliveries: Vec<Arc<Delivery>>,
    /// Where sources put what they cannot parse.
    pub source_dead_letters: Arc<dyn DeadLetters>,
    /// The stores that can give dead letters back.
    pub dead_letter_stores: Vec<Arc<dyn DeadLetterStore>>,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks")
            .field("deliveries", &self.deliveries)
            .finish_non_exhaustive()
    }
}

/// Starts a delivery for each sink that gets events, on the runtime of the caller.
///
/// # Errors
/// When a sink's settings cannot be used, or the dead-letter file cannot be written.
pub fn build(
    config: &Config,
    links: &Brokers,
    leases: Option<&Leases>,
    memory: Option<MemorySink>,
) -> Result<Sinks, SinkError> {
    let metrics = links.metrics();
    let mut sinks = Vec::new();
    let primary = primary(config);
    // Where connections have records, every sink with a far side goes by them.
    let with_records = |name, sink| match leases {
        Some(leases) => leases.layer(sink, primary == Some(name)),
        None => sink,
    };
    let webhook = &config.events.webhook;
    if config.events_mode().has_webhook() && !webhook.url.is_empty() {
        let sink = Webhook::new(webhook, &config.tracing.header_name)?.into_service();
        sinks.push((webhook.delivery(), with_records("webhook", sink)));
    }
    let stream = &config.events.redis_stream;
    if config.events_mode().has_broker() && !stream.dsn.is_empty() {
        let link = redis_link(links, &stream.dsn, "events.redis_stream.dsn")?;
        link.require();
        let ledger = leases.and_then(|leases| leases.ledger(&link));
        let settings = stream.delivery(&link);
        let has_ledger = ledger.is_some();
        let sink = RedisStreamSink::new(link, config, ledger).into_service();
        let sink = if has_ledger {
            sink
        } else {
            with_records(brokers::redis::NAME, sink)
        };
        sinks.push((settings, sink));
    }
    let rabbitmq = &config.events.rabbitmq;
    if config.events_mode().has_broker() && !rabbitmq.dsn.is_empty() {
        let link = links
            .rabbitmq(&rabbitmq.dsn)
            .map_err(SinkError::RabbitmqDsn)?;
        link.used_by("events.rabbitmq.dsn");
        link.require();
        let sink = RabbitmqSink::new(config, link, metrics)?.into_service();
        let sink = with_records(brokers::rabbitmq::NAME, sink);
        sinks.push((RabbitmqSink::settings(rabbitmq), sink));
    }
    if config.events.stdout.enabled {
        let sink = StdoutSink::start()
            .map_err(SinkError::Stdout)?
            .into_service();
        sinks.push((local("stdout"), sink));
    }
    if let Some(memory) = memory {
        sinks.push((local("memory"), memory.into_service()));
    }
    let nothing_fails =
        sinks.is_empty() && config.redis_dsn().is_empty() && config.rabbitmq_dsn().is_empty();
    let mut dead_letter_stores: Vec<Arc<dyn DeadLetterStore>> = Vec::new();
    let mut targets = DeadLetterTargets::default();
    if let Some(redis) = redis_dead_letters(config, links)? {
        dead_letter_stores.push(redis.clone());
        targets.redis = Some(redis);
    }
    if !config.rabbitmq_dsn().is_empty() {
        let link = links
            .rabbitmq(config.rabbitmq_dsn())
            .map_err(SinkError::RabbitmqDsn)?;
        link.used_by(config.rabbitmq_dsn_setting());
        let letters = Arc::new(RabbitmqDeadLetters::new(config, link)?);
        dead_letter_stores.push(letters.clone());
        targets.rabbitmq = Some(letters);
    }
    if !nothing_fails {
        targets.file = Some(dead_letter_file::start(&config.events.dead_letters.file)?);
    }
    let dead_letters: Arc<dyn DeadLetters> = Arc::new(DeadLetterRoutes::new(&targets));
    let deliveries = sinks
        .into_iter()
        .map(|(settings, sink)| Delivery::start(settings, sink, Arc::clone(&dead_letters), metrics))
        .collect();
    Ok(Sinks {
        deliveries,
        source_dead_letters: dead_letters,
        dead_letter_stores,
    })
}

/// The sink whose deliveries decide what became of a connection, of those that get events.
fn primary(config: &Config) -> Option<&'static str> {
    let mode = config.events_mode();
    let events = &config.events;
    let candidates = [
        (
            mode.has_broker(),
            &events.redis_stream.dsn,
            brokers::redis::NAME,
        ),
        (
            mode.has_broker(),
            &events.rabbitmq.dsn,
            brokers::rabbitmq::NAME,
        ),
    ];
    candidates
        .into_iter()
        .find(|(wanted, dsn, _)| *wanted && !dsn.is_empty())
        .map(|(.., name)| name)
        .or_else(|| (mode.has_webhook() && !events.webhook.url.is_empty()).then_some("webhook"))
}

/// The stream of dead letters, where there is a Redis.
fn redis_dead_letters(
    config: &Config,
    brokers: &Brokers,
) -> Result<Option<Arc<RedisDeadLetters>>, SinkError> {
    let dsn = config.redis_dsn();
    if dsn.is_empty() {
        return Ok(None);
    }
    let setting = if config.events.redis_stream.dsn.is_empty() {
        "transport.redis_stream.dsn"
    } else {
        "events.redis_stream.dsn"
    };
    let link = redis_link(brokers, dsn, setting)?;
    Ok(Some(Arc::new(RedisDeadLetters::new(link, config))))
}

fn redis_link(
    brokers: &Brokers,
    dsn: &Secret,
    setting: &'static str,
) -> Result<Arc<RedisLink>, SinkError> {
    let link = brokers
        .redis(dsn)
        .map_err(|reason| SinkError::Dsn { setting, reason })?;
    link.used_by(setting);
    Ok(link)
}

/// A sink within the machine: it fails for good or not at all.
pub(super) fn local(name: &'static str) -> DeliverySettings {
    DeliverySettings {
        name,
        buffer: BufferConfig::default(),
        concurrency: 1,
        max_batch: stdout::MAX_BATCH,
        retry: RetryPolicy {
            attempts: Some(3),
            base: Duration::from_millis(100),
            max: Duration::from_secs(1),
        },
        when_full: WhenFull::Wait,
        linger: Duration::ZERO,
    }
}
