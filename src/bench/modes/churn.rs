//! `churn`: connections that come and go.
//!
//! Stands for clients on mobile networks, and for the hour after a restart.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Meter;
use crate::bench::Result;
use crate::bench::args::ChurnArgs;
use crate::bench::connector::{self, Connector};
use crate::bench::frame;
use crate::bench::lockstep::Lockstep;
use crate::bench::outcome::Outcome;
use crate::bench::pace::Pacer;
use crate::bench::progress;
use crate::bench::tally::Latencies;
use crate::bench::token::Tokens;
use crate::close::code;

/// Tokens are signed ahead and used in turn; the gateway checks each of them all the same.
const TOKENS: usize = 256;
const OPEN_AT_ONCE: usize = 1000;

struct Counters {
    connector: Connector,
    tokens: Tokens,
    room: Semaphore,
    opened: Cell<usize>,
    first_failure: RefCell<Option<String>>,
    latencies: RefCell<Latencies>,
    stall: Duration,
}

/// Connects and closes at the given rate for the given time.
pub(super) async fn run(args: &ChurnArgs, stop: &CancellationToken) -> Result<Outcome> {
    let (shared, count) = (&args.shared, args.count());
    let mut meter = Meter::new(shared, OPEN_AT_ONCE.min(count))?;
    let mut lockstep = Lockstep::new(shared)?;
    let counters = Rc::new(Counters {
        connector: Connector::new(shared)?,
        tokens: Tokens::new(shared, TOKENS.min(count), None)?,
        room: Semaphore::new(OPEN_AT_ONCE),
        opened: Cell::default(),
        first_failure: RefCell::default(),
        latencies: RefCell::new(Latencies::new()?),
        stall: Duration::from_secs_f64(shared.stall_seconds),
    });
    lockstep.ready(stop).await;
    meter.start(stop).await;
    let bar = progress::bar("connections", count);
    let start = Instant::now();
    let pacer = Pacer::start(args.rate, count, 1)?;
    let mut tasks = JoinSet::new();
    let mut begun = 0;
    while let Some(Some(intended)) = stop.run_until_cancelled(pacer.next(0, begun)).await {
        // Before the task, so that those who wait for room are few.
        let Ok(()) = counters
            .room
            .acquire()
            .await
            .map(tokio::sync::SemaphorePermit::forget)
        else {
            break;
        };
        tasks.spawn_local(visit(begun, intended, Rc::clone(&counters)));
        begun += 1;
        bar.inc(1);
        while tasks.try_join_next().is_some() {}
    }
    while let Some(done) = tasks.join_next().await {
        done?;
    }
    bar.finish_and_clear();
    let took = start.elapsed();
    let after = meter.quiet(stop).await;
    lockstep.done(stop).await;
    let opened = counters.opened.get();
    let mut outcome = Outcome::new(shared.label.as_deref(), "churn", "connection", begun);
    outcome.arrived(opened, took);
    meter.account(&mut outcome, after);
    outcome.checked = true;
    outcome.lost = begun - opened;
    outcome.latencies(&counters.latencies.borrow(), shared.lockstep);
    if let Some(failure) = counters.first_failure.take() {
        outcome
            .problems
            .push(format!("the first failure: {failure}"));
    }
    Ok(outcome)
}

async fn visit(index: usize, intended: Instant, counters: Rc<Counters>) {
    match open_and_close(index, intended, &counters).await {
        Ok(()) => counters.opened.set(counters.opened.get() + 1),
        Err(error) => {
            counters.first_failure.borrow_mut().get_or_insert(error);
        }
    }
    counters.room.add_permits(1);
}

async fn open_and_close(
    index: usize,
    intended: Instant,
    counters: &Counters,
) -> Result<(), String> {
    let token = counters.tokens.of(index);
    let (mut reader, writer) = counters.connector.open(index, token).await?;
    counters.latencies.borrow_mut().add(intended.elapsed());
    let mut close = Vec::new();
    frame::encode_close(&mut close);
    // A server that has closed already says why, which explains more than this failure does.
    let _ = writer.send(&close).await;
    match timeout(counters.stall, reader.run(|_| {})).await {
        // Also a refused token shows itself here: the upgrade succeeds all the same.
        Ok(closed) if matches!(closed.code, code::NORMAL | code::NONE) => Ok(()),
        Ok(closed) => Err(format!(
            "closed with {closed}{}",
            connector::close_hint(&closed)
        )),
        Err(_) => Err("no answer to the close frame in time".to_owned()),
    }
}
