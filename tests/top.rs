//! `wsgw top` against running gateways: on a real terminal, and as a report.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::process::Output;

use serde_json::Value;
use support::gateway::run;
use support::terminal::Terminal;
use support::{API_KEY, Client, Gateway, Setup, Webhook, eventually, free_port, within};

const KEY: (&str, &str) = ("GATEWAY_API_KEY", API_KEY);

async fn top(args: &[&str], env: &[(&str, &str)]) -> Output {
    let args: Vec<String> = ["top"]
        .iter()
        .chain(args)
        .map(ToString::to_string)
        .collect();
    let env: Vec<(String, String)> = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let running = tokio::task::spawn_blocking(move || {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let env: Vec<_> = env
            .iter()
            .map(|(name, value)| (&**name, &**value))
            .collect();
        run(&args, &env)
    });
    within("wsgw top", running).await.unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[track_caller]
fn assert_fails(output: &Output, code: i32, told: &[&str]) {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    for told in told {
        assert!(stderr.contains(told), "{told:?} in {stderr}");
    }
    assert!(!stderr.contains(API_KEY), "{stderr}");
}

/// A gateway with a webhook, and a client that does not stop talking.
async fn busy() -> (Gateway, Webhook, tokio::task::JoinHandle<()>) {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let talking = tokio::spawn(async move {
        loop {
            client.send(r#"{"type":"chat"}"#).await;
            client.round_trip().await;
        }
    });
    (gateway, webhook, talking)
}

#[tokio::test]
async fn once_reports_what_happened_in_one_interval() {
    let (gateway, webhook, talking) = busy().await;
    let url = gateway.api_url();
    let args = [
        "--url",
        &url,
        "--once",
        "--interval",
        "300ms",
        "--format",
        "json",
    ];
    let output = top(&args, &[KEY]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let one = &report["gateways"][0];
    assert_eq!(
        (one["url"].as_str(), &one["error"]),
        (Some(&*url), &Value::Null)
    );
    let rates = &one["rates"];
    for number in [
        &rates["seconds"],
        &rates["messages_per_second"],
        &rates["cpu"],
        &rates["stages"][0]["messages_per_second"],
        &rates["sinks"][0]["delivered_per_second"],
        &rates["sinks"][0]["p99"]["seconds"],
    ] {
        assert!(number.as_f64().unwrap() > 0.0, "{rates:#}");
    }
    let ends = &rates["stages"][1]["ended_per_second"];
    assert!(ends.is_number(), "{rates:#}");

    let output = top(&args[..5], &[KEY]).await;
    let report = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for told in [
        "OVERVIEW",
        "STAGES",
        "SINKS",
        "SOURCES",
        "RELOADS",
        "ready  for",
        "1 open",
        "fan_out",
        "webhook  ",
        "no reloads since the start",
    ] {
        assert!(report.contains(told), "{told:?} in {report}");
    }
    assert!(
        !report.contains('\u{1b}') && !report.contains(API_KEY),
        "{report}"
    );
    talking.abort();
    drop(webhook);
}

/// What this command reads, by the names that a gateway writes.
#[tokio::test]
async fn every_member_that_is_read_is_there() {
    let gateway = Gateway::start().await;
    let url = gateway.api_url();
    let args = [
        "--url",
        &url,
        "--once",
        "--interval",
        "100ms",
        "--format",
        "json",
    ];
    let report: Value = serde_json::from_slice(&top(&args, &[KEY]).await.stdout).unwrap();
    let status = &report["gateways"][0]["status"];
    for place in [
        "version",
        "node_id",
        "started_at",
        "uptime_seconds",
        "state",
        "checks",
        "process/resident_bytes",
        "process/cpu_seconds",
        "process/open_fds",
        "process/max_fds",
        "connections/open",
        "connections/opened_total",
        "connections/closed_total",
        "messages/received_total",
        "messages/rate_limited_total",
        "pushes/accepted_total",
        "pushes/queued_total",
        "pushes/waiting",
        "pushes/dropped_total",
        "pipeline/mode",
        "pipeline/file",
        "pipeline/hash",
        "pipeline/generation",
        "pipeline/loaded_at",
        "pipeline/stages/0/name",
        "pipeline/stages/0/when",
        "pipeline/stages/0/messages_total",
        "pipeline/stages/0/ended_total",
        "pipeline/stages/0/timed",
        "sinks",
        "sources",
        "dead_letters",
        "reloads",
        "traces/exporter",
        "traces/exported_total",
        "traces/dropped_total",
    ] {
        assert!(
            status.pointer(&format!("/{place}")).is_some(),
            "no {place} in {status:#}"
        );
    }
}

#[tokio::test]
async fn it_says_what_is_wrong() {
    let gateway = Gateway::start().await;
    let url = gateway.api_url();
    let once = ["--url", &url, "--once", "--interval", "100ms"];
    let wrong = top(&once, &[("GATEWAY_API_KEY", "wrong")]).await;
    assert_fails(
        &wrong,
        1,
        &["answered 401: the API key is wrong", "--api-key-file"],
    );
    assert_eq!(text(&wrong.stdout), "");
    assert_fails(&top(&once, &[]).await, 2, &["no key", "GATEWAY_API_KEY"]);
    assert_fails(
        &top(&["--url", &url], &[KEY]).await,
        2,
        &["no terminal", "--once"],
    );
    let format = top(&["--url", &url, "--format", "json"], &[KEY]).await;
    assert_fails(&format, 2, &["--once"]);
    assert_fails(
        &top(&["--url", "ftp://x", "--once"], &[KEY]).await,
        2,
        &["--url"],
    );
    let interval = top(&["--once", "--interval", "1h"], &[KEY]).await;
    assert_fails(&interval, 2, &["use ms, s or m"]);

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    let by_file = [&once[..], &["--api-key-file", path]].concat();
    assert_fails(
        &top(&by_file, &[KEY]).await,
        2,
        &["--api-key-file", "empty"],
    );
    std::fs::write(&file, format!("{API_KEY}\n")).unwrap();
    let output = top(&by_file, &[("GATEWAY_API_KEY", "wrong")]).await;
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));

    // Others are reported though one is gone.
    let nobody = format!("http://name:password@127.0.0.1:{}", free_port());
    let both = [&once[..], &["--url", &nobody]].concat();
    let output = top(&both, &[KEY]).await;
    assert_fails(&output, 1, &["cannot be reached", "Connection refused"]);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(
        told.contains("NO ANSWER") && told.contains("1 ready"),
        "{told}"
    );
    assert!(!told.contains("password"), "{told}");
}

/// Runs `wsgw top` in a terminal, and then says how it ended and whether the terminal is as it was.
fn page(url: &str, key: &str) -> Terminal {
    page_after("", url, key)
}

/// The page, by a shell that runs something else before.
fn page_after(first: &str, url: &str, key: &str) -> Terminal {
    let wsgw = env!("CARGO_BIN_EXE_wsgw");
    let top = format!("{first} echo pid $$.; exec {wsgw} top --interval 100ms --url {url}");
    let command = format!("sh -c '{top}'; echo code $?.; stty -a");
    Terminal::run(&command, &[("GATEWAY_API_KEY", key)], (100, 24))
}

/// The process of the page.
fn pid(terminal: &Terminal) -> String {
    let written = terminal.written();
    let (_, pid) = written.split_once("pid ").unwrap();
    pid.split_once('.').unwrap().0.to_owned()
}

#[track_caller]
fn assert_restored(after: &str, code: &str) {
    assert!(after.contains(&format!("code {code}.")), "{after}");
    for setting in ["\nisig icanon ", " echo "] {
        assert!(after.contains(setting), "{setting:?}: {after}");
    }
}

#[tokio::test]
async fn the_page_is_alive_and_the_terminal_given_back() {
    let (gateway, webhook, talking) = busy().await;
    let mut terminal = page(&gateway.api_url(), API_KEY);
    terminal
        .shows(&["[1 overview]", "ready", "1 open", "/s  "])
        .await;
    terminal.press("2");
    terminal.shows(&["[2 stages]", "fan_out", "P99"]).await;
    terminal.press("\t");
    terminal.shows(&["[3 sinks]", "webhook  ", "SENT/S"]).await;
    terminal.press("?");
    terminal.shows(&["Ctrl-C", "quit"]).await;
    terminal.press("p");
    terminal.press("p");
    terminal.shows(&["PAUSED"]).await;
    terminal.press("q");
    assert_restored(&terminal.ended().await, "0");
    talking.abort();
    drop(webhook);
}

#[tokio::test]
async fn a_gateway_that_goes_and_comes_is_followed() {
    let address = format!("127.0.0.1:{}", free_port());
    let start = || Setup::default().env("WSGW_LISTEN", &address).start();
    let gateway = start().await;
    let mut terminal = page(&gateway.api_url(), API_KEY);
    terminal.shows(&["ready"]).await;
    drop(gateway);
    terminal
        .shows(&["NO ANSWER since", "Connection refused", "from before"])
        .await;
    let gateway = start().await;
    let screen = terminal.shows(&["restarted while watched"]).await;
    assert!(!screen.contains("NO ANSWER"), "{screen}");
    terminal.press("\u{3}");
    assert_restored(&terminal.ended().await, "0");
    drop(gateway);
}

#[tokio::test]
async fn a_wrong_key_is_told_and_a_signal_gives_the_terminal_back() {
    let gateway = Gateway::start().await;
    let terminal = page(&gateway.api_url(), "wrong");
    terminal
        .shows(&["answered 401: the API key is wrong"])
        .await;
    let sent = std::process::Command::new("kill")
        .arg(pid(&terminal))
        .status();
    assert!(sent.unwrap().success());
    assert_restored(&terminal.ended().await, "0");
}

#[tokio::test]
async fn a_terminal_that_vanishes_ends_the_page_even_if_it_minds_no_hangup() {
    let gateway = Gateway::start().await;
    for first in ["", "trap \"\" HUP;"] {
        let terminal = page_after(first, &gateway.api_url(), API_KEY);
        terminal.shows(&["ready"]).await;
        let process = format!("/proc/{}/status", pid(&terminal));
        terminal.vanish();
        eventually("the end of the page", || {
            let status = std::fs::read_to_string(&process).unwrap_or_default();
            // A process that nobody waits for stays as a zombie.
            (status.is_empty() || status.contains("State:\tZ")).then_some(())
        })
        .await;
    }
}
