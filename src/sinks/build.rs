//! Makes the sinks that a configuration asks for, and takes over what runs already.
//!
//! Stands between the configuration and `fan_out`, which gets the outlets. [`build`] prepares: it may fail, and
//! changes nothing that runs. [`Activation::apply`] cannot fail. `running` remembers what there is, `letters` finds
//! the dead-letter targets.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::letters::Letters;
use self::running::{Ties, Wanted};
use super::dead_letter::DeadLetters;
use super::dead_letter_file::{DeadLetterFile, DeadLetterFileError};
use super::delivery::{DeliverySettings, Outlet, RetryPolicy, WhenFull};
use super::memory::MemorySink;
use super::rabbitmq::{self, RabbitmqSink};
use super::redis_stream::{self, RedisStreamSink};
use super::stdout::{self, StdoutSink};
use super::webhook::{self, Webhook, WebhookError};
use crate::brokers::rabbitmq::{LinkError, RabbitmqLink};
use crate::brokers::redis::RedisLink;
use crate::brokers::{self, Brokers, DsnError};
use crate::config::{BufferConfig, Config, Secret};
use crate::leases::Leases;
use crate::replay::DeadLetterStore;

mod letters;
mod running;
#[cfg(test)]
mod tests;

pub use running::Running;

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
    pub outlets: Vec<Outlet>,
    /// Where sources put what they cannot parse; the same as before where nothing about it changed.
    pub source_dead_letters: Arc<dyn DeadLetters>,
    /// The stores that can give dead letters back.
    pub dead_letter_stores: Vec<Arc<dyn DeadLetterStore>>,
    /// What is to be done once the configuration is in force.
    pub activation: Activation,
}

impl std::fmt::Debug for Sinks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sinks")
            .field("outlets", &self.outlets)
            .finish_non_exhaustive()
    }
}

/// What is to be done once a configuration is in force: buffers get their bounds, versions begin and end.
///
/// Dropping it instead leaves everything as it was.
#[must_use = "the sinks of the old configuration go on until it is applied"]
pub struct Activation {
    next: Running,
    required: Vec<Link>,
    file: Option<(Arc<DeadLetterFile>, Arc<Config>)>,
}

/// A link that the gateway is not ready without.
enum Link {
    Redis(Arc<RedisLink>),
    Rabbitmq(Arc<RabbitmqLink>),
}

impl Activation {
    /// Does it. What was accepted for a target that this configuration no longer has is tried until the deadline, and then
    /// becomes dead letters; where only the way of reaching the same target changed, it is tried on in the old way.
    ///
    /// Cannot fail, and waits for nothing.
    pub fn apply(self, deadline: Instant) -> Running {
        for link in &self.required {
            match link {
                Link::Redis(link) => link.require(),
                Link::Rabbitmq(link) => link.require(),
            }
        }
        if let Some((file, config)) = &self.file {
            file.set_limits(&config.events.dead_letters.file);
        }
        self.next.activate(deadline);
        self.next
    }
}

impl std::fmt::Debug for Activation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Activation")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// Makes an outlet for each sink that gets events, on the runtime of the caller.
///
/// What of `running` is made of the same settings and links is used again: a sink's delivery always, its version if
/// nothing about it changed, and at least its connections if only the way of trying or the dead letters did.
///
/// # Errors
/// When a sink's settings cannot be used, or the dead-letter file cannot be written.
pub fn build(
    config: &Arc<Config>,
    links: &Brokers,
    leases: Option<&Arc<Leases>>,
    memory: Option<MemorySink>,
    running: &Running,
) -> Result<Sinks, SinkError> {
    let Gathered { wanted, required } = Gathered::new(config, links, leases, memory)?;
    let nothing_fails =
        wanted.is_empty() && config.redis_dsn().is_empty() && config.rabbitmq_dsn().is_empty();
    let mut letters = running.letters().clone();
    let found = letters.find(config, links, !nothing_fails)?;
    let mut next = running.without_finished(&wanted, letters);
    let mut outlets = Vec::with_capacity(wanted.len());
    for wanted in wanted {
        let dead_letters = found.routes.of(wanted.settings.name);
        outlets.push(next.want(wanted, config, dead_letters, links.metrics())?);
    }
    Ok(Sinks {
        outlets,
        source_dead_letters: found.routes,
        dead_letter_stores: found.stores,
        activation: Activation {
            next,
            required,
            file: found.file.map(|file| (file, Arc::clone(config))),
        },
    })
}

