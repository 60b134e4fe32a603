//! The gateway as a running thing: puts the parts together, listens, and stops without losing events.
//!
//! Stands around the whole data path: sockets come in here, sessions are registered here, and here everything is
//! drained in order when the process is told to stop.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use prometheus::IntCounterVec;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::admission::Admission;
use self::depths::Depths;
use self::drain::Drain;
use self::foundation::{Foundation, Prepared, Running, Seeds};
use crate::api::{About, AdminKeyError, ApiState, InForce, Pages, Phase, Readiness, Reloads};
use crate::brokers::{DsnError, rabbitmq, redis};
use crate::clock::numeric_date;
use crate::close::{self, Refused};
use crate::config::changes::Effective;
use crate::config::{Config, ServerConfig};
use crate::jwt::AuthError;
use crate::leases::{Leases, LeasesError};
use crate::pipeline::{CompileError, Generation};
use crate::registry::{self, Registry};
use crate::replay::ReplaySetupError;
use crate::replay::archive::{self, Archive, ArchiveError};
use crate::sinks::SinkError;
use crate::sinks::delivery::Delivery;
use crate::sinks::memory::MemorySink;
use crate::sources::{SourceError, Sources};
use crate::svc::BoxError;
use crate::svc::probe::Tap;
use crate::telemetry::logs::{self, LogLevel};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::traces::TracesError;

mod accept;
mod admission;
mod connection;
mod depths;
mod drain;
mod ending;
mod foundation;
mod framing;
pub(crate) mod rehearsal;
mod reload;
mod stages;
mod upgrade;

pub use self::drain::Stopped;
pub(crate) use self::reload::log_warning;
pub use self::reload::{ReloadError, Reloaded};

/// Connections that wait to be accepted, where `net.core.somaxconn` allows it: those of a lost gateway come all at once.
const BACKLOG: u32 = 4096;

/// What may be added to a gateway beyond its configuration, as `wsgw dev` does.
#[derive(Debug, Default)]
pub struct Extras {
    /// The pipeline file, for whoever asks how the gateway does.
    pub file: Option<String>,
    /// Names the configuration in `wsgw_config_info`.
    pub config_hash: String,
    /// What a reloaded configuration is compared with.
    pub effective: Effective,
    /// Changes what is logged.
    pub log_level: LogLevel,
    /// A sink in memory that gets every event.
    pub memory: Option<MemorySink>,
    /// Where each message's way through the stages is told.
    pub tap: Option<Tap>,
    /// Pages served beside the API.
    pub pages: Option<Pages>,
}

impl Extras {
    /// What every generation is made with.
    fn seeds(&self) -> Seeds {
        Seeds {
            memory: self.memory.clone(),
            tap: self.tap.clone(),
            log_level: self.log_level.clone(),
        }
    }
}

