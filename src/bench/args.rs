//! What `wsgw bench` takes on the command line.
//!
//! Stands first: every mode gets its options from here, checked as far as that needs no network.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args, Subcommand, ValueEnum};

/// Messages that `inbound` sends when neither their number nor a time is given.
const DEFAULT_MESSAGES: usize = 20_000;
/// Pushes of `fanout` when neither their number nor a time is given.
const DEFAULT_PUSHES: usize = 200;

/// One benchmark each.
#[derive(Debug, Clone, Subcommand)]
pub(crate) enum Command {
    /// Opens connections and leaves them alone: memory and CPU per connection, connect latency.
    ///
    /// Works against any WebSocket server.
    #[command(
        after_help = "Example:\n  wsgw bench idle --key keys/private.pem --connections 5000 --server-pid 4711"
    )]
    Idle(IdleArgs),
    /// Clients send messages, and their arrival is checked: CPU per message, latency from client to backend.
    ///
    /// This command is the backend's webhook (--webhook-listen), or reads the broker that the gateway writes to (--redis,
    /// --rabbitmq). With none of them it only loads.
    #[command(after_help = "Examples:\n  \
        wsgw bench inbound --key keys/private.pem --webhook-listen 127.0.0.1:8080 --rate 1000 --seconds 10\n  \
        wsgw bench inbound --key keys/private.pem --redis redis://127.0.0.1:6379 --rate closed\n  \
        wsgw bench inbound --token-file token.txt --message '{\"type\":\"chat\",\"room\":7,\"text\":\"{id}\"}'")]
    Inbound(InboundArgs),
    /// The backend publishes, every client receives: CPU per delivery, latency from publishing to clients.
    ///
    /// Tokens that are signed here have the subject; tokens of your own must have it already.
    #[command(after_help = "Examples:\n  \
        wsgw bench fanout --key keys/private.pem --connections 1000 --rate 20 --seconds 10\n  \
        wsgw bench fanout --key keys/private.pem --redis redis://127.0.0.1:6379\n\n\
        A burst needs buffers in the gateway that hold it: BACKPRESSURE_PER_CONN_BUFFER above --pushes.")]
    Fanout(FanoutArgs),
    /// Every client pings and waits for the answer: CPU per round trip, latency.
    ///
    /// Works against any WebSocket server whose answer can be told by a text in it.
    #[command(after_help = "Examples:\n  \
        wsgw bench rtt --key keys/private.pem --connections 50\n  \
        wsgw bench rtt --url ws://127.0.0.1:9000/ --ping hello --pong-contains hello --rate 500")]
    Rtt(RttArgs),
    /// Connects and closes at a rate: CPU per connection, connect latency.
    ///
    /// Works against any WebSocket server.
    #[command(
        after_help = "Example:\n  wsgw bench churn --key keys/private.pem --rate 200 --seconds 10"
    )]
    Churn(ChurnArgs),
    /// Prints one table of the results that --json runs left in files.
    Summary(SummaryArgs),
    /// Prints how one benchmark's figures relate to another's, by the median of the runs of each.
    Compare(CompareArgs),
}

