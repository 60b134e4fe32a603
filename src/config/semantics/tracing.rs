//! Checks the section `tracing`: names, the exporter's settings, and whether there is anything to export.
//!
//! Part of the checks of meaning; no collector is connected to.

use super::Review;
use crate::config::{OtlpProtocol, TracingExporter, TracingStrategy};
use crate::stages::StageConfig;
use crate::telemetry::traces::otlp_headers;

pub(super) fn check(review: &mut Review<'_>) {
    let tracing = &review.config.tracing;
    let name = &tracing.header_name;
    if http::HeaderName::try_from(name.as_str()).is_err() {
        review.say(
            "bad_header_name",
            "tracing.header_name",
            format!(
                "`{}` is not a name an HTTP header can have",
                name.escape_debug()
            ),
            "use letters, digits and `-`, as in `X-Trace-Id`",
        );
    }
    let field = &tracing.trace_id_field;
    if crate::event::MEMBERS.contains(&field.as_str()) {
        review.say(
            "trace_field_taken",
            "tracing.trace_id_field",
            format!("`{field}` is another member of every event: the trace id would hide it"),
            "choose a name of its own, such as `trace_id`",
        );
    }
    if otlp_headers(tracing.otlp.headers.reveal()).is_err() {
        review.say(
            "bad_otlp_headers",
            "tracing.otlp.headers",
            "`tracing.otlp.headers` is not a list of headers",
            "write it like `api-key=secret,x-tenant=one`, with values percent-encoded",
        );
    }
    exporter(review);
}

fn exporter(review: &mut Review<'_>) {
    let (config, tracing) = (review.config, &review.config.tracing);
    if tracing.exporter == TracingExporter::None {
        return;
    }
    if tracing.exporter == TracingExporter::Stdout && config.events.stdout.enabled {
        review.say(
            "stdout_taken",
            "tracing.exporter",
            "spans and events would be mixed on standard output",
            "send one of them elsewhere: `exporter: otlp`, or `events.stdout.enabled: false`",
        );
    }
    let full = |strategy| strategy == TracingStrategy::Full;
    let in_stages = config.stages.iter().any(|stage| match stage {
        StageConfig::Trace(trace) => full(trace.strategy.unwrap_or(tracing.strategy)),
        _ => false,
    });
    if !in_stages && !full(config.tracing_of_pushes()) {
        review.say(
            "exporter_idle",
            "tracing.exporter",
            "there is nothing to export: only the strategy `full` makes spans",
            "set `tracing.strategy: full`, in the shipped files by TRACING_STRATEGY",
        );
    }
    if tracing.otlp.protocol == OtlpProtocol::Grpc && tracing.otlp.endpoint.ends_with("/v1/traces")
    {
        review.say(
            "bad_url",
            "tracing.otlp.endpoint",
            "`tracing.otlp.endpoint` has the path of another protocol",
            "leave `/v1/traces` away: the endpoint is a base",
        );
    }
}
