//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Parser, Subcommand};

/// Measures what a WebSocket gateway costs.
#[derive(Debug, Parser)]
#[command(version, about, long_about = None)]
pub(crate) struct Cli {
    /// What to measure.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One benchmark each.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Opens connections and leaves them alone: memory and CPU per connection
    Idle(IdleArgs),
    /// Clients send messages, the backend's webhook or a broker receives them: CPU per message, latency
    Inbound(InboundArgs),
    /// The backend publishes, every client receives: CPU per delivery, latency
    Fanout(FanoutArgs),
    /// Every client sends a ping as soon as the last was answered: CPU per round trip, latency
    Rtt(RttArgs),
    /// Connects and closes at a rate: CPU per connection, connect latency
    Churn(ChurnArgs),
    /// Prints how one benchmark's figures relate to another's, by the median of the runs of each
    Compare(CompareArgs),
    /// Prints one table of the results that `--json` runs left in files
    Summary(SummaryArgs),
}

/// Options of every benchmark.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shared {
    /// WebSocket address of the gateway
    #[arg(long, default_value = "ws://127.0.0.1:8000/ws")]
    pub(crate) url: String,
    /// RSA private key (PEM) to sign the clients' tokens with; without it none are sent
    #[arg(long, env = "JWT_PRIVATE_KEY_FILE")]
    pub(crate) private_key: Option<PathBuf>,
    /// Process to account for; repeat it for a server of several processes
    #[arg(long = "server-pid", value_name = "PID")]
    pub(crate) server_pids: Vec<u32>,
    /// Process of a broker behind the server, to account for by itself; repeat it for several
    #[arg(long = "broker-pid", value_name = "PID")]
    pub(crate) broker_pids: Vec<u32>,
    /// Spread the connections over 127.0.0.1 to 127.0.0.K (for more than 28,000 of them)
    #[arg(long, default_value_t = 1, value_name = "K", value_parser = clap::value_parser!(u8).range(1..=250))]
    pub(crate) source_addresses: u8,
    /// How many connections may be opening at once
    #[arg(long, default_value_t = 64, value_parser = positive)]
    pub(crate) connect_concurrency: usize,
    /// Give up when nothing has moved for so many seconds
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) stall_seconds: f64,
    /// Allow targets other than this machine
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// Print one JSON object instead of a table
    #[arg(long)]
    pub(crate) json: bool,
    /// Name of this run in the results
    #[arg(long)]
    pub(crate) label: Option<String>,
}

/// Options of `idle`.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// Options of every benchmark.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections to open
    #[arg(long, default_value_t = 5000, value_parser = positive)]
    pub(crate) connections: usize,
    /// Keep them so long after the memory was read, and report the CPU that idling costs
    #[arg(long, default_value_t = 0.0, value_parser = seconds)]
    pub(crate) hold_seconds: f64,
}

/// Options of `inbound`.
#[derive(Debug, Args)]
pub(crate) struct InboundArgs {
    /// Options of every benchmark.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections send
    #[arg(long, default_value_t = 50, value_parser = positive)]
    pub(crate) connections: usize,
    /// How many messages they send together
    #[arg(long, default_value_t = 20_000, value_parser = positive)]
    pub(crate) messages: usize,
    /// Messages a second over all connections; `closed`: a connection sends when earlier ones
    /// were delivered; `burst`: everything as fast as the sockets take it
    #[arg(long, default_value = "burst")]
    pub(crate) rate: InboundRate,
    /// Undelivered messages a connection may have with `--rate closed`
    #[arg(long, default_value_t = 4, value_parser = positive)]
    pub(crate) window: usize,
    /// Size of a message
    #[arg(long, default_value_t = 100)]
    pub(crate) payload_bytes: usize,
    /// Be the backend: receive the gateway's webhook here and check what arrives
    #[arg(long, value_name = "ADDR")]
    pub(crate) webhook_listen: Option<SocketAddr>,
    /// Answer 500 to so many percent of the webhook's requests
    #[arg(long, default_value_t = 0.0, requires = "webhook_listen", value_parser = percent)]
    pub(crate) fail_percent: f64,
    /// Answer every webhook request so late
    #[arg(long, default_value_t = 0, requires = "webhook_listen")]
    pub(crate) delay_ms: u64,
    /// Check what arrives in a Redis stream: with `--rate burst` afterwards, so that reading costs nothing while
    /// it is measured; else as it arrives
    #[arg(long, value_name = "URL", conflicts_with = "webhook_listen")]
    pub(crate) redis: Option<String>,
    /// The stream of `--redis`
    #[arg(long, default_value = "ws.inbox")]
    pub(crate) stream: String,
    /// Check what arrives in a `RabbitMQ` queue (as `guest`, in the virtual host `/`), as it arrives
    #[arg(long, value_name = "URL", conflicts_with_all = ["webhook_listen", "redis"])]
    pub(crate) rabbitmq: Option<String>,
    /// The queue of `--rabbitmq`
    #[arg(long, default_value = "ws.inbox")]
    pub(crate) queue: String,
}

