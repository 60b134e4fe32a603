//! Acknowledgements: tells a client what became of its message, by the id that the client gave it.
//!
//! Stands at both ends of the stack. At the bottom, a [`Pending`] goes with the event to the sinks and answers once
//! they have decided; at the top, [`Answers`] turns what the stages refuse into the same kind of answer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

use crate::close::{self, Nack};
use crate::event::Receipt;
use crate::message::{FieldId, FieldSet, Follower, ID_FIELD, Message, MessageId, TooManyFields};
use crate::session::Session;
use crate::svc::{BoxError, MessageFuture, MessageResult, NewMessageService, NewService, Outcome};
use crate::telemetry::metrics::Metrics;

/// When a client's message is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// Never.
    #[default]
    None,
    /// Once one of the sinks that get its event has confirmed it.
    Any,
    /// Once all of the sinks that get its event have confirmed it.
    All,
}

/// How acknowledgements are given and counted.
#[derive(Debug, Clone)]
pub(crate) struct Acks {
    mode: AckMode,
    id: Option<FieldId>,
    acked: IntCounter,
    nacked: IntCounter,
}

impl Acks {
    /// Asks for the field that they need, if they are given at all.
    pub(crate) fn new(
        mode: AckMode,
        fields: &mut FieldSet,
        metrics: &Metrics,
    ) -> Result<Self, TooManyFields> {
        let wanted = mode != AckMode::None;
        let count = |result| metrics.acks_total.with_label_values(&[result]);
        Ok(Self {
            mode,
            id: wanted.then(|| fields.want(ID_FIELD)).transpose()?,
            acked: count("ack"),
            nacked: count("nack"),
        })
    }

    /// The id that a message's answer is to bear, if it gets one.
    pub(crate) fn id_of(&self, message: &Message) -> Option<MessageId> {
        message.id(self.id?)
    }

    /// Answers a message by its id, on the connection's queue of late answers; that it comes must be promised.
    pub(crate) fn answer(&self, client: &Client, confirmed: bool) {
        // Who has gone asks again after connecting again.
        if let Some(session) = client.session.upgrade() {
            let text = if confirmed {
                self.acked.inc();
                close::ack(&client.id)
            } else {
                self.nacked.inc();
                Nack::UNDELIVERABLE.text(&client.id)
            };
            session.outbox().reply(text);
        }
    }

    /// The acknowledgement of a message that needs no waiting.
    pub(crate) fn at_once(&self, id: &MessageId) -> Outcome {
        self.acked.inc();
        Outcome::Reply(close::ack(id))
    }

    /// The answer to a message that is not taken.
    pub(crate) fn refuse(&self, id: &MessageId, nack: &Nack<'_>) -> Outcome {
        self.nacked.inc();
        Outcome::Reply(nack.text(id))
    }

    /// Prepares to follow the event of a message to its sinks, if anyone is to hear of it.
    pub(super) fn follow(
        self: &Arc<Self>,
        session: &Arc<Session>,
        message: &Message,
        sinks: impl FnOnce() -> Sinks,
    ) -> Option<Arc<Pending>> {
        let client = self.id_of(message).map(|id| Client::new(session, id));
        if client.is_none() && message.follower.is_none() {
            return None;
        }
        let sinks = sinks();
        Some(Arc::new(Pending {
            acks: Arc::clone(self),
            client,
            follower: message.follower.clone(),
            any: self.mode == AckMode::Any,
            undecided: AtomicUsize::new(sinks.required.max(1)),
            settled: AtomicBool::new(false),
            sinks,
        }))
    }

    /// Puts the answers to what stages refuse on top of a stack, if there are any.
    pub(crate) fn above(self: &Arc<Self>, stack: NewMessageService) -> NewMessageService {
        match self.mode {
            AckMode::None => stack,
            AckMode::Any | AckMode::All => {
                NewMessageService::unwatched(AnswersLayer(Arc::clone(self)).layer(stack))
            }
        }
    }
}

/// Who waits for an acknowledgement. A connection that has ended is not kept for it.
#[derive(Debug)]
pub(crate) struct Client {
    session: Weak<Session>,
    id: MessageId,
}

