//! WebSocket framing on a socket, and buffers that do not stay as large as the largest message.
//!
//! Stands between the socket and the connection's task. The library's buffers grow for a large message, or for many
//! pushes in one write, and keep that size. So after a large message, and now and then, a connection that had grown them gets
//! new ones while nothing lies in them; how it is known that nothing does is said at [`Room::is_empty`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use crate::intake::{Intake, Turn};

/// Resident for each idle connection; larger messages make it grow.
const READ_BUFFER: usize = 1024;

/// Pushes are gathered up to this size before they are written.
const WRITE_BUFFER: usize = 16 * 1024;

/// Bytes of a message, or of what is written at once, beyond which buffers are worth being replaced, and of a message
/// beyond which it is held up while too many wait.
const LARGE: usize = 4 * 1024;

/// A client's socket with WebSocket framing on it.
pub(super) type Framed<S> = WebSocketStream<Counted<S>>;

/// Puts framing on a socket from which some bytes have been read already.
pub(super) async fn frame<S>(
    io: S,
    early: Vec<u8>,
    max_message_bytes: usize,
    intake: Arc<Intake>,
) -> Framed<S>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        // No bound is needed beside the connection's own: it writes nothing more while a flush is pending.
        .max_write_buffer_size(usize::MAX)
        .max_message_size(Some(max_message_bytes))
        .max_frame_size(Some(max_message_bytes));
    let counted = Counted {
        read: early.len() as u64,
        began: 0,
        intake,
        turn: None,
        io: Some(io),
    };
    Framed::from_partially_read(counted, early, Role::Server, Some(config)).await
}

/// A socket that counts the bytes read from it, and holds large messages up while many wait for room.
pub(super) struct Counted<S> {
    read: u64,
    /// What was read when the last frame was taken.
    began: u64,
    intake: Arc<Intake>,
    turn: Turn,
    /// Only while the buffers are replaced there is none.
    io: Option<S>,
}

impl<S> Counted<S> {
    /// Notes that a frame was taken, so that what follows belongs to another.
    pub(super) fn took(&mut self) {
        self.began = self.read;
    }

    /// Whether the rest of a large message is left unread.
    pub(super) fn is_held_up(&self) -> bool {
        self.turn.is_some()
    }

    /// Holds nothing up any more, since what is read goes nowhere.
    pub(super) fn read_freely(&mut self) {
        self.began = u64::MAX;
        self.turn = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.read.saturating_sub(this.began) > LARGE as u64 {
            ready!(this.intake.poll_open(&mut this.turn, cx));
        }
        let before = buf.filled().len();
        let Some(io) = &mut self.io else {
            return Poll::Ready(Ok(()));
        };
        let polled = Pin::new(io).poll_read(cx, buf);
        self.read += (buf.filled().len() - before) as u64;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_write(cx, bytes),
            None => Poll::Ready(Ok(0)),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.io {
            Some(io) => Pin::new(io).poll_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }
}

/// How large a connection's buffers have grown, and whether anything lies in them.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Bytes of the frames that were taken, as short as they can have been.
    taken: u64,
    /// Bytes handed over since the last flush.
    unflushed: usize,
    grown: bool,
    /// A large message was taken since the buffers were new.
    took_large: bool,
}

impl Room {
    /// Notes a frame from the client.
    pub(super) fn took(&mut self, frame: &Frame) {
        let len = frame.len();
        self.taken += wire_len(len);
        self.took_large |= len > LARGE;
        self.grown |= self.took_large;
    }

    /// Notes a text that is written to the client.
    pub(super) fn wrote(&mut self, len: usize) {
        self.unflushed += len;
    }

    /// Notes that all was flushed.
    pub(super) fn flushed(&mut self) {
        self.grown |= std::mem::take(&mut self.unflushed) > LARGE;
    }

