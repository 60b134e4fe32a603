//! Standard error, and whoever reads it: a reader that stops, or goes away, must not stop the gateway.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;
use support::reload::{pipeline, webhook_at};
use support::{Webhook, eventually, within};

/// Bytes that a pipe holds; more are logged below.
const PIPE: u64 = 64 * 1024;

struct Running {
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Running {
    /// Starts a gateway that logs every detail, and reads its log until it listens.
    async fn start(
        webhook: &Webhook,
        folder: &tempfile::TempDir,
    ) -> (Self, BufReader<ChildStderr>) {
        let file = folder.path().join("pipeline.yaml");
        let logging = "  logging: { level: trace }\n";
        let yaml = pipeline(
            "",
            "- ping_filter: {}\n    - fan_out: {}",
            &(webhook_at(&webhook.url(), "") + logging),
        );
        std::fs::write(&file, yaml).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_wsgw"))
            .arg("run")
            .arg(&file)
            .env_clear()
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let reading = tokio::task::spawn_blocking(move || {
            let mut log = log;
            loop {
                let mut line = String::new();
                assert!(log.read_line(&mut line).unwrap() > 0, "the gateway ended");
                let line: Value = serde_json::from_str(&line).unwrap();
                if line["event"] == "listening" {
                    return (line["address"].as_str().unwrap().to_owned(), log);
                }
            }
        });
        let (address, log) = within("the gateway to listen", reading).await.unwrap();
        let running = Self {
            child,
            url: format!("http://{address}/metrics"),
            http: reqwest::Client::builder()
                .no_proxy()
                .pool_max_idle_per_host(0)
                .build()
                .unwrap(),
        };
        (running, log)
    }

    async fn metrics(&self) -> String {
        let answer = within("an answer", self.http.get(&self.url).send()).await;
        answer.unwrap().text().await.unwrap()
    }

    async fn terminate(&mut self) {
        let killed = Command::new("kill")
            .arg(self.child.id().to_string())
            .status();
        assert!(killed.unwrap().success());
        let ended = eventually("the gateway's end", || self.child.try_wait().unwrap()).await;
        assert!(ended.success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_reader_that_stops_stops_nobody_else() {
    let (webhook, folder) = (Webhook::start().await, tempfile::tempdir().unwrap());
    let (mut gateway, mut log) = Running::start(&webhook, &folder).await;
    // Each request is logged in some lines, whose reader sleeps.
    for _ in 0..600 {
        gateway.metrics().await;
    }
    // When it reads again it finds everything.
    let reading = tokio::task::spawn_blocking(move || {
        let mut bytes = 0;
        let mut line = String::new();
        while bytes < 2 * PIPE {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0);
            assert!(serde_json::from_str::<Value>(&line).is_ok(), "{line}");
            bytes += line.len() as u64;
        }
        log
    });
    let log = within("more than a pipe holds", reading).await.unwrap();
    let metrics = gateway.metrics().await;
    assert!(metrics.contains("wsgw_log_lines_dropped_total 0\n"));
    // And again it stops, which holds up no end.
    for _ in 0..600 {
        gateway.metrics().await;
    }
    gateway.terminate().await;
    drop(log);
}

#[tokio::test]
async fn a_reader_that_goes_away_stops_nobody_and_what_it_misses_is_counted() {
    let (webhook, folder) = (Webhook::start().await, tempfile::tempdir().unwrap());
    let (mut gateway, log) = Running::start(&webhook, &folder).await;
    drop(log);
    let lost = async {
        while gateway
            .metrics()
            .await
            .contains("wsgw_log_lines_dropped_total 0\n")
        {}
    };
    within("lines to be missed", lost).await;
    gateway.terminate().await;
}
