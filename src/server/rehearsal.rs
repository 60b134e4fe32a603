//! A gateway without sockets: connections whose other end is in memory, for `wsgw test`.
//!
//! Stands where `accept` and `upgrade` stand in a gateway. Whatever comes after them, from the handshake stack to a
//! connection's task, is the same code.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::ORIGIN;
use tokio::io::DuplexStream;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::admission::Admission;
use super::connection::Connection;
use super::drain::Drain;
use super::framing::frame;
use super::upgrade::origin_allowed;
use super::{StartError, State};
use crate::api::{InForce, Readiness};
use crate::brokers::Brokers;
use crate::clock::unix_nanos;
use crate::close::{self, Close, Refused};
use crate::config::Config;
use crate::message::TraceContext;
use crate::pipeline::{Generation, Handshake};
use crate::presence::memory::MemoryPresence;
use crate::registry::{Registry, Selector};
use crate::replay::Replays;
use crate::session::Session;
use crate::telemetry::metrics::Metrics;

/// Bytes that may be on their way to or from a client: more than any message, so that writing never waits.
const WIRE: usize = 256 << 20;

/// Where clients of a rehearsal come from.
const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A gateway without sockets.
pub(crate) struct Rehearsal {
    state: Arc<State>,
}

/// Why a client was not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TurnedAway {
    /// By an HTTP answer instead of a WebSocket.
    Http(Refused),
    /// By a close frame right after the upgrade.
    Close(Close),
}

/// A client's end of an admitted connection.
pub(crate) struct Admitted {
    /// The connection as the gateway knows it.
    pub(crate) session: Arc<Session>,
    /// What the client reads from and writes to.
    pub(crate) wire: DuplexStream,
}

impl Rehearsal {
    /// Puts a generation to work; must be called within a tokio runtime.
    ///
    /// # Errors
    /// When something cannot be set up that even an empty configuration has.
    pub(crate) fn new(generation: Generation, metrics: Metrics) -> Result<Self, StartError> {
        let config = Arc::clone(&generation.config);
        let registry = Registry::new(config.backpressure.clone(), metrics.clone());
        let registry = Arc::new(registry);
        let nothing = Config::default();
        let brokers = Brokers::new(
            nothing.brokers.clone(),
            Arc::new(Readiness::default()),
            metrics.clone(),
        );
        // Presence is kept in memory and nothing can be replayed, so that no broker is asked for.
        let in_force = InForce {
            presence: Arc::new(MemoryPresence::new(
                Arc::clone(&registry),
                config.presence.clone(),
            )),
            replays: Arc::new(Replays::new(&nothing, &brokers, Vec::new())?),
            admin_key: None,
            config,
        };
        Ok(Self {
            state: Arc::new(State {
                newest: AtomicU64::new(generation.number),
                current: ArcSwap::from_pointee(generation),
                registry,
                in_force: Arc::new(ArcSwap::from_pointee(in_force)),
                metrics,
                admission: Admission::new(),
                drain: Drain::default(),
                tasks: TaskTracker::new(),
            }),
        })
    }

    /// Admits a client as an upgrade request with these headers and this query would be.
    ///
    /// # Errors
    /// When it is turned away.
    pub(crate) async fn connect(
        &self,
        headers: HeaderMap,
        query: Option<String>,
    ) -> Result<Admitted, TurnedAway> {
        let state = &self.state;
        let generation = state.current.load_full();
        let server = &generation.config.server;
        if let Some(origin) = headers.get(ORIGIN)
            && !origin_allowed(origin, &server.allowed_origins)
        {
            return Err(TurnedAway::Http(Refused::Origin));
        }
        let places = state
            .admission
            .admit(server, &state.registry, ADDRESS)
            .map_err(TurnedAway::Http)?;
        let handshake = Handshake {
            headers,
            query,
            address: Some(ADDRESS),
            identity: None,
            trace: TraceContext::default(),
            began: unix_nanos(),
        };
        let session = generation
            .handshake
            .clone()
            .oneshot(handshake)
            .await
            .map_err(|error| TurnedAway::Close(close::admission(&error)))?;
        state
            .registry
            .register(&session, server.max_connections_per_user)
            .map_err(|too_many| TurnedAway::Close(too_many.into()))?;
        state.metrics.connections_total.inc();
        state.metrics.connections.inc();
        state.in_force.load().presence.connected(&session);
        let (wire, ours) = tokio::io::duplex(WIRE);
        let intake = Arc::clone(&generation.intake);
        let stream = frame(ours, Vec::new(), server.max_message_bytes, intake).await;
        let connection = Connection::new(stream, Arc::clone(&session), Arc::clone(state), places);
        state.tasks.spawn(Box::new(connection).serve());
        Ok(Admitted { session, wire })
    }

    /// Where pushes find their connections.
    pub(crate) fn registry(&self) -> &Registry {
        &self.state.registry
    }

    /// Closes a connection as the backend does it.
    pub(crate) fn disconnect(&self, session: &Session, reason: Option<String>) {
        let selector = Selector::Connection(session.id());
        self.state
            .registry
            .disconnect(&selector, &Close::by_backend(reason));
    }
}
