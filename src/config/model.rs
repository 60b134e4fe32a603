//! The pipeline file as types: the one place that says which keys exist, their defaults and what they mean.
//!
//! Stands first in the data path: `load` fills these structs, `compile` reads them. The doc comment of each
//! field is the text of the JSON Schema (`wsgw schema`) and of the configuration reference.

mod admin;
mod clients;
mod events;
mod tracing;

use std::collections::BTreeMap;

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::brokers::BrokersConfig;
use crate::config::Secret;
use crate::leases::LeasesConfig;
use crate::replay::ReplayConfig;
use crate::sources::TransportConfig;
use crate::stages::StageConfig;
use crate::stages::fan_out::{EventsMode, FanOutConfig};

pub use admin::{AdminConfig, TailMode};
pub use clients::{
    BackpressureConfig, BackpressureStrategy, DropPolicy, PresenceConfig, PresenceKind,
    PresenceRedisConfig, PresenceStrategy,
};
pub use events::{
    BufferConfig, DeadLetterQueueConfig, DeadLetterStreamConfig, DeadLettersConfig, EventsConfig,
};
pub use tracing::{
    ClientSampling, OtlpConfig, OtlpProtocol, TracingConfig, TracingExporter, TracingStrategy,
};

/// A pipeline file: one document with the root key `snoke_ws`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Document {
    /// Everything the gateway reads; the same root key as the Symfony bundle's `snoke_ws.yaml`.
    pub snoke_ws: Config,
}

/// The settings of one gateway.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How the gateway talks to the backend: `terminator` by webhook and HTTP, `core` by brokers.
    pub mode: Mode,
    /// Listening, WebSocket limits, the internal API.
    pub server: ServerConfig,
    /// The stages that every inbound message passes, top to bottom.
    pub stages: Vec<StageConfig>,
    /// The addresses that pushes are sent to.
    pub subjects: SubjectsConfig,
    /// Where pushes are read from, beside `POST /internal/publish`.
    pub transport: TransportConfig,
    /// Where events go: the sinks and their delivery.
    pub events: EventsConfig,
    /// What happens to a client that reads more slowly than the backend pushes.
    pub backpressure: BackpressureConfig,
    /// Who is online, and when an entry expires.
    pub presence: PresenceConfig,
    /// Who speaks for a gateway that is lost.
    pub leases: LeasesConfig,
    /// What is kept for later, and who may ask for it again.
    pub replay: ReplayConfig,
    /// The operator's page.
    pub admin: AdminConfig,
    /// How brokers are connected to.
    pub brokers: BrokersConfig,
    /// Trace context, and the gateway's own spans.
    pub tracing: TracingConfig,
    /// Log level and format.
    pub logging: LoggingConfig,
}

impl Config {
    /// The settings of `fan_out`, which validation demands as the last stage.
    #[must_use]
    pub fn fan_out(&self) -> Option<&FanOutConfig> {
        self.stages.iter().find_map(|stage| match stage {
            StageConfig::FanOut(fan_out) => Some(fan_out),
            _ => None,
        })
    }

    /// The key and certificate files that the settings name.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let keys = self.stages.iter().filter_map(|stage| match stage {
            StageConfig::Auth(auth) => Some(&auth.jwt.public_key_file),
            _ => None,
        });
        let tls = [&self.brokers.redis.tls, &self.brokers.rabbitmq.tls];
        let certificates = tls
            .into_iter()
            .flat_map(|tls| [&tls.ca_file, &tls.cert_file, &tls.key_file]);
        let others = [&self.admin.api_key_file, &self.tracing.otlp.ca_file];
        let files = keys.chain(certificates).chain(others).map(String::as_str);
        files.filter(|file| !file.is_empty())
    }

    /// What is done with the trace context of pushes, which pass no stage: as the first `trace` stage says, else the section.
    #[must_use]
    pub fn tracing_of_pushes(&self) -> TracingStrategy {
        let stage = self.stages.iter().find_map(|stage| match stage {
            StageConfig::Trace(trace) => trace.strategy,
            _ => None,
        });
        stage.unwrap_or(self.tracing.strategy)
    }

    /// The Redis of the sink, else of the source; empty if neither is configured.
    #[must_use]
    pub fn redis_dsn(&self) -> &Secret {
        first_of(
            &self.events.redis_stream.dsn,
            &self.transport.redis_stream.dsn,
        )
    }

    /// The `RabbitMQ` of the sink, else of the source; empty if neither is configured.
    #[must_use]
    pub fn rabbitmq_dsn(&self) -> &Secret {
        first_of(&self.events.rabbitmq.dsn, &self.transport.rabbitmq.dsn)
    }

    /// The setting that [`Config::rabbitmq_dsn`] is from.
    #[must_use]
    pub fn rabbitmq_dsn_setting(&self) -> &'static str {
        if self.events.rabbitmq.dsn.is_empty() {
            "transport.rabbitmq.dsn"
        } else {
            "events.rabbitmq.dsn"
        }
    }

    /// Which sinks get events: as `fan_out` says, else as the mode implies.
    #[must_use]
    pub fn events_mode(&self) -> EventsMode {
        let Some(fan_out) = self.fan_out() else {
            return EventsMode::None;
        };
        fan_out.events_mode.unwrap_or(match self.mode {
            Mode::Terminator => EventsMode::Webhook,
            Mode::Core => EventsMode::Broker,
        })
    }
}

