//! `inbound`: messages from clients to the backend.
//!
//! Stands on both ends of the gateway's main way: it sends what clients send, and checks what the backend gets.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Meter, finished, run_number};
use crate::bench::args::{Extent, InboundArgs, InboundRate};
use crate::bench::fleet::Fleet;
use crate::bench::lockstep::Lockstep;
use crate::bench::message::{Mark, Template};
use crate::bench::outcome::Outcome;
use crate::bench::progress;
use crate::bench::token::Tokens;
use crate::bench::webhook::Backend;
use crate::bench::{BenchError, Result};

mod arrivals;
mod load;

use arrivals::Arrivals;
use load::{Load, Senders};

/// Characters of the first answer to a message that are shown.
const SHOWN: usize = 200;

/// Sends the messages and, where it is told where they arrive, checks that they do.
pub(super) async fn run(args: &InboundArgs, stop: &CancellationToken) -> Result<Outcome> {
    let (shared, checked) = (&args.shared, args.has_backend());
    if args.rate == InboundRate::Closed && !checked {
        return Err(BenchError::usage(
            "--rate closed needs a backend to know what was delivered: --webhook-listen, --redis or --rabbitmq",
        ));
    }
    let run = run_number();
    let template = Template::new(args.message.as_deref(), args.payload_bytes, run)?;
    if checked && !template.is_marked() {
        return Err(BenchError::usage(
            "--message needs {id} somewhere, or its arrival cannot be told",
        ));
    }
    let mut meter = Meter::new(shared, args.connections)?;
    let mut lockstep = Lockstep::new(shared)?;
    let load = Load::new(args, template)?;
    let backend = {
        let load = load.clone();
        let on_message = move |client, n, now| load.arrived(client, n, now);
        let mark = Mark::new(run);
        std::rc::Rc::new(Backend::new(mark, args.connections, Box::new(on_message)))
    };
    // Before the first client connects: `connected` is an event too.
    let arrivals = Arrivals::open(args, &backend).await?;
    let tokens = Tokens::new(shared, args.connections, None)?;
    let answers = load.clone();
    // The gateway answers a plain message only to say that it did not take it.
    let on_message = move |_, message: &[u8]| answers.answered(message);
    let fleet = Fleet::open(shared, args.connections, tokens, stop, on_message).await?;
    lockstep.ready(stop).await;
    meter.start(stop).await;
    let start = Instant::now();
    let senders = Senders::start(args, &load, &fleet)?;
    wait(args, stop, &load, &fleet, &backend, &arrivals).await;
    // Those still waiting, for room in the window or in the socket, wait for nothing any more.
    drop(senders);
    let after = meter.quiet(stop).await;
    // Before a burst is read back, which costs the broker something.
    lockstep.done(stop).await;
    let stopped = arrivals.finish(&backend).await;
    let finish = load.last_arrival.get().unwrap_or_else(Instant::now);
    let sent = load.sent.get();
    let expected = match args.extent() {
        Extent::Count(messages) if !stop.is_cancelled() => messages,
        _ => sent,
    };
    let mut outcome = Outcome::new(shared.label.as_deref(), "inbound", "message", expected);
    let totals = backend.totals();
    let count = if checked { totals.unique } else { sent };
    outcome.arrived(count, finish.saturating_duration_since(start));
    meter.account(&mut outcome, after);
    if let Err(error) = stopped {
        outcome.problems.push(error.to_string());
    }
    if checked {
        outcome.check(totals);
        outcome.latencies(&load.latencies.borrow(), shared.lockstep);
        describe(args, &backend, &mut outcome);
    } else {
        outcome.problem(expected - sent.min(expected), "messages could not be sent");
        let note = "arrival was not checked (no backend given)";
        outcome.notes.push(note.to_owned());
    }
    if let (answered @ 1.., Some(first)) = load.answers() {
        let first: String = crate::cli::clean(&first).chars().take(SHOWN).collect();
        outcome.problems.push(format!(
            "{answered} messages were answered, so refused most likely, the first with: {first}"
        ));
    }
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}

/// Says what else the backend saw.
fn describe(args: &InboundArgs, backend: &Backend, outcome: &mut Outcome) {
    if outcome.count == 0 && outcome.expected > 0 {
        let problem = "nothing arrived: is that where the gateway sends its events?";
        outcome.problems.push(problem.to_owned());
    }
    if args.webhook_listen.is_some() {
        // Brokers get `connected` elsewhere, so that `seq` has gaps there.
        let missing = usize::try_from(backend.missing_events()).unwrap_or(usize::MAX);
        outcome.problem(missing, "events are missing by their `seq`");
    }
    outcome.problem(backend.malformed.get(), "arrivals held no event");
    let failed = backend.failed_on_purpose.get();
    if failed > 0 {
        let note = format!("{failed} webhook requests were failed on purpose");
        outcome.notes.push(note);
    }
}

/// Waits for the last arrival (or the last send, when arrivals are not seen).
async fn wait(
    args: &InboundArgs,
    stop: &CancellationToken,
    load: &Load,
    fleet: &Fleet,
    backend: &Backend,
    arrivals: &Arrivals,
) {
    let end = match args.extent() {
        Extent::Seconds(seconds) => Some(Instant::now() + Duration::from_secs_f64(seconds)),
        Extent::Count(_) => None,
    };
    let bar = progress::bar("messages", load.messages.unwrap_or(0));
    let seen = || match arrivals.counted() {
        Some(count) => count,
        None if args.has_backend() => backend.totals().unique,
        None => load.sent.get(),
    };
    let done = || load.is_sent() && seen() >= load.sent.get();
    let progress = || {
        if stop.is_cancelled() || end.is_some_and(|end| Instant::now() >= end) {
            load.halt();
        }
        bar.set_position(seen() as u64);
        seen() + load.sent.get()
    };
    // Between two paced messages nothing moves, and that is no stall.
    let pause = match args.rate {
        InboundRate::PerSecond(rate) => 1.0 / rate,
        InboundRate::Closed | InboundRate::Burst => 0.0,
    };
    let stall = Duration::from_secs_f64(args.shared.stall_seconds + pause);
    finished(stop, stall, fleet, done, progress).await;
    bar.finish_and_clear();
}
