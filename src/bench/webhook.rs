//! The backend: receives the gateway's webhook over raw keep-alive HTTP and checks the events.
//!
//! Stands at the end of the way of `inbound`; what is read from a broker is checked here too.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::http;
use super::message::Mark;
use super::tally::{Arrival, Sequence, Totals};

/// How the backend behaves.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Behaviour {
    /// Share of requests answered 500, in percent.
    pub(crate) fail_percent: f64,
    /// Wait before every answer.
    pub(crate) delay: Duration,
}

/// The part of an event that is checked. `seq` and `event_id` are optional so that gateways
/// without them can be measured too.
#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow)]
    connection_id: Cow<'a, str>,
    #[serde(borrow, rename = "event_id")]
    id: Option<Cow<'a, str>>,
    seq: Option<u64>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

#[derive(Default)]
struct Connection {
    last_seq: u64,
    events: u64,
    /// Whether it belongs to this run: an earlier run's late events are none of our business.
    ours: bool,
}

/// Called with client, message number and time of each message that arrives for the first time.
pub(crate) type OnMessage = Box<dyn Fn(usize, usize, Instant)>;

/// Checks events.
pub(crate) struct Backend {
    mark: Mark,
    on_message: OnMessage,
    clients: RefCell<Vec<Sequence>>,
    connections: RefCell<HashMap<Box<str>, Connection>>,
    event_ids: RefCell<HashSet<Box<str>>>,
    totals: Cell<Totals>,
    /// Requests answered 500 on purpose.
    pub(crate) failed_on_purpose: Cell<usize>,
    /// Requests that held no event.
    pub(crate) malformed: Cell<usize>,
}

impl Backend {
    /// Expects messages of one run from so many clients.
    pub(crate) fn new(mark: Mark, clients: usize, on_message: OnMessage) -> Self {
        Self {
            mark,
            on_message,
            clients: RefCell::new((0..clients).map(|_| Sequence::default()).collect()),
            connections: RefCell::default(),
            event_ids: RefCell::default(),
            totals: Cell::default(),
            failed_on_purpose: Cell::default(),
            malformed: Cell::default(),
        }
    }

    /// What has arrived so far.
    pub(crate) fn totals(&self) -> Totals {
        self.totals.get()
    }

    /// Events that `seq` says were sent and that never came.
    pub(crate) fn missing_events(&self) -> u64 {
        let connections = self.connections.borrow();
        let ours = connections.values().filter(|connection| connection.ours);
        ours.map(|connection| connection.last_seq.saturating_sub(connection.events))
            .sum()
    }

    /// Checks one request's body; `false` when it is no event.
    pub(crate) fn receive(&self, body: &[u8], now: Instant) -> bool {
        let Ok(event) = serde_json::from_slice::<Event<'_>>(body) else {
            self.malformed.set(self.malformed.get() + 1);
            return false;
        };
        let message = event
            .message
            .and_then(|message| self.mark.find(message.get().as_bytes()));
        let mut totals = self.totals.get();
        if event
            .id
            .is_some_and(|id| !self.event_ids.borrow_mut().insert(id.into()))
        {
            totals.duplicate += 1;
            self.totals.set(totals);
            return true;
        }
        let mut connections = self.connections.borrow_mut();
        let connection = connections.entry(event.connection_id.into()).or_default();
        connection.events += 1;
        connection.ours |= message.is_some();
        let mut arrival = Arrival::InOrder;
        if let Some(seq) = event.seq {
            if seq <= connection.last_seq {
                arrival = Arrival::Late;
            }
            connection.last_seq = connection.last_seq.max(seq);
        }
        if let Some((client, number)) = message {
            let mut clients = self.clients.borrow_mut();
            let Some(sequence) = clients.get_mut(client) else {
                return true;
            };
            match sequence.note(number) {
                Arrival::Again => arrival = Arrival::Again,
                Arrival::Late => arrival = Arrival::Late,
                Arrival::InOrder => {}
            }
            totals.add(arrival);
            if arrival != Arrival::Again {
                (self.on_message)(client, number, now);
            }
        } else if arrival == Arrival::Late {
            totals.reordered += 1;
        }
        self.totals.set(totals);
        true
    }
}

