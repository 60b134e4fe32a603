//! The archive: every event in a database, and sending some of them again.
//!
//! Stands beside the brokers as one more sink, behind a delivery like theirs, with one difference: nothing waits for
//! it. A database that is locked, full or away costs the archive events once its buffer is full, and nobody else
//! anything. What it loses is counted and logged, but never becomes a dead letter: the event went to the other sinks
//! all the same, and whoever delivers dead letters again would deliver it twice.
//!
//! # Layout
//! `writer` is the sink, `retention` deletes what is too old, `republish` sends again, `erase` deletes what is a user's.
//! All four know the `database`,
//! and only that knows `sqlite` and `postgres`, whose tables are in `migrations/`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::database::{Database, Wanted, first_id_at};
use self::error::Trouble;
use self::republish::Republish;
use self::writer::{Health, MAX_BATCH, Writer};
use super::{EndedEarly, ReplayConfig, ReplayStrategy, Replayed};
use crate::api::Readiness;
use crate::event::EventKind;
use crate::sinks::dead_letter::NoDeadLetters;
use crate::sinks::delivery::{DeliverySettings, Outlet, RetryPolicy, Target, WhenFull};
use crate::telemetry::metrics::Metrics;

mod database;
mod erase;
mod error;
mod postgres;
mod republish;
mod retention;
mod sqlite;
mod writer;

pub use self::erase::Eraser;

/// The archive's name in `/ready`, metrics and logs.
pub const NAME: &str = "archive";

/// Wait between batches that are not full, so that under light traffic one transaction takes what arrives meanwhile.
const LINGER: Duration = Duration::from_millis(100);

/// The archive cannot be used, and no waiting would help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`replay.archive.dsn`: {0}")]
pub struct ArchiveError(String);

/// The archive of one gateway; its tasks stop when it is dropped.
#[derive(Debug)]
pub struct Archive {
    database: Arc<Database>,
    writer: Arc<Writer>,
    outlet: Outlet,
    aim: Mutex<Aim>,
    /// In seconds; 0: for ever.
    retention: Arc<AtomicU64>,
    stop: CancellationToken,
    _retention: AbortOnDropHandle<()>,
}

/// What the newest generation says of sending again.
#[derive(Debug)]
struct Aim {
    targets: Vec<Target>,
    trace_id_field: String,
    max_batch: usize,
}

/// Which events are to be sent again, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// From this Unix time on, in milliseconds.
    pub since_ms: u64,
    /// Up to this Unix time, which is not part of it, in milliseconds.
    pub until_ms: u64,
    /// After what an earlier answer named.
    pub cursor: Option<Uuid>,
    /// Of this user alone.
    pub user_id: Option<String>,
    /// With this ordering key alone.
    pub ordering_key: Option<String>,
    /// Of this type alone.
    pub kind: Option<EventKind>,
    /// At most so many.
    pub limit: usize,
    /// The name of the sink.
    pub target: &'static str,
}

impl Archive {
    /// Opens the archive of `strategy: durable`; none with another strategy.
    ///
    /// A database that is locked or away does not keep the gateway from starting.
    ///
    /// # Errors
    /// When the DSN is malformed, or names a file that cannot be written or is no archive.
    pub async fn start(
        config: &ReplayConfig,
        trace_id_field: &str,
        sinks: &[Outlet],
        readiness: &Arc<Readiness>,
        metrics: &Metrics,
    ) -> Result<Option<Arc<Self>>, ArchiveError> {
        if config.strategy != ReplayStrategy::Durable {
            return Ok(None);
        }
        let refused = |error: error::DatabaseError| ArchiveError(error.to_string());
        let database = Arc::new(Database::of(&config.archive.dsn).map_err(refused)?);
        let health = Health::new(Arc::clone(readiness), metrics);
        let connection = match database.connect().await {
            Ok(connection) => Some(connection),
            Err(error) if error.trouble == Trouble::Unusable => return Err(refused(error)),
            Err(error) => {
                tracing::warn!(
                    event = "archive_unavailable",
                    database = database.name(),
                    reason = %error,
                    "events wait in the archive's buffer"
                );
                health.fails(&error.reason);
                None
            }
        };
        let writer = Writer::new(Arc::clone(&database), connection, health);
        let settings = DeliverySettings {
            name: NAME,
            buffer: config.archive.buffer.clone(),
            // A database takes one batch after the other; a second connection would only wait for the first.
            concurrency: 1,
            max_batch: MAX_BATCH,
            // The writer paces the tries, since it alone knows that they all fail for one reason.
            retry: RetryPolicy {
                attempts: None,
                base: Duration::from_millis(5),
                max: Duration::from_millis(50),
            },
            when_full: WhenFull::Drop,
            linger: LINGER,
        };
        let outlet = Outlet::start(
            &settings,
            writer.service(),
            Arc::new(NoDeadLetters),
            metrics,
        );
        writer.serves(outlet.delivery());
        let retention = Arc::new(AtomicU64::new(config.retention_seconds));
        let keeping = AbortOnDropHandle::new(tokio::spawn(retention::keep(
            Arc::clone(&database),
            Arc::clone(&retention),
            metrics.archive_deleted_total.clone(),
        )));
        Ok(Some(Arc::new(Self {
            database,
            writer,
            outlet,
            aim: Mutex::new(Aim {
                targets: targets(sinks),
                trace_id_field: trace_id_field.to_owned(),
                max_batch: config.archive.max_batch,
            }),
            retention,
            stop: CancellationToken::new(),
            _retention: keeping,
        })))
    }

