//! Opens the clients' sockets and keeps them.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use indicatif::ProgressBar;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::args::Shared;
use crate::socket::{self, Closed, Reader, Scratch, Writer};
use crate::target::Target;
use crate::token::Signer;
use crate::{Result, http, process, progress};

/// Opens single sockets.
pub(crate) struct Connector {
    target: Target,
    source_addresses: u8,
    timeout: Duration,
    scratch: Scratch,
}

impl Connector {
    /// Prepares for the gateway that the options name.
    pub(crate) fn new(shared: &Shared) -> Result<Self> {
        Ok(Self {
            target: Target::parse(&shared.url, "ws", shared.allow_remote)?,
            source_addresses: shared.source_addresses,
            timeout: Duration::from_secs_f64(shared.stall_seconds.max(1.0)),
            scratch: Scratch::new(),
        })
    }

    /// Opens the socket of client `index`.
    pub(crate) async fn open(
        &self,
        index: usize,
        token: Option<&str>,
    ) -> Result<(Reader, Writer), String> {
        match timeout(self.timeout, self.handshake(index, token)).await {
            Ok(result) => result,
            Err(_) => Err("no answer to the handshake in time".to_owned()),
        }
    }

    async fn handshake(
        &self,
        index: usize,
        token: Option<&str>,
    ) -> Result<(Reader, Writer), String> {
        let mut stream = self.dial(index).await.map_err(|error| error.to_string())?;
        let authorization = token
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default();
        // The key is fixed and the answer to it unchecked: what answers here is a gateway under
        // test, and its conformance is tested elsewhere.
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             {authorization}\r\n",
            self.target.path, self.target.authority
        );
        let io = |error: std::io::Error| error.to_string();
        stream.write_all(request.as_bytes()).await.map_err(io)?;
        let mut answer = Vec::with_capacity(512);
        loop {
            if stream.read_buf(&mut answer).await.map_err(io)? == 0 {
                return Err("connection closed during the handshake".to_owned());
            }
            match http::response(&answer)? {
                Some(head) if head.status == 101 => {
                    let early = answer.split_off(head.body_at);
                    return Ok(socket::open(stream, early, self.scratch.clone()));
                }
                Some(head) => return Err(format!("the gateway answered HTTP {}", head.status)),
                None => {}
            }
        }
    }

    async fn dial(&self, index: usize) -> std::io::Result<TcpStream> {
        let stream = if self.source_addresses > 1 && self.target.address.is_ipv4() {
            let last = 1 + (index % usize::from(self.source_addresses)) as u8;
            let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, last));
            let socket = TcpSocket::new_v4()?;
            socket.bind(SocketAddr::new(source, 0))?;
            socket.connect(self.target.address).await?
        } else {
            TcpStream::connect(self.target.address).await?
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Signs the tokens of users 0 to `count` - 1 ahead of time, since that is slow.
pub(crate) fn tokens(
    shared: &Shared,
    count: usize,
    more_claims: &str,
) -> Result<Vec<Option<String>>> {
    let signer = Signer::open(shared.private_key.as_deref())?;
    let bar = progress::bar("tokens", count as u64);
    let tokens = (0..count)
        .map(|user| {
            bar.inc(1);
            signer.sign(user, more_claims)
        })
        .collect();
    bar.finish_and_clear();
    tokens
}

/// Many open sockets, each read by a task of its own.
pub(crate) struct Fleet {
    writers: Vec<Writer>,
    readers: JoinSet<()>,
    state: Rc<FleetState>,
}

#[derive(Default)]
struct FleetState {
    closed: Cell<usize>,
    first_close: RefCell<Option<Closed>>,
    closing: Cell<bool>,
}

/// What the tasks that open a fleet share.
struct Opening<F> {
    connector: Connector,
    tokens: Vec<Option<String>>,
    next: Cell<usize>,
    opened: RefCell<Vec<Option<(Reader, Writer)>>>,
    on_message: F,
    bar: ProgressBar,
}

impl Fleet {
    /// Opens one socket per token; `on_message` gets every message with its client's number.
    pub(crate) async fn open<F>(
        shared: &Shared,
        tokens: Vec<Option<String>>,
        on_message: F,
    ) -> Result<Self>
    where
        F: Fn(usize, &[u8]) + Clone + 'static,
    {
        let count = tokens.len();
        process::check_file_limit(count)?;
        let opening = Rc::new(Opening {
            connector: Connector::new(shared)?,
            tokens,
            next: Cell::new(0),
            opened: RefCell::new((0..count).map(|_| None).collect()),
            on_message,
            bar: progress::bar("connecting", count as u64),
        });
        let mut workers = JoinSet::new();
        for _ in 0..shared.connect_concurrency.min(count) {
            workers.spawn_local(open_some(opening.clone()));
        }
        while let Some(done) = workers.join_next().await {
            done??;
        }
        opening.bar.finish_and_clear();
        let mut fleet = Self {
            writers: Vec::with_capacity(count),
            readers: JoinSet::new(),
            state: Rc::default(),
        };
        let opened = opening.opened.take();
        for (index, (reader, writer)) in opened.into_iter().flatten().enumerate() {
            fleet.writers.push(writer);
            fleet.watch(index, reader, opening.on_message.clone());
        }
        Ok(fleet)
    }

    fn watch(
        &mut self,
        index: usize,
        mut reader: Reader,
        on_message: impl Fn(usize, &[u8]) + 'static,
    ) {
        let state = self.state.clone();
        self.readers.spawn_local(async move {
            let closed = reader.run(|message| on_message(index, message)).await;
            if !state.closing.get() {
                state.closed.set(state.closed.get() + 1);
                state.first_close.borrow_mut().get_or_insert(closed);
            }
        });
    }

    /// The sending halves, by client number.
    pub(crate) fn writers(&self) -> &[Writer] {
        &self.writers
    }

    /// How many sockets the server has ended, and how the first one ended.
    pub(crate) fn closed(&self) -> (usize, Option<Closed>) {
        (
            self.state.closed.get(),
            self.state.first_close.borrow().clone(),
        )
    }

    /// Closes every socket properly; those that do not end in time are cut.
    pub(crate) async fn close(mut self) {
        self.state.closing.set(true);
        let mut close = Vec::new();
        crate::frame::encode_close(&mut close);
        for writer in &self.writers {
            // Gone already is fine here.
            let _ = writer.send(&close).await;
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        while let Ok(Some(_)) = tokio::time::timeout_at(deadline, self.readers.join_next()).await {}
    }
}

async fn open_some<F>(opening: Rc<Opening<F>>) -> Result<(), String> {
    loop {
        let index = opening.next.get();
        let Some(token) = opening.tokens.get(index) else {
            return Ok(());
        };
        opening.next.set(index + 1);
        let socket = opening
            .connector
            .open(index, token.as_deref())
            .await
            .map_err(|error| format!("connection {} failed: {error}", index + 1))?;
        opening.opened.borrow_mut()[index] = Some(socket);
        opening.bar.inc(1);
    }
}
