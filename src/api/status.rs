//! `GET /internal/status`: how the gateway does, in one answer, for `wsgw top` and the page of the operator.
//!
//! Stands beside the metrics, of which it shows a choice. Counters count since the start: who wants rates compares
//! two answers. What is not known is null. No address with credentials, user id or payload is in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use self::reading::{Reading, Timed, whole};
use super::readiness::{Phase, Report};
use super::reloads::{Reload, Reloads};
use super::{ApiState, InForce};
use crate::clock::{rfc3339, unix_millis};
use crate::config::{Config, Mode, TailMode};
use crate::graph::Graph;

mod reading;

/// The stores of dead letters that there may be.
const STORES: [&str; 3] = ["redis", "rabbitmq", "file"];

/// The source that is no queue: its pushes are counted with the others, and it never lags.
const HTTP: &str = "http";

/// What the status says of the process, beside what changes.
#[derive(Debug)]
pub struct About {
    node_id: Arc<str>,
    started_at: String,
    started: std::time::Instant,
    reloads: Arc<Reloads>,
}

impl About {
    /// Describes a gateway that starts now.
    #[must_use]
    pub fn new(node_id: Arc<str>, reloads: Arc<Reloads>) -> Self {
        Self {
            node_id,
            started_at: rfc3339(unix_millis()),
            started: std::time::Instant::now(),
            reloads,
        }
    }

    /// The file that the configuration comes from, where there is one.
    pub(super) fn file(&self) -> Option<String> {
        self.reloads.file()
    }
}

/// Whether the gateway takes traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Standing {
    Starting,
    Ready,
    NotReady,
    Draining,
}

impl Standing {
    fn of(phase: Phase, report: &Report) -> Self {
        match phase {
            Phase::Starting => Self::Starting,
            Phase::Draining => Self::Draining,
            Phase::Serving if report.ok => Self::Ready,
            Phase::Serving => Self::NotReady,
        }
    }
}

/// The whole answer.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    node_id: Arc<str>,
    started_at: String,
    now: String,
    uptime_seconds: f64,
    state: Standing,
    checks: BTreeMap<String, String>,
    process: Process,
    connections: Connections,
    messages: Messages,
    pushes: Pushes,
    pipeline: Pipeline,
    sinks: Vec<Sink>,
    sources: Vec<Source>,
    dead_letters: BTreeMap<&'static str, Option<u64>>,
    reloads: Vec<Arc<Reload>>,
    traces: Traces,
    tail: TailMode,
}

