//! The pipeline files that ship with the gateway: clean, equal to the defaults, and honouring every variable.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wsgw::config::{self, LoadError, Loaded, Overrides, Severity};
use wsgw::stages::StageConfig;
use wsgw::stages::fan_out::EventsMode;

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    let env = pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Overrides {
        sets: Vec::new(),
        env: env.collect(),
    }
}

fn terminator(pairs: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    config::load(Path::new("pipelines/terminator.yaml"), &overrides(pairs))
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder exists");
    let paths = entries.map(|entry| entry.expect("readable").path());
    let mut files: Vec<_> = paths
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .collect();
    files.sort();
    files
}

const KEY: (&str, &str) = ("JWT_PUBLIC_KEY_FILE", "public.pem");

/// Enough variables that the shipped file gives no warning either.
const CLEAN: [(&str, &str); 4] = [
    KEY,
    ("GATEWAY_API_KEY", "0123456789abcdef0123"),
    ("SYMFONY_WEBHOOK_URL", "https://app.example/webhook"),
    ("SYMFONY_WEBHOOK_SECRET", "0123456789abcdef0123"),
];

/// Each variable of terminator mode, a value for it, and where the value must arrive.
const VARIABLES: &[(&str, &str, &str, &str)] = &[
    (
        "EVENTS_MODE",
        "none",
        "/stages/5/fan_out/events_mode",
        "none",
    ),
    ("LOG_LEVEL", "debug", "/logging/level", "debug"),
    ("LOG_FORMAT", "text", "/logging/format", "text"),
    ("JWT_ALG", "ES256", "/stages/0/auth/jwt/algorithm", "ES256"),
    (
        "JWT_USER_ID_CLAIM",
        "sub",
        "/stages/0/auth/jwt/user_id_claim",
        "sub",
    ),
    (
        "JWT_PUBLIC_KEY_FILE",
        "a.pem",
        "/stages/0/auth/jwt/public_key_file",
        "a.pem",
    ),
    ("JWT_ISSUER", "me", "/stages/0/auth/jwt/issuer", "me"),
    ("JWT_AUDIENCE", "you", "/stages/0/auth/jwt/audience", "you"),
    ("JWT_LEEWAY", "7", "/stages/0/auth/jwt/leeway", "7"),
    (
        "GATEWAY_API_KEY",
        "0123456789abcdef",
        "/server/api_key",
        "***",
    ),
    (
        "SYMFONY_WEBHOOK_URL",
        "http://a/b",
        "/events/webhook/url",
        "http://a/b",
    ),
    (
        "SYMFONY_WEBHOOK_SECRET",
        "0123456789abcdef",
        "/events/webhook/secret",
        "***",
    ),
    (
        "WEBHOOK_RETRY_ATTEMPTS",
        "9",
        "/events/webhook/retry_attempts",
        "9",
    ),
    (
        "WEBHOOK_RETRY_BASE_SECONDS",
        "0.25",
        "/events/webhook/retry_base_seconds",
        "0.25",
    ),
    (
        "WEBHOOK_TIMEOUT_SECONDS",
        "2",
        "/events/webhook/timeout_seconds",
        "2.0",
    ),
    (
        "PRESENCE_STRATEGY",
        "heartbeat",
        "/presence/strategy",
        "heartbeat",
    ),
    ("PRESENCE_TTL_SECONDS", "60", "/presence/ttl_seconds", "60"),
    (
        "PRESENCE_HEARTBEAT_SECONDS",
        "20",
        "/presence/heartbeat_seconds",
        "20",
    ),
    (
        "PRESENCE_GRACE_SECONDS",
        "5",
        "/presence/grace_seconds",
        "5",
    ),
    (
        "PRESENCE_REFRESH_ON_MESSAGE",
        "0",
        "/presence/refresh_on_message",
        "false",
    ),
    ("TRACING_STRATEGY", "full", "/tracing/strategy", "full"),
    (
        "TRACING_TRACE_ID_FIELD",
        "tid",
        "/tracing/trace_id_field",
        "tid",
    ),
    ("TRACING_HEADER_NAME", "X-T", "/tracing/header_name", "X-T"),
    ("TRACING_EXPORTER", "otlp", "/tracing/exporter", "otlp"),
    (
        "TRACING_SAMPLE_RATE",
        "0.25",
        "/tracing/sample_rate",
        "0.25",
    ),
    ("OTEL_SERVICE_NAME", "chat", "/tracing/service_name", "chat"),
    (
        "OTEL_RESOURCE_ATTRIBUTES",
        "zone=a",
        "/tracing/resource_attributes",
        "zone=a",
    ),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://collector:4318",
        "/tracing/otlp/endpoint",
        "http://collector:4318",
    ),
    (
        "OTEL_EXPORTER_OTLP_PROTOCOL",
        "grpc",
        "/tracing/otlp/protocol",
        "grpc",
    ),
    (
        "OTEL_EXPORTER_OTLP_HEADERS",
        "a=b",
        "/tracing/otlp/headers",
        "***",
    ),
    (
        "OTEL_EXPORTER_OTLP_CERTIFICATE",
        "ca.pem",
        "/tracing/otlp/ca_file",
        "ca.pem",
    ),
    (
        "WSGW_INTERNAL_LISTEN",
        "127.0.0.1:1",
        "/server/internal_listen",
        "127.0.0.1:1",
    ),
    (
        "ADMIN_API_KEY",
        "0123456789abcdefghij",
        "/admin/api_key",
        "***",
    ),
    (
        "ADMIN_API_KEY_FILE",
        "admin.key",
        "/admin/api_key_file",
        "admin.key",
    ),
    (
        "WS_RATE_LIMIT_PER_SEC",
        "0",
        "/stages/2/rate_limit/per_second",
        "0.0",
    ),
    (
        "WS_RATE_LIMIT_BURST",
        "40",
        "/stages/2/rate_limit/burst",
        "40",
    ),
    (
        "ORDERING_STRATEGY",
        "subject",
        "/stages/3/ordering_key/strategy",
        "subject",
    ),
    (
        "ORDERING_TOPIC_FIELD",
        "room",
        "/stages/3/ordering_key/topic_field",
        "room",
    ),
    (
        "ORDERING_SUBJECT_SOURCE",
        "subject",
        "/stages/3/ordering_key/subject_source",
        "subject",
    ),
    (
        "ORDERING_PARTITION_MODE",
        "suffix",
        "/stages/3/ordering_key/partition_mode",
        "suffix",
    ),
    (
        "ORDERING_PARTITION_MAX_LEN",
        "0",
        "/stages/3/ordering_key/partition_max_len",
        "0",
    ),
    (
        "ORDERING_PARTITIONS",
        "9",
        "/stages/3/ordering_key/partitions",
        "9",
    ),
    (
        "BACKPRESSURE_STRATEGY",
        "drop",
        "/backpressure/strategy",
        "drop",
    ),
    (
        "BACKPRESSURE_PER_CONN_BUFFER",
        "8",
        "/backpressure/per_conn_buffer",
        "8",
    ),
    (
        "BACKPRESSURE_GLOBAL_BUFFER",
        "80",
        "/backpressure/global_buffer",
        "80",
    ),
    (
        "BACKPRESSURE_DROP_POLICY",
        "newest",
        "/backpressure/drop_policy",
        "newest",
    ),
    (
        "WSGW_LISTEN",
        "127.0.0.1:1",
        "/server/listen",
        "127.0.0.1:1",
    ),
];

