//! Pushes from a Redis stream: every gateway reads every entry and delivers it to its own clients.
//!
//! Stands between Redis and the registry. There is no consumer group, since each gateway needs all entries; each
//! remembers how far it is, and after a lost connection goes on from there, so that no push is lost or sent twice.
//!
//! # Restarts
//! A gateway that starts begins at the stream's end: it has no clients yet that older pushes could be for. With
//! `replay.strategy` `bounded` or `durable` it keeps its position in Redis, and goes on after it if it has the same
//! `server.node_id`.
//!
//! # Layout
//! - `entry` reads what Redis answers, without any input or output.
//! - `position` knows where to go on, also after the stream was trimmed, deleted, or lost its newest entries.
//! - `malformed` keeps what is no push, once for all gateways.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntCounter;
use redis::{Cmd, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use self::entry::entries;
use self::malformed::Malformed;
use self::position::Position;
use super::pace::Pace;
use super::{SourceContext, SourceError};
use crate::brokers::redis::{
    Atomicity, CommandError, DedicatedConnection, LinkError, NAME, RedisLink,
};
use crate::config::Secret;
use crate::telemetry::throttle::Throttle;

mod entry;
mod malformed;
mod position;

/// Entries read at once at most.
const MAX_BATCH: usize = 256;

/// Longest time that Redis waits for entries; then the stream is looked at, for it may have been deleted.
const BLOCK: Duration = Duration::from_secs(1);

/// Wait before the second try to read; doubled for each further one.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Longest wait between two tries to read.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// The setting that the link is opened for.
const SETTING: &str = "transport.redis_stream.dsn";

/// What `/ready` says until the source reads.
const NOT_SUBSCRIBED: &str = "not subscribed";

/// Settings of the Redis source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisSourceConfig {
    /// Where Redis is, as `redis://user:password@host:6379/0`; empty switches the source off.
    pub dsn: Secret,
    /// The stream that the backend adds pushes to.
    pub stream: String,
}

impl Default for RedisSourceConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            stream: "ws.outbox".into(),
        }
    }
}

/// Starts the source, if it is configured.
pub(super) fn start(context: &SourceContext) -> Result<(), SourceError> {
    let config = &context.config.transport.redis_stream;
    if config.dsn.is_empty() {
        return Ok(());
    }
    let link = context.brokers.redis(&config.dsn);
    let link = link.map_err(|reason| SourceError {
        setting: SETTING,
        reason,
    })?;
    link.used_by(SETTING);
    link.require();
    let pushes = &context.brokers.metrics().source_pushes_total;
    let stream = Stream {
        link,
        name: config.stream.as_str().into(),
    };
    let source = Source {
        position: Position::new(&stream, &context.config, &context.node_id),
        malformed: Malformed::new(&stream, context),
        stream,
        handled: pushes.with_label_values(&[NAME, "handled"]),
        context: context.clone(),
        pace: Pace::default(),
        lines: Throttle::default(),
    };
    source.report(Some(NOT_SUBSCRIBED.to_owned()));
    tracing::info!(
        event = "source_started",
        source = NAME,
        stream = config.stream
    );
    context.tasks.spawn(source.run());
    Ok(())
}

/// The stream, and the way to it for commands that do not block.
#[derive(Debug, Clone)]
struct Stream {
    link: Arc<RedisLink>,
    name: Arc<str>,
}

/// Why Redis could not be asked.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct AskError(String);

impl From<CommandError> for AskError {
    fn from(error: CommandError) -> Self {
        Self(error.0)
    }
}

impl From<LinkError> for AskError {
    fn from(error: LinkError) -> Self {
        Self(error.0)
    }
}

impl AskError {
    fn unexpected() -> Self {
        Self("an unexpected answer of Redis".to_owned())
    }
}

impl Stream {
    /// Sends one command, and never waits for a connection.
    async fn ask(&self, command: Cmd) -> Result<Value, AskError> {
        let mut answers = self.link.run_owned(vec![command], Atomicity::Each).await?;
        Ok(answers.pop().ok_or_else(AskError::unexpected)??)
    }
}

struct Source {
    stream: Stream,
    position: Position,
    malformed: Malformed,
    handled: IntCounter,
    context: SourceContext,
    pace: Pace,
    lines: Throttle,
}

impl Source {
    async fn run(mut self) {
        let stop = self.context.stop.clone();
        let mut wait = FIRST_WAIT;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.stream.link.connected() => {}
            }
            let started = Instant::now();
            let ended = self.subscribe().await;
            self.report(Some(NOT_SUBSCRIBED.to_owned()));
            match ended {
                Ok(()) => break,
                Err(error) => self.interrupted(&error),
            }
            if started.elapsed() > LONGEST_WAIT {
                wait = FIRST_WAIT;
            }
            let pause = wait.mul_f64(0.5 + rand::random::<f64>() / 2.0);
            if stop
                .run_until_cancelled(tokio::time::sleep(pause))
                .await
                .is_none()
            {
                break;
            }
            wait = (wait * 2).min(LONGEST_WAIT);
        }
        self.position.keep_at_end().await;
    }

    /// Reads until the gateway stops.
    async fn subscribe(&mut self) -> Result<(), AskError> {
        let stop = self.context.stop.clone();
        let Some(connection) = stop.run_until_cancelled(self.open()).await else {
            return Ok(());
        };
        let mut connection = connection?;
        self.report(None);
        tracing::info!(
            event = "source_subscribed",
            source = NAME,
            address = self.stream.link.address(),
            after = %self.position.last(),
        );
        loop {
            let read = self.position.read_command(MAX_BATCH, BLOCK);
            let Some(answer) = stop.run_until_cancelled(connection.run(&read)).await else {
                return Ok(());
            };
            let entries = entries(answer??).ok_or_else(AskError::unexpected)?;
            match entries.first() {
                Some(first) => self.position.read(first.id),
                None => self.position.check(false).await?,
            }
            for entry in entries {
                match entry.push() {
                    Ok(push) => {
                        self.pace.publish(&self.context.registry, &push).await;
                        self.handled.inc();
                    }
                    Err(error) => self.malformed.bury(&entry, &error).await,
                }
                self.position.handled(entry.id);
            }
            self.position.keep_if_due().await;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Connects, and finds out where to go on.
    async fn open(&mut self) -> Result<DedicatedConnection, AskError> {
        let connection = self.stream.link.dedicated().await?;
        self.position.check(true).await?;
        Ok(connection)
    }

    fn interrupted(&self, error: &AskError) {
        // What concerns the connection the link says itself.
        if self.stream.link.is_connected() {
            self.report(Some(format!("{NOT_SUBSCRIBED}: {error}")));
        }
        if let Some(suppressed) = self.lines.pass() {
            tracing::warn!(
                event = "source_interrupted",
                source = NAME,
                address = self.stream.link.address(),
                stream = &*self.stream.name,
                reason = %error,
                suppressed,
            );
        }
    }

    fn report(&self, wrong: Option<String>) {
        let readiness = self.context.brokers.readiness();
        readiness.set_part(NAME, &self.stream.name, wrong.map_or(Ok(()), Err));
    }
}
