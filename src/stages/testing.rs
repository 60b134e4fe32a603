//! What the stages' tests share: an inner service that records its calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tower_service::Service;

use crate::message::{FieldSet, Message};
use crate::svc::{BoxError, MessageFuture, NewService, Outcome};

/// A text message, classified without any wanted field.
pub(crate) fn text(text: &str) -> Message {
    Message::text(text, &FieldSet::default())
}

/// Stands for the stages below the one under test.
#[derive(Debug, Clone)]
pub(crate) struct Inner {
    fails: bool,
    calls: Arc<AtomicUsize>,
}

impl Inner {
    pub(crate) fn publishes() -> Self {
        Self {
            fails: false,
            calls: Arc::default(),
        }
    }

    pub(crate) fn fails() -> Self {
        Self {
            fails: true,
            ..Self::publishes()
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl<T> NewService<T> for Inner {
    type Service = Self;

    fn new_service(&self, _: T) -> Self {
        self.clone()
    }
}

impl Service<Message> for Inner {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Message) -> MessageFuture {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let result = if self.fails {
            Err("inner error".into())
        } else {
            Ok(Outcome::Published)
        };
        MessageFuture::ready(result)
    }
}

/// Stands for the stages below, and keeps the last message that came through.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept(Arc<Mutex<Vec<Message>>>);

impl Kept {
    /// A copy of the latest.
    #[track_caller]
    pub(crate) fn last(&self) -> Message {
        self.0
            .lock()
            .last()
            .expect("a message came through")
            .clone()
    }

    /// Takes the one that waits longest, with whoever follows it.
    #[track_caller]
    pub(crate) fn first(&self) -> Message {
        self.0.lock().remove(0)
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn clear(&self) {
        self.0.lock().clear();
    }
}

impl<T> NewService<T> for Kept {
    type Service = Self;

    fn new_service(&self, _: T) -> Self {
        self.clone()
    }
}

impl Service<Message> for Kept {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, message: Message) -> MessageFuture {
        self.0.lock().push(message);
        MessageFuture::ready(Ok(Outcome::Published))
    }
}
