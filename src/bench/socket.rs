//! One open WebSocket: a reader that answers pings and a writer that several tasks may use.
//!
//! Stands on the halves of a connection that `connector` has upgraded.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio::io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::Mutex;

use super::frame::{self, Kind};
use super::net::{ReadEnd, WriteEnd};

/// Where every socket's bytes land first. One for all: thousands of idle sockets then cost the
/// tool no buffers, and only an incomplete frame is ever copied aside.
#[derive(Clone)]
pub(crate) struct Scratch(Rc<RefCell<Box<[u8]>>>);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0; 64 << 10].into())))
    }
}

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    /// Close code; 1006 when the connection was just lost.
    pub(crate) code: u16,
    /// The server's words.
    pub(crate) reason: String,
}

impl Closed {
    fn lost(reason: impl Into<String>) -> Self {
        Self {
            code: 1006,
            reason: reason.into(),
        }
    }
}

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The reason is the server's own text.
        let reason = crate::cli::clean(&self.reason);
        write!(f, "{} {reason}", self.code)
    }
}

/// The sending half; frames of different tasks never mix.
#[derive(Clone)]
pub(crate) struct Writer(Rc<Mutex<WriteEnd>>);

impl Writer {
    /// Sends whole frames.
    pub(crate) async fn send(&self, frames: &[u8]) -> std::io::Result<()> {
        let mut end = self.0.lock().await;
        end.write_all(frames).await?;
        // TLS may keep back what a full socket did not take.
        end.flush().await
    }
}

/// The receiving half.
pub(crate) struct Reader {
    half: ReadEnd,
    writer: Writer,
    partial: Vec<u8>,
    scratch: Scratch,
}

/// Makes a socket of a connection whose handshake is over; `early` came along with it.
pub(crate) fn open(
    half: ReadEnd,
    write: WriteEnd,
    early: Vec<u8>,
    scratch: Scratch,
) -> (Reader, Writer) {
    let writer = Writer(Rc::new(Mutex::new(write)));
    let reader = Reader {
        half,
        writer: writer.clone(),
        partial: early,
        scratch,
    };
    (reader, writer)
}

/// What one look at the bytes brought besides messages.
#[derive(Default)]
struct Control {
    answer: Vec<u8>,
    closed: Option<Closed>,
}

impl Reader {
    /// Reads until the socket ends, handing over every message.
    pub(crate) async fn run(&mut self, mut on_message: impl FnMut(&[u8])) -> Closed {
        // The handshake's last read may have brought frames: nothing else would announce them.
        let mut control = Control::default();
        let early = std::mem::take(&mut self.partial);
        self.take_frames(&early, &mut on_message, &mut control);
        loop {
            if !control.answer.is_empty() {
                // A failure to send shows itself as the end of the reading side.
                let _ = self.writer.send(&control.answer).await;
            }
            if let Some(closed) = control.closed {
                return closed;
            }
            control = Control::default();
            if let Err(error) = self.read(&mut on_message, &mut control).await {
                return Closed::lost(error.to_string());
            }
        }
    }

    /// One read, taken apart before anybody else may use the scratch buffer.
    async fn read(
        &mut self,
        on_message: &mut impl FnMut(&[u8]),
        control: &mut Control,
    ) -> std::io::Result<()> {
        poll_fn(|context| {
            let scratch = self.scratch.clone();
            let mut scratch = scratch.0.borrow_mut();
            let mut buffer = ReadBuf::new(&mut scratch);
            match Pin::new(&mut self.half).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                control.closed = Some(Closed::lost("connection closed without a close frame"));
            } else if self.partial.is_empty() {
                self.take_frames(bytes, on_message, control);
            } else {
                let mut joined = std::mem::take(&mut self.partial);
                joined.extend_from_slice(bytes);
                self.take_frames(&joined, on_message, control);
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    fn take_frames(
        &mut self,
        mut bytes: &[u8],
        on_message: &mut impl FnMut(&[u8]),
        control: &mut Control,
    ) {
        while control.closed.is_none() {
            match frame::decode(&mut bytes) {
                Ok(Some(frame)) => match frame.kind {
                    Kind::Message => on_message(frame.payload),
                    Kind::Ping => frame::encode_pong(frame.payload, &mut control.answer),
                    Kind::Pong => {}
                    Kind::Close => {
                        let (code, reason) = frame.close_reason();
                        frame::encode_close(&mut control.answer);
                        control.closed = Some(Closed { code, reason });
                    }
                },
                Ok(None) => break,
                Err(error) => control.closed = Some(Closed::lost(error)),
            }
        }
        self.partial.extend_from_slice(bytes);
    }
}
