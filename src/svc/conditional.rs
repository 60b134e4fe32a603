//! Puts a stage above others for the messages for which its condition holds; the others pass by it.
//!
//! Stands around a stage with `when`. Stage and by-pass lead to one inner service, since there is one a connection,
//! with its order and its state: it lies in a cell that both hold. A connection has one message in its stages at a
//! time, so the cell's lock never waits.

use std::sync::Arc;
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tower_service::Service;

use super::{BoxError, BoxMessageService, Erase, MessageFuture, MessageLayer, NewMessageService};
use super::{NewService, Outcome, Probe};
use crate::condition::{Bound, Matcher};
use crate::message::Message;
use crate::session::Session;

/// Puts a stage above others, for the messages for which `matcher` holds.
#[must_use]
pub fn layer_when(
    matcher: Matcher,
    stage: MessageLayer,
    inner: NewMessageService,
    probe: Probe,
) -> NewMessageService {
    let handed = Handed::default();
    let to_stage = NewHanded {
        handed: Arc::clone(&handed),
        inner: inner.clone(),
    };
    let to_stage = NewMessageService(Arc::new(Erase(to_stage)));
    NewMessageService(Arc::new(Erase(NewConditional {
        matcher,
        stage: stage.layer(to_stage, probe),
        inner,
        handed,
        making: Mutex::default(),
    })))
}

/// Where the inner service of the connection that is being made lies for the stage to take.
type Handed = Arc<Mutex<Option<Shared>>>;

struct NewConditional {
    matcher: Matcher,
    stage: NewMessageService,
    inner: NewMessageService,
    handed: Handed,
    /// Held while a stage is made, so that connections made at once do not take each other's inner service.
    making: Mutex<()>,
}

impl NewService<Arc<Session>> for NewConditional {
    type Service = Conditional;

    fn new_service(&self, session: Arc<Session>) -> Conditional {
        let inner = Shared::new(&self.inner, &session);
        let bound = self.matcher.bind(&session);
        let _making = self.making.lock();
        *self.handed.lock() = Some(inner.clone());
        let stage = self.stage.new_service(session);
        *self.handed.lock() = None;
        Conditional {
            bound,
            stage,
            inner,
        }
    }
}

/// What the stage takes for the stages below it: the service that the by-pass leads to, too.
struct NewHanded {
    handed: Handed,
    inner: NewMessageService,
}

impl NewService<Arc<Session>> for NewHanded {
    type Service = Shared;

    fn new_service(&self, session: Arc<Session>) -> Shared {
        let handed = self.handed.lock().clone();
        handed.unwrap_or_else(|| Shared::new(&self.inner, &session))
    }
}

/// The one inner service of a connection.
#[derive(Clone)]
struct Shared(Arc<Mutex<BoxMessageService>>);

impl Shared {
    fn new(new: &NewMessageService, session: &Arc<Session>) -> Self {
        Self(Arc::new(Mutex::new(new.new_service(Arc::clone(session)))))
    }
}

impl Service<Message> for Shared {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.lock().poll_ready(cx)
    }

    fn call(&mut self, message: Message) -> MessageFuture {
        self.0.lock().call(message)
    }
}

/// One connection's stage, and the way past it.
struct Conditional {
    bound: Bound,
    stage: BoxMessageService,
    inner: Shared,
}

