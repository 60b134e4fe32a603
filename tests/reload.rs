//! SIGHUP: another pipeline file while connections stay open, and what is no pipeline file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::float_cmp,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::Duration;

use serde_json::{Value, json};
use support::client::Upgrade;
use support::reload::{pipeline, webhook_at};
use support::tokens::{claims, key_file, signed_with};
use support::{Client, Frame, Gateway, Reply, Setup, Webhook, eventually, in_crate, token, within};

const PING: &str = r#"{"type":"ping"}"#;
const PONG: &str = r#"{"type":"pong"}"#;
const LIMITED: &str = r#"{"type":"rate_limited"}"#;
const STAGES: &str = "- ping_filter: {}\n    - fan_out: {}";

async fn start(yaml: &str) -> Gateway {
    Setup::default().yaml(yaml).start().await
}

fn simple(webhook: &Webhook) -> String {
    pipeline("", STAGES, &webhook_at(&webhook.url(), ""))
}

/// Only the newest compiled configuration is left.
async fn old_generations_are_gone(gateway: &Gateway) {
    within("old generations to go", async {
        while gateway.metric("wsgw_config_generations", &[]).await > 1.0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_next_message_of_an_open_connection_goes_through_the_new_stack() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    let mut client = Client::connect(&gateway, "1").await;
    assert_eq!(client.ask(PING).await, PONG);
    let first_hash = gateway.lines("started")[0]["config"].clone();

    let without_filter = pipeline("", "- fan_out: {}", &webhook_at(&webhook.url(), ""));
    let line = gateway.reload(&without_filter).await;
    assert_eq!(line["generation"], 2);
    assert_eq!(line["changed"], "stages.ping_filter");
    assert_ne!(line["config"], first_hash);
    client.send(PING).await;
    let event = webhook
        .wait_for_event("the ping", |event| event["message"]["type"] == "ping")
        .await;
    assert_eq!(event["seq"], 2, "the connection is the same");

    gateway.reload(&simple(&webhook)).await;
    assert_eq!(client.ask(PING).await, PONG);
    let mut other = Client::connect(&gateway, "2").await;
    assert_eq!(other.ask(PING).await, PONG);

    let metrics = gateway.metrics().await;
    let series: Vec<_> = metrics
        .lines()
        .filter(|line| line.starts_with("wsgw_config_info{"))
        .collect();
    assert_eq!(series.len(), 1, "{series:?}");
    assert!(series[0].contains(first_hash.as_str().unwrap()));
    let reloads = gateway.metric("wsgw_config_reloads_total", &["success"]);
    assert_eq!(reloads.await, 2.0);
    old_generations_are_gone(&gateway).await;
}

#[tokio::test]
async fn a_reload_with_nothing_changed_is_a_success() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    let line = gateway.hang_up("reloaded").await;
    assert_eq!(line["changed"], "");
    assert_eq!(line["waits_for_restart"], "");
    assert!(line["prepare_ms"].as_f64().unwrap() >= 0.0);
}

/// Whatever is wrong with the file, nothing changes, the log says why, and the next good file is taken.
#[tokio::test]
async fn a_file_that_cannot_be_used_changes_nothing() {
    let webhook = Webhook::start().await;
    let good = simple(&webhook);
    let gateway = start(&good).await;
    let mut client = Client::connect(&gateway, "1").await;
    let file = gateway.pipeline_file();

    gateway.write_pipeline(&good.replace("ping_filter", "pong_filter"));
    gateway.hang_up("reload_failed").await;
    let error = gateway.lines("config_error").pop().unwrap();
    assert!(
        error["place"]
            .as_str()
            .unwrap()
            .ends_with("pipeline.yaml:5:7"),
        "{error}"
    );
    assert!(
        error["code"].is_string() && error["hint"].to_string().contains("ping_filter"),
        "{error}"
    );

    gateway.write_pipeline("");
    gateway.hang_up("reload_failed").await;
    assert_eq!(
        gateway.lines("config_error").pop().unwrap()["code"],
        "empty_file"
    );

    std::fs::remove_file(&file).unwrap();
    let line = gateway.hang_up("reload_failed").await;
    assert!(
        line["reason"].to_string().contains("no such file"),
        "{line}"
    );

    std::fs::create_dir(&file).unwrap();
    let line = gateway.hang_up("reload_failed").await;
    assert!(line["reason"].to_string().contains("directory"), "{line}");
    std::fs::remove_dir(&file).unwrap();

    std::fs::write(&file, b"snoke_ws: \xff").unwrap();
    let line = gateway.hang_up("reload_failed").await;
    assert!(line["reason"].to_string().contains("UTF-8"), "{line}");

    gateway.write_pipeline(&good.replace("rsa.pub.pem", "nowhere.pem"));
    let line = gateway.hang_up("reload_failed").await;
    let reason = line["reason"].to_string();
    assert!(
        reason.contains("stages.auth.jwt") && reason.contains("nowhere.pem"),
        "{reason}"
    );

    gateway.write_pipeline(&format!("{good}  logging: {{ level: \"a=b=c\" }}\n"));
    gateway.hang_up("reload_failed").await;

    assert_eq!(client.ask(PING).await, PONG);
    let last = gateway.metric("wsgw_config_last_reload_successful", &[]);
    assert_eq!(last.await, 0.0);
    let failed = gateway.metric("wsgw_config_reloads_total", &["failure"]);
    assert_eq!(failed.await, 7.0);
    let line = gateway.reload(&good).await;
    assert_eq!(line["generation"], 2);
    let last = gateway.metric("wsgw_config_last_reload_successful", &[]);
    assert_eq!(last.await, 1.0);
    assert_eq!(client.ask(PING).await, PONG);
}

/// Nobody writes these pipes: who opened one would wait for ever, and no later reload would be heard of.
#[tokio::test]
async fn a_file_that_never_ends_does_not_end_reloading() {
    let webhook = Webhook::start().await;
    let good = simple(&webhook);
    let gateway = start(&good).await;
    let make_pipe = |path: &std::path::Path| {
        let made = std::process::Command::new("mkfifo").arg(path).status();
        assert!(made.unwrap().success());
    };
    let pipeline_file = gateway.pipeline_file();
    std::fs::remove_file(&pipeline_file).unwrap();
    make_pipe(&pipeline_file);
    let line = gateway.hang_up("reload_failed").await;
    assert!(line["reason"].to_string().contains("regular"), "{line}");

    let key = gateway.directory().join("key.pem");
    make_pipe(&key);
    let public = in_crate("tests/keys/rsa.pub.pem").display().to_string();
    gateway.write_pipeline(&good.replace(&public, key.to_str().unwrap()));
    let line = gateway.hang_up("reload_failed").await;
    assert!(line["reason"].to_string().contains("key.pem"), "{line}");

    let mut client = Client::connect(&gateway, "1").await;
    gateway.reload(&good).await;
    assert_eq!(client.ask(PING).await, PONG);
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn a_huge_file_is_refused_by_its_size() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    let file = gateway.pipeline_file();
    std::fs::write(&file, "snoke_ws:\n".repeat(1 << 20)).unwrap();
    gateway.hang_up("reload_failed").await;
    let error = gateway.lines("config_error").pop().unwrap();
    assert_eq!(error["code"], "too_large");
    // As long as a disk, and without any content.
    let hole = std::fs::File::create(&file).unwrap();
    hole.set_len(1 << 40).unwrap();
    let line = gateway.hang_up("reload_failed").await;
    assert!(line["reason"].to_string().contains("16 MiB"), "{line}");
}

#[tokio::test]
async fn what_needs_a_restart_is_named_and_the_rest_applies() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    let changed = simple(&webhook)
        .replace("127.0.0.1:0", "127.0.0.1:1")
        .replace(
            "drain_seconds: 2",
            "drain_seconds: 2, node_id: other, path: /socket",
        )
        + "  logging: { format: text }\n";
    let line = gateway.reload(&changed).await;
    assert_eq!(
        line["waits_for_restart"],
        "server.listen, server.node_id, logging.format"
    );
    assert_eq!(gateway.lines("restart_needed").len(), 3);
    let mut client = Upgrade::to(&gateway)
        .target("/socket")
        .bearer(&token("1"))
        .open()
        .await;
    assert_eq!(client.ask(PING).await, PONG);
    // What waits still waits, though the file did not change again.
    let line = gateway.hang_up("reloaded").await;
    assert_eq!(line["changed"], "");
    assert!(
        line["waits_for_restart"]
            .to_string()
            .contains("server.listen")
    );
}

