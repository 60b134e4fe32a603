//! `wsgw bench`: the load tool's exit codes and help; what it does is in `crate::bench`.
//!
//! Stands outside the gateway, as its clients and its backend.

use std::process::ExitCode;

use clap::Args;

use super::{USAGE, complain, fail};
use crate::bench::{self, BenchError, Ended, args};

/// What the help ends with.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    wsgw bench idle --key keys/private.pem --connections 5000 --server-pid 4711\n      \
    what a connection costs that does nothing: memory and CPU of process 4711\n  \
    wsgw bench inbound --key keys/private.pem --rate 1000 --seconds 10 --webhook-listen 127.0.0.1:8080\n      \
    1,000 messages a second; this command is the backend, and counts what arrives\n  \
    wsgw bench fanout --key keys/private.pem --connections 1000 --pushes 200\n      \
    200 pushes to 1,000 clients, by the API key in GATEWAY_API_KEY\n  \
    wsgw bench rtt --url wss://chat.example.com/ws --allow-remote --token-file token.txt\n      \
    round trips to a gateway elsewhere, with a token of yours\n  \
    wsgw bench rtt --url ws://127.0.0.1:9000/ --ping hello --pong-contains hello\n      \
    the same against any WebSocket server that echoes\n\n\
    `wsgw bench MODE --help` lists a mode's options. Start the gateway with\n\
    WS_RATE_LIMIT_PER_SEC=0, or its rate limit is what you measure.";

/// Exit code of a process that Ctrl-C ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Which benchmark to run.
#[derive(Debug, Clone, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    command: args::Command,
}

/// Runs it; the exit code says whether all arrived.
pub(super) fn run(args: &BenchArgs) -> ExitCode {
    let ended = bench::run(&args.command, &mut std::io::stdout().lock());
    match ended {
        Ok(Ended::Well) => ExitCode::SUCCESS,
        Ok(Ended::Badly) => ExitCode::FAILURE,
        Ok(Ended::Interrupted) | Err(BenchError::Interrupted) => INTERRUPTED.into(),
        Err(BenchError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error @ BenchError::Usage(_)) => {
            complain(&format!("wsgw: {error}"));
            USAGE.into()
        }
        Err(error) => fail(&error),
    }
}
