//! `inbound`: messages from clients to the backend.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::{finished, run_number};
use crate::args::{InboundArgs, InboundRate};
use crate::client::{self, Fleet};
use crate::outcome::Outcome;
use crate::process::Server;
use crate::socket::Writer;
use crate::tally::Latencies;
use crate::webhook::Backend;
use crate::{Result, frame, pace, progress};

mod arrivals;

use arrivals::Arrivals;

/// Message `n` of client `c` has the number `n * clients + c`, so that the load is even.
struct Load {
    run: u64,
    clients: usize,
    messages: usize,
    payload_bytes: usize,
    /// When each message was sent, or should have been.
    sent_at: RefCell<Vec<Option<Instant>>>,
    /// Undelivered messages each client may still send with `--rate closed`.
    room: Vec<Semaphore>,
    last_arrival: Cell<Option<Instant>>,
    latencies: RefCell<Latencies>,
    sent: Cell<usize>,
    refused: Cell<usize>,
}

impl Load {
    fn arrived(&self, client: usize, n: usize, now: Instant) {
        self.last_arrival.set(Some(now));
        self.room[client].add_permits(1);
        let number = n * self.clients + client;
        if let Some(Some(sent)) = self.sent_at.borrow().get(number) {
            let latency = now.saturating_duration_since(*sent);
            self.latencies.borrow_mut().add(latency);
        }
    }

    fn encode(&self, number: usize, out: &mut Vec<u8>) {
        let (client, n) = (number % self.clients, number / self.clients);
        let mut text = format!(
            r#"{{"type":"bench","run":{},"client":{client},"n":{n},"pad":""#,
            self.run
        );
        let pad = self.payload_bytes.saturating_sub(text.len() + 2);
        text.extend(std::iter::repeat_n('x', pad));
        text.push_str("\"}");
        frame::encode_text(text.as_bytes(), out);
    }
}

/// Sends the messages and, where it is told where they arrive, checks that they do.
pub(crate) async fn run(args: &InboundArgs) -> Result<Outcome> {
    let shared = &args.shared;
    let window = match args.rate {
        InboundRate::Closed => args.window,
        InboundRate::Burst | InboundRate::PerSecond(_) => 0,
    };
    let checked = args.webhook_listen.is_some() || args.redis.is_some() || args.rabbitmq.is_some();
    if window > 0 && !checked {
        return Err("--rate closed needs a backend to know what was delivered".into());
    }
    let load = Rc::new(Load {
        run: run_number(),
        clients: args.connections,
        messages: args.messages,
        payload_bytes: args.payload_bytes,
        sent_at: RefCell::new(vec![None; args.messages]),
        room: (0..args.connections)
            .map(|_| Semaphore::new(window))
            .collect(),
        last_arrival: Cell::default(),
        latencies: RefCell::new(Latencies::new()),
        sent: Cell::default(),
        refused: Cell::default(),
    });
    let backend = {
        let load = load.clone();
        let run = load.run;
        let on_message = move |client, n, now| load.arrived(client, n, now);
        Rc::new(Backend::new(run, args.connections, Box::new(on_message)))
    };
    // Before the first client connects: `connected` is an event too.
    let arrivals = Arrivals::open(args, &backend).await?;
    let server = Server::new(&shared.server_pids)?;
    let broker = Server::new(&shared.broker_pids)?;
    let tokens = client::tokens(shared, args.connections, "")?;
    let answers = load.clone();
    // The gateway answers a plain message only to say that it did not take it.
    let fleet = Fleet::open(shared, tokens, move |_, _| {
        answers.refused.set(answers.refused.get() + 1);
    })
    .await?;
    server.quiet().await?;
    let (cpu, broker_cpu) = (server.cpu()?, broker.cpu()?);
    let start = Instant::now();
    let mut senders = send_all(args.rate, &load, &fleet)?;
    wait(args, &load, checked, &backend, &arrivals).await;
    // Those still waiting, for room in the window or in the socket, wait for nothing any more.
    senders.abort_all();
    while senders.join_next().await.is_some() {}
    server.quiet().await?;
    let (cpu_after, broker_cpu_after) = (server.cpu()?, broker.cpu()?);
    let stopped = arrivals.finish(&backend).await;
    let finish = load.last_arrival.get().unwrap_or_else(Instant::now);
    let mut outcome = Outcome::new(shared.label.as_deref(), "inbound", "message", args.messages);
    let totals = backend.totals();
    let count = if checked {
        totals.unique
    } else {
        load.sent.get()
    };
    outcome.arrived(count, finish.saturating_duration_since(start));
    outcome.cpu(cpu, cpu_after);
    outcome.broker_cpu(broker_cpu, broker_cpu_after);
    if let Err(error) = stopped {
        outcome.problems.push(error.to_string());
    }
    if checked {
        if totals.unique == 0 {
            let problem = "nothing arrived: is that where the gateway sends its events?";
            outcome.problems.push(problem.to_owned());
        }
        outcome.check(totals);
        outcome.latency_us = load.latencies.borrow().percentiles();
        if args.webhook_listen.is_some() {
            // Brokers get `connected` elsewhere, so that `seq` has gaps there.
            outcome.problem(
                backend.missing_events() as usize,
                "events are missing by their `seq`",
            );
        }
        outcome.problem(backend.malformed.get(), "arrivals held no event");
        let failed = backend.failed_on_purpose.get();
        if failed > 0 {
            outcome
                .notes
                .push(format!("{failed} webhook requests were failed on purpose"));
        }
    } else {
        outcome.problem(
            args.messages - load.sent.get(),
            "messages could not be sent",
        );
        outcome
            .notes
            .push("arrival was not checked (no backend given)".to_owned());
    }
    outcome.problem(
        load.refused.get(),
        "messages were answered (refused, most likely)",
    );
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}