#[derive(Debug, Serialize)]
struct Process {
    resident_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Connections {
    open: u64,
    opened_total: u64,
    closed_total: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Messages {
    received_total: u64,
    rate_limited_total: u64,
}

#[derive(Debug, Serialize)]
struct Pushes {
    accepted_total: u64,
    queued_total: u64,
    waiting: usize,
    dropped_total: BTreeMap<String, u64>,
}

#[derive(Debug, Serialize)]
struct Pipeline {
    mode: Mode,
    file: Option<String>,
    hash: String,
    generation: u64,
    loaded_at: String,
    stages: Vec<Stage>,
}

#[derive(Debug, Serialize)]
struct Stage {
    name: &'static str,
    /// Which messages meet it, where not all do.
    when: Option<String>,
    messages_total: Option<u64>,
    ended_total: Option<u64>,
    timed: Option<Timed>,
}

#[derive(Debug, Serialize)]
struct Sink {
    name: String,
    /// Whether the configuration in force has it; else it finishes what it has.
    configured: bool,
    up: Option<bool>,
    buffered_events: u64,
    buffer_limit_events: Option<u64>,
    buffered_bytes: u64,
    oldest_event_age_seconds: Option<f64>,
    delivered_total: u64,
    retries_total: u64,
    dead_letters_total: BTreeMap<String, u64>,
    timed: Option<Timed>,
}

#[derive(Debug, Serialize)]
struct Source {
    name: &'static str,
    up: Option<bool>,
    pushes_total: u64,
    malformed_total: u64,
    lag: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Traces {
    exporter: String,
    exported_total: u64,
    dropped_total: u64,
}

/// How the gateway does now.
pub(super) fn status(state: &ApiState, in_force: &InForce) -> Status {
    let config = &*in_force.config;
    let reading = Reading::take(&state.metrics);
    let about = &state.about;
    let report = state.readiness.report();
    let graph = Graph::new("", config);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        node_id: Arc::clone(&about.node_id),
        started_at: about.started_at.clone(),
        now: rfc3339(unix_millis()),
        uptime_seconds: about.started.elapsed().as_secs_f64(),
        state: Standing::of(state.readiness.phase(), &report),
        checks: report.checks,
        process: process(&reading),
        connections: Connections {
            open: reading.total("ws_connections", &[]),
            opened_total: reading.total("ws_connections_total", &[]),
            closed_total: reading.totals_by("wsgw_closes_total", "code", &[]),
        },
        messages: Messages {
            received_total: reading.total("ws_messages_total", &[]),
            rate_limited_total: reading.total("ws_rate_limited_total", &[]),
        },
        pushes: Pushes {
            accepted_total: reading.total("publish_total", &[]),
            queued_total: reading.total("wsgw_pushes_queued_total", &[]),
            waiting: state.registry.limits().waiting(),
            dropped_total: reading.totals_by("wsgw_pushes_dropped_total", "reason", &[]),
        },
        pipeline: pipeline(&about.reloads, config, &graph, &reading),
        sinks: sinks(&graph, &reading),
        sources: sources(&graph, &reading),
        dead_letters: STORES
            .map(|store| {
                let depth = reading.count("wsgw_dead_letter_queue_depth", &[("store", store)]);
                (store, depth)
            })
            .into(),
        reloads: about.reloads.latest(),
        traces: Traces {
            exporter: exporter(config),
            exported_total: reading.total("wsgw_spans_exported_total", &[]),
            dropped_total: reading.total("wsgw_spans_dropped_total", &[]),
        },
        tail: config.admin.tail,
    }
}

fn process(reading: &Reading) -> Process {
    Process {
        resident_bytes: reading.count("process_resident_memory_bytes", &[]),
        cpu_seconds: reading.value("process_cpu_seconds_total", &[]),
        open_fds: reading.count("process_open_fds", &[]),
        max_fds: reading.count("process_max_fds", &[]),
    }
}

fn pipeline(reloads: &Reloads, config: &Config, graph: &Graph, reading: &Reading) -> Pipeline {
    let in_force = reloads.in_force();
    let stage = |stage: &crate::graph::Stage| {
        let labels = &[("stage", stage.name)];
        Stage {
            name: stage.name,
            when: stage.when.clone(),
            messages_total: reading.count("wsgw_stage_messages_total", labels),
            ended_total: reading.count("wsgw_stage_ended_total", labels),
            timed: reading.timed("wsgw_stage_duration_seconds", labels),
        }
    };
    Pipeline {
        mode: config.mode,
        file: reloads.file(),
        hash: in_force.hash,
        generation: in_force.generation,
        loaded_at: in_force.loaded_at,
        stages: graph.stages.iter().map(stage).collect(),
    }
}

/// The sinks that are configured, then those that only finish what they have.
fn sinks(graph: &Graph, reading: &Reading) -> Vec<Sink> {
    let known = graph.sinks.iter().map(|sink| sink.name);
    let finishing = reading
        .values_of("wsgw_sink_buffer_events", "sink")
        .into_iter()
        .filter(|name| known.clone().all(|known| known != name))
        .filter(|name| reading.total("wsgw_sink_buffer_events", &[("sink", name)]) > 0);
    let configured = known.clone().map(|name| (name.to_owned(), true));
    configured
        .chain(finishing.map(|name| (name, false)))
        .map(|(name, configured)| {
            let labels = &[("sink", &*name)];
            Sink {
                configured,
                up: reading.value("wsgw_sink_up", labels).map(|up| up > 0.0),
                buffered_events: reading.total("wsgw_sink_buffer_events", labels),
                buffer_limit_events: reading.count("wsgw_sink_buffer_limit_events", labels),
                buffered_bytes: reading.total("wsgw_sink_buffer_bytes", labels),
                oldest_event_age_seconds: reading
                    .value("wsgw_sink_oldest_event_age_seconds", labels),
                delivered_total: reading.total("wsgw_sink_delivered_total", labels),
                retries_total: reading.total("wsgw_sink_retries_total", labels),
                dead_letters_total: reading.totals_by("wsgw_dead_letters_total", "reason", labels),
                timed: reading.timed("wsgw_sink_duration_seconds", labels),
                name,
            }
        })
        .collect()
}

fn sources(graph: &Graph, reading: &Reading) -> Vec<Source> {
    let brokers = graph.sources.iter().filter(|source| source.name != HTTP);
    brokers
        .map(|source| {
            let name = source.name;
            let read = |result| {
                let labels = [("source", name), ("result", result)];
                reading.total("wsgw_source_pushes_total", &labels)
            };
            Source {
                name,
                up: reading
                    .value("wsgw_broker_up", &[("broker", name)])
                    .map(|up| up > 0.0),
                pushes_total: read("handled"),
                malformed_total: read("malformed"),
                lag: reading
                    .value("wsgw_source_lag", &[("source", name)])
                    .map(whole),
            }
        })
        .collect()
}

/// Where spans go, as the configuration names it.
fn exporter(config: &Config) -> String {
    let tracing = serde_json::to_value(&config.tracing).unwrap_or_default();
    tracing["exporter"].as_str().unwrap_or("none").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_one_word() {
        let report = |ok| Report {
            ok,
            checks: BTreeMap::new(),
        };
        for (phase, ok, word) in [
            (Phase::Starting, false, "starting"),
            (Phase::Serving, true, "ready"),
            (Phase::Serving, false, "not_ready"),
            (Phase::Draining, false, "draining"),
        ] {
            let standing = Standing::of(phase, &report(ok));
            assert_eq!(serde_json::to_value(standing).unwrap(), word);
        }
    }
}
