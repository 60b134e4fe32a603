//! Makes the event and hands it to the sinks; always the last stage.
//!
//! Stands between the other stages and the deliveries of the sinks.

use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_service::Service;

use crate::event::{Event, EventKind};
use crate::message::Message;
use crate::pipeline::{ALL_EVENTS, CompileError, Ingredients, Stage, StageLayers};
use crate::session::Session;
use crate::sinks::delivery::{Outlet, Slot, WhenFull};
use crate::svc::probe::Probe;
use crate::svc::{BoxError, MessageFuture, MessageResult, NewMessageService, NewService, Outcome};

/// Settings of the `fan_out` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FanOutConfig {
    /// Which sinks get events; unset or empty: `webhook` in terminator mode, `broker` in core mode.
    pub events_mode: Option<EventsMode>,
    /// What a full buffer does to the client whose message finds it full.
    pub on_full: OnFull,
}

impl FanOutConfig {
    /// Makes the bottom of the message stack.
    pub(crate) fn bottom(&self, with: &Ingredients<'_>, probe: Probe) -> NewMessageService {
        let full = |what: &str| with.metrics.sink_full_total.with_label_values(&[what]);
        let (outlets, optional) = with
            .outlets
            .iter()
            .cloned()
            .partition(|outlet| outlet.when_full() == WhenFull::Wait);
        NewMessageService::new(
            NewFanOut {
                settings: Arc::new(Settings {
                    outlets,
                    optional,
                    trace_id_field: with.config.tracing.trace_id_field.clone(),
                    on_full: self.on_full,
                    waited: full("wait"),
                    rejected: full("reject"),
                    closed: full("close"),
                }),
            },
            probe,
        )
    }
}

impl Stage for FanOutConfig {
    fn acts_on(&self) -> &'static str {
        ALL_EVENTS
    }

    fn does(&self) -> &'static str {
        "hands the event to the sinks"
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
    outlets: Vec<Outlet>,
    /// Those that no message waits for.
    optional: Vec<Outlet>,
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
            session,
        }
    }
}

#[derive(Debug)]
struct FanOut {
    settings: Arc<Settings>,
    session: Arc<Session>,
}

impl Service<Message> for FanOut {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let settings = &self.settings;
        let event = Arc::new(Event::new(
            &self.session,
            &message,
            &settings.trace_id_field,
        ));
        let bytes = event.json.len();
        // Most gateways have one sink, and a slot for it needs no list.
        if let [outlet] = settings.outlets.as_slice()
            && let Some(slot) = outlet.try_reserve(bytes)
        {
            self.session.advance_seq();
            settings.offer(&event);
            outlet.enqueue(slot, event);
            return MessageFuture::ready(Ok(Outcome::Published));
        }
        let slots: Option<Vec<Slot>> = settings
            .outlets
            .iter()
            .map(|outlet| outlet.try_reserve(bytes))
            .collect();
        if let Some(slots) = slots {
            publish(settings, &self.session, slots, &event);
            return MessageFuture::ready(Ok(Outcome::Published));
        }
        match (settings.on_full, event.kind) {
            // A connection whose end the backend never hears of would be a ghost there: this always waits.
            (OnFull::Wait, _) | (_, EventKind::Disconnected) => {
                settings.waited.inc();
                MessageFuture::waiting(wait(Arc::clone(settings), Arc::clone(&self.session), event))
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

/// Waits for room in one buffer after the other, always in the sinks' order, so that two waiting events cannot
/// hold what the other needs. The turn in one buffer is kept until the place in the next one's queue is taken, so
/// that no event overtakes another on the way.
async fn wait(settings: Arc<Settings>, session: Arc<Session>, event: Arc<Event>) -> MessageResult {
    let bytes = event.json.len();
    let mut slots: Vec<Slot> = Vec::with_capacity(settings.outlets.len());
    for outlet in &settings.outlets {
        let mut reserve = pin!(outlet.reserve(bytes));
        let at_once = poll_fn(|cx| Poll::Ready(reserve.as_mut().poll(cx))).await;
        if let Some(before) = slots.last_mut() {
            before.pass_turn();
        }
        slots.push(match at_once {
            Poll::Ready(slot) => slot,
            Poll::Pending => reserve.await,
        });
    }
    publish(&settings, &session, slots, &event);
    Ok(Outcome::Published)
}

impl Settings {
    /// Hands the event to the sinks that no message waits for.
    fn offer(&self, event: &Arc<Event>) {
        for outlet in &self.optional {
            outlet.enqueue_or_drop(event);
        }
    }
}

fn publish(settings: &Settings, session: &Session, slots: Vec<Slot>, event: &Arc<Event>) {
    session.advance_seq();
    settings.offer(event);
    for (outlet, slot) in settings.outlets.iter().zip(slots) {
        outlet.enqueue(slot, Arc::clone(event));
    }
}