#[tokio::test]
async fn the_api_key_and_the_limits_change_at_once() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    let _held = Client::connect(&gateway, "1").await;
    assert_eq!(
        gateway.get_with_key("/internal/connections").await.status,
        200
    );
    let changed = simple(&webhook)
        .replace("itest-api-key", "another-api-key-of-length")
        .replace(
            "drain_seconds: 2",
            "drain_seconds: 2, max_connections_per_address: 1",
        );
    gateway.reload(&changed).await;
    assert_eq!(
        gateway.get_with_key("/internal/connections").await.status,
        401
    );
    // The connection from before counts.
    let refused = Upgrade::to(&gateway).bearer(&token("2")).refused().await;
    assert_eq!(refused.status(), 429);
}

#[tokio::test]
async fn an_idle_connection_takes_over_how_often_it_is_pinged() {
    let webhook = Webhook::start().await;
    let quiet = simple(&webhook).replace(
        "drain_seconds: 2",
        "drain_seconds: 2, ping_interval_seconds: 3600",
    );
    let gateway = start(&quiet).await;
    let mut client = Client::connect(&gateway, "1").await;
    gateway.reload(&quiet.replace("3600", "0.2")).await;
    let ping = within("a ping", async {
        loop {
            if let Frame::Ping(_) = client.next().await.unwrap().unwrap() {
                return;
            }
        }
    });
    ping.await;
    old_generations_are_gone(&gateway).await;
}

