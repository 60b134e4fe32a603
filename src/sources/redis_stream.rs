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

use futures_util::future::BoxFuture;
use prometheus::IntCounter;
use redis::{Cmd, Value};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::entry::{Entry, entries};
use self::lag::Progress;
use self::malformed::Malformed;
use self::position::Position;
use super::backoff::Backoff;
use super::manage::{Feed, Relation, Run, RunFuture};
use super::pace::Pace;
use super::{SourceContext, SourceError};
use crate::api::{Owner, Readiness};
use crate::brokers::Brokers;
use crate::brokers::redis::{
    Atomicity, CommandError, DedicatedConnection, LinkError, NAME, RedisLink,
};
use crate::config::{Config, Secret};
use crate::push::Push;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;
use crate::telemetry::traces::{Kind, OpenSpan, Peer};

mod entry;
mod lag;
mod malformed;
mod position;

/// Entries read at once at most.
const MAX_BATCH: usize = 256;

/// Longest time that Redis waits for entries; then the stream is looked at, for it may have been deleted.
const BLOCK: Duration = Duration::from_secs(1);

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

/// The source as a configuration asks for it.
pub(super) struct RedisFeed {
    stream: Stream,
    config: Arc<Config>,
    context: SourceContext,
    readiness: Arc<Readiness>,
    metrics: Metrics,
    owner: Owner,
    progress: Progress,
}

impl RedisFeed {
    /// Opens the link, if the source is configured.
    pub(super) fn prepare(
        context: &SourceContext,
        config: &Arc<Config>,
        brokers: &Brokers,
    ) -> Result<Option<Self>, SourceError> {
        let source = &config.transport.redis_stream;
        if source.dsn.is_empty() {
            return Ok(None);
        }
        let link = brokers
            .redis(&source.dsn, SETTING)
            .map_err(|reason| SourceError {
                setting: SETTING,
                reason,
            })?;
        Ok(Some(Self {
            stream: Stream {
                link,
                name: source.stream.as_str().into(),
            },
            config: Arc::clone(config),
            context: context.clone(),
            readiness: Arc::clone(brokers.readiness()),
            metrics: brokers.metrics().clone(),
            owner: brokers.readiness().owner(),
            progress: Progress::default(),
        }))
    }

    fn report(&self, wrong: Option<String>) {
        let result = wrong.map_or(Ok(()), Err);
        let name = &self.stream.name;
        self.readiness.set_part_by(self.owner, NAME, name, result);
    }
}

impl Feed for RedisFeed {
    type Left = Position;

    fn relation(&self, running: &Self) -> Relation {
        let (new, old) = (&self.stream, &running.stream);
        let settings = |feed: &Self| {
            let (replay, leases) = (&feed.config.replay, &feed.config.leases);
            (
                replay.strategy,
                replay.retention_seconds,
                replay.snapshot_seconds.to_bits(),
                leases.prefix.clone(),
            )
        };
        if !new.link.leads_where(&old.link) || new.name != old.name {
            Relation::Other
        } else if Arc::ptr_eq(&new.link, &old.link) && settings(self) == settings(running) {
            Relation::Same
        } else {
            Relation::Continues
        }
    }

    fn lag(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(self.progress.lag(&self.stream))
    }

    fn announce(&self) {
        self.stream.link.require();
        self.report(Some(NOT_SUBSCRIBED.to_owned()));
    }

    fn run(self: Arc<Self>, run: Run<Position>) -> RunFuture<Position> {
        let pushes = &self.metrics.source_pushes_total;
        let mut position = Position::new(&self.stream, &self.config, &self.context.node_id);
        if let Some(left) = run.from {
            position.resume(left);
        }
        let source = Source {
            position,
            malformed: Malformed::new(&self),
            handled: pushes.with_label_values(&[NAME, "handled"]),
            peer: Peer::new(self.stream.link.address()),
            pace: Pace::default(),
            lines: Throttle::default(),
            stop: run.stop,
            reads: run.reads,
            feed: self,
        };
        tracing::info!(
            event = "source_started",
            source = NAME,
            stream = &*source.feed.stream.name
        );
        Box::pin(source.run())
    }
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
    feed: Arc<RedisFeed>,
    position: Position,
    malformed: Malformed,
    handled: IntCounter,
    peer: Peer,
    pace: Pace,
    lines: Throttle,
    stop: CancellationToken,
    reads: watch::Sender<bool>,
}

impl Source {
    /// Reads until it is told to stop; gives how far it came.
    async fn run(mut self) -> Position {
        let stop = self.stop.clone();
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.feed.stream.link.connected() => {}
            }
            let started = Instant::now();
            let ended = self.subscribe().await;
            self.feed.report(Some(NOT_SUBSCRIBED.to_owned()));
            match ended {
                Ok(()) => break,
                Err(error) => self.interrupted(&error),
            }
            if !backoff.pause(started, &stop).await {
                break;
            }
        }
        self.position.keep_at_end().await;
        let Self { feed, position, .. } = self;
        feed.readiness.remove_parts_of(feed.owner, NAME);
        position
    }

    /// Reads until the gateway stops.
    async fn subscribe(&mut self) -> Result<(), AskError> {
        let stop = self.stop.clone();
        let Some(connection) = stop.run_until_cancelled(self.open()).await else {
            return Ok(());
        };
        let mut connection = connection?;
        self.feed.report(None);
        self.feed.progress.note(self.position.last(), 0);
        self.reads.send_replace(true);
        tracing::info!(
            event = "source_subscribed",
            source = NAME,
            address = self.feed.stream.link.address(),
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
            let count = entries.len();
            for entry in entries {
                match entry.push() {
                    Ok(push) => {
                        let SourceContext {
                            registry, tracer, ..
                        } = &self.feed.context;
                        let span = tracer.begin_push(push.traceparent.as_deref());
                        let sent = self.pace.publish(registry, &push).await;
                        self.handled.inc();
                        if let Some(span) = span {
                            self.end(&span, &entry, &push, sent);
                        }
                    }
                    Err(error) => self.malformed.bury(&entry, &error).await,
                }
                self.position.handled(entry.id);
            }
            self.feed.progress.note(self.position.last(), count);
            self.position.keep_if_due().await;
            if stop.is_cancelled() {
                return Ok(());
            }
        }
    }

    /// Ends the span of a push.
    fn end(&self, span: &OpenSpan, entry: &Entry, push: &Push, sent: usize) {
        span.end("ws.outbox.redis", Kind::Consumer, |span| {
            span.text("messaging.system", "redis");
            span.text("messaging.operation.type", "process");
            span.text("messaging.operation.name", "xread");
            span.text("messaging.destination.name", &self.feed.stream.name);
            span.text("messaging.message.id", &entry.id.to_string());
            push.write(span, sent);
            self.peer.write(span);
        });
    }

    /// Connects, and finds out where to go on.
    async fn open(&mut self) -> Result<DedicatedConnection, AskError> {
        let connection = self.feed.stream.link.dedicated().await?;
        self.position.check(true).await?;
        Ok(connection)
    }

    fn interrupted(&self, error: &AskError) {
        let Stream { link, name } = &self.feed.stream;
        // What concerns the connection the link says itself.
        if link.is_connected() {
            self.feed.report(Some(format!("{NOT_SUBSCRIBED}: {error}")));
        }
        if let Some(suppressed) = self.lines.pass() {
            tracing::warn!(
                event = "source_interrupted",
                source = NAME,
                address = link.address(),
                stream = &**name,
                reason = %error,
                suppressed,
            );
        }
    }
}