    /// Whether all that was read has been taken.
    ///
    /// What a message took on the wire is not told, only how long it is. As one frame with the shortest header it is
    /// counted too short at most, and never too long: fragments and long headers make a connection look as if something
    /// were left, for good, and it keeps its buffers. When the counts are equal, nothing is.
    fn is_empty<S>(&self, stream: &Framed<S>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        stream.get_ref().read == self.taken
    }

    /// Whether a large message was taken since the buffers were new. They are given back once nothing more is there to read:
    /// until then, the buffer that the message came in stays whole, also after the message has gone.
    pub(super) fn took_large(&self) -> bool {
        self.took_large
    }

    /// Gives a flushed stream new buffers if its own have grown and are empty; false if the stream is lost by that,
    /// which the library does not let happen.
    pub(super) fn give_back<S>(&mut self, stream: &mut Framed<S>) -> bool
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        self.took_large = false;
        if !self.grown || !self.is_empty(stream) {
            return true;
        }
        let config = *stream.get_config();
        let old = stream.get_mut();
        let counted = Counted {
            read: old.read,
            began: old.read,
            intake: Arc::clone(&old.intake),
            turn: None,
            io: old.io.take(),
        };
        // Nothing is waited for: it is a future for the sake of the handshakes that it has in common with.
        let renewed = Framed::from_raw_socket(counted, Role::Server, Some(config)).now_or_never();
        self.grown = false;
        renewed.map(|renewed| *stream = renewed).is_some()
    }
}

/// Bytes that a client's frame takes at least: two of header, up to eight of length, four of mask (RFC 6455 section 5.2).
fn wire_len(len: usize) -> u64 {
    let length = match len {
        0..=125 => 0,
        126..=0xffff => 2,
        _ => 8,
    };
    2 + length + 4 + len as u64
}

#[cfg(test)]
mod tests {
    use futures_util::poll;
    use futures_util::{Sink as _, StreamExt as _};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;
    use crate::kept::Kept;
    use crate::telemetry::metrics::Metrics;

    const KEY: [u8; 4] = [1, 2, 3, 4];

