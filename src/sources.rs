//! Where pushes come from beside the HTTP API, one file a source.
//!
//! A source reads pushes from a broker and hands them to the registry; what cannot be parsed becomes a dead letter,
//! and the source goes on.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::brokers::{Brokers, DsnError};
use crate::config::Config;
use crate::registry::Registry;
use crate::sinks::dead_letter::DeadLetters;

pub(crate) mod pace;
pub mod rabbitmq;
pub mod redis_stream;

/// Where pushes are read from; the HTTP API takes them as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransportConfig {
    /// A Redis stream.
    pub redis_stream: redis_stream::RedisSourceConfig,
    /// A `RabbitMQ` exchange.
    pub rabbitmq: rabbitmq::RabbitmqSourceConfig,
}

/// What every source works with.
#[derive(Clone)]
pub struct SourceContext {
    /// The gateway's settings.
    pub config: Arc<Config>,
    /// The gateway's name in leases and positions.
    pub node_id: Arc<str>,
    /// The links to brokers, with readiness and metrics.
    pub brokers: Arc<Brokers>,
    /// The connections that pushes go to.
    pub registry: Arc<Registry>,
    /// Where pushes go that cannot be parsed.
    pub dead_letters: Arc<dyn DeadLetters>,
    /// Cancelled when the source is to stop.
    pub stop: CancellationToken,
    /// Holds the sources' tasks.
    pub tasks: TaskTracker,
}

/// The sources of a gateway; stopped when dropped.
#[derive(Debug)]
pub struct Sources {
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// Why a source cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}`: {reason}")]
pub struct SourceError {
    /// The setting that is wrong.
    pub setting: &'static str,
    /// What is wrong with it.
    pub reason: DsnError,
}

impl Sources {
    /// Starts every source that is configured.
    ///
    /// # Errors
    /// When a DSN is malformed; never because a broker is away.
    pub fn start(context: &SourceContext) -> Result<Self, SourceError> {
        redis_stream::start(context)?;
        rabbitmq::start(context)?;
        Ok(Self {
            stop: context.stop.clone(),
            tasks: context.tasks.clone(),
        })
    }

    /// Stops reading, after what was read has been handed to the registry.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
