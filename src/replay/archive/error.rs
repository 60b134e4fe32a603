//! What can go wrong with the archive's database, in words that may be shown.
//!
//! Stands between the two drivers and everything that reports: no text here holds a DSN, a password or a payload.

use std::borrow::Cow;
use std::io::ErrorKind;

use sqlx::Error;
use sqlx::error::DatabaseError as _;
use sqlx::migrate::MigrateError;
use sqlx::postgres::PgDatabaseError;
use sqlx::sqlite::SqliteError;

/// Why the database did not do as asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct DatabaseError {
    pub(super) trouble: Trouble,
    pub(super) reason: Cow<'static, str>,
}

/// What a failure means for what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It may pass: locked, full, unreachable.
    Passing,
    /// The database refuses the row, and will again.
    Row,
    /// The file or the schema is not the archive's: somebody must do something.
    Unusable,
}

impl DatabaseError {
    pub(super) fn passing(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            trouble: Trouble::Passing,
            reason: reason.into(),
        }
    }

    pub(super) fn unusable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            trouble: Trouble::Unusable,
            reason: reason.into(),
        }
    }

    fn row(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            trouble: Trouble::Row,
            reason: reason.into(),
        }
    }
}

impl From<Error> for DatabaseError {
    fn from(error: Error) -> Self {
        match error {
            Error::Database(error) => {
                if let Some(sqlite) = error.try_downcast_ref::<SqliteError>() {
                    of_sqlite(sqlite)
                } else if let Some(postgres) = error.try_downcast_ref::<PgDatabaseError>() {
                    of_postgres(postgres)
                } else {
                    Self::passing("the database answered an error")
                }
            }
            Error::Io(error) => Self::passing(match error.kind() {
                ErrorKind::ConnectionRefused => "connection refused".into(),
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    "connection lost".into()
                }
                ErrorKind::NotFound => "there is no such host or socket".into(),
                kind => Cow::from(format!("cannot connect: {kind}")),
            }),
            Error::Tls(_) => Self::passing("TLS failed"),
            Error::Configuration(_) => Self::unusable("a setting of the DSN cannot be used"),
            Error::Migrate(error) => Self::from(*error),
            Error::WorkerCrashed => Self::passing("the database's thread ended"),
            _ => Self::passing("the database's answer was not understood"),
        }
    }
}

impl From<MigrateError> for DatabaseError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
                Self::from(error)
            }
            MigrateError::VersionMismatch(version) | MigrateError::Dirty(version) => {
                Self::unusable(format!(
                    "its table has another shape than this version's (migration {version})"
                ))
            }
            _ => Self::unusable("its tables cannot be made"),
        }
    }
}

/// Result codes: <https://sqlite.org/rescode.html>. The messages name tables and columns, never values.
fn of_sqlite(error: &SqliteError) -> DatabaseError {
    let code: u32 = error
        .code()
        .and_then(|code| code.parse().ok())
        .unwrap_or_default();
    // An extended code holds its primary one in the lowest byte.
    match code & 0xff {
        5 | 6 => DatabaseError::passing("the database is locked"),
        13 => DatabaseError::passing("the disk is full"),
        10 => DatabaseError::passing(format!("the disk cannot be read or written (code {code})")),
        11 | 26 => DatabaseError::unusable("the file is damaged or no SQLite database"),
        3 | 8 | 14 | 23 => DatabaseError::unusable("the file cannot be opened or written"),
        18..=20 => DatabaseError::row(format!("the row is refused (code {code})")),
        _ => DatabaseError::passing(format!("{} (code {code})", error.message())),
    }
}

/// Classes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>. Messages of the classes that are about
/// data may hold values.
fn of_postgres(error: &PgDatabaseError) -> DatabaseError {
    let code = error.code();
    match code.get(..2).unwrap_or_default() {
        "21" | "22" | "23" | "54" => DatabaseError::row(format!("the row is refused ({code})")),
        "08" | "28" | "3D" | "53" | "55" | "57" => {
            DatabaseError::passing(format!("{} ({code})", error.message()))
        }
        _ => DatabaseError::passing(format!("the database answered an error ({code})")),
    }
}