fn first_of<'a>(first: &'a Secret, second: &'a Secret) -> &'a Secret {
    if first.is_empty() { second } else { first }
}

/// How the gateway talks to the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Signed webhooks out, pushes in by HTTP; no broker.
    #[default]
    Terminator,
    /// Events to brokers and pushes from brokers.
    Core,
}

/// Listening, WebSocket limits, the internal API.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port of the public listener. Port 0 picks a free one. A change needs a restart.
    pub listen: String,
    /// Address and port for `/internal/*`, `/health`, `/ready` and `/metrics`; empty: on `listen`. A change needs a restart.
    pub internal_listen: String,
    /// Path of the WebSocket endpoint.
    pub path: String,
    /// Key for `/internal/*`, in the header `X-API-Key` or the body field `api_key`. Empty: every call is refused with 403.
    pub api_key: Secret,
    /// Origins a browser may connect from, as `https://app.example` or `https://*.example`; empty: any. A request without Origin is allowed.
    pub allowed_origins: Vec<String>,
    /// Networks of proxies whose `X-Forwarded-For` names the client's address.
    #[schemars(with = "Vec<String>", extend("items" = {"type": "string", "format": "cidr"}))]
    pub trusted_proxies: Vec<IpNet>,
    /// Name of this gateway in logs and leases; empty: host name and listen address. A change needs a restart.
    pub node_id: String,
    /// Whether a change of this file, or of a key or certificate file that it names, reloads it, as SIGHUP does.
    pub watch: bool,
    /// Largest message a client may send, in bytes, all fragments together; more closes with 1009.
    #[schemars(range(min = 1, max = 67_108_864))]
    pub max_message_bytes: usize,
    /// Bytes of messages that may wait for room in the buffers of sinks; beyond that, what clients send of messages over 4 KiB stays unread. 0: no limit.
    pub max_waiting_bytes: usize,
    /// Largest body of an HTTP request to the internal API, in bytes; more is answered 413.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub max_body_bytes: usize,
    /// WebSocket connections at once; more are answered 503 before the upgrade. 0: no limit.
    pub max_connections: usize,
    /// Connections at once of one user; more are closed with 1013. 0: no limit.
    pub max_connections_per_user: usize,
    /// Connections at once from one address; more are answered 429 before the upgrade. 0: no limit.
    pub max_connections_per_address: usize,
    /// Upgrade requests that may begin a second, with a burst of one second's worth; more are answered 503 before the upgrade. 0: no limit.
    #[schemars(range(min = 0.0, max = 1_000_000.0))]
    pub max_handshakes_per_second: f64,
    /// Seconds a client has to send its complete HTTP request.
    #[schemars(range(min = 0.1, max = 3600.0))]
    pub handshake_timeout_seconds: f64,
    /// Seconds between WebSocket pings to a client.
    #[schemars(range(min = 0.1, max = 86400.0))]
    pub ping_interval_seconds: f64,
    /// Seconds a client has to answer a ping before it counts as lost.
    #[schemars(range(min = 0.1, max = 86400.0))]
    pub pong_timeout_seconds: f64,
    /// Seconds over which open connections are closed on SIGTERM, and that buffered events then have to be delivered.
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub drain_seconds: f64,
    /// Seconds beyond the end of the drain up to which clients are told to reconnect, each at a random time; 0: they are not told.
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub reconnect_spread_seconds: f64,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: "0.0.0.0:8000".into(),
            internal_listen: String::new(),
            path: "/ws".into(),
            api_key: Secret::default(),
            allowed_origins: Vec::new(),
            trusted_proxies: Vec::new(),
            node_id: String::new(),
            watch: false,
            max_message_bytes: 65_536,
            max_waiting_bytes: 67_108_864,
            max_body_bytes: 1_048_576,
            max_connections: 0,
            max_connections_per_user: 0,
            max_connections_per_address: 0,
            max_handshakes_per_second: 0.0,
            handshake_timeout_seconds: 10.0,
            ping_interval_seconds: 25.0,
            pong_timeout_seconds: 10.0,
            drain_seconds: 10.0,
            reconnect_spread_seconds: 5.0,
        }
    }
}

/// The addresses that pushes are sent to.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SubjectsConfig {
    /// Put before the user id to make the user's own subject, as in `user:42`.
    pub user_prefix: String,
}

impl Default for SubjectsConfig {
    fn default() -> Self {
        Self {
            user_prefix: "user:".into(),
        }
    }
}

/// Log level and format.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LoggingConfig {
    /// `error`, `warn`, `info`, `debug`, `trace` or `off`, or a filter such as `info,wsgw::sinks=debug`.
    pub level: String,
    /// One JSON object a line, or text for people. A change needs a restart.
    pub format: LogFormat,
}

impl Default for LoggingConfig {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Json,
        }
    }
}

/// How a log line looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Text for people.
    Text,
}

/// Environment variables, injected so that tests do not share a process's own.
pub type EnvVars = BTreeMap<String, String>;
