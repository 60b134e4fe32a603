//! What a container is told by its environment: every secret setting by a file, and which pipeline file it runs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

use std::process::Command;

use serde_json::{Value, json};
use wsgw::cli::schema;
use wsgw::config::{self, EnvVars, Overrides};

/// The paths of all secrets of the schema, below its root key; a stage's begin with its name.
fn secrets() -> Vec<Vec<String>> {
    let schema: Value = serde_json::from_str(&schema::render()).unwrap();
    let mut found = Vec::new();
    walk(&schema, &schema, &mut Vec::new(), &mut found);
    found
}

fn walk(schema: &Value, node: &Value, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
    if node["writeOnly"] == true {
        found.push(path.clone());
        return;
    }
    if let Some(name) = node["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        // The form that a list of tests has is not the gateway's; nothing else refers to itself.
        if path.len() < 12 {
            walk(schema, &schema["$defs"][name], path, found);
        }
    }
    for (key, child) in node["properties"].as_object().into_iter().flatten() {
        path.push(key.clone());
        walk(schema, child, path, found);
        path.pop();
    }
    for choice in ["anyOf", "oneOf", "allOf"] {
        for child in node[choice].as_array().into_iter().flatten() {
            walk(schema, child, path, found);
        }
    }
    if node["items"].is_object() {
        walk(schema, &node["items"], path, found);
    }
}

/// A file that has one setting of a path beside what must be.
fn document(path: &[String], value: &str) -> String {
    let mut file = json!({
        "snoke_ws": {
            "mode": "core",
            "server": { "api_key": "an-api-key-0123456789abcdef" },
            "stages": { "auth": { "jwt": { "algorithm": "HS256", "public_key": "a-shared-secret-of-thirty-two-bytes-or-more" } } }
        }
    });
    let mut at = &mut file;
    for key in path {
        at = &mut at[key];
    }
    *at = json!(value);
    let auth = file["snoke_ws"]["stages"]["auth"].take();
    file["snoke_ws"]["stages"] =
        json!([{ "auth": auth }, { "fan_out": { "events_mode": "none" } }]);
    file.to_string()
}

/// Two values that the setting may have.
fn values(path: &[String]) -> [&'static str; 2] {
    match path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [.., "rabbitmq", "dsn"] => ["amqp://one.example", "amqp://two.example"],
        [.., "archive", "dsn"] => ["sqlite://one.db", "sqlite://two.db"],
        [.., "dsn" | "redis_dsn"] => ["redis://one.example", "redis://two.example"],
        [.., "headers"] => ["a=one", "a=two"],
        _ => [
            "one-secret-of-thirty-two-bytes-or-more",
            "two-secret-of-thirty-two-bytes-or-more",
        ],
    }
}

fn hash(text: &str, env: &[(&str, &str)]) -> String {
    let env: EnvVars = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let overrides = Overrides {
        sets: Vec::new(),
        env,
    };
    match config::load_str("test.yaml", text, &overrides) {
        Ok(loaded) => loaded.hash,
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn every_secret_can_be_given_by_a_file() {
    let secrets = secrets();
    for known in [
        "server.api_key",
        "events.webhook.secret",
        "stages.auth.jwt.public_key",
    ] {
        let path: Vec<_> = ["snoke_ws"].into_iter().chain(known.split('.')).collect();
        assert!(
            secrets.iter().any(|secret| *secret == path),
            "{known} in {secrets:?}"
        );
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let name = file.display().to_string();
    for path in secrets {
        let [one, two] = values(&path);
        std::fs::write(&file, format!("{one}\n")).unwrap();
        let by_file = hash(&document(&path, "${CANARY:-}"), &[("CANARY_FILE", &name)]);
        assert_eq!(by_file, hash(&document(&path, one), &[]), "{path:?}");
        assert_ne!(by_file, hash(&document(&path, two), &[]), "{path:?}");
    }
}

#[test]
fn the_shipped_files_take_every_secret_they_have_from_a_variable() {
    for entry in std::fs::read_dir("pipelines").unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        for line in text.split("\ntests:").next().unwrap().lines() {
            let setting = line.trim_start();
            let is_secret = [
                "api_key:",
                "secret:",
                "dsn:",
                "redis_dsn:",
                "public_key:",
                "headers:",
            ]
            .iter()
            .any(|key| setting.starts_with(key));
            assert!(
                !is_secret || setting.contains("\"${"),
                "{}: {line}",
                file.display()
            );
        }
    }
}

#[test]
fn without_a_file_the_mode_chooses_one_of_a_folder() {
    for (env, file) in [
        (&[][..], "pipelines/terminator.yaml"),
        (
            &[("WS_MODE", "core"), ("WSGW_PIPELINES", "")],
            "pipelines/core.yaml",
        ),
        (
            &[("WS_MODE", ""), ("WSGW_PIPELINES", "/nowhere")],
            "/nowhere/terminator.yaml",
        ),
        (
            &[("WS_MODE", "core"), ("WSGW_PIPELINES", "/nowhere/")],
            "/nowhere/core.yaml",
        ),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_wsgw"))
            .arg("run")
            .current_dir(folder.path())
            .env_clear()
            .envs(env.iter().copied())
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success());
        assert!(said.contains(&format!("{file}: cannot be read")), "{said}");
    }
}