/// Options of every benchmark.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shared {
    /// WebSocket address of the gateway, `ws://` or `wss://`.
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:8000/ws")]
    pub(crate) url: String,
    /// Allows targets other than this machine: load is an attack on those who did not ask for it.
    #[arg(long)]
    pub(crate) allow_remote: bool,
    /// File with the certificates (PEM) of the authority behind `wss://`, instead of those the machine trusts.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// A header of every upgrade request, such as `Origin: https://example.com`; repeatable.
    #[arg(
        long = "header",
        value_name = "NAME: VALUE",
        help_heading = "Handshake"
    )]
    pub(crate) headers: Vec<String>,
    /// A subprotocol to offer; repeatable.
    #[arg(long = "subprotocol", value_name = "NAME", help_heading = "Handshake")]
    pub(crate) subprotocols: Vec<String>,
    /// Private key (PEM), or a file with the shared secret, to sign the clients' tokens with, as `wsgw token` takes it.
    #[arg(
        long,
        value_name = "FILE",
        visible_alias = "private-key-file",
        env = "JWT_PRIVATE_KEY_FILE",
        value_parser = OsStringValueParser::new().map(PathBuf::from),
        help_heading = "Tokens"
    )]
    pub(crate) key: Option<PathBuf>,
    /// Signature algorithm, by default the customary one of the key.
    #[arg(long, value_name = "ALG", help_heading = "Tokens")]
    pub(crate) alg: Option<String>,
    /// The claim that holds the user id, of users 0, 1, 2 and so on.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "user_id",
        help_heading = "Tokens"
    )]
    pub(crate) user_claim: String,
    /// A further claim; the value is taken as JSON if it is JSON, else as a string. Repeatable.
    #[arg(long = "claim", value_name = "NAME=VALUE", help_heading = "Tokens")]
    pub(crate) claims: Vec<String>,
    /// A token for all clients, for those who have no key. Others on this machine can read it; rather use a file.
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with = "token_file",
        help_heading = "Tokens"
    )]
    pub(crate) token: Option<String>,
    /// File with a token for all clients, or with several, one a line, which they use in turn.
    #[arg(long, value_name = "FILE", help_heading = "Tokens")]
    pub(crate) token_file: Option<PathBuf>,
    /// Where the token stands in the upgrade request.
    #[arg(
        long,
        value_name = "PLACE",
        value_enum,
        default_value_t,
        help_heading = "Tokens"
    )]
    pub(crate) token_in: TokenPlace,
    /// Connections opened a second; 0: as fast as --connect-concurrency allows.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 1000.0, value_parser = rate_or_zero, help_heading = "Connections")]
    pub(crate) ramp: f64,
    /// How many connections may be opening at once.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = positive, help_heading = "Connections")]
    pub(crate) connect_concurrency: usize,
    /// Spreads the connections over 127.0.0.1 to 127.0.0.K, for more of them than one address has ports.
    #[arg(long, value_name = "K", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=250), help_heading = "Connections")]
    pub(crate) source_addresses: u8,
    /// Gives up when nothing has moved for so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = seconds, help_heading = "Connections")]
    pub(crate) stall_seconds: f64,
    /// Process of the server, whose CPU and memory are reported; repeat it for a server of several processes.
    #[arg(long = "server-pid", value_name = "PID", help_heading = "Result")]
    pub(crate) server_pids: Vec<u32>,
    /// Process of a broker behind the server, to account for by itself; repeat it for several.
    #[arg(long = "broker-pid", value_name = "PID", help_heading = "Result")]
    pub(crate) broker_pids: Vec<u32>,
    /// For several of these at once: says `ready` on standard error when all connections are open, and `done` when the
    /// load is over, and each time waits for a line on standard input before it goes on.
    #[arg(long, help_heading = "Connections")]
    pub(crate) lockstep: bool,
    /// Prints one JSON object instead of a table.
    #[arg(long, help_heading = "Result")]
    pub(crate) json: bool,
    /// Name of this run in the results, by default the mode.
    #[arg(long, value_name = "NAME", help_heading = "Result")]
    pub(crate) label: Option<String>,
}

/// Where a token stands in the upgrade request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum TokenPlace {
    /// `Authorization: Bearer`.
    #[default]
    Header,
    /// The query parameter `access_token`.
    Query,
    /// The subprotocol after `bearer`, as browsers have to.
    Subprotocol,
}

/// Options of `idle`.
#[derive(Debug, Clone, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections to open.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    pub(crate) connections: usize,
    /// Keeps them so long after the memory was read, and reports the CPU that idling costs.
    #[arg(long, visible_alias = "seconds", value_name = "SECONDS", default_value_t = 0.0, value_parser = seconds)]
    pub(crate) hold_seconds: f64,
}

