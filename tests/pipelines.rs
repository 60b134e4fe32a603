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

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use wsgw::config::{self, LoadError, Loaded, Overrides, Severity};
use wsgw::stages::StageConfig;

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
}

#[test]
fn every_variable_of_the_file_is_tested() {
    let text = fs::read_to_string("pipelines/terminator.yaml").expect("readable");
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    let named: Vec<_> = code
        .flat_map(|line| line.split("${").skip(1))
        .filter_map(|rest| rest.split(":-").next())
        .collect();
    let apart = ["WS_MODE", "JWT_PUBLIC_KEY", "JWT_JWKS_URL"];
    for name in &named {
        assert!(
            apart.contains(name) || VARIABLES.iter().any(|row| row.0 == *name),
            "{name}"
        );
    }
    assert_eq!(named.len(), VARIABLES.len() + apart.len());
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
    assert_eq!(names, StageConfig::NAMES);
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
        let loaded =
            config::load(&file, &overrides(&CLEAN)).unwrap_or_else(|error| panic!("{error}"));
        let document = serde_json::json!({ "snoke_ws": loaded.config });
        let errors: Vec<_> = validator
            .iter_errors(&document)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert_eq!(errors, Vec::<String>::new(), "{}", file.display());
    }
    assert!(!validator.is_valid(&serde_json::json!({ "snoke_ws": { "sever": {} } })));
}
