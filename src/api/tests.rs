//! Tests of the API as its callers see it; the parts have tests of their own.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{self, BoxFuture, FutureExt};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tower::ServiceExt;

use super::*;
use crate::brokers::Brokers;
use crate::config::{BackpressureConfig, BufferConfig, PresenceConfig, Secret};
use crate::presence::memory::MemoryPresence;
use crate::presence::{Page, Query, Sign};
use crate::replay::archive::Archive;
use crate::replay::{DeadLetterStore, ReplayConfig, ReplayStrategy};
use crate::session::Session;
use crate::sinks::Batch;
use crate::sinks::dead_letter::NoDeadLetters;
use crate::sinks::delivery::{DeliverySettings, Outlet, WhenFull};
use crate::sinks::webhook::WebhookConfig;
use crate::svc::{BoxError, BoxSink};

mod access;
mod admin;
mod calls;
mod document;
mod replay;
mod schemas;
mod wire;

use self::replay::Store;

/// The key of every gateway under test.
const KEY: &str = "right-key";

/// Largest body that gateways under test take.
const LIMIT: usize = 2_000;

/// One gateway's API without a socket, and the registry it acts on.
struct Api {
    state: Arc<ApiState>,
    in_force: Arc<ArcSwap<InForce>>,
    registry: Arc<Registry>,
    metrics: Metrics,
}

/// What a call was answered.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Api {
    fn new() -> Self {
        let metrics = Metrics::new().unwrap();
        let registry = Arc::new(Registry::new(
            BackpressureConfig::default(),
            metrics.clone(),
        ));
        let presence = MemoryPresence::new(Arc::clone(&registry), PresenceConfig::default());
        let readiness = Arc::new(Readiness::default());
        readiness.set_phase(Phase::Serving);
        let in_force = Arc::new(ArcSwap::from_pointee(InForce {
            config: config(KEY, LIMIT),
            presence: Arc::new(presence),
            replays: replays(&config(KEY, LIMIT), &metrics, Vec::new()),
            admin_key: None,
        }));
        let state = Arc::new(ApiState::new(
            Arc::clone(&registry),
            Arc::clone(&in_force),
            metrics.clone(),
            readiness,
            About::new("node".into(), started()),
            Tracer::new(&metrics),
        ));
        Self {
            state,
            in_force,
            registry,
            metrics,
        }
    }

    /// The same with an archive that is empty, in a directory of its own, and a sink that takes everything.
    async fn with_archive() -> (Self, tempfile::TempDir) {
        let api = Self::new();
        let directory = tempfile::tempdir().unwrap();
        let mut config = ReplayConfig {
            strategy: ReplayStrategy::Durable,
            ..ReplayConfig::default()
        };
        let file = directory.path().join("archive.db");
        config.archive.dsn = Secret::from(format!("sqlite://{}", file.display()));
        let settings = DeliverySettings {
            name: "webhook",
            buffer: BufferConfig::default(),
            concurrency: 1,
            max_batch: 1,
            retry: WebhookConfig::default().retry(),
            when_full: WhenFull::Wait,
            linger: Duration::ZERO,
        };
        let sink = BoxSink::new(tower::service_fn(async |_: Batch| Ok(())));
        let sinks = [Outlet::start(
            &settings,
            sink,
            Arc::new(NoDeadLetters),
            &api.metrics,
        )];
        let readiness = Arc::clone(api.state.readiness());
        let archive = Archive::start(&config, "trace_id", &sinks, &readiness, &api.metrics)
            .await
            .unwrap();
        // The archive is advice alone, and these tests read the other checks.
        readiness.remove_check("archive");
        let mut next = InForce::clone(&api.in_force.load());
        let replays = replays(&next.config, &api.metrics, Vec::new());
        let replays = Arc::into_inner(replays).unwrap();
        next.replays = Arc::new(replays.with_archive(archive));
        api.in_force.store(Arc::new(next));
        (api, directory)
    }

    /// Goes on with other replays: from these stores, with settings changed.
    fn set_replays(&self, change: impl FnOnce(&mut Config), stores: &[&Arc<Store>]) {
        let mut next = InForce::clone(&self.in_force.load());
        let mut config = Config::clone(&next.config);
        change(&mut config);
        let stores = stores.iter().map(|store| Arc::clone(store) as _).collect();
        let archive = next.replays.archive().cloned();
        let replays = replays(&config, &self.metrics, stores);
        let replays = Arc::into_inner(replays).unwrap();
        next.replays = Arc::new(replays.with_archive(archive));
        next.config = Arc::new(config);
        self.in_force.store(Arc::new(next));
    }

    /// Goes on with other settings, as after a reload.
    fn set_config(&self, config: Arc<Config>) {
        let mut next = InForce::clone(&self.in_force.load());
        next.config = config;
        self.in_force.store(Arc::new(next));
    }

    /// Goes on with a presence store that is down.
    fn lose_presence(&self) {
        let mut next = InForce::clone(&self.in_force.load());
        next.presence = Arc::new(Down);
        self.in_force.store(Arc::new(next));
    }

    fn connect(&self, user: &str, subjects: &[&str]) -> Arc<Session> {
        let session = Session::for_tests(user, subjects);
        self.registry.register(&session, 0).unwrap();
        session
    }

    /// Calls with exactly the given headers.
    async fn send(&self, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.send_to(Surface::All, method, uri, headers, body).await
    }

    async fn send_to(
        &self,
        surface: Surface,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request
            .body(Full::new(Bytes::copy_from_slice(body)))
            .unwrap();
        let service = warp::service(routes(Arc::clone(&self.state), surface, None));
        let response = service.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let streams = parts
            .headers
            .get("content-type")
            .is_some_and(|kind| kind == "text/event-stream");
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            // What has no end cannot be read to it.
            body: if streams {
                Bytes::new()
            } else {
                body.collect().await.unwrap().to_bytes()
            },
        }
    }

    /// Calls with the right key.
    async fn call(&self, method: &str, uri: &str, body: impl AsRef<[u8]>) -> Answer {
        let key = [(API_KEY_HEADER, KEY)];
        self.send(method, uri, &key, body.as_ref()).await
    }

    async fn publish(&self, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", "/internal/publish", body).await
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Asserts that this is a whole problem of a status, and gives its detail.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        let json = self.json();
        assert_eq!(self.status, status, "{json}");
        assert_eq!(self.header("content-type"), Some(PROBLEM_JSON));
        assert_eq!(json["type"], "about:blank");
        assert_eq!(json["status"], status);
        assert!(
            json["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty())
        );
        json["detail"].as_str().unwrap().to_owned()
    }
}

