//! The archive's database: which one it is, connecting to it, and what is asked of it.
//!
//! Stands between the writer, retention and replay, which know no SQL, and the two drivers. Each of the three has a
//! connection of its own, so that none waits in another's queue.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Encode, QueryBuilder, Type};
use uuid::Uuid;

use super::error::DatabaseError;
use super::postgres::Postgres;
use super::sqlite::Sqlite;
use crate::config::Secret;
use crate::event::{Event, EventKind};

/// What an empty DSN stands for. It is no default of the setting, since a secret's default cannot be shown.
const DEFAULT_DSN: &str = "sqlite://wsgw-archive.db";

/// Time that connecting may take, with TLS, login and migrations.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Time that one statement may take before its connection counts as lost.
const STATEMENT_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of a user id or an ordering key that its column holds; a longer one is there as its hash.
const MAX_COLUMN_BYTES: usize = 255;

/// A database, not connected to.
#[derive(Debug)]
pub(super) struct Database {
    driver: Driver,
    /// Whether this process has found or made the tables.
    migrated: AtomicBool,
}

#[derive(Debug)]
enum Driver {
    Sqlite(Sqlite),
    Postgres(Box<Postgres>),
}

/// One connection to it.
#[derive(Debug)]
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Which events are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// From this id on.
    pub(super) from: Uuid,
    /// Up to this id, which is not among them.
    pub(super) until: Uuid,
    pub(super) user_id: Option<String>,
    pub(super) ordering_key: Option<String>,
    pub(super) kind: Option<EventKind>,
}

impl Wanted {
    /// Whether every event of the range is wanted.
    pub(super) fn all(&self) -> bool {
        self.user_id.is_none() && self.ordering_key.is_none() && self.kind.is_none()
    }
}

/// An event as the database has it.
pub(super) type Row = (Uuid, String);

impl Database {
    /// Reads a DSN; connects to nothing yet.
    pub(super) fn of(dsn: &Secret) -> Result<Self, DatabaseError> {
        let dsn = match dsn.reveal() {
            "" => DEFAULT_DSN,
            dsn => dsn,
        };
        let driver = if dsn.starts_with("sqlite:") {
            Driver::Sqlite(Sqlite::of(dsn)?)
        } else if dsn.starts_with("postgres:") || dsn.starts_with("postgresql:") {
            Driver::Postgres(Box::new(Postgres::of(dsn)?))
        } else {
            return Err(DatabaseError::unusable(
                "it must begin with `sqlite://` or `postgres://`",
            ));
        };
        Ok(Self {
            driver,
            migrated: AtomicBool::new(false),
        })
    }

    /// `sqlite` or `postgres`, for logs.
    pub(super) fn name(&self) -> &'static str {
        match self.driver {
            Driver::Sqlite(_) => "sqlite",
            Driver::Postgres(_) => "postgres",
        }
    }

    /// Where it is, without credentials.
    pub(super) fn place(&self) -> String {
        match &self.driver {
            Driver::Sqlite(sqlite) => sqlite.place(),
            Driver::Postgres(postgres) => postgres.place(),
        }
    }

    /// Whether events must be written over before any of them is deleted, lest copies stay in the file.
    pub(super) fn blanks(&self) -> bool {
        matches!(self.driver, Driver::Sqlite(_))
    }

    /// Rows of the key that are read in one go where each must be looked at; none where an index finds them.
    pub(super) fn scan_rows(&self) -> Option<i64> {
        match self.driver {
            Driver::Sqlite(_) => Some(20_000),
            Driver::Postgres(_) => None,
        }
    }

    /// Makes a connection, and the tables if they are not there.
    pub(super) async fn connect(&self) -> Result<Connection, DatabaseError> {
        let connect = async {
            let migrate = !self.migrated.load(Ordering::Acquire);
            let connection = match &self.driver {
                Driver::Sqlite(sqlite) => Connection::Sqlite(sqlite.connect(migrate).await?),
                Driver::Postgres(postgres) => {
                    Connection::Postgres(postgres.connect(migrate).await?)
                }
            };
            self.migrated.store(true, Ordering::Release);
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(DatabaseError::passing("no connection was made within 10 s")))
    }
}

