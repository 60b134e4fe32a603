//! What a picture says of each stage: its settings that matter most, and what it answers clients.
//!
//! Stands between the settings and the drawing. A new stage has a row in both tables.

use crate::config::Config;
use crate::stages::StageConfig;
use crate::stages::dedupe::DedupeScope;
use crate::stages::fan_out::{AckMode, EventsMode, OnFull, RouteMatch};
use crate::stages::ordering_key::OrderingStrategy;

/// One stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its name.
    pub name: &'static str,
    /// What it does, and the settings that matter most.
    pub does: String,
    /// Which messages meet it; none: all.
    pub when: Option<String>,
    /// What it answers clients.
    pub answers: Vec<&'static str>,
}

impl Stage {
    pub(super) fn new(stage: &StageConfig, config: &Config) -> Self {
        let mut does = stage.settings().does().to_owned();
        if let Some(detail) = detail(stage, config) {
            does = format!("{does}: {detail}");
        }
        Self {
            name: stage.name(),
            does,
            when: stage.settings().when().map(ToString::to_string),
            answers: answers(stage, config),
        }
    }

    /// The lines of its box.
    pub(super) fn lines(&self) -> Vec<String> {
        let mut lines = vec![self.name.to_owned(), self.does.clone()];
        lines.extend(self.when.iter().map(|when| format!("when {when}")));
        lines
    }
}

/// The settings of a stage that matter most; none for a stage without such.
fn detail(stage: &StageConfig, config: &Config) -> Option<String> {
    Some(match stage {
        StageConfig::Auth(auth) => auth.jwt.algorithm.name().to_owned(),
        StageConfig::RateLimit(limit) if limit.per_second <= 0.0 => "off".into(),
        StageConfig::RateLimit(limit) => {
            format!("{} a second, {} at once", limit.per_second, limit.burst)
        }
        StageConfig::OrderingKey(key) => {
            let strategy = match key.strategy {
                OrderingStrategy::None => "none",
                OrderingStrategy::Topic => "topic",
                OrderingStrategy::Subject => "subject",
            };
            strategy.to_owned()
        }
        StageConfig::Trace(trace) => {
            format!("{:?}", trace.strategy.unwrap_or(config.tracing.strategy)).to_lowercase()
        }
        StageConfig::Validate(validate) => validate.schemas.clone(),
        StageConfig::Authorize(authorize) => {
            let fields: Vec<_> = authorize.rules.iter().map(|r| r.field.as_str()).collect();
            fields.join(", ")
        }
        StageConfig::Dedupe(dedupe) => {
            let scope = match dedupe.scope {
                DedupeScope::User => "user",
                DedupeScope::Connection => "connection",
            };
            format!("{} s, by {scope}", dedupe.window_seconds)
        }
        StageConfig::Set(set) => {
            let fields: Vec<_> = set.fields.keys().map(String::as_str).collect();
            fields.join(", ")
        }
        StageConfig::FanOut(fan_out) => {
            let mode = match config.events_mode() {
                EventsMode::Webhook => "webhook",
                EventsMode::Broker => "broker",
                EventsMode::Both => "both",
                EventsMode::None => "none",
            };
            match (fan_out.routes.is_empty(), fan_out.route_match) {
                (true, _) => mode.to_owned(),
                (false, RouteMatch::First) => format!("{mode}, first route"),
                (false, RouteMatch::All) => format!("{mode}, all routes"),
            }
        }
        StageConfig::PingFilter(_) => return None,
    })
}

/// What a stage answers clients instead of handing their message on, or after it did.
fn answers(stage: &StageConfig, config: &Config) -> Vec<&'static str> {
    let ack = config
        .fan_out()
        .map_or(AckMode::None, |fan_out| fan_out.ack);
    match stage {
        StageConfig::Auth(_) => vec!["closes with 4401", "auth_ok, auth_error"],
        StageConfig::PingFilter(_) => vec!["pong, heartbeat_ack"],
        StageConfig::RateLimit(limit) if limit.per_second > 0.0 => vec!["rate_limited"],
        StageConfig::Validate(_) => vec!["invalid"],
        StageConfig::Authorize(authorize) if authorize.close_after_denials > 0 => {
            vec!["forbidden", "closes with 1008"]
        }
        StageConfig::Authorize(_) => vec!["forbidden"],
        StageConfig::Dedupe(_) if ack != AckMode::None => vec!["ack, duplicate"],
        StageConfig::FanOut(fan_out) => {
            let full = match fan_out.on_full {
                OnFull::Wait => None,
                OnFull::Reject => Some("overloaded"),
                OnFull::Close => Some("closes with 1013"),
            };
            let acks: &[_] = match ack {
                AckMode::None => &[],
                AckMode::Any => &["ack, once a sink has it", "undeliverable"],
                AckMode::All => &["ack, once all have it", "undeliverable"],
            };
            acks.iter().copied().chain(full).collect()
        }
        StageConfig::RateLimit(_)
        | StageConfig::Dedupe(_)
        | StageConfig::OrderingKey(_)
        | StageConfig::Trace(_)
        | StageConfig::Set(_) => Vec::new(),
    }
}
