//! Traces: the gateway's own spans, and where they are exported to.
//!
//! Stands beside the data path. The stage `trace` begins the span of a message, sinks those of publishing, sources and
//! the API those of pushes; each is written to a bounded queue when it ends, and a task of its own exports them. Nothing
//! here is ever waited for: where there is no room, or no collector that takes spans, they are counted instead.
//!
//! # Layout
//! - `context` reads and writes `traceparent`, and decides which traces are recorded.
//! - `span` is one that has not ended, `encode` writes it as OTLP has it, `queue` cuts spans into batches.
//! - `export` is the task, `target` where it exports to, `otlp` the collector, `resource` who we are.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::{digest, hmac};
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use self::context::write_hex;
use self::encode::Format;
use self::queue::Queue;
use self::target::Target;
use crate::clock::unix_nanos;
use crate::config::{Config, TracingConfig, TracingStrategy};
use crate::telemetry::metrics::Metrics;

mod context;
mod encode;
mod export;
mod otlp;
mod peer;
mod queue;
mod resource;
mod span;
mod target;

pub use self::context::{Sampler, SpanId, TraceId, Traceparent};
pub(crate) use self::encode::{Kind, SpanWriter};
pub use self::otlp::OtlpError;
pub(crate) use self::otlp::headers as otlp_headers;
pub(crate) use self::peer::Peer;
pub use self::span::SpanContext;
pub(crate) use self::span::{OpenSpan, User};
pub use self::target::TracesError;

/// No span is wanted.
const OFF: u8 = 0;
/// Spans are taken, written as protocol buffers.
const PROTOBUF: u8 = 1;
/// Spans are taken, written as JSON.
const JSON: u8 = 2;
/// Spans are wanted, but the collector does not take them now.
const PAUSED: u8 = 3;

/// The state in which spans of a format are taken.
fn recording(format: Format) -> u8 {
    match format {
        Format::Protobuf => PROTOBUF,
        Format::Json => JSON,
    }
}

/// Takes finished spans; a handle, of which there may be many.
#[derive(Clone)]
pub struct Tracer(Arc<Shared>);

struct Shared {
    state: AtomicU8,
    queue: Queue,
    /// Spans of the batch that is being exported.
    in_hand: AtomicUsize,
    in_force: ArcSwap<InForce>,
    counters: Counters,
}

/// What a reload may change.
struct InForce {
    /// Whether pushes, which pass no stage, have spans.
    pushes: bool,
    sampler: Sampler,
    users: Users,
}

/// How spans name users.
enum Users {
    Ids,
    Hashes(Box<hmac::Key>),
}

struct Counters {
    exported: IntCounter,
    failed_exports: IntCounter,
    queue_full: IntCounter,
    paused: IntCounter,
    export_failed: IntCounter,
    rejected: IntCounter,
    shutdown: IntCounter,
}

impl Tracer {
    /// Takes no spans until it is told to by a configuration.
    #[must_use]
    pub fn new(metrics: &Metrics) -> Self {
        let dropped = |reason| metrics.spans_dropped_total.with_label_values(&[reason]);
        Self(Arc::new(Shared {
            state: AtomicU8::new(OFF),
            queue: Queue::new(),
            in_hand: AtomicUsize::new(0),
            in_force: ArcSwap::from_pointee(InForce {
                pushes: false,
                sampler: Sampler::new(&TracingConfig::default()),
                users: Users::Ids,
            }),
            counters: Counters {
                exported: metrics.spans_exported_total.clone(),
                failed_exports: metrics.span_exports_failed_total.clone(),
                queue_full: dropped("queue_full"),
                paused: dropped("paused"),
                export_failed: dropped("export_failed"),
                rejected: dropped("rejected"),
                shutdown: dropped("shutdown"),
            },
        }))
    }

    /// Whether a span that begins now would be taken; counts it if it would have to be dropped.
    #[must_use]
    pub fn takes(&self) -> bool {
        self.format().is_some()
    }

    /// Whether spans are wanted, though they may not be taken now.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.state() != OFF
    }

    /// How spans are written now; counts one where none are taken.
    fn format(&self) -> Option<Format> {
        let shared = &self.0;
        let format = match shared.state() {
            PROTOBUF => Format::Protobuf,
            JSON => Format::Json,
            PAUSED => {
                shared.counters.paused.inc();
                return None;
            }
            _ => return None,
        };
        if shared.queue.is_full() {
            shared.counters.queue_full.inc();
            return None;
        }
        Some(format)
    }

    /// Begins a span, of a trace that is recorded; one without a parent begins a trace of this id.
    pub(crate) fn begin(&self, trace_id: TraceId, parent: Option<SpanId>, began: u64) -> OpenSpan {
        OpenSpan {
            context: SpanContext {
                tracer: self.clone(),
                trace_id,
                span_id: SpanId::random(),
                began,
            },
            parent,
            remote: parent.is_some(),
        }
    }

    /// Begins the span of a push, if it is to have one: the backend's word on recording is followed.
    pub(crate) fn begin_push(&self, traceparent: Option<&str>) -> Option<OpenSpan> {
        if !self.is_on() {
            return None;
        }
        let in_force = self.0.in_force.load();
        if !in_force.pushes {
            return None;
        }
        let parent = traceparent.and_then(Traceparent::parse);
        let trace_id = parent.map_or_else(TraceId::random, |parent| parent.trace_id);
        let sampled =
            parent.map_or_else(|| in_force.sampler.root(trace_id), |parent| parent.sampled);
        if !sampled || !self.takes() {
            return None;
        }
        Some(self.begin(trace_id, parent.map(|parent| parent.span_id), unix_nanos()))
    }

    /// How spans name a user; nothing while no spans are wanted.
    pub(crate) fn user(&self, id: &str) -> Option<User> {
        if !self.is_on() {
            return None;
        }
        Some(match &self.0.in_force.load().users {
            Users::Ids => User {
                key: "user.id",
                value: id.into(),
            },
            Users::Hashes(key) => {
                let tag = hmac::sign(key, id.as_bytes());
                let mut text = [0; 32];
                write_hex(&mut text, tag.as_ref().get(..16).unwrap_or_default());
                User {
                    key: "user.hash",
                    value: std::str::from_utf8(&text).unwrap_or_default().into(),
                }
            }
        })
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tracer")
    }
}

