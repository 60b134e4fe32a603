//! The link to one Redis: a single server, one behind Sentinels, or a cluster.
//!
//! Stands below everything that talks to Redis. Commands share one multiplexed connection; what blocks (reading a
//! stream) takes a connection of its own. A task keeps the shared connection: it asks for a sign of life every
//! second, since a machine that hangs closes nothing, and reconnects for ever.
//!
//! # Layout
//! - `dsn` reads the DSN, without any input or output.
//! - `connect` makes connections, and names what went wrong.
//! - `answers` sends commands and sorts what comes back.
//! - `keep` is the task.
//! - `scan` goes through keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use prometheus::IntCounter;
use redis::aio::ConnectionLike as _;
use redis::{Cmd, Value};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use self::connect::{Connection, Connector};
use self::keep::Kept;
use super::{BrokerConfig, DsnError};
use crate::api::Readiness;
use crate::clock::seconds;
use crate::config::Secret;

mod answers;
mod connect;
mod dsn;
mod keep;
mod scan;

pub use self::dsn::RedisDsn;
pub use self::scan::Scan;

/// The name of Redis in `/ready`, metrics and dead letters.
pub const NAME: &str = "redis";

/// Answers after which the connection is of no use: its server is no primary any more, or forgot who the gateway is.
const FATAL: [&str; 2] = ["READONLY", "NOAUTH"];

/// The link to one Redis.
pub struct RedisLink {
    kept: Arc<Kept>,
    address: String,
    _task: AbortOnDropHandle<()>,
}

/// Why commands were not answered; never holds a password or a payload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct LinkError(pub String);

/// An error that Redis answered to one command, such as `OOM command not allowed …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CommandError(pub String);

/// Whether commands that are sent together also act together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomicity {
    /// Each by itself, in this order.
    Each,
    /// All or none (`MULTI`); in a cluster, those of one hash slot.
    Together,
}

impl RedisLink {
    /// Opens a link; connects in the background, and reconnects for ever, each time counted.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read.
    pub fn open(
        dsn: &Secret,
        setting: &'static str,
        config: &BrokerConfig,
        (readiness, connects): (&Arc<Readiness>, IntCounter),
    ) -> Result<Arc<Self>, DsnError> {
        let connector = Connector::new(RedisDsn::parse(dsn.reveal())?, config)?;
        let address = connector.dsn().address();
        let kept = Arc::new(Kept {
            dsn: dsn.clone(),
            connector,
            address: address.clone(),
            longest: seconds(config.reconnect_max_seconds),
            owner: readiness.owner(),
            readiness: Arc::clone(readiness),
            connects,
            required: AtomicBool::new(false),
            settings: Mutex::new(vec![setting]),
            shared: watch::Sender::new(None),
            losses: watch::Sender::new(0),
            state: Mutex::new(Err("not connected yet".to_owned())),
        });
        Ok(Arc::new(Self {
            address,
            _task: AbortOnDropHandle::new(tokio::spawn(keep::keep_connected(Arc::clone(&kept)))),
            kept,
        }))
    }

    /// Where it leads, without credentials, for logs.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether it leads to a cluster, where commands on several keys need one hash slot.
    #[must_use]
    pub fn is_cluster(&self) -> bool {
        self.kept.connector.dsn().is_cluster()
    }

    /// Notes the setting that a user of the link took its DSN from, for logs.
    pub(super) fn used_by(&self, setting: &'static str) {
        let mut settings = self.kept.settings.lock();
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }

    /// Waits until it is connected.
    pub async fn connected(&self) {
        let mut shared = self.kept.shared.subscribe();
        // The sender lives as long as `self`.
        let _ = shared.wait_for(Option::is_some).await;
    }

