//! `server.watch`: the pipeline file and what it names are reloaded when their content changes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;

use support::client::Upgrade;
use support::reload::{pipeline, webhook_at};
use support::tokens::key_file;
use support::{Client, Gateway, Setup, Webhook, in_crate, token};

const STAGES: &str = "- ping_filter: {}\n    - fan_out: {}";

fn watching(webhook: &Webhook, path: &str) -> String {
    let server = format!(", watch: true, path: {path}");
    pipeline(&server, STAGES, &webhook_at(&webhook.url(), ""))
}

async fn answers_at(gateway: &Gateway, path: &str) {
    let upgrade = Upgrade::to(gateway).target(path).bearer(&token("1"));
    upgrade.open().await.round_trip().await;
}

#[tokio::test]
async fn a_file_that_is_replaced_or_written_is_reloaded_once_for_each_content() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .yaml(watching(&webhook, "/one"))
        .start()
        .await;
    answers_at(&gateway, "/one").await;
    // As an editor does: a new file over the old one.
    gateway.write_pipeline(&watching(&webhook, "/two"));
    gateway.line_after("reloaded", 0).await;
    answers_at(&gateway, "/two").await;
    // The same content again is nothing; the next one counts.
    gateway.write_pipeline(&watching(&webhook, "/two"));
    fs::write(gateway.pipeline_file(), watching(&webhook, "/three")).unwrap();
    gateway.line_after("reloaded", 1).await;
    answers_at(&gateway, "/three").await;
    fs::write(gateway.pipeline_file(), "nonsense").unwrap();
    gateway.line_after("reload_failed", 0).await;
    // Watching is switched off by the file itself, and a signal still works.
    let off = watching(&webhook, "/four").replace("watch: true", "watch: false");
    gateway.write_pipeline(&off);
    gateway.line_after("reloaded", 2).await;
    gateway.write_pipeline(&watching(&webhook, "/five"));
    gateway.hang_up("reloaded").await;
    answers_at(&gateway, "/five").await;
    assert_eq!(gateway.lines("reloaded").len(), 4);
    assert_eq!(gateway.lines("reload_failed").len(), 1);
}

/// Kubernetes mounts a `ConfigMap` as links into a directory that it swaps as a whole.
#[tokio::test]
async fn swapped_directories_of_a_config_map_are_followed() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .yaml(watching(&webhook, "/0"))
        .start()
        .await;
    let at = |name: &str| gateway.directory().join(name);
    let mount = |n: usize| {
        let name = format!("..2026_{n}");
        fs::create_dir(at(&name)).unwrap();
        fs::write(
            at(&name).join("pipeline.yaml"),
            watching(&webhook, &format!("/{n}")),
        )
        .unwrap();
        symlink(&name, at("..data_tmp")).unwrap();
        fs::rename(at("..data_tmp"), at("..data")).unwrap();
    };
    mount(1);
    symlink("..data/pipeline.yaml", at("link")).unwrap();
    fs::rename(at("link"), gateway.pipeline_file()).unwrap();
    gateway.line_after("reloaded", 0).await;
    answers_at(&gateway, "/1").await;
    for n in 2..5 {
        mount(n);
        fs::remove_dir_all(at(&format!("..2026_{}", n - 1))).unwrap();
        gateway.line_after("reloaded", n - 1).await;
        answers_at(&gateway, &format!("/{n}")).await;
    }
}

#[tokio::test]
async fn a_key_file_is_watched_too_and_one_that_is_missing_is_waited_for() {
    let webhook = Webhook::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (shipped, key) = (
        in_crate("tests/keys/rsa.pub.pem"),
        folder.path().join("key.pem"),
    );
    fs::write(&key, key_file("rsa.pub.pem")).unwrap();
    let named = |file: &std::path::Path| {
        watching(&webhook, "/ws").replace(shipped.to_str().unwrap(), file.to_str().unwrap())
    };
    let gateway = Setup::default().yaml(named(&key)).start().await;
    Client::connect(&gateway, "1").await.round_trip().await;
    fs::write(&key, key_file("rsa_pkcs1.pub.pem")).unwrap();
    gateway.line_after("reloaded", 0).await;

    let missing = folder.path().join("later.pem");
    gateway.write_pipeline(&named(&missing));
    gateway.line_after("reload_failed", 0).await;
    fs::write(&missing, key_file("rsa.pub.pem")).unwrap();
    gateway.line_after("reloaded", 1).await;
    Client::connect(&gateway, "1").await.round_trip().await;
}

#[tokio::test]
async fn a_secret_in_a_file_of_its_own_is_watched_and_a_pipe_there_keeps_nobody_waiting() {
    let webhook = Webhook::start().await;
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("api.key");
    fs::write(&secret, "the first key, long enough\n").unwrap();
    let yaml = watching(&webhook, "/ws");
    let gateway = Setup::default()
        .yaml(yaml.replacen("itest-api-key", "\"${CHAT_KEY}\"", 1))
        .env("CHAT_KEY_FILE", secret.display())
        .start()
        .await;
    let status = async |key: &str| {
        let url = gateway.api_url() + "/internal/connections";
        let call = reqwest::Client::new().get(url).header("x-api-key", key);
        call.send().await.unwrap().status().as_u16()
    };
    assert_eq!(status("the first key, long enough").await, 200);
    fs::write(&secret, "the second key, long enough\n").unwrap();
    gateway.line_after("reloaded", 0).await;
    assert_eq!(status("the first key, long enough").await, 401);
    assert_eq!(status("the second key, long enough").await, 200);
    // Whoever opened it would wait for someone to write.
    fs::remove_file(&secret).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&secret).status();
    assert!(made.unwrap().success());
    gateway.hang_up("reload_failed").await;
    assert_eq!(status("the second key, long enough").await, 200);
    fs::remove_file(&secret).unwrap();
    fs::write(&secret, "the third key, long enough").unwrap();
    gateway.line_after("reloaded", 1).await;
    assert_eq!(status("the third key, long enough").await, 200);
}