/// Each variable that only the pipelines with brokers have.
const BROKER_VARIABLES: &[(&str, &str, &str, &str)] = &[
    ("REDIS_DSN", "redis://r", "/events/redis_stream/dsn", "***"),
    (
        "REDIS_DSN",
        "redis://r",
        "/transport/redis_stream/dsn",
        "***",
    ),
    ("REDIS_DSN", "redis://r", "/presence/redis/dsn", "***"),
    ("REDIS_STREAM", "a", "/transport/redis_stream/stream", "a"),
    (
        "REDIS_INBOX_STREAM",
        "a",
        "/events/redis_stream/inbox_stream",
        "a",
    ),
    (
        "REDIS_EVENTS_STREAM",
        "a",
        "/events/redis_stream/stream",
        "a",
    ),
    (
        "REDIS_DLQ_STREAM",
        "a",
        "/events/dead_letters/redis_stream/stream",
        "a",
    ),
    ("RABBITMQ_DSN", "amqp://r", "/events/rabbitmq/dsn", "***"),
    ("RABBITMQ_DSN", "amqp://r", "/transport/rabbitmq/dsn", "***"),
    (
        "RABBITMQ_EXCHANGE",
        "a",
        "/transport/rabbitmq/exchange",
        "a",
    ),
    (
        "RABBITMQ_ROUTING_KEY",
        "a",
        "/transport/rabbitmq/routing_key",
        "a",
    ),
    ("RABBITMQ_QUEUE", "a", "/transport/rabbitmq/queue", "a"),
    (
        "RABBITMQ_QUEUE_TTL_MS",
        "7",
        "/transport/rabbitmq/queue_ttl_ms",
        "7",
    ),
    (
        "RABBITMQ_INBOX_EXCHANGE",
        "a",
        "/events/rabbitmq/inbox_exchange",
        "a",
    ),
    (
        "RABBITMQ_INBOX_ROUTING_KEY",
        "a",
        "/events/rabbitmq/inbox_routing_key",
        "a",
    ),
    (
        "RABBITMQ_INBOX_QUEUE",
        "a",
        "/events/rabbitmq/inbox_queue",
        "a",
    ),
    (
        "RABBITMQ_INBOX_QUEUE_TTL_MS",
        "7",
        "/events/rabbitmq/inbox_queue_ttl_ms",
        "7",
    ),
    (
        "RABBITMQ_EVENTS_EXCHANGE",
        "a",
        "/events/rabbitmq/exchange",
        "a",
    ),
    (
        "RABBITMQ_EVENTS_ROUTING_KEY",
        "a",
        "/events/rabbitmq/routing_key",
        "a",
    ),
    ("RABBITMQ_EVENTS_QUEUE", "a", "/events/rabbitmq/queue", "a"),
    (
        "RABBITMQ_EVENTS_QUEUE_TTL_MS",
        "7",
        "/events/rabbitmq/queue_ttl_ms",
        "7",
    ),
    (
        "RABBITMQ_DLQ_EXCHANGE",
        "a",
        "/events/dead_letters/rabbitmq/exchange",
        "a",
    ),
    (
        "RABBITMQ_DLQ_QUEUE",
        "a",
        "/events/dead_letters/rabbitmq/queue",
        "a",
    ),
    (
        "RABBITMQ_REPLAY_TARGET_EXCHANGE",
        "a",
        "/replay/rabbitmq/target_exchange",
        "a",
    ),
    (
        "RABBITMQ_REPLAY_TARGET_ROUTING_KEY",
        "a",
        "/replay/rabbitmq/target_routing_key",
        "a",
    ),
    (
        "RABBITMQ_REPLAY_MAX_BATCH",
        "7",
        "/replay/rabbitmq/max_batch",
        "7",
    ),
    (
        "PRESENCE_REDIS_DSN",
        "redis://p",
        "/presence/redis/dsn",
        "***",
    ),
    (
        "PRESENCE_REDIS_PREFIX",
        "a:",
        "/presence/redis/prefix",
        "a:",
    ),
    ("REPLAY_STRATEGY", "bounded", "/replay/strategy", "bounded"),
    (
        "REPLAY_RETENTION_SECONDS",
        "7",
        "/replay/retention_seconds",
        "7",
    ),
    ("REPLAY_MAXLEN", "7", "/replay/maxlen", "7"),
    (
        "REPLAY_SNAPSHOT_SECONDS",
        "7",
        "/replay/snapshot_seconds",
        "7.0",
    ),
    (
        "REPLAY_ARCHIVE_DSN",
        "sqlite://a",
        "/replay/archive/dsn",
        "***",
    ),
    (
        "REPLAY_API_KEY",
        "0123456789abcdef",
        "/replay/api/api_key",
        "***",
    ),
    ("REPLAY_AUDIT_LOG", "0", "/replay/api/audit_log", "false"),
    (
        "REPLAY_RATE_LIMIT_STRATEGY",
        "none",
        "/replay/api/rate_limit/strategy",
        "none",
    ),
    (
        "REPLAY_RATE_LIMIT_PER_MINUTE",
        "7",
        "/replay/api/rate_limit/per_minute",
        "7",
    ),
    (
        "REPLAY_RATE_LIMIT_WINDOW_SECONDS",
        "7",
        "/replay/api/rate_limit/window_seconds",
        "7",
    ),
    (
        "REPLAY_RATE_LIMIT_REDIS_DSN",
        "redis://l",
        "/replay/api/rate_limit/redis_dsn",
        "***",
    ),
    (
        "REPLAY_RATE_LIMIT_PREFIX",
        "a:",
        "/replay/api/rate_limit/prefix",
        "a:",
    ),
    (
        "REPLAY_RATE_LIMIT_KEY",
        "ip",
        "/replay/api/rate_limit/key",
        "ip",
    ),
    (
        "REPLAY_IDEMPOTENCY_STRATEGY",
        "in_memory",
        "/replay/api/idempotency/strategy",
        "in_memory",
    ),
    (
        "REPLAY_IDEMPOTENCY_TTL_SECONDS",
        "7",
        "/replay/api/idempotency/ttl_seconds",
        "7",
    ),
    (
        "REPLAY_IDEMPOTENCY_REDIS_DSN",
        "redis://i",
        "/replay/api/idempotency/redis_dsn",
        "***",
    ),
    (
        "REPLAY_IDEMPOTENCY_PREFIX",
        "a:",
        "/replay/api/idempotency/prefix",
        "a:",
    ),
    (
        "REPLAY_IDEMPOTENCY_HEADER",
        "X-Key",
        "/replay/api/idempotency/header",
        "X-Key",
    ),
    (
        "REPLAY_IDEMPOTENCY_PAYLOAD_FIELD",
        "k",
        "/replay/api/idempotency/payload_field",
        "k",
    ),
];

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(String::new, |value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    })
}

