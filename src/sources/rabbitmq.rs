//! Pushes from a `RabbitMQ` exchange: each gateway has a queue of its own, unless one is shared.
//!
//! Stands between the broker and the registry. What was read is acknowledged once it was handed to the registry, or
//! kept as a dead letter where it is no push; nothing is lost by a gateway that ends in between.
//!
//! # Queues
//! By default the queue is exclusive and goes away with the connection: pushes that are made meanwhile are not for
//! this gateway, whose clients are gone or see a gap. With `replay.strategy` `bounded` or `durable` the queue is
//! durable and named after the gateway, so that a lost connection or a restart under the same `server.node_id` loses
//! no push; it goes away when nobody reads it for `replay.retention_seconds`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};
use lapin::message::Delivery;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Consumer, ExchangeKind};
use parking_lot::Mutex;
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::span::Spans;
use super::backoff::Backoff;
use super::manage::{Feed, Relation, Run, RunFuture};
use super::pace::Pace;
use super::{SourceContext, SourceError};
use crate::brokers::rabbitmq::{
    LinkChannel, LinkError, NAME, Queue, RabbitmqLink, Topology, short,
};
use crate::brokers::{Brokers, DsnError};
use crate::config::{Config, Secret};
use crate::push::Push;
use crate::replay::ReplayStrategy;
use crate::sinks::dead_letter::{Cause, DeadLetter, DeadLetterCount, DeadLetters as _};
use crate::stages::ordering_key::partition;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::throttle::Throttle;

mod span;

/// Pushes that the broker sends ahead of their acknowledgement.
const PREFETCH: u16 = 200;

/// Pushes after which an acknowledgement goes out at the latest; sooner when no more have come.
const ACK_EVERY: u32 = 64;

/// Longest wait between two tries to subscribe.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Wait after a dead letter could not be kept, before the broker sends it again.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Time for the end of a subscription when the gateway stops.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// What `/ready` says until the source reads.
const NOT_SUBSCRIBED: &str = "not subscribed";

/// Longest life of an unused queue that `RabbitMQ` takes, in milliseconds.
const MAX_EXPIRES_MS: u64 = 4_294_967_295;

/// Settings of the `RabbitMQ` source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitmqSourceConfig {
    /// Where `RabbitMQ` is, as `amqp://user:password@host:5672/vhost`; empty switches the source off.
    pub dsn: Secret,
    /// The exchange that the backend publishes pushes to.
    pub exchange: String,
    /// The routing key of pushes.
    pub routing_key: String,
    /// A durable queue shared with others that read it; empty: a queue of this gateway's own, so that every gateway sees every push.
    pub queue: String,
    /// Milliseconds that a push may wait in the shared queue; 0: for ever.
    pub queue_ttl_ms: u32,
}

impl Default for RabbitmqSourceConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            exchange: "ws.outbox".into(),
            routing_key: "ws.outbox".into(),
            queue: String::new(),
            queue_ttl_ms: 0,
        }
    }
}

/// The source as a configuration asks for it.
pub(super) struct RabbitmqFeed {
    link: Arc<RabbitmqLink>,
    config: Arc<Config>,
    topology: Topology,
    /// The queue; empty for one of this connection's own.
    queue: String,
    /// The queue that is read, by the name that the broker gave it.
    consumed: Mutex<Option<ShortString>>,
    spans: Spans,
    context: SourceContext,
    metrics: Metrics,
}

impl RabbitmqFeed {
    /// Opens the link, if the source is configured.
    pub(super) fn prepare(
        context: &SourceContext,
        config: &Arc<Config>,
        brokers: &Brokers,
    ) -> Result<Option<Self>, SourceError> {
        let source = &config.transport.rabbitmq;
        if source.dsn.is_empty() {
            return Ok(None);
        }
        let failed = |reason| SourceError {
            setting: "transport.rabbitmq",
            reason,
        };
        let link = brokers
            .rabbitmq(&source.dsn, "transport.rabbitmq.dsn")
            .map_err(failed)?;
        let (topology, queue) =
            plan(config, &context.node_id).map_err(|error| failed(DsnError(error.to_string())))?;
        Ok(Some(Self {
            spans: Spans::new(source, &queue, &link),
            link,
            config: Arc::clone(config),
            topology,
            queue,
            consumed: Mutex::default(),
            context: context.clone(),
            metrics: brokers.metrics().clone(),
        }))
    }
}

impl Feed for RabbitmqFeed {
    type Left = ();

    fn relation(&self, running: &Self) -> Relation {
        let (new, old) = (
            &self.config.transport.rabbitmq,
            &running.config.transport.rabbitmq,
        );
        // What the queue is declared with.
        let arguments = |feed: &Self| {
            let replay = &feed.config.replay;
            let own = feed.config.transport.rabbitmq.queue.is_empty() && !feed.queue.is_empty();
            own.then_some((replay.retention_seconds, replay.maxlen))
        };
        let bound = |source: &RabbitmqSourceConfig| {
            (
                source.dsn.clone(),
                source.exchange.clone(),
                source.routing_key.clone(),
            )
        };
        if Arc::ptr_eq(&self.link, &running.link)
            && new == old
            && self.queue == running.queue
            && arguments(self) == arguments(running)
        {
            Relation::Same
        } else if bound(new) == bound(old) {
            // Two queues that are bound alike would each get every push.
            Relation::Continues
        } else {
            Relation::Other
        }
    }

