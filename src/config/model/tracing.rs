//! The settings of tracing: what is done with trace context, which traces are recorded, and where their spans go.
//!
//! Part of the pipeline file's types; the stage `trace` and [`crate::telemetry::traces`] read them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Trace context, and the gateway's own spans.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TracingConfig {
    /// What the `trace` stage does unless it says otherwise itself.
    pub strategy: TracingStrategy,
    /// Name of the trace id's field in client messages and in events.
    pub trace_id_field: String,
    /// HTTP header that carries the trace id to the webhook, and from the upgrade request.
    pub header_name: String,
    /// With `full`: share of new traces that are recorded, from 0 to 1.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub sample_rate: f64,
    /// With `full`: what a client's word that its trace is recorded, or is not, counts for. The backend's is always followed.
    pub client_sampling: ClientSampling,
    /// Where the gateway's own spans go, which `full` makes.
    pub exporter: TracingExporter,
    /// Name of the gateway in traces.
    pub service_name: String,
    /// Further attributes of the gateway in traces, as `key=value,key=value`, values percent-encoded.
    pub resource_attributes: String,
    /// Whether spans name users by a keyed hash (`user.hash`) instead of their ids (`user.id`).
    pub hash_user_ids: bool,
    /// Key of these hashes; empty: made of `server.api_key`, or without one by chance at each start.
    pub user_hash_key: Secret,
    /// Spans that wait to be exported at most; more are dropped and counted.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub queue_spans: usize,
    /// Spans in one export at most.
    #[schemars(range(min = 1, max = 65_536))]
    pub batch_spans: usize,
    /// Seconds a span waits for others before it is exported.
    #[schemars(range(min = 0.01, max = 60.0))]
    pub batch_seconds: f64,
    /// The collector of the exporter `otlp`.
    pub otlp: OtlpConfig,
}

impl Default for TracingConfig {
    fn default() -> Self {
        Self {
            strategy: TracingStrategy::None,
            trace_id_field: "trace_id".into(),
            header_name: "X-Trace-Id".into(),
            sample_rate: 1.0,
            client_sampling: ClientSampling::Limit,
            exporter: TracingExporter::None,
            service_name: "wsgw".into(),
            resource_attributes: String::new(),
            hash_user_ids: true,
            user_hash_key: Secret::default(),
            queue_spans: 16_384,
            batch_spans: 512,
            batch_seconds: 1.0,
            otlp: OtlpConfig::default(),
        }
    }
}

/// What the gateway does with trace context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TracingStrategy {
    /// Copies what the client sent, and adds nothing.
    #[default]
    None,
    /// Copies what the client sent, and derives the trace id from its `traceparent`.
    Propagate,
    /// Propagates, starts a new trace where the client sent none, and makes spans for the exporter.
    Full,
}

/// What a client's word that its trace is recorded, or is not, counts for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientSampling {
    /// A trace that is not recorded stays so; of those that are, `sample_rate` are, whatever clients send.
    #[default]
    Limit,
    /// It is followed, both ways: a client can have every message of its recorded.
    Follow,
    /// Nothing: `sample_rate` decides alone.
    Ignore,
}

/// Where spans go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TracingExporter {
    /// Nowhere: none are made.
    #[default]
    None,
    /// To standard output, each as a line of OTLP/JSON.
    Stdout,
    /// To an OpenTelemetry collector.
    Otlp,
}

/// The collector that spans are sent to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// Base URL; over HTTP `/v1/traces` is appended. Empty: `http://localhost:4318`, or port 4317 for gRPC.
    pub endpoint: String,
    /// How spans are sent.
    pub protocol: OtlpProtocol,
    /// Headers of every export, as `name=value,name=value`, values percent-encoded.
    pub headers: Secret,
    /// Seconds one export may take.
    #[schemars(range(min = 0.1, max = 300.0))]
    pub timeout_seconds: f64,
    /// PEM file of the authorities that sign the collector's certificate, for `https`; empty: the system's.
    pub ca_file: String,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            protocol: OtlpProtocol::HttpProtobuf,
            headers: Secret::default(),
            timeout_seconds: 10.0,
            ca_file: String::new(),
        }
    }
}

/// How spans are sent to a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum OtlpProtocol {
    /// Protocol buffers over HTTP/1.1.
    #[default]
    #[serde(rename = "http/protobuf")]
    HttpProtobuf,
    /// gRPC, over HTTP/2.
    #[serde(rename = "grpc")]
    Grpc,
}
