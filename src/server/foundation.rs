//! What lives as long as the process, and how a configuration is put on it.
//!
//! Stands below the generations. A start and a reload do the same: *prepare* opens links, makes sinks and compiles, and
//! may fail without having changed anything; *activate* puts the result in force, and cannot fail. What only the former
//! configuration had ends by itself: sinks deliver what they have, sources hand over what they read.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{StartError, State};
use crate::api::{InForce, Readiness, admin_key};
use crate::brokers::Brokers;
use crate::brokers::redis::RedisLink;
use crate::clock::seconds;
use crate::config::changes::Effective;
use crate::config::{Config, PresenceConfig, PresenceKind, PresenceStrategy};
use crate::intake::Intake;
use crate::kept::Kept;
use crate::leases::{Charges, Leases};
use crate::message::FieldSet;
use crate::pipeline::{Generation, Ingredients, compile};
use crate::presence::Presence;
use crate::presence::memory::MemoryPresence;
use crate::presence::redis::RedisPresence;
use crate::registry::Registry;
use crate::replay::Replays;
use crate::replay::archive::Archive;
use crate::sinks::dead_letter::{DeadLetters, NoDeadLetters};
use crate::sinks::delivery::Outlet;
use crate::sinks::memory::MemorySink;
use crate::sinks::{self, Activation, Sinks};
use crate::sources::{CurrentDeadLetters, PreparedSources, SourceContext, Sources};
use crate::svc::probe::Tap;
use crate::tail::TailsOfProcess;
use crate::telemetry::logs::{LogLevel, PreparedLevel};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::{PreparedTraces, Traces};

/// Connections that are woken at once to change to a new generation.
const WOKEN_AT_ONCE: usize = 128;

/// Pause between two lots of woken connections, in which messages have their turn.
const WAKE_PAUSE: Duration = Duration::from_millis(2);

/// Shortest time for a store of presence that is given up to be emptied.
const MIN_REMOVAL: Duration = Duration::from_secs(5);

/// What every generation is made with, beside its configuration.
pub(super) struct Seeds {
    pub(super) memory: Option<MemorySink>,
    pub(super) tap: Option<Tap>,
    pub(super) log_level: LogLevel,
}

/// What lives as long as the process.
pub(super) struct Foundation {
    pub(super) metrics: Metrics,
    pub(super) registry: Arc<Registry>,
    pub(super) sources: SourceContext,
    pub(super) traces: Traces,
    node_id: Arc<str>,
    /// The links before any configuration.
    brokers: Brokers,
    kept: Kept,
    /// When the process began.
    epoch: Instant,
    archive: Option<Arc<Archive>>,
    seeds: Seeds,
    /// Wakes connections after an activation.
    waking: Mutex<Option<AbortOnDropHandle<()>>>,
    /// Empties stores of presence that were given up.
    removals: Mutex<JoinSet<()>>,
}

/// The configuration in force, and what it runs on.
pub(super) struct Running {
    pub(super) number: u64,
    pub(super) config: Arc<Config>,
    pub(super) effective: Effective,
    pub(super) hash: String,
    pub(super) sinks: sinks::Running,
    pub(super) leases: Option<Arc<Leases>>,
    presence: Store,
    replays: Arc<Replays>,
}

impl Running {
    pub(super) fn named(self, hash: String, effective: Effective) -> Self {
        Self {
            effective,
            hash,
            ..self
        }
    }
}

/// A configuration that can be put in force.
pub(super) struct Prepared {
    pub(super) generation: Generation,
    pub(super) in_force: InForce,
    pub(super) parts: Parts,
}

/// What of a configuration is put in force beside its stacks.
pub(super) struct Parts {
    number: u64,
    config: Arc<Config>,
    brokers: Brokers,
    outlets: Vec<Outlet>,
    activation: Activation,
    source_dead_letters: Arc<dyn DeadLetters>,
    sources: PreparedSources,
    leases: Option<(Arc<Leases>, Arc<RedisLink>)>,
    presence: Store,
    replays: Arc<Replays>,
    log_level: PreparedLevel,
    traces: PreparedTraces,
}

/// Where presence is kept.
#[derive(Clone)]
struct Store {
    presence: Arc<dyn Presence>,
    /// The same, where it is in Redis, with what it was made of.
    redis: Option<(Arc<RedisPresence>, Arc<RedisLink>, PresenceConfig)>,
}

