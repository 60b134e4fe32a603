//! The archive in a file of the gateway's own.
//!
//! Each connection is a thread of sqlx, so that a statement costs two hops between threads: there is one for a whole
//! batch. A write-ahead log lets replay read while the writer writes; it is synced at checkpoints, so that what a
//! killed process had written stays, and a power cut takes the last moments and nothing else.

use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::percent_decode_str;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteAutoVacuum, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, ConnectOptions as _, SqlSafeStr as _};
use uuid::Uuid;

use super::database::{of_ids, shared_column};
use super::error::DatabaseError;
use crate::event::Event;

/// How long a write waits for another process's lock before it counts as failed.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a page of a new file: with four times the usual an event costs a third less.
const PAGE_BYTES: u32 = 16_384;

/// Free pages that a file keeps for what comes next: one in so many, and at least [`KEPT_PAGES`].
const KEPT_SHARE: i64 = 10;
const KEPT_PAGES: i64 = 256;

/// Free pages given back in one go.
const SHRINK_PAGES: i64 = 64;

const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "events",
    include_str!("../../../migrations/sqlite/0001_events.sql"),
)];

/// A file, not opened.
#[derive(Debug)]
pub(super) struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    pub(super) fn of(dsn: &str) -> Result<Self, DatabaseError> {
        let path = dsn.trim_start_matches("sqlite:");
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.contains('?') {
            return Err(DatabaseError::unusable("`sqlite://` takes no parameters"));
        }
        if path.is_empty() || path == ":memory:" {
            return Err(DatabaseError::unusable("`sqlite://` must name a file"));
        }
        let decoded = percent_decode_str(path)
            .decode_utf8()
            .map_err(|_| DatabaseError::unusable("the file's name is not UTF-8"))?;
        Ok(Self {
            path: PathBuf::from(decoded.as_ref()),
        })
    }

    /// The file, wherever the process runs.
    pub(super) fn place(&self) -> String {
        let path = std::path::absolute(&self.path);
        path.unwrap_or_else(|_| self.path.clone())
            .display()
            .to_string()
    }

    fn options(&self) -> SqliteConnectOptions {
        SqliteConnectOptions::new()
            .filename(&self.path)
            .page_size(PAGE_BYTES)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("journal_size_limit", "67108864")
            // What is moved or deleted in a page that is written anyway leaves no copy in it: the first rows of all would
            // else stay in the table's root page for ever.
            .pragma("secure_delete", "FAST")
            .disable_statement_logging()
    }

    /// A connection by which deleted events are written over with zeros; none where there is no archive.
    pub(super) async fn connect_to_erase(&self) -> Result<Option<SqliteConnection>, DatabaseError> {
        match self.path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Ok(None),
            Err(error) => {
                let reason = format!("`{}`: {error}", self.path.display());
                return Err(DatabaseError::unusable(reason));
            }
        }
        let options = self.options().pragma("secure_delete", "ON");
        let mut connection = options.connect().await?;
        let tables: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'wsgw_events'",
        )
        .fetch_one(&mut connection)
        .await?;
        Ok((tables > 0).then_some(connection))
    }

    pub(super) async fn connect(&self, migrate: bool) -> Result<SqliteConnection, DatabaseError> {
        if migrate {
            create(&self.path)?;
        }
        let mut connection = self.options().connect().await?;
        if migrate {
            // `run` asks for more of the connection's type than a boxed future can promise.
            migrator(MIGRATIONS)
                .run_direct(None, &mut connection, false)
                .await?;
        }
        Ok(connection)
    }
}

/// Makes the file, for nobody but its owner: it holds messages.
fn create(path: &Path) -> Result<(), DatabaseError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    let made = options.clone().create_new(true).open(path);
    let opened = match made {
        // The process's umask may have left less.
        Ok(file) => file.set_permissions(Permissions::from_mode(0o600)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => options.open(path).map(|_| ()),
        Err(error) => Err(error),
    };
    opened.map_err(|error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            DatabaseError::passing("the disk is full")
        }
        _ => DatabaseError::unusable(format!("`{}`: {error}", path.display())),
    })
}