    /// Whether it is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.kept.shared.borrow().is_some()
    }

    /// Whether both have one DSN, though perhaps different settings or certificates.
    #[must_use]
    pub fn leads_where(&self, other: &Self) -> bool {
        self.kept.dsn == other.kept.dsn
    }

    /// Makes `/ready` depend on this link from now on, for as long as it lives.
    pub fn require(&self) {
        self.kept.required.store(true, Ordering::Relaxed);
        self.kept.tell(None);
    }

    /// Makes `/ready` no longer depend on this link, which only what ends still uses.
    pub(super) fn relinquish(&self) {
        self.kept.forget();
    }

    /// Says in `/ready` what is wrong with one that uses the link, or that all is well with it.
    pub fn report(&self, part: &str, result: Result<(), String>) {
        if self.kept.required.load(Ordering::Relaxed) {
            let part = format!("{} {part}", self.kept.part());
            let Kept {
                readiness, owner, ..
            } = &*self.kept;
            if result.is_ok() {
                readiness.remove_part(NAME, &part);
            } else {
                readiness.set_part_by(*owner, NAME, &part, result);
            }
        }
    }

    /// Sends commands in one go and gives each one's answer, in their order; never waits for a connection.
    ///
    /// # Errors
    /// When there is no connection or it was lost: whether the commands took effect is then unknown.
    pub async fn run(
        &self,
        commands: &[Cmd],
        atomicity: Atomicity,
    ) -> Result<Vec<Result<Value, CommandError>>, LinkError> {
        self.run_owned(commands.to_vec(), atomicity).await
    }

    /// As [`RedisLink::run`], without a copy of the commands.
    ///
    /// # Errors
    /// As [`RedisLink::run`].
    pub async fn run_owned(
        &self,
        commands: Vec<Cmd>,
        atomicity: Atomicity,
    ) -> Result<Vec<Result<Value, CommandError>>, LinkError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        let shared = self.kept.shared.borrow().clone();
        let Some(shared) = shared else {
            return Err(LinkError("not connected".to_owned()));
        };
        let answers = match shared.connection {
            Connection::Single(mut single) => {
                answers::run_single(&mut single, commands, atomicity).await
            }
            Connection::Cluster(cluster) => {
                answers::run_cluster(&cluster, commands, atomicity).await
            }
        };
        match answers {
            Ok(answers) => {
                let fatal = answers
                    .iter()
                    .filter_map(|answer| answer.as_ref().err())
                    .find(|error| FATAL.contains(&error.code()));
                if let Some(error) = fatal {
                    shared.lost.report(&error.0);
                }
                Ok(answers)
            }
            Err(error) => {
                let reason = connect::reason(&error);
                shared.lost.report(&reason);
                Err(LinkError(reason))
            }
        }
    }

    /// Opens a connection that serves only this caller, for commands that block, such as `XREAD … BLOCK`.
    ///
    /// # Errors
    /// When no connection can be made.
    pub async fn dedicated(&self) -> Result<DedicatedConnection, LinkError> {
        let losses = self.kept.losses.subscribe();
        let connection = self.kept.connector.dedicated().await?;
        Ok(DedicatedConnection { connection, losses })
    }
}

impl std::fmt::Debug for RedisLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisLink")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for RedisLink {
    fn drop(&mut self) {
        self.kept.forget();
    }
}

/// A connection that one caller has for itself, for commands that block.
///
/// It ends with the link's shared connection, which notices a server that hangs.
pub struct DedicatedConnection {
    connection: Connection,
    losses: watch::Receiver<u64>,
}

impl DedicatedConnection {
    /// Sends a command and waits for its answer, however long that takes.
    ///
    /// # Errors
    /// The outer error is a lost connection, the inner one Redis' own answer.
    pub async fn run(&mut self, command: &Cmd) -> Result<Result<Value, CommandError>, LinkError> {
        let answering = async {
            match &mut self.connection {
                Connection::Single(single) => single.send_packed_command(command).await,
                Connection::Cluster(cluster) => cluster.req_packed_command(command).await,
            }
        };
        let answer = tokio::select! {
            biased;
            _ = self.losses.changed() => {
                // Every further call fails as well: the answer to this one may still be on its way.
                self.losses.mark_changed();
                return Err(LinkError("connection lost".to_owned()));
            }
            answer = answering => answer,
        };
        match answer.and_then(Value::extract_error) {
            Ok(value) => Ok(Ok(value)),
            Err(error) if answers::is_lost(&error) => Err(LinkError(connect::reason(&error))),
            Err(error) => {
                let error = answers::refused_by(&error);
                // The server became a replica while the command waited.
                if error.code() == "UNBLOCKED" {
                    return Err(LinkError(error.0));
                }
                Ok(Err(error))
            }
        }
    }
}

impl std::fmt::Debug for DedicatedConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DedicatedConnection")
    }
}