/// Options of `inbound`.
#[derive(Debug, Clone, Args)]
pub(crate) struct InboundArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections send.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    pub(crate) connections: usize,
    /// How many messages they send together; 20,000 unless --seconds is given.
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "seconds")]
    messages: Option<usize>,
    /// For how long they send, instead of --messages.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds)]
    seconds: Option<f64>,
    /// Messages a second over all connections; `closed`: a connection sends when earlier ones were delivered; `burst`:
    /// as fast as the sockets take it.
    #[arg(long, value_name = "RATE", default_value = "burst")]
    pub(crate) rate: InboundRate,
    /// Undelivered messages a connection may have with `--rate closed`.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = positive)]
    pub(crate) window: usize,
    /// The message, with `{id}` where its identity is to stand (needed to check its arrival), and if you like `{client}`,
    /// `{number}`, `{time}` (milliseconds since 1970) and `{pad}`.
    #[arg(long, value_name = "TEXT")]
    pub(crate) message: Option<String>,
    /// Size of a message, reached by `{pad}`; by default 100.
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) payload_bytes: Option<usize>,
    /// Is the backend: receives the gateway's webhook here and checks what arrives.
    #[arg(long, value_name = "ADDR", help_heading = "Backend")]
    pub(crate) webhook_listen: Option<SocketAddr>,
    /// Answers 500 to so many percent of the webhook's requests.
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, requires = "webhook_listen", value_parser = percent, help_heading = "Backend")]
    pub(crate) fail_percent: f64,
    /// Answers every webhook request so late.
    #[arg(
        long,
        value_name = "MILLISECONDS",
        default_value_t = 0,
        requires = "webhook_listen",
        help_heading = "Backend"
    )]
    pub(crate) delay_ms: u64,
    /// Checks what arrives in a Redis stream: with `--rate burst` afterwards, so that reading costs nothing while it is
    /// measured; else as it arrives.
    #[arg(
        long,
        value_name = "URL",
        conflicts_with = "webhook_listen",
        help_heading = "Backend"
    )]
    pub(crate) redis: Option<String>,
    /// The stream of --redis.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "ws.inbox",
        help_heading = "Backend"
    )]
    pub(crate) stream: String,
    /// Checks what arrives in a `RabbitMQ` queue, as it arrives; it is consumed.
    #[arg(long, value_name = "URL", conflicts_with_all = ["webhook_listen", "redis"], help_heading = "Backend")]
    pub(crate) rabbitmq: Option<String>,
    /// The queue of --rabbitmq.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "ws.inbox",
        help_heading = "Backend"
    )]
    pub(crate) queue: String,
}

/// When a load is over.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Extent {
    /// After so many.
    Count(usize),
    /// After so many seconds.
    Seconds(f64),
}

impl InboundArgs {
    /// When enough was sent: at a rate a time is a count.
    pub(crate) fn extent(&self) -> Extent {
        match (self.messages, self.seconds, self.rate) {
            (_, Some(seconds), InboundRate::PerSecond(rate)) => Extent::Count(times(rate, seconds)),
            (_, Some(seconds), _) => Extent::Seconds(seconds),
            (messages, None, _) => Extent::Count(messages.unwrap_or(DEFAULT_MESSAGES)),
        }
    }

    /// Whether it is known where messages arrive.
    pub(crate) fn has_backend(&self) -> bool {
        self.webhook_listen.is_some() || self.redis.is_some() || self.rabbitmq.is_some()
    }
}

/// Options of `fanout`.
#[derive(Debug, Clone, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections receive.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = positive)]
    pub(crate) connections: usize,
    /// How many pushes to publish; 200 unless --seconds is given.
    #[arg(long, value_name = "N", value_parser = positive, conflicts_with = "seconds")]
    pushes: Option<usize>,
    /// For how long to publish, at --rate.
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, requires = "rate")]
    seconds: Option<f64>,
    /// Publishes without pause (the default).
    #[arg(long, conflicts_with = "rate")]
    burst: bool,
    /// Publishes so many a second.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive_rate)]
    pub(crate) rate: Option<f64>,
    /// Unanswered publish calls on the wire in a burst.
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = positive)]
    pub(crate) window: usize,
    /// Size of a push's payload.
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = size)]
    pub(crate) payload_bytes: usize,
    /// Subject that all connections share.
    #[arg(long, value_name = "SUBJECT", default_value = "room:bench")]
    pub(crate) subject: String,
    /// Number that the pushes carry, for several of these at once that share it; by default one of this run's own.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) run: Option<u32>,
    /// Publishes nothing, and receives the --pushes of another one of the same --run; latencies go by the clocks of both.
    #[arg(long, requires = "run")]
    pub(crate) receive: bool,
    /// Where to publish; by default `/internal/publish` at the host of --url.
    #[arg(long, value_name = "URL")]
    pub(crate) publish_url: Option<String>,
    /// Key of the internal API.
    #[arg(
        long,
        value_name = "KEY",
        env = "GATEWAY_API_KEY",
        hide_env_values = true,
        default_value = "",
        hide_default_value = true
    )]
    pub(crate) api_key: String,
    /// Publishes through a Redis stream instead.
    #[arg(long, value_name = "URL")]
    pub(crate) redis: Option<String>,
    /// The stream of --redis.
    #[arg(long, value_name = "NAME", default_value = "ws.outbox")]
    pub(crate) stream: String,
}