/// Options of `fanout`.
#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    /// Options of every benchmark.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections receive
    #[arg(long, default_value_t = 1000, value_parser = positive)]
    pub(crate) connections: usize,
    /// How many pushes to publish
    #[arg(long, default_value_t = 200, value_parser = positive)]
    pub(crate) pushes: usize,
    /// Publish without pause (the default)
    #[arg(long, conflicts_with = "rate")]
    pub(crate) burst: bool,
    /// Publish so many a second
    #[arg(long, value_parser = positive_rate)]
    pub(crate) rate: Option<f64>,
    /// Unanswered publish calls on the wire in a burst
    #[arg(long, default_value_t = 32, value_parser = positive)]
    pub(crate) window: usize,
    /// Size of a push's payload
    #[arg(long, default_value_t = 100)]
    pub(crate) payload_bytes: usize,
    /// Subject that all connections share
    #[arg(long, default_value = "room:bench")]
    pub(crate) subject: String,
    /// Where to publish
    #[arg(long, default_value = "http://127.0.0.1:8000/internal/publish")]
    pub(crate) publish_url: String,
    /// Key of the internal API
    #[arg(long, env = "GATEWAY_API_KEY", hide_env_values = true)]
    pub(crate) api_key: String,
    /// Publish through a Redis stream instead
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The stream of `--redis`
    #[arg(long, default_value = "ws.outbox")]
    pub(crate) stream: String,
}

/// Options of `rtt`.
#[derive(Debug, Args)]
pub(crate) struct RttArgs {
    /// Options of every benchmark.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections ping
    #[arg(long, default_value_t = 50, value_parser = positive)]
    pub(crate) connections: usize,
    /// For how long
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    pub(crate) seconds: f64,
}

/// Options of `churn`.
#[derive(Debug, Args)]
pub(crate) struct ChurnArgs {
    /// Options of every benchmark.
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// Connections opened a second
    #[arg(long, default_value_t = 200.0, value_parser = positive_rate)]
    pub(crate) rate: f64,
    /// For how long
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub(crate) seconds: f64,
}

/// Options of `compare`.
#[derive(Debug, Args)]
pub(crate) struct CompareArgs {
    /// Label of the runs that count as 1
    pub(crate) base: String,
    /// Label of the runs to compare with them
    pub(crate) other: String,
    /// Files with one JSON result a line
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Options of `summary`.
#[derive(Debug, Args)]
pub(crate) struct SummaryArgs {
    /// Files with one JSON result a line
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// How `inbound` decides when to send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum InboundRate {
    /// At this many messages a second, whatever the server does.
    PerSecond(f64),
    /// When earlier messages were delivered.
    Closed,
    /// At once.
    Burst,
}

impl FromStr for InboundRate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "closed" => Ok(Self::Closed),
            "burst" => Ok(Self::Burst),
            number => positive_rate(number)
                .map(Self::PerSecond)
                .map_err(|_| "expected messages per second, `closed` or `burst`".to_owned()),
        }
    }
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000_000) => Ok(number),
        _ => Err("expected a number from 1 to 10000000".to_owned()),
    }
}

fn positive_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && rate <= 1e6 => Ok(rate),
        _ => Err("expected a rate above 0, up to 1000000 a second".to_owned()),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0 to 3600".to_owned()),
    }
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("expected a percentage from 0 to 100".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn rates() {
        assert_eq!("closed".parse(), Ok(InboundRate::Closed));
        assert_eq!("250".parse(), Ok(InboundRate::PerSecond(250.0)));
        for wrong in ["0", "-1", "NaN", "inf", "fast"] {
            assert!(wrong.parse::<InboundRate>().is_err(), "{wrong}");
        }
    }
}
