//! The internal HTTP API: pushes and disconnects from the backend, who is online, health and metrics.
//!
//! Stands beside the data path: the server hands over every request that is no WebSocket upgrade, and the API
//! acts on the registry. `schemas/openapi.yaml` describes it; [`ROUTES`] is the same list in code. Where the operator's
//! page is served, its calls are the same ones below `/admin/api`, with a key of their own.
//!
//! A call is decided in one order, whatever its route: no key configured (403), unknown path (404), wrong method
//! (405), wrong or missing key (401), body too big (413), body malformed (400).

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future;
use http::{HeaderMap, Method, StatusCode};
use serde::Serialize;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use crate::config::{Config, Secret};
use crate::presence::Presence;
use crate::registry::Registry;
use crate::replay::{Attempt, Caller, Replays};
use crate::telemetry::logs::LogLevel;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::Tracer;

mod admin;
mod body;
mod connections;
mod dead_letters;
mod disconnect;
mod fields;
mod key;
mod log_level;
mod picture;
mod problem;
mod push;
mod readiness;
mod reloads;
mod replay;
mod replay_archive;
mod route;
mod status;
mod tail;
#[cfg(test)]
mod tests;

pub use admin::{AdminKeyError, admin_key};
pub use connections::{DEFAULT_LIMIT, MAX_LIMIT};
pub use key::API_KEY_HEADER;
pub use problem::{PROBLEM_JSON, Problem};
pub(crate) use problem::{answer, json};
pub use push::MAX_SUBJECTS;
pub use readiness::{Owner, Phase, Readiness, Report};
pub use reloads::{Reload, ReloadResult, Reloads, Revision};
pub use route::{ROUTES, Route, Verb};
pub use status::About;

use body::Body;
use key::{Denied, DeniedLog, Looked};
use route::{Realm, Target};

/// Pages beside the API, for example those of `wsgw dev`; what they reject is answered 404.
pub type Pages = BoxedFilter<(Response,)>;

/// The label of calls below `/internal` or `/admin/api` that no route takes.
const NO_ROUTE: &str = "unknown";

/// What the API and the connections go by; a reload replaces it whole.
#[derive(Clone)]
pub struct InForce {
    /// The settings.
    pub config: Arc<Config>,
    /// Where presence is kept.
    pub presence: Arc<dyn Presence>,
    /// What may be replayed, by whom and how often.
    pub replays: Arc<Replays>,
    /// The key of the operator's page; none: it is not served.
    pub admin_key: Option<Secret>,
}

impl InForce {
    /// The key of the operator's calls, if the call is one.
    fn operator_key(&self, realm: Realm) -> Option<&Secret> {
        self.admin_key.as_ref().filter(|_| realm == Realm::Operator)
    }

    /// The key of whoever calls, but for replays, which may have one of their own.
    fn key_of(&self, realm: Realm) -> &Secret {
        self.operator_key(realm)
            .unwrap_or(&self.config.server.api_key)
    }
}

/// The address that a request came from, as the server puts it into the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerAddress(pub IpAddr);

/// What the API acts on.
pub struct ApiState {
    registry: Arc<Registry>,
    in_force: Arc<ArcSwap<InForce>>,
    metrics: Metrics,
    readiness: Arc<Readiness>,
    about: About,
    tracer: Tracer,
    denied: DeniedLog,
    log_level: LogLevel,
}

impl ApiState {
    /// Makes the state of one gateway's API.
    #[must_use]
    pub fn new(
        registry: Arc<Registry>,
        in_force: Arc<ArcSwap<InForce>>,
        metrics: Metrics,
        readiness: Arc<Readiness>,
        about: About,
        tracer: Tracer,
    ) -> Self {
        Self {
            registry,
            in_force,
            metrics,
            readiness,
            about,
            tracer,
            denied: DeniedLog::default(),
            log_level: LogLevel::default(),
        }
    }

    /// The same with what changes the level of the log.
    #[must_use]
    pub fn with_log_level(self, log_level: LogLevel) -> Self {
        Self { log_level, ..self }
    }

    /// The operator's page.
    pub(crate) fn admin_pages(&self) -> Pages {
        admin::pages(Arc::clone(&self.in_force))
    }

    /// What `/ready` reports.
    #[must_use]
    pub fn readiness(&self) -> &Arc<Readiness> {
        &self.readiness
    }
}

impl std::fmt::Debug for ApiState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiState")
            .field("readiness", &self.readiness)
            .finish_non_exhaustive()
    }
}

