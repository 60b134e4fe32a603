//! The route table: which paths the API has, and which methods each takes.
//!
//! Stands first in a call's path. A path alone decides the route, the method comes after it, so that a known path
//! with a wrong method is told apart from an unknown one.

use std::convert::Infallible;

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
    /// The path of the same call with the operator's key, if the operator's page may make it.
    pub operator: Option<&'static str>,
    /// What it does.
    pub verb: Verb,
}

impl Route {
    const fn read(template: &'static str) -> Self {
        Self {
            template,
            operator: None,
            verb: Verb::Read,
        }
    }

    const fn act(template: &'static str) -> Self {
        Self {
            template,
            operator: None,
            verb: Verb::Act,
        }
    }

    const fn value(template: &'static str) -> Self {
        Self {
            template,
            operator: None,
            verb: Verb::Value,
        }
    }

    const fn operator(self, template: &'static str) -> Self {
        Self {
            operator: Some(template),
            ..self
        }
    }

    /// The path as the caller knows it.
    pub(super) fn template_for(&self, realm: Realm) -> &'static str {
        match realm {
            Realm::Backend => self.template,
            Realm::Operator => self.operator.unwrap_or(self.template),
        }
    }
}

/// Who calls, by the path that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Realm {
    /// The backend, or whoever has the gateway's key: `/internal/*`.
    Backend,
    /// The operator's page: `/admin/api/*`.
    Operator,
}

const HEALTH: Route = Route::read("/health");
const READY: Route = Route::read("/ready");
const METRICS: Route = Route::read("/metrics");
const PUBLISH: Route = Route::act("/internal/publish");
const CONNECTIONS: Route = Route::read("/internal/connections").operator("/admin/api/connections");
const USER_CONNECTIONS: Route = Route::read("/internal/users/{user_id}/connections")
    .operator("/admin/api/users/{user_id}/connections");
const DISCONNECT: Route = Route::act("/internal/disconnect").operator("/admin/api/disconnect");
const REPLAY_ARCHIVE: Route =
    Route::act("/internal/replay/archive").operator("/admin/api/replay/archive");
const DEAD_LETTERS: Route =
    Route::read("/internal/dead-letters").operator("/admin/api/dead-letters");
const REPLAY_RABBITMQ: Route =
    Route::act("/internal/replay/rabbitmq").operator("/admin/api/replay/rabbitmq");
const REPLAY_REDIS: Route =
    Route::act("/internal/replay/redis").operator("/admin/api/replay/redis");
const STATUS: Route = Route::read("/internal/status").operator("/admin/api/status");
const PIPELINE_SVG: Route =
    Route::read("/internal/pipeline.svg").operator("/admin/api/pipeline.svg");
const TAIL: Route = Route::read("/internal/tail").operator("/admin/api/tail");
const LOG_LEVEL: Route = Route::value("/internal/log-level").operator("/admin/api/log-level");

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
    STATUS,
    PIPELINE_SVG,
    TAIL,
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
    Status,
    PipelineSvg,
    Tail,
    /// Below `/internal` or `/admin/api`, but no route.
    Unknown,
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
            Self::Status => Some(STATUS),
            Self::PipelineSvg => Some(PIPELINE_SVG),
            Self::Tail => Some(TAIL),
            Self::Unknown => None,
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

/// Finds the target of a request's path, and who calls; rejects what is neither a route nor below `/internal` or
/// `/admin/api`.
pub(super) fn target()
-> impl Filter<Extract = (Realm, Target), Error = Rejection> + Clone + Send + Sync {
    let health = warp::path!("health").map(|| Target::Health);
    let ready = warp::path!("ready").map(|| Target::Ready);
    let metrics = warp::path!("metrics").map(|| Target::Metrics);
    let open = health.or(ready).unify().or(metrics).unify();
    let backend = warp::path("internal").and(call());
    let operator = warp::path("admin").and(warp::path("api")).and(call());
    let operator = operator.map(|target: Target| {
        let served = target.route().is_some_and(|route| route.operator.is_some());
        if served { target } else { Target::Unknown }
    });
    let of = |realm| move |target| (realm, target);
    backend
        .or(open)
        .unify()
        .map(of(Realm::Backend))
        .or(operator.map(of(Realm::Operator)))
        .unify()
        .untuple_one()
}

/// The rest of a path below `/internal`, or `/admin/api`.
fn call() -> impl Filter<Extract = (Target,), Error = Infallible> + Clone + Send + Sync {
    let publish = warp::path!("publish").map(|| Target::Publish);
    let connections = warp::path!("connections").map(|| Target::Connections);
    let of_user = warp::path!("users" / String / "connections").map(Target::UserConnections);
    let disconnect = warp::path!("disconnect").map(|| Target::Disconnect);
    let replay_archive = warp::path!("replay" / "archive").map(|| Target::ReplayArchive);
    let dead_letters = warp::path!("dead-letters").map(|| Target::DeadLetters);
    let rabbitmq = warp::path!("replay" / "rabbitmq").map(|| Target::ReplayRabbitmq);
    let redis = warp::path!("replay" / "redis").map(|| Target::ReplayRedis);
    let status = warp::path!("status").map(|| Target::Status);
    let picture = warp::path!("pipeline.svg").map(|| Target::PipelineSvg);
    let tail = warp::path!("tail").map(|| Target::Tail);
    let log_level = warp::path!("log-level").map(|| Target::LogLevel);
    let unknown = warp::any().map(|| Target::Unknown);

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
        .or(status)
        .unify()
        .or(picture)
        .unify()
        .or(tail)
        .unify()
        .or(unknown)
        .unify()
}
