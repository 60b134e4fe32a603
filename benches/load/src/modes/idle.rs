//! `idle`: what a connection costs that does nothing.

use std::time::{Duration, Instant};

use crate::Result;
use crate::args::IdleArgs;
use crate::client::{self, Fleet};
use crate::outcome::Outcome;
use crate::process::Server;

/// Opens the connections, waits until the server is quiet and reads its memory.
pub(crate) async fn run(args: &IdleArgs) -> Result<Outcome> {
    let shared = &args.shared;
    let label = shared.label.as_deref();
    let mut outcome = Outcome::new(label, "idle", "connection", args.connections);
    let tokens = client::tokens(shared, args.connections, "")?;
    let server = Server::new(&shared.server_pids)?;
    let broker = Server::new(&shared.broker_pids)?;
    server.quiet().await?;
    let memory = server.memory()?;
    let (cpu, broker_cpu) = (server.cpu()?, broker.cpu()?);
    let start = Instant::now();
    let fleet = Fleet::open(shared, tokens, |_, _| {}).await?;
    let took = start.elapsed();
    server.quiet().await?;
    let (closed, _) = fleet.closed();
    outcome.arrived(args.connections - closed, took);
    outcome.cpu(cpu, server.cpu()?);
    outcome.broker_cpu(broker_cpu, broker.cpu()?);
    outcome.memory(memory, server.memory()?);
    if args.hold_seconds > 0.0 {
        let (cpu, broker_cpu) = (server.cpu()?, broker.cpu()?);
        tokio::time::sleep(Duration::from_secs_f64(args.hold_seconds)).await;
        let percent = |before: Option<Duration>, after: Option<Duration>| {
            let used = after?.saturating_sub(before?);
            Some(used.as_secs_f64() / args.hold_seconds * 100.0)
        };
        outcome.idle_cpu_percent = percent(cpu, server.cpu()?);
        outcome.broker_idle_cpu_percent = percent(broker_cpu, broker.cpu()?);
    }
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}
