//! Erases one user's events from the archive, while gateways write to it.
//!
//! Stands beside retention, and is as gentle: what is the user's is read first, which holds up nobody, and deleted by
//! its ids, a few hundred at a time with pauses between.

use std::time::{Duration, Instant};

use uuid::Uuid;

use super::ArchiveError;
use super::database::{Connection, Database, Row, Wanted, first_id_at};
use super::error::{DatabaseError, Trouble};
use super::republish::after;
use crate::replay::ArchiveConfig;

/// Events read and deleted at once.
const CHUNK: i64 = 200;

/// Tries of a statement while the database is locked or away.
const TRIES: u32 = 5;

/// Tries to find a moment in which nobody else uses the database.
const WIPES: u32 = 20;

/// Wait between two tries of a statement.
const WAIT: Duration = Duration::from_secs(1);

/// Whoever erases from the archive of a configuration.
#[derive(Debug)]
pub struct Eraser {
    database: Database,
    connection: Option<Connection>,
}

/// What is done with the events that are to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Count,
    Blank,
    Delete,
}

fn refused(error: &DatabaseError) -> ArchiveError {
    ArchiveError(error.to_string())
}

impl Eraser {
    /// Reads the DSN; connects to nothing yet.
    ///
    /// # Errors
    /// When the DSN is malformed.
    pub fn of(config: &ArchiveConfig) -> Result<Self, ArchiveError> {
        Ok(Self {
            database: Database::of(&config.dsn).map_err(|error| refused(&error))?,
            connection: None,
        })
    }

    /// What the database is called, and where it is, without credentials.
    #[must_use]
    pub fn place(&self) -> (&'static str, String) {
        (self.database.name(), self.database.place())
    }

    /// Connects; says whether there is an archive, and makes none where there is not.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(&mut self) -> Result<bool, ArchiveError> {
        let connecting = self.database.connect_to_erase();
        self.connection = connecting.await.map_err(|error| refused(&error))?;
        Ok(self.connection.is_some())
    }

    /// Erases the events of a user that were made from a time on, in Unix milliseconds.
    ///
    /// `judge` is given each one, and says whether it is to go.
    ///
    /// # Errors
    /// When the database does not do as asked.
    pub async fn erase(
        &mut self,
        user_id: &str,
        since_ms: u64,
        dry_run: bool,
        judge: impl FnMut(&str) -> bool + Send,
    ) -> Result<(), ArchiveError> {
        let wanted = Wanted {
            from: first_id_at(since_ms),
            until: Uuid::max(),
            user_id: Some(user_id.to_owned()),
            ..Wanted::default()
        };
        let act = match (dry_run, self.database.blanks()) {
            (true, _) => Act::Count,
            (false, true) => Act::Blank,
            (false, false) => Act::Delete,
        };
        let mut erased = self.pass(wanted.clone(), act, judge).await?;
        if act == Act::Blank {
            let is_blank = |event: &str| event.trim_ascii().is_empty();
            erased = self.pass(wanted, Act::Delete, is_blank).await?;
        }
        if erased {
            self.wipe().await;
        }
        Ok(())
    }

    /// Removes traces outside of the tables. Events are gone all the same where others are busy for too long; then the
    /// traces go when the gateway's own checkpoints come by, or when it stops.
    async fn wipe(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        for _ in 0..WIPES {
            if connection.wipe().await.unwrap_or(false) {
                return;
            }
            tokio::time::sleep(WAIT / 10).await;
        }
    }

    /// Goes through a user's events, and does something with those that are to go; says whether there were any.
    async fn pass(
        &mut self,
        mut wanted: Wanted,
        act: Act,
        mut judge: impl FnMut(&str) -> bool + Send,
    ) -> Result<bool, ArchiveError> {
        let mut any = false;
        loop {
            let started = Instant::now();
            let (rows, next) = self.read(&mut wanted).await?;
            let theirs = rows.iter().filter(|(_, event)| judge(event));
            let theirs: Vec<Uuid> = theirs.map(|(id, _)| *id).collect();
            if !theirs.is_empty() {
                any = true;
                self.act(act, &theirs).await?;
            }
            let Some(next) = next else { return Ok(any) };
            wanted.from = next;
            crate::erase::pause(started.elapsed()).await;
        }
    }

    /// Reads the next events, and gives where to go on; nothing at the end.
    async fn read(
        &mut self,
        wanted: &mut Wanted,
    ) -> Result<(Vec<Row>, Option<Uuid>), ArchiveError> {
        let mut tries = 0;
        loop {
            match self.try_read(wanted).await {
                Ok(read) => return Ok(read),
                Err(error) => self.again(&mut tries, error).await?,
            }
        }
    }

    async fn try_read(
        &mut self,
        wanted: &mut Wanted,
    ) -> Result<(Vec<Row>, Option<Uuid>), DatabaseError> {
        let scan_rows = self.database.scan_rows();
        let connection = self.connected().await?;
        let until = match scan_rows {
            Some(rows) => connection.ahead(wanted.from, Uuid::max(), rows).await?,
            None => None,
        };
        wanted.until = until.unwrap_or(Uuid::max());
        let rows = connection.page(wanted, CHUNK).await?;
        let full = rows.len() >= usize::try_from(CHUNK).unwrap_or(usize::MAX);
        let next = match rows.last() {
            Some((id, _)) if full => Some(after(*id)),
            _ => until,
        };
        Ok((rows, next))
    }

    async fn act(&mut self, act: Act, ids: &[Uuid]) -> Result<(), ArchiveError> {
        let mut tries = 0;
        loop {
            let done = match (act, self.connected().await) {
                (_, Err(error)) => Err(error),
                (Act::Count, Ok(_)) => Ok(()),
                (Act::Blank, Ok(connection)) => connection.blank(ids).await,
                (Act::Delete, Ok(connection)) => connection.delete(ids).await,
            };
            match done {
                Ok(()) => return Ok(()),
                Err(error) => self.again(&mut tries, error).await?,
            }
        }
    }

    async fn connected(&mut self) -> Result<&mut Connection, DatabaseError> {
        if self.connection.is_none() {
            self.connection = self.database.connect_to_erase().await?;
        }
        let gone = || DatabaseError::unusable("the archive is gone");
        self.connection.as_mut().ok_or_else(gone)
    }

    /// Waits for another try, with another connection.
    async fn again(&mut self, tries: &mut u32, error: DatabaseError) -> Result<(), ArchiveError> {
        *tries += 1;
        if *tries >= TRIES || error.trouble != Trouble::Passing {
            return Err(refused(&error));
        }
        self.close().await;
        tokio::time::sleep(WAIT).await;
        Ok(())
    }

    /// Ends the connection in good order.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }
}