impl FanoutArgs {
    /// How many pushes to publish.
    pub(crate) fn pushes(&self) -> usize {
        match (self.seconds, self.rate) {
            (Some(seconds), Some(rate)) => times(rate, seconds),
            _ => self.pushes.unwrap_or(DEFAULT_PUSHES),
        }
    }
}

/// Options of `rtt`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RttArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// How many connections ping.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = positive)]
    pub(crate) connections: usize,
    /// For how long.
    #[arg(long, value_name = "SECONDS", default_value_t = 5.0, value_parser = positive_seconds)]
    pub(crate) seconds: f64,
    /// Pings a second over all connections; by default each pings as soon as its last ping was answered.
    #[arg(long, value_name = "PER_SECOND", value_parser = positive_rate)]
    pub(crate) rate: Option<f64>,
    /// The text message to send.
    #[arg(long, value_name = "TEXT", default_value = r#"{"type":"ping"}"#)]
    pub(crate) ping: String,
    /// What a message must have in it to be the answer.
    #[arg(long, value_name = "TEXT", default_value = "\"pong\"")]
    pub(crate) pong_contains: String,
}

/// Options of `churn`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ChurnArgs {
    #[command(flatten)]
    pub(crate) shared: Shared,
    /// Connections opened a second.
    #[arg(long, value_name = "PER_SECOND", default_value_t = 200.0, value_parser = positive_rate)]
    pub(crate) rate: f64,
    /// For how long.
    #[arg(long, value_name = "SECONDS", default_value_t = 10.0, value_parser = positive_seconds)]
    pub(crate) seconds: f64,
}

impl ChurnArgs {
    /// How many connections to open.
    pub(crate) fn count(&self) -> usize {
        times(self.rate, self.seconds)
    }
}

/// Options of `compare`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompareArgs {
    /// Label of the runs that count as 1.
    pub(crate) base: String,
    /// Label of the runs to compare with them.
    pub(crate) other: String,
    /// Files with one JSON result a line.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
}

/// Options of `summary`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SummaryArgs {
    /// Files with one JSON result a line.
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

/// How many there are at a rate in a time; at least one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "both factors are positive and bounded by their parsers"
)]
pub(crate) fn times(rate: f64, seconds: f64) -> usize {
    (rate * seconds).round().max(1.0) as usize
}

fn positive(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000_000) => Ok(number),
        _ => Err("expected a number from 1 to 10000000".to_owned()),
    }
}

fn size(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(size @ 0..=16_777_216) => Ok(size),
        _ => Err("expected bytes, from 0 to 16777216".to_owned()),
    }
}

fn positive_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        // Below that a message would be due in a time that no clock knows.
        Ok(rate) if (0.001..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a rate from 0.001 to 1000000 a second".to_owned()),
    }
}

fn rate_or_zero(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(0.0),
        _ => positive_rate(text),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected seconds, from 0 to 3600".to_owned()),
    }
}

fn positive_seconds(text: &str) -> Result<f64, String> {
    match seconds(text) {
        Ok(seconds) if seconds > 0.0 => Ok(seconds),
        _ => Err("expected seconds, above 0 and up to 3600".to_owned()),
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

    #[test]
    fn rates() {
        assert_eq!("closed".parse(), Ok(InboundRate::Closed));
        assert_eq!("250".parse(), Ok(InboundRate::PerSecond(250.0)));
        for wrong in ["0", "-1", "NaN", "inf", "fast", "1e-300"] {
            assert!(wrong.parse::<InboundRate>().is_err(), "{wrong}");
        }
        assert_eq!(rate_or_zero("0"), Ok(0.0));
        assert!(rate_or_zero("1e-300").is_err());
        assert_eq!(times(0.1, 1.0), 1);
        assert_eq!(times(20.0, 2.5), 50);
    }
}
