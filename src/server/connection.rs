//! One connection's task: reads messages through the stages, writes pushes, keeps time, and ends cleanly.
//!
//! A single task polls everything of its connection, so that an idle one costs one allocation for the task and
//! one small read buffer. At most one message is in the stages at a time: that keeps its order, and while a full
//! buffer makes it wait, the socket is not read and TCP slows the client.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};
use tokio_tungstenite::tungstenite::{Error as WsError, Message as Frame, Utf8Bytes};

use super::State;
use super::admission::Places;
use super::ending::{CLOSE_TIMEOUT, End, Ending};
use super::framing::{Framed, Room};
use super::stages::Stages;
use crate::clock::{numeric_date, seconds, unix_now};
use crate::close::{self, Answer, Close, Ended};
use crate::message::Message;
use crate::outbox::Registered;
use crate::pipeline::Generation;
use crate::presence::Sign;
use crate::session::Session;

/// Messages handled before the task lets others run.
const MESSAGES_PER_POLL: usize = 32;

/// Pushes written before the socket is flushed and looked at again.
const PUSHES_PER_FLUSH: usize = 64;

/// How often a connection is pinged, and how long it has to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heartbeat {
    pub(super) interval: Duration,
    pub(super) timeout: Duration,
}

impl Heartbeat {
    fn of(generation: &Generation) -> Self {
        let server = &generation.config.server;
        Self {
            interval: seconds(server.ping_interval_seconds),
            timeout: seconds(server.pong_timeout_seconds),
        }
    }
}

