//! Live tails: one user's events and pushes, for an operator who looks.
//!
//! Stands beside the data path: `fan_out` offers each event that it publishes, and the registry each push. While nobody
//! looks, that is one load of a number. Nothing waits for whoever looks: what does not fit into a bounded queue is
//! dropped for that one, who is told how much.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use uuid::Uuid;

use crate::clock::unix_millis;
use crate::event::Event;
use crate::session::Session;

/// Tails that are open at once at most.
pub const MAX_TAILS: usize = 8;

/// What waits for one viewer at most.
const MAX_WAITING: usize = 256;

/// Bytes that wait for one viewer at most, unless one alone has more.
const MAX_WAITING_BYTES: usize = 1024 * 1024;

/// The tails that are open.
#[derive(Debug, Default)]
pub struct Tails {
    /// How many, for who only wants to know whether anybody looks.
    open: AtomicUsize,
    viewers: RwLock<Vec<Arc<Viewer>>>,
}

/// The tails of the process, as its stages find them among what it keeps.
#[derive(Debug, Clone, Default)]
pub struct TailsOfProcess(pub Arc<Tails>);

/// There are as many tails as may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MAX_TAILS} tails are open already, which is the most")]
pub struct TooManyTails;

/// Something that happened to the user who is looked at.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Unix milliseconds at which it happened.
    pub at: u64,
    /// What happened.
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum What {
    /// An event was handed to the sinks.
    Event(Arc<Event>),
    /// A push was offered to a connection.
    Push {
        /// The connection.
        connection_id: Uuid,
        /// What the client is sent.
        text: Utf8Bytes,
        /// Whether the connection's outbox took it.
        queued: bool,
    },
}

/// The next thing to show.
#[derive(Debug)]
pub enum Next {
    /// It happened.
    Seen(Seen),
    /// So much happened that did not fit into the queue.
    Missed(u64),
}

/// An open tail; closed when dropped.
#[derive(Debug)]
pub struct Tail {
    tails: Arc<Tails>,
    viewer: Arc<Viewer>,
}

#[derive(Debug)]
struct Viewer {
    user_id: String,
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    seen: VecDeque<Seen>,
    bytes: usize,
    missed: u64,
}

impl What {
    /// Bytes of the event's JSON, or of what the client is sent.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Event(event) => event.json.len(),
            Self::Push { text, .. } => text.len(),
        }
    }
}

