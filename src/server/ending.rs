//! How a connection ends on the wire: the close frame, the peer's answer, the end of TCP.
//!
//! Stands behind the connection's task, which decides that and why it ends; nothing here waits longer than
//! [`CLOSE_TIMEOUT`].

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame};

use super::State;
use super::framing::Framed;
use crate::close::{Close, Ended};
use crate::session::Session;

/// How long a client has to answer a close frame, and a dying connection to take what is still written to it.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a connection ends.
#[derive(Debug)]
pub(super) enum End {
    /// The gateway closes it; after a broken frame the stream cannot be parsed any further.
    Ours { close: Close, broken: bool },
    /// The client closed it.
    Theirs(Ended),
    /// It was lost.
    Lost,
}

impl From<Close> for End {
    fn from(close: Close) -> Self {
        Self::Ours {
            close,
            broken: false,
        }
    }
}

/// What the end of a connection needs of it.
pub(super) struct Ending<'a, S> {
    pub(super) stream: &'a mut Framed<S>,
    pub(super) session: &'a Session,
    pub(super) state: &'a State,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Ending<'_, S> {
    /// Ends the connection on the wire; says how it ended, for the backend.
    pub(super) async fn close(&mut self, end: End) -> Ended {
        let deadline = Instant::now() + CLOSE_TIMEOUT;
        let ended = match end {
            End::Lost => Ended::lost(),
            End::Theirs(ended) => {
                // The library has the answer ready; the client may be gone already.
                let _ = timeout_at(
                    deadline,
                    poll_fn(|cx| Pin::new(&mut *self.stream).poll_flush(cx)),
                )
                .await;
                ended
            }
            End::Ours { close, broken } => {
                let reason = timeout_at(deadline, self.close_handshake(&close, broken)).await;
                Ended {
                    code: close.code,
                    reason: reason.unwrap_or_default(),
                    by_peer: false,
                }
            }
        };
        // The client must not wait for the end of TCP until the backend has room for the last event.
        let _ = self.stream.get_mut().shutdown().await;
        ended
    }

    /// Sends what still waits, when to reconnect, and the close frame, then reads to the peer's; returns the peer's reason.
    async fn close_handshake(&mut self, close: &Close, broken: bool) -> String {
        while let Some(text) = self.session.outbox().pop(self.state.registry.limits()) {
            if send(self.stream, Frame::Text(text)).await.is_err() {
                return String::new();
            }
        }
        if let Some(hint) = close.reconnect_hint()
            && send(self.stream, Frame::Text(hint)).await.is_err()
        {
            return String::new();
        }
        if send_close(self.stream, close).await.is_err() {
            return String::new();
        }
        if broken {
            discard(self.stream.get_mut()).await;
            return String::new();
        }
        loop {
            match poll_fn(|cx| Pin::new(&mut *self.stream).poll_next(cx)).await {
                Some(Ok(Frame::Close(frame))) => {
                    return frame
                        .map(|frame| frame.reason.to_string())
                        .unwrap_or_default();
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return String::new(),
            }
        }
    }
}

/// Closes a socket that was never admitted.
pub(super) async fn turn_away(mut stream: Framed<TcpStream>, close: Close) {
    let closing = async {
        if send_close(&mut stream, &close).await.is_ok() {
            loop {
                match poll_fn(|cx| Pin::new(&mut stream).poll_next(cx)).await {
                    Some(Ok(Frame::Close(_)) | Err(_)) | None => break,
                    Some(Ok(_)) => {}
                }
            }
        }
    };
    // A client that ignores the close frame is cut.
    let _ = timeout_at(Instant::now() + CLOSE_TIMEOUT, closing).await;
}

async fn send_close<S>(stream: &mut Framed<S>, close: &Close) -> Result<(), WsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let frame = CloseFrame {
        code: close.code.into(),
        reason: close.reason.as_ref().into(),
    };
    send(stream, Frame::Close(Some(frame))).await
}

async fn send<S>(stream: &mut Framed<S>, frame: Frame) -> Result<(), WsError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| Pin::new(&mut *stream).poll_ready(cx)).await?;
    Pin::new(&mut *stream).start_send(frame)?;
    poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await
}

/// Reads and forgets to the end: closing a socket with unread data resets it, and a reset may overtake the
/// close frame (RFC 6455 section 7.1.1).
async fn discard<S: AsyncRead + AsyncWrite + Unpin>(socket: &mut S) {
    let _ = socket.shutdown().await;
    let mut scrap = [0; 4096];
    while matches!(socket.read(&mut scrap).await, Ok(n) if n > 0) {}
}
