//! The benchmarks, one file each, and what they share: the wait for the last arrival, and the server's costs.
//!
//! Stands above the sockets and the backends: a mode decides what is sent when, and what counts as arrived.

mod churn;
mod fanout;
mod idle;
mod inbound;
mod rtt;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::args::{Command, Shared};
use super::fleet::Fleet;
use super::outcome::Outcome;
use super::process::{self, Memory, Server};
use super::{BenchError, Result};

/// How often it is looked whether all has arrived; what is measured carries its own time stamps.
const POLL: Duration = Duration::from_millis(20);
/// How long is waited, after Ctrl-C or the end of every connection, for what is still on its way.
const GRACE: Duration = Duration::from_secs(1);

/// Runs the benchmark of a command, until it ends or is stopped.
pub(super) async fn run(command: &Command, stop: &CancellationToken) -> Result<Outcome> {
    let mut outcome = match command {
        Command::Idle(args) => idle::run(args, stop).await,
        Command::Inbound(args) => inbound::run(args, stop).await,
        Command::Fanout(args) => fanout::run(args, stop).await,
        Command::Rtt(args) => rtt::run(args, stop).await,
        Command::Churn(args) => churn::run(args, stop).await,
        Command::Summary(_) | Command::Compare(_) => {
            Err(BenchError::usage("this command measures nothing"))
        }
    }?;
    outcome.interrupted = stop.is_cancelled();
    Ok(outcome)
}

/// Waits until `done`, until nothing has moved for `stall`, or until it is stopped; then for a little longer.
///
/// Polling is enough: what is measured carries its own time stamps.
async fn finished(
    stop: &CancellationToken,
    stall: Duration,
    fleet: &Fleet,
    mut done: impl FnMut() -> bool,
    mut progress: impl FnMut() -> usize,
) {
    let mut last = progress();
    let mut since = Instant::now();
    let mut stopped = None;
    while !done() {
        tokio::time::sleep(POLL).await;
        if stop.is_cancelled() {
            let stopped: &mut Instant = stopped.get_or_insert_with(Instant::now);
            if stopped.elapsed() > GRACE {
                return;
            }
        }
        let now = progress();
        if now != last {
            last = now;
            since = Instant::now();
        } else if since.elapsed() > stall || fleet.is_gone() && since.elapsed() > GRACE {
            return;
        }
    }
}

/// What the server and its broker spend meanwhile.
struct Meter {
    server: Server,
    broker: Server,
    /// Those before the load.
    before: Costs,
    /// Why a process could not be read any more.
    problem: Option<String>,
}

/// What was spent up to a moment.
#[derive(Clone, Copy, Default)]
struct Costs {
    server: Option<Duration>,
    broker: Option<Duration>,
    memory: Option<Memory>,
}

impl Meter {
    /// Checks that the processes can be read, and that so many connections can be had.
    fn new(shared: &Shared, connections: usize) -> Result<Self> {
        let (addresses, pids) = (shared.source_addresses, &shared.server_pids);
        process::check_limits(connections, addresses, pids)?;
        Ok(Self {
            server: Server::new(&shared.server_pids)?,
            broker: Server::new(&shared.broker_pids)?,
            before: Costs::default(),
            problem: None,
        })
    }

    /// Waits until the server is quiet, and counts from here.
    async fn start(&mut self, stop: &CancellationToken) {
        self.before = self.quiet(stop).await;
    }

    /// What was spent so far, once the server is quiet.
    async fn quiet(&mut self, stop: &CancellationToken) -> Costs {
        if let Err(problem) = self.server.quiet(stop).await {
            self.problem.get_or_insert(problem);
        }
        self.costs()
    }

    fn costs(&mut self) -> Costs {
        let costs = |server: &Server, broker: &Server| {
            Ok::<_, String>(Costs {
                server: server.cpu()?,
                broker: broker.cpu()?,
                memory: server.memory()?,
            })
        };
        costs(&self.server, &self.broker).unwrap_or_else(|problem| {
            self.problem.get_or_insert(problem);
            Costs::default()
        })
    }

    /// Writes down what the load cost, once `outcome` knows how much there was of it.
    fn account(&self, outcome: &mut Outcome, after: Costs) {
        outcome.cpu(self.before.server, after.server);
        outcome.broker_cpu(self.before.broker, after.broker);
        if let Some(problem) = &self.problem {
            let problem = format!("{problem}: did it end during the run?");
            outcome.problems.push(problem);
        }
    }
}

/// Tells this run's messages from those that an earlier one left behind.
fn run_number() -> u32 {
    rand::random::<u32>().max(1)
}