/// The sinks that a configuration asks for, none of them made yet.
struct Gathered<'a> {
    wanted: Vec<Wanted<'a>>,
    required: Vec<Link>,
}

impl<'a> Gathered<'a> {
    fn new(
        config: &'a Config,
        links: &'a Brokers,
        leases: Option<&'a Arc<Leases>>,
        memory: Option<MemorySink>,
    ) -> Result<Self, SinkError> {
        let mut wanted = Vec::new();
        let mut required = Vec::new();
        let primary = primary(config);
        // Where connections have records, every sink with a far side goes by them.
        let ties = |name| Ties::new(leases.map(|leases| (leases, primary == Some(name))));
        let with_records = move |name, sink| match leases {
            Some(leases) => leases.layer(sink, primary == Some(name)),
            None => sink,
        };
        let webhook = &config.events.webhook;
        if config.events_mode().has_webhook() && !webhook.url.is_empty() {
            wanted.push(Wanted {
                settings: webhook.delivery(),
                ties: ties("webhook"),
                same: |old, new| webhook::made_of(old) == webhook::made_of(new),
                leads: |old, new| webhook::leads_to(old) == webhook::leads_to(new),
                make: Box::new(move || {
                    let sink = Webhook::new(webhook, &config.tracing.header_name)?;
                    Ok(with_records("webhook", sink.into_service()))
                }),
            });
        }
        let stream = &config.events.redis_stream;
        if config.events_mode().has_broker() && !stream.dsn.is_empty() {
            let link = redis_link(links, &stream.dsn, "events.redis_stream.dsn")?;
            required.push(Link::Redis(Arc::clone(&link)));
            wanted.push(Wanted {
                settings: stream.delivery(&link),
                ties: ties(brokers::redis::NAME).with(&link),
                same: |old, new| redis_stream::made_of(old) == redis_stream::made_of(new),
                leads: |old, new| redis_stream::leads_to(old) == redis_stream::leads_to(new),
                make: Box::new(move || {
                    let ledger = leases.and_then(|leases| leases.ledger(&link));
                    let has_ledger = ledger.is_some();
                    let sink = RedisStreamSink::new(link, config, ledger).into_service();
                    Ok(if has_ledger {
                        sink
                    } else {
                        with_records(brokers::redis::NAME, sink)
                    })
                }),
            });
        }
        let rabbitmq = &config.events.rabbitmq;
        if config.events_mode().has_broker() && !rabbitmq.dsn.is_empty() {
            let link = links
                .rabbitmq(&rabbitmq.dsn, "events.rabbitmq.dsn")
                .map_err(SinkError::RabbitmqDsn)?;
            required.push(Link::Rabbitmq(Arc::clone(&link)));
            wanted.push(Wanted {
                settings: RabbitmqSink::settings(rabbitmq),
                ties: ties(brokers::rabbitmq::NAME).with(&link),
                same: |old, new| rabbitmq::made_of(old) == rabbitmq::made_of(new),
                leads: |old, new| rabbitmq::leads_to(old) == rabbitmq::leads_to(new),
                make: Box::new(move || {
                    let sink = RabbitmqSink::new(config, link, links.metrics())?.into_service();
                    Ok(with_records(brokers::rabbitmq::NAME, sink))
                }),
            });
        }
        if config.events.stdout.enabled {
            wanted.push(Wanted {
                settings: local("stdout"),
                ties: Ties::default(),
                same: |_, _| true,
                leads: |_, _| true,
                make: Box::new(|| {
                    let sink = StdoutSink::start().map_err(SinkError::Stdout)?;
                    Ok(sink.into_service())
                }),
            });
        }
        if let Some(memory) = memory {
            wanted.push(Wanted {
                settings: local("memory"),
                ties: Ties::default(),
                same: |_, _| true,
                leads: |_, _| true,
                make: Box::new(|| Ok(memory.into_service())),
            });
        }
        Ok(Self { wanted, required })
    }
}

/// The sink whose deliveries decide what became of a connection, of those that get events.
pub(crate) fn primary(config: &Config) -> Option<&'static str> {
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

fn redis_link(
    brokers: &Brokers,
    dsn: &Secret,
    setting: &'static str,
) -> Result<Arc<RedisLink>, SinkError> {
    brokers
        .redis(dsn, setting)
        .map_err(|reason| SinkError::Dsn { setting, reason })
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