/// Serves the backend until dropped; returns the address it listens on.
pub(crate) async fn serve(
    backend: Rc<Backend>,
    address: SocketAddr,
    behaviour: Behaviour,
) -> std::io::Result<(SocketAddr, JoinSet<()>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let mut tasks = JoinSet::new();
    tasks.spawn_local(async move {
        let mut connections = JoinSet::new();
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn_local(converse(stream, backend.clone(), behaviour));
                    while connections.try_join_next().is_some() {}
                }
                // Out of files, most likely: the ones in use may be closed in a moment.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    });
    Ok((address, tasks))
}

/// Answers one keep-alive connection's requests, in order.
async fn converse(mut stream: TcpStream, backend: Rc<Backend>, behaviour: Behaviour) {
    const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    const FAILED: &[u8] = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n";
    const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let mut input = Vec::with_capacity(4096);
    loop {
        match stream.read_buf(&mut input).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        loop {
            let head = match http::request(&input) {
                Ok(Some(head)) if input.len() >= head.total() => head,
                Ok(_) => break,
                Err(_) => {
                    backend.malformed.set(backend.malformed.get() + 1);
                    let _ = stream.write_all(BAD).await;
                    return;
                }
            };
            let body = &input[head.body_at..head.total()];
            let answer = if rand::random::<f64>() * 100.0 < behaviour.fail_percent {
                let failed = &backend.failed_on_purpose;
                failed.set(failed.get() + 1);
                FAILED
            } else if backend.receive(body, Instant::now()) {
                OK
            } else {
                BAD
            };
            input.drain(..head.total());
            if !behaviour.delay.is_zero() {
                tokio::time::sleep(behaviour.delay).await;
            }
            if stream.write_all(answer).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(connection: &str, seq: u64, id: &str, message: &str) -> Vec<u8> {
        format!(
            r#"{{"type":"x","connection_id":"{connection}","seq":{seq},"event_id":"{id}"{message}}}"#
        )
        .into_bytes()
    }

    fn message(n: usize) -> String {
        format!(r#","message":{{"type":"bench","pad":"é","deep":["bench-9-0-{n}"]}}"#)
    }

    #[test]
    fn tells_duplicates_order_and_gaps() {
        let arrived = Rc::new(Cell::new(0));
        let counter = arrived.clone();
        let count = move |_, _, _| counter.set(counter.get() + 1);
        let backend = Backend::new(Mark::new(9), 1, Box::new(count));
        let now = Instant::now();
        for body in [
            event("a", 1, "1", ""),
            event("a", 2, "2", &message(0)),
            event("a", 2, "2", &message(0)),
            event("a", 5, "5", &message(3)),
            event("a", 4, "4", &message(2)),
            event("old", 7, "x", ""),
            event(
                "old",
                8,
                "y",
                r#","message":{"type":"bench","bench":"bench-8-0-1"}"#,
            ),
        ] {
            assert!(backend.receive(&body, now));
        }
        assert!(!backend.receive(b"[]", now));
        let expected = Totals {
            unique: 3,
            duplicate: 1,
            reordered: 1,
        };
        assert_eq!(backend.totals(), expected);
        assert_eq!(arrived.get(), 3);
        assert_eq!(backend.missing_events(), 1);
        assert_eq!(backend.malformed.get(), 1);
    }

    #[test]
    fn connected_after_a_message_is_out_of_order() {
        let backend = Backend::new(Mark::new(9), 1, Box::new(|_, _, _| {}));
        backend.receive(&event("a", 2, "2", &message(0)), Instant::now());
        backend.receive(&event("a", 1, "1", ""), Instant::now());
        assert_eq!(backend.totals().reordered, 1);
    }
}
