//! Watches a stage: how long messages take in it and below, and in `wsgw dev` the way each message goes.
//!
//! Stands around every stage of the message stack, put there as its type is forgotten.

use std::sync::Arc;
use std::task::{Context, Poll};

use prometheus::Histogram;
use serde::Serialize;
use tokio::sync::broadcast;
use tokio::time::Instant;
use tower_service::Service;
use uuid::Uuid;

use super::{BoxError, MessageFuture, MessageResult, NewService, Outcome};
use crate::message::Message;
use crate::session::Session;
use crate::telemetry::metrics::Metrics;

/// One message in this many is timed, the first of a connection among them: reading the clock twice costs
/// about as much as a stage.
const TIMED_ONE_IN: u32 = 16;

/// Where each message's way through the stages is told.
pub type Tap = broadcast::Sender<Step>;

/// One stage's part in a message's way.
#[derive(Debug, Clone, Serialize)]
pub struct Step {
    /// The connection.
    pub connection_id: Uuid,
    /// The stage.
    pub stage: &'static str,
    /// What the stage and those below made of the message; absent when it has just entered.
    pub outcome: Option<String>,
    /// Microseconds from its entering the stage.
    pub micros: f64,
}

/// Watches one stage of a generation.
#[derive(Debug, Clone)]
pub struct Probe {
    stage: &'static str,
    /// The stage's place in the stack, from 0 at the top.
    place: u16,
    duration: Histogram,
    tap: Option<Tap>,
}

impl Probe {
    /// Makes the probe of a stage at a place, counted from 0 at the top.
    #[must_use]
    pub fn new((stage, place): (&'static str, usize), metrics: &Metrics, tap: Option<Tap>) -> Self {
        Self {
            stage,
            place: u16::try_from(place).unwrap_or(u16::MAX),
            duration: metrics.stage_duration_seconds.with_label_values(&[stage]),
            tap,
        }
    }

    fn tell(&self, connection_id: Uuid, since: Instant, result: Option<&MessageResult>) {
        let Some(tap) = &self.tap else { return };
        // Nobody listening is no error: the page may not be open.
        let _ = tap.send(Step {
            connection_id,
            stage: self.stage,
            outcome: result.map(|result| match result {
                Ok(Outcome::Published) => "published".to_owned(),
                Ok(Outcome::Reply(text)) => format!("answered {text}"),
                Ok(Outcome::Ignored) => "ignored".to_owned(),
                Err(error) => error.to_string(),
            }),
            micros: since.elapsed().as_secs_f64() * 1e6,
        });
    }

    fn done(&self, connection_id: Uuid, since: Instant, result: &MessageResult) {
        self.duration.observe(since.elapsed().as_secs_f64());
        self.tell(connection_id, since, Some(result));
    }
}

/// Makes watched services.
#[derive(Debug)]
pub(super) struct NewProbed<N> {
    inner: N,
    probe: Arc<Probe>,
}

impl<N> NewProbed<N> {
    pub(super) fn new(inner: N, probe: Probe) -> Self {
        Self {
            inner,
            probe: Arc::new(probe),
        }
    }
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for NewProbed<N> {
    type Service = Probed<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        Probed {
            probe: Arc::clone(&self.probe),
            session: Arc::clone(&session),
            calls: 0,
            inner: self.inner.new_service(session),
        }
    }
}

/// A watched stage of one connection.
#[derive(Debug)]
pub(super) struct Probed<S> {
    probe: Arc<Probe>,
    session: Arc<Session>,
    calls: u32,
    inner: S,
}

impl<S> Service<Message> for Probed<S>
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

    fn call(&mut self, message: Message) -> MessageFuture {
        let timed = self.calls.is_multiple_of(TIMED_ONE_IN) || self.probe.tap.is_some();
        self.calls = self.calls.wrapping_add(1);
        self.session.reach(self.probe.place);
        if !timed {
            return self.inner.call(message).into();
        }
        let since = Instant::now();
        let connection_id = self.session.id();
        self.probe.tell(connection_id, since, None);
        match self.inner.call(message).into() {
            MessageFuture::Ready(Some(result)) => {
                self.probe.done(connection_id, since, &result);
                MessageFuture::ready(result)
            }
            future => {
                let probe = Arc::clone(&self.probe);
                MessageFuture::waiting(async move {
                    let result = future.await;
                    probe.done(connection_id, since, &result);
                    result
                })
            }
        }
    }
}
