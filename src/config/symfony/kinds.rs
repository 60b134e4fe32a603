//! Checks that the kinds of both sides fit: how pushes come in, how events go out, which port is meant.
//!
//! Unlike the rows of the table these have no one key on each side that must hold the same.

use url::{Position, Url};

use super::{Comparison, Reading, quoted};
use crate::config::Config;
use crate::stages::ordering_key::Partitions;

/// Where the gateway takes pushes by HTTP.
pub(super) const PUBLISH_PATH: &str = "/internal/publish";

pub(super) fn check(comparison: &mut Comparison<'_>) {
    transport(comparison);
    events(comparison);
    partitions(comparison);
    base_url(comparison);
}

/// A broker that the bundle can push to or hear events from.
struct Broker {
    /// The bundle's name of the type.
    kind: &'static str,
    /// What people call it.
    medium: &'static str,
    /// The gateway's setting that makes it read pushes there.
    source: &'static str,
    /// The gateway's setting that makes it send events there.
    sink: &'static str,
}

const BROKERS: [Broker; 2] = [
    Broker {
        kind: "redis_stream",
        medium: "a Redis stream",
        source: "transport.redis_stream.dsn",
        sink: "events.redis_stream.dsn",
    },
    Broker {
        kind: "rabbitmq",
        medium: "RabbitMQ",
        source: "transport.rabbitmq.dsn",
        sink: "events.rabbitmq.dsn",
    },
];

/// Finds the broker of a type, if it is one.
fn broker(kind: &str) -> Option<&'static Broker> {
    BROKERS.iter().find(|broker| broker.kind == kind)
}

/// Tells whether the gateway reads pushes from the broker of a type.
pub(super) fn reads_pushes(config: &Config, kind: &str) -> bool {
    !match kind {
        "redis_stream" => &config.transport.redis_stream.dsn,
        _ => &config.transport.rabbitmq.dsn,
    }
    .is_empty()
}

/// Tells whether the gateway sends its events to the broker of a type.
pub(super) fn sends_events(config: &Config, kind: &str) -> bool {
    config.events_mode().has_broker()
        && !match kind {
            "redis_stream" => &config.events.redis_stream.dsn,
            _ => &config.events.rabbitmq.dsn,
        }
        .is_empty()
}

fn transport(comparison: &mut Comparison<'_>) {
    const KEY: &str = "transport.type";
    let reading = comparison.read(KEY);
    let Some(kind) = reading.text() else { return };
    let Some(broker) = broker(kind) else { return };
    if reads_pushes(&comparison.gateway.config, kind) {
        return;
    }
    let message = format!(
        "`{KEY}` is `{kind}`{}: the bundle pushes to {}, and the gateway reads no pushes there",
        reading.provenance(),
        broker.medium
    );
    let hint = format!(
        "set the gateway's {}, or `{KEY}: http` and `transport.http.base_url` to the gateway's address, {}",
        comparison.place(broker.source),
        comparison.place(api_listener(&comparison.gateway.config))
    );
    comparison.say("symfony_transport", KEY, message, hint);
}

/// Names the setting that says where `/internal/*` is served.
fn api_listener(config: &Config) -> &'static str {
    if config.server.internal_listen.is_empty() {
        "server.listen"
    } else {
        "server.internal_listen"
    }
}

/// Finds a number of shards that is not the gateway's; a list of streams is the bundle's own way of finding them.
fn partitions(comparison: &mut Comparison<'_>) {
    let gateway = &comparison.gateway.config;
    for broker in &BROKERS {
        let kind = broker.kind;
        if !comparison.is("events.type", kind) || !sends_events(gateway, kind) {
            continue;
        }
        let path = format!("events.{kind}.partitions");
        let reading = comparison.read(&path);
        let ours = match &reading {
            Reading::Unknown => continue,
            Reading::Unset => "0",
            Reading::Text { text, .. } if text.is_empty() => "0",
            Reading::Text { text, .. } => text,
        };
        let theirs = match Partitions::of(gateway) {
            Partitions::Shards(count) => count.to_string(),
            Partitions::One | Partitions::Keys { .. } => "0".to_owned(),
        };
        if ours == theirs {
            continue;
        }
        let is = match &reading {
            Reading::Unset => "is not set".to_owned(),
            _ => format!("is {}{}", quoted(ours), reading.provenance()),
        };
        let (message, key) = if theirs == "0" {
            (
                format!(
                    "`{path}` {is}, and the gateway does not split messages into shards: the bundle reads what stays empty"
                ),
                "stages.ordering_key.partition_mode",
            )
        } else {
            (
                format!(
                    "`{path}` {is}, and the gateway splits messages into {theirs} shards: the bundle does not read all of them"
                ),
                "stages.ordering_key.partitions",
            )
        };
        let hint = format!(
            "give both sides the same; the gateway's is {}",
            comparison.place(key)
        );
        comparison.say("symfony_partitions", &path, message, hint);
    }
}

