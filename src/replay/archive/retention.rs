//! Deletes from the archive what is older than its retention.
//!
//! Stands beside the writer, which must never wait long for it: a few hundred events at a time, and a pause as long as
//! each deletion took.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use super::database::{Connection, Database, first_id_at};
use super::error::DatabaseError;
use crate::clock::unix_now;

/// Events deleted by one statement, which takes a few milliseconds.
const CHUNK: i64 = 500;

/// Shortest and longest time between two looks.
const OFTEN: Duration = Duration::from_secs(1);
const RARELY: Duration = Duration::from_mins(1);

/// Shortest pause between two deletions.
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// Keeps an archive within its retention, in seconds, for ever; a retention of 0 deletes nothing.
pub(super) async fn keep(database: Arc<Database>, seconds: Arc<AtomicU64>, deleted: IntCounter) {
    let retention = || Duration::from_secs(seconds.load(Ordering::Relaxed));
    loop {
        // A reload may change it meanwhile.
        tokio::time::sleep((retention() / 20).clamp(OFTEN, RARELY)).await;
        let retention = retention();
        if retention.is_zero() {
            continue;
        }
        if let Err(error) = trim(&database, retention, &deleted).await {
            tracing::warn!(
                event = "archive_retention_failed",
                reason = %error,
                "what is too old was not deleted from the archive"
            );
        }
    }
}

async fn trim(
    database: &Database,
    retention: Duration,
    deleted: &IntCounter,
) -> Result<(), DatabaseError> {
    let mut connection = database.connect().await?;
    let trimmed = trim_by(&mut connection, retention, deleted).await;
    connection.close().await;
    trimmed
}

async fn trim_by(
    connection: &mut Connection,
    retention: Duration,
    deleted: &IntCounter,
) -> Result<(), DatabaseError> {
    let before = first_id_at(unix_now().saturating_sub(retention.as_secs()) * 1000);
    loop {
        let started = Instant::now();
        let count = connection.delete_before(before, CHUNK).await?;
        deleted.inc_by(count);
        let more = connection.shrink().await?;
        if count == 0 && !more {
            return Ok(());
        }
        tokio::time::sleep(started.elapsed().max(MIN_PAUSE)).await;
    }
}
