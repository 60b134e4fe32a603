//! Answers to a connection's own messages that come later than the message left the stages: acknowledgements.
//!
//! Stands beside the pushes in the outbox and is not subject to their backpressure: an answer is never dropped while
//! its connection is open. What bounds them is that each was promised when its message was taken, and that no message
//! is read while too many are promised.

use std::collections::VecDeque;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Outbox;

/// Answers that one connection may wait for; beyond, nothing more is read from it.
pub const MAX_UNANSWERED: usize = 512;

/// Answers that wait to be written, and those that are still to come.
#[derive(Debug, Default)]
pub(super) struct Replies {
    queue: VecDeque<Utf8Bytes>,
    /// Promised, and not written yet.
    unanswered: usize,
}

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<Utf8Bytes> {
        let text = self.queue.pop_front()?;
        self.unanswered = self.unanswered.saturating_sub(1);
        if self.queue.is_empty() && self.queue.capacity() > 16 {
            // As with pushes: what was needed once is not kept by an idle connection.
            self.queue = VecDeque::new();
        }
        Some(text)
    }
}

impl Outbox {
    /// Announces an answer that is to come; exactly one [`Outbox::reply`] or [`Outbox::withdraw_reply`] follows.
    pub fn promise_reply(&self) {
        let mut inner = self.inner.lock();
        if !inner.closed {
            inner.replies.get_or_insert_default().unanswered += 1;
        }
    }

    /// Gives a promised answer. Nobody is woken for a connection that is closed: the answer is forgotten.
    pub fn reply(&self, text: Utf8Bytes) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        inner.replies.get_or_insert_default().queue.push_back(text);
        if !inner.only_close {
            inner.wake();
        }
    }

    /// Takes a promise back: there will be no answer.
    pub fn withdraw_reply(&self) {
        let mut inner = self.inner.lock();
        if inner.closed {
            return;
        }
        if let Some(replies) = &mut inner.replies {
            replies.unanswered = replies.unanswered.saturating_sub(1);
        }
        if !inner.only_close {
            inner.wake();
        }
    }

    /// Whether so many answers are promised that no message is to be read; whoever listens is woken when one less is.
    #[must_use]
    pub fn owes_many(&self) -> bool {
        let inner = self.inner.lock();
        let replies = inner.replies.as_ref();
        replies.is_some_and(|replies| replies.unanswered >= MAX_UNANSWERED)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::super::{OutboxLimits, Pushed, Registered};
    use super::*;
    use crate::close::Close;
    use crate::config::BackpressureConfig;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn limits() -> OutboxLimits {
        OutboxLimits::new(BackpressureConfig {
            per_conn_buffer: 1,
            ..BackpressureConfig::default()
        })
    }

    fn listening(outbox: &Outbox) -> Arc<Woken> {
        let woken = Arc::new(Woken::default());
        let registered = outbox.register(&Waker::from(Arc::clone(&woken)));
        assert_eq!(registered, Registered::Nothing);
        woken
    }

    #[test]
    fn answers_come_before_pushes_and_survive_a_full_outbox() {
        let (outbox, limits) = (Outbox::default(), limits());
        outbox.promise_reply();
        assert_eq!(outbox.push("push".into(), &limits), Pushed::Crowding);
        outbox.reply("ack".into());
        assert_eq!(outbox.push("push".into(), &limits), Pushed::Overflowed(2));
        assert_eq!(outbox.pop(&limits).as_deref(), Some("ack"));
        assert_eq!(
            outbox.pop(&limits),
            None,
            "pushes are lost, answers are not"
        );
        assert_eq!(limits.waiting(), 0, "answers are no pushes");
    }

    #[test]
    fn an_answer_wakes_an_idle_connection_and_no_closed_one() {
        let (outbox, limits) = (Outbox::default(), limits());
        let woken = listening(&outbox);
        outbox.promise_reply();
        outbox.reply("1".into());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!(outbox.register(Waker::noop()), Registered::Push);
        outbox.pop(&limits);
        let woken = listening(&outbox);
        outbox.promise_reply();
        outbox.shut(&limits);
        outbox.reply("2".into());
        outbox.withdraw_reply();
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        assert_eq!(outbox.pop(&limits), None);
    }

    #[test]
    fn an_answer_does_not_wake_a_connection_that_cannot_write() {
        let outbox = Outbox::default();
        let woken = Arc::new(Woken::default());
        outbox.register_for_close(&Waker::from(Arc::clone(&woken)));
        outbox.promise_reply();
        outbox.reply("1".into());
        assert_eq!(woken.0.load(Ordering::Relaxed), 0);
        outbox.close(Close::stopping(None));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn promises_are_bounded_until_they_are_kept_or_withdrawn() {
        let (outbox, limits) = (Outbox::default(), limits());
        for _ in 0..MAX_UNANSWERED {
            assert!(!outbox.owes_many());
            outbox.promise_reply();
        }
        assert!(outbox.owes_many());
        outbox.reply("1".into());
        assert!(outbox.owes_many(), "until it is written");
        outbox.pop(&limits);
        assert!(!outbox.owes_many());
        outbox.promise_reply();
        let woken = listening(&outbox);
        outbox.withdraw_reply();
        assert!(!outbox.owes_many());
        assert_eq!(woken.0.load(Ordering::Relaxed), 1, "reading may go on");
    }
}
