//! Adds events to Redis streams, many in one round trip.
//!
//! Stands behind a delivery, which decides about order, retries and dead letters; this sink tries once. While Redis
//! is away, a try waits for the connection, so that an outage costs no tries.
//!
//! # Order
//! The `XADD`s of a batch stand in one transaction, so that none can fail between two that succeed. Within a batch,
//! all events of a lane go to one stream, so where Redis refuses an event, all others of its stream fail with it
//! and no event can overtake one before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Cmd;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::entry::Entry;
use self::refused::Refused;
use self::trim::Trimmer;
use super::delivery::{DeliverySettings, RetryPolicy, WhenFull};
use super::{Batch, DeliveryError, Failure, Retry, traced};
use crate::brokers::redis::{Atomicity, NAME, RedisLink};
use crate::config::{BufferConfig, Config, Secret};
use crate::event::{Event, EventKind};
use crate::stages::ordering_key::Partitions;
use crate::svc::BoxSink;
use crate::telemetry::traces::{Kind, OpenSpan, Peer};

pub(crate) mod entry;
mod refused;
mod streams;
pub(crate) mod trim;

pub use self::entry::Xadd;
pub(crate) use self::streams::Streams;

/// Events added in one round trip at most.
const MAX_BATCH: usize = 512;

/// Batches under way at once in a cluster.
const CLUSTER_BATCHES: usize = 4;

/// Tries of a batch with ever fewer streams, while Redis refuses some.
const ROUNDS: usize = 8;

/// Settings of the Redis sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RedisStreamConfig {
    /// Where Redis is, as `redis://user:password@host:6379/0`; empty switches the sink off.
    pub dsn: Secret,
    /// The stream of `connected` and `disconnected`.
    pub stream: String,
    /// The stream of `message_received`.
    pub inbox_stream: String,
    /// How an event is written to its entry.
    pub format: BrokerFormat,
    /// The bounded buffer in front of the sink.
    pub buffer: BufferConfig,
}

impl Default for RedisStreamConfig {
    fn default() -> Self {
        Self {
            dsn: Secret::default(),
            stream: "ws.events".into(),
            inbox_stream: "ws.inbox".into(),
            format: BrokerFormat::Json,
            buffer: BufferConfig::default(),
        }
    }
}

impl RedisStreamConfig {
    /// How the sink is delivered to, for as long as the gateway lives.
    ///
    /// One batch at a time: what arrives during a round trip is the next. In a cluster several, so that a node that
    /// hangs does not hold up what goes to the others.
    #[must_use]
    pub fn delivery(&self, link: &RedisLink) -> DeliverySettings {
        self.delivery_of(if link.is_cluster() {
            CLUSTER_BATCHES
        } else {
            1
        })
    }

    /// As [`RedisStreamConfig::delivery`], with so many batches at once.
    pub(crate) fn delivery_of(&self, concurrency: usize) -> DeliverySettings {
        DeliverySettings {
            name: NAME,
            buffer: self.buffer.clone(),
            concurrency,
            max_batch: MAX_BATCH,
            when_full: WhenFull::Wait,
            linger: Duration::ZERO,
            retry: RetryPolicy {
                attempts: None,
                base: Duration::from_millis(100),
                max: Duration::from_secs(5),
            },
        }
    }
}

/// How an event is written for a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BrokerFormat {
    /// The event's JSON.
    #[default]
    Json,
    /// As Symfony Messenger's transports read it: the JSON as body, beside headers.
    Messenger,
}

/// Whoever must learn of `connected` and `disconnected` in the same breath as the stream.
pub trait Ledger: Send + Sync {
    /// Appends the commands that add the event to its stream: `xadd.command()` and others around it, or others in
    /// its place. The event counts as delivered when none of them fails; all act together or not at all, but in a
    /// cluster, where that holds for keys of one hash slot. Called again for each try.
    fn append(&self, event: &Event, xadd: &Xadd<'_>, commands: &mut Vec<Cmd>);
}

/// What [`RedisStreamSink::new`] reads of a configuration, besides the link and the ledger.
pub(super) fn made_of(config: &Config) -> impl PartialEq {
    let RedisStreamConfig {
        stream,
        inbox_stream,
        format,
        // The link's.
        dsn: _,
        // The delivery's.
        buffer: _,
    } = &config.events.redis_stream;
    (
        (stream, inbox_stream, format),
        Partitions::of(config),
        trim::made_of(&config.replay),
    )
}

/// Where the events go, as a configuration says, besides the link.
pub(super) fn leads_to(config: &Config) -> impl PartialEq {
    let sink = &config.events.redis_stream;
    (&sink.stream, &sink.inbox_stream)
}

/// Adds events to streams.
pub struct RedisStreamSink {
    link: Arc<RedisLink>,
    streams: Streams,
    format: BrokerFormat,
    maxlen: Option<u64>,
    trimmer: Option<Trimmer>,
    ledger: Option<Arc<dyn Ledger>>,
    refused: Refused,
    peer: Peer,
}

impl RedisStreamSink {
    /// Makes the sink of a configuration; must be called within a tokio runtime.
    #[must_use]
    pub fn new(link: Arc<RedisLink>, config: &Config, ledger: Option<Arc<dyn Ledger>>) -> Self {
        let sink = &config.events.redis_stream;
        let streams = Streams::new(config);
        let trimmed = streams.configured().map(str::to_owned).collect();
        Self {
            streams,
            format: sink.format,
            maxlen: trim::maxlen(&config.replay),
            trimmer: Trimmer::start(&link, trimmed, &config.replay),
            ledger,
            peer: Peer::new(link.address()),
            refused: Refused::new(Arc::clone(&link)),
            link,
        }
    }

