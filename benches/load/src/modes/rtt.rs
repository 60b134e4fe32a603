//! `rtt`: every client sends `{"type":"ping"}` and waits for the pong, again and again.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::RttArgs;
use crate::client::{self, Fleet};
use crate::outcome::Outcome;
use crate::process::Server;
use crate::socket::Writer;
use crate::tally::Latencies;
use crate::{Result, frame};

struct Counters {
    answered: Vec<Semaphore>,
    pongs: Cell<usize>,
    others: Cell<usize>,
    lost: Cell<usize>,
    latencies: RefCell<Latencies>,
}

/// Pings for the given time.
pub(crate) async fn run(args: &RttArgs) -> Result<Outcome> {
    let shared = &args.shared;
    let counters = Rc::new(Counters {
        answered: (0..args.connections).map(|_| Semaphore::new(0)).collect(),
        pongs: Cell::default(),
        others: Cell::default(),
        lost: Cell::default(),
        latencies: RefCell::new(Latencies::new()),
    });
    let tokens = client::tokens(shared, args.connections, "")?;
    let server = Server::new(&shared.server_pids)?;
    let seen = counters.clone();
    let fleet = Fleet::open(shared, tokens, move |client, message| {
        if memchr::memmem::find(message, b"\"pong\"").is_some() {
            seen.answered[client].add_permits(1);
        } else {
            seen.others.set(seen.others.get() + 1);
        }
    })
    .await?;
    server.quiet().await?;
    let cpu = server.cpu()?;
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(args.seconds);
    let stall = Duration::from_secs_f64(shared.stall_seconds);
    let mut tasks = JoinSet::new();
    for (client, writer) in fleet.writers().iter().enumerate() {
        tasks.spawn_local(ping(client, writer.clone(), counters.clone(), end, stall));
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    let took = start.elapsed();
    server.quiet().await?;
    let (pongs, lost) = (counters.pongs.get(), counters.lost.get());
    let mut outcome = Outcome::new(shared.label.as_deref(), "rtt", "round trip", pongs + lost);
    outcome.arrived(pongs, took);
    outcome.cpu(cpu, server.cpu()?);
    outcome.checked = true;
    outcome.lost = lost;
    outcome.latency_us = counters.latencies.borrow().percentiles();
    outcome.problem(
        counters.others.get(),
        "answers were no pong (a rate limit?)",
    );
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}

async fn ping(
    client: usize,
    writer: Writer,
    counters: Rc<Counters>,
    end: Instant,
    stall: Duration,
) {
    let mut frame = Vec::new();
    frame::encode_text(br#"{"type":"ping"}"#, &mut frame);
    while Instant::now() < end {
        let sent = Instant::now();
        let answer = counters.answered[client].acquire();
        if writer.send(&frame).await.is_err() {
            counters.lost.set(counters.lost.get() + 1);
            return;
        }
        let Ok(Ok(permit)) = timeout(stall, answer).await else {
            counters.lost.set(counters.lost.get() + 1);
            return;
        };
        permit.forget();
        counters.pongs.set(counters.pongs.get() + 1);
        counters.latencies.borrow_mut().add(sent.elapsed());
    }
}
