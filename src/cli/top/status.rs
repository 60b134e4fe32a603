//! What `GET /internal/status` answers, as this command reads it.
//!
//! Types of its own, not those that the gateway writes: every member may be absent here, so that gateways of other
//! versions can be looked at too, as while one after the other is updated. A test holds them against a real answer.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One gateway at one time; counters since its start.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) node_id: String,
    pub(super) started_at: String,
    pub(super) uptime_seconds: f64,
    pub(super) state: String,
    pub(super) checks: BTreeMap<String, String>,
    pub(super) process: Process,
    pub(super) connections: Connections,
    pub(super) messages: Messages,
    pub(super) pushes: Pushes,
    pub(super) pipeline: Pipeline,
    pub(super) sinks: Vec<Sink>,
    pub(super) sources: Vec<Source>,
    pub(super) dead_letters: BTreeMap<String, Option<u64>>,
    pub(super) reloads: Vec<Reload>,
    pub(super) traces: Traces,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) cpu_seconds: Option<f64>,
    pub(super) open_fds: Option<u64>,
    pub(super) max_fds: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    pub(super) open: u64,
    pub(super) opened_total: u64,
    pub(super) closed_total: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Messages {
    pub(super) received_total: u64,
    pub(super) rate_limited_total: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pushes {
    pub(super) accepted_total: u64,
    pub(super) queued_total: u64,
    pub(super) waiting: u64,
    pub(super) dropped_total: BTreeMap<String, u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pipeline {
    pub(super) mode: String,
    pub(super) file: Option<String>,
    pub(super) hash: String,
    pub(super) generation: u64,
    pub(super) loaded_at: String,
    pub(super) stages: Vec<Stage>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) when: Option<String>,
    pub(super) messages_total: Option<u64>,
    pub(super) ended_total: Option<u64>,
    pub(super) timed: Option<Timed>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sink {
    pub(super) name: String,
    /// False of one that was removed, and only finishes what it has.
    pub(super) configured: Option<bool>,
    pub(super) up: Option<bool>,
    pub(super) buffered_events: u64,
    pub(super) buffer_limit_events: Option<u64>,
    pub(super) buffered_bytes: u64,
    pub(super) oldest_event_age_seconds: Option<f64>,
    pub(super) delivered_total: u64,
    pub(super) retries_total: u64,
    pub(super) dead_letters_total: BTreeMap<String, u64>,
    pub(super) timed: Option<Timed>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) up: Option<bool>,
    pub(super) pushes_total: u64,
    pub(super) malformed_total: u64,
    pub(super) lag: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reload {
    pub(super) at: String,
    pub(super) result: String,
    pub(super) seconds: f64,
    pub(super) generation: u64,
    pub(super) changed: Vec<String>,
    pub(super) waits_for_restart: Vec<String>,
    pub(super) errors: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(super) struct Traces {
    pub(super) exporter: String,
    pub(super) exported_total: u64,
    pub(super) dropped_total: u64,
}

/// A histogram: how many observations were at most so many seconds, for growing bounds.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Timed {
    pub(super) count: u64,
    pub(super) sum_seconds: f64,
    pub(super) buckets: Vec<(f64, u64)>,
}