impl Shared {
    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn set_state(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }
}

/// The traces of one gateway: the tracer, and the task that exports; the task stops when it is dropped.
pub struct Traces {
    tracer: Tracer,
    targets: watch::Sender<Arc<Target>>,
    /// What the target in force was made of.
    made_of: Mutex<MadeOf>,
    /// Makes hashes of user ids where nothing is configured for that.
    chance: [u8; 32],
    stop: CancellationToken,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// What a target is made of: settings, and what the file of authorities holds.
type MadeOf = Option<(TracingConfig, Option<Vec<u8>>)>;

/// A configuration that can be put in force.
pub struct PreparedTraces {
    /// None: the one in force stays, with its connection and what it knows of the collector.
    target: Option<(Target, MadeOf)>,
    in_force: InForce,
    queue_spans: usize,
    batch_spans: usize,
}

impl Traces {
    /// Starts the task, which exports nothing yet, on the runtime of the caller.
    #[must_use]
    pub fn start(metrics: &Metrics) -> Self {
        let tracer = Tracer::new(metrics);
        let (targets, wanted) = watch::channel(Arc::new(Target::none()));
        let stop = CancellationToken::new();
        let task = tokio::spawn(export::run(Arc::clone(&tracer.0), wanted, stop.clone()));
        Self {
            tracer,
            targets,
            made_of: Mutex::default(),
            chance: rand::random(),
            stop,
            task: Mutex::new(Some(AbortOnDropHandle::new(task))),
        }
    }

    /// Takes finished spans.
    #[must_use]
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Makes what a configuration needs; connects to nothing.
    ///
    /// # Errors
    /// When a setting cannot be used.
    pub fn prepare(&self, config: &Config, node_id: &str) -> Result<PreparedTraces, TracesError> {
        let tracing = &config.tracing;
        let authorities = std::fs::read(&tracing.otlp.ca_file).ok();
        let made_of = Some((tracing.clone(), authorities));
        let target = if *self.made_of.lock() == made_of {
            None
        } else {
            Some((Target::new(tracing, node_id)?, made_of))
        };
        Ok(PreparedTraces {
            target,
            in_force: InForce {
                pushes: config.tracing_of_pushes() == TracingStrategy::Full,
                sampler: Sampler::new(tracing),
                users: self.users(config),
            },
            queue_spans: tracing.queue_spans,
            batch_spans: tracing.batch_spans,
        })
    }

    /// Puts a configuration in force.
    pub fn activate(&self, prepared: PreparedTraces) {
        let shared = &self.tracer.0;
        shared
            .queue
            .set_bounds(prepared.queue_spans, prepared.batch_spans);
        shared.in_force.store(Arc::new(prepared.in_force));
        if let Some((target, made_of)) = prepared.target {
            // At once, so that the first connection's spans are not missed.
            match target.format() {
                Some(format) if shared.state() != PAUSED => shared.set_state(recording(format)),
                _ => {}
            }
            *self.made_of.lock() = made_of;
            self.targets.send_replace(Arc::new(target));
        }
    }

    /// Exports what waits, for no longer than this; what is left then is dropped and counted.
    pub async fn stop(&self, longest: Duration) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(mut task) = task {
            let _ = tokio::time::timeout(longest, &mut task).await;
        }
        let shared = &self.tracer.0;
        shared.set_state(OFF);
        let left = shared.in_hand.swap(0, Ordering::Relaxed) + shared.queue.clear();
        if left > 0 {
            shared.counters.shutdown.inc_by(left as u64);
            tracing::warn!(
                event = "spans_lost",
                spans = left,
                "the gateway stopped before they could be exported"
            );
        }
    }

    fn users(&self, config: &Config) -> Users {
        let tracing = &config.tracing;
        if !tracing.hash_user_ids {
            return Users::Ids;
        }
        let secret = if tracing.user_hash_key.is_empty() {
            &config.server.api_key
        } else {
            &tracing.user_hash_key
        };
        let key = if secret.is_empty() {
            hmac::Key::new(hmac::HMAC_SHA256, &self.chance)
        } else {
            // A key of its own, so that no hash says anything about what else the secret is for.
            let mut context = digest::Context::new(&digest::SHA256);
            context.update(b"wsgw user hash\n");
            context.update(secret.reveal().as_bytes());
            hmac::Key::new(hmac::HMAC_SHA256, context.finish().as_ref())
        };
        Users::Hashes(Box::new(key))
    }
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Traces")
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
