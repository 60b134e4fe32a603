//! `idle`: what a connection costs that does nothing.
//!
//! Stands for clients that wait for pushes, which most do most of the time.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Meter;
use crate::bench::Result;
use crate::bench::args::IdleArgs;
use crate::bench::fleet::Fleet;
use crate::bench::lockstep::Lockstep;
use crate::bench::outcome::Outcome;
use crate::bench::token::Tokens;

/// Opens the connections, waits until the server is quiet and reads its memory.
pub(super) async fn run(args: &IdleArgs, stop: &CancellationToken) -> Result<Outcome> {
    let shared = &args.shared;
    let mut meter = Meter::new(shared, args.connections)?;
    let mut lockstep = Lockstep::new(shared)?;
    let tokens = Tokens::new(shared, args.connections, None)?;
    let label = shared.label.as_deref();
    let mut outcome = Outcome::new(label, "idle", "connection", args.connections);
    meter.start(stop).await;
    let start = Instant::now();
    let fleet = Fleet::open(shared, args.connections, tokens, stop, |_, _| {}).await?;
    let took = start.elapsed();
    let after = meter.quiet(stop).await;
    let (closed, _) = fleet.closed();
    outcome.arrived(fleet.writers().len().saturating_sub(closed), took);
    outcome.latencies(&fleet.connecting, shared.lockstep);
    outcome.memory(meter.before.memory, after.memory);
    lockstep.ready(stop).await;
    if args.hold_seconds > 0.0 {
        let start = Instant::now();
        let hold = tokio::time::sleep(Duration::from_secs_f64(args.hold_seconds));
        stop.run_until_cancelled(hold).await;
        let (seconds, end) = (start.elapsed().as_secs_f64(), meter.costs());
        let percent = |before: Option<Duration>, after: Option<Duration>| {
            let used = after?.saturating_sub(before?);
            Some(used.as_secs_f64() / seconds * 100.0)
        };
        outcome.idle_cpu_percent = percent(after.server, end.server);
        outcome.broker_idle_cpu_percent = percent(after.broker, end.broker);
    }
    meter.account(&mut outcome, after);
    lockstep.done(stop).await;
    outcome.closed_early(fleet.closed());
    fleet.close().await;
    Ok(outcome)
}