impl Foundation {
    pub(super) fn new(
        config: &Config,
        node_id: Arc<str>,
        (readiness, metrics): (Arc<Readiness>, Metrics),
        archive: Option<Arc<Archive>>,
        seeds: Seeds,
    ) -> Self {
        let registry = Arc::new(Registry::new(config.backpressure.clone(), metrics.clone()));
        let kept = Kept::default();
        kept.keep(|| TailsOfProcess(Arc::clone(registry.tails())));
        let traces = Traces::start(&metrics);
        Self {
            sources: SourceContext {
                node_id: Arc::clone(&node_id),
                registry: Arc::clone(&registry),
                tracer: traces.tracer().clone(),
                dead_letters: Arc::new(CurrentDeadLetters::new(Arc::new(NoDeadLetters))),
            },
            registry,
            traces,
            node_id,
            brokers: Brokers::new(config.brokers.clone(), readiness, metrics.clone()),
            metrics,
            kept,
            epoch: Instant::now(),
            archive,
            seeds,
            waking: Mutex::default(),
            removals: Mutex::default(),
        }
    }

    pub(super) fn log_level(&self) -> &LogLevel {
        &self.seeds.log_level
    }

    /// Makes all that a configuration needs, beside what runs.
    ///
    /// # Errors
    /// When a setting names something that is not there, or cannot be used; nothing has changed then.
    pub(super) fn prepare(
        &self,
        config: &Arc<Config>,
        running: Option<&Running>,
    ) -> Result<Prepared, StartError> {
        let log_level = LogLevel::prepare(&config.logging.level).map_err(StartError::LogLevel)?;
        let traces = self.traces.prepare(config, &self.node_id)?;
        let brokers = self.brokers.with_config(config.brokers.clone());
        let leases = Leases::link(config, &brokers)?.map(|link| {
            let running = running.and_then(|running| running.leases.clone());
            let leases =
                running.unwrap_or_else(|| Leases::open(config, Arc::clone(&link), &self.node_id));
            (leases, link)
        });
        let Sinks {
            mut outlets,
            source_dead_letters,
            dead_letter_stores,
            activation,
        } = sinks::build(
            config,
            &brokers,
            leases.as_ref().map(|(leases, _)| leases),
            self.seeds.memory.clone(),
            running.map_or(&sinks::Running::default(), |running| &running.sinks),
        )?;
        outlets.extend(self.archive.iter().map(|archive| archive.outlet().clone()));
        let number = running.map_or(1, |running| running.number + 1);
        let generation = compile(
            number,
            Ingredients {
                config,
                shared: &self.kept,
                metrics: &self.metrics,
                outlets: &outlets,
                fields: FieldSet::default(),
                tracer: self.traces.tracer(),
                tap: self.seeds.tap.clone(),
            },
        )?;
        let presence = self.presence(config, &brokers, running)?;
        let mut replays = Replays::new(config, &brokers, dead_letter_stores)?;
        if let Some(running) = running {
            replays = replays.continuing(&running.replays);
        }
        let replays = Arc::new(replays.with_archive(self.archive.clone()));
        let sources = PreparedSources::new(&self.sources, config, &brokers)?;
        Ok(Prepared {
            generation,
            in_force: InForce {
                presence: Arc::clone(&presence.presence),
                replays: Arc::clone(&replays),
                admin_key: admin_key(config)?,
                config: Arc::clone(config),
            },
            parts: Parts {
                number,
                config: Arc::clone(config),
                brokers,
                outlets,
                activation,
                source_dead_letters,
                sources,
                leases,
                presence,
                replays,
                log_level,
                traces,
            },
        })
    }