#[tokio::test]
async fn the_level_of_the_log_changes() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    gateway.reload(&simple(&webhook)).await;
    assert!(gateway.lines("reload_followed").is_empty());
    let debug = format!(
        "{}  logging: {{ level: \"info,wsgw=debug\" }}\n",
        simple(&webhook)
    );
    gateway.reload(&debug).await;
    gateway.wait_for_log("reload_followed", "").await;
    let quiet = format!("{}  logging: {{ level: error }}\n", simple(&webhook));
    gateway.write_pipeline(&quiet);
    gateway.signal("HUP");
    gateway
        .wait_for_metric("wsgw_config_reloads_total", &["success"], 3.0)
        .await;
    let before = gateway.logs().len();
    Client::connect(&gateway, "1").await.round_trip().await;
    assert_eq!(gateway.logs().len(), before, "{}", gateway.stderr());
}

#[tokio::test]
async fn what_is_buffered_for_the_old_url_goes_there_first_and_in_order() {
    const BUFFERED: usize = 1000;
    let (old, new) = (
        Webhook::scripted(|_| Reply::Hold).await,
        Webhook::start().await,
    );
    let slow = |webhook: &Webhook| {
        pipeline("", STAGES, &webhook_at(&webhook.url(), ", concurrency: 1"))
            .replace("drain_seconds: 2", "drain_seconds: 60")
    };
    let gateway = start(&slow(&old)).await;
    let mut client = Client::connect(&gateway, "1").await;
    for n in 1..BUFFERED {
        client.feed(json!({"n": n}).to_string()).await;
    }
    client.flush().await;
    client.round_trip().await;
    let line = gateway.reload(&slow(&new)).await;
    assert_eq!(line["changed"], "events.webhook.url");
    client.send(json!({"n": BUFFERED}).to_string()).await;
    client.round_trip().await;
    // The lane's later events wait for its earlier ones.
    assert_eq!(new.count(), 0);
    // Other connections do not.
    let _other = Client::connect(&gateway, "2").await;
    new.wait_for_type("2", "connected").await;
    old.release();
    let event = new
        .wait_for_event("the message after the reload", |event| {
            event["user_id"] == "1"
        })
        .await;
    assert_eq!(event["message"]["n"], BUFFERED);
    let seqs: Vec<_> = old
        .events()
        .iter()
        .map(|event| event["seq"].clone())
        .collect();
    assert_eq!(seqs, (1..=BUFFERED).map(Value::from).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_dead_old_url_does_not_take_becomes_dead_letters() {
    let (old, new) = (
        Webhook::scripted(|_| Reply::Status(503)).await,
        Webhook::start().await,
    );
    let more = ", retry_attempts: 100000";
    let at = |webhook: &Webhook| pipeline("", STAGES, &webhook_at(&webhook.url(), more));
    let gateway = start(&at(&old)).await;
    let mut client = Client::connect(&gateway, "1").await;
    client.send(r#"{"n":1}"#).await;
    client.round_trip().await;
    gateway.reload(&at(&new)).await;
    client.send(r#"{"n":2}"#).await;
    let event = new
        .wait_for_event("the message after the reload", |_| true)
        .await;
    assert_eq!(event["message"]["n"], 2);
    let letters = gateway.dead_letters();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in letters {
        assert_eq!(letter["reason"], "sink removed by a reload");
    }
}

#[tokio::test]
async fn a_rotated_key_file_counts_from_the_reload_on() {
    let webhook = Webhook::start().await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key.pem");
    std::fs::write(&key, key_file("rsa.pub.pem")).unwrap();
    let yaml = simple(&webhook).replace(
        in_crate("tests/keys/rsa.pub.pem").to_str().unwrap(),
        key.to_str().unwrap(),
    );
    let gateway = start(&yaml).await;
    let mut held = Client::connect(&gateway, "1").await;

    let es256 = yaml.replace("RS256", "ES256");
    std::fs::write(&key, key_file("ec_p256.pub.pem")).unwrap();
    // The file is read at the reload, and not before.
    Client::connect(&gateway, "2").await.round_trip().await;
    gateway.hang_up("reload_failed").await;
    Client::connect(&gateway, "2").await.round_trip().await;
    gateway.reload(&es256).await;
    let refused = Client::connect(&gateway, "2").await.closed().await;
    assert_eq!(refused.code, 4401);
    let es = signed_with(&key_file("ec_p256.pem"), None, claims("3", json!({})));
    Client::with_token(&gateway, &es).await.round_trip().await;
    held.round_trip().await;
}

#[tokio::test]
async fn a_changed_rate_limit_keeps_the_history() {
    let webhook = Webhook::start().await;
    let limited = |burst: u32| {
        let stages = format!(
            "- ping_filter: {{}}\n    - rate_limit: {{ per_second: 0.001, burst: {burst} }}\n    - fan_out: {{}}"
        );
        pipeline("", &stages, &webhook_at(&webhook.url(), ""))
    };
    let gateway = start(&limited(3)).await;
    let mut client = Client::connect(&gateway, "1").await;
    for _ in 0..3 {
        client.send("{}").await;
    }
    assert_eq!(client.ask("{}").await, LIMITED);
    gateway.reload(&limited(5)).await;
    for _ in 0..2 {
        client.send("{}").await;
    }
    assert_eq!(client.ask("{}").await, LIMITED);
    client.round_trip().await;
    let passed = webhook.wait_for(6).await;
    assert_eq!(passed.len(), 6, "connected, three, and two more");
}

#[tokio::test]
async fn a_key_set_is_kept_and_fetched_again_in_the_background() {
    let webhook = Webhook::start().await;
    let server = jwks::Server::start().await;
    let yaml = simple(&webhook).replace(
        &format!(
            "public_key_file: \"{}\"",
            in_crate("tests/keys/rsa.pub.pem").display()
        ),
        &format!("jwks_url: \"{}\"", server.url),
    );
    let gateway = start(&yaml).await;
    Client::connect(&gateway, "1").await.round_trip().await;
    assert_eq!(server.fetches(), 1);
    // From now on the provider does not answer, and nobody waits for it.
    server.hang();
    gateway.hang_up("reloaded").await;
    eventually("a second fetch", || (server.fetches() == 2).then_some(())).await;
    let connecting = Client::connect(&gateway, "2");
    let mut client = tokio::time::timeout(Duration::from_secs(4), connecting)
        .await
        .unwrap();
    client.round_trip().await;
}

#[tokio::test]
async fn a_reload_while_the_gateway_stops_is_refused() {
    let webhook = Webhook::scripted(|_| Reply::Hold).await;
    let gateway = start(&simple(&webhook)).await;
    let mut client = Client::connect(&gateway, "1").await;
    client.round_trip().await;
    gateway.signal("TERM");
    gateway.wait_for_log("stopping", "").await;
    gateway.hang_up("reload_refused").await;
    webhook.release();
    assert_eq!(client.closed().await.code, 1001);
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert!(gateway.lines("reloaded").is_empty());
}

#[tokio::test]
async fn signals_that_come_together_are_one_or_two_reloads() {
    let webhook = Webhook::start().await;
    let gateway = start(&simple(&webhook)).await;
    for _ in 0..50 {
        gateway.signal("HUP");
    }
    let line = gateway
        .reload(&simple(&webhook).replace("ping_filter: {}", "trace: {}"))
        .await;
    assert!(line["generation"].as_u64().unwrap() <= 52, "{line}");
    eventually("the last file to be in force", || {
        let lines = gateway.lines("reloaded");
        lines
            .iter()
            .any(|line| line["changed"].to_string().contains("stages.trace"))
            .then_some(())
    })
    .await;
}

/// A provider of key sets.
mod jwks {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::support::tokens::key_file;

    pub(crate) struct Server {
        pub(crate) url: String,
        fetches: Arc<AtomicUsize>,
        hangs: Arc<AtomicBool>,
        task: tokio::task::JoinHandle<()>,
    }

    impl Server {
        pub(crate) async fn start() -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
            let (fetches, hangs) = (
                Arc::new(AtomicUsize::new(0)),
                Arc::new(AtomicBool::new(false)),
            );
            let (counted, hanging) = (Arc::clone(&fetches), Arc::clone(&hangs));
            let task = tokio::spawn(async move {
                let set = String::from_utf8(key_file("rsa.jwks.json")).unwrap();
                let mut held = Vec::new();
                loop {
                    let (mut socket, _) = listener.accept().await.unwrap();
                    let mut request = [0; 4096];
                    let _ = socket.read(&mut request).await;
                    counted.fetch_add(1, Ordering::SeqCst);
                    if hanging.load(Ordering::SeqCst) {
                        held.push(socket);
                        continue;
                    }
                    let answer = format!(
                        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{set}",
                        set.len()
                    );
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
            Self {
                url,
                fetches,
                hangs,
                task,
            }
        }

        pub(crate) fn fetches(&self) -> usize {
            self.fetches.load(Ordering::SeqCst)
        }

        pub(crate) fn hang(&self) {
            self.hangs.store(true, Ordering::SeqCst);
        }
    }

    impl Drop for Server {
        fn drop(&mut self) {
            self.task.abort();
        }
    }
}
