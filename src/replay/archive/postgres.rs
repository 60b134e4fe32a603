//! The archive in a `PostgreSQL` database, which several gateways may share.
//!
//! A batch is one statement with one array for each column, so that its text, and with it the server's plan, is the
//! same for any number of events.

use std::borrow::Cow;
use std::sync::Arc;

use sqlx::ConnectOptions as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use url::Url;
use uuid::Uuid;

use super::database::column;
use super::error::DatabaseError;
use super::sqlite::migrator;
use crate::event::Event;

/// What a DSN may say after its question mark; the driver ignores others, and logs them with their values.
const PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

const MIGRATIONS: &[(i64, &str, &str)] = &[(
    1,
    "events",
    include_str!("../../../migrations/postgres/0001_events.sql"),
)];

/// A server, not connected to.
#[derive(Debug)]
pub(super) struct Postgres {
    options: PgConnectOptions,
}

impl Postgres {
    pub(super) fn of(dsn: &str) -> Result<Self, DatabaseError> {
        let url = Url::parse(dsn)
            .map_err(|_| DatabaseError::unusable("the DSN is no well-formed URL"))?;
        for (name, _) in url.query_pairs() {
            if !PARAMETERS.contains(&&*name) && !name.starts_with("options[") {
                return Err(DatabaseError::unusable(format!(
                    "the DSN has an unknown parameter `{name}`"
                )));
            }
        }
        let options: PgConnectOptions = dsn.parse().map_err(|_| {
            DatabaseError::unusable("a parameter of the DSN has a value that cannot be used")
        })?;
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("wsgw"),
        };
        Ok(Self {
            options: options.disable_statement_logging(),
        })
    }

    /// Host, port and database.
    pub(super) fn place(&self) -> String {
        let (host, port) = (self.options.get_host(), self.options.get_port());
        match self.options.get_database() {
            Some(database) => format!("{host}:{port}/{database}"),
            None => format!("{host}:{port}"),
        }
    }

    /// A connection, if there is an archive.
    pub(super) async fn connect_to_erase(&self) -> Result<Option<PgConnection>, DatabaseError> {
        let mut connection = self.options.connect().await?;
        let exists: bool = sqlx::query_scalar("SELECT to_regclass('wsgw_events') IS NOT NULL")
            .fetch_one(&mut connection)
            .await?;
        Ok(exists.then_some(connection))
    }

    pub(super) async fn connect(&self, migrate: bool) -> Result<PgConnection, DatabaseError> {
        let mut connection = self.options.connect().await?;
        if migrate {
            migrator(MIGRATIONS)
                .run_direct(None, &mut connection, false)
                .await?;
        }
        Ok(connection)
    }
}

pub(super) async fn insert(
    connection: &mut PgConnection,
    events: &[Arc<Event>],
) -> sqlx::Result<()> {
    let ids: Vec<Uuid> = events.iter().map(|event| event.id).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let users: Vec<String> = events.iter().map(|event| column(&event.user_id)).collect();
    let connections: Vec<Uuid> = events.iter().map(|event| event.connection_id).collect();
    let seqs: Vec<i64> = events
        .iter()
        .map(|event| i64::try_from(event.seq).unwrap_or(i64::MAX))
        .collect();
    let keys: Vec<Option<String>> = events
        .iter()
        .map(|event| event.ordering_key.as_deref().map(column))
        .collect();
    let texts: Vec<Cow<'_, str>> = events
        .iter()
        .map(|event| String::from_utf8_lossy(&event.json))
        .collect();
    let texts: Vec<&str> = texts.iter().map(AsRef::as_ref).collect();
    sqlx::query(
        "INSERT INTO wsgw_events \
         (event_id, type, user_id, connection_id, seq, ordering_key, event) \
         SELECT * FROM UNNEST($1::uuid[], $2::text[], $3::text[], $4::uuid[], $5::bigint[], \
         $6::text[], $7::text[]) ON CONFLICT (event_id) DO NOTHING",
    )
    .bind(ids)
    .bind(kinds)
    .bind(users)
    .bind(connections)
    .bind(seqs)
    .bind(keys)
    .bind(texts)
    .execute(connection)
    .await?;
    Ok(())
}

/// Several gateways may delete at once: what one is deleting, the others pass over.
pub(super) async fn delete_before(
    connection: &mut PgConnection,
    before: Uuid,
    limit: i64,
) -> sqlx::Result<u64> {
    let deleted = sqlx::query(
        "DELETE FROM wsgw_events WHERE event_id IN \
         (SELECT event_id FROM wsgw_events WHERE event_id < $1 \
         ORDER BY event_id LIMIT $2 FOR UPDATE SKIP LOCKED)",
    )
    .bind(before)
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected())
}
