//! One connection's way through the message stack: one message at a time, from `connected` to `disconnected`.
//!
//! Stands between the connection, which reads frames, and the stack that its generation makes. A message meets
//! exactly one generation: a reload is followed between messages, never within one.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use tower_service::Service;

use super::State;
use crate::close::{self, Answer, Close, Ended};
use crate::message::{FieldSet, Message};
use crate::pipeline::Generation;
use crate::session::Session;
use crate::svc::{BoxError, BoxMessageService, MessageFuture, MessageResult, NewService, Outcome};

/// One connection's stack, and the message in it.
pub(super) struct Stages {
    session: Arc<Session>,
    state: Arc<State>,
    generation: Arc<Generation>,
    stack: BoxMessageService,
    message: Option<MessageFuture>,
    announced: bool,
}

impl Stages {
    /// Makes the connection's stack and sends `connected` into it.
    pub(super) fn enter(session: Arc<Session>, state: Arc<State>) -> Self {
        let generation = state.current.load_full();
        let mut stack = generation.messages.new_service(Arc::clone(&session));
        let message = Some(stack.call(Message::connected()));
        Self {
            session,
            state,
            generation,
            stack,
            message,
            announced: false,
        }
    }

    /// The generation that the last message met.
    pub(super) fn generation(&self) -> &Generation {
        &self.generation
    }

    /// The message fields that the stages ask for.
    pub(super) fn fields(&self) -> &FieldSet {
        &self.generation.fields
    }

    /// Whether a message is still in the stages, so that none may follow it.
    pub(super) fn busy(&self) -> bool {
        self.message.is_some()
    }

    /// Sends a message into the stack, for whose generation it was classified.
    pub(super) fn take(&mut self, message: Message) {
        self.message = Some(self.stack.call(message));
    }

    /// Lets the message go on; gives what its client is to be told, if anything.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Option<Answer> {
        let future = self.message.as_mut()?;
        let Poll::Ready(result) = Pin::new(future).poll(cx) else {
            return None;
        };
        self.message = None;
        self.count(&result);
        let answer = match result {
            Ok(Outcome::Published | Outcome::Ignored) => None,
            Ok(Outcome::Reply(text)) => Some(Answer::Reply(text)),
            Err(error) => Some(self.failed(&error)),
        };
        match answer {
            None => {
                self.announced = true;
                None
            }
            // The backend was not told of the connection, so it must not stay.
            Some(Answer::Reply(_)) if !self.announced => Some(Answer::Close(Close::try_again())),
            answer => answer,
        }
    }

    fn count(&self, result: &MessageResult) {
        if !matches!(result, Ok(Outcome::Published)) {
            self.generation.message_ended(&self.session);
        }
    }

    /// Lets the message in the stages go on, whose client is to be told nothing more.
    pub(super) fn poll_settled(&mut self, cx: &mut Context<'_>) {
        if let Some(message) = &mut self.message
            && let Poll::Ready(result) = Pin::new(message).poll(cx)
        {
            self.message = None;
            self.count(&result);
            self.announced |= result.is_ok();
        }
    }

    /// Lets the message in the stages finish, then sends `disconnected` if `connected` was published.
    pub(super) async fn leave(mut self, ended: &Ended) {
        if let Some(message) = self.message.take() {
            self.announced |= message.await.is_ok();
        }
        if !self.announced {
            return;
        }
        self.follow_reload();
        let message = Message::disconnected(ended.code, &ended.reason);
        if let Err(error) = self.stack.call(message).await {
            self.failed(&error);
        }
    }

    /// Changes to the newest generation's stack, if there is one and no message is in the stages; says whether it did.
    pub(super) fn follow_reload(&mut self) -> bool {
        let newest = self.state.newest.load(Ordering::Acquire);
        if self.busy() || newest == self.generation.number {
            return false;
        }
        self.generation = self.state.current.load_full();
        self.stack = self
            .generation
            .messages
            .new_service(Arc::clone(&self.session));
        true
    }

    /// What a stage's error means for the client; logged where nobody planned for it.
    fn failed(&self, error: &BoxError) -> Answer {
        let answer = close::answer(error);
        if matches!(&answer, Answer::Close(close) if close.is_internal()) {
            tracing::error!(event = "ws_stage_failed", connection_id = %self.session.id(), %error);
        }
        answer
    }
}