/// The note of a start.
fn started() -> Arc<Reloads> {
    let reloads = Reloads::default();
    reloads.started(None, "hash", 1);
    Arc::new(reloads)
}

fn config(key: &str, max_body_bytes: usize) -> Arc<Config> {
    let mut config = Config::default();
    config.server.api_key = Secret::from(key.to_owned());
    config.server.max_body_bytes = max_body_bytes;
    Arc::new(config)
}

/// Replays from some stores, and from no file.
fn replays(
    config: &Config,
    metrics: &Metrics,
    stores: Vec<Arc<dyn DeadLetterStore>>,
) -> Arc<Replays> {
    let brokers = Brokers::new(
        config.brokers.clone(),
        Arc::new(Readiness::default()),
        metrics.clone(),
    );
    let mut config = config.clone();
    config.events.dead_letters.file.path = String::new();
    Arc::new(Replays::new(&config, &brokers, stores).unwrap())
}

/// A presence store that is down.
struct Down;

impl Presence for Down {
    fn connected(&self, _: &Arc<Session>) {}
    fn heard(&self, _: &Arc<Session>, _: Sign) {}
    fn disconnected(&self, _: &Arc<Session>) {}
    fn list(&self, _: Query) -> BoxFuture<'_, Result<Page, BoxError>> {
        future::ready(Err("connection refused".into())).boxed()
    }
}
