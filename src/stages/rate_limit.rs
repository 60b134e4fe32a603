//! Refuses messages that come faster than the limit.
//!
//! Each connection or user has a bucket, which outlives a change of the limit.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use crate::condition::{self, Condition};
use crate::event::EventKind;
use crate::message::Message;
use crate::pipeline::{CompileError, Ingredients, MESSAGES, Stage, StageLayers};
use crate::rate::{Bucket, Rate};
use crate::session::Session;
use crate::svc::{BoxError, MessageFuture, MessageLayer, NewService, Outcome};

/// Time between two log lines about one connection's being limited.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Settings of the `rate_limit` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitConfig {
    /// Messages a second that may pass in the long run; 0 switches the limit off.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub per_second: f64,
    /// Messages that may pass at once after a quiet time.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: u32,
    /// What shares one limit: a `connection`, or all connections of a `user` on this gateway.
    pub scope: RateLimitScope,
    /// Which messages meet the stage; the others pass by it to the next. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
}

impl Default for RateLimitConfig {
    fn default() -> Self {
        Self {
            per_second: 10.0,
            burst: 20,
            scope: RateLimitScope::Connection,
            when: None,
        }
    }
}

/// What shares one rate limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateLimitScope {
    /// Each connection has its own.
    Connection,
    /// All connections of one user on this gateway share one.
    User,
}

/// A message came faster than the limit.
#[derive(Debug, thiserror::Error)]
#[error("rate limited")]
pub struct RateLimited;

impl Stage for RateLimitConfig {
    fn acts_on(&self) -> &'static str {
        MESSAGES
    }

    fn does(&self) -> &'static str {
        "refuses what comes too fast"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        if self.per_second <= 0.0 {
            return Ok(StageLayers::none());
        }
        let identity = condition::identity(self.when());
        Ok(StageLayers::messages(MessageLayer::new(RateLimitLayer {
            rate: Rate::new(self.per_second, self.burst),
            scope: self.scope,
            users: with
                .shared
                .keep_for(identity.as_ref(), UserBuckets::default),
            identity,
            limited: with.metrics.rate_limited_total.clone(),
        })))
    }
}

/// The buckets that users' connections share; an entry dies with its user's last connection.
#[derive(Debug, Default)]
struct UserBuckets {
    buckets: Mutex<HashMap<Arc<str>, Weak<Bucket>>>,
}

impl UserBuckets {
    fn of(&self, user: &Arc<str>) -> Arc<Bucket> {
        let mut buckets = self.buckets.lock();
        if let Some(bucket) = buckets.get(user).and_then(Weak::upgrade) {
            return bucket;
        }
        // Sweeping only when the map is about to grow keeps its cost per connection constant.
        if buckets.len() == buckets.capacity() {
            buckets.retain(|_, bucket| bucket.strong_count() > 0);
        }
        let bucket = Arc::new(Bucket::new());
        buckets.insert(Arc::clone(user), Arc::downgrade(&bucket));
        bucket
    }
}

#[derive(Debug, Clone)]
struct RateLimitLayer {
    rate: Rate,
    scope: RateLimitScope,
    users: Arc<UserBuckets>,
    /// Keeps the buckets apart from those of another limit in the same pipeline.
    identity: Option<Arc<str>>,
    limited: IntCounter,
}

impl<N> Layer<N> for RateLimitLayer {
    type Service = NewRateLimit<N>;

    fn layer(&self, inner: N) -> NewRateLimit<N> {
        NewRateLimit {
            settings: self.clone(),
            inner,
        }
    }
}

#[derive(Debug)]
struct NewRateLimit<N> {
    settings: RateLimitLayer,
    inner: N,
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for NewRateLimit<N> {
    type Service = RateLimit<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        let settings = &self.settings;
        let identity = settings.identity.as_ref();
        // Kept by the session in both cases: a user's bucket lives for as long as one of its connections.
        let bucket = match settings.scope {
            RateLimitScope::Connection => session.keep_for(identity, Bucket::new),
            RateLimitScope::User => {
                let users = Arc::clone(&settings.users);
                let kept = session.keep_for(identity, || UserBucket(users.of(session.user_id())));
                Arc::clone(&kept.0)
            }
        };
        RateLimit {
            bucket,
            rate: settings.rate,
            limited: settings.limited.clone(),
            logged_at: None,
            inner: self.inner.new_service(Arc::clone(&session)),
            session,
        }
    }
}

