//! From an HTTP request to an open connection: checks the upgrade, admits the client, takes over the socket.
//!
//! Done by hand on hyper, because the read buffer's size decides what an idle connection costs: warp's own
//! upgrade gives each 128 KiB.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, StatusCode, Version};
use hyper::body::Incoming;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tower::ServiceExt as _;
use warp::Reply as _;
use warp::reply::Response;

use super::State;
use super::admission::Places;
use super::connection::Connection;
use super::ending::turn_away;
use super::framing::{Framed, frame};
use crate::api::Problem;
use crate::clock::unix_nanos;
use crate::close::{self, Close, Refused};
use crate::intake::Intake;
use crate::jwt::offers_bearer;
use crate::message::TraceContext;
use crate::pipeline::{Generation, Handshake};
use crate::session::Session;

/// Answers a request for the WebSocket endpoint, and starts the connection's task.
pub(super) async fn upgrade(
    state: Arc<State>,
    peer: SocketAddr,
    mut request: Request<Incoming>,
) -> Response {
    let (started, began) = (Instant::now(), unix_nanos());
    let generation = state.current.load_full();
    // From before the drain is looked at: it waits for handshakes that are under way.
    let _under_way = state.tasks.token();
    let key = match check(&state, &generation, &request) {
        Ok(key) => key,
        Err(refused) => return refuse(&state, &refused),
    };
    let server = &generation.config.server;
    let address = client_address(peer.ip(), request.headers(), &server.trusted_proxies);
    let places = match state.admission.admit(server, &state.registry, address) {
        Ok(places) => places,
        Err(refused) => return refuse(&state, &refused),
    };
    let subprotocol = offers_bearer(request.headers());
    let handshake = Handshake {
        headers: std::mem::take(request.headers_mut()),
        query: request.uri().query().map(str::to_owned),
        address: Some(address),
        identity: None,
        trace: TraceContext::default(),
        began,
    };
    let admitted = generation.handshake.clone().oneshot(handshake).await;
    if state.drain.is_over() {
        return refuse(&state, &Refused::Draining);
    }
    let admitted = admitted
        .map_err(|error| close::admission(&error))
        .and_then(|session| {
            state
                .registry
                .register(&session, server.max_connections_per_user)?;
            // Whoever is registered by now is either on the list of those to close, or sees this.
            if let Some(close) = state.drain.close() {
                session.outbox().close(close);
            }
            Ok(session)
        });
    state
        .metrics
        .handshake_duration_seconds
        .observe(started.elapsed().as_secs_f64());
    let upgrading = hyper::upgrade::on(request);
    let reading = (server.max_message_bytes, Arc::clone(&generation.intake));
    state.tasks.spawn({
        let state = Arc::clone(&state);
        async move { open(state, upgrading, admitted, reading, places).await }
    });
    switching(&key, subprotocol)
}

/// Waits for the socket and serves the connection on it.
async fn open(
    state: Arc<State>,
    upgrading: hyper::upgrade::OnUpgrade,
    admitted: Result<Arc<Session>, Close>,
    (max_message_bytes, intake): (usize, Arc<Intake>),
    places: Places,
) {
    let stream = match upgrading.await {
        Ok(upgraded) => accept(upgraded, max_message_bytes, intake).await,
        Err(error) => {
            let session = admitted.as_ref().ok();
            tracing::debug!(
                event = "ws_upgrade_failed",
                connection_id = session.map(|session| tracing::field::display(session.id())),
                %error,
            );
            None
        }
    };
    match (stream, admitted) {
        (Some(stream), Ok(session)) => {
            state.metrics.connections_total.inc();
            state.metrics.connections.inc();
            tracing::info!(
                event = "ws_connected",
                connection_id = %session.id(),
                user_id = %session.user_id(),
            );
            state.in_force.load().presence.connected(&session);
            let tasks = state.tasks.clone();
            // A task of its own, so that what the handshake needed does not stay for the connection's life.
            tasks.spawn(Box::new(Connection::new(stream, session, state, places)).serve());
        }
        (Some(stream), Err(close)) => turn_away(stream, close).await,
        (None, Ok(session)) => state.registry.unregister(&session),
        (None, Err(_)) => {}
    }
}

/// Takes the socket back from hyper and puts WebSocket framing on it.
async fn accept(
    upgraded: Upgraded,
    max_message_bytes: usize,
    intake: Arc<Intake>,
) -> Option<Framed<TcpStream>> {
    let parts = upgraded.downcast::<TokioIo<TcpStream>>().ok()?;
    let (io, early) = (parts.io.into_inner(), parts.read_buf.to_vec());
    Some(frame(io, early, max_message_bytes, intake).await)
}