impl Client {
    /// Promises an answer to the client of a connection.
    pub(crate) fn new(session: &Arc<Session>, id: MessageId) -> Self {
        session.outbox().promise_reply();
        Self {
            session: Arc::downgrade(session),
            id,
        }
    }

    /// Takes the promise back.
    pub(crate) fn withdraw(&self) {
        if let Some(session) = self.session.upgrade() {
            session.outbox().withdraw_reply();
        }
    }
}

/// Which sinks an acknowledgement waits for.
#[derive(Debug, Clone)]
pub(super) struct Sinks {
    /// How many sinks get the event and are waited for.
    pub(super) required: usize,
    /// Names of the sinks that nobody waits for.
    pub(super) optional: Arc<[&'static str]>,
}

/// Goes with an event to its sinks, and settles its message once they have decided.
#[derive(Debug)]
pub(super) struct Pending {
    acks: Arc<Acks>,
    client: Option<Client>,
    follower: Option<Arc<dyn Follower>>,
    any: bool,
    sinks: Sinks,
    /// Sinks whose word can still change what becomes of the message.
    undecided: AtomicUsize,
    settled: AtomicBool,
}

impl Pending {
    /// Notes that the event is on its way; where no sink is waited for, that is all there is to confirm.
    pub(super) fn sent(&self) {
        if self.sinks.required == 0 {
            self.settle(true);
        }
    }

    /// One more sink confirmed the event, or failed.
    fn hear(&self, sink: &str, confirmed: bool) {
        if self.sinks.optional.contains(&sink) {
            return;
        }
        // With `any`, one confirmation decides and failures are counted; with `all` the other way round.
        if self.any == confirmed || self.undecided.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.settle(confirmed);
        }
    }

    fn settle(&self, confirmed: bool) {
        if self.settled.swap(true, Ordering::AcqRel) {
            return;
        }
        // First the follower: a client that has its answer may send the same id at once.
        if let Some(follower) = &self.follower {
            follower.settled(confirmed);
        }
        if let Some(client) = &self.client {
            self.acks.answer(client, confirmed);
        }
    }
}

impl Receipt for Pending {
    fn delivered(&self, sink: &'static str) {
        self.hear(sink, true);
    }

    fn failed(&self, sink: &'static str, _: &str) {
        self.hear(sink, false);
    }
}

impl Drop for Pending {
    /// The event found no room and was refused: its answer is another.
    fn drop(&mut self) {
        if !*self.settled.get_mut()
            && let Some(client) = &self.client
        {
            client.withdraw();
        }
    }
}

/// Answers with the message's id what the stages below refuse.
#[derive(Debug)]
struct AnswersLayer(Arc<Acks>);

impl<N> Layer<N> for AnswersLayer {
    type Service = NewAnswers<N>;

    fn layer(&self, inner: N) -> NewAnswers<N> {
        NewAnswers {
            acks: Arc::clone(&self.0),
            inner,
        }
    }
}

#[derive(Debug)]
struct NewAnswers<N> {
    acks: Arc<Acks>,
    inner: N,
}

impl<T, N: NewService<T>> NewService<T> for NewAnswers<N> {
    type Service = Answers<N::Service>;

    fn new_service(&self, target: T) -> Self::Service {
        Answers {
            acks: Arc::clone(&self.acks),
            inner: self.inner.new_service(target),
        }
    }
}

#[derive(Debug)]
struct Answers<S> {
    acks: Arc<Acks>,
    inner: S,
}

impl<S> Service<Message> for Answers<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Into<MessageFuture>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> Self::Future {
        let Some(id) = self.acks.id_of(&message) else {
            return self.inner.call(message).into();
        };
        match self.inner.call(message).into() {
            MessageFuture::Ready(Some(result)) => MessageFuture::ready(self.acks.told(&id, result)),
            future => {
                let acks = Arc::clone(&self.acks);
                MessageFuture::waiting(async move { acks.told(&id, future.await) })
            }
        }
    }
}

impl Acks {
    /// Turns a refusal into the answer that bears the id; what ends the connection stays an error.
    fn told(&self, id: &MessageId, result: MessageResult) -> MessageResult {
        match result {
            Err(error) => match Nack::of(&error) {
                Some(nack) => Ok(self.refuse(id, &nack)),
                None => Err(error),
            },
            told => told,
        }
    }
}

#[cfg(test)]
mod tests;
