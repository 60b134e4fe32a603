//! Type-erased services and how they are made: the only place that names boxed services.
//!
//! A stack is folded from the YAML's order, so its type is erased once after each stage. A stage that decides
//! at once costs no allocation: its future is [`MessageFuture::Ready`] all the way up.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio_tungstenite::tungstenite::Utf8Bytes;
use tower_layer::Layer;
use tower_service::Service;

use crate::message::Message;
use crate::pipeline::Handshake;
use crate::session::Session;
use crate::sinks::{Batch, DeliveryError};

pub mod conditional;
pub mod probe;

use probe::{NewProbed, Probe};

/// An error between layers; [`crate::close`] says what it means outside.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was handed to the sinks.
    Published,
    /// It was answered, and goes no further.
    Reply(Utf8Bytes),
    /// It goes no further, and is answered later or not at all.
    Ignored,
}

/// What a message service answers.
pub type MessageResult = Result<Outcome, BoxError>;

/// Makes a service for a target: everything that is known once per connection is computed here.
pub trait NewService<T> {
    /// The service that is made.
    type Service;

    /// Makes the service; synchronous, and cannot fail.
    fn new_service(&self, target: T) -> Self::Service;
}

/// The future of every message service.
///
/// A stage that decides at once costs no allocation, and the erased layers above hand the decision on as it is.
pub enum MessageFuture {
    /// Decided at once; the decision is taken by the first poll.
    Ready(Option<MessageResult>),
    /// Must wait for something.
    Waiting(Pin<Box<dyn Future<Output = MessageResult> + Send>>),
}

impl MessageFuture {
    /// Decided at once.
    #[must_use]
    pub fn ready(result: MessageResult) -> Self {
        Self::Ready(Some(result))
    }

    /// Must wait for something.
    pub fn waiting(future: impl Future<Output = MessageResult> + Send + 'static) -> Self {
        Self::Waiting(Box::pin(future))
    }
}

impl Future for MessageFuture {
    type Output = MessageResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<MessageResult> {
        match self.get_mut() {
            Self::Ready(result) => result.take().map_or(Poll::Pending, Poll::Ready),
            Self::Waiting(future) => future.as_mut().poll(cx),
        }
    }
}

/// A message service whose stages are forgotten: what one connection calls for each of its messages.
pub struct BoxMessageService(Box<dyn ErasedService + Send>);

trait ErasedService {
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>>;
    fn call(&mut self, message: Message) -> MessageFuture;
}

impl<S> ErasedService for S
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Into<MessageFuture>,
{
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Service::poll_ready(self, cx)
    }

    fn call(&mut self, message: Message) -> MessageFuture {
        Service::call(self, message).into()
    }
}

impl BoxMessageService {
    /// Forgets the service's type.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Message, Response = Outcome, Error = BoxError> + Send + 'static,
        S::Future: Into<MessageFuture>,
    {
        Self(Box::new(service))
    }
}

impl Service<Message> for BoxMessageService {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> MessageFuture {
        self.0.call(message)
    }
}

impl std::fmt::Debug for BoxMessageService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxMessageService")
    }
}

/// Makes a connection's message service; shared by all connections of a generation.
#[derive(Clone)]
pub struct NewMessageService(
    Arc<dyn NewService<Arc<Session>, Service = BoxMessageService> + Send + Sync>,
);

impl NewMessageService {
    /// Forgets the types of a stack and of the services that it makes, watched by a probe.
    pub fn new<N>(new: N, probe: Probe) -> Self
    where
        N: NewService<Arc<Session>> + Send + Sync + 'static,
        N::Service: Service<Message, Response = Outcome, Error = BoxError> + Send + 'static,
        <N::Service as Service<Message>>::Future: Into<MessageFuture>,
    {
        Self(Arc::new(Erase(NewProbed::new(new, probe))))
    }

    /// The same for what is no stage, and so not watched.
    pub fn unwatched<N>(new: N) -> Self
    where
        N: NewService<Arc<Session>> + Send + Sync + 'static,
        N::Service: Service<Message, Response = Outcome, Error = BoxError> + Send + 'static,
        <N::Service as Service<Message>>::Future: Into<MessageFuture>,
    {
        Self(Arc::new(Erase(new)))
    }
}

impl NewService<Arc<Session>> for NewMessageService {
    type Service = BoxMessageService;

    fn new_service(&self, session: Arc<Session>) -> BoxMessageService {
        self.0.new_service(session)
    }
}

impl std::fmt::Debug for NewMessageService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewMessageService")
    }
}

struct Erase<N>(N);

impl<N, T> NewService<T> for Erase<N>
where
    N: NewService<T>,
    N::Service: Service<Message, Response = Outcome, Error = BoxError> + Send + 'static,
    <N::Service as Service<Message>>::Future: Into<MessageFuture>,
{
    type Service = BoxMessageService;

    fn new_service(&self, target: T) -> BoxMessageService {
        BoxMessageService::new(self.0.new_service(target))
    }
}

/// A stage's layer on the message stack, its types forgotten.
pub struct MessageLayer(Box<dyn FnOnce(NewMessageService, Probe) -> NewMessageService>);

impl MessageLayer {
    /// Forgets the layer's types.
    pub fn new<L>(layer: L) -> Self
    where
        L: Layer<NewMessageService> + 'static,
        L::Service: NewService<Arc<Session>> + Send + Sync + 'static,
        <L::Service as NewService<Arc<Session>>>::Service:
            Service<Message, Response = Outcome, Error = BoxError> + Send + 'static,
        <<L::Service as NewService<Arc<Session>>>::Service as Service<Message>>::Future:
            Into<MessageFuture>,
    {
        Self(Box::new(move |inner, probe| {
            NewMessageService::new(layer.layer(inner), probe)
        }))
    }

    /// Puts the stage above others, watched by a probe.
    #[must_use]
    pub fn layer(self, inner: NewMessageService, probe: Probe) -> NewMessageService {
        (self.0)(inner, probe)
    }
}

impl std::fmt::Debug for MessageLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MessageLayer")
    }
}

/// The handshake stack, its types forgotten.
pub type BoxHandshakeService = tower::util::BoxCloneSyncService<Handshake, Arc<Session>, BoxError>;

/// A sink, its types forgotten: one try to deliver a batch.
pub type BoxSink = tower::util::BoxCloneSyncService<Batch, (), DeliveryError>;

/// A stage's layer on the handshake stack, its types forgotten.
pub struct HandshakeLayer(Box<dyn FnOnce(BoxHandshakeService) -> BoxHandshakeService>);

impl HandshakeLayer {
    /// Forgets the layer's types.
    pub fn new<L>(layer: L) -> Self
    where
        L: Layer<BoxHandshakeService> + 'static,
        L::Service: Service<Handshake, Response = Arc<Session>, Error = BoxError>
            + Clone
            + Send
            + Sync
            + 'static,
        <L::Service as Service<Handshake>>::Future: Send + 'static,
    {
        Self(Box::new(move |inner| {
            BoxHandshakeService::new(layer.layer(inner))
        }))
    }

    /// Puts the stage above others.
    #[must_use]
    pub fn layer(self, inner: BoxHandshakeService) -> BoxHandshakeService {
        (self.0)(inner)
    }
}

impl std::fmt::Debug for HandshakeLayer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HandshakeLayer")
    }
}