#[test]
fn every_variable_arrives() {
    for (name, value, pointer, expected) in VARIABLES {
        let loaded =
            terminator(&[KEY, (name, value)]).unwrap_or_else(|error| panic!("{name}: {error}"));
        let json = serde_json::to_value(&loaded.config).expect("JSON");
        assert_eq!(shown(json.pointer(pointer)), *expected, "{name}");
    }
    for (name, value) in [
        ("JWT_PUBLIC_KEY", "-----BEGIN"),
        ("JWT_JWKS_URL", "https://login.example/jwks.json"),
    ] {
        terminator(&[(name, value)]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let core = terminator(&[KEY, ("WS_MODE", "core"), ("EVENTS_MODE", "none")]).expect("valid");
    assert_eq!(core.config.mode, config::Mode::Core);
    let admin = terminator(&[
        KEY,
        ("ADMIN_ENABLED", "1"),
        ("ADMIN_API_KEY", "0123456789abcdefghij"),
        ("WSGW_INTERNAL_LISTEN", "127.0.0.1:1"),
    ]);
    assert!(admin.expect("valid").config.admin.enabled);
}

/// The pointer to a stage's setting in a file that has stages of its own, too.
fn where_the_stage_stands(json: &Value, pointer: &str) -> String {
    let Some((_, stage)) = pointer
        .strip_prefix("/stages/")
        .and_then(|rest| rest.split_once('/'))
    else {
        return pointer.to_owned();
    };
    let name = stage.split('/').next().expect("a name");
    let stages = json["stages"].as_array().expect("a list");
    let at = stages.iter().position(|item| item.get(name).is_some());
    format!("/stages/{}/{stage}", at.expect("the stage is there"))
}

/// The variables that a file names, each once.
fn variables_of(file: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(file).expect("readable");
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    code.flat_map(|line| line.split("${").skip(1))
        .filter_map(|rest| rest.split(":-").next())
        .map(str::to_owned)
        .collect()
}

/// Variables that have tests of their own.
const APART: [&str; 4] = ["WS_MODE", "JWT_PUBLIC_KEY", "JWT_JWKS_URL", "ADMIN_ENABLED"];

#[test]
fn every_variable_of_the_terminator_file_is_tested() {
    let named = variables_of("pipelines/terminator.yaml");
    let tested = VARIABLES.iter().map(|row| row.0).chain(APART);
    assert_eq!(named, tested.map(str::to_owned).collect());
}

#[test]
fn every_variable_arrives_in_the_pipelines_with_brokers() {
    for file in ["core", "both", "core-rabbitmq", "acknowledged"] {
        let path = format!("pipelines/{file}.yaml");
        let named = variables_of(&path);
        let mut tested = BTreeSet::from(APART.map(str::to_owned));
        for (name, value, pointer, expected) in VARIABLES.iter().chain(BROKER_VARIABLES) {
            // Each file has the variables of what it uses.
            if !named.contains(*name) || file == "core-rabbitmq" && pointer.contains("redis_stream")
            {
                assert!(file == "core-rabbitmq", "{path} lacks {name}");
                continue;
            }
            tested.insert((*name).to_owned());
            let pairs = [KEY, ("RABBITMQ_DSN", "amqp://rabbit"), (name, value)];
            let loaded = config::load(Path::new(&path), &overrides(&pairs))
                .unwrap_or_else(|error| panic!("{path} with {name}: {error}"));
            let json = serde_json::to_value(&loaded.config).expect("JSON");
            let pointer = where_the_stage_stands(&json, pointer);
            assert_eq!(shown(json.pointer(&pointer)), *expected, "{name} in {path}");
        }
        assert_eq!(named, tested, "{path}");
    }
}

#[test]
fn the_pipelines_with_brokers_are_clean_and_say_the_defaults() {
    for (file, mode, brokers) in [
        (
            "core",
            EventsMode::Broker,
            ["REDIS_DSN", "RABBITMQ_DSN"].as_slice(),
        ),
        ("both", EventsMode::Both, &["REDIS_DSN", "RABBITMQ_DSN"]),
        ("core-rabbitmq", EventsMode::Broker, &["RABBITMQ_DSN"]),
        (
            "acknowledged",
            EventsMode::Broker,
            &["REDIS_DSN", "RABBITMQ_DSN"],
        ),
    ] {
        let path = format!("pipelines/{file}.yaml");
        let path = Path::new(&path);
        for broker in brokers {
            let dsn = if *broker == "REDIS_DSN" {
                "redis://redis"
            } else {
                "amqp://rabbit"
            };
            let mut pairs = CLEAN.to_vec();
            pairs.push((broker, dsn));
            let loaded =
                config::load(path, &overrides(&pairs)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(
                loaded.warnings.len(),
                0,
                "{file} with {broker}: {:?}",
                loaded.warnings
            );
            assert_eq!(
                (loaded.config.mode, loaded.config.events_mode()),
                (config::Mode::Core, mode)
            );
        }
        let Err(LoadError::Invalid(problems)) = config::load(path, &overrides(&CLEAN)) else {
            panic!("{file} without a broker is taken");
        };
        let codes: Vec<_> = problems.iter().map(|problem| problem.code).collect();
        assert_eq!(codes, ["broker_not_configured"], "{file}");

        let loaded =
            config::load(path, &overrides(&[KEY, ("EVENTS_MODE", "none")])).expect("valid");
        let mut expected = config::Config {
            mode: config::Mode::Core,
            ..config::Config::default()
        };
        expected.presence.kind = Some(config::PresenceKind::Redis);
        expected.stages.clone_from(&loaded.config.stages);
        assert_eq!(
            serde_json::to_value(&loaded.config).expect("JSON"),
            serde_json::to_value(&expected).expect("JSON"),
            "{file}"
        );
    }
}

#[test]
fn the_routed_pipeline_is_clean_where_both_of_its_sinks_are_configured() {
    let path = Path::new("pipelines/routed.yaml");
    let mut pairs = CLEAN.to_vec();
    pairs.push(("REDIS_DSN", "redis://redis"));
    let loaded = config::load(path, &overrides(&pairs)).unwrap_or_else(|error| panic!("{error}"));
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let names: Vec<_> = loaded.config.stages.iter().map(StageConfig::name).collect();
    assert_eq!(
        names.iter().filter(|name| **name == "rate_limit").count(),
        2
    );
    let without_url: Vec<_> = pairs
        .into_iter()
        .filter(|(name, _)| *name != "SYMFONY_WEBHOOK_URL")
        .collect();
    let loaded = config::load(path, &overrides(&without_url)).expect("valid");
    let codes: Vec<_> = loaded.warnings.iter().map(|warning| warning.code).collect();
    assert_eq!(codes, ["sink_off", "sink_off", "no_sink"]);
}

#[test]
fn the_shipped_terminator_pipeline_is_clean() {
    assert!(terminator(&CLEAN).expect("valid").warnings.is_empty());
    let bare = terminator(&[]);
    let errors: Vec<_> = match &bare {
        Err(LoadError::Invalid(diagnostics)) => diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == Severity::Error)
            .collect(),
        other => panic!("{other:?}"),
    };
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert_eq!(errors[0].code, "auth_without_key");
}

#[test]
fn without_variables_the_shipped_file_says_what_the_defaults_say() {
    let loaded = terminator(&[KEY]).expect("valid");
    let mut expected = config::Config::default();
    expected.stages.clone_from(&loaded.config.stages);
    assert_eq!(
        serde_json::to_value(&loaded.config).expect("JSON"),
        serde_json::to_value(&expected).expect("JSON")
    );
    let names: Vec<_> = loaded.config.stages.iter().map(StageConfig::name).collect();
    assert_eq!(
        names,
        [
            "auth",
            "ping_filter",
            "rate_limit",
            "ordering_key",
            "trace",
            "fan_out"
        ]
    );
}

#[test]
fn empty_variables_mean_the_defaults() {
    let names = [
        "WS_MODE",
        "EVENTS_MODE",
        "LOG_LEVEL",
        "LOG_FORMAT",
        "JWT_ALG",
        "JWT_LEEWAY",
        "WS_RATE_LIMIT_PER_SEC",
        "PRESENCE_REFRESH_ON_MESSAGE",
        "TRACING_STRATEGY",
        "WSGW_LISTEN",
    ];
    let mut pairs: Vec<_> = names.iter().map(|name| (*name, "")).collect();
    pairs.push(KEY);
    let with_empty = terminator(&pairs).expect("valid");
    let without = terminator(&[KEY]).expect("valid");
    assert_eq!(with_empty.hash, without.hash);
}

/// The effective settings, with every text expanded and given the type its key wants.
#[test]
fn shipped_pipelines_satisfy_the_published_schema() {
    let published: Value = serde_json::from_str(
        &fs::read_to_string("schemas/pipeline.schema.json").expect("readable"),
    )
    .expect("JSON");
    let validator = jsonschema::validator_for(&published).expect("a valid schema");
    for file in files("pipelines") {
        let mut pairs = CLEAN.to_vec();
        pairs.extend([
            ("RABBITMQ_DSN", "amqp://rabbit"),
            ("REDIS_DSN", "redis://redis"),
        ]);
        let loaded =
            config::load(&file, &overrides(&pairs)).unwrap_or_else(|error| panic!("{error}"));
        let document = serde_json::json!({ "snoke_ws": loaded.config });
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", file.display());
    }
    assert!(!validator.is_valid(&serde_json::json!({ "snoke_ws": { "sever": {} } })));
}