/// Tells whether the gateway posts its events to the backend.
pub(super) fn sends_webhooks(config: &Config) -> bool {
    config.events_mode().has_webhook() && !config.events.webhook.url.is_empty()
}

fn events(comparison: &mut Comparison<'_>) {
    const TYPE: &str = "events.type";
    const ENABLED: &str = "events.webhook.enabled";
    let config = &comparison.gateway.config;
    let reading = comparison.read(TYPE);
    let Some(kind) = reading.text() else { return };
    let (mode, sends) = (config.events_mode(), sends_webhooks(config));
    let selects = match config.fan_out().and_then(|fan_out| fan_out.events_mode) {
        Some(_) => "stages.fan_out.events_mode",
        None => "mode",
    };
    let is = format!("`{TYPE}` is `{kind}`{}", reading.provenance());
    let (path, message, key) = match (kind, comparison.read(ENABLED).switch(true)) {
        ("webhook", Some(true)) if !mode.has_webhook() => (
            TYPE,
            format!("{is}, and the gateway sends no webhooks: the bundle hears nothing"),
            selects,
        ),
        ("webhook", Some(true)) if !sends => (
            TYPE,
            format!("{is}, and the gateway has no URL to post to: the bundle hears nothing"),
            "events.webhook.url",
        ),
        ("webhook", Some(false)) if sends => (
            ENABLED,
            format!("`{ENABLED}` is off, and the gateway sends webhooks: nothing takes them"),
            selects,
        ),
        ("none", _) if sends => (
            TYPE,
            format!("{is}, and the gateway sends webhooks: nothing takes them"),
            selects,
        ),
        (kind, _) => {
            let Some(broker) = broker(kind) else { return };
            if sends_events(config, kind) {
                return;
            }
            let what = match (mode.has_broker(), sends) {
                (true, _) => "sends them elsewhere",
                (false, true) => "sends its events by webhook",
                (false, false) => "sends no events",
            };
            let key = if mode.has_broker() {
                broker.sink
            } else {
                selects
            };
            (
                TYPE,
                format!(
                    "{is}: the bundle reads events from {}, and the gateway {what}",
                    broker.medium
                ),
                key,
            )
        }
    };
    let hint = format!(
        "let both sides agree; the gateway's is {}",
        comparison.place(key)
    );
    comparison.say("symfony_events", path, message, hint);
}

fn base_url(comparison: &mut Comparison<'_>) {
    const KEY: &str = "transport.http.base_url";
    let server = &comparison.gateway.config.server;
    if server.internal_listen.is_empty() || !comparison.is("transport.type", "http") {
        return;
    }
    let reading = comparison.read(KEY);
    let Some(url) = reading.text().and_then(|text| Url::parse(text).ok()) else {
        return;
    };
    let (Some(listen), Some(internal)) = (
        server.listen.rsplit_once(':'),
        server.internal_listen.rsplit_once(':'),
    ) else {
        return;
    };
    let port = url.port_or_known_default().map(|port| port.to_string());
    let host = url.host_str().unwrap_or_default();
    // With one port on two addresses, the host tells which is meant.
    let public = port.as_deref() == Some(listen.1)
        && (listen.1 != internal.1 || host == listen.0 && host != internal.0);
    if public {
        // Host and port alone: the rest of a URL may hold a password.
        let message = format!(
            "`{KEY}` points at `{}`{}, the gateway's WebSocket listener, and `server.internal_listen` moved the API to `{}`",
            &url[Position::BeforeHost..Position::AfterPort],
            reading.provenance(),
            server.internal_listen
        );
        let hint = format!(
            "name that port; the gateway's is {}",
            comparison.place("server.internal_listen")
        );
        comparison.say("symfony_base_url", KEY, message, hint);
    }
}