    /// The sink as a delivery takes it.
    #[must_use]
    pub fn into_service(self) -> BoxSink {
        let sink = Arc::new(self);
        BoxSink::new(tower::service_fn(move |batch: Batch| {
            let sink = Arc::clone(&sink);
            async move { sink.add(&batch).await }
        }))
    }

    async fn add(&self, batch: &Batch) -> Result<(), DeliveryError> {
        let spans = traced::begin_all(batch, NAME);
        let mut failed: Vec<Option<Arc<str>>> = vec![None; batch.len()];
        let mut waiting: Vec<usize> = (0..batch.len()).collect();
        for _ in 0..ROUNDS {
            if waiting.is_empty() {
                break;
            }
            waiting = self.try_once(batch, &spans, waiting, &mut failed).await;
        }
        for index in waiting {
            failed[index] = Some("put off because of other streams".into());
        }
        for (index, span) in spans.iter().enumerate() {
            if let (Some(span), None) = (span, &failed[index]) {
                self.end(span, &batch[index]);
            }
        }
        let failed: Vec<Failure> = failed
            .into_iter()
            .enumerate()
            .filter_map(|(index, reason)| {
                reason.map(|reason| Failure::new(index, reason, Retry::Backoff))
            })
            .collect();
        if failed.is_empty() {
            return Ok(());
        }
        Err(DeliveryError {
            failed,
            tried: batch.len(),
        })
    }

    /// Adds some events of a batch; notes those that failed, and gives those that were not done because of them.
    async fn try_once(
        &self,
        batch: &Batch,
        spans: &[Option<OpenSpan>],
        waiting: Vec<usize>,
        failed: &mut [Option<Arc<str>>],
    ) -> Vec<usize> {
        let mut commands = Vec::with_capacity(waiting.len());
        let mut ends = Vec::with_capacity(waiting.len());
        for &index in &waiting {
            let span = spans.get(index).and_then(Option::as_ref);
            self.write(&batch[index], span, &mut commands);
            ends.push(commands.len());
        }
        self.link.connected().await;
        let answers = match self.link.run_owned(commands, Atomicity::Together).await {
            Ok(answers) => answers,
            Err(error) => {
                let reason: Arc<str> = error.0.into();
                for index in waiting {
                    failed[index] = Some(Arc::clone(&reason));
                }
                return Vec::new();
            }
        };
        if answers.iter().all(Result::is_ok) {
            self.note(batch, &waiting);
            if self.refused.any() {
                for &index in &waiting {
                    self.refused.accept(&self.stream_of(&batch[index]));
                }
            }
            return Vec::new();
        }
        let mut start = 0;
        let mut discarded = Vec::new();
        let mut refused: HashMap<String, Arc<str>> = HashMap::new();
        for (&index, &end) in waiting.iter().zip(&ends) {
            let errors = || answers[start..end].iter().filter_map(|a| a.as_ref().err());
            if let Some(error) = errors().find(|error| !error.is_discarded()) {
                let stream = self.stream_of(&batch[index]).into_owned();
                let reason = refused.entry(stream).or_insert_with_key(|stream| {
                    let reason: Arc<str> = error.0.as_str().into();
                    if self.streams.is_configured(stream) {
                        self.refused.refuse(stream, &reason);
                    }
                    reason
                });
                failed[index] = Some(Arc::clone(reason));
            } else if errors().next().is_some() {
                discarded.push(index);
            }
            start = end;
        }
        discarded.retain(|&index| {
            let reason = refused.get(&*self.stream_of(&batch[index]));
            failed[index] = reason.cloned();
            reason.is_none()
        });
        discarded
    }

    fn write(&self, event: &Event, span: Option<&OpenSpan>, commands: &mut Vec<Cmd>) {
        let stream = self.stream_of(event);
        // The JSON has the context; Messenger's headers have it beside.
        let traceparent = match self.format {
            BrokerFormat::Json => None,
            BrokerFormat::Messenger => traced::traceparent(event, span),
        };
        let entry = Entry::of(event, self.format, traceparent.as_deref());
        let xadd = entry.xadd(&stream, self.maxlen);
        match &self.ledger {
            Some(ledger) if event.kind != EventKind::MessageReceived => {
                ledger.append(event, &xadd, commands);
            }
            _ => commands.push(xadd.command()),
        }
    }

    /// Ends the span of an event that was added.
    fn end(&self, span: &OpenSpan, event: &Event) {
        let stream = match event.kind {
            EventKind::MessageReceived => self.streams.inbox(),
            EventKind::Connected | EventKind::Disconnected => self.streams.events(),
        };
        span.end("broker.publish", Kind::Producer, |span| {
            span.text("messaging.system", "redis");
            span.text("messaging.operation.name", "xadd");
            // Never with the key of a partition, which clients choose.
            span.text("messaging.destination.name", stream);
            traced::broker_event(span, event);
            self.peer.write(span);
        });
    }

    fn stream_of(&self, event: &Event) -> std::borrow::Cow<'_, str> {
        self.streams.of(event)
    }

    /// Tells the trimmer of streams that are named after keys, which it cannot know.
    fn note(&self, batch: &Batch, added: &[usize]) {
        let Some(trimmer) = &self.trimmer else {
            return;
        };
        if !self.streams.has_unknown() {
            return;
        }
        for &index in added {
            if batch[index].ordering_key.is_some() {
                trimmer.note(&self.stream_of(&batch[index]));
            }
        }
    }
}

impl std::fmt::Debug for RedisStreamSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisStreamSink")
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