/// Which listener a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// The only one: clients and backend share it.
    All,
    /// The clients' own, where `server.internal_listen` has moved the API away.
    Public,
    /// The backend's own, of `server.internal_listen`.
    Internal,
}

/// Answers every request of a listener that is no WebSocket upgrade.
///
/// The API's own paths come before the pages', so that a page cannot hide one.
pub fn routes(
    state: Arc<ApiState>,
    surface: Surface,
    pages: Option<Pages>,
) -> impl Filter<Extract = (impl Reply,), Error = Infallible> + Clone + Send + Sync + 'static {
    let pages = pages.unwrap_or_else(|| {
        warp::any()
            .and_then(async || Err(warp::reject::not_found()))
            .boxed()
    });
    let served = warp::any().and_then(move || {
        future::ready(match surface {
            Surface::All | Surface::Internal => Ok(()),
            Surface::Public => Err(warp::reject::not_found()),
        })
    });
    let calls = served
        .untuple_one()
        .and(route::target())
        .and(warp::method())
        .and(warp::header::headers_cloned())
        .and(warp::query())
        .and(warp::ext::optional())
        .and(body::body())
        .then(move |realm, target, method, headers, query, from, body| {
            let call = Call {
                surface,
                realm,
                target,
                method,
                headers,
                query,
                from,
                body,
            };
            call.answer(Arc::clone(&state))
        });
    // Pages may have taken the body before they rejected.
    let nothing = body::body()
        .map(Some)
        .or(warp::any().map(|| None))
        .unify()
        .then(async |body: Option<Body>| {
            if let Some(mut body) = body {
                body.discard().await;
            }
            Problem::not_found().into_response()
        });
    calls.or(pages).unify().or(nothing).unify()
}

/// One call of the API.
struct Call {
    surface: Surface,
    realm: Realm,
    target: Target,
    method: Method,
    headers: HeaderMap,
    query: Vec<(String, String)>,
    from: Option<CallerAddress>,
    body: Body,
}

#[derive(Serialize)]
struct Alive {
    ok: bool,
}

impl Call {
    async fn answer(mut self, state: Arc<ApiState>) -> Response {
        let in_force = state.in_force.load_full();
        let route = self.target.route();
        let template = route.map_or(NO_ROUTE, |route| route.template_for(self.realm));
        if self.is_hidden(&in_force) {
            self.body.discard().await;
            return Problem::not_found().into_response();
        }
        let mut attempt = self.attempt(&in_force);
        let answer = match self.admit(&state, &in_force, &mut attempt, template).await {
            Ok(body) => self.act(&state, &in_force, attempt, &body).await,
            Err(problem) => {
                if let Some(attempt) = attempt {
                    attempt.failed(0, problem.detail());
                }
                self.body.discard().await;
                Err(problem)
            }
        };
        let response = answer.unwrap_or_else(Problem::into_response);
        state
            .metrics
            .api_requests_total
            .with_label_values(&[template, response.status().as_str()])
            .inc();
        response
    }

    /// Whether the call is one of the operator's, and those are not served here.
    fn is_hidden(&self, in_force: &InForce) -> bool {
        let served = self.surface == Surface::Internal && in_force.admin_key.is_some();
        self.realm == Realm::Operator && !served
    }

    /// The attempt to replay that the call is, if it is one.
    fn attempt(&self, in_force: &InForce) -> Option<Attempt> {
        let store = self.target.replays_from()?;
        let from = Caller::new(self.from.map(|from| from.0), None);
        Verb::Act
            .allows(&self.method)
            .then(|| in_force.replays.attempt(store, from))
    }