impl Tails {
    /// Whether anybody looks at anyone.
    #[must_use]
    pub fn are_open(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Shows an event to whoever looks at its user.
    pub fn event(&self, event: &Arc<Event>) {
        if self.are_open() {
            self.show(&event.user_id, || What::Event(Arc::clone(event)));
        }
    }

    /// Shows a push to whoever looks at the connection's user.
    pub fn push(&self, session: &Session, text: &Utf8Bytes, queued: bool) {
        self.show(session.user_id(), || What::Push {
            connection_id: session.id(),
            text: text.clone(),
            queued,
        });
    }

    /// Begins to look at a user.
    ///
    /// # Errors
    /// When there are [`MAX_TAILS`] already.
    pub fn open(self: &Arc<Self>, user_id: String) -> Result<Tail, TooManyTails> {
        let viewer = Arc::new(Viewer {
            user_id,
            waiting: Mutex::default(),
            more: Notify::new(),
        });
        let mut viewers = self.viewers.write();
        if viewers.len() >= MAX_TAILS {
            return Err(TooManyTails);
        }
        viewers.push(Arc::clone(&viewer));
        self.open.store(viewers.len(), Ordering::Relaxed);
        drop(viewers);
        Ok(Tail {
            tails: Arc::clone(self),
            viewer,
        })
    }

    fn show(&self, user_id: &str, what: impl Fn() -> What) {
        let viewers = self.viewers.read();
        for viewer in viewers.iter().filter(|viewer| viewer.user_id == user_id) {
            viewer.show(Seen {
                at: unix_millis(),
                what: what(),
            });
        }
    }
}

impl Viewer {
    fn show(&self, seen: Seen) {
        let mut waiting = self.waiting.lock();
        let bytes = seen.what.bytes();
        let fits = waiting.seen.is_empty()
            || (waiting.seen.len() < MAX_WAITING && waiting.bytes + bytes <= MAX_WAITING_BYTES);
        if fits {
            waiting.bytes += bytes;
            waiting.seen.push_back(seen);
        } else {
            waiting.missed += 1;
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// What waited first is shown first; what was missed came after all of that.
    fn take(&self) -> Option<Next> {
        let mut waiting = self.waiting.lock();
        if let Some(seen) = waiting.seen.pop_front() {
            waiting.bytes -= seen.what.bytes();
            return Some(Next::Seen(seen));
        }
        let missed = std::mem::take(&mut waiting.missed);
        (missed > 0).then_some(Next::Missed(missed))
    }
}

impl Tail {
    /// Waits for the next thing to show.
    pub async fn next(&mut self) -> Next {
        loop {
            if let Some(next) = self.viewer.take() {
                return next;
            }
            self.viewer.more.notified().await;
        }
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let mut viewers = self.tails.viewers.write();
        viewers.retain(|viewer| !Arc::ptr_eq(viewer, &self.viewer));
        self.tails.open.store(viewers.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(tails: &Tails, user: &str, text: &str) {
        tails.push(&Session::for_tests(user, &[]), &text.into(), true);
    }

    async fn told(tail: &mut Tail) -> String {
        match tail.next().await {
            Next::Missed(count) => format!("missed {count}"),
            Next::Seen(Seen { what, .. }) => match what {
                What::Push { text, .. } => text.to_string(),
                What::Event(event) => format!("event {}", event.seq),
            },
        }
    }

    #[tokio::test]
    async fn only_the_user_who_is_looked_at_is_shown() {
        let tails = Arc::new(Tails::default());
        let mut tail = tails.open("a".into()).unwrap();
        push(&tails, "b", "of b");
        push(&tails, "a", "of a");
        assert_eq!(told(&mut tail).await, "of a");
        assert!(tail.viewer.take().is_none());
    }

    #[tokio::test]
    async fn what_does_not_fit_is_counted_and_told_in_its_place() {
        let tails = Arc::new(Tails::default());
        let mut tail = tails.open("a".into()).unwrap();
        for n in 0..MAX_WAITING + 3 {
            push(&tails, "a", &n.to_string());
        }
        for n in 0..MAX_WAITING {
            assert_eq!(told(&mut tail).await, n.to_string());
        }
        assert_eq!(told(&mut tail).await, "missed 3");
        push(&tails, "a", "after");
        assert_eq!(told(&mut tail).await, "after");
    }

    #[tokio::test]
    async fn bytes_are_bounded_and_one_large_push_is_shown_all_the_same() {
        let tails = Arc::new(Tails::default());
        let mut tail = tails.open("a".into()).unwrap();
        let large = "x".repeat(MAX_WAITING_BYTES + 1);
        push(&tails, "a", &large);
        push(&tails, "a", "small");
        assert_eq!(told(&mut tail).await.len(), large.len());
        assert_eq!(told(&mut tail).await, "missed 1");
        assert_eq!(tail.viewer.waiting.lock().bytes, 0);
    }

    #[tokio::test]
    async fn nobody_looks_once_the_tails_are_closed() {
        let tails = Arc::new(Tails::default());
        assert!(!tails.are_open());
        let open: Vec<_> = (0..MAX_TAILS)
            .map(|_| tails.open("a".into()).unwrap())
            .collect();
        assert_eq!(tails.open("a".into()).unwrap_err(), TooManyTails);
        assert!(tails.are_open());
        drop(open);
        assert!(!tails.are_open() && tails.viewers.read().is_empty());
    }
}
