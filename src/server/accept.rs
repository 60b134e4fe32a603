//! The accept loop: one task a socket, which speaks HTTP until an upgrade takes the socket over.
//!
//! Stands where a client enters: the WebSocket path goes on to `upgrade`, everything else to the API.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tower_service::Service as _;
use warp::filters::BoxedFilter;
use warp::reply::Response;
use warp::{Filter, Reply};

use super::{State, upgrade};
use crate::api::{self, ApiState, CallerAddress, Pages};
use crate::clock::seconds;

/// Request line and headers at most: room for the largest token that is looked at, and for cookies beside it.
const MAX_HEAD_BYTES: usize = 256 * 1024;

/// How long to wait when the process has no file descriptor left.
const PAUSE: Duration = Duration::from_millis(50);

/// Bytes that the system takes of what a connection cannot send yet.
#[cfg(any(target_os = "linux", target_os = "android"))]
const MAX_UNSENT: u32 = 128 * 1024;

/// A bound socket and what is served on it.
pub(super) struct Listener {
    pub(super) socket: TcpListener,
    pub(super) surface: Surface,
}

/// What a listener serves.
#[derive(Clone)]
pub(super) struct Surface {
    routes: BoxedFilter<(Response,)>,
    websockets: bool,
}

impl Surface {
    /// The WebSocket endpoint, and the API unless it has a listener of its own.
    pub(super) fn public(api: &Arc<ApiState>, with_api: bool, pages: Option<Pages>) -> Self {
        let surface = if with_api {
            api::Surface::All
        } else {
            api::Surface::Public
        };
        Self {
            routes: reply(api::routes(Arc::clone(api), surface, pages)),
            websockets: true,
        }
    }

    /// The API and the operator's page.
    pub(super) fn internal(api: &Arc<ApiState>) -> Self {
        Self {
            routes: reply(api::routes(
                Arc::clone(api),
                api::Surface::Internal,
                Some(api.admin_pages()),
            )),
            websockets: false,
        }
    }
}

fn reply<R: Reply + 'static>(
    routes: impl Filter<Extract = (R,), Error = Infallible> + Clone + Send + Sync + 'static,
) -> BoxedFilter<(Response,)> {
    routes.map(Reply::into_response).boxed()
}

/// Accepts connections until cancelled.
pub(super) fn spawn(listener: Listener, state: &Arc<State>, until: &CancellationToken) {
    let (state, until) = (Arc::clone(state), until.clone());
    if let Ok(address) = listener.socket.local_addr() {
        tracing::info!(
            event = "listening",
            %address,
            surface = if listener.surface.websockets { "public" } else { "internal" },
        );
    }
    tokio::spawn(async move {
        let serve = async {
            loop {
                match listener.socket.accept().await {
                    Ok((socket, peer)) => serve(socket, peer, &listener, &state, until.clone()),
                    Err(error) => {
                        tracing::warn!(event = "accept_failed", %error);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = serve => {}
            () = until.cancelled() => {}
        }
    });
}

fn serve(
    socket: TcpStream,
    peer: SocketAddr,
    listener: &Listener,
    state: &Arc<State>,
    until: CancellationToken,
) {
    // Small messages must not wait for an acknowledgement; a socket that refuses the option is gone anyway.
    let _ = socket.set_nodelay(true);
    limit_unsent(&socket);
    let (state, surface) = (Arc::clone(state), listener.surface.clone());
    let timeout = seconds(state.current.load().config.server.handshake_timeout_seconds);
    let service = service_fn(move |request: Request<Incoming>| {
        let (state, surface) = (Arc::clone(&state), surface.clone());
        async move { Ok::<_, Infallible>(answer(state, surface, peer, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    tokio::spawn(async move {
        tokio::select! {
            result = connection => {
                if let Err(error) = result {
                    tracing::debug!(event = "http_failed", %error);
                }
            }
            () = until.cancelled() => {}
        }
    });
}

async fn answer(
    state: Arc<State>,
    surface: Surface,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Response {
    if surface.websockets && request.uri().path() == state.current.load().config.server.path {
        return upgrade::upgrade(state, peer, request).await;
    }
    let address = {
        let generation = state.current.load();
        let trusted = &generation.config.server.trusted_proxies;
        upgrade::client_address(peer.ip(), request.headers(), trusted)
    };
    request.extensions_mut().insert(CallerAddress(address));
    match warp::service(surface.routes).call(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// Keeps the system from taking more than the connection can send soon.
///
/// Else it takes megabytes for a client that reads slowly, and then nothing for so long that the client seems to have
/// stopped.
fn limit_unsent(socket: &TcpStream) {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let _ = socket2::SockRef::from(socket).set_tcp_notsent_lowat(MAX_UNSENT);
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let _ = socket;
}
