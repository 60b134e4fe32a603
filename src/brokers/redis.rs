//! The link to one Redis: a single server, one behind Sentinels, or a cluster.
//!
//! Stands below everything that talks to Redis. Commands share one multiplexed connection; what blocks (reading a
//! stream) takes a connection of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Client, Cmd, Pipeline, Value};
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use super::{BrokerConfig, DsnError};
use crate::api::Readiness;
use crate::clock::seconds;
use crate::config::Secret;

/// Wait before the second try to connect.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// The name of Redis in `/ready`, metrics and dead letters.
pub const NAME: &str = "redis";

/// The link to one Redis.
#[derive(Debug)]
pub struct RedisLink {
    address: String,
    client: Client,
    timeout: Duration,
    readiness: Arc<Readiness>,
    required: AtomicBool,
    /// The connection that all share; none while there is none.
    shared: watch::Sender<Option<MultiplexedConnection>>,
    /// Someone found the connection lost.
    lost: Notify,
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
    /// Opens a link; connects in the background, and reconnects for ever.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read.
    pub fn open(
        dsn: &Secret,
        config: &BrokerConfig,
        readiness: &Arc<Readiness>,
    ) -> Result<Arc<Self>, DsnError> {
        let client = Client::open(dsn.reveal())
            .map_err(|_| DsnError("the DSN is not one of Redis".to_owned()))?;
        Ok(Arc::new_cyclic(|link| Self {
            address: client.get_connection_info().addr().to_string(),
            client,
            timeout: seconds(config.connect_timeout_seconds),
            readiness: Arc::clone(readiness),
            required: AtomicBool::new(false),
            shared: watch::Sender::new(None),
            lost: Notify::new(),
            _task: AbortOnDropHandle::new(tokio::spawn(keep_connected(
                Weak::clone(link),
                seconds(config.reconnect_max_seconds),
            ))),
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
        false
    }

    /// Waits until it is connected.
    pub async fn connected(&self) {
        let mut shared = self.shared.subscribe();
        // The sender lives as long as `self`.
        let _ = shared.wait_for(Option::is_some).await;
    }

    /// Whether it is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.borrow().is_some()
    }

    /// Makes `/ready` depend on this link from now on, for as long as it lives.
    pub fn require(&self) {
        self.required.store(true, Ordering::Relaxed);
        self.tell(if self.is_connected() {
            Ok(())
        } else {
            Err("not connected yet".to_owned())
        });
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
        let shared = self.shared.borrow().clone();
        let Some(mut connection) = shared else {
            return Err(LinkError("not connected".to_owned()));
        };
        let mut pipeline = Pipeline::with_capacity(commands.len());
        if atomicity == Atomicity::Together {
            pipeline.atomic();
        }
        for command in commands {
            pipeline.add_command(command.clone());
        }
        pipeline.ignore_errors();
        let answers: Result<Vec<redis::RedisResult<Value>>, _> =
            pipeline.query_async(&mut connection).await;
        match answers {
            Ok(answers) => Ok(answers
                .into_iter()
                .map(|answer| answer.map_err(refused))
                .collect()),
            Err(error) if error.is_unrecoverable_error() || error.is_timeout() => {
                self.lost.notify_one();
                Err(LinkError(error.category().to_owned()))
            }
            Err(error) => {
                let error = refused(error);
                Ok(commands.iter().map(|_| Err(error.clone())).collect())
            }
        }
    }

    /// Opens a connection that serves only this caller, for commands that block, such as `XREAD … BLOCK`.
    ///
    /// # Errors
    /// When no connection can be made.
    pub async fn dedicated(&self) -> Result<DedicatedConnection, LinkError> {
        self.connect()
            .await
            .map(|connection| DedicatedConnection { connection })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, LinkError> {
        let connecting = self.client.get_multiplexed_async_connection();
        match tokio::time::timeout(self.timeout, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(LinkError(error.category().to_owned())),
            Err(_) => Err(LinkError("timeout while connecting".to_owned())),
        }
    }

    fn tell(&self, result: Result<(), String>) {
        if self.required.load(Ordering::Relaxed) {
            self.readiness.set_check(NAME, result);
        }
    }
}

/// Connects, and again whenever the connection is lost.
async fn keep_connected(link: Weak<RedisLink>, longest: Duration) {
    let mut wait = FIRST_WAIT;
    while let Some(strong) = link.upgrade() {
        match strong.connect().await {
            Ok(connection) => {
                wait = FIRST_WAIT;
                strong.shared.send_replace(Some(connection));
                strong.tell(Ok(()));
                tracing::info!(
                    event = "broker_connected",
                    broker = NAME,
                    address = strong.address()
                );
                strong.lost.notified().await;
                strong.shared.send_replace(None);
                strong.tell(Err("connection lost".to_owned()));
                tracing::warn!(
                    event = "broker_lost",
                    broker = NAME,
                    address = strong.address()
                );
            }
            Err(error) => {
                tracing::warn!(event = "broker_unreachable", broker = NAME, address = strong.address(), reason = %error);
                strong.tell(Err(error.0));
                drop(strong);
                tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                wait = (wait * 2).min(longest);
            }
        }
    }
}

fn refused(error: impl Into<redis::RedisError>) -> CommandError {
    let error = error.into();
    let code = error.code().unwrap_or("ERR");
    CommandError(format!("{code} {}", error.detail().unwrap_or_default()))
}

/// A connection that one caller has for itself, for commands that block.
#[derive(Debug)]
pub struct DedicatedConnection {
    connection: MultiplexedConnection,
}

impl DedicatedConnection {
    /// Sends a command and waits for its answer, however long that takes.
    ///
    /// # Errors
    /// The outer error is a lost connection, the inner one Redis' own answer.
    pub async fn run(&mut self, command: &Cmd) -> Result<Result<Value, CommandError>, LinkError> {
        self.connection
            .set_response_timeout(Duration::from_hours(1));
        match self.connection.send_packed_command(command).await {
            Ok(value) => Ok(Ok(value)),
            Err(error) if error.is_unrecoverable_error() => {
                Err(LinkError(error.category().to_owned()))
            }
            Err(error) => Ok(Err(refused(error))),
        }
    }
}
