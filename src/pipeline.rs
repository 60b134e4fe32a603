//! Compiles a configuration into a generation: the stacks that handshakes and messages pass.
//!
//! Stands between the configuration and the connections. The stack is folded from the YAML's last stage to its
//! first, so that the first one listed is the first one met.

use std::sync::Arc;

use http::HeaderName;
use prometheus::{IntCounter, IntGauge};

use crate::condition::{Condition, Matcher};
use crate::config::Config;
use crate::intake::Intake;
use crate::kept::Kept;
use crate::message::{FieldSet, TooManyFields};
use crate::session::Session;
use crate::sinks::delivery::Outlet;
use crate::stages::StageConfig;
use crate::svc::conditional::layer_when;
use crate::svc::probe::{Probe, Tap};
use crate::svc::{BoxHandshakeService, HandshakeLayer, MessageLayer, NewMessageService};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;

mod handshake;

use handshake::MakeSession;
pub use handshake::{ANONYMOUS, Claimed, Handshake};

/// One compiled configuration.
#[derive(Debug, Clone)]
pub struct Generation {
    /// Counts the generations of a process, from 1.
    pub number: u64,
    /// The configuration it was compiled from.
    pub config: Arc<Config>,
    /// What an upgrade request passes before there is a session.
    pub handshake: BoxHandshakeService,
    /// Makes what a connection's messages pass.
    pub messages: NewMessageService,
    /// The message fields that the stages ask for.
    pub fields: Arc<FieldSet>,
    /// Counts the messages that wait for room; the same for all generations of a process.
    pub(crate) intake: Arc<Intake>,
    /// Counts for each stage, from the top, the messages that ended in it.
    ended: Arc<[IntCounter]>,
    _alive: Arc<Alive>,
}

impl Generation {
    /// Counts a message that was answered or refused, so that it went no further than it came.
    pub(crate) fn message_ended(&self, session: &Session) {
        if let Some(ended) = self.ended.get(usize::from(session.reached())) {
            ended.inc();
        }
    }
}

/// Counts the generations that something still uses.
#[derive(Debug)]
struct Alive(IntGauge);

impl Alive {
    fn new(count: &IntGauge) -> Arc<Self> {
        count.inc();
        Arc::new(Self(count.clone()))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What a stage that sees every event acts on.
pub const ALL_EVENTS: &str = "connected, message_received, disconnected";

/// What a stage that minds clients' messages alone acts on.
pub const MESSAGES: &str = "message_received";

/// What the stages are compiled with.
#[derive(Debug)]
pub struct Ingredients<'a> {
    /// The whole configuration.
    pub config: &'a Arc<Config>,
    /// State that outlives a generation.
    pub shared: &'a Kept,
    /// The gateway's metrics.
    pub metrics: &'a Metrics,
    /// The sinks that get events.
    pub outlets: &'a [Outlet],
    /// The message fields that stages ask for.
    pub fields: FieldSet,
    /// Takes spans.
    pub tracer: &'a Tracer,
    /// Where each message's way through the stages is told, in `wsgw dev`.
    pub tap: Option<Tap>,
}

/// Why a valid configuration could not be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// A setting names something that is not there or does not fit.
    #[error("`{path}` {problem}")]
    Setting {
        /// Path of the key below `snoke_ws`.
        path: String,
        /// What is wrong, beginning with a verb.
        problem: String,
    },
    /// The stages ask for too many message fields.
    #[error(transparent)]
    Fields(#[from] TooManyFields),
    /// The pipeline does not end in `fan_out`.
    #[error("`stages` must end with `fan_out`")]
    NoFanOut,
}

impl CompileError {
    /// A setting names something that is not there or does not fit.
    pub fn setting(path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Setting {
            path: path.into(),
            problem: problem.into(),
        }
    }
}

/// A stage's settings, as far as compiling goes.
pub trait Stage {
    /// What of a connection the stage acts on, for `wsgw explain`.
    fn acts_on(&self) -> &'static str;

    /// What the stage does with it, in a few words.
    fn does(&self) -> &'static str;

    /// Which messages the stage meets; all of them without a condition.
    fn when(&self) -> Option<&Condition> {
        None
    }

    /// Adds the headers of upgrade requests that the stage wants to know.
    fn headers(&self, wanted: &mut Vec<HeaderName>) {
        if let Some(when) = self.when() {
            when.headers(wanted);
        }
    }

    /// Makes the stage's layers.
    ///
    /// # Errors
    /// When a setting names something that is not there, such as a key file.
    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError>;
}

/// The layers of one stage: it joins the handshake stack, the message stack, both or neither.
#[derive(Debug, Default)]
pub struct StageLayers {
    handshake: Option<HandshakeLayer>,
    messages: Option<MessageLayer>,
}

impl StageLayers {
    /// The stage has nothing to do.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// The stage joins the message stack.
    #[must_use]
    pub fn messages(messages: MessageLayer) -> Self {
        Self {
            handshake: None,
            messages: Some(messages),
        }
    }

    /// The stage joins both stacks.
    #[must_use]
    pub fn both(handshake: HandshakeLayer, messages: MessageLayer) -> Self {
        Self {
            handshake: Some(handshake),
            messages: Some(messages),
        }
    }
}

/// Compiles the stages of a configuration.
///
/// # Errors
/// When a stage's settings name something that is not there, or the stages do not end with `fan_out`.
pub fn compile(number: u64, mut with: Ingredients<'_>) -> Result<Generation, CompileError> {
    let config = Arc::clone(with.config);
    let Some((StageConfig::FanOut(fan_out), above)) = config.stages.split_last() else {
        return Err(CompileError::NoFanOut);
    };
    let ended = &with.metrics.stage_ended_total;
    let names = config.stages.iter().map(StageConfig::name);
    let ended = names.map(|name| ended.with_label_values(&[name])).collect();
    let probe = |at, with: &Ingredients<'_>| Probe::new(at, with.metrics, with.tap.clone());
    let acks = fan_out.acks(&mut with)?;
    let mut messages = fan_out.bottom(&with, &acks, probe(("fan_out", above.len()), &with))?;
    let mut handshake = BoxHandshakeService::new(MakeSession::new(&config));
    for (place, stage) in above.iter().enumerate().rev() {
        let settings = stage.settings();
        let layers = settings.layers(&mut with)?;
        if let Some(layer) = layers.messages {
            let probe = probe((stage.name(), place), &with);
            messages = match settings.when() {
                None => layer.layer(messages, probe),
                Some(when) => {
                    let path = format!("stages.{}.when", stage.name());
                    let matcher = Matcher::new(when).map_err(|fault| {
                        CompileError::setting(path, format!("cannot be used: {fault}"))
                    })?;
                    layer_when(matcher, layer, messages, probe)
                }
            };
        }
        if let Some(layer) = layers.handshake {
            handshake = layer.layer(handshake);
        }
    }
    Ok(Generation {
        _alive: Alive::new(&with.metrics.config_generations),
        number,
        handshake,
        messages: acks.above(messages),
        fields: Arc::new(with.fields),
        intake: Intake::of(with.shared, with.metrics),
        ended,
        config,
    })
}

#[cfg(test)]
mod tests;
