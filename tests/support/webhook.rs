//! The backend: an HTTP server that records every request and answers by a script.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::eventually;

/// What becomes of a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// An answer with this status.
    Status(u16),
    /// An answer with a status and headers.
    With(u16, Vec<(&'static str, String)>),
    /// What follows, but later.
    After(Duration, Box<Reply>),
    /// 204 once [`Webhook::release`] was called.
    Hold,
    /// The TCP connection is reset.
    Reset,
    /// Nothing, ever.
    Never,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Received {
    /// Place among all requests, from 0.
    pub index: usize,
    /// Which TCP connection it came by, from 0.
    pub connection: usize,
    /// When its body was complete.
    pub at: Instant,
    pub method: String,
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// How many requests with this body's `event_id` came before.
    pub earlier: usize,
    /// The answer's status, once it was given.
    pub status: Option<u16>,
}

impl Received {
    /// The event.
    #[track_caller]
    pub fn event(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in {:?}", self.body))
    }

    /// A header's text; empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn delivered(&self) -> bool {
        self.status
            .is_some_and(|status| (200..300).contains(&status))
    }
}

type Script = dyn Fn(&Received) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    received: Mutex<Vec<Received>>,
    tries: Mutex<std::collections::HashMap<String, usize>>,
    connections: AtomicUsize,
    in_flight: AtomicUsize,
    released: watch::Sender<bool>,
}

/// A running receiver; stops on drop.
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Webhook {
    /// A receiver that takes every event.
    pub async fn start() -> Self {
        Self::scripted(|_| Reply::Status(204)).await
    }

    /// A receiver that answers as the script says.
    pub async fn scripted(script: impl Fn(&Received) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), script).await
    }

    /// A receiver that answers with the status that the message's `answer` names, else with 204.
    pub async fn obedient() -> Self {
        Self::scripted(
            |request| match request.event()["message"]["answer"].as_u64() {
                Some(status) => Reply::Status(status.try_into().unwrap()),
                None => Reply::Status(204),
            },
        )
        .await
    }

    /// The same at a given address.
    pub async fn at(
        address: SocketAddr,
        script: impl Fn(&Received) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Box::new(script),
            received: Mutex::default(),
            tries: Mutex::default(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            released: watch::Sender::new(false),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Self {
            address,
            shared,
            accepting,
        }
    }

    /// Where events are to be posted.
    pub fn url(&self) -> String {
        format!("http://{}/events", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.shared.received.lock().unwrap().len()
    }

    /// Requests that were answered by 2xx, in order of arrival, each event once.
    pub fn delivered(&self) -> Vec<Received> {
        let mut seen = std::collections::HashSet::new();
        let mut received = self.received();
        received.retain(|request| {
            request.delivered() && seen.insert(request.event()["event_id"].to_string())
        });
        received
    }

    /// How many requests were answered by 2xx.
    pub fn delivered_count(&self) -> usize {
        self.shared
            .received
            .lock()
            .unwrap()
            .iter()
            .filter(|request| request.delivered())
            .count()
    }

    /// The delivered events.
    pub fn events(&self) -> Vec<Value> {
        self.delivered().iter().map(Received::event).collect()
    }

    /// How many requests wait for their answer.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::SeqCst)
    }

    /// How many TCP connections were made.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Lets the requests that are held, and all later ones, be answered.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// Waits until at least so many events are delivered, and gives them.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} delivered events"), || {
            (self.delivered_count() >= count)
                .then(|| self.events())
                .filter(|events| events.len() >= count)
        })
        .await
    }

    /// Waits until at least so many requests came, and gives them.
    pub async fn wait_for_requests(&self, count: usize) -> Vec<Received> {
        eventually(&format!("{count} requests"), || {
            (self.count() >= count).then(|| self.received())
        })
        .await
    }

    /// Waits for the first delivered event that fits.
    pub async fn wait_for_event(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || self.events().into_iter().find(&fits)).await
    }

    /// Waits for a user's event of a type.
    pub async fn wait_for_type(&self, user: &str, kind: &str) -> Value {
        self.wait_for_event(&format!("{kind} of {user}"), |event| {
            event["user_id"] == user && event["type"] == kind
        })
        .await
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        stream.set_nodelay(true).unwrap();
        let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
        connections.spawn(serve(stream, connection, Arc::clone(&shared)));
    }
}

async fn serve(stream: TcpStream, connection: usize, shared: Arc<Shared>) {
    let socket = Arc::new(stream.as_fd().try_clone_to_owned().unwrap());
    let service = service_fn(move |request: Request<Incoming>| {
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        async move {
            let response = answer(request, connection, &shared).await;
            response.ok_or_else(|| {
                // With no time to linger, closing the socket resets it.
                socket2::SockRef::from(&socket)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                std::io::Error::other("reset by the script")
            })
        }
    });
    // The client may go away at any time.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(
    request: Request<Incoming>,
    connection: usize,
    shared: &Shared,
) -> Option<Response<Full<Bytes>>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes();
    let (index, mut reply) = {
        let mut all = shared.received.lock().unwrap();
        let received = Received {
            index: all.len(),
            connection,
            at: Instant::now(),
            method: head.method.to_string(),
            path: head.uri.path().to_owned(),
            headers: head.headers,
            earlier: earlier(&body, shared),
            body,
            status: None,
        };
        let reply = (shared.script)(&received);
        let index = received.index;
        all.push(received);
        (index, reply)
    };
    shared.in_flight.fetch_add(1, Ordering::SeqCst);
    let _guard = InFlight(&shared.in_flight);
    loop {
        let (status, headers) = match reply {
            Reply::Status(status) => (status, Vec::new()),
            Reply::With(status, headers) => (status, headers),
            Reply::After(delay, next) => {
                tokio::time::sleep(delay).await;
                reply = *next;
                continue;
            }
            Reply::Hold => {
                shared
                    .released
                    .subscribe()
                    .wait_for(|released| *released)
                    .await
                    .ok()?;
                reply = Reply::Status(204);
                continue;
            }
            Reply::Reset => return None,
            Reply::Never => std::future::pending().await,
        };
        shared.received.lock().unwrap()[index].status = Some(status);
        let mut response = Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(name, value);
        }
        return Some(response.body(Full::default()).unwrap());
    }
}

/// Counts this try of an event, and gives how many came before.
fn earlier(body: &[u8], shared: &Shared) -> usize {
    let id = serde_json::from_slice::<Value>(body)
        .map(|event| event["event_id"].to_string())
        .unwrap_or_default();
    let mut tries = shared.tries.lock().unwrap();
    let count = tries.entry(id).or_default();
    *count += 1;
    *count - 1
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// An address where nothing listens.
pub async fn free_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Webhook")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}
