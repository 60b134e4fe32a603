//! Many open sockets, each read by a task of its own.
//!
//! Stands between `connector`, which opens them, and the modes, which send by them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::args::Shared;
use super::connector::{self, Connector};
use super::socket::{Closed, Reader, Writer};
use super::tally::Latencies;
use super::token::Tokens;
use super::{Result, frame, progress};

/// Longest wait for the server's answers to our close frames.
const CLOSING: Duration = Duration::from_secs(3);

/// The open sockets; closed on drop, properly by [`Fleet::close`].
pub(super) struct Fleet {
    state: Rc<FleetState>,
    writers: Vec<Writer>,
    /// From the time at which a connection should have been asked for until it was there.
    pub(super) connecting: Latencies,
}

/// What the readers leave behind.
#[derive(Default)]
struct FleetState {
    readers: RefCell<JoinSet<()>>,
    closed: Cell<usize>,
    first_close: RefCell<Option<Closed>>,
    closing: Cell<bool>,
}

/// What the tasks that open a fleet share.
struct Opening<F> {
    connector: Connector,
    tokens: Tokens,
    count: usize,
    ramp: f64,
    start: Instant,
    next: Cell<usize>,
    writers: RefCell<Vec<Option<Writer>>>,
    latencies: RefCell<Latencies>,
    on_message: F,
    state: Rc<FleetState>,
    stop: CancellationToken,
    bar: ProgressBar,
}

impl Fleet {
    /// Opens so many sockets; `on_message` gets every message with its client's number.
    ///
    /// When stopped meanwhile it has fewer.
    pub(super) async fn open<F>(
        shared: &Shared,
        count: usize,
        tokens: Tokens,
        stop: &CancellationToken,
        on_message: F,
    ) -> Result<Self>
    where
        F: Fn(usize, &[u8]) + Clone + 'static,
    {
        let opening = Rc::new(Opening {
            connector: Connector::new(shared)?,
            tokens,
            count,
            ramp: shared.ramp,
            start: Instant::now(),
            next: Cell::new(0),
            writers: RefCell::new((0..count).map(|_| None).collect()),
            latencies: RefCell::new(Latencies::new()?),
            on_message,
            state: Rc::default(),
            stop: stop.clone(),
            bar: progress::bar("connecting", count),
        });
        let mut workers = JoinSet::new();
        for _ in 0..shared.connect_concurrency.min(count) {
            workers.spawn_local(Rc::clone(&opening).open_some());
        }
        while let Some(done) = workers.join_next().await {
            done??;
        }
        opening.bar.finish_and_clear();
        let connecting = opening.latencies.replace(Latencies::new()?);
        Ok(Self {
            state: Rc::clone(&opening.state),
            writers: opening.writers.take().into_iter().flatten().collect(),
            connecting,
        })
    }

    /// The sending halves, by client number.
    pub(super) fn writers(&self) -> &[Writer] {
        &self.writers
    }

    /// How many sockets the server has ended, and how the first one ended.
    pub(super) fn closed(&self) -> (usize, Option<Closed>) {
        let first = self.state.first_close.borrow().clone();
        (self.state.closed.get(), first)
    }

    /// Whether nobody is left.
    pub(super) fn is_gone(&self) -> bool {
        self.state.closed.get() >= self.writers.len()
    }

    /// Closes every socket properly; those that do not end in time are cut.
    pub(super) async fn close(self) {
        self.state.closing.set(true);
        let mut close = Vec::new();
        frame::encode_close(&mut close);
        let mut readers = self.state.readers.take();
        // A server that is stuck takes no close frame either.
        let closing = async {
            for writer in &self.writers {
                // Gone already is fine here.
                let _ = writer.send(&close).await;
            }
            while readers.join_next().await.is_some() {}
        };
        let _ = tokio::time::timeout(CLOSING, closing).await;
    }
}

impl<F: Fn(usize, &[u8]) + Clone + 'static> Opening<F> {
    async fn open_some(self: Rc<Self>) -> Result<(), String> {
        loop {
            let index = self.next.get();
            if index >= self.count || self.stop.is_cancelled() {
                return Ok(());
            }
            self.next.set(index + 1);
            let due = self.due(index);
            let wait = tokio::time::sleep_until(due.into());
            if self.stop.run_until_cancelled(wait).await.is_none() {
                return Ok(());
            }
            let opened = self.connector.open(index, self.tokens.of(index));
            let Some(opened) = self.stop.run_until_cancelled(opened).await else {
                return Ok(());
            };
            let (reader, writer) = opened
                .map_err(|error| format!("connection {} of {}: {error}", index + 1, self.count))?;
            self.latencies.borrow_mut().add(due.elapsed());
            if let Some(place) = self.writers.borrow_mut().get_mut(index) {
                *place = Some(writer);
            }
            self.watch(index, reader);
            self.bar.inc(1);
            self.expect_hope()?;
        }
    }

    /// When a connection should be asked for.
    fn due(&self, index: usize) -> Instant {
        if self.ramp > 0.0 {
            self.start + Duration::from_secs_f64(index as f64 / self.ramp)
        } else {
            Instant::now()
        }
    }

    /// Fails when the server has ended a connection for a reason that the others share.
    fn expect_hope(&self) -> Result<(), String> {
        match &*self.state.first_close.borrow() {
            Some(closed) if connector::is_hopeless(closed) => Err(format!(
                "the server ended the first connection with {closed}{}",
                connector::close_hint(closed)
            )),
            _ => Ok(()),
        }
    }

    fn watch(&self, index: usize, mut reader: Reader) {
        let (state, on_message) = (Rc::downgrade(&self.state), self.on_message.clone());
        self.state.readers.borrow_mut().spawn_local(async move {
            let closed = reader.run(|message| on_message(index, message)).await;
            let Some(state) = state.upgrade().filter(|state| !state.closing.get()) else {
                return;
            };
            state.closed.set(state.closed.get() + 1);
            state.first_close.borrow_mut().get_or_insert(closed);
        });
    }
}