impl Database {
    /// Makes a connection that leaves no traces of what it deletes, as far as the database knows how; none where there
    /// is no archive, which is not made.
    pub(super) async fn connect_to_erase(&self) -> Result<Option<Connection>, DatabaseError> {
        let connect = async {
            Ok(match &self.driver {
                Driver::Sqlite(sqlite) => sqlite.connect_to_erase().await?.map(Connection::Sqlite),
                Driver::Postgres(postgres) => {
                    postgres.connect_to_erase().await?.map(Connection::Postgres)
                }
            })
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or_else(|_| Err(DatabaseError::passing("no connection was made within 10 s")))
    }
}

/// Bounds a statement.
async fn in_time<T>(
    statement: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, DatabaseError> {
    match tokio::time::timeout(STATEMENT_TIMEOUT, statement).await {
        Ok(result) => result.map_err(DatabaseError::from),
        Err(_) => Err(DatabaseError::passing("no answer within 10 s")),
    }
}

impl Connection {
    /// Inserts events; those that are there already stay as they are.
    pub(super) async fn insert(
        &mut self,
        events: &[Arc<Event>],
        full: usize,
    ) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(connection) => {
                in_time(super::sqlite::insert(connection, events, full)).await
            }
            Self::Postgres(connection) => {
                in_time(super::postgres::insert(connection, events)).await
            }
        }
    }

    /// The first of the events that are asked for, by id, at most `limit`.
    pub(super) async fn page(
        &mut self,
        wanted: &Wanted,
        limit: i64,
    ) -> Result<Vec<Row>, DatabaseError> {
        match self {
            Self::Sqlite(connection) => {
                let mut query = page(wanted, limit);
                in_time(query.build_query_as().fetch_all(connection)).await
            }
            Self::Postgres(connection) => {
                let mut query = page(wanted, limit);
                in_time(query.build_query_as().fetch_all(connection)).await
            }
        }
    }

    /// The id that comes `rows` after `from`, whatever event it is of; none if `until` comes first.
    pub(super) async fn ahead(
        &mut self,
        from: Uuid,
        until: Uuid,
        rows: i64,
    ) -> Result<Option<Uuid>, DatabaseError> {
        match self {
            Self::Sqlite(connection) => {
                in_time(super::sqlite::ahead(connection, from, until, rows)).await
            }
            Self::Postgres(_) => Ok(None),
        }
    }

    /// Deletes the oldest events before an id, at most `limit`; gives how many.
    pub(super) async fn delete_before(
        &mut self,
        before: Uuid,
        limit: i64,
    ) -> Result<u64, DatabaseError> {
        match self {
            Self::Sqlite(connection) => {
                in_time(super::sqlite::delete_before(connection, before, limit)).await
            }
            Self::Postgres(connection) => {
                in_time(super::postgres::delete_before(connection, before, limit)).await
            }
        }
    }

    /// Writes events over with spaces by their ids, where [`Database::blanks`].
    pub(super) async fn blank(&mut self, ids: &[Uuid]) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(connection) => in_time(super::sqlite::blank(connection, ids)).await,
            // A row that is changed is another row there.
            Self::Postgres(_) => Ok(()),
        }
    }

    /// Deletes events by their ids.
    pub(super) async fn delete(&mut self, ids: &[Uuid]) -> Result<(), DatabaseError> {
        match self {
            Self::Sqlite(connection) => {
                let mut query = of_ids("DELETE FROM wsgw_events", ids);
                in_time(query.build().execute(connection)).await?;
            }
            Self::Postgres(connection) => {
                let mut query = of_ids("DELETE FROM wsgw_events", ids);
                in_time(query.build().execute(connection)).await?;
            }
        }
        Ok(())
    }

    /// Removes the traces that deleted events left outside of the tables; says whether that could be done.
    pub(super) async fn wipe(&mut self) -> Result<bool, DatabaseError> {
        match self {
            Self::Sqlite(connection) => in_time(super::sqlite::wipe(connection)).await,
            // The write-ahead log is the server's.
            Self::Postgres(_) => Ok(true),
        }
    }

    /// Gives a little of the room that deleted events left back to the file system, if there is much of it; says
    /// whether there is more to give.
    pub(super) async fn shrink(&mut self) -> Result<bool, DatabaseError> {
        match self {
            Self::Sqlite(connection) => in_time(super::sqlite::shrink(connection)).await,
            // The server's autovacuum sees to it.
            Self::Postgres(_) => Ok(false),
        }
    }

    /// Ends it in good order.
    pub(super) async fn close(self) {
        use sqlx::Connection as _;
        // It ends one way or the other.
        let _ = match self {
            Self::Sqlite(connection) => connection.close().await,
            Self::Postgres(connection) => connection.close().await,
        };
    }
}