/// Why a gateway could not start, or a reload not be prepared.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on `{address}` (`{setting}`): {reason}")]
    Bind {
        /// The address as configured.
        address: String,
        /// The setting that names it.
        setting: &'static str,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The pipeline cannot be compiled.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A sink cannot be made.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// The Redis of presence cannot be used.
    #[error("`{setting}`: {reason}")]
    Presence {
        /// The setting that is wrong.
        setting: &'static str,
        /// What is wrong with it.
        reason: DsnError,
    },
    /// Leases cannot be kept.
    #[error(transparent)]
    Leases(#[from] LeasesError),
    /// A source cannot be started.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Replays cannot be set up.
    #[error(transparent)]
    Replay(#[from] ReplaySetupError),
    /// The operator's key cannot be used.
    #[error(transparent)]
    AdminKey(#[from] AdminKeyError),
    /// Spans cannot be exported.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// The level of the log cannot be used.
    #[error("`logging.level`: {0}")]
    LogLevel(BoxError),
    /// The metrics are inconsistent.
    #[error("metrics: {0}")]
    Metrics(BoxError),
}

/// What all tasks of a gateway share.
pub(crate) struct State {
    current: ArcSwap<Generation>,
    /// The current generation's number, for who only wants to know whether it changed.
    newest: AtomicU64,
    registry: Arc<Registry>,
    in_force: Arc<ArcSwap<InForce>>,
    metrics: Metrics,
    admission: Admission,
    drain: Drain,
    tasks: TaskTracker,
}

/// A running gateway.
pub struct Gateway {
    state: Arc<State>,
    readiness: Arc<Readiness>,
    reloads: Arc<Reloads>,
    foundation: Foundation,
    running: Mutex<Running>,
    archive: Option<Arc<Archive>>,
    sources: Sources,
    _depths: Depths,
    listening: CancellationToken,
    address: SocketAddr,
}

impl Gateway {
    /// Compiles the configuration, binds the listeners and serves.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When an address cannot be bound, or a setting names something that is not there.
    pub async fn start(config: Config, extras: Extras) -> Result<Self, StartError> {
        let metrics = metrics(&extras.config_hash)?;
        let config = Arc::new(config);
        let server = &config.server;
        let readiness = Arc::new(Readiness::default());
        let (public, address) = bind("server.listen", &server.listen).await?;
        let trace_id = &config.tracing.trace_id_field;
        let archive = Archive::start(&config.replay, trace_id, &[], &readiness, &metrics).await?;
        let node_id: Arc<str> = node_id(server, address).into();
        let foundation = Foundation::new(
            &config,
            Arc::clone(&node_id),
            (Arc::clone(&readiness), metrics),
            archive.clone(),
            extras.seeds(),
        );
        let Prepared {
            generation,
            in_force,
            parts,
        } = foundation.prepare(&config, None)?;
        let reloads = Arc::new(Reloads::default());
        reloads.started(extras.file, &extras.config_hash, generation.number);
        let state = Arc::new(State {
            newest: AtomicU64::new(generation.number),
            current: ArcSwap::from_pointee(generation),
            registry: Arc::clone(&foundation.registry),
            in_force: Arc::new(ArcSwap::from_pointee(in_force)),
            metrics: foundation.metrics.clone(),
            admission: Admission::new(),
            drain: Drain::default(),
            tasks: TaskTracker::new(),
        });
        let internal = bind_internal(&server.internal_listen).await?;
        let api = ApiState::new(
            Arc::clone(&state.registry),
            Arc::clone(&state.in_force),
            state.metrics.clone(),
            Arc::clone(&readiness),
            About::new(node_id, Arc::clone(&reloads)),
            foundation.traces.tracer().clone(),
        );
        let api = Arc::new(api.with_log_level(extras.log_level.clone()));
        let sources = Sources::start(&foundation.sources);
        let running = foundation.activate(parts, None, &state, &sources);
        let depths = Depths::start(&state.metrics, Arc::clone(&state.in_force), sources.lags());
        let listening = CancellationToken::new();
        let serve = |socket, surface| {
            let listener = accept::Listener { socket, surface };
            accept::spawn(listener, &state, &listening);
        };
        let surface = accept::Surface::public(&api, internal.is_none(), extras.pages);
        serve(public, surface);
        if let Some((socket, _)) = internal {
            serve(socket, accept::Surface::internal(&api));
        }
        readiness.set_phase(Phase::Serving);
        Ok(Self {
            state,
            readiness,
            reloads,
            foundation,
            running: Mutex::new(running.named(extras.config_hash, extras.effective)),
            archive,
            _depths: depths,
            sources,
            listening,
            address,
        })
    }

    /// The public listener's address, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What changes the level of the log.
    #[must_use]
    pub fn log_level(&self) -> &LogLevel {
        self.foundation.log_level()
    }

    /// Every delivery that may have events, those of sinks that a reload removed among them.
    fn deliveries(&self) -> Vec<Arc<Delivery>> {
        let archive = self
            .archive
            .iter()
            .map(|archive| archive.outlet().delivery());
        let running = self.running.lock();
        running.sinks.deliveries().chain(archive).cloned().collect()
    }

    /// The gateway's lease, where leases are kept.
    fn leases(&self) -> Option<Arc<Leases>> {
        self.running.lock().leases.clone()
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.listening.cancel();
    }
}

/// Makes the gateway's metrics, with those that never change already set.
fn metrics(config_hash: &str) -> Result<Metrics, StartError> {
    let metrics = Metrics::new().map_err(StartError::Metrics)?;
    logs::count_dropped(&metrics.log_lines_dropped_total);
    let commit = option_env!("WSGW_COMMIT").unwrap_or_default();
    let rustc = option_env!("WSGW_RUSTC").unwrap_or_default();
    metrics
        .build_info
        .with_label_values(&[env!("CARGO_PKG_VERSION"), commit, rustc])
        .set(1);
    metrics.config_info.with_label_values(&[config_hash]).set(1);
    metrics.config_last_reload_successful.set(1);
    metrics
        .config_last_reload_timestamp_seconds
        .set(numeric_date());
    announce(&metrics);
    Ok(metrics)
}

/// Has every series with a known label stand at zero, so that a first event shows as an increase.
fn announce(metrics: &Metrics) {
    let all = |counts: &IntCounterVec, labels: &[&str]| {
        for label in labels {
            let _ = counts.with_label_values(&[*label]);
        }
    };
    all(&metrics.config_reloads_total, &["success", "failure"]);
    all(
        &metrics.auth_failures_total,
        &AuthError::ALL.map(|error| error.reason()),
    );
    all(
        &metrics.upgrades_refused_total,
        &Refused::ALL.map(|refused| refused.label()),
    );
    for label in close::labels() {
        let _ = metrics.closes_total.with_label_values(&[&*label]);
    }
    all(&metrics.pushes_dropped_total, &registry::LOSSES);
    all(
        &metrics.replayed_total,
        &[redis::NAME, rabbitmq::NAME, archive::NAME],
    );
    all(
        &metrics.invalid_messages_total,
        &["schema", "unknown_type", "raw"],
    );
    all(&metrics.duplicate_messages_total, &["pending", "confirmed"]);
}

/// Listens on the first address of a name that can be had, with room for clients that all come back at once.
async fn listen(address: &str) -> std::io::Result<TcpListener> {
    let mut reason = std::io::Error::new(
        std::io::ErrorKind::InvalidInput,
        "could not resolve to any address",
    );
    for address in tokio::net::lookup_host(address).await? {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        // As `TcpListener::bind` does, so that a restart need not wait for the old connections.
        socket.set_reuseaddr(true)?;
        let bound = socket.bind(address);
        match bound.and_then(|()| socket.listen(BACKLOG)) {
            Ok(listener) => return Ok(listener),
            Err(error) => reason = error,
        }
    }
    Err(reason)
}

/// Listens on an address; gives it with the port that the system chose for port 0.
async fn bind(
    setting: &'static str,
    address: &str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |reason| StartError::Bind {
        address: address.to_owned(),
        setting,
        reason,
    };
    let listener = listen(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Listens for the backend's calls alone, where an address for that is configured.
async fn bind_internal(address: &str) -> Result<Option<(TcpListener, SocketAddr)>, StartError> {
    if address.is_empty() {
        return Ok(None);
    }
    bind("server.internal_listen", address).await.map(Some)
}

/// The gateway's name in leases and positions: as configured, else host name and listen address.
///
/// The address is the one that was bound, so that several gateways on one host with port 0 have names of their own.
fn node_id(server: &ServerConfig, address: SocketAddr) -> String {
    if !server.node_id.is_empty() {
        return server.node_id.clone();
    }
    let host = gethostname::gethostname();
    format!("{}-{address}", host.to_string_lossy())
}
