//! `wsgw graph`: a pipeline as a picture, from the client through the stages to the sinks, and back.
//!
//! Stands beside the data path: it shows the settings that `pipeline` would compile. What is to be seen is gathered
//! here, once; each form of picture only draws it.

use crate::config::{Config, Secret};
use crate::replay::ReplayStrategy;
use crate::sinks::dead_letter_routes;
use crate::sinks::rehearsal::shown_url;
use crate::stages::ordering_key::Partitions;

mod dot;
mod mermaid;
mod routes;
mod stages;
mod svg;
#[cfg(test)]
mod tests;

pub use routes::Route;
pub use stages::Stage;

/// The sink that gets every event, whatever its route.
const ARCHIVE: &str = "archive";

/// What a picture of a pipeline shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// What it is a picture of.
    pub title: String,
    /// The stages, in the order in which a message meets them.
    pub stages: Vec<Stage>,
    /// Where events go.
    pub sinks: Vec<Place>,
    /// What chooses among the sinks; empty: every sink gets every event.
    pub routes: Vec<Route>,
    /// Where an event goes that cannot be delivered, the preferred place first.
    pub dead_letters: Vec<String>,
    /// Where pushes come from.
    pub sources: Vec<Place>,
}

/// The colours of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Theme {
    /// Those that whoever looks at it prefers.
    Browser,
    /// For light pages.
    Light,
    /// For dark pages.
    Dark,
}

/// A sink or a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its name.
    pub name: &'static str,
    /// What it writes to or reads from, a line each; nothing secret.
    pub targets: Vec<String>,
}

impl Graph {
    /// Gathers what a picture of these settings shows.
    #[must_use]
    pub fn new(title: impl Into<String>, config: &Config) -> Self {
        Self {
            title: title.into(),
            stages: config
                .stages
                .iter()
                .map(|stage| Stage::new(stage, config))
                .collect(),
            sinks: sinks(config),
            routes: routes::of(config),
            dead_letters: dead_letters(config),
            sources: sources(config),
        }
    }

    /// Draws it for [Mermaid](https://mermaid.js.org), as Markdown pages show it.
    #[must_use]
    pub fn mermaid(&self) -> String {
        mermaid::draw(self)
    }

    /// Draws it for [Graphviz](https://graphviz.org).
    #[must_use]
    pub fn dot(&self) -> String {
        dot::draw(self)
    }

    /// Draws it as an image that needs nothing else.
    #[must_use]
    pub fn svg(&self, theme: Theme) -> String {
        let media = match theme {
            Theme::Browser => return svg::draw(self),
            Theme::Light => "@media not all",
            Theme::Dark => "@media all",
        };
        // The first one is the style's own: it stands before all that the pipeline file says.
        svg::draw(self).replacen("@media (prefers-color-scheme: dark)", media, 1)
    }
}

fn sinks(config: &Config) -> Vec<Place> {
    let (events, mode) = (&config.events, config.events_mode());
    let to_broker = |dsn: &Secret| mode.has_broker() && !dsn.is_empty();
    let key = Partitions::pattern(config).map_or(String::new(), |part| format!(".{part}"));
    let key = key.as_str();
    let mut sinks = Vec::new();
    let mut add = |name, targets| sinks.push(Place { name, targets });
    if mode.has_webhook() && !events.webhook.url.is_empty() {
        add(
            "webhook",
            vec![format!("POST {}", shown_url(&events.webhook.url))],
        );
    }
    if to_broker(&events.redis_stream.dsn) {
        let redis = &events.redis_stream;
        let streams = [
            format!("stream {}{key}", redis.inbox_stream),
            format!("stream {}", redis.stream),
        ];
        add("redis", streams.to_vec());
    }
    if to_broker(&events.rabbitmq.dsn) {
        let rabbitmq = &events.rabbitmq;
        let exchange = |exchange: &str, routing_key: &str, key: &str| {
            if exchange == routing_key && key.is_empty() {
                format!("exchange {exchange}")
            } else {
                format!("exchange {exchange}, key {routing_key}{key}")
            }
        };
        let exchanges = [
            exchange(&rabbitmq.inbox_exchange, &rabbitmq.inbox_routing_key, key),
            exchange(&rabbitmq.exchange, &rabbitmq.routing_key, ""),
        ];
        add("rabbitmq", exchanges.to_vec());
    }
    if config.replay.strategy == ReplayStrategy::Durable {
        let kept_in = config.replay.archive.address();
        let kind = kept_in
            .split("://")
            .next()
            .filter(|kind| kind.len() < kept_in.len());
        add(ARCHIVE, vec![kind.unwrap_or("database").to_owned()]);
    }
    if events.stdout.enabled {
        add("stdout", vec!["one JSON line an event".into()]);
    }
    sinks
}

fn dead_letters(config: &Config) -> Vec<String> {
    let mut named = dead_letter_routes::brokers(config);
    let file = &config.events.dead_letters.file.path;
    if !file.is_empty() {
        named.push(format!("file {file}"));
    }
    named
}

fn sources(config: &Config) -> Vec<Place> {
    let (redis, rabbitmq) = (&config.transport.redis_stream, &config.transport.rabbitmq);
    let mut sources = vec![Place {
        name: "http",
        targets: vec!["POST /internal/publish".into()],
    }];
    if !redis.dsn.is_empty() {
        sources.push(Place {
            name: "redis",
            targets: vec![format!("stream {}", redis.stream)],
        });
    }
    if !rabbitmq.dsn.is_empty() {
        let queue = match rabbitmq.queue.as_str() {
            "" => "a queue of its own".to_owned(),
            queue => format!("queue {queue}"),
        };
        sources.push(Place {
            name: "rabbitmq",
            targets: vec![format!("exchange {}, {queue}", rabbitmq.exchange)],
        });
    }
    sources
}
