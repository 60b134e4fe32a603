//! Starts the deliveries that a configuration asks for.
//!
//! Stands between the configuration and `fan_out`, which gets the deliveries.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{DeadLetters, FallbackDeadLetters, NoDeadLetters};
use super::dead_letter_file::{self, DeadLetterFileError};
use super::dead_letter_rabbitmq::RabbitmqDeadLetters;
use super::delivery::{Delivery, DeliverySettings, RetryPolicy};
use super::memory::MemorySink;
use super::rabbitmq::RabbitmqSink;
use super::stdout::{self, StdoutSink};
use super::webhook::{Webhook, WebhookError};
use crate::brokers::rabbitmq::LinkError;
use crate::brokers::{Brokers, DsnError};
use crate::config::{BufferConfig, Config};
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
}

/// What a configuration's sinks come to.
pub struct Sinks {
    /// One for each sink that gets events.
    pub deliveries: Vec<Arc<Delivery>>,
    /// Where sources put what they cannot parse.
    pub source_dead_letters: Arc<dyn DeadLetters>,
    /// Where dead letters can be listed and replayed from.
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
    brokers: &Brokers,
    memory: Option<MemorySink>,
) -> Result<Sinks, SinkError> {
    let metrics = brokers.metrics();
    let mut sinks = Vec::new();
    let webhook = &config.events.webhook;
    if config.events_mode().has_webhook() && !webhook.url.is_empty() {
        let sink = Webhook::new(webhook, &config.tracing.header_name)?.into_service();
        let settings = DeliverySettings {
            name: "webhook",
            buffer: webhook.buffer.clone(),
            concurrency: webhook.concurrency,
            max_batch: 1,
            retry: webhook.retry(),
        };
        sinks.push((settings, sink));
    }
    let rabbitmq = &config.events.rabbitmq;
    if config.events_mode().has_broker() && !rabbitmq.dsn.is_empty() {
        let link = brokers
            .rabbitmq(&rabbitmq.dsn)
            .map_err(SinkError::RabbitmqDsn)?;
        link.require();
        let sink = RabbitmqSink::new(config, link, metrics)?.into_service();
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
    let file =
        if sinks.is_empty() && config.redis_dsn().is_empty() && config.rabbitmq_dsn().is_empty() {
            Arc::new(NoDeadLetters) as Arc<dyn DeadLetters>
        } else {
            dead_letter_file::start(&config.events.dead_letters.file)?
        };
    let mut dead_letter_stores: Vec<Arc<dyn DeadLetterStore>> = Vec::new();
    let mut in_rabbitmq = None;
    if !config.rabbitmq_dsn().is_empty() {
        let link = brokers
            .rabbitmq(config.rabbitmq_dsn())
            .map_err(SinkError::RabbitmqDsn)?;
        let letters = Arc::new(RabbitmqDeadLetters::new(config, link)?);
        dead_letter_stores.push(Arc::clone(&letters) as _);
        in_rabbitmq = Some(letters as Arc<dyn DeadLetters>);
    }
    let chain = |first: &[&Option<Arc<dyn DeadLetters>>]| -> Arc<dyn DeadLetters> {
        let brokers = first.iter().copied().flatten().cloned();
        Arc::new(FallbackDeadLetters::new(
            brokers.chain([Arc::clone(&file)]).collect(),
        ))
    };
    let deliveries = sinks
        .into_iter()
        .map(|(settings, sink)| {
            let letters = match settings.name {
                "webhook" | "rabbitmq" => chain(&[&in_rabbitmq]),
                _ => Arc::clone(&file),
            };
            Delivery::start(settings, sink, letters, metrics)
        })
        .collect();
    Ok(Sinks {
        deliveries,
        source_dead_letters: chain(&[&in_rabbitmq]),
        dead_letter_stores,
    })
}

/// A sink within the machine: it fails for good or not at all.
fn local(name: &'static str) -> DeliverySettings {
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
    }
}