impl Service<Message> for Conditional {
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    /// Ready when both ways are, since nobody knows the next message yet.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        match self.stage.poll_ready(cx) {
            Poll::Ready(Ok(())) => self.inner.poll_ready(cx),
            other => other,
        }
    }

    fn call(&mut self, message: Message) -> MessageFuture {
        if self.bound.holds(&message) {
            self.stage.call(message)
        } else {
            self.inner.call(message)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::json;

    use super::*;
    use crate::stages::testing::{Inner, text};
    use crate::telemetry::metrics::Metrics;

    /// A stage that counts what it meets and how often it is asked whether it is ready.
    #[derive(Clone, Default)]
    struct Met {
        calls: Arc<AtomicUsize>,
        busy: Arc<AtomicUsize>,
    }

    impl<N> tower_layer::Layer<N> for Met {
        type Service = Counting<N>;

        fn layer(&self, inner: N) -> Counting<N> {
            let met = self.clone();
            Counting { met, inner }
        }
    }

    struct Counting<S> {
        met: Met,
        inner: S,
    }

    impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for Counting<N> {
        type Service = Counting<N::Service>;

        fn new_service(&self, session: Arc<Session>) -> Self::Service {
            Counting {
                met: self.met.clone(),
                inner: self.inner.new_service(session),
            }
        }
    }

    impl<S> Service<Message> for Counting<S>
    where
        S: Service<Message, Response = Outcome, Error = BoxError>,
    {
        type Response = Outcome;
        type Error = BoxError;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
            if self.met.busy.load(Ordering::Relaxed) > 0 {
                return Poll::Pending;
            }
            self.inner.poll_ready(cx)
        }

        fn call(&mut self, message: Message) -> S::Future {
            self.met.calls.fetch_add(1, Ordering::Relaxed);
            self.inner.call(message)
        }
    }

    /// Makes inner services that count themselves.
    struct Made(Arc<AtomicUsize>, Inner);

    impl NewService<Arc<Session>> for Made {
        type Service = Inner;

        fn new_service(&self, _: Arc<Session>) -> Inner {
            self.0.fetch_add(1, Ordering::Relaxed);
            self.1.clone()
        }
    }

    fn stack(made: &Arc<AtomicUsize>, inner: &Inner, met: &Met) -> NewMessageService {
        let probe = || Probe::new(("test", 0), &Metrics::new().unwrap(), None);
        let bottom = NewMessageService::new(Made(Arc::clone(made), inner.clone()), probe());
        let when = serde_json::from_value(json!({"type": ["chat"]})).unwrap();
        let matcher = Matcher::new(&when).unwrap();
        layer_when(matcher, MessageLayer::new(met.clone()), bottom, probe())
    }

    #[tokio::test]
    async fn what_does_not_fit_passes_by_to_the_same_inner_service() {
        let (made, inner, met) = (Arc::default(), Inner::publishes(), Met::default());
        let new = stack(&made, &inner, &met);
        let mut service = new.new_service(Session::for_tests("1", &[]));
        assert_eq!(made.load(Ordering::Relaxed), 1, "one a connection");
        for (message, calls) in [
            (Message::connected(), 0),
            (text(r#"{"type":"chat"}"#), 1),
            (text(r#"{"type":"other"}"#), 1),
            (text("chat"), 1),
            (text(r#"{"type":"chat"}"#), 2),
            (Message::disconnected(1000, ""), 2),
        ] {
            assert_eq!(service.call(message).await.unwrap(), Outcome::Published);
            assert_eq!(met.calls.load(Ordering::Relaxed), calls);
        }
        assert_eq!(inner.calls(), 6);
    }

    #[tokio::test]
    async fn each_connection_has_its_own_inner_service_however_many_are_made_at_once() {
        let (made, inner, met) = (Arc::default(), Inner::publishes(), Met::default());
        let new = stack(&made, &inner, &met);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        drop(new.new_service(Session::for_tests("1", &[])));
                    }
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 400, "never one of a fallback");
    }

    #[tokio::test]
    async fn is_ready_when_the_stage_and_the_by_pass_are() {
        let (made, inner, met) = (Arc::default(), Inner::publishes(), Met::default());
        let mut service = stack(&made, &inner, &met).new_service(Session::for_tests("1", &[]));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        assert!(service.poll_ready(cx).is_ready());
        met.busy.store(1, Ordering::Relaxed);
        assert!(service.poll_ready(cx).is_pending());
        met.busy.store(0, Ordering::Relaxed);
        assert!(service.poll_ready(cx).is_ready());
    }

    #[tokio::test]
    async fn an_inner_error_comes_up_both_ways() {
        let (made, inner, met) = (Arc::default(), Inner::fails(), Met::default());
        let mut service = stack(&made, &inner, &met).new_service(Session::for_tests("1", &[]));
        for message in [text(r#"{"type":"chat"}"#), text("x")] {
            let error = service.call(message).await.unwrap_err();
            assert_eq!(error.to_string(), "inner error");
        }
    }
}
