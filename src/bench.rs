//! `wsgw bench`: puts load on a gateway and says what arrived, how late, and what it cost.
//!
//! Stands outside the data path, as its clients and its backend. It often shares a small machine with the server that it
//! measures, so it spends as little as it can: one thread, raw sockets, frames made by hand (`frame`), one read buffer
//! for all sockets (`socket`). For the same reason `redis`, `amqp` and `webhook` are not the gateway's own clients and
//! server: those have pools, reconnecting and retries, which cost CPU here and would hide what is looked for.
//!
//! A run goes: `args` → `target` and `net` say where and by what connection → `fleet` opens the sockets by
//! `connector`, with tokens from `token` → one of `modes` makes the load at the times of `pace`, with `webhook` as the
//! backend, or `redis` and `amqp` reading where the backend would, `process` reading what the server spent, and `lockstep`
//! waiting for others of its kind →
//! `outcome` says it in a table or as JSON, and whether all is well.

mod amqp;
pub(crate) mod args;
mod compare;
mod connector;
mod error;
mod fleet;
mod frame;
mod http;
mod lockstep;
mod message;
mod modes;
mod net;
mod outcome;
mod pace;
mod process;
mod progress;
mod redis;
mod socket;
mod tally;
mod target;
mod token;
mod webhook;

use std::io::Write;

use args::Command;
pub(crate) use error::BenchError;
use tokio_util::sync::CancellationToken;

/// A result of this module: failures are already worded for a person.
type Result<T, E = BenchError> = std::result::Result<T, E>;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Everything arrived, in order.
    Well,
    /// Something did not, or came out of order.
    Badly,
    /// Ctrl-C ended it.
    Interrupted,
}

/// Runs one command and prints its result.
///
/// # Errors
///
/// When there is no result; the text is for a person.
pub(crate) fn run(command: &Command, out: &mut dyn Write) -> Result<Ended> {
    let json = match command {
        Command::Summary(args) => return outcome::summarise(&args.files, out),
        Command::Compare(args) => return compare::run(args, out),
        Command::Idle(args) => args.shared.json,
        Command::Inbound(args) => args.shared.json,
        Command::Fanout(args) => args.shared.json,
        Command::Rtt(args) => args.shared.json,
        Command::Churn(args) => args.shared.json,
    };
    process::raise_file_limit();
    // One thread: a second one would only take time from the server, and it lets the counters be plain cells.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let stop = CancellationToken::new();
    let outcome = tokio::task::LocalSet::new().block_on(&runtime, async {
        tokio::select! {
            biased;
            outcome = modes::run(command, &stop) => outcome,
            interrupted = interrupted_twice(&stop) => {
                interrupted?;
                Err(BenchError::Interrupted)
            }
        }
    })?;
    match outcome.print(json, out) {
        // A reader that went away does not make a run that failed one that went well.
        Err(BenchError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        printed => printed?,
    }
    Ok(outcome.ended())
}

/// The first signal ends the load, the second the wait for what is still on its way.
async fn interrupted_twice(stop: &CancellationToken) -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    for _ in 0..2 {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        stop.cancel();
    }
    Ok(())
}