    /// A masked frame, as clients send it.
    fn wire(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            len @ 0..=125 => out.push(0x80 | u8::try_from(len).unwrap()),
            len @ 126..=0xffff => {
                out.push(0xfe);
                out.extend(u16::try_from(len).unwrap().to_be_bytes());
            }
            len => {
                out.push(0xff);
                out.extend((len as u64).to_be_bytes());
            }
        }
        out.extend(KEY);
        let masked = payload.iter().zip(KEY.iter().cycle());
        out.extend(masked.map(|(byte, key)| byte ^ key));
        out
    }

    /// One that holds nothing up.
    fn intake() -> Arc<Intake> {
        Intake::of(&Kept::default(), &Metrics::new().unwrap())
    }

    struct Both {
        client: DuplexStream,
        stream: Framed<DuplexStream>,
        room: Room,
    }

    impl Both {
        async fn new() -> Self {
            Self::held_up_by(intake()).await
        }

        async fn held_up_by(intake: Arc<Intake>) -> Self {
            let (client, server) = tokio::io::duplex(1024 * 1024);
            Self {
                client,
                stream: frame(server, Vec::new(), 1024 * 1024, intake).await,
                room: Room::default(),
            }
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.client.write_all(bytes).await.unwrap();
        }

        /// The frame that is there, if a whole one is.
        async fn frame(&mut self) -> Option<Frame> {
            // What a task may read in one go is bounded.
            let mut next = tokio::task::unconstrained(self.stream.next());
            let Poll::Ready(frame) = poll!(&mut next) else {
                return None;
            };
            let frame = frame.unwrap().unwrap();
            self.room.took(&frame);
            self.stream.get_mut().took();
            Some(frame)
        }

        /// Whether the buffers are new ones.
        fn renewed(&mut self) -> bool {
            let grown = self.room.grown;
            assert!(self.room.give_back(&mut self.stream));
            grown && !self.room.grown
        }
    }

    #[tokio::test]
    async fn grown_buffers_are_replaced_once_nothing_lies_in_them() {
        let mut both = Both::new().await;
        for size in [5, 125, 126, 60_000, 70_000] {
            let text = "x".repeat(size);
            both.send(&wire(0x81, text.as_bytes())).await;
            assert_eq!(both.frame().await, Some(Frame::text(text)));
            assert_eq!(both.room.took_large(), size > LARGE, "{size}");
            assert_eq!(both.renewed(), size > LARGE, "{size}");
            assert!(!both.room.took_large());
        }
        // Part of a frame: it must not be lost.
        let text = "y".repeat(70_000);
        let bytes = wire(0x81, text.as_bytes());
        both.send(&[wire(0x81, &[b'z'; 9_000]), bytes[..3].to_vec()].concat())
            .await;
        assert!(both.frame().await.is_some());
        assert!(!both.renewed());
        both.send(&bytes[3..50_000]).await;
        assert!(both.frame().await.is_none() && !both.renewed());
        both.send(&bytes[50_000..]).await;
        assert_eq!(both.frame().await, Some(Frame::text(text)));
        assert!(both.renewed());
    }

    #[tokio::test]
    async fn what_came_in_fragments_is_safe_and_keeps_its_buffers() {
        let mut both = Both::new().await;
        let half = [b'a'; 8_000];
        both.send(&wire(0x81, &half)).await;
        assert!(both.frame().await.is_some());
        both.send(&wire(0x01, &half)).await;
        assert!(both.frame().await.is_none() && !both.renewed());
        both.send(&wire(0x89, b"ping")).await;
        assert_eq!(both.frame().await, Some(Frame::Ping("ping".into())));
        both.send(&wire(0x80, &half)).await;
        assert_eq!(both.frame().await.map(|frame| frame.len()), Some(16_000));
        assert!(!both.renewed());
    }

    #[tokio::test]
    async fn a_large_message_stays_unread_while_too_many_bytes_wait() {
        let intake = intake();
        intake.set_max(1_000);
        let waits = intake.wait(1_000);
        let mut both = Both::held_up_by(Arc::clone(&intake)).await;
        let large = wire(0x82, &vec![b'l'; 60_000]);
        // More of small ones than a large one has.
        let small = Frame::binary(vec![b's'; 1_000]);
        for _ in 0..10 {
            both.send(&wire(0x82, &[b's'; 1_000])).await;
            assert_eq!(both.frame().await.as_ref(), Some(&small));
        }
        both.send(&large).await;
        assert_eq!(both.frame().await, None);
        assert!(both.stream.get_ref().is_held_up());
        let read = both.stream.get_ref().read - both.stream.get_ref().began;
        assert!(read < 10_000, "{read} bytes are read");
        drop(waits);
        assert_eq!(both.frame().await.map(|frame| frame.len()), Some(60_000));
        assert!(!both.stream.get_ref().is_held_up());
        // The end of a connection is not held up.
        let _waits = intake.wait(1_000);
        both.send(&large).await;
        assert_eq!(both.frame().await, None);
        both.stream.get_mut().read_freely();
        assert_eq!(both.frame().await.map(|frame| frame.len()), Some(60_000));
    }

    #[tokio::test]
    async fn much_that_was_written_counts_as_well() {
        let mut both = Both::new().await;
        let text = "p".repeat(3_000);
        for _ in 0..2 {
            both.room.wrote(text.len());
            Pin::new(&mut both.stream)
                .start_send(Frame::text(text.clone()))
                .unwrap();
        }
        assert!(!both.room.grown);
        let flushed = std::future::poll_fn(|cx| Pin::new(&mut both.stream).poll_flush(cx));
        assert!(matches!(poll!(flushed), Poll::Ready(Ok(()))));
        both.room.flushed();
        assert!(both.renewed());
        let mut read = vec![0; 2 * (3_000 + 4)];
        both.client.read_exact(&mut read).await.unwrap();
        assert!(read.ends_with(text.as_bytes()));
    }
}
