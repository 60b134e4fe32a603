//! Makes the event and hands it to the sinks; always the last stage.
//!
//! Stands between the other stages and the deliveries of the sinks.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::HeaderName;
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_service::Service;

use crate::event::{Event, EventKind, Receipt};
use crate::intake::{Intake, Waits};
use crate::message::Message;
use crate::pipeline::{ALL_EVENTS, CompileError, Ingredients, Stage, StageLayers};
use crate::session::Session;
use crate::sinks::EventSpan;
use crate::sinks::delivery::{Outlet, Slot, WhenFull};
use crate::svc::probe::Probe;
use crate::svc::{BoxError, MessageFuture, MessageResult, NewMessageService, NewService, Outcome};
use crate::tail::{Tails, TailsOfProcess};

pub(crate) mod ack;
mod routes;

pub use ack::AckMode;
use ack::{Acks, Sinks};
use routes::{BoundRoutes, Routes, Targets};
pub use routes::{Certainty, RouteConfig, RouteMatch, lifecycle, sinks};

/// Settings of the `fan_out` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FanOutConfig {
    /// Which sinks get events; unset or empty: `webhook` in terminator mode, `broker` in core mode.
    pub events_mode: Option<EventsMode>,
    /// What a full buffer does to the client whose message finds it full.
    pub on_full: OnFull,
    /// When a client's message that bears an `id` is acknowledged; `none`: clients hear of refusals only.
    pub ack: AckMode,
    /// Which sinks an event goes to, top to bottom; empty: every sink gets every event. The archive always does.
    pub routes: Vec<RouteConfig>,
    /// Which of the routes count whose conditions hold.
    pub route_match: RouteMatch,
}

impl FanOutConfig {
    /// Makes what answers clients by the ids of their messages.
    ///
    /// # Errors
    /// When the stages ask for too many message fields.
    pub(crate) fn acks(&self, with: &mut Ingredients<'_>) -> Result<Arc<Acks>, CompileError> {
        Ok(Arc::new(Acks::new(
            self.ack,
            &mut with.fields,
            with.metrics,
        )?))
    }

    /// Makes the bottom of the message stack.
    ///
    /// # Errors
    /// When a route cannot be used.
    pub(crate) fn bottom(
        &self,
        with: &Ingredients<'_>,
        acks: &Arc<Acks>,
        probe: Probe,
    ) -> Result<NewMessageService, CompileError> {
        let full = |what: &str| with.metrics.sink_full_total.with_label_values(&[what]);
        let (outlets, optional): (Vec<_>, Vec<_>) = with
            .outlets
            .iter()
            .cloned()
            .partition(|outlet| outlet.when_full() == WhenFull::Wait);
        let names: Vec<_> = outlets
            .iter()
            .map(|outlet: &Outlet| outlet.name())
            .collect();
        let unrouted = with.metrics.unrouted_total.clone();
        let routes = Routes::compile(
            &self.routes,
            self.route_match,
            with.config,
            &names,
            unrouted,
        )?;
        let not_awaited = optional
            .iter()
            .map(|outlet: &Outlet| outlet.name())
            .collect();
        Ok(NewMessageService::new(
            NewFanOut {
                settings: Arc::new(Settings {
                    acks: Arc::clone(acks),
                    not_awaited,
                    outlets,
                    routes,
                    optional,
                    intake: Intake::of(with.shared, with.metrics),
                    tails: Arc::clone(&with.shared.keep(TailsOfProcess::default).0),
                    trace_id_field: with.config.tracing.trace_id_field.clone(),
                    on_full: self.on_full,
                    waited: full("wait"),
                    rejected: full("reject"),
                    closed: full("close"),
                }),
            },
            probe,
        ))
    }
}

impl Stage for FanOutConfig {
    fn acts_on(&self) -> &'static str {
        ALL_EVENTS
    }

    fn does(&self) -> &'static str {
        "hands the event to the sinks"
    }

    fn headers(&self, wanted: &mut Vec<HeaderName>) {
        for when in self.routes.iter().filter_map(|route| route.when.as_ref()) {
            when.headers(wanted);
        }
    }

    /// `fan_out` is the bottom of the stack and stands below no other stage.
    fn layers(&self, _: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        Err(CompileError::NoFanOut)
    }
}

/// Which sinks get events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventsMode {
    /// The webhook.
    Webhook,
    /// Every configured broker.
    Broker,
    /// The webhook and every configured broker.
    Both,
    /// Neither.
    None,
}

impl EventsMode {
    /// Whether the webhook gets events.
    #[must_use]
    pub fn has_webhook(self) -> bool {
        matches!(self, Self::Webhook | Self::Both)
    }

    /// Whether brokers get events.
    #[must_use]
    pub fn has_broker(self) -> bool {
        matches!(self, Self::Broker | Self::Both)
    }
}

/// What a full buffer does to the client whose message finds it full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// The gateway stops reading from the client until there is room.
    #[default]
    Wait,
    /// The client is answered `{"type":"overloaded"}` and nothing is published.
    Reject,
    /// The connection is closed with 1013 (try again later).
    Close,
}

/// A sink's buffer was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// The message was refused.
    #[error("a sink's buffer is full: the message is refused")]
    Reject,
    /// The connection is to be closed.
    #[error("a sink's buffer is full: the connection is closed")]
    Close,
}

#[derive(Debug)]
struct Settings {
    acks: Arc<Acks>,
    outlets: Vec<Outlet>,
    /// Those that no message waits for.
    optional: Vec<Outlet>,
    /// Counts what waits for room.
    intake: Arc<Intake>,
    /// Whoever looks at what users send.
    tails: Arc<Tails>,
    /// Their names.
    not_awaited: Arc<[&'static str]>,
    /// Which of `outlets` an event goes to; all of them without routes.
    routes: Option<Arc<Routes>>,
    trace_id_field: String,
    on_full: OnFull,
    waited: IntCounter,
    rejected: IntCounter,
    closed: IntCounter,
}

#[derive(Debug)]
struct NewFanOut {
    settings: Arc<Settings>,
}

impl NewService<Arc<Session>> for NewFanOut {
    type Service = FanOut;