/// What brings a database's tables up to date.
///
/// Migrations that only a newer version knows are no fault, so that gateways can be replaced one after the other.
pub(super) fn migrator(migrations: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(
            version,
            name.into(),
            MigrationType::Simple,
            sql.into_sql_str(),
            false,
        )
    };
    let mut migrator = Migrator::with_migrations(migrations.iter().map(migration).collect());
    migrator.set_ignore_missing(true);
    migrator
}

/// Inserts a batch by one statement; that of a full batch stays prepared.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    events: &[Arc<Event>],
    full: usize,
) -> sqlx::Result<()> {
    let mut sql = String::with_capacity(128 + 16 * events.len());
    sql.push_str(
        "INSERT INTO wsgw_events (event_id, type, user_id, connection_id, seq, ordering_key, event) VALUES ",
    );
    for at in 0..events.len() {
        sql.push_str(if at == 0 {
            "(?,?,?,?,?,?,?)"
        } else {
            ",(?,?,?,?,?,?,?)"
        });
    }
    sql.push_str(" ON CONFLICT (event_id) DO NOTHING");
    // Nothing but question marks was added to the text.
    let mut query = sqlx::query(AssertSqlSafe(sql)).persistent(events.len() == full);
    for event in events {
        query = query
            .bind(event.id)
            .bind(event.kind.as_str())
            .bind(shared_column(&event.user_id))
            .bind(event.connection_id)
            .bind(i64::try_from(event.seq).unwrap_or(i64::MAX))
            .bind(event.ordering_key.as_ref().map(shared_column))
            .bind(String::from_utf8_lossy(&event.json).into_owned());
    }
    query.execute(connection).await?;
    Ok(())
}

pub(super) async fn ahead(
    connection: &mut SqliteConnection,
    from: Uuid,
    until: Uuid,
    rows: i64,
) -> sqlx::Result<Option<Uuid>> {
    sqlx::query_scalar(
        "SELECT event_id FROM wsgw_events WHERE event_id >= ? AND event_id < ? \
         ORDER BY event_id LIMIT 1 OFFSET ?",
    )
    .bind(from)
    .bind(until)
    .bind(rows)
    .fetch_optional(connection)
    .await
}

pub(super) async fn delete_before(
    connection: &mut SqliteConnection,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM wsgw_events WHERE event_id IN \
         (SELECT event_id FROM wsgw_events WHERE event_id < ? ORDER BY event_id LIMIT ?)",
    )
    .bind(before)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}

/// Writes events over in their places, which texts of the same length are.
///
/// Deleted rows are written over with zeros, as `secure_delete` has it, but not the copies that are left where `SQLite`
/// moves rows within and between pages as others go. What is moved after this holds nothing but ids.
pub(super) async fn blank(connection: &mut SqliteConnection, ids: &[Uuid]) -> sqlx::Result<()> {
    let statement = "UPDATE wsgw_events SET \
        event = printf('%*s', length(CAST(event AS BLOB)), ''), \
        ordering_key = iif(ordering_key IS NULL, NULL, \
            printf('%*s', length(CAST(ordering_key AS BLOB)), ''))";
    of_ids(statement, ids).build().execute(connection).await?;
    Ok(())
}

/// Writes the write-ahead log, which still has what was deleted, to the file and empties it; says whether that could be
/// done, as nobody may be reading or writing then.
pub(super) async fn wipe(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(connection)
        .await?;
    Ok(busy == 0)
}

pub(super) async fn shrink(connection: &mut SqliteConnection) -> sqlx::Result<bool> {
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&mut *connection)
        .await?;
    let free: i64 = sqlx::query_scalar("PRAGMA freelist_count")
        .fetch_one(&mut *connection)
        .await?;
    let spare = free - KEPT_PAGES.max(pages / KEPT_SHARE);
    if spare <= 0 {
        return Ok(false);
    }
    let pragma = format!("PRAGMA incremental_vacuum({})", spare.min(SHRINK_PAGES));
    sqlx::query(AssertSqlSafe(pragma))
        .persistent(false)
        .fetch_all(connection)
        .await?;
    Ok(spare > SHRINK_PAGES)
}
