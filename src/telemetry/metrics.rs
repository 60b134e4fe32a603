//! The gateway's metrics, as `GET /metrics` shows them in Prometheus' text format.
//!
//! One registry per gateway and no statics, so that several gateways live in one process (as in tests).
//! Labels have few values: never user ids, subjects or keys.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use prometheus::{
    Counter, Encoder, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter,
    IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::svc::BoxError;

/// Buckets for what happens inside the process: 250 ns to 1 s.
const STAGE_BUCKETS: &[f64] = &[
    2.5e-7, 5e-7, 1e-6, 2.5e-6, 5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0,
];

/// Buckets for what crosses a network: 500 µs to 60 s.
const NETWORK_BUCKETS: &[f64] = &[
    5e-4, 1e-3, 2.5e-3, 5e-3, 1e-2, 2.5e-2, 5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

macro_rules! metrics {
    ($( $(#[doc = $help:literal])+ $field:ident : $kind:ident = $name:literal $([$($label:literal),+])? $(in $buckets:ident)? ;)+) => {
        /// Every metric of one gateway.
        #[derive(Debug, Clone)]
        pub struct Metrics {
            registry: Registry,
            sampled: Arc<Mutex<Vec<Weak<dyn Sampled>>>>,
            $( $(#[doc = $help])+ pub $field: $kind, )+
        }

        impl Metrics {
            /// Makes and registers every metric.
            ///
            /// # Errors
            /// Only if two metrics bear one name, which a test excludes.
            pub fn new() -> Result<Self, BoxError> {
                let registry = Registry::new();
                $(
                    let help = concat!($($help),+).trim();
                    let $field = metrics!(@make $kind, $name, help $(, [$($label),+])? $(, $buckets)?);
                    registry.register(Box::new($field.clone()))?;
                )+
                Ok(Self { registry, sampled: Arc::default(), $($field),+ })
            }

            /// Name, type and help text of every metric, for tests of the whole table.
            pub const TABLE: &[(&str, &str, &str)] = &[
                $( ($name, stringify!($kind), concat!($($help),+)) ),+
            ];
        }
    };
    (@make IntCounter, $name:literal, $help:ident) => { IntCounter::new($name, $help)? };
    (@make IntGauge, $name:literal, $help:ident) => { IntGauge::new($name, $help)? };
    (@make Counter, $name:literal, $help:ident) => { Counter::new($name, $help)? };
    (@make Gauge, $name:literal, $help:ident) => { Gauge::new($name, $help)? };
    (@make GaugeVec, $name:literal, $help:ident, [$($label:literal),+]) => {
        GaugeVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make IntCounterVec, $name:literal, $help:ident, [$($label:literal),+]) => {
        IntCounterVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make IntGaugeVec, $name:literal, $help:ident, [$($label:literal),+]) => {
        IntGaugeVec::new(Opts::new($name, $help), &[$($label),+])?
    };
    (@make Histogram, $name:literal, $help:ident, $buckets:ident) => {
        Histogram::with_opts(HistogramOpts::new($name, $help).buckets($buckets.to_vec()))?
    };
    (@make HistogramVec, $name:literal, $help:ident, [$($label:literal),+], $buckets:ident) => {
        HistogramVec::new(HistogramOpts::new($name, $help).buckets($buckets.to_vec()), &[$($label),+])?
    };
}

metrics! {
    /// Connections admitted.
    connections_total: IntCounter = "ws_connections_total";
    /// Connections ended.
    disconnects_total: IntCounter = "ws_disconnects_total";
    /// Connections open now.
    connections: IntGauge = "ws_connections";
    /// Messages read from clients, control messages among them.
    messages_total: IntCounter = "ws_messages_total";
    /// Messages refused by the rate limit.
    rate_limited_total: IntCounter = "ws_rate_limited_total";
    /// Pushes taken from the backend.
    publish_total: IntCounter = "publish_total";
    /// Events delivered to a broker.
    broker_publish_total: IntCounter = "broker_publish_total";
    /// Events delivered to the webhook.
    webhook_publish_total: IntCounter = "webhook_publish_total";
    /// Events that finally could not be delivered to the webhook.
    webhook_publish_failed_total: IntCounter = "webhook_publish_failed_total";
    /// Dead letters that were moved back to `RabbitMQ`.
    rabbitmq_replay_total: IntCounter = "rabbitmq_replay_total";
    /// Calls of the replay API.
    replay_api_requests_total: IntCounter = "replay_api_requests_total";
    /// Calls of the replay API refused for their key.
    replay_api_denied_total: IntCounter = "replay_api_denied_total";
    /// Calls of the replay API refused for their rate.
    replay_api_rate_limited_total: IntCounter = "replay_api_rate_limited_total";
    /// Calls of the replay API answered with an earlier result.
    replay_api_idempotent_total: IntCounter = "replay_api_idempotent_total";
    /// Calls of the replay API that succeeded.
    replay_api_success_total: IntCounter = "replay_api_success_total";
    /// Calls of the replay API that failed.
    replay_api_errors_total: IntCounter = "replay_api_errors_total";
    /// Dead letters and archived events that were replayed, by where they were kept: redis, rabbitmq, archive.
    replayed_total: IntCounterVec = "wsgw_replayed_total" ["store"];
    /// Tokens refused, by reason.
    auth_failures_total: IntCounterVec = "wsgw_auth_failures_total" ["reason"];
    /// Messages that did not fit a schema, by reason: schema, `unknown_type` (of no schema) or raw (no JSON object).
    invalid_messages_total: IntCounterVec = "wsgw_invalid_messages_total" ["reason"];
    /// Messages that named what their user may not, or not what they must.
    forbidden_messages_total: IntCounter = "wsgw_forbidden_messages_total";
    /// Messages that were sent before, by what had become of the first: pending or confirmed.
    duplicate_messages_total: IntCounterVec = "wsgw_duplicate_messages_total" ["first"];
    /// Message ids forgotten before their window ended, because too many were remembered.
    dedupe_forgotten_total: IntCounter = "wsgw_dedupe_forgotten_total";
    /// Answers that bear a message's id, by result: ack or nack.
    acks_total: IntCounterVec = "wsgw_acks_total" ["result"];
    /// Upgrade requests answered by an HTTP error, by reason.
    upgrades_refused_total: IntCounterVec = "wsgw_upgrades_refused_total" ["reason"];
    /// Connections ended, by close code.
    closes_total: IntCounterVec = "wsgw_closes_total" ["code"];
    /// Seconds in a stage and those below it; every sixteenth message of a connection is timed.
    stage_duration_seconds: HistogramVec = "wsgw_stage_duration_seconds" ["stage"] in STAGE_BUCKETS;
    /// Messages that a stage answered or refused, so that they went no further.
    stage_ended_total: IntCounterVec = "wsgw_stage_ended_total" ["stage"];
    /// Seconds of one try to deliver to a sink.
    sink_duration_seconds: HistogramVec = "wsgw_sink_duration_seconds" ["sink"] in NETWORK_BUCKETS;
    /// Events delivered to a sink.
    sink_delivered_total: IntCounterVec = "wsgw_sink_delivered_total" ["sink"];
    /// Tries repeated, by sink.
    sink_retries_total: IntCounterVec = "wsgw_sink_retries_total" ["sink"];
    /// Whether a sink takes events: a broker's is connected, and the last try did not fail.
    sink_up: IntGaugeVec = "wsgw_sink_up" ["sink"];
    /// Seconds since the oldest event in a sink's buffer was made; 0 when there is none.
    sink_oldest_event_age_seconds: GaugeVec = "wsgw_sink_oldest_event_age_seconds" ["sink"];
    /// Events that a sink's buffer has room for.
    sink_buffer_limit_events: IntGaugeVec = "wsgw_sink_buffer_limit_events" ["sink"];
    /// Events in a sink's buffer, those under delivery among them.
    sink_buffer_events: IntGaugeVec = "wsgw_sink_buffer_events" ["sink"];
    /// Bytes of event JSON in a sink's buffer.
    sink_buffer_bytes: IntGaugeVec = "wsgw_sink_buffer_bytes" ["sink"];
    /// Messages that found a sink's buffer full, by what was done: wait, reject, close.
    sink_full_total: IntCounterVec = "wsgw_sink_full_total" ["on_full"];
    /// Bytes of the messages that wait for room in a sink's buffer.
    waiting_message_bytes: IntGauge = "wsgw_waiting_message_bytes";
    /// Events that went to no sink, because no route of `fan_out` takes them.
    unrouted_total: IntCounter = "wsgw_unrouted_total";
    /// Events that finally could not be delivered, and pushes that could not be read, by sink or source, by why (rejected, exhausted, `too_large`, returned, malformed, removed, shutdown) and by what became of them: kept (in the dead-letter target) or lost.
    dead_letters_total: IntCounterVec = "wsgw_dead_letters_total" ["sink", "reason", "result"];
    /// Dead letters that wait in a store: redis, rabbitmq or file; looked at most every 15 s, absent while unknown.
    dead_letter_queue_depth: IntGaugeVec = "wsgw_dead_letter_queue_depth" ["store"];
    /// Whether all connections to a broker that are wanted stand.
    broker_up: IntGaugeVec = "wsgw_broker_up" ["broker"];
    /// Connections made to a broker, the first among them.
    broker_connects_total: IntCounterVec = "wsgw_broker_connects_total" ["broker"];
    /// Events that `RabbitMQ` returned because no queue is bound for them.
    broker_returned_total: IntCounter = "wsgw_broker_returned_total";
    /// Pushes read by a source, by result: handled (handed to the connections of its subjects, if any) or malformed (a dead letter).
    source_pushes_total: IntCounterVec = "wsgw_source_pushes_total" ["source", "result"];
    /// Pushes that a source has not read yet; looked at most every 15 s, absent while unknown.
    source_lag: IntGaugeVec = "wsgw_source_lag" ["source"];
    /// Events that are not in the archive, because its buffer was full.
    archive_dropped_total: IntCounter = "wsgw_archive_dropped_total";
    /// Events deleted from the archive at the end of their retention.
    archive_deleted_total: IntCounter = "wsgw_archive_deleted_total";
    /// Pushes queued to connections.
    pushes_queued_total: IntCounter = "wsgw_pushes_queued_total";
    /// Pushes lost, by reason: oldest, newest, overflow, closed.
    pushes_dropped_total: IntCounterVec = "wsgw_pushes_dropped_total" ["reason"];
    /// Pushes that wait in all outboxes.
    outbox_waiting: IntGauge = "wsgw_outbox_waiting";
    /// Other gateways that were found lost and spoken for.
    nodes_lost_total: IntCounter = "wsgw_nodes_lost_total";
    /// Connections of lost gateways whose end was told.
    node_lost_disconnects_total: IntCounter = "wsgw_node_lost_disconnects_total";
    /// Calls of the internal API, by route and status.
    api_requests_total: IntCounterVec = "wsgw_api_requests_total" ["route", "status"];
    /// Seconds from the upgrade request to its answer.
    handshake_duration_seconds: Histogram = "wsgw_handshake_duration_seconds" in NETWORK_BUCKETS;
    /// Reloads of the pipeline file, by result.
    config_reloads_total: IntCounterVec = "wsgw_config_reloads_total" ["result"];
    /// Whether the last reload succeeded.
    config_last_reload_successful: IntGauge = "wsgw_config_last_reload_successful";
    /// Unix seconds of the last reload, successful or not; the start's before the first.
    config_last_reload_timestamp_seconds: Gauge = "wsgw_config_last_reload_timestamp_seconds";
    /// Seconds that the last reload took since it was asked for; 0 before the first.
    config_last_reload_seconds: Gauge = "wsgw_config_last_reload_seconds";
    /// Hash of the configuration in force.
    config_info: IntGaugeVec = "wsgw_config_info" ["hash"];
    /// Compiled configurations that something still uses: 1, but for moments after a reload.
    config_generations: IntGauge = "wsgw_config_generations";
    /// Spans that were exported.
    spans_exported_total: IntCounter = "wsgw_spans_exported_total";
    /// Spans that were not, by reason: `queue_full`, paused (the collector takes none), `export_failed`, rejected, shutdown.
    spans_dropped_total: IntCounterVec = "wsgw_spans_dropped_total" ["reason"];
    /// Exports of spans that failed.
    span_exports_failed_total: IntCounter = "wsgw_span_exports_failed_total";
    /// Lines of the log that were dropped, because nobody read standard error.
    log_lines_dropped_total: IntCounter = "wsgw_log_lines_dropped_total";
    /// Lines of the log that were left out, because one event came too often.
    log_lines_suppressed_total: IntCounter = "wsgw_log_lines_suppressed_total";
    /// Whether `GET /ready` answers 200.
    ready: IntGauge = "wsgw_ready";
    /// Version of the gateway, the commit it was built from and the compiler; empty where unknown.
    build_info: IntGaugeVec = "wsgw_build_info" ["version", "commit", "rustc"];
    /// Seconds of CPU that the process used, user and system.
    process_cpu_seconds_total: Counter = "process_cpu_seconds_total";
    /// Resident memory of the process in bytes.
    process_resident_memory_bytes: IntGauge = "process_resident_memory_bytes";
    /// Virtual memory of the process in bytes.
    process_virtual_memory_bytes: IntGauge = "process_virtual_memory_bytes";
    /// Unix seconds at which the process started.
    process_start_time_seconds: Gauge = "process_start_time_seconds";
    /// File descriptors that the process has open.
    process_open_fds: IntGauge = "process_open_fds";
    /// File descriptors that the process may have open.
    process_max_fds: IntGauge = "process_max_fds";
    /// Threads of the process.
    process_threads: IntGauge = "process_threads";
}

/// A count as a gauge takes it.
#[must_use]
pub fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// What tells its metrics only when somebody asks for them, instead of on each change.
pub trait Sampled: Send + Sync {
    /// Sets the metrics; must not wait.
    fn sample(&self, metrics: &Metrics);
}

impl Metrics {
    /// Every series as it stands now, for whoever shows values rather than text.
    #[must_use]
    pub fn gather(&self) -> Vec<prometheus::proto::MetricFamily> {
        self.sample();
        self.registry.gather()
    }

    /// Has something sampled whenever the metrics are asked for, as long as it lives.
    pub fn sample_from(&self, sampled: Weak<dyn Sampled>) {
        self.sampled.lock().push(sampled);
    }

    /// Brings up to date what is only sampled; whoever reads gauges calls this first.
    pub fn sample(&self) {
        // Held to the end, so that what two ask for at once is counted once.
        let mut sampled = self.sampled.lock();
        sampled.retain(|sampled| sampled.strong_count() > 0);
        for sampled in sampled.iter().filter_map(Weak::upgrade) {
            sampled.sample(self);
        }
        super::process::sample(self);
        let left_out = super::throttle::all_left_out();
        let counted = self.log_lines_suppressed_total.get();
        self.log_lines_suppressed_total
            .inc_by(left_out.saturating_sub(counted));
    }

    /// The metrics in Prometheus' text format.
    ///
    /// # Errors
    /// When a metric is inconsistent, which the library excludes for those registered here.
    pub fn encode(&self) -> Result<Vec<u8>, BoxError> {
        let mut out = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.gather(), &mut out)?;
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_metric_has_one_name_and_a_help_text() {
        let mut seen = HashSet::new();
        for (name, kind, help) in Metrics::TABLE {
            assert!(seen.insert(*name), "{name} is there twice");
            assert!(
                help.trim().ends_with('.'),
                "{name}: {help:?} is no sentence"
            );
            let counts = name.ends_with("_total");
            assert_eq!(counts, kind.contains("Counter"), "{name} is a {kind}");
        }
    }

    #[test]
    fn every_metric_registers_and_encodes() {
        let metrics = Metrics::new().unwrap();
        metrics.connections_total.inc();
        let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
        assert!(text.contains("ws_connections_total 1"));
    }
}