    fn lag(&self) -> BoxFuture<'_, Option<u64>> {
        Box::pin(async move {
            let queue = self.consumed.lock().clone()?;
            self.link.ready_messages(queue).await.ok().flatten()
        })
    }

    fn announce(&self) {
        self.link.report("source", Some(NOT_SUBSCRIBED.to_owned()));
        self.link.require();
    }

    fn run(self: Arc<Self>, run: Run<()>) -> RunFuture<()> {
        let pushes = &self.metrics.source_pushes_total;
        let source = Source {
            handled: pushes.with_label_values(&[NAME, "handled"]),
            malformed: pushes.with_label_values(&[NAME, "malformed"]),
            dead_letters: DeadLetterCount::of_source(NAME, &self.metrics),
            lines: Throttle::default(),
            push_lines: Throttle::default(),
            stop: run.stop,
            reads: run.reads,
            feed: self,
        };
        tracing::info!(
            event = "source_started",
            source = NAME,
            queue = source.feed.queue
        );
        Box::pin(source.run())
    }
}

/// The exchange and the queue, and the queue's name for the log.
fn plan(config: &Config, node_id: &str) -> Result<(Topology, String), LinkError> {
    let source = &config.transport.rabbitmq;
    let mut topology = Topology::default();
    let exchange = topology.exchange(&source.exchange, ExchangeKind::Direct)?;
    let mut arguments = FieldTable::default();
    let mut argument = |name: &str, value: u64| {
        if value > 0 {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            arguments.insert(name.into(), AMQPValue::LongLongInt(value));
        }
    };
    let (name, private) = if !source.queue.is_empty() {
        argument("x-message-ttl", source.queue_ttl_ms.into());
        (source.queue.clone(), false)
    } else if config.replay.strategy == ReplayStrategy::None {
        (String::new(), true)
    } else {
        let retention = config.replay.retention_seconds.saturating_mul(1000);
        argument("x-expires", retention.min(MAX_EXPIRES_MS));
        argument("x-max-length", config.replay.maxlen);
        (
            partition(&format!("{}.{node_id}", source.exchange), 255),
            false,
        )
    };
    topology.queue(Queue {
        name: short(&name)?,
        private,
        arguments,
        bindings: vec![(exchange, short(&source.routing_key)?)],
    });
    Ok((topology, name))
}

struct Source {
    feed: Arc<RabbitmqFeed>,
    handled: IntCounter,
    malformed: IntCounter,
    dead_letters: DeadLetterCount,
    lines: Throttle,
    push_lines: Throttle,
    stop: CancellationToken,
    reads: watch::Sender<bool>,
}

/// How a subscription ended.
enum End {
    /// The gateway stops.
    Stopped,
    /// The broker cancelled it: the queue was deleted.
    Cancelled,
}

impl Source {
    async fn run(self) {
        self.read().await;
        self.feed.link.report("source", None);
    }

    /// Reads until it is told to stop.
    async fn read(&self) {
        let stop = self.stop.clone();
        let mut backoff = Backoff::up_to(LONGEST_WAIT);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.feed.link.connected() => {}
            }
            let started = Instant::now();
            let ended = self.subscribe().await;
            self.feed
                .link
                .report("source", Some(NOT_SUBSCRIBED.to_owned()));
            let reason = match ended {
                Ok(End::Stopped) => return,
                Ok(End::Cancelled) => {
                    "the broker cancelled the consumer: its queue is gone".to_owned()
                }
                Err(error) => error.to_string(),
            };
            self.interrupted(&reason);
            if !backoff.pause(started, &stop).await {
                return;
            }
        }
    }

    fn interrupted(&self, reason: &str) {
        // What concerns the connection the link says itself.
        if self.feed.link.is_connected() {
            self.feed
                .link
                .report("source", Some(format!("{NOT_SUBSCRIBED}: {reason}")));
        }
        if let Some(suppressed) = self.lines.pass() {
            tracing::warn!(
                event = "source_interrupted",
                source = NAME,
                address = self.feed.link.address(),
                reason,
                suppressed,
            );
        }
    }

    /// Declares, consumes, and reads until the gateway stops or the subscription ends.
    async fn subscribe(&self) -> Result<End, LinkError> {
        let channel = self.feed.link.channel().await?;
        let queue = self.feed.topology.declare(&channel).await?;
        *self.feed.consumed.lock() = Some(queue.clone());
        let raw = channel.raw();
        channel
            .answer(raw.basic_qos(PREFETCH, BasicQosOptions::default()))
            .await?;
        let consuming = raw.basic_consume(
            queue,
            "".into(),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let mut consumer = channel.answer(consuming).await?;
        self.feed.link.report("source", None);
        self.reads.send_replace(true);
        tracing::info!(
            event = "source_subscribed",
            source = NAME,
            address = self.feed.link.address()
        );
        let mut reading = Reading {
            source: self,
            channel: &channel,
            unacknowledged: 0,
            pace: Pace::default(),
            last: 0,
        };
        let ended = reading.until_stop(&mut consumer).await;
        if matches!(ended, Ok(End::Stopped)) {
            // Whatever the broker does not get to hear in time it sends to someone else.
            let _ = tokio::time::timeout(STOP_GRACE, reading.finish(consumer)).await;
            let _ = tokio::time::timeout(STOP_GRACE, channel.close()).await;
        }
        ended
    }
}

