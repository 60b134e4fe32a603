//! `wsgw dev`, by the real binary: what it prints works, its page is this machine's alone, and it stops cleanly.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest as _};
use tokio_tungstenite::{WebSocketStream, client_async};

const PATIENCE: Duration = Duration::from_secs(20);

/// A running `wsgw dev`; killed if a test fails before it is stopped.
struct Dev {
    process: Child,
    banner: String,
}

impl Dev {
    fn start(listen: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_wsgw"))
            .args(["dev", "--listen", listen])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut banner = String::new();
        while !banner.contains("Ctrl-C stops") {
            assert_ne!(
                out.read_line(&mut banner).unwrap(),
                0,
                "ended early: {banner}"
            );
        }
        Self { process, banner }
    }

    /// The rest of the banner's line that begins with this label.
    fn line(&self, label: &str) -> &str {
        let line = self
            .banner
            .lines()
            .find_map(|line| line.trim().strip_prefix(label));
        line.unwrap_or_else(|| panic!("no {label} in {}", self.banner))
            .trim()
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.line("Page").trim_end_matches('/'))
    }

    fn address(&self) -> &str {
        self.line("Page")
            .trim_start_matches("http://")
            .trim_end_matches('/')
    }

    async fn connect(&self, token: &str) -> WebSocketStream<TcpStream> {
        let socket = TcpStream::connect(self.address()).await.unwrap();
        let url = format!("{}?token={token}", self.line("WebSocket"));
        let (stream, _) = client_async(url.into_client_request().unwrap(), socket)
            .await
            .unwrap();
        stream
    }

    async fn token(&self, query: &str) -> String {
        let answer = reqwest::get(self.url(&format!("/dev/token?{query}")))
            .await
            .unwrap();
        let body: Value = answer.json().await.unwrap();
        body["token"].as_str().unwrap().to_owned()
    }

    /// Sends a signal and gives the exit code and standard error.
    fn stop(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.process.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        let status = self.process.wait().unwrap();
        let mut stderr = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        (status.code(), stderr)
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Already gone after a clean stop.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn next(stream: &mut WebSocketStream<TcpStream>) -> Message {
    loop {
        match tokio::time::timeout(PATIENCE, stream.next())
            .await
            .unwrap()
            .unwrap()
            .unwrap()
        {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

#[tokio::test]
async fn what_is_printed_works_as_it_stands() {
    let dev = Dev::start("127.0.0.1:0");
    assert!(!dev.banner.contains('\u{1b}'), "no colour off a terminal");
    let mut client = dev.connect(dev.line("Token")).await;
    // Answered once the connection is open, so that the push finds it.
    client
        .send(Message::text(r#"{"type":"ping"}"#))
        .await
        .unwrap();
    assert_eq!(
        next(&mut client).await.into_text().unwrap(),
        r#"{"type":"pong"}"#
    );
    let command = dev
        .banner
        .split_once("curl ")
        .unwrap()
        .1
        .split_once("\n\n")
        .unwrap()
        .0;
    let pushed = Command::new("sh")
        .args(["-c", &format!("curl {command}")])
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&pushed.stdout),
        r#"{"sent":1}"#,
        "{pushed:?}"
    );
    let push = next(&mut client).await.into_text().unwrap();
    let push: Value = serde_json::from_str(&push).unwrap();
    assert_eq!(push["payload"]["hello"], "from the backend");
    let (code, stderr) = dev.stop("INT");
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let hint = next(&mut client).await.into_text().unwrap();
    let hint: Value = serde_json::from_str(&hint).unwrap();
    assert_eq!(hint["type"], "reconnect");
    let Message::Close(Some(close)) = next(&mut client).await else {
        panic!("no close frame");
    };
    assert_eq!(u16::from(close.code), 1001);
}

#[tokio::test]
async fn the_feed_tells_each_step_and_the_event() {
    let dev = Dev::start("127.0.0.1:0");
    let mut feed = reqwest::get(dev.url("/dev/events")).await.unwrap();
    assert_eq!(feed.headers()["content-type"], "text/event-stream");
    let token = dev.token("user=ann&subject=room%3A1").await;
    let mut client = dev.connect(&token).await;
    client
        .send(Message::text(r#"{"topic":"room:1","n":1.50}"#))
        .await
        .unwrap();
    let mut told = String::new();
    // The outermost stage is told of last, after the event.
    while !told.contains("message_received")
        || !told.contains(r#""stage":"auth","outcome":"published""#)
    {
        let part = tokio::time::timeout(PATIENCE, feed.chunk())
            .await
            .unwrap()
            .unwrap();
        told.push_str(&String::from_utf8_lossy(&part.unwrap()));
    }
    for stage in [
        "auth",
        "ping_filter",
        "rate_limit",
        "ordering_key",
        "trace",
        "fan_out",
    ] {
        assert!(
            told.contains(&format!(r#""stage":"{stage}","outcome":"published""#)),
            "{stage}\n{told}"
        );
    }
    let event = told
        .lines()
        .find(|line| line.contains("message_received"))
        .unwrap();
    for part in [
        r#""user_id":"ann","subjects":["user:ann","room:1"]"#,
        r#""n":1.50"#,
        r#""ordering_key":"room:1""#,
    ] {
        assert!(event.contains(part), "{part}\n{event}");
    }
    // A page that is opened now still gets to see them.
    let mut later = reqwest::get(dev.url("/dev/events")).await.unwrap();
    let mut told = String::new();
    while !told.contains("event:live") {
        told.push_str(&String::from_utf8_lossy(
            &later.chunk().await.unwrap().unwrap(),
        ));
    }
    assert!(
        told.contains(r#""type":"connected""#) && told.contains(r#""type":"message_received""#)
    );
}

#[tokio::test]
async fn an_expired_token_is_refused_with_its_reason() {
    let dev = Dev::start("127.0.0.1:0");
    let mut client = dev.connect(&dev.token("user=ann&ttl=-60").await).await;
    let Message::Close(Some(close)) = next(&mut client).await else {
        panic!("no close frame");
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (4401, "token expired")
    );
}

#[tokio::test]
async fn only_this_machines_browser_gets_the_page_and_keys() {
    let dev = Dev::start("127.0.0.1:0");
    let http = reqwest::Client::new();
    for path in [
        "/",
        "/dev/info",
        "/dev/token?user=a",
        "/dev/events",
        "/dev/page.js",
        "/dev/nothing",
    ] {
        let answer = http
            .get(dev.url(path))
            .header("Host", "rebound.example")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 403, "{path}");
    }
    for path in ["/dev/info", "/dev/token?user=a", "/dev/events"] {
        for site in ["cross-site", "same-site"] {
            let answer = http
                .get(dev.url(path))
                .header("Sec-Fetch-Site", site)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 403, "{path} {site}");
        }
    }
    let page = http
        .get(dev.url("/"))
        .header("Host", "localhost")
        .header("Sec-Fetch-Site", "cross-site");
    let page = page.send().await.unwrap();
    assert_eq!(page.status(), 200, "a link may lead to the page");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    assert!(
        policy.contains("connect-src 'self' ws://localhost")
            && policy.contains("frame-ancestors 'none'")
    );
    assert!(page.headers().get("access-control-allow-origin").is_none());
    assert_eq!(
        http.post(dev.url("/dev/token?user=a"))
            .send()
            .await
            .unwrap()
            .status(),
        405
    );
    assert_eq!(
        http.get(dev.url("/dev/nothing"))
            .send()
            .await
            .unwrap()
            .status(),
        404
    );
    assert_eq!(
        http.get(dev.url("/nothing")).send().await.unwrap().status(),
        404
    );
    for query in ["", "user=", "user=a&ttl=soon", "user=a&more=1"] {
        let answer = http
            .get(dev.url(&format!("/dev/token?{query}")))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 400, "{query}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
}

#[tokio::test]
async fn an_open_address_is_warned_about() {
    let dev = Dev::start("0.0.0.0:0");
    let (page, name) = (dev.url("/"), "some.example");
    let answer = reqwest::Client::new()
        .get(page)
        .header("Host", name)
        .send()
        .await
        .unwrap();
    assert_eq!(
        answer.status(),
        200,
        "who listens to everyone is asked under any name"
    );
    let (code, stderr) = dev.stop("TERM");
    assert_eq!(code, Some(0));
    assert!(
        stderr.contains("warning") && stderr.contains("anyone who reaches it gets the API key"),
        "{stderr}"
    );
}

#[test]
fn a_taken_port_is_explained() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let out = Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .args(["dev", "--listen", &listen])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0));
    assert!(
        stderr.contains("the port is taken") && stderr.contains("--listen 127.0.0.1:0"),
        "{stderr}"
    );
}

#[test]
fn the_printed_pipeline_is_a_start_of_ones_own() {
    let wsgw = || Command::new(env!("CARGO_BIN_EXE_wsgw"));
    let printed = wsgw().args(["dev", "--print-pipeline"]).output().unwrap();
    assert!(printed.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("my.yaml");
    std::fs::write(&file, printed.stdout).unwrap();
    let checked = wsgw()
        .args(["check", "--deny-warnings"])
        .arg(file)
        .env("JWT_PUBLIC_KEY", include_str!("keys/ec_p256.pub.pem"))
        .env("GATEWAY_API_KEY", "a-key-long-enough-for-anyone")
        .output()
        .unwrap();
    assert!(
        checked.status.success(),
        "{}",
        String::from_utf8_lossy(&checked.stdout)
    );
}
