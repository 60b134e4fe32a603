//! Spans that wait to be exported: bounded, written one after the other, cut into batches.
//!
//! Stands between whoever finishes a span and the task that exports. Handing a span over is a copy under a lock that is
//! held for nothing else; the task is woken once a batch, not once a span.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::encode::{Format, varint};

/// The tag of a span within what a collector is sent.
const SPAN_TAG: u8 = 2 << 3 | 2;

/// Spans that are exported together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) format: Format,
    pub(super) spans: usize,
    /// Protocol buffers: the spans as fields of their scope. JSON: a line each.
    pub(super) bytes: Vec<u8>,
}

impl Batch {
    pub(super) fn new(format: Format) -> Self {
        Self {
            format,
            spans: 0,
            bytes: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// How many spans wait; written under the lock.
    waiting: AtomicUsize,
    limit: AtomicUsize,
    /// A batch is complete.
    complete: Notify,
}

#[derive(Debug)]
struct State {
    open: Batch,
    complete: VecDeque<Batch>,
    batch: usize,
    /// What the last batch took: the next one will take about as much.
    room: usize,
}

impl Queue {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                open: Batch::new(Format::Protobuf),
                complete: VecDeque::new(),
                batch: 1,
                room: 0,
            }),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            complete: Notify::new(),
        }
    }

    /// Changes the bounds.
    pub(super) fn set_bounds(&self, limit: usize, batch: usize) {
        self.limit.store(limit, Ordering::Relaxed);
        self.state.lock().batch = batch.max(1);
    }

    /// Whether there is no room.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= self.limit.load(Ordering::Relaxed)
    }

    /// Adds a span; says whether there was room.
    pub(super) fn push(&self, format: Format, span: &[u8]) -> bool {
        let mut state = self.state.lock();
        if self.is_full() {
            return false;
        }
        self.waiting.fetch_add(1, Ordering::Relaxed);
        if state.open.format != format {
            state.cut(format);
        }
        let room = state.room;
        let open = &mut state.open;
        if open.spans == 0 {
            open.bytes.reserve(room.max(span.len() + 8));
        }
        open.spans += 1;
        if format == Format::Protobuf {
            open.bytes.push(SPAN_TAG);
            varint(&mut open.bytes, span.len());
            open.bytes.extend_from_slice(span);
        } else {
            open.bytes.extend_from_slice(span);
            open.bytes.push(b'\n');
        }
        if open.spans >= state.batch {
            state.cut(format);
            drop(state);
            self.complete.notify_one();
        }
        true
    }

    /// Takes the oldest complete batch; with `all` also one that is not complete.
    pub(super) fn take(&self, all: bool) -> Option<Batch> {
        let mut state = self.state.lock();
        if state.complete.is_empty() && all {
            let format = state.open.format;
            state.cut(format);
        }
        let batch = state.complete.pop_front()?;
        self.waiting.fetch_sub(batch.spans, Ordering::Relaxed);
        Some(batch)
    }

    /// Forgets all; says how many spans there were.
    pub(super) fn clear(&self) -> usize {
        let mut spans = 0;
        while let Some(batch) = self.take(true) {
            spans += batch.spans;
        }
        spans
    }

    /// Waits for a complete batch.
    pub(super) async fn completed(&self) {
        self.complete.notified().await;
    }
}

impl State {
    /// Completes the open batch, and begins another.
    fn cut(&mut self, format: Format) {
        let batch = std::mem::replace(&mut self.open, Batch::new(format));
        if batch.spans > 0 {
            self.room = batch.bytes.len();
            self.complete.push_back(batch);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn spans_are_bounded_and_cut_into_batches() {
        let queue = Queue::new();
        queue.set_bounds(5, 2);
        let push = |span: &str| queue.push(Format::Json, span.as_bytes());
        for span in ["a", "b", "c", "d", "e"] {
            assert!(push(span));
        }
        assert!(queue.is_full() && !push("f"));
        queue.completed().await;
        let text = |all| {
            queue
                .take(all)
                .map(|batch| String::from_utf8(batch.bytes).unwrap())
        };
        assert_eq!(text(false).as_deref(), Some("a\nb\n"));
        assert!(push("f"), "there is room again");
        assert_eq!(text(false).as_deref(), Some("c\nd\n"));
        assert_eq!(text(false).as_deref(), Some("e\nf\n"));
        assert!(push("g"));
        assert_eq!(text(false), None);
        assert_eq!(text(true).as_deref(), Some("g\n"));
        assert_eq!(text(true), None);
        assert!(push("h") && queue.push(Format::Protobuf, b"i"));
        let kinds = [queue.take(true), queue.take(true)].map(|batch| batch.unwrap().format);
        assert_eq!(kinds, [Format::Json, Format::Protobuf]);
        assert!(push("j"));
        assert_eq!((queue.clear(), queue.clear()), (1, 0));
    }
}