/// A subscription that is being read.
struct Reading<'a> {
    source: &'a Source,
    channel: &'a LinkChannel,
    /// Handled since the last acknowledgement.
    unacknowledged: u32,
    /// Tag of the last one that was handled.
    last: u64,
    pace: Pace,
}

impl Reading<'_> {
    async fn until_stop(&mut self, consumer: &mut Consumer) -> Result<End, LinkError> {
        loop {
            let next = if let Some(next) = consumer.next().now_or_never() {
                next
            } else {
                self.acknowledge().await?;
                tokio::select! {
                    biased;
                    () = self.source.stop.cancelled() => return Ok(End::Stopped),
                    next = self.channel.unless_lost(consumer.next()) => next?,
                }
            };
            let Some(delivery) = next else {
                self.acknowledge().await?;
                return Ok(End::Cancelled);
            };
            self.handle(delivery?).await?;
            if self.source.stop.is_cancelled() {
                return Ok(End::Stopped);
            }
        }
    }

    /// Hands over one push, or keeps it as a dead letter.
    async fn handle(&mut self, delivery: Delivery) -> Result<(), LinkError> {
        match Push::parse(&delivery.data) {
            Ok(push) => {
                let SourceContext {
                    registry, tracer, ..
                } = &self.source.feed.context;
                let beside = || span::traceparent(&delivery);
                let context = push.traceparent.as_deref().or_else(beside);
                let open = tracer.begin_push(context);
                let sent = self.pace.publish(registry, &push).await;
                self.source.handled.inc();
                if let Some(span) = open {
                    self.source.feed.spans.end(&span, &delivery, &push, sent);
                }
            }
            Err(error) => {
                if !self.bury(&delivery, error.to_string()).await {
                    self.acknowledge().await?;
                    return self.give_back(delivery.delivery_tag).await;
                }
                self.source.malformed.inc();
                // What is not kept is read again, so that nothing is ever lost here.
                self.source.dead_letters.add(Cause::Malformed, true, 1);
            }
        }
        self.last = delivery.delivery_tag;
        self.unacknowledged += 1;
        if self.unacknowledged >= ACK_EVERY {
            self.acknowledge().await?;
        }
        Ok(())
    }

    /// Keeps what is no push; says whether it is kept.
    async fn bury(&self, delivery: &Delivery, reason: String) -> bool {
        let source = self.source;
        let raw = Bytes::copy_from_slice(&delivery.data);
        let letter = DeadLetter::now(reason.clone(), raw, None, NAME);
        let stored = source.feed.context.dead_letters.store(letter).await;
        if let Some(suppressed) = source.push_lines.pass() {
            tracing::warn!(
                event = "push_malformed",
                source = NAME,
                reason,
                kept = stored.is_ok(),
                error = stored.as_ref().err().map(tracing::field::display),
                suppressed,
            );
        }
        stored.is_ok()
    }

    /// Asks the broker to send a message again, after a pause in which whoever keeps dead letters may come back.
    async fn give_back(&self, tag: u64) -> Result<(), LinkError> {
        let stop = &self.source.stop;
        let _ = stop
            .run_until_cancelled(tokio::time::sleep(STORE_PAUSE))
            .await;
        let options = BasicNackOptions {
            requeue: true,
            multiple: false,
        };
        self.channel
            .answer(self.channel.raw().basic_nack(tag, options))
            .await
    }

    /// Acknowledges all that was handled.
    async fn acknowledge(&mut self) -> Result<(), LinkError> {
        if self.unacknowledged == 0 {
            return Ok(());
        }
        self.unacknowledged = 0;
        let options = BasicAckOptions { multiple: true };
        self.channel
            .answer(self.channel.raw().basic_ack(self.last, options))
            .await
    }

    /// Cancels the consumer and hands over what had come already; the rest goes back with the channel.
    async fn finish(&mut self, mut consumer: Consumer) -> Result<(), LinkError> {
        let cancel = BasicCancelOptions::default();
        let cancelling = self.channel.raw().basic_cancel(consumer.tag(), cancel);
        self.channel.answer(cancelling).await?;
        while let Some(Some(Ok(delivery))) = consumer.next().now_or_never() {
            self.handle(delivery).await?;
        }
        self.acknowledge().await
    }
}

#[cfg(test)]
mod tests;
