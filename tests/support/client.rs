//! A well-behaved WebSocket client.

use std::future::Future;
use std::net::SocketAddr;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderValue, Request, Response, Uri};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::WebSocketStream;
pub use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};

use super::{Gateway, within};

/// How a client asks for its connection.
pub struct Upgrade {
    address: SocketAddr,
    target: String,
    headers: Vec<(String, String)>,
    receive_buffer: Option<u32>,
}

impl Upgrade {
    pub fn to(gateway: &Gateway) -> Self {
        Self {
            address: gateway.address,
            target: "/ws".into(),
            headers: Vec::new(),
            receive_buffer: None,
        }
    }

    /// Replaces `/ws`.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub fn bearer(self, token: &str) -> Self {
        self.header("authorization", format!("Bearer {token}"))
    }

    /// Makes the kernel hold little on the client's side.
    pub fn receive_buffer(mut self, bytes: u32) -> Self {
        self.receive_buffer = Some(bytes);
        self
    }

    /// Makes the connection; an HTTP answer other than 101 is an error.
    pub async fn try_open(self) -> Result<(Client, Response<Option<Vec<u8>>>), Error> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = self.receive_buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        let stream = within("a TCP connection", socket.connect(self.address)).await?;
        stream.set_nodelay(true)?;
        let uri: Uri = format!("ws://{}{}", self.address, self.target)
            .parse()
            .unwrap();
        let mut request = Request::builder()
            .uri(uri)
            .header("host", self.address.to_string())
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header(
                "sec-websocket-key",
                tokio_tungstenite::tungstenite::handshake::client::generate_key(),
            );
        for (name, value) in &self.headers {
            request = request.header(name.as_str(), HeaderValue::from_str(value).unwrap());
        }
        let upgrading = tokio_tungstenite::client_async(request.body(()).unwrap(), stream);
        let (stream, response) = within("the upgrade", upgrading).await?;
        Ok((Client { stream }, response))
    }

    /// Makes the connection, whose upgrade must succeed.
    #[track_caller]
    pub fn open(self) -> impl Future<Output = Client> {
        let caller = std::panic::Location::caller();
        async move {
            match self.try_open().await {
                Ok((client, _)) => client,
                Err(error) => panic!("the upgrade failed at {caller}: {error:?}"),
            }
        }
    }

    /// Makes the connection, which must be refused by an HTTP answer.
    pub async fn refused(self) -> Response<Option<Vec<u8>>> {
        match self.try_open().await {
            Err(Error::Http(response)) => *response,
            Ok(_) => panic!("the upgrade succeeded"),
            Err(error) => panic!("no HTTP answer: {error:?}"),
        }
    }
}

/// An open connection.
pub struct Client {
    stream: WebSocketStream<TcpStream>,
}

/// The end of a connection as the client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code, 1005 for none, 1006 for a connection that was lost.
    pub code: u16,
    pub reason: String,
}

impl Client {
    /// Connects a user with a good token.
    pub async fn connect(gateway: &Gateway, user: &str) -> Self {
        Self::with_token(gateway, &super::token(user)).await
    }

    /// Connects users by their numbers, and waits until each is served.
    pub async fn connect_all(gateway: &Gateway, users: std::ops::Range<usize>) -> Vec<Self> {
        let mut clients = Vec::new();
        for user in users {
            clients.push(Self::connect(gateway, &user.to_string()).await);
        }
        for client in &mut clients {
            client.round_trip().await;
        }
        clients
    }

    /// Connects with any token in the header.
    pub async fn with_token(gateway: &Gateway, token: &str) -> Self {
        Upgrade::to(gateway).bearer(token).open().await
    }

    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) {
        within(
            "a message to be sent",
            self.stream.send(Frame::Text(text.into())),
        )
        .await
        .unwrap();
    }

    pub async fn send_json(&mut self, value: &Value) {
        self.send(value.to_string()).await;
    }

    pub async fn send_binary(&mut self, bytes: impl Into<Bytes>) {
        within(
            "a message to be sent",
            self.stream.send(Frame::Binary(bytes.into())),
        )
        .await
        .unwrap();
    }

    pub async fn send_frame(&mut self, frame: Frame) {
        within("a frame to be sent", self.stream.send(frame))
            .await
            .unwrap();
    }

    /// Queues a message without writing it out at once.
    pub async fn feed(&mut self, text: impl Into<Utf8Bytes>) {
        within(
            "a message to be sent",
            self.stream.feed(Frame::Text(text.into())),
        )
        .await
        .unwrap();
    }

    pub async fn flush(&mut self) {
        within("messages to be sent", self.stream.flush())
            .await
            .unwrap();
    }

    /// The next frame of any kind, or the end.
    pub async fn next(&mut self) -> Option<Result<Frame, Error>> {
        within("a frame", self.stream.next()).await
    }

    /// The next text message.
    #[track_caller]
    pub fn text(&mut self) -> impl Future<Output = String> {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                match self.next().await {
                    Some(Ok(Frame::Text(text))) => return text.to_string(),
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => {}
                    other => panic!("expected a message at {caller}, got {other:?}"),
                }
            }
        }
    }

    /// The next text message as JSON.
    #[track_caller]
    pub fn json(&mut self) -> impl Future<Output = Value> {
        let text = self.text();
        async move { serde_json::from_str(&text.await).unwrap() }
    }

    /// Sends a message and gives the next one.
    pub async fn ask(&mut self, text: impl Into<Utf8Bytes>) -> String {
        self.send(text).await;
        self.text().await
    }

    /// Asks for a pong, so that all that was sent before has passed the gateway's reading side.
    pub async fn round_trip(&mut self) {
        assert_eq!(self.ask(r#"{"type":"ping"}"#).await, r#"{"type":"pong"}"#);
    }

    /// Reads to the end and says how it came.
    pub async fn closed(&mut self) -> Closed {
        self.rest().await.1
    }

    /// Reads to the end; gives the text messages and how it ended.
    pub async fn rest(&mut self) -> (Vec<String>, Closed) {
        let mut texts = Vec::new();
        let mut closed = None;
        loop {
            match self.next().await {
                Some(Ok(Frame::Text(text))) => texts.push(text.to_string()),
                Some(Ok(Frame::Close(frame))) => {
                    closed = Some(match frame {
                        Some(CloseFrame { code, reason }) => Closed {
                            code: code.into(),
                            reason: reason.to_string(),
                        },
                        None => Closed {
                            code: 1005,
                            reason: String::new(),
                        },
                    });
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => {
                    let lost = Closed {
                        code: 1006,
                        reason: String::new(),
                    };
                    return (texts, closed.unwrap_or(lost));
                }
            }
        }
    }

    /// Closes with a code and a reason, or without either, and reads to the end.
    pub async fn close(mut self, frame: Option<(u16, &str)>) {
        let frame = frame.map(|(code, reason)| CloseFrame {
            code: code.into(),
            reason: reason.to_owned().into(),
        });
        self.send_frame(Frame::Close(frame)).await;
        self.closed().await;
    }

    /// Resets the TCP connection.
    pub fn reset(self) {
        let stream = self.stream.into_inner();
        socket2::SockRef::from(&stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .unwrap();
    }

    /// Writes bytes behind the library's back.
    pub fn tcp(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }
}