/// Checks what RFC 6455 section 4.2.1 asks of an upgrade request, and its origin; gives its key.
fn check(
    state: &State,
    generation: &Generation,
    request: &Request<Incoming>,
) -> Result<HeaderValue, Refused> {
    let headers = request.headers();
    let upgrade = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && has_token(headers, header::CONNECTION, "upgrade")
        && has_token(headers, header::UPGRADE, "websocket");
    if !upgrade {
        return Err(Refused::NotAnUpgrade);
    }
    if headers
        .get(header::SEC_WEBSOCKET_VERSION)
        .is_none_or(|v| v != "13")
    {
        return Err(Refused::Version);
    }
    let key = headers
        .get(header::SEC_WEBSOCKET_KEY)
        .filter(|key| is_key(key.as_bytes()))
        .ok_or(Refused::Key)?;
    if let Some(origin) = headers.get(header::ORIGIN)
        && !origin_allowed(origin, &generation.config.server.allowed_origins)
    {
        return Err(Refused::Origin);
    }
    if state.drain.has_begun() {
        return Err(Refused::Draining);
    }
    Ok(key.clone())
}

fn has_token(headers: &HeaderMap, name: header::HeaderName, token: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// Whether the text is the base64 of sixteen bytes.
fn is_key(key: &[u8]) -> bool {
    key.len() == 24
        && key.ends_with(b"==")
        && key[..22]
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/'))
}

/// Whether an origin is listed; `*.` stands for any subdomain, and an empty list or `*` for any origin.
pub(super) fn origin_allowed(origin: &HeaderValue, allowed: &[String]) -> bool {
    if allowed.is_empty() {
        return true;
    }
    let Ok(origin) = origin.to_str() else {
        return false;
    };
    allowed.iter().any(|entry| {
        if entry == "*" || entry.eq_ignore_ascii_case(origin) {
            return true;
        }
        let Some((scheme, domain)) = entry.split_once("://*.") else {
            return false;
        };
        origin
            .split_once("://")
            .is_some_and(|(got_scheme, got_host)| {
                let (got_host, domain) =
                    (got_host.to_ascii_lowercase(), domain.to_ascii_lowercase());
                got_scheme.eq_ignore_ascii_case(scheme)
                    && got_host
                        .strip_suffix(&domain)
                        .is_some_and(|sub| sub.len() > 1 && sub.ends_with('.'))
            })
    })
}

/// The client's address: the last one in `X-Forwarded-For` that no trusted proxy has.
pub(super) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: &IpAddr| trusted.iter().any(|net| net.contains(address));
    if !is_trusted(&peer) {
        return peer;
    }
    let mut found = peer;
    let forwarded: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in forwarded.iter().rev() {
        let Ok(address) = hop.trim().parse() else {
            break;
        };
        found = address;
        if !is_trusted(&address) {
            break;
        }
    }
    found
}

fn switching(key: &HeaderValue, subprotocol: bool) -> Response {
    let mut response = warp::reply().into_response();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    // Base64 is always a header value.
    if let Ok(accept) = HeaderValue::try_from(derive_accept_key(key.as_bytes())) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    if subprotocol {
        headers.insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static("bearer"),
        );
    }
    response
}

fn refuse(state: &State, refused: &Refused) -> Response {
    state
        .metrics
        .upgrades_refused_total
        .with_label_values(&[refused.label()])
        .inc();
    Problem::from(refused).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(origin: &'static str, allowed: &[&str]) -> bool {
        let allowed: Vec<String> = allowed.iter().map(|s| (*s).into()).collect();
        origin_allowed(&HeaderValue::from_static(origin), &allowed)
    }

    #[test]
    fn origins_match_whole_or_by_subdomain() {
        assert!(origin("https://any.example", &[]));
        assert!(origin(
            "https://app.example",
            &["https://other.example", "https://app.example"]
        ));
        assert!(origin("HTTPS://App.Example", &["https://app.example"]));
        assert!(origin("https://a.b.example", &["https://*.b.example"]));
        for (bad, allowed) in [
            ("https://app.example.evil", "https://app.example"),
            ("http://app.example", "https://app.example"),
            ("https://b.example", "https://*.b.example"),
            ("https://evilb.example", "https://*.b.example"),
            ("https://.b.example", "https://*.b.example"),
            ("http://a.b.example", "https://*.b.example"),
            ("null", "https://app.example"),
        ] {
            assert!(!origin(bad, &[allowed]), "{bad}");
        }
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let mut headers = HeaderMap::new();
        headers.insert(
            "x-forwarded-for",
            HeaderValue::from_static("6.6.6.6, 9.9.9.9, 10.0.0.2"),
        );
        let proxies: Vec<IpNet> = ["10.0.0.0/8".parse().unwrap()].to_vec();
        let proxy = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(
            client_address(proxy, &headers, &proxies),
            IpAddr::from([9, 9, 9, 9])
        );
        assert_eq!(client_address(proxy, &headers, &[]), proxy);
        let stranger = IpAddr::from([8, 8, 8, 8]);
        assert_eq!(client_address(stranger, &headers, &proxies), stranger);
    }

    #[test]
    fn keys_are_sixteen_bytes_in_base64() {
        assert!(is_key(b"dGhlIHNhbXBsZSBub25jZQ=="));
        for bad in [
            &b""[..],
            b"dGhlIHNhbXBsZSBub25jZQ",
            b"dGhlIHNhbXBsZSBub25jZQ===",
            b"dGhlIHNhbXBsZSBub25j!!==",
        ] {
            assert!(!is_key(bad));
        }
    }
}