/// An open connection.
pub(super) struct Connection<S> {
    stream: Framed<S>,
    room: Room,
    session: Arc<Session>,
    state: Arc<State>,
    stages: Stages,
    unflushed: bool,
    /// Nothing can be written any more; what the client sent before it left is still read.
    gone: bool,
    heartbeat: Heartbeat,
    next_ping: Instant,
    pong_due: Option<Instant>,
    alarm: Pin<Box<Sleep>>,
    /// The token's end that the alarm is set by.
    alarm_expiry: Option<f64>,
    _places: Places,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Connection<S> {
    pub(super) fn new(
        stream: Framed<S>,
        session: Arc<Session>,
        state: Arc<State>,
        places: Places,
    ) -> Self {
        let stages = Stages::enter(Arc::clone(&session), Arc::clone(&state));
        let heartbeat = Heartbeat::of(stages.generation());
        // Connections that came together must not be pinged together for ever after.
        let first = heartbeat.interval.mul_f64(rand::random_range(0.5..=1.0));
        let next_ping = Instant::now() + first;
        let mut connection = Self {
            stream,
            room: Room::default(),
            session,
            state,
            stages,
            unflushed: false,
            gone: false,
            heartbeat,
            next_ping,
            pong_due: None,
            alarm: Box::pin(tokio::time::sleep_until(next_ping)),
            alarm_expiry: None,
            _places: places,
        };
        connection.set_alarm();
        connection
    }

    /// Serves the connection to its end, and tells the backend of it.
    ///
    /// Boxed, since a future keeps a second place for an argument that it owns.
    pub(super) async fn serve(mut self: Box<Self>) {
        let end = poll_fn(|cx| self.poll_open(cx)).await;
        // Boxed, so that the room for a connection's end is taken when it ends, and not while it is idle.
        let ended = Box::pin(self.end(end)).await;
        let Self {
            stream,
            session,
            state,
            stages,
            _places: places,
            ..
        } = *self;
        // The last event may have to wait for room in a buffer; the file descriptor need not.
        drop(stream);
        state.registry.unregister(&session);
        state.in_force.load().presence.disconnected(&session);
        state.metrics.disconnects_total.inc();
        state.metrics.connections.dec();
        state
            .metrics
            .closes_total
            .with_label_values(&[&*ended.label()])
            .inc();
        tracing::info!(
            event = "ws_disconnected",
            connection_id = %session.id(),
            user_id = %session.user_id(),
            close_code = ended.code,
        );
        Box::pin(stages.leave(&ended)).await;
        drop(places);
    }

    /// Ends the connection on the wire. The message in the stages goes on meanwhile, since others may wait for it to
    /// enter a full buffer; but its end is not waited for.
    async fn end(&mut self, end: End) -> Ended {
        self.stream.get_mut().read_freely();
        let (stages, mut ending) = (
            &mut self.stages,
            Ending {
                stream: &mut self.stream,
                session: &self.session,
                state: &self.state,
            },
        );
        let mut told = pin!(ending.close(end));
        poll_fn(|cx| {
            stages.poll_settled(cx);
            told.as_mut().poll(cx)
        })
        .await
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        for _ in 0..MESSAGES_PER_POLL {
            if let Some(end) = self.poll_stages(cx) {
                return Poll::Ready(end);
            }
            if self.stages.follow_reload() {
                self.follow_heartbeat();
            }
            if let Some(end) = self.poll_alarm(cx) {
                return Poll::Ready(end);
            }
            match self.poll_write(cx) {
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(close))) => return Poll::Ready(close.into()),
                Poll::Ready(Err(_)) => self.lose(),
                // Reading on would only pile up answers that cannot be written.
                Poll::Pending => {
                    return match self.session.outbox().register_for_close(cx.waker()) {
                        Some(close) => Poll::Ready(close.into()),
                        None => Poll::Pending,
                    };
                }
            }
            if self.stages.busy() || self.owes_many() {
                return Poll::Pending;
            }
            let Poll::Ready(next) = Pin::new(&mut self.stream).poll_next(cx) else {
                if self.room.took_large() && !self.gone {
                    if self.room.give_back(&mut self.stream) {
                        // The new stream is to wake the task.
                        continue;
                    }
                    return Poll::Ready(End::Lost);
                }
                return Poll::Pending;
            };
            match next {
                Some(Ok(frame)) => {
                    if let Some(end) = self.take(frame) {
                        return Poll::Ready(end);
                    }
                }
                Some(Err(error)) => {
                    return Poll::Ready(match close::stream(&error) {
                        Some(close) => End::Ours {
                            close,
                            broken: true,
                        },
                        None => End::Lost,
                    });
                }
                None => return Poll::Ready(End::Lost),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Whether the client waits for so many acknowledgements that nothing more is read; the outbox wakes the task.
    fn owes_many(&self) -> bool {
        !self.gone && self.session.outbox().owes_many()
    }

    /// Lets the message in the stages go on, and does what becomes of it.
    fn poll_stages(&mut self, cx: &mut Context<'_>) -> Option<End> {
        match self.stages.poll(cx)? {
            Answer::Reply(text) => {
                self.send(text);
                None
            }
            Answer::Close(close) => Some(close.into()),
        }
    }

    /// Takes over how often a newer generation pings.
    fn follow_heartbeat(&mut self) {
        let heartbeat = Heartbeat::of(self.stages.generation());
        if heartbeat.interval < self.heartbeat.interval {
            // Connections must not all be pinged together because a reload woke them together.
            let soon = heartbeat.interval.mul_f64(rand::random_range(0.5..=1.0));
            self.next_ping = self.next_ping.min(Instant::now() + soon);
        }
        self.heartbeat = heartbeat;
        self.set_alarm();
    }

    /// Takes a frame from the client.
    fn take(&mut self, frame: Frame) -> Option<End> {
        self.room.took(&frame);
        self.stream.get_mut().took();
        let message = match frame {
            Frame::Text(text) => Message::text(text, self.stages.fields()),
            Frame::Binary(bytes) => Message::binary(&bytes),
            Frame::Pong(_) => {
                self.session.seen(unix_now());
                if !self.gone {
                    self.pong_due = None;
                    self.set_alarm();
                }
                return None;
            }
            // The library answers by itself; the answer is written with the next flush.
            Frame::Ping(_) => {
                self.session.seen(unix_now());
                self.unflushed = !self.gone;
                return None;
            }
            Frame::Close(frame) => return Some(End::Theirs(Ended::by_peer(frame))),
            Frame::Frame(_) => return None,
        };
        self.state.metrics.messages_total.inc();
        self.session.seen(unix_now());
        let sign = match message.type_name().as_deref() {
            Some("ping" | "heartbeat") => Sign::Beat,
            _ => Sign::Message,
        };
        self.state
            .in_force
            .load()
            .presence
            .heard(&self.session, sign);
        self.stages.take(message);
        None
    }

    fn send(&mut self, text: Utf8Bytes) {
        if self.gone {
            return;
        }
        self.unflushed = true;
        // A renewed token moves the end of the connection, and is answered like any other control message.
        if self.session.expires_at() != self.alarm_expiry {
            self.set_alarm();
        }
        self.room.wrote(text.len());
        if Pin::new(&mut self.stream)
            .start_send(Frame::Text(text))
            .is_err()
        {
            self.lose();
        }
    }

    /// Notes that nothing can be written any more: messages that the client sent before it left may still be on
    /// their way through the socket, and they count.
    fn lose(&mut self) {
        self.gone = true;
        self.unflushed = false;
        self.pong_due = Some(Instant::now() + CLOSE_TIMEOUT);
        self.set_alarm();
    }

    /// Writes what is to be written; pending while the client does not read. Gives the close that was asked for.
    ///
    /// Several waiting pushes share a flush and so a system call, while a lone one is never delayed.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Close>, WsError>> {
        if self.gone {
            return Poll::Ready(Ok(None));
        }
        loop {
            if self.unflushed {
                ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
                self.unflushed = false;
                self.room.flushed();
            }
            for _ in 0..PUSHES_PER_FLUSH {
                let Poll::Ready(ready) = Pin::new(&mut self.stream).poll_ready(cx) else {
                    self.unflushed = true;
                    return Poll::Pending;
                };
                ready?;
                let Some(text) = self.session.outbox().pop(self.state.registry.limits()) else {
                    break;
                };
                self.room.wrote(text.len());
                Pin::new(&mut self.stream).start_send(Frame::Text(text))?;
                self.unflushed = true;
            }
            if self.unflushed {
                continue;
            }
            match self.session.outbox().register(cx.waker()) {
                Registered::Push => {}
                Registered::Nothing => return Poll::Ready(Ok(None)),
                Registered::Close(close) => return Poll::Ready(Ok(Some(close))),
            }
        }
    }

    fn poll_alarm(&mut self, cx: &mut Context<'_>) -> Option<End> {
        while self.alarm.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            if self
                .session
                .expires_at()
                .is_some_and(|at| until(at).is_zero())
            {
                return Some(Close::expired().into());
            }
            if self.pong_due.is_some_and(|due| due <= now) {
                if self.unflushed {
                    // The ping itself may not have left: the client does not read.
                    return Some(Close::too_slow().into());
                }
                if self.stages.busy() || self.owes_many() || self.stream.get_ref().is_held_up() {
                    // The pong may lie unread behind a message that waits for a full buffer, or for answers, or that is
                    // too large to be read now.
                    self.pong_due = Some(now + self.heartbeat.timeout);
                } else {
                    return Some(End::Lost);
                }
            }
            if self.next_ping <= now {
                self.next_ping = now + self.heartbeat.interval;
                if !self.gone && !self.unflushed && !self.room.give_back(&mut self.stream) {
                    return Some(End::Lost);
                }
                if self.pong_due.is_none() {
                    self.pong_due = Some(now + self.heartbeat.timeout);
                    self.unflushed = true;
                    if Pin::new(&mut self.stream)
                        .start_send(Frame::Ping(bytes::Bytes::new()))
                        .is_err()
                    {
                        self.lose();
                    }
                }
            }
            self.set_alarm();
        }
        None
    }

    /// One timer for everything the connection waits for: the next ping, a pong, the token's end.
    fn set_alarm(&mut self) {
        let mut at = self.next_ping;
        if let Some(due) = self.pong_due {
            at = at.min(due);
        }
        self.alarm_expiry = self.session.expires_at();
        if let Some(expires_at) = self.alarm_expiry {
            at = at.min(Instant::now() + until(expires_at));
        }
        self.alarm.as_mut().reset(at);
    }
}

/// The time left to a moment in Unix seconds, in whole microseconds; a year for whatever lies further off.
///
/// Unix seconds in floating point are exact to a quarter of a microsecond: without rounding, a timer that has
/// milliseconds would often come one late.
fn until(unix: f64) -> Duration {
    const MICROSECOND: Duration = Duration::from_micros(1);
    let left = seconds(unix - numeric_date());
    if left.is_zero() {
        return left;
    }
    let micros = (left + MICROSECOND / 2).as_micros();
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX)).max(MICROSECOND)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    fn future_of<F: Future>(_: fn(Box<Connection<TcpStream>>) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn an_idle_connection_holds_no_room_for_its_end() {
        let future = future_of(Connection::serve);
        assert!(
            future <= 128,
            "the task of an idle connection takes {future} bytes"
        );
    }
}