    /// What hands events to the archive.
    #[must_use]
    pub fn outlet(&self) -> &Outlet {
        &self.outlet
    }

    /// The sinks that events can be sent to again.
    #[must_use]
    pub fn targets(&self) -> Vec<&'static str> {
        let aim = self.aim.lock();
        aim.targets.iter().map(|target| target.name).collect()
    }

    /// Goes on with other settings and sinks; a replay that is under way ends as it began.
    pub fn change(&self, config: &ReplayConfig, trace_id_field: &str, sinks: &[Outlet]) {
        let next = Aim {
            targets: targets(sinks),
            trace_id_field: trace_id_field.to_owned(),
            max_batch: config.archive.max_batch,
        };
        // The old ones are dropped after the lock.
        let _old = std::mem::replace(&mut *self.aim.lock(), next);
        self.outlet.delivery().set_buffer(&config.archive.buffer);
        self.retention
            .store(config.retention_seconds, Ordering::Relaxed);
    }

    /// Sends events again, the oldest first, to a sink that must be one of [`Archive::targets`].
    ///
    /// Events of the last moments may still wait for their place in the archive; they are not found yet.
    ///
    /// Two at once do not see each other; whoever calls lets one wait for the other.
    ///
    /// # Errors
    /// When the archive cannot be read, or the sink does not take an event in a few tries.
    pub async fn replay(&self, request: &Request) -> Result<Replayed, EndedEarly> {
        if request.limit == 0 {
            return Ok(Replayed::default());
        }
        let (target, trace_id_field, max_batch) = {
            let aim = self.aim.lock();
            let target = aim.targets.iter().find(|t| t.name == request.target);
            (target.cloned(), aim.trace_id_field.clone(), aim.max_batch)
        };
        let Some(target) = target else {
            return Err(EndedEarly {
                came: Replayed::default(),
                reason: format!("there is no sink `{}`", request.target),
            });
        };
        let since = first_id_at(request.since_ms);
        let from = request
            .cursor
            .map_or(since, |cursor| republish::after(cursor).max(since));
        let mut republish = Republish {
            database: &self.database,
            target,
            trace_id_field: &trace_id_field,
            wanted: Wanted {
                from,
                until: first_id_at(request.until_ms),
                user_id: request.user_id.clone(),
                ordering_key: request.ordering_key.clone(),
                kind: request.kind,
            },
            limit: request.limit.min(max_batch),
            stop: &self.stop,
            done: Replayed::default(),
        };
        let ended = republish.run().await;
        let came = republish.done;
        match ended {
            Ok(()) => Ok(came),
            Err(reason) => Err(EndedEarly { came, reason }),
        }
    }

    /// Ends a replay that is under way; the writer goes on.
    pub fn stop_replay(&self) {
        self.stop.cancel();
    }

    /// Closes the database in good order, once nothing is written any more.
    pub async fn close(&self) {
        self.writer.close().await;
    }
}

/// The sinks among these that events can be sent to again.
fn targets(sinks: &[Outlet]) -> Vec<Target> {
    sinks
        .iter()
        .map(Outlet::target)
        .filter(|target| matches!(target.name, "redis" | "rabbitmq" | "webhook"))
        .collect()
}