/// Waits for the last arrival (or the last send, when arrivals are not seen).
async fn wait(
    args: &InboundArgs,
    load: &Load,
    checked: bool,
    backend: &Backend,
    arrivals: &Arrivals,
) {
    let bar = progress::bar("messages", args.messages as u64);
    let seen = || match arrivals.counted() {
        Some(count) => count,
        None if checked => backend.totals().unique,
        None => load.sent.get(),
    };
    let progress = || {
        bar.set_position(seen() as u64);
        seen() + load.sent.get()
    };
    let stall = Duration::from_secs_f64(args.shared.stall_seconds);
    finished(stall, || seen() >= args.messages, progress).await;
    bar.finish_and_clear();
}

fn send_all(rate: InboundRate, load: &Rc<Load>, fleet: &Fleet) -> Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    let writers = fleet.writers().iter().cloned();
    if let InboundRate::PerSecond(rate) = rate {
        let mut due = pace::start(rate, load.messages)?;
        let queues: Vec<_> = writers
            .map(|writer| {
                let (queue, numbers) = mpsc::unbounded_channel();
                tasks.spawn_local(send_queued(load.clone(), writer, numbers));
                queue
            })
            .collect();
        let load = load.clone();
        tasks.spawn_local(async move {
            let mut number = 0;
            while let Some(intended) = due.recv().await {
                load.sent_at.borrow_mut()[number] = Some(intended);
                // Only a client whose connection broke has stopped listening.
                let _ = queues[number % queues.len()].send(number);
                number += 1;
            }
        });
    } else {
        let closed = rate == InboundRate::Closed;
        for (client, writer) in writers.enumerate() {
            tasks.spawn_local(send_own(load.clone(), client, writer, closed));
        }
    }
    Ok(tasks)
}

/// Sends a client's messages when they are due.
async fn send_queued(load: Rc<Load>, writer: Writer, mut numbers: mpsc::UnboundedReceiver<usize>) {
    let mut frame = Vec::new();
    while let Some(number) = numbers.recv().await {
        frame.clear();
        load.encode(number, &mut frame);
        if writer.send(&frame).await.is_err() {
            return;
        }
        load.sent.set(load.sent.get() + 1);
    }
}

/// Sends a client's messages one after the other, each in a write of its own as clients do.
async fn send_own(load: Rc<Load>, client: usize, writer: Writer, closed: bool) {
    let mut frame = Vec::new();
    for number in (client..load.messages).step_by(load.clients) {
        if closed {
            match load.room[client].acquire().await {
                Ok(room) => room.forget(),
                Err(_) => return,
            }
        }
        frame.clear();
        load.encode(number, &mut frame);
        load.sent_at.borrow_mut()[number] = Some(Instant::now());
        if writer.send(&frame).await.is_err() {
            return;
        }
        load.sent.set(load.sent.get() + 1);
    }
}