/// The query for the first of the events that are asked for.
fn page<'q, DB>(wanted: &'q Wanted, limit: i64) -> QueryBuilder<DB>
where
    DB: sqlx::Database,
    Uuid: Encode<'q, DB> + Type<DB>,
    String: Encode<'q, DB> + Type<DB>,
    i64: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new("SELECT event_id, event FROM wsgw_events WHERE event_id >= ");
    query.push_bind(wanted.from);
    query.push(" AND event_id < ").push_bind(wanted.until);
    if let Some(user_id) = &wanted.user_id {
        query.push(" AND user_id = ").push_bind(column(user_id));
    }
    if let Some(key) = &wanted.ordering_key {
        query.push(" AND ordering_key = ").push_bind(column(key));
    }
    if let Some(kind) = wanted.kind {
        query
            .push(" AND type = ")
            .push_bind(kind.as_str().to_owned());
    }
    query.push(" ORDER BY event_id LIMIT ").push_bind(limit);
    query
}

/// A statement on events with these ids.
pub(super) fn of_ids<'q, DB>(statement: &str, ids: &'q [Uuid]) -> QueryBuilder<DB>
where
    DB: sqlx::Database,
    Uuid: Encode<'q, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(statement);
    query.push(" WHERE event_id IN (");
    let mut list = query.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    query.push(")");
    query
}

/// The smallest id that a `UUIDv7` of a time can have.
pub(super) fn first_id_at(unix_ms: u64) -> Uuid {
    Uuid::from_u128(u128::from(unix_ms) << 80)
}

/// A text as the columns that are searched hold it.
///
/// What a client chose may be longer than an index takes, or hold a NUL, which `PostgreSQL` has no text for: such a
/// text is there as its hash. The event itself holds it as it was.
pub(super) fn column(text: &str) -> String {
    use sha1::{Digest as _, Sha1};
    if fits(text) {
        return text.to_owned();
    }
    let mut hashed = String::from("sha1:");
    for byte in Sha1::digest(text.as_bytes()) {
        hashed.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or_default());
        hashed.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or_default());
    }
    hashed
}

/// The same without a copy of what needs no hash.
pub(super) fn shared_column(text: &Arc<str>) -> Arc<str> {
    if fits(text) {
        Arc::clone(text)
    } else {
        column(text).into()
    }
}

fn fits(text: &str) -> bool {
    text.len() <= MAX_COLUMN_BYTES && !text.contains('\0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_a_time_stand_between_the_bounds_of_their_millisecond() {
        let id = Uuid::now_v7();
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        let ms = seconds * 1000 + u64::from(nanos) / 1_000_000;
        assert!(first_id_at(ms) < id && id < first_id_at(ms + 1));
    }

    #[test]
    fn a_text_that_no_index_takes_is_hashed() {
        assert_eq!(column("room:1"), "room:1");
        assert_eq!(column(&"x".repeat(255)), "x".repeat(255));
        let long = column(&"x".repeat(256));
        assert!(long.starts_with("sha1:") && long.len() == 45, "{long}");
        assert_ne!(column("a\0b"), column("a\0c"));
        assert_eq!(column("abc\0"), column("abc\0"));
    }

    #[test]
    fn a_dsn_is_told_by_its_beginning() {
        let of = |dsn: &str| Database::of(&Secret::from(dsn.to_owned()));
        assert_eq!(of("").unwrap().name(), "sqlite");
        assert_eq!(of("sqlite://a/b.db").unwrap().name(), "sqlite");
        let postgres = of("postgres://u:p@h/d?sslmode=require").unwrap();
        assert_eq!(postgres.name(), "postgres");
        for (dsn, word) in [
            ("mysql://s3cret@h/d", "begin with"),
            ("sqlite://", "file"),
            ("sqlite::memory:", "file"),
            ("sqlite://a.db?mode=memory", "parameter"),
            ("postgres://u:s3cret@h:port/d", "URL"),
            ("postgres://u@h/d?pasword=s3cret", "`pasword`"),
        ] {
            let reason = of(dsn).unwrap_err().to_string();
            assert!(reason.contains(word), "{dsn}: {reason}");
            assert!(!reason.contains("s3cret"), "{reason}");
        }
    }
}
