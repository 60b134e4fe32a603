//! What differs between two pipeline files, and what a running gateway does with each difference.
//!
//! Stands beside the data path. A reload and `wsgw diff` go by the same tables: [`RESTARTS`] names what a process
//! cannot change while it runs, and how the running value is kept; [`EFFECTS`] has a row for everything else.

use std::fmt;

use aws_lc_rs::digest;
use serde::Serialize;
use serde_json::Value as Json;

use super::load::Loaded;
use super::model::{Config, ServerConfig};
use super::shape::{Kind, Shape};
use crate::leases::LeasesConfig;
use crate::replay::ReplayStrategy;

/// The effective settings of a file, secrets as they are; never shown.
#[derive(Clone, Default, PartialEq)]
pub struct Effective(Json);

impl Effective {
    pub(super) fn new(settings: Json) -> Self {
        Self(settings)
    }

    /// A digest that is equal if and only if the settings are, but for what tells one gateway from the next.
    ///
    /// So gateways of one fleet show one hash, and one that was left behind shows another.
    pub(super) fn hash(&self) -> String {
        let mut shared = self.0.clone();
        if let Some(server) = shared.get_mut("server").and_then(Json::as_object_mut) {
            for own in ["listen", "internal_listen", "node_id"] {
                server.remove(own);
            }
        }
        let digest = digest::digest(&digest::SHA256, shared.to_string().as_bytes());
        let start = digest.as_ref().first_chunk().copied().unwrap_or_default();
        format!("{:016x}", u64::from_be_bytes(start))
    }
}

impl fmt::Debug for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Effective(***)")
    }
}

/// What a running gateway does with a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// It applies at once.
    Hot,
    /// It applies at once; what is buffered for where events went before is delivered there first.
    Drains,
    /// The running value stays until the next start.
    Restart,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hot => "hot",
            Self::Drains => "drains",
            Self::Restart => "restart",
        })
    }
}

/// A setting that a running process does not change.
#[derive(Debug)]
pub struct Restart {
    /// The setting, relative to `snoke_ws`.
    pub path: &'static str,
    /// Why it cannot be changed.
    pub why: &'static str,
    /// Whether the second configuration asks for a change of the first, which runs.
    differs: fn(&Config, &Config) -> bool,
    /// Puts the running value into the new configuration.
    keep: fn(&Config, &mut Config),
}

/// The settings that wait for a restart.
pub const RESTARTS: &[Restart] = &[
    Restart {
        path: "server.listen",
        why: "the socket is bound when the gateway starts",
        differs: |running, new| running.server.listen != new.server.listen,
        keep: |running, new| running.server.listen.clone_into(&mut new.server.listen),
    },
    Restart {
        path: "server.internal_listen",
        why: "the socket is bound when the gateway starts",
        differs: |running, new| running.server.internal_listen != new.server.internal_listen,
        keep: |running, new| {
            let ServerConfig {
                internal_listen, ..
            } = &running.server;
            internal_listen.clone_into(&mut new.server.internal_listen);
        },
    },
    Restart {
        path: "server.node_id",
        why: "leases, presence and positions of this process bear the name",
        differs: |running, new| running.server.node_id != new.server.node_id,
        keep: |running, new| running.server.node_id.clone_into(&mut new.server.node_id),
    },
    Restart {
        path: "logging.format",
        why: "the form of the log is fixed when logging starts",
        differs: |running, new| running.logging.format != new.logging.format,
        keep: |running, new| new.logging.format = running.logging.format,
    },
    Restart {
        path: "leases.enabled",
        why: "the records of open connections could not be given up without telling of a connection twice",
        differs: |running, new| LeasesConfig::place(running).is_some() && !new.leases.enabled,
        keep: |_, new| new.leases.enabled = true,
    },
    Restart {
        path: "leases.dsn",
        why: "the records of open connections are where leases are kept now",
        differs: |running, new| match (LeasesConfig::place(running), LeasesConfig::place(new)) {
            (Some((_, running)), Some((_, new))) => running != new,
            (Some(_), None) => true,
            (None, _) => false,
        },
        keep: |running, new| {
            if let Some((_, dsn)) = LeasesConfig::place(running) {
                new.leases.dsn = dsn.clone();
            }
        },
    },
    Restart {
        path: "leases.prefix",
        why: "the records of open connections have it",
        differs: |running, new| {
            LeasesConfig::place(running).is_some() && running.leases.prefix != new.leases.prefix
        },
        keep: |running, new| running.leases.prefix.clone_into(&mut new.leases.prefix),
    },
    Restart {
        path: "leases.ttl_seconds",
        why: "the lease is renewed by it",
        differs: |running, new| {
            let (running_ttl, new_ttl) = (running.leases.ttl_seconds, new.leases.ttl_seconds);
            LeasesConfig::place(running).is_some() && running_ttl.total_cmp(&new_ttl).is_ne()
        },
        keep: |running, new| new.leases.ttl_seconds = running.leases.ttl_seconds,
    },
    Restart {
        path: "replay.strategy",
        why: "the archive is opened and closed with the gateway",
        differs: |running, new| is_durable(running) != is_durable(new),
        keep: |running, new| new.replay.strategy = running.replay.strategy,
    },
    Restart {
        path: "replay.archive.dsn",
        why: "the archive is opened when the gateway starts",
        differs: |running, new| {
            is_durable(running) && running.replay.archive.dsn != new.replay.archive.dsn
        },
        keep: |running, new| new.replay.archive.dsn = running.replay.archive.dsn.clone(),
    },
];

