//! `rtt`: every client sends a ping and waits for the pong, again and again.
//!
//! Stands for what a message costs that the gateway answers by itself.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use memchr::memmem::Finder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Meter;
use crate::bench::args::RttArgs;
use crate::bench::fleet::Fleet;
use crate::bench::lockstep::Lockstep;
use crate::bench::outcome::Outcome;
use crate::bench::pace::Pacer;
use crate::bench::socket::Writer;
use crate::bench::tally::Latencies;
use crate::bench::token::Tokens;
use crate::bench::{BenchError, Result, frame};

struct Counters {
    frame: Vec<u8>,
    end: Cell<Instant>,
    stall: Duration,
    pacer: RefCell<Option<Rc<Pacer>>>,
    answered: Vec<Semaphore>,
    pongs: Cell<usize>,
    others: Cell<usize>,
    lost: Cell<usize>,
    latencies: RefCell<Latencies>,
}

/// Pings for the given time.
pub(super) async fn run(args: &RttArgs, stop: &CancellationToken) -> Result<Outcome> {
    let shared = &args.shared;
    if args.pong_contains.is_empty() {
        return Err(BenchError::usage("--pong-contains is empty"));
    }
    let mut meter = Meter::new(shared, args.connections)?;
    let mut lockstep = Lockstep::new(shared)?;
    let mut frame = Vec::new();
    frame::encode_text(args.ping.as_bytes(), &mut frame);
    let counters = Rc::new(Counters {
        frame,
        end: Cell::new(Instant::now()),
        stall: Duration::from_secs_f64(shared.stall_seconds),
        pacer: RefCell::default(),
        answered: (0..args.connections).map(|_| Semaphore::new(0)).collect(),
        pongs: Cell::default(),
        others: Cell::default(),
        lost: Cell::default(),
        latencies: RefCell::new(Latencies::new()?),
    });
    let tokens = Tokens::new(shared, args.connections, None)?;
    let seen = Rc::clone(&counters);
    let pong = Finder::new(args.pong_contains.as_bytes()).into_owned();
    let on_message = move |client: usize, message: &[u8]| match seen.answered.get(client) {
        Some(answered) if pong.find(message).is_some() => answered.add_permits(1),
        _ => seen.others.set(seen.others.get() + 1),
    };
    let fleet = Fleet::open(shared, args.connections, tokens, stop, on_message).await?;
    lockstep.ready(stop).await;
    meter.start(stop).await;
    let start = Instant::now();
    let length = Duration::from_secs_f64(args.seconds);
    counters.end.set(start + length);
    if let Some(rate) = args.rate {
        let pacer = Pacer::start(
            rate,
            crate::bench::args::times(rate, args.seconds),
            args.connections,
        )?;
        *counters.pacer.borrow_mut() = Some(Rc::new(pacer));
    }
    let mut tasks = JoinSet::new();
    for (client, writer) in fleet.writers().iter().enumerate() {
        tasks.spawn_local(ping(client, writer.clone(), Rc::clone(&counters)));
    }
    let all = async { while tasks.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = stop.cancelled() => {}
        () = gone(&fleet) => {}
    }
    // Those who still wait for an answer have lost it only if nobody told them to stop.
    let waiting = if stop.is_cancelled() { 0 } else { tasks.len() };
    tasks.abort_all();
    let took = start.elapsed();
    let after = meter.quiet(stop).await;
    lockstep.done(stop).await;
    let (pongs, lost) = (counters.pongs.get(), counters.lost.get() + waiting);
    let label = shared.label.as_deref();
    let mut outcome = Outcome::new(label, "rtt", "round trip", pongs + lost);
    outcome.arrived(pongs, took);
    meter.account(&mut outcome, after);
    outcome.checked = true;
    outcome.lost = lost;
    outcome.latencies(&counters.latencies.borrow(), shared.lockstep);
    let others = counters.others.get();
    if others > 0 {
        let pong = &args.pong_contains;
        let note = format!("{others} messages came without {pong:?}: a greeting, or a rate limit?");
        outcome.notes.push(note);
    }
    if pongs == 0 && !stop.is_cancelled() {
        let problem = "no ping was answered: are --ping and --pong-contains right for this server?";
        outcome.problems.push(problem.to_owned());
    }
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}

/// Waits until no connection is left, after which nothing is answered any more.
async fn gone(fleet: &Fleet) {
    while !fleet.is_gone() {
        tokio::time::sleep(super::POLL).await;
    }
}

async fn ping(client: usize, writer: Writer, counters: Rc<Counters>) {
    let pacer = counters.pacer.borrow().clone();
    let Some(answered) = counters.answered.get(client) else {
        return;
    };
    let mut had = 0;
    loop {
        let sent = match &pacer {
            Some(pacer) => match pacer.next(client, had).await {
                Some(intended) => intended,
                None => return,
            },
            None if Instant::now() < counters.end.get() => Instant::now(),
            None => return,
        };
        had += 1;
        let answer = answered.acquire();
        let Ok(()) = writer.send(&counters.frame).await else {
            counters.lost.set(counters.lost.get() + 1);
            return;
        };
        let Ok(Ok(permit)) = timeout(counters.stall, answer).await else {
            counters.lost.set(counters.lost.get() + 1);
            return;
        };
        permit.forget();
        counters.pongs.set(counters.pongs.get() + 1);
        counters.latencies.borrow_mut().add(sent.elapsed());
    }
}