    /// Decides whether the call may go on, and reads its body if it has one of interest.
    async fn admit(
        &mut self,
        state: &ApiState,
        in_force: &InForce,
        attempt: &mut Option<Attempt>,
        template: &'static str,
    ) -> Result<Vec<u8>, Problem> {
        let server = &in_force.config.server;
        let api_key = self.api_key(in_force);
        let mut deny = |denied: Denied, presented: Option<Vec<u8>>| {
            let problem = Problem::from(denied);
            // The audit log says who it was too, so that no second line is needed.
            if !attempt.as_ref().is_some_and(Attempt::is_audited) {
                state.denied.note(denied, template);
            }
            if let Some(mut attempt) = attempt.take() {
                attempt.presented(presented.as_deref());
                attempt.denied(problem.detail());
            }
            problem
        };
        if self.target.is_internal() && !key::is_configured(api_key) {
            return Err(deny(Denied::NotConfigured, None));
        }
        let verb = self.target.route().ok_or_else(Problem::not_found)?.verb;
        if !verb.allows(&self.method) {
            return Err(Problem::method_not_allowed(verb.allow()));
        }
        if !self.target.is_internal() {
            return Ok(Vec::new());
        }
        let looked = key::in_headers(&self.headers, api_key)
            .map_err(|denied| deny(denied, key::presented(&self.headers, b"")))?;
        if looked == Looked::Granted && Verb::Read.allows(&self.method) {
            return Ok(Vec::new());
        }
        let body = self
            .body
            .read(server.max_body_bytes, body::PATIENCE)
            .await?;
        if looked == Looked::InBody {
            key::in_body(&body, api_key)
                .map_err(|denied| deny(denied, key::presented(&self.headers, &body)))?;
        }
        if let Some(attempt) = attempt {
            attempt.presented(key::presented(&self.headers, &body).as_deref());
        }
        Ok(body)
    }

    /// The key that the call must present.
    fn api_key<'a>(&self, in_force: &'a InForce) -> &'a Secret {
        if let Some(key) = in_force.operator_key(self.realm) {
            return key;
        }
        let own = in_force.replays.api_key();
        own.filter(|_| self.target.takes_replay_key())
            .unwrap_or(&in_force.config.server.api_key)
    }

    async fn act(
        &mut self,
        state: &ApiState,
        in_force: &InForce,
        attempt: Option<Attempt>,
        body: &[u8],
    ) -> Result<Response, Problem> {
        let parameters = std::mem::take(&mut self.query);
        if let Some(attempt) = attempt {
            let (replays, headers) = (&in_force.replays, &self.headers);
            return match self.target {
                Target::ReplayArchive => {
                    replay_archive::replay(replays, attempt, headers, body).await
                }
                _ => replay::dead_letters(replays, attempt, headers, body).await,
            };
        }
        match &self.target {
            Target::Health => Ok(json(StatusCode::OK, &Alive { ok: true })),
            Target::Ready => Ok(readiness::ready(&state.readiness)),
            Target::Metrics => metrics(state),
            Target::Publish => push::publish(state, &self.headers, body),
            Target::Disconnect => disconnect::disconnect(&state.registry, body),
            Target::LogLevel if self.method == Method::PUT => {
                log_level::set(&state.log_level, body)
            }
            Target::LogLevel => Ok(log_level::get(&state.log_level)),
            Target::Connections => {
                let query = connections::query(parameters)?;
                connections::list(&*in_force.presence, query).await
            }
            Target::UserConnections(segment) => {
                let mut query = connections::query(parameters)?;
                query.user_id = Some(connections::user_id(segment)?);
                connections::list(&*in_force.presence, query).await
            }
            Target::DeadLetters => {
                let query = dead_letters::query(parameters)?;
                let key = key::presented(&self.headers, body);
                let caller = Caller::new(self.from.map(|from| from.0), key.as_deref());
                Ok(dead_letters::list(&in_force.replays, &caller, &query).await)
            }
            Target::Status => Ok(json(StatusCode::OK, &status::status(state, in_force))),
            Target::PipelineSvg => picture::pipeline(state, in_force, &parameters),
            Target::Tail => {
                let key = key::presented(&self.headers, body);
                let caller = Caller::new(self.from.map(|from| from.0), key.as_deref());
                tail::open(state, in_force, self.realm, &caller, parameters)
            }
            // A replay is an attempt, which came before; what is neither is no route.
            Target::ReplayArchive
            | Target::ReplayRabbitmq
            | Target::ReplayRedis
            | Target::Unknown => Err(Problem::not_found()),
        }
    }
}

fn metrics(state: &ApiState) -> Result<Response, Problem> {
    // Kept by the outboxes themselves, and too often changed to be copied on each change.
    let waiting = i64::try_from(state.registry.limits().waiting()).unwrap_or(i64::MAX);
    state.metrics.outbox_waiting.set(waiting);
    let ready = state.readiness.report().ok;
    state.metrics.ready.set(i64::from(ready));
    let text = state.metrics.encode().map_err(|error| {
        tracing::error!(event = "metrics_failed", %error, "metrics could not be written");
        Problem::internal("the metrics could not be written")
    })?;
    Ok(answer(StatusCode::OK, "text/plain; version=0.0.4", text))
}