/// What becomes of every other change, by the longest path that is the setting's or stands above it.
pub const EFFECTS: &[(&str, Effect)] = &[
    ("mode", Effect::Drains),
    ("server.listen", Effect::Hot),
    ("server.internal_listen", Effect::Hot),
    ("server.path", Effect::Hot),
    ("server.api_key", Effect::Hot),
    ("server.allowed_origins", Effect::Hot),
    ("server.trusted_proxies", Effect::Hot),
    ("server.node_id", Effect::Hot),
    ("server.watch", Effect::Hot),
    ("server.max_message_bytes", Effect::Hot),
    ("server.max_waiting_bytes", Effect::Hot),
    ("server.max_body_bytes", Effect::Hot),
    ("server.max_connections", Effect::Hot),
    ("server.max_connections_per_user", Effect::Hot),
    ("server.max_connections_per_address", Effect::Hot),
    ("server.handshake_timeout_seconds", Effect::Hot),
    ("server.ping_interval_seconds", Effect::Hot),
    ("server.pong_timeout_seconds", Effect::Hot),
    ("server.max_handshakes_per_second", Effect::Hot),
    ("server.drain_seconds", Effect::Hot),
    ("server.reconnect_spread_seconds", Effect::Hot),
    ("stages", Effect::Hot),
    ("stages.fan_out.events_mode", Effect::Drains),
    ("subjects", Effect::Hot),
    ("transport", Effect::Hot),
    ("events", Effect::Drains),
    ("events.webhook.buffer", Effect::Hot),
    ("events.redis_stream.buffer", Effect::Hot),
    ("events.rabbitmq.buffer", Effect::Hot),
    ("backpressure", Effect::Hot),
    ("presence", Effect::Hot),
    ("leases", Effect::Hot),
    ("replay", Effect::Hot),
    ("admin", Effect::Hot),
    ("brokers", Effect::Hot),
    ("tracing", Effect::Hot),
    ("logging", Effect::Hot),
];

fn is_durable(config: &Config) -> bool {
    config.replay.strategy == ReplayStrategy::Durable
}

/// Keeps the running values of what cannot be changed; names the settings that wait for a restart.
pub fn keep_running(running: &Config, new: &mut Config) -> Vec<&'static Restart> {
    let mut waiting = Vec::new();
    for restart in RESTARTS {
        if (restart.differs)(running, new) {
            (restart.keep)(running, new);
            waiting.push(restart);
        }
    }
    waiting
}

/// One setting, or one stage, that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// The setting, relative to `snoke_ws`, or the stage.
    pub path: String,
    /// What a running gateway does with it.
    pub effect: Effect,
    /// How it differs.
    pub change: How,
    /// The value before; `***` for a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Json>,
    /// The value after; `***` for a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Json>,
    /// Why it needs a restart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
}

/// How a setting or stage differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// It has another value.
    Changed,
    /// The stage is new.
    Added,
    /// The stage is gone.
    Removed,
    /// The stage stands elsewhere.
    Moved,
}

/// Lists what differs between two files, in the order of the reference.
#[must_use]
pub fn between(old: &Loaded, new: &Loaded) -> Vec<Change> {
    let mut changes = compare(&old.effective, &new.effective);
    for restart in RESTARTS {
        if !(restart.differs)(&old.config, &new.config) {
            continue;
        }
        let found = changes
            .iter_mut()
            .find(|change| change.path == restart.path);
        if let Some(change) = found {
            change.effect = Effect::Restart;
            change.reason = Some(restart.why);
        } else {
            // It follows from another setting, such as the place of the leases from a sink's DSN.
            changes.push(Change {
                path: restart.path.to_owned(),
                effect: Effect::Restart,
                change: How::Changed,
                old: None,
                new: None,
                reason: Some(restart.why),
            });
        }
    }
    changes
}

