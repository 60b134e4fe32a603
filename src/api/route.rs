//! The route table: which paths the API has, and which methods each takes.
//!
//! Stands first in a call's path. A path alone decides the route, the method comes after it, so that a known path
//! with a wrong method is told apart from an unknown one.

use warp::{Filter, Rejection};

/// What a route does to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads: `GET`, and `HEAD` for its headers alone.
    Read,
    /// Acts: `POST` with a JSON body.
    Act,
    /// Has a value: `GET` and `HEAD` read it, `PUT` with a JSON body replaces it.
    Value,
}

impl Verb {
    /// The methods, as the header `Allow` lists them.
    #[must_use]
    pub fn allow(self) -> &'static str {
        match self {
            Self::Read => "GET, HEAD",
            Self::Act => "POST",
            Self::Value => "GET, HEAD, PUT",
        }
    }

    /// Whether a method is one of them.
    #[must_use]
    pub fn allows(self, method: &http::Method) -> bool {
        match self {
            Self::Read => method == http::Method::GET || method == http::Method::HEAD,
            Self::Act => method == http::Method::POST,
            Self::Value => Self::Read.allows(method) || method == http::Method::PUT,
        }
    }
}

/// One row of the route table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// The path as `schemas/openapi.yaml` writes it; also the metrics' label, so that no raw path becomes one.
    pub template: &'static str,
    /// What it does.
    pub verb: Verb,
}

impl Route {
    const fn read(template: &'static str) -> Self {
        Self {
            template,
            verb: Verb::Read,
        }
    }

    const fn act(template: &'static str) -> Self {
        Self {
            template,
            verb: Verb::Act,
        }
    }
}

const HEALTH: Route = Route::read("/health");
const READY: Route = Route::read("/ready");
const METRICS: Route = Route::read("/metrics");
const PUBLISH: Route = Route::act("/internal/publish");
const CONNECTIONS: Route = Route::read("/internal/connections");
const USER_CONNECTIONS: Route = Route::read("/internal/users/{user_id}/connections");
const DISCONNECT: Route = Route::act("/internal/disconnect");
const LOG_LEVEL: Route = Route {
    template: "/internal/log-level",
    verb: Verb::Value,
};
const REPLAY_ARCHIVE: Route = Route::act("/internal/replay/archive");

const DEAD_LETTERS: Route = Route::read("/internal/dead-letters");
const REPLAY_RABBITMQ: Route = Route::act("/internal/replay/rabbitmq");
const REPLAY_REDIS: Route = Route::act("/internal/replay/redis");

/// Every route of the API, as `schemas/openapi.yaml` describes them.
pub const ROUTES: &[Route] = &[
    HEALTH,
    READY,
    METRICS,
    PUBLISH,
    CONNECTIONS,
    USER_CONNECTIONS,
    DISCONNECT,
    LOG_LEVEL,
    REPLAY_ARCHIVE,
    DEAD_LETTERS,
    REPLAY_RABBITMQ,
    REPLAY_REDIS,
];

/// Where a request's path leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Health,
    Ready,
    Metrics,
    Publish,
    Connections,
    /// With the user id as the path has it, still percent-encoded.
    UserConnections(String),
    Disconnect,
    LogLevel,
    ReplayArchive,
    DeadLetters,
    ReplayRabbitmq,
    ReplayRedis,
    /// Below `/internal`, but no route.
    UnknownInternal,
}

impl Target {
    pub(super) fn route(&self) -> Option<Route> {
        match self {
            Self::Health => Some(HEALTH),
            Self::Ready => Some(READY),
            Self::Metrics => Some(METRICS),
            Self::Publish => Some(PUBLISH),
            Self::Connections => Some(CONNECTIONS),
            Self::UserConnections(_) => Some(USER_CONNECTIONS),
            Self::Disconnect => Some(DISCONNECT),
            Self::LogLevel => Some(LOG_LEVEL),
            Self::ReplayArchive => Some(REPLAY_ARCHIVE),
            Self::DeadLetters => Some(DEAD_LETTERS),
            Self::ReplayRabbitmq => Some(REPLAY_RABBITMQ),
            Self::ReplayRedis => Some(REPLAY_REDIS),
            Self::UnknownInternal => None,
        }
    }

    /// What the call replays from, if it replays.
    pub(super) fn replays_from(&self) -> Option<&'static str> {
        match self {
            Self::ReplayRabbitmq => Some(crate::brokers::rabbitmq::NAME),
            Self::ReplayRedis => Some(crate::brokers::redis::NAME),
            Self::ReplayArchive => Some(crate::replay::archive::NAME),
            _ => None,
        }
    }

    /// Whether the key of replays, where there is one, stands in the place of the gateway's.
    pub(super) fn takes_replay_key(&self) -> bool {
        *self == Self::DeadLetters || self.replays_from().is_some()
    }

    /// Whether the call needs the key.
    pub(super) fn is_internal(&self) -> bool {
        !matches!(self, Self::Health | Self::Ready | Self::Metrics)
    }
}

/// Finds the target of a request's path; rejects what is neither a route nor below `/internal`.
pub(super) fn target() -> impl Filter<Extract = (Target,), Error = Rejection> + Clone + Send + Sync
{
    let health = warp::path!("health").map(|| Target::Health);
    let ready = warp::path!("ready").map(|| Target::Ready);
    let metrics = warp::path!("metrics").map(|| Target::Metrics);
    let publish = warp::path!("internal" / "publish").map(|| Target::Publish);
    let connections = warp::path!("internal" / "connections").map(|| Target::Connections);
    let of_user =
        warp::path!("internal" / "users" / String / "connections").map(Target::UserConnections);
    let disconnect = warp::path!("internal" / "disconnect").map(|| Target::Disconnect);
    let log_level = warp::path!("internal" / "log-level").map(|| Target::LogLevel);
    let replay_archive =
        warp::path!("internal" / "replay" / "archive").map(|| Target::ReplayArchive);
    let dead_letters = warp::path!("internal" / "dead-letters").map(|| Target::DeadLetters);
    let rabbitmq = warp::path!("internal" / "replay" / "rabbitmq").map(|| Target::ReplayRabbitmq);
    let redis = warp::path!("internal" / "replay" / "redis").map(|| Target::ReplayRedis);
    let unknown = warp::path!("internal" / ..).map(|| Target::UnknownInternal);

    // Publish is the one that is called often, so it is tried first; `unknown` takes what the others left.
    publish
        .or(connections)
        .unify()
        .or(of_user)
        .unify()
        .or(disconnect)
        .unify()
        .or(log_level)
        .unify()
        .or(replay_archive)
        .unify()
        .or(dead_letters)
        .unify()
        .or(rabbitmq)
        .unify()
        .or(redis)
        .unify()
        .or(unknown)
        .unify()
        .or(health)
        .unify()
        .or(ready)
        .unify()
        .or(metrics)
        .unify()
}
