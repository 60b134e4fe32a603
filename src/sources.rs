//! Where pushes come from beside the HTTP API, one file a source.
//!
//! A source reads pushes from a broker and hands them to the registry; what cannot be parsed becomes a dead letter,
//! and the source goes on.
//!
//! # Reload
//! A source whose settings did not change goes on. In the same place (a stream, a queue with a name) a changed one
//! begins where the old one stopped. Elsewhere it begins first, and once it reads, the old one stops, after what that
//! has read was handed over.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::brokers::{self, Brokers, DsnError};
use crate::config::Config;
use crate::registry::Registry;
use crate::sinks::dead_letter::{DeadLetter, DeadLetters, StoreFuture};
use crate::telemetry::traces::Tracer;

mod backoff;
mod manage;
pub(crate) mod pace;
pub mod rabbitmq;
pub mod redis_stream;

use manage::{Feed, Relation, Wanted, manage};
use rabbitmq::RabbitmqFeed;
use redis_stream::RedisFeed;

/// Time that a broker has to say how far its source is behind.
const LAG_PATIENCE: Duration = Duration::from_secs(2);

/// Where pushes are read from; the HTTP API takes them as well.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransportConfig {
    /// A Redis stream.
    pub redis_stream: redis_stream::RedisSourceConfig,
    /// A `RabbitMQ` exchange.
    pub rabbitmq: rabbitmq::RabbitmqSourceConfig,
}

/// What every source works with, however the configuration changes.
#[derive(Clone)]
pub struct SourceContext {
    /// The gateway's name in leases and positions.
    pub node_id: Arc<str>,
    /// The connections that pushes go to.
    pub registry: Arc<Registry>,
    /// Takes the spans of pushes.
    pub tracer: Tracer,
    /// Where pushes go that cannot be parsed.
    pub dead_letters: Arc<CurrentDeadLetters>,
}

/// Where pushes go that cannot be parsed; a reload may lead them elsewhere.
pub struct CurrentDeadLetters(ArcSwap<Arc<dyn DeadLetters>>);

impl CurrentDeadLetters {
    /// Leads to a first target.
    #[must_use]
    pub fn new(target: Arc<dyn DeadLetters>) -> Self {
        Self(ArcSwap::from_pointee(target))
    }

    /// Leads elsewhere from now on.
    pub fn set(&self, target: Arc<dyn DeadLetters>) {
        self.0.store(Arc::new(target));
    }
}

impl DeadLetters for CurrentDeadLetters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        let target = Arc::clone(&**self.0.load());
        Box::pin(async move { target.store(letter).await })
    }
}

/// The sources of a gateway; stopped when dropped.
pub struct Sources {
    redis: watch::Sender<Wanted<RedisFeed>>,
    rabbitmq: watch::Sender<Wanted<RabbitmqFeed>>,
    dead_letters: Arc<CurrentDeadLetters>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// The sources that a configuration asks for, before they replace those that run.
pub struct PreparedSources {
    redis: Wanted<RedisFeed>,
    rabbitmq: Wanted<RabbitmqFeed>,
}

/// How far the sources are behind, whichever a reload puts in place of others.
#[derive(Clone)]
pub struct Lags {
    redis: watch::Receiver<Wanted<RedisFeed>>,
    rabbitmq: watch::Receiver<Wanted<RabbitmqFeed>>,
}

impl Lags {
    /// Asks each source that is configured for the pushes that it has not read yet; none of what it cannot say.
    pub async fn look(&self) -> [(&'static str, Option<u64>); 2] {
        async fn lag<F: Feed>(feeds: &watch::Receiver<Wanted<F>>) -> Option<u64> {
            let feed = feeds.borrow().clone()?;
            tokio::time::timeout(LAG_PATIENCE, feed.lag()).await.ok()?
        }
        let (redis, rabbitmq) = tokio::join!(lag(&self.redis), lag(&self.rabbitmq));
        [
            (brokers::redis::NAME, redis),
            (brokers::rabbitmq::NAME, rabbitmq),
        ]
    }
}

impl std::fmt::Debug for Lags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lags")
    }
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

impl PreparedSources {
    /// Opens the links of every source that is configured.
    ///
    /// # Errors
    /// When a DSN is malformed; never because a broker is away.
    pub fn new(
        context: &SourceContext,
        config: &Arc<Config>,
        brokers: &Brokers,
    ) -> Result<Self, SourceError> {
        Ok(Self {
            redis: RedisFeed::prepare(context, config, brokers)?.map(Arc::new),
            rabbitmq: RabbitmqFeed::prepare(context, config, brokers)?.map(Arc::new),
        })
    }
}

impl Sources {
    /// Makes a gateway's sources, of which there are none yet, on the runtime of the caller.
    #[must_use]
    pub fn start(context: &SourceContext) -> Self {
        let (redis, wanted_of_redis) = watch::channel(None);
        let (rabbitmq, wanted_of_rabbitmq) = watch::channel(None);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(manage(wanted_of_redis, stop.clone()));
        tasks.spawn(manage(wanted_of_rabbitmq, stop.clone()));
        Self {
            redis,
            rabbitmq,
            dead_letters: Arc::clone(&context.dead_letters),
            stop,
            tasks,
        }
    }

    /// What knows how far the sources are behind.
    #[must_use]
    pub fn lags(&self) -> Lags {
        Lags {
            redis: self.redis.subscribe(),
            rabbitmq: self.rabbitmq.subscribe(),
        }
    }

    /// Changes to the sources of a configuration; what did not change goes on.
    pub fn change(&self, to: PreparedSources, dead_letters: Arc<dyn DeadLetters>) {
        self.dead_letters.set(dead_letters);
        want(&self.redis, to.redis);
        want(&self.rabbitmq, to.rabbitmq);
    }

    /// Stops reading, after what was read has been handed to the registry.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Asks for a source, unless the same is asked for already.
fn want<F: Feed>(sender: &watch::Sender<Wanted<F>>, wanted: Wanted<F>) {
    sender.send_if_modified(|current| {
        let same = match (&current, &wanted) {
            (None, None) => true,
            (Some(current), Some(wanted)) => wanted.relation(current) == Relation::Same,
            _ => false,
        };
        if same {
            return false;
        }
        if let Some(wanted) = &wanted {
            wanted.announce();
        }
        *current = wanted;
        true
    });
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl Drop for Sources {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