/// The paths of what differs; never a value.
#[must_use]
pub fn paths(old: &Effective, new: &Effective) -> Vec<String> {
    let changes = compare(old, new).into_iter();
    changes.map(|change| change.path).collect()
}

fn compare(old: &Effective, new: &Effective) -> Vec<Change> {
    let mut changes = Vec::new();
    // Most reloads of a watched file change nothing, and a schema takes its time.
    if old != new
        && let Some(root) = Shape::of_document().fields().first()
    {
        walk(&root.shape, "", &old.0, &new.0, &mut changes);
    }
    changes
}

fn walk(shape: &Shape, path: &str, old: &Json, new: &Json, changes: &mut Vec<Change>) {
    if old == new {
        return;
    }
    match &shape.kind {
        Kind::Object(fields) => {
            for field in fields {
                let path = below(path, &field.name);
                let (old, new) = (&old[&field.name], &new[&field.name]);
                walk(&field.shape, &path, old, new, changes);
            }
        }
        Kind::List(item) if matches!(item.kind, Kind::OneKey(_)) => {
            stages(item, path, &listed(old), &listed(new), changes);
        }
        _ => changes.push(Change {
            path: path.to_owned(),
            effect: effect(path).unwrap_or(Effect::Hot),
            change: How::Changed,
            old: Some(shown(shape, old)),
            new: Some(shown(shape, new)),
            reason: None,
        }),
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// A list of maps of one key as the keys and their values.
fn listed(list: &Json) -> Vec<(&str, &Json)> {
    let items = list.as_array().into_iter().flatten();
    items
        .filter_map(|item| item.as_object()?.iter().next())
        .map(|(name, settings)| (name.as_str(), settings))
        .collect()
}

type Listed<'a> = [(&'a str, &'a Json)];

fn stages(item: &Shape, path: &str, old: &Listed<'_>, new: &Listed<'_>, changes: &mut Vec<Change>) {
    let place = |list: &Listed<'_>, name: &str| list.iter().position(|(found, _)| *found == name);
    let mut note = |name: &str, change, old: Option<usize>, new: Option<usize>| {
        let path = below(path, name);
        changes.push(Change {
            effect: effect(&path).unwrap_or(Effect::Hot),
            path,
            change,
            old: old.map(|at| Json::from(at + 1)),
            new: new.map(|at| Json::from(at + 1)),
            reason: None,
        });
    };
    for (at, (name, _)) in old.iter().enumerate() {
        if place(new, name).is_none() {
            note(name, How::Removed, Some(at), None);
        }
    }
    // Where stages that both have stand in the new list, in the order of the old one.
    let places: Vec<usize> = old
        .iter()
        .filter_map(|(name, _)| place(new, name))
        .collect();
    let staying = longest_ascent(&places);
    for (at, (name, _)) in new.iter().enumerate() {
        match place(old, name) {
            None => note(name, How::Added, None, Some(at)),
            Some(before) if !staying.contains(&at) => {
                note(name, How::Moved, Some(before), Some(at));
            }
            Some(_) => {}
        }
    }
    for (name, settings) in new {
        if let (Some(before), Some(field)) = (place(old, name), item.field(name)) {
            let path = below(path, name);
            walk(&field.shape, &path, old[before].1, settings, changes);
        }
    }
}

/// The longest ascending selection of some numbers: stages that keep their order among each other.
fn longest_ascent(numbers: &[usize]) -> Vec<usize> {
    let mut best: Vec<Vec<usize>> = Vec::with_capacity(numbers.len());
    for number in numbers {
        let before = best.iter().filter(|ascent| ascent.last() < Some(number));
        let mut ascent = before
            .max_by_key(|ascent| ascent.len())
            .cloned()
            .unwrap_or_default();
        ascent.push(*number);
        best.push(ascent);
    }
    best.into_iter().max_by_key(Vec::len).unwrap_or_default()
}

/// The effect of a change of a setting that needs no restart; none if no row covers it.
fn effect(path: &str) -> Option<Effect> {
    let covers = |row: &str| {
        path.strip_prefix(row)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    EFFECTS
        .iter()
        .filter(|(row, _)| covers(row))
        .max_by_key(|(row, _)| row.len())
        .map(|(_, effect)| *effect)
}

fn shown(shape: &Shape, value: &Json) -> Json {
    match value {
        Json::String(text) if shape.secret && !text.is_empty() => "***".into(),
        value => value.clone(),
    }
}

#[cfg(test)]
mod tests;
