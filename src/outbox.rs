//! The outbox: pushes that wait for one connection, bounded in number and bytes; and late answers.
//!
//! Filled by the registry from any task, emptied by the connection's own. A full outbox never waits: what it
//! does is the backpressure strategy, so that one slow client never delays another. A source that could read faster
//! than clients are written to paces itself by how full the outboxes are (`sources::pace`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::close::Close;
use crate::config::{BackpressureConfig, BackpressureStrategy, DropPolicy};

mod replies;

pub use replies::MAX_UNANSWERED;
use replies::Replies;

/// The bounds that all outboxes share, and how many pushes wait in all of them.
#[derive(Debug)]
pub struct OutboxLimits {
    config: ArcSwap<BackpressureConfig>,
    waiting: AtomicUsize,
    drained: Notify,
}

/// Times that a connection is waited for in vain before it is not waited for any more.
const MAX_STALLS: u8 = 3;

impl OutboxLimits {
    /// Takes the bounds from the configuration.
    #[must_use]
    pub fn new(config: BackpressureConfig) -> Self {
        Self {
            config: ArcSwap::from_pointee(config),
            waiting: AtomicUsize::new(0),
            drained: Notify::new(),
        }
    }

    /// Changes the bounds from now on; what waits already stays.
    pub fn set(&self, config: BackpressureConfig) {
        self.config.store(Arc::new(config));
    }

    /// Pushes that wait in all outboxes.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Completes when an outbox that is watched has drained or ended.
    pub(crate) fn drained(&self) -> Notified<'_> {
        self.drained.notified()
    }

    /// Whether so much waits in all outboxes that only an empty one is sure to take a push.
    fn is_pressed(&self) -> bool {
        self.waiting() > self.config.load().global_buffer / 2
    }
}

/// What became of a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It waits in the outbox.
    Queued,
    /// It waits, and the outbox is so full that whoever pushes on and on should wait.
    Crowding,
    /// It waits, and so many of the oldest were lost for it.
    QueuedDropping(u64),
    /// It was lost.
    Dropped,
    /// The outbox was full and the connection is being closed with 4408; so many are lost, this one among them.
    Overflowed(u64),
    /// The connection is already closing.
    Closed,
}

/// Pushes that wait for one connection.
#[derive(Debug, Default)]
pub struct Outbox {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a fact of its own, and they take no room"
)]
struct Inner {
    queue: VecDeque<Utf8Bytes>,
    /// Late answers; boxed, since few gateways give any.
    replies: Option<Box<Replies>>,
    bytes: usize,
    close: Option<Close>,
    closed: bool,
    waker: Option<Waker>,
    only_close: bool,
    /// Someone waits until it has drained.
    watched: bool,
    /// It was waited for in vain, and was not empty since.
    stalled: bool,
    stalls: u8,
    /// Pushes taken from it so far, modulo 65,536; small, since every connection has one.
    taken: u16,
}

/// What waits in an outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// Nothing; the waker is called when that changes.
    Nothing,
    /// A push or an answer.
    Push,
    /// Someone asked to close.
    Close(Close),
}