struct UserBucket(Arc<Bucket>);

#[derive(Debug)]
struct RateLimit<S> {
    bucket: Arc<Bucket>,
    rate: Rate,
    limited: IntCounter,
    logged_at: Option<Instant>,
    session: Arc<Session>,
    inner: S,
}

impl<S> Service<Message> for RateLimit<S>
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
        if message.kind() != EventKind::MessageReceived {
            return self.inner.call(message).into();
        }
        let now = Instant::now();
        if self.bucket.admits(self.rate, now) {
            return self.inner.call(message).into();
        }
        self.limited.inc();
        if self
            .logged_at
            .is_none_or(|at| now.duration_since(at) >= LOG_EVERY)
        {
            self.logged_at = Some(now);
            tracing::info!(
                event = "ws_rate_limited",
                connection_id = %self.session.id(),
                user_id = %self.session.user_id(),
            );
        }
        MessageFuture::ready(Err(Box::new(RateLimited)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::testing::{Inner, text};
    use crate::telemetry::metrics::Metrics;

    fn limit(per_second: f64, burst: u32, scope: RateLimitScope) -> NewRateLimit<Inner> {
        RateLimitLayer {
            rate: Rate::new(per_second, burst),
            scope,
            users: Arc::default(),
            identity: None,
            limited: Metrics::new().unwrap().rate_limited_total,
        }
        .layer(Inner::publishes())
    }

    async fn passes(stage: &mut RateLimit<Inner>) -> bool {
        match stage.call(text("{}")).await {
            Ok(_) => true,
            Err(error) => {
                assert!(error.is::<RateLimited>());
                false
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn lets_a_burst_pass_and_then_the_rate() {
        let mut stage =
            limit(10.0, 3, RateLimitScope::Connection).new_service(Session::for_tests("1", &[]));
        let mut passed = Vec::new();
        for _ in 0..5 {
            passed.push(passes(&mut stage).await);
        }
        assert_eq!(passed, [true, true, true, false, false]);
        tokio::time::advance(Duration::from_millis(99)).await;
        assert!(!passes(&mut stage).await);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(passes(&mut stage).await);
        assert!(!passes(&mut stage).await);
        tokio::time::advance(Duration::from_mins(1)).await;
        for _ in 0..3 {
            assert!(
                passes(&mut stage).await,
                "quiet time fills the burst, and no more than it"
            );
        }
        assert!(!passes(&mut stage).await);
        assert_eq!(stage.limited.get(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_stack_keeps_the_history_of_the_connection() {
        let session = Session::for_tests("1", &[]);
        let mut old = limit(1.0, 1, RateLimitScope::Connection).new_service(Arc::clone(&session));
        assert!(passes(&mut old).await);
        let mut new = limit(10.0, 1, RateLimitScope::Connection).new_service(session);
        assert!(!passes(&mut new).await);
    }

    #[tokio::test(start_paused = true)]
    async fn connections_of_a_user_share_if_asked() {
        for (scope, second_passes) in [
            (RateLimitScope::User, false),
            (RateLimitScope::Connection, true),
        ] {
            let new = limit(1.0, 1, scope);
            let mut a = new.new_service(Session::for_tests("1", &[]));
            let mut b = new.new_service(Session::for_tests("1", &[]));
            let mut other = new.new_service(Session::for_tests("2", &[]));
            assert!(passes(&mut a).await && passes(&mut other).await);
            assert_eq!(passes(&mut b).await, second_passes);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn never_limits_the_lifecycle() {
        let mut stage =
            limit(1.0, 1, RateLimitScope::Connection).new_service(Session::for_tests("1", &[]));
        assert!(passes(&mut stage).await);
        stage.call(Message::connected()).await.unwrap();
        stage.call(Message::disconnected(1000, "")).await.unwrap();
    }

    #[test]
    fn forgets_users_without_connections() {
        let users = UserBuckets::default();
        for n in 0..10_000 {
            drop(users.of(&Arc::from(n.to_string())));
        }
        assert!(users.buckets.lock().len() < 100);
    }
}
