//! Codes about the Symfony bundle's side.
//!
//! Part of the table of codes.

use super::{Code, Error, Warning, code};

pub(super) const SYMFONY: &[Code] = &[
    code(
        "symfony_no_root",
        Error,
        "The file given by `--symfony` has no settings of the bundle at its top level.",
        "Name the bundle's `config/packages/snoke_ws.yaml`; what stands below `when@…` is not compared.",
    ),
    code(
        "symfony_mode",
        Error,
        "The bundle and the gateway are set to different modes.",
        "Give both the same `mode`, for instance by WS_MODE.",
    ),
    code(
        "symfony_transport",
        Error,
        "The bundle pushes to a broker that the gateway does not read from.",
        "Configure that broker in the gateway's `transport`, or set the bundle's `transport.type` to `http`.",
    ),
    code(
        "symfony_publish_path",
        Error,
        "The bundle pushes to a path that is not the gateway's.",
        "Set the bundle's `transport.http.publish_path` to `/internal/publish`.",
    ),
    code(
        "symfony_base_url",
        Warning,
        "The bundle pushes to the port of the WebSocket listener, and `server.internal_listen` moved the API to another.",
        "Name the port of `server.internal_listen` in the bundle's `transport.http.base_url`.",
    ),
    code(
        "symfony_api_key",
        Error,
        "The API key is set on one side only, or the two sides have different ones.",
        "Give the bundle's `transport.http.api_key` and the gateway's `server.api_key` the same value.",
    ),
    code(
        "symfony_events",
        Error,
        "The bundle waits for events that the gateway does not send that way, or the gateway sends what the bundle does not take.",
        "Let the bundle's `events.type` and the gateway's `events_mode` name the same way.",
    ),
    code(
        "symfony_webhook_path",
        Error,
        "The gateway posts events to another path than the bundle's.",
        "Let the path of `events.webhook.url` be the bundle's `events.webhook.path`.",
    ),
    code(
        "symfony_webhook_secret",
        Error,
        "The webhook's secret is set on one side only, or the two sides have different ones.",
        "Give both the same `events.webhook.secret`, for instance by SYMFONY_WEBHOOK_SECRET.",
    ),
    code(
        "symfony_stream",
        Error,
        "The two sides name different Redis streams, so that what one writes the other never reads.",
        "Give both the same stream.",
    ),
    code(
        "symfony_exchange",
        Error,
        "The two sides name different RabbitMQ exchanges, queues or routing keys, so that what one publishes the other never gets.",
        "Give both the same.",
    ),
    code(
        "symfony_partitions",
        Error,
        "The two sides split messages into different numbers of shards, so that some are never read.",
        "Give the bundle's `partitions` of the broker the gateway's number, for instance both by ORDERING_PARTITIONS.",
    ),
    code(
        "symfony_presence",
        Error,
        "The bundle reads presence where the gateway does not write it.",
        "Let both sides keep presence in the same store, under the same prefix.",
    ),
    code(
        "symfony_user_prefix",
        Error,
        "The two sides make a user's subject with different prefixes, so that pushes to users reach nobody.",
        "Give both the same `subjects.user_prefix`.",
    ),
    code(
        "symfony_trace_field",
        Warning,
        "The bundle looks for trace context in a field that the gateway's events do not have.",
        "Give both the same `tracing.trace_id_field`; the bundle's `tracing.traceparent_field` must be `traceparent`.",
    ),
];
