//! `churn`: connections that come and go.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::args::ChurnArgs;
use crate::client::{self, Connector};
use crate::outcome::Outcome;
use crate::process::Server;
use crate::socket::Closed;
use crate::tally::Latencies;
use crate::{Result, frame, pace};

/// Tokens are signed ahead and used in turn; the gateway checks each of them all the same.
const TOKENS: usize = 256;
const OPEN_AT_ONCE: usize = 1000;

struct Counters {
    connector: Connector,
    tokens: Vec<Option<String>>,
    room: Semaphore,
    opened: Cell<usize>,
    first_failure: RefCell<Option<String>>,
    latencies: RefCell<Latencies>,
}

/// Connects and closes at the given rate for the given time.
pub(crate) async fn run(args: &ChurnArgs) -> Result<Outcome> {
    let shared = &args.shared;
    let count = (args.rate * args.seconds).round() as usize;
    let counters = Rc::new(Counters {
        connector: Connector::new(shared)?,
        tokens: client::tokens(shared, TOKENS.min(count), "")?,
        room: Semaphore::new(OPEN_AT_ONCE),
        opened: Cell::default(),
        first_failure: RefCell::default(),
        latencies: RefCell::new(Latencies::new()),
    });
    let server = Server::new(&shared.server_pids)?;
    server.quiet().await?;
    let cpu = server.cpu()?;
    let stall = Duration::from_secs_f64(shared.stall_seconds);
    let start = Instant::now();
    let mut due = pace::start(args.rate, count)?;
    let mut tasks = JoinSet::new();
    let mut index = 0;
    while let Some(intended) = due.recv().await {
        tasks.spawn_local(visit(index, intended, stall, counters.clone()));
        index += 1;
        while tasks.try_join_next().is_some() {}
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    let took = start.elapsed();
    server.quiet().await?;
    let opened = counters.opened.get();
    let mut outcome = Outcome::new(shared.label.as_deref(), "churn", "connection", count);
    outcome.arrived(opened, took);
    outcome.cpu(cpu, server.cpu()?);
    outcome.checked = true;
    outcome.lost = count - opened;
    outcome.latency_us = counters.latencies.borrow().percentiles();
    if let Some(failure) = counters.first_failure.take() {
        outcome
            .problems
            .push(format!("the first failure: {failure}"));
    }
    Ok(outcome)
}

async fn visit(index: usize, intended: Instant, stall: Duration, counters: Rc<Counters>) {
    let Ok(_room) = counters.room.acquire().await else {
        return;
    };
    match open_and_close(index, intended, stall, &counters).await {
        Ok(()) => counters.opened.set(counters.opened.get() + 1),
        Err(error) => {
            counters.first_failure.borrow_mut().get_or_insert(error);
        }
    }
}

async fn open_and_close(
    index: usize,
    intended: Instant,
    stall: Duration,
    counters: &Counters,
) -> Result<(), String> {
    let token = counters.tokens[index % counters.tokens.len()].as_deref();
    let (mut reader, writer) = counters.connector.open(index, token).await?;
    counters.latencies.borrow_mut().add(intended.elapsed());
    let mut close = Vec::new();
    frame::encode_close(&mut close);
    writer
        .send(&close)
        .await
        .map_err(|error| error.to_string())?;
    match timeout(stall, reader.run(|_| {})).await {
        // Also a refused token shows itself here: the upgrade succeeds all the same.
        Ok(Closed {
            code: 1000 | 1005, ..
        }) => Ok(()),
        Ok(closed) => Err(format!("closed with {closed}")),
        Err(_) => Err("no answer to the close frame in time".to_owned()),
    }
}