impl Outbox {
    /// Adds a push, or does what the backpressure strategy says of a full outbox.
    pub fn push(&self, text: Utf8Bytes, limits: &OutboxLimits) -> Pushed {
        let config = limits.config.load();
        let mut inner = self.inner.lock();
        if inner.closed || inner.close.is_some() {
            return Pushed::Closed;
        }
        // An empty outbox takes one push whatever its size and whatever the others hold: its client reads, and
        // must not lose pushes to those that do not. The total is bounded all the same, by one push a connection.
        let full = !inner.queue.is_empty()
            && (inner.queue.len() >= config.per_conn_buffer
                || inner.bytes + text.len() > config.per_conn_bytes
                || limits.waiting() >= config.global_buffer);
        let mut result = Pushed::Queued;
        if full {
            match (config.strategy, config.drop_policy) {
                (BackpressureStrategy::Close, _) => {
                    inner.close = Some(Close::too_slow());
                    let lost = inner.forget_all(limits) as u64 + 1;
                    inner.wake();
                    return Pushed::Overflowed(lost);
                }
                (BackpressureStrategy::Drop, DropPolicy::Newest) => return Pushed::Dropped,
                (BackpressureStrategy::Drop, DropPolicy::Oldest) => {
                    let mut lost = 0;
                    while lost == 0
                        || inner.queue.len() >= config.per_conn_buffer
                        || inner.bytes + text.len() > config.per_conn_bytes
                    {
                        if inner.pop(limits).is_none() {
                            break;
                        }
                        lost += 1;
                    }
                    result = Pushed::QueuedDropping(lost);
                }
            }
        }
        inner.bytes += text.len();
        inner.queue.push_back(text);
        limits.waiting.fetch_add(1, Ordering::Relaxed);
        if !inner.only_close {
            inner.wake();
        }
        if result == Pushed::Queued && inner.is_crowded(limits) {
            result = Pushed::Crowding;
        }
        result
    }

    /// How many pushes were taken so far, if the outbox is crowded and its connection deserves to be waited for.
    pub(crate) fn crowded(&self, limits: &OutboxLimits) -> Option<u16> {
        let inner = self.inner.lock();
        (inner.is_awaited() && inner.is_crowded(limits)).then_some(inner.taken)
    }

    /// Whether the outbox is still to be waited for; if so, [`OutboxLimits::drained`] tells when it no longer is.
    pub(crate) fn watch(&self, limits: &OutboxLimits) -> bool {
        let mut inner = self.inner.lock();
        inner.watched = inner.is_awaited() && !inner.is_drained(limits);
        inner.watched
    }

    /// Whether it is still to be waited for, as pushes were taken since `taken`, which is brought up to date.
    ///
    /// If none were, it counts as stalled.
    pub(crate) fn progresses(&self, taken: &mut u16, limits: &OutboxLimits) -> bool {
        let mut inner = self.inner.lock();
        if !inner.is_awaited() || inner.is_drained(limits) {
            return false;
        }
        let progresses = inner.taken != *taken;
        *taken = inner.taken;
        if !progresses {
            inner.stall();
        }
        progresses
    }

    /// Has it count as stalled, unless it has drained meanwhile.
    pub(crate) fn give_up(&self, limits: &OutboxLimits) {
        let mut inner = self.inner.lock();
        if inner.is_awaited() && !inner.is_drained(limits) {
            inner.stall();
        }
    }

    /// Asks the connection's task to close; the first asker's code and reason count.
    pub fn close(&self, close: Close) -> bool {
        let mut inner = self.inner.lock();
        if inner.closed || inner.close.is_some() {
            return false;
        }
        inner.close = Some(close);
        inner.wake();
        true
    }

    /// Wakes the connection's task, so that it looks at what else has changed.
    pub fn nudge(&self) {
        self.inner.lock().wake();
    }

    /// What is to be written next, for the connection's task: answers come before pushes.
    pub fn pop(&self, limits: &OutboxLimits) -> Option<Utf8Bytes> {
        let mut inner = self.inner.lock();
        let reply = inner.replies.as_mut().and_then(|replies| replies.pop());
        reply.or_else(|| inner.pop(limits))
    }

    /// The close that someone asked for.
    #[must_use]
    pub fn close_asked(&self) -> Option<Close> {
        self.inner.lock().close.clone()
    }

    /// Leaves word whom to wake for the next push or close, unless one is there already.
    pub fn register(&self, waker: &Waker) -> Registered {
        let mut inner = self.inner.lock();
        if let Some(close) = &inner.close {
            return Registered::Close(close.clone());
        }
        if !inner.queue.is_empty() || inner.replies.as_ref().is_some_and(|r| !r.is_empty()) {
            return Registered::Push;
        }
        inner.listen(waker, false);
        Registered::Nothing
    }