    /// Puts the rest of a configuration in force, of which connections and the API have the stacks already.
    pub(super) fn activate(
        &self,
        parts: Parts,
        before: Option<&Running>,
        state: &Arc<State>,
        sources: &Sources,
    ) -> Running {
        let Parts {
            number,
            config,
            brokers,
            outlets,
            activation,
            source_dead_letters,
            sources: wanted,
            leases,
            presence,
            replays,
            log_level,
            traces,
        } = parts;
        self.traces.activate(traces);
        let deadline = Instant::now() + seconds(config.server.drain_seconds);
        let sinks = activation.apply(deadline);
        self.registry.limits().set(config.backpressure.clone());
        Intake::of(&self.kept, &self.metrics).set_max(config.server.max_waiting_bytes);
        sources.change(wanted, source_dead_letters);
        if let Some(archive) = &self.archive {
            let trace_id = &config.tracing.trace_id_field;
            archive.change(&config.replay, trace_id, &outlets);
        }
        self.change_presence(&presence, before, deadline);
        if let Some((leases, link)) = &leases {
            let charges = Charges {
                outlets,
                registry: Arc::clone(&self.registry),
                presence: presence.redis.as_ref().map(|(redis, ..)| Arc::clone(redis)),
            };
            if before.is_some_and(|before| before.leases.is_some()) {
                leases.change(Arc::clone(link), charges);
            } else {
                leases.start(charges, self.metrics.clone(), before.is_some());
            }
        }
        brokers.relinquish_others();
        self.seeds.log_level.apply(&log_level);
        if before.is_some() {
            self.wake(state);
        }
        Running {
            number,
            config,
            effective: Effective::default(),
            hash: String::new(),
            sinks,
            leases: leases.map(|(leases, _)| leases),
            presence,
            replays,
        }
    }

    /// The store that the API lists from.
    ///
    /// With presence off, or without a Redis for it, that is still this gateway's own connections.
    fn presence(
        &self,
        config: &Config,
        brokers: &Brokers,
        running: Option<&Running>,
    ) -> Result<Store, StartError> {
        let mut presence = config.presence.clone();
        if presence.kind.is_none() {
            presence.strategy = PresenceStrategy::None;
        }
        let dsn = &presence.redis.dsn;
        let in_redis = presence.kind == Some(PresenceKind::Redis)
            && presence.strategy != PresenceStrategy::None
            && !dsn.is_empty();
        if !in_redis {
            let registry = Arc::clone(&self.registry);
            return Ok(Store {
                presence: Arc::new(MemoryPresence::new(registry, presence)),
                redis: None,
            });
        }
        let setting = "presence.redis.dsn";
        let link = brokers
            .redis(dsn, setting)
            .map_err(|reason| StartError::Presence { setting, reason })?;
        if let Some(running) = running
            && let Some((_, known, settings)) = &running.presence.redis
            && Arc::ptr_eq(known, &link)
            && *settings == presence
        {
            return Ok(running.presence.clone());
        }
        let store = RedisPresence::new(Arc::clone(&link), &presence, self.epoch);
        Ok(Store {
            presence: Arc::clone(&store) as Arc<dyn Presence>,
            redis: Some((store, link, presence)),
        })
    }

    /// Begins with a store of presence, which adopts the connections that are open, and gives the former up.
    fn change_presence(&self, to: &Store, before: Option<&Running>, deadline: Instant) {
        let former = before.and_then(|before| before.presence.redis.as_ref());
        let former = former.map(|(store, ..)| store);
        let next = to.redis.as_ref().map(|(store, ..)| store);
        match (former, next) {
            (Some(former), Some(next)) if Arc::ptr_eq(former, next) => return,
            _ => {}
        }
        if let Some(former) = former {
            former.end();
            if next.is_none_or(|next| !next.is_in_place_of(former)) {
                let (former, node_id) = (Arc::clone(former), Arc::clone(&self.node_id));
                let deadline = deadline.max(Instant::now() + MIN_REMOVAL);
                let mut removals = self.removals.lock();
                while removals.try_join_next().is_some() {}
                removals.spawn(async move {
                    let removed = tokio::time::timeout_at(deadline, former.remove(&node_id)).await;
                    if removed.is_err() {
                        tracing::warn!(event = "presence_left_behind");
                    }
                });
            }
        }
        if let Some(next) = next {
            next.start(&self.node_id, Arc::clone(&self.registry));
        }
    }

    /// Has every open connection change to the newest generation, so that none keeps an old one while it is idle.
    fn wake(&self, state: &Arc<State>) {
        let registry = Arc::clone(&self.registry);
        let number = state.current.load().number;
        let waking = tokio::spawn(async move {
            for sessions in registry.all().chunks(WOKEN_AT_ONCE) {
                for session in sessions {
                    session.outbox().nudge();
                }
                tokio::time::sleep(WAKE_PAUSE).await;
            }
            tracing::debug!(event = "reload_followed", generation = number);
        });
        // One that still goes on is not needed any more: all are woken again.
        *self.waking.lock() = Some(AbortOnDropHandle::new(waking));
    }
}