    fn new_service(&self, session: Arc<Session>) -> FanOut {
        FanOut {
            settings: Arc::clone(&self.settings),
            routes: self
                .settings
                .routes
                .as_ref()
                .map(|routes| routes.bind(&session)),
            session,
        }
    }
}

#[derive(Debug)]
struct FanOut {
    settings: Arc<Settings>,
    routes: Option<BoundRoutes>,
    session: Arc<Session>,
}

impl Service<Message> for FanOut {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut message: Message) -> Self::Future {
        let routes = self.routes.as_mut();
        let targets = routes.map_or(Targets::ALL, |routes| routes.pick(&message));
        let settings = &self.settings;
        let pending = settings
            .acks
            .follow(&self.session, &message, || settings.sinks(targets));
        let names = targets.of(&settings.outlets).map(Outlet::name);
        let span = EventSpan::choose(&mut message.trace, names);
        let mut event = Event::new(&self.session, &message, &settings.trace_id_field);
        event.span = span;
        event.receipt = pending.clone().map(|pending| pending as Arc<dyn Receipt>);
        let bytes = event.json.len();
        // Most gateways have one sink, and a slot for it needs no list.
        if let [outlet] = settings.outlets.as_slice()
            && targets.has(0)
            && let Some(slot) = outlet.try_reserve(bytes)
        {
            let event = Arc::new(event);
            self.session.advance_seq();
            settings.offer(&event);
            outlet.enqueue(slot, event);
            return MessageFuture::ready(Ok(Outcome::Published));
        }
        let slots: Option<Vec<Slot>> = targets
            .of(&settings.outlets)
            .map(|outlet| outlet.try_reserve(bytes))
            .collect();
        if let Some(slots) = slots {
            publish(settings, &self.session, targets, slots, &Arc::new(event));
            // Where there are sinks to wait for, they will say.
            if let Some(pending) = pending {
                pending.sent();
            }
            return MessageFuture::ready(Ok(Outcome::Published));
        }
        match (settings.on_full, event.kind) {
            // A connection whose end the backend never hears of would be a ghost there: this always waits.
            (OnFull::Wait, _) | (_, EventKind::Disconnected) => {
                settings.waited.inc();
                let waiting = Waiting {
                    _waits: settings.intake.wait(message.body.len()),
                    settings: Arc::clone(settings),
                    session: Arc::clone(&self.session),
                    targets,
                    message,
                    bytes,
                    span: event.span,
                    receipt: event.receipt,
                };
                MessageFuture::waiting(waiting.publish())
            }
            (OnFull::Reject, EventKind::MessageReceived) => {
                settings.rejected.inc();
                MessageFuture::ready(Err(Box::new(Overloaded::Reject)))
            }
            (OnFull::Close, _) | (OnFull::Reject, EventKind::Connected) => {
                settings.closed.inc();
                MessageFuture::ready(Err(Box::new(Overloaded::Close)))
            }
        }
    }
}

/// A message that waits for room. Its event is made again once there is some: an event is more than twice as large, and
/// while a sink is away every connection may have one that waits.
struct Waiting {
    _waits: Waits,
    settings: Arc<Settings>,
    session: Arc<Session>,
    targets: Targets,
    message: Message,
    /// Bytes of the event's JSON.
    bytes: usize,
    span: Option<EventSpan>,
    receipt: Option<Arc<dyn Receipt>>,
}

impl Waiting {
    /// Waits for room in one buffer after the other, always in the sinks' order, so that two waiting events cannot
    /// hold what the other needs. The turn in one buffer is kept until the place in the next one's queue is taken, so
    /// that no event overtakes another on the way.
    async fn publish(self) -> MessageResult {
        let settings = &self.settings;
        let mut slots: Vec<Slot> = Vec::with_capacity(settings.outlets.len());
        for outlet in self.targets.of(&settings.outlets) {
            let mut reserve = pin!(outlet.reserve(self.bytes));
            let at_once = poll_fn(|cx| Poll::Ready(reserve.as_mut().poll(cx))).await;
            if let Some(before) = slots.last_mut() {
                before.pass_turn();
            }
            slots.push(match at_once {
                Poll::Ready(slot) => slot,
                Poll::Pending => reserve.await,
            });
        }
        let mut event = Event::new(&self.session, &self.message, &settings.trace_id_field);
        event.span = self.span;
        event.receipt = self.receipt;
        publish(
            settings,
            &self.session,
            self.targets,
            slots,
            &Arc::new(event),
        );
        Ok(Outcome::Published)
    }
}

impl Settings {
    /// The sinks that an acknowledgement waits for.
    fn sinks(&self, targets: Targets) -> Sinks {
        Sinks {
            required: targets.of(&self.outlets).count(),
            optional: Arc::clone(&self.not_awaited),
        }
    }

    /// Hands the event to the sinks that no message waits for, and to whoever looks.
    fn offer(&self, event: &Arc<Event>) {
        self.tails.event(event);
        for outlet in &self.optional {
            outlet.enqueue_or_drop(event);
        }
    }
}

fn publish(
    settings: &Settings,
    session: &Session,
    targets: Targets,
    slots: Vec<Slot>,
    event: &Arc<Event>,
) {
    session.advance_seq();
    settings.offer(event);
    for (outlet, slot) in targets.of(&settings.outlets).zip(slots) {
        outlet.enqueue(slot, Arc::clone(event));
    }
}