    /// Leaves word whom to wake for a close only, while the socket takes no more pushes anyway.
    pub fn register_for_close(&self, waker: &Waker) -> Option<Close> {
        let mut inner = self.inner.lock();
        if inner.close.is_none() {
            inner.listen(waker, true);
        }
        inner.close.clone()
    }

    /// Takes no more pushes or answers and forgets those that wait; returns how many pushes were lost.
    pub fn shut(&self, limits: &OutboxLimits) -> usize {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.waker = None;
        inner.replies = None;
        inner.forget_all(limits)
    }
}

impl Inner {
    fn pop(&mut self, limits: &OutboxLimits) -> Option<Utf8Bytes> {
        let text = self.queue.pop_front()?;
        self.bytes -= text.len();
        limits.waiting.fetch_sub(1, Ordering::Relaxed);
        self.taken = self.taken.wrapping_add(1);
        if self.queue.is_empty() {
            self.stalled = false;
        }
        if self.watched && self.is_drained(limits) {
            self.unwatch(limits);
        }
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            // An outbox that was once full must not hold its room for the rest of an idle connection.
            self.queue = VecDeque::new();
        }
        Some(text)
    }

    fn forget_all(&mut self, limits: &OutboxLimits) -> usize {
        let lost = self.queue.len();
        limits.waiting.fetch_sub(lost, Ordering::Relaxed);
        self.queue = VecDeque::new();
        self.bytes = 0;
        if self.watched {
            self.unwatch(limits);
        }
        lost
    }

    fn is_crowded(&self, limits: &OutboxLimits) -> bool {
        let config = limits.config.load();
        self.queue.len() > config.per_conn_buffer / 2
            || self.bytes > config.per_conn_bytes / 2
            || (limits.is_pressed() && !self.queue.is_empty())
    }

    /// Lower than where it becomes crowded, so that who waits does not wake for every single push.
    fn is_drained(&self, limits: &OutboxLimits) -> bool {
        let config = limits.config.load();
        self.queue.is_empty()
            || (self.queue.len() <= config.per_conn_buffer / 4
                && self.bytes <= config.per_conn_bytes / 4
                && !limits.is_pressed())
    }

    fn is_awaited(&self) -> bool {
        !self.closed && self.close.is_none() && !self.stalled && self.stalls < MAX_STALLS
    }

    fn stall(&mut self) {
        self.stalled = true;
        self.stalls = self.stalls.saturating_add(1);
    }

    fn unwatch(&mut self, limits: &OutboxLimits) {
        self.watched = false;
        limits.drained.notify_waiters();
    }

    fn listen(&mut self, waker: &Waker, only_close: bool) {
        self.only_close = only_close;
        match &mut self.waker {
            Some(known) => known.clone_from(waker),
            None => self.waker = Some(waker.clone()),
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(strategy: BackpressureStrategy, drop_policy: DropPolicy) -> OutboxLimits {
        OutboxLimits::new(BackpressureConfig {
            strategy,
            drop_policy,
            per_conn_buffer: 3,
            per_conn_bytes: 100,
            global_buffer: 5,
        })
    }

    fn drain(outbox: &Outbox, limits: &OutboxLimits) -> Vec<String> {
        std::iter::from_fn(|| outbox.pop(limits))
            .map(|t| t.to_string())
            .collect()
    }

    #[test]
    fn drop_oldest_keeps_the_latest() {
        let limits = limits(BackpressureStrategy::Drop, DropPolicy::Oldest);
        let outbox = Outbox::default();
        for n in 1..=3 {
            let pushed = outbox.push(format!("{n}").into(), &limits);
            assert_eq!(pushed == Pushed::Crowding, n > 1, "more than half full");
        }
        assert_eq!(outbox.push("4".into(), &limits), Pushed::QueuedDropping(1));
        assert_eq!(drain(&outbox, &limits), ["2", "3", "4"]);
        assert_eq!(limits.waiting(), 0);
    }

    #[test]
    fn drop_newest_keeps_the_first() {
        let limits = limits(BackpressureStrategy::Drop, DropPolicy::Newest);
        let outbox = Outbox::default();
        let results: Vec<_> = (1..=4)
            .map(|n| outbox.push(format!("{n}").into(), &limits))
            .collect();
        assert_eq!(results[3], Pushed::Dropped);
        assert_eq!(drain(&outbox, &limits), ["1", "2", "3"]);
    }

    #[test]
    fn close_forgets_what_waits_and_takes_no_more() {
        let limits = limits(BackpressureStrategy::Close, DropPolicy::Oldest);
        let outbox = Outbox::default();
        for _ in 0..3 {
            outbox.push("x".into(), &limits);
        }
        assert_eq!(outbox.push("x".into(), &limits), Pushed::Overflowed(4));
        assert_eq!(outbox.close_asked().map(|c| c.code), Some(4408));
        assert_eq!(outbox.push("x".into(), &limits), Pushed::Closed);
        assert_eq!(limits.waiting(), 0);
    }

    #[test]
    fn bytes_are_bounded_but_a_single_large_push_passes() {
        let limits = limits(BackpressureStrategy::Drop, DropPolicy::Newest);
        let outbox = Outbox::default();
        assert_eq!(
            outbox.push("x".repeat(500).into(), &limits),
            Pushed::Crowding
        );
        assert_eq!(outbox.push("y".into(), &limits), Pushed::Dropped);
    }

    #[test]
    fn the_total_is_bounded_over_all_outboxes() {
        let limits = limits(BackpressureStrategy::Drop, DropPolicy::Oldest);
        let (a, b) = (Outbox::default(), Outbox::default());
        for outbox in [&a, &b] {
            for _ in 0..3 {
                outbox.push("x".into(), &limits);
            }
        }
        assert_eq!(limits.waiting(), 5);
        assert_eq!(b.push("x".into(), &limits), Pushed::QueuedDropping(1));
        let reads = Outbox::default();
        assert_eq!(
            reads.push("x".into(), &limits),
            Pushed::Crowding,
            "slow clients take nothing from it"
        );
        assert_eq!(reads.push("x".into(), &limits), Pushed::QueuedDropping(1));
        a.shut(&limits);
        assert_eq!(reads.push("x".into(), &limits), Pushed::Crowding);
    }

    #[test]
    fn is_crowded_above_a_half_and_drained_at_a_quarter() {
        let limits = OutboxLimits::new(BackpressureConfig {
            per_conn_buffer: 8,
            ..BackpressureConfig::default()
        });
        let outbox = Outbox::default();
        for n in 1..=5 {
            assert_eq!(outbox.crowded(&limits), None, "{n}");
            let pushed = outbox.push("x".into(), &limits);
            assert_eq!(pushed == Pushed::Crowding, n > 4, "{n}");
        }
        assert_eq!(outbox.crowded(&limits), Some(0));
        for left in (0..5).rev() {
            assert!(outbox.watch(&limits), "{left}");
            outbox.pop(&limits);
            if left == 2 {
                break;
            }
        }
        assert!(!outbox.watch(&limits));
    }

    #[test]
    fn who_takes_nothing_is_stalled_until_it_is_empty() {
        let limits = limits(BackpressureStrategy::Drop, DropPolicy::Newest);
        let outbox = Outbox::default();
        let fill = || while outbox.push("x".into(), &limits) != Pushed::Dropped {};
        fill();
        let mut taken = outbox.crowded(&limits).unwrap();
        outbox.pop(&limits);
        assert!(outbox.progresses(&mut taken, &limits));
        assert!(!outbox.progresses(&mut taken, &limits));
        fill();
        assert_eq!(outbox.crowded(&limits), None, "stalled");
        drain(&outbox, &limits);
        fill();
        assert!(outbox.crowded(&limits).is_some(), "caught up");
    }

    #[test]
    fn pacing_and_answers_take_no_room_in_a_connection() {
        assert_eq!(size_of::<Outbox>(), 112);
    }
}
