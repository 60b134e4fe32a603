//! What is sent when, and when it arrived.
//!
//! Stands between the pacer and the sockets.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::bench::args::{Extent, InboundArgs, InboundRate};
use crate::bench::fleet::Fleet;
use crate::bench::message::Template;
use crate::bench::pace::Pacer;
use crate::bench::socket::Writer;
use crate::bench::tally::Latencies;
use crate::bench::{Result, frame};

/// Message `n` of client `c` has the number `n * clients + c`, so that the load is even.
pub(super) struct Load {
    clients: usize,
    /// How many there are to be; `None` when a time decides.
    pub(super) messages: Option<usize>,
    template: Template,
    /// When each message was sent, or should have been.
    sent_at: RefCell<Vec<Option<Instant>>>,
    /// Undelivered messages each client may still send with `--rate closed`.
    room: Vec<Semaphore>,
    pub(super) last_arrival: Cell<Option<Instant>>,
    pub(super) latencies: RefCell<Latencies>,
    pub(super) sent: Cell<usize>,
    /// Senders that are not done.
    sending: Cell<usize>,
    halted: Cell<bool>,
    answered: Cell<usize>,
    first_answer: RefCell<Option<String>>,
}

impl Load {
    pub(super) fn new(args: &InboundArgs, template: Template) -> Result<Rc<Self>> {
        let messages = match args.extent() {
            Extent::Count(messages) => Some(messages),
            Extent::Seconds(_) => None,
        };
        Ok(Rc::new(Self {
            clients: args.connections,
            messages,
            template,
            sent_at: RefCell::default(),
            room: (0..args.connections)
                .map(|_| Semaphore::new(args.window))
                .collect(),
            last_arrival: Cell::default(),
            latencies: RefCell::new(Latencies::new()?),
            sent: Cell::default(),
            sending: Cell::default(),
            halted: Cell::default(),
            answered: Cell::default(),
            first_answer: RefCell::default(),
        }))
    }

    /// Notes that a message arrived for the first time.
    pub(super) fn arrived(&self, client: usize, n: usize, now: Instant) {
        self.last_arrival.set(Some(now));
        if let Some(room) = self.room.get(client) {
            room.add_permits(1);
        }
        let number = n * self.clients + client;
        if let Some(Some(sent)) = self.sent_at.borrow().get(number) {
            let latency = now.saturating_duration_since(*sent);
            self.latencies.borrow_mut().add(latency);
        }
    }

    /// Notes a message from the server, which says nothing to messages that it took.
    pub(super) fn answered(&self, message: &[u8]) {
        self.answered.set(self.answered.get() + 1);
        self.first_answer
            .borrow_mut()
            .get_or_insert_with(|| String::from_utf8_lossy(message).into_owned());
    }

    /// How many answers came, and the first one.
    pub(super) fn answers(&self) -> (usize, Option<String>) {
        (self.answered.get(), self.first_answer.borrow().clone())
    }

    /// Ends the sending.
    pub(super) fn halt(&self) {
        self.halted.set(true);
        self.room.iter().for_each(Semaphore::close);
    }

    /// Whether nothing more will be sent.
    pub(super) fn is_sent(&self) -> bool {
        self.sending.get() == 0
    }

    fn note_sent(&self, number: usize, at: Instant) {
        let mut sent_at = self.sent_at.borrow_mut();
        if number >= sent_at.len() {
            sent_at.resize(number + 1, None);
        }
        if let Some(place) = sent_at.get_mut(number) {
            *place = Some(at);
        }
    }

    /// Whether a client has another message.
    fn has(&self, number: usize) -> bool {
        !self.halted.get() && self.messages.is_none_or(|messages| number < messages)
    }
}

/// The tasks that send; stopped on drop.
pub(super) struct Senders(#[expect(dead_code, reason = "kept for its drop")] JoinSet<()>);

impl Senders {
    /// Starts one for each client.
    pub(super) fn start(args: &InboundArgs, load: &Rc<Load>, fleet: &Fleet) -> Result<Self> {
        let pacer = match (args.rate, load.messages) {
            (InboundRate::PerSecond(rate), Some(messages)) => {
                Some(Rc::new(Pacer::start(rate, messages, load.clients)?))
            }
            _ => None,
        };
        let closed = args.rate == InboundRate::Closed;
        let mut tasks = JoinSet::new();
        load.sending.set(fleet.writers().len());
        for (client, writer) in fleet.writers().iter().cloned().enumerate() {
            let (load, pacer) = (Rc::clone(load), pacer.clone());
            tasks.spawn_local(async move {
                send(&load, client, writer, pacer, closed).await;
                load.sending.set(load.sending.get() - 1);
            });
        }
        Ok(Self(tasks))
    }
}

/// Sends a client's messages one after the other, each in a write of its own as clients do, when they are due.
async fn send(load: &Load, client: usize, writer: Writer, pacer: Option<Rc<Pacer>>, closed: bool) {
    let (mut text, mut frame) = (Vec::new(), Vec::new());
    for n in 0.. {
        let number = n * load.clients + client;
        if !load.has(number) {
            return;
        }
        if closed && let Some(room) = load.room.get(client) {
            match room.acquire().await {
                Ok(room) => room.forget(),
                Err(_) => return,
            }
        }
        let at = match &pacer {
            Some(pacer) => match pacer.next(client, n).await {
                Some(intended) => intended,
                None => return,
            },
            None => Instant::now(),
        };
        if load.halted.get() {
            return;
        }
        text.clear();
        frame.clear();
        load.template.write(client, n, &mut text);
        frame::encode_text(&text, &mut frame);
        load.note_sent(number, at);
        if writer.send(&frame).await.is_err() {
            return;
        }
        load.sent.set(load.sent.get() + 1);
        if pacer.is_none() && !closed {
            // A socket that takes everything at once must not keep the others, and the clock, waiting for ever.
            tokio::task::consume_budget().await;
        }
    }
}
