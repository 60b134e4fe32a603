//! Starts the deliveries that a configuration asks for.
//!
//! Stands between the configuration and `fan_out`, which gets the deliveries.

use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::{DeadLetters, NoDeadLetters};
use super::dead_letter_file::{self, DeadLetterFileError};
use super::delivery::{Delivery, DeliverySettings, RetryPolicy};
use super::memory::MemorySink;
use super::stdout::{self, StdoutSink};
use super::webhook::{Webhook, WebhookError};
use crate::brokers::Brokers;
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
    /// The brokers' dead letters, which can be replayed.
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
    if config.events.stdout.enabled {
        let sink = StdoutSink::start()
            .map_err(SinkError::Stdout)?
            .into_service();
        sinks.push((local("stdout"), sink));
    }
    if let Some(memory) = memory {
        sinks.push((local("memory"), memory.into_service()));
    }
    let dead_letters =
        if sinks.is_empty() && config.redis_dsn().is_empty() && config.rabbitmq_dsn().is_empty() {
            Arc::new(NoDeadLetters) as Arc<dyn DeadLetters>
        } else {
            dead_letter_file::start(&config.events.dead_letters.file)?
        };
    let deliveries = sinks
        .into_iter()
        .map(|(settings, sink)| Delivery::start(settings, sink, Arc::clone(&dead_letters), metrics))
        .collect();
    Ok(Sinks {
        deliveries,
        source_dead_letters: dead_letters,
        dead_letter_stores: Vec::new(),
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
