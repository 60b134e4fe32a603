//! Load generator for the gateway's macro benchmarks.
//!
//! It shares a small machine with the server it measures, so it spends as little as it can: one
//! thread, raw TCP, hand-made frames (`frame`), one read buffer for all sockets (`socket`).
//! A run goes: `args` → `client` opens the sockets with tokens from `token` → one of `modes`
//! makes the load, with `webhook` as the backend, or `redis` and `amqp` reading where the backend
//! would, and `process` reading what the server spent → `outcome` prints it and decides the exit
//! status.

mod amqp;
mod args;
mod client;
mod compare;
mod frame;
mod http;
mod modes;
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

use std::process::ExitCode;

use args::{Cli, Command};
use clap::Parser;

/// A failure that ends the run, already worded for a person.
type Result<T, E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

fn main() -> ExitCode {
    match start(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("wsgw-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command and tells whether everything sent also arrived.
fn start(cli: Cli) -> Result<bool> {
    let (shared, command) = match cli.command {
        Command::Summary(args) => return outcome::summarise(&args.files),
        Command::Compare(args) => return compare::run(&args),
        Command::Idle(args) => (args.shared.clone(), Command::Idle(args)),
        Command::Inbound(args) => (args.shared.clone(), Command::Inbound(args)),
        Command::Fanout(args) => (args.shared.clone(), Command::Fanout(args)),
        Command::Rtt(args) => (args.shared.clone(), Command::Rtt(args)),
        Command::Churn(args) => (args.shared.clone(), Command::Churn(args)),
    };
    process::raise_file_limit();
    // One thread: a second one would only take time from the server, and it lets the counters
    // be plain cells.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = tokio::task::LocalSet::new();
    let outcome = local.block_on(&runtime, async {
        match &command {
            Command::Idle(args) => modes::idle::run(args).await,
            Command::Inbound(args) => modes::inbound::run(args).await,
            Command::Fanout(args) => modes::fanout::run(args).await,
            Command::Rtt(args) => modes::rtt::run(args).await,
            Command::Churn(args) => modes::churn::run(args).await,
            Command::Summary(_) | Command::Compare(_) => {
                unreachable!("handled before the runtime starts")
            }
        }
    })?;
    outcome.print(shared.json)?;
    Ok(outcome.passed())
}
