//! Answers `ping` and `heartbeat` messages, so that they are never published.
//!
//! Stands above `rate_limit`, so that keeping a connection alive costs nothing of the limit.

use std::task::{Context, Poll};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tower_layer::Layer;
use tower_service::Service;

use crate::condition::Condition;
use crate::message::Message;
use crate::pipeline::{CompileError, Ingredients, MESSAGES, Stage, StageLayers};
use crate::svc::{BoxError, MessageFuture, MessageLayer, NewService, Outcome};

/// Settings of the `ping_filter` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PingFilterConfig {
    /// Which messages meet the stage; the others pass by it to the next. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
}

impl Stage for PingFilterConfig {
    fn acts_on(&self) -> &'static str {
        MESSAGES
    }

    fn does(&self) -> &'static str {
        "answers ping and heartbeat, publishes neither"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, _: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        Ok(StageLayers::messages(MessageLayer::new(PingFilterLayer)))
    }
}

#[derive(Debug, Clone, Copy)]
struct PingFilterLayer;

impl<N> Layer<N> for PingFilterLayer {
    type Service = NewPingFilter<N>;

    fn layer(&self, inner: N) -> NewPingFilter<N> {
        NewPingFilter { inner }
    }
}

#[derive(Debug)]
struct NewPingFilter<N> {
    inner: N,
}

impl<T, N: NewService<T>> NewService<T> for NewPingFilter<N> {
    type Service = PingFilter<N::Service>;

    fn new_service(&self, target: T) -> Self::Service {
        PingFilter {
            inner: self.inner.new_service(target),
        }
    }
}

#[derive(Debug)]
struct PingFilter<S> {
    inner: S,
}

impl<S> Service<Message> for PingFilter<S>
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
        let reply = match message.type_name().as_deref() {
            Some("ping") => r#"{"type":"pong"}"#,
            Some("heartbeat") => r#"{"type":"heartbeat_ack"}"#,
            _ => return self.inner.call(message).into(),
        };
        MessageFuture::ready(Ok(Outcome::Reply(Utf8Bytes::from_static(reply))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::testing::{Inner, text};

    #[tokio::test]
    async fn answers_ping_and_heartbeat_whatever_else_they_hold() {
        for (sent, reply) in [
            (r#"{"type":"ping"}"#, r#"{"type":"pong"}"#),
            (r#"{"n":1,"type":"ping"}"#, r#"{"type":"pong"}"#),
            (r#"{"type":"heartbeat"}"#, r#"{"type":"heartbeat_ack"}"#),
        ] {
            let inner = Inner::publishes();
            let mut stage = PingFilter {
                inner: inner.clone(),
            };
            let outcome = stage.call(text(sent)).await.unwrap();
            assert_eq!(outcome, Outcome::Reply(Utf8Bytes::from_static(reply)));
            assert_eq!(inner.calls(), 0);
        }
    }

    #[tokio::test]
    async fn passes_everything_else() {
        for sent in [
            "ping",
            r#"["ping"]"#,
            r#"{"type":["ping"]}"#,
            r#"{"type":"Ping"}"#,
            "{}",
        ] {
            let inner = Inner::publishes();
            let mut stage = PingFilter {
                inner: inner.clone(),
            };
            assert_eq!(stage.call(text(sent)).await.unwrap(), Outcome::Published);
            assert_eq!(inner.calls(), 1, "{sent}");
        }
        let inner = Inner::publishes();
        let mut stage = PingFilter {
            inner: inner.clone(),
        };
        stage.call(Message::connected()).await.unwrap();
        stage.call(Message::disconnected(1000, "")).await.unwrap();
        assert_eq!(inner.calls(), 2);
    }

    #[tokio::test]
    async fn hands_on_the_inner_error() {
        let mut stage = PingFilter {
            inner: Inner::fails(),
        };
        assert!(stage.call(text("{}")).await.is_err());
    }
}
