//! Checks that the kinds of both sides fit: how pushes come in, how events go out, which port is meant.
//!
//! Unlike the rows of the table these have no one key on each side that must hold the same.

use url::{Position, Url};

use super::Comparison;
use crate::config::Config;

/// Where the gateway takes pushes by HTTP.
pub(super) const PUBLISH_PATH: &str = "/internal/publish";

pub(super) fn check(comparison: &mut Comparison<'_>) {
    transport(comparison);
    events(comparison);
    base_url(comparison);
}

/// Names the medium of a type that is not HTTP, if it is one the bundle has.
fn broker(kind: &str) -> Option<&'static str> {
    match kind {
        "redis_stream" => Some("a Redis stream"),
        "rabbitmq" => Some("RabbitMQ"),
        _ => None,
    }
}

fn transport(comparison: &mut Comparison<'_>) {
    const KEY: &str = "transport.type";
    let reading = comparison.read(KEY);
    let Some(kind) = reading.text() else { return };
    // A gateway that reads pushes from brokers compares their streams and exchanges here instead.
    let Some(medium) = broker(kind) else { return };
    let message = format!(
        "`{KEY}` is `{kind}`{}: the bundle pushes to {medium}, and the gateway takes pushes only by HTTP",
        reading.provenance()
    );
    let hint = format!(
        "set it to `http`, and `transport.http.base_url` to the gateway's address; the gateway's is {}",
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
        (kind, _) if !mode.has_broker() => {
            let Some(medium) = broker(kind) else { return };
            let what = if sends {
                "sends its events by webhook"
            } else {
                "sends no events"
            };
            (
                TYPE,
                format!("{is}: the bundle reads events from {medium}, and the gateway {what}"),
                selects,
            )
        }
        _ => return,
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
