//! The archive as a sink: writes batches, and waits when the database does not take them.
//!
//! Stands behind a delivery, as every sink. The delivery repeats what failed, connection by connection; that would be
//! a storm on a database that is away, so that the writer itself lets one batch try at a time, ever more rarely.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::time::Instant;

use super::NAME;
use super::database::{Connection, Database};
use super::error::{DatabaseError, Trouble};
use crate::api::Readiness;
use crate::sinks::delivery::Delivery;
use crate::sinks::{Batch, DeliveryError, Failure, Retry};
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;

/// Events in one statement at most.
pub(super) const MAX_BATCH: usize = 1000;

/// Wait after a first failed try; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Longest wait between two tries.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Writes events to the database.
#[derive(Debug)]
pub(super) struct Writer {
    database: Arc<Database>,
    /// The connection of the last batch; taken while a batch is written, and not put back if that failed.
    connection: Mutex<Option<Connection>>,
    pause: Mutex<Pause>,
    health: Health,
}

/// How often in a row the database failed, and when it may be tried again.
#[derive(Debug, Default)]
struct Pause {
    failures: u32,
    until: Option<Instant>,
}

impl Writer {
    pub(super) fn new(
        database: Arc<Database>,
        connection: Option<Connection>,
        health: Health,
    ) -> Arc<Self> {
        Arc::new(Self {
            database,
            connection: Mutex::new(connection),
            pause: Mutex::default(),
            health,
        })
    }

    /// Says how many events wait, from now on.
    pub(super) fn serves(&self, delivery: &Arc<Delivery>) {
        // A writer serves one delivery for all its life.
        let _ = self.health.delivery.set(Arc::downgrade(delivery));
    }

    /// The sink as a delivery takes it, for one try at a time.
    pub(super) fn service(self: &Arc<Self>) -> BoxSink {
        let writer = Arc::clone(self);
        BoxSink::new(tower::service_fn(move |batch: Batch| {
            let writer = Arc::clone(&writer);
            async move { writer.deliver(&batch).await }
        }))
    }

    async fn deliver(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let until = self.pause.lock().until;
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
        let written = self.write(batch).await;
        match &written {
            Ok(()) => {
                *self.pause.lock() = Pause::default();
                self.health.works();
            }
            Err(error) => {
                let mut pause = self.pause.lock();
                let wait = FIRST_WAIT
                    .saturating_mul(1 << pause.failures.min(16))
                    .min(LONGEST_WAIT);
                pause.failures += 1;
                pause.until = Some(Instant::now() + wait);
                drop(pause);
                self.health.fails(&error.reason);
            }
        }
        match written {
            Ok(()) => Ok(()),
            Err(error) if error.trouble == Trouble::Row => self.write_singly(batch).await,
            Err(error) => Err(DeliveryError::all(
                batch.len(),
                error.to_string(),
                Retry::Backoff,
            )),
        }
    }

    async fn write(&self, batch: &Batch) -> Result<(), DatabaseError> {
        // Should this future be dropped half-way, the connection goes with it rather than be used in an unknown state.
        let kept = self.connection.lock().take();
        let mut connection = match kept {
            Some(connection) => connection,
            None => self.database.connect().await?,
        };
        connection.insert(batch, MAX_BATCH).await?;
        *self.connection.lock() = Some(connection);
        Ok(())
    }

    /// Finds the rows that the database refuses, so that the others are kept.
    async fn write_singly(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let mut failed = Vec::new();
        for (index, event) in batch.iter().enumerate() {
            let Err(error) = self.write(&Batch::from([Arc::clone(event)])).await else {
                continue;
            };
            let refused = error.trouble == Trouble::Row;
            let retry = if refused {
                Retry::Never
            } else {
                Retry::Backoff
            };
            failed.push(Failure::new(index, error.to_string(), retry));
            if !refused {
                let tried = index + 1;
                return Err(DeliveryError { failed, tried });
            }
        }
        *self.pause.lock() = Pause::default();
        self.health.works();
        let tried = batch.len();
        if failed.is_empty() {
            return Ok(());
        }
        Err(DeliveryError { failed, tried })
    }

    /// Ends the connection in good order.
    pub(super) async fn close(&self) {
        let kept = self.connection.lock().take();
        if let Some(connection) = kept {
            connection.close().await;
        }
    }
}

/// What `/ready` says of the archive, which makes nothing unready.
#[derive(Debug)]
pub(super) struct Health {
    readiness: Arc<Readiness>,
    /// What hands events to the writer.
    delivery: OnceLock<Weak<Delivery>>,
    dropped: IntCounter,
    fails: AtomicBool,
}

impl Health {
    pub(super) fn new(readiness: Arc<Readiness>, metrics: &Metrics) -> Self {
        readiness.set_advisory(NAME, Ok(()));
        Self {
            readiness,
            delivery: OnceLock::new(),
            dropped: metrics.archive_dropped_total.clone(),
            fails: AtomicBool::new(false),
        }
    }

    /// Events that wait for the writer.
    fn waiting(&self) -> usize {
        let delivery = self.delivery.get().and_then(Weak::upgrade);
        delivery.map_or(0, |delivery| delivery.waiting())
    }

    fn works(&self) {
        if self.fails.swap(false, Ordering::Relaxed) {
            self.readiness.set_advisory(NAME, Ok(()));
            tracing::info!(
                event = "archive_recovered",
                waiting = self.waiting(),
                "the archive is written to again"
            );
        }
    }

    pub(super) fn fails(&self, reason: &str) {
        self.fails.store(true, Ordering::Relaxed);
        let text = format!(
            "{reason}; {} events wait, {} were not archived",
            self.waiting(),
            self.dropped.get()
        );
        self.readiness.set_advisory(NAME, Err(text));
    }
}
