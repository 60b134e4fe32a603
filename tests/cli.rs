//! The command line as a user meets it: exit codes, and what is printed where.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::net::TcpListener;
use std::process::Output;

use serde_json::{Value, json};
use support::gateway::run;
use support::{Client, Gateway, Setup, Webhook, in_crate};

fn file() -> String {
    in_crate("pipelines/terminator.yaml")
        .to_str()
        .unwrap()
        .into()
}

/// What makes the shipped file valid.
fn env() -> Vec<(&'static str, String)> {
    let key = in_crate("tests/keys/rsa.pub.pem")
        .to_str()
        .unwrap()
        .to_owned();
    vec![
        ("JWT_PUBLIC_KEY_FILE", key),
        ("GATEWAY_API_KEY", "an API key of decent length".into()),
        ("SYMFONY_WEBHOOK_URL", "http://127.0.0.1:1/".into()),
        (
            "SYMFONY_WEBHOOK_SECRET",
            "a webhook secret of decent length".into(),
        ),
        ("WSGW_LISTEN", "127.0.0.1:0".into()),
    ]
}

/// Runs with a good environment and some more variables.
fn wsgw(args: &[&str], more: &[(&str, &str)]) -> Output {
    let good = env();
    let mut env: Vec<(&str, &str)> = good
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    env.extend(more);
    run(args, &env)
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[track_caller]
fn assert_code(output: &Output, code: i32) {
    assert_eq!(
        output.status.code(),
        Some(code),
        "{}{}",
        stdout(output),
        stderr(output)
    );
}

/// A file with two mistakes.
fn bad_file() -> tempfile::NamedTempFile {
    let text = std::fs::read_to_string(file()).unwrap();
    let text = text.replace("per_second:", "per_secnd:").replace(
        "drop_policy: \"${BACKPRESSURE_DROP_POLICY:-oldest}\"",
        "drop_policy: eldest",
    );
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

/// Every problem as `file:line:col: error[code]: message`, with the line and a hint, all at once.
#[track_caller]
fn assert_diagnostics(text: &str, path: &str) {
    let heads: Vec<&str> = text
        .lines()
        .filter(|line| line.starts_with(path) && line.contains(": error["))
        .collect();
    assert_eq!(heads.len(), 2, "both at once: {text}");
    for head in heads {
        let place = head[path.len()..].trim_start_matches(':');
        let mut numbers = place.split(':');
        for what in ["line", "column"] {
            let number = numbers
                .next()
                .and_then(|number| number.trim().parse::<usize>().ok());
            assert!(number.is_some_and(|number| number > 0), "{what} in {head}");
        }
    }
    assert!(
        text.contains("did you mean `per_second`?") && text.contains("did you mean `oldest`?"),
        "{text}"
    );
    assert!(
        text.contains("per_secnd: "),
        "the line itself is shown: {text}"
    );
}

#[test]
fn check_exits_0_for_a_valid_file() {
    let output = wsgw(&["check", &file()], &[]);
    assert_code(&output, 0);
    let output = wsgw(&["check", "--deny-warnings", &file()], &[]);
    assert_code(&output, 0);
}

#[test]
fn check_exits_1_for_errors_and_prints_all_of_them() {
    let bad = bad_file();
    let path = bad.path().to_str().unwrap();
    let output = wsgw(&["check", path], &[]);
    assert_code(&output, 1);
    assert_diagnostics(&stdout(&output), path);
    let output = wsgw(&["check", &file(), path], &[]);
    assert_code(&output, 1);
}

#[test]
fn check_exits_1_for_warnings_only_when_they_are_denied() {
    let no_key = [("GATEWAY_API_KEY", "")];
    let output = wsgw(&["check", &file()], &no_key);
    assert_code(&output, 0);
    assert!(
        stdout(&output).contains(": warning["),
        "{}",
        stdout(&output)
    );
    assert_code(&wsgw(&["check", "--deny-warnings", &file()], &no_key), 1);
}

#[test]
fn check_exits_2_for_usage_and_unreadable_files() {
    for args in [
        &["check"][..],
        &["check", "/no/such/file.yaml"],
        &["check", "/"],
        &["check", "--format", "xml", &file()],
        &["check", "--no-such-flag", &file()],
        &["chekc", &file()],
        &[],
    ] {
        let output = wsgw(args, &[]);
        assert_code(&output, 2);
        let said = stdout(&output) + &stderr(&output);
        assert!(!said.trim().is_empty(), "{args:?} says why");
    }
}

#[test]
fn check_prints_json_for_machines() {
    let bad = bad_file();
    let path = bad.path().to_str().unwrap();
    let output = wsgw(&["check", "--format", "json", path], &[]);
    assert_code(&output, 1);
    let problems: Vec<Value> = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(
        problems
            .iter()
            .filter(|problem| problem["severity"] == "error")
            .count(),
        2,
        "{problems:?}"
    );
    for problem in &problems {
        let names: Vec<&str> = problem
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            names,
            [
                "file", "line", "column", "severity", "code", "message", "hint"
            ]
        );
        assert_eq!(problem["file"], path);
        assert!(problem["line"].as_u64().unwrap() > 0 && problem["column"].as_u64().unwrap() > 0);
    }
    let output = wsgw(&["check", "--format", "json", &file()], &[]);
    assert_code(&output, 0);
    assert_eq!(
        serde_json::from_str::<Value>(&stdout(&output)).unwrap(),
        json!([])
    );
}

#[test]
fn a_value_outside_its_set_names_the_variable() {
    for (name, value) in [
        ("ORDERING_STRATEGY", "banana"),
        ("EVENTS_MODE", "banana"),
        ("WS_MODE", "banana"),
        ("TRACING_STRATEGY", "banana"),
        ("BACKPRESSURE_STRATEGY", "banana"),
        ("PRESENCE_STRATEGY", "banana"),
        ("JWT_ALG", "banana"),
        ("LOG_FORMAT", "banana"),
        ("WEBHOOK_RETRY_ATTEMPTS", "banana"),
        ("WEBHOOK_RETRY_ATTEMPTS", "-1"),
        ("WS_RATE_LIMIT_PER_SEC", "-1"),
    ] {
        for command in ["check", "run", "explain"] {
            let output = wsgw(&[command, &file()], &[(name, value)]);
            assert_code(&output, 1);
            let text = stdout(&output) + &stderr(&output);
            assert!(text.contains(name), "{command} with {name}={value}: {text}");
        }
    }
}

#[test]
fn run_exits_1_for_a_bad_file_and_prints_what_check_prints() {
    let bad = bad_file();
    let path = bad.path().to_str().unwrap();
    let output = wsgw(&["run", path], &[]);
    assert_code(&output, 1);
    assert_diagnostics(&stderr(&output), path);
    let output = wsgw(&["run", "/no/such/file.yaml"], &[]);
    assert_code(&output, 1);
    assert!(stderr(&output).contains("/no/such/file.yaml"));
    let output = wsgw(
        &["run", &file()],
        &[("JWT_PUBLIC_KEY_FILE", "/no/such/key.pem")],
    );
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("/no/such/key.pem"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn run_exits_1_when_its_port_is_taken_and_says_which() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = wsgw(&["run", &file()], &[("WSGW_LISTEN", &address)]);
    assert_code(&output, 1);
    let text = stderr(&output);
    assert!(
        text.contains(&address) && text.contains("server.listen"),
        "{text}"
    );
    let set = format!("server.internal_listen={address}");
    let output = wsgw(&["run", "--set", &set, &file()], &[]);
    assert_code(&output, 1);
    let text = stderr(&output);
    assert!(
        text.contains(&address) && text.contains("server.internal_listen"),
        "{text}"
    );
}

#[tokio::test]
async fn run_takes_the_file_of_ws_mode_by_default() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("pipelines")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .arg("run")
        .env_clear()
        .env("WS_MODE", "core")
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert_code(&output, 1);
    assert!(
        stderr(&output).contains("pipelines/core.yaml"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn precedence_is_file_then_environment_then_set() {
    let webhook = Webhook::start().await;
    let max = "server.max_message_bytes";
    let of = |setup: Setup| setup.webhook(&webhook);
    let file = || {
        of(Setup::default().edited(
            "    path: /ws\n",
            "    path: /ws\n    max_message_bytes: 100\n",
        ))
    };
    let variable = || file().env("WSGW__SERVER__MAX_MESSAGE_BYTES", 200);
    let set = || variable().set(max, 300);
    for (setup, limit) in [
        (of(Setup::default()), 65_536),
        (file(), 100),
        (variable(), 200),
        (set(), 300),
    ] {
        let gateway = setup.start().await;
        let mut client = Client::connect(&gateway, "42").await;
        client.send("x".repeat(limit)).await;
        client.round_trip().await;
        client.send("x".repeat(limit + 1)).await;
        assert_eq!(client.closed().await.code, 1009, "{limit}");
    }
}

#[tokio::test]
async fn a_token_of_the_token_command_is_accepted() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let key = in_crate("tests/keys/rsa.pem");
    let key = key.to_str().unwrap();
    let output = run(
        &[
            "token",
            "--user",
            "ann",
            "--claim",
            "subjects=[\"room:1\"]",
            "--key",
            key,
        ],
        &[],
    );
    assert_code(&output, 0);
    let token = stdout(&output);
    assert_eq!(token.lines().count(), 1, "the token and nothing else");
    let mut client = Client::with_token(&gateway, token.trim()).await;
    client.round_trip().await;
    let event = webhook.wait_for_type("ann", "connected").await;
    assert_eq!(event["subjects"], json!(["user:ann", "room:1"]));

    let output = run(&["token", "--user", "ann", "--ttl", "1", "--key", key], &[]);
    let short = stdout(&output);
    let closed = Client::with_token(&gateway, short.trim())
        .await
        .closed()
        .await;
    assert_eq!(closed.code, 4401, "it expires as told");

    for args in [
        &["token", "--user", "ann", "--key", "/no/such/key.pem"][..],
        &[
            "token",
            "--user",
            "ann",
            "--key",
            in_crate("tests/keys/rsa.pub.pem").to_str().unwrap(),
        ],
        &[
            "token", "--user", "ann", "--claim", "nonsense", "--key", key,
        ],
    ] {
        let output = run(args, &[]);
        assert_code(&output, 1);
        assert!(
            stdout(&output).is_empty() && !stderr(&output).is_empty(),
            "{args:?}"
        );
    }
    assert_code(&run(&["token"], &[]), 2);
}

#[test]
fn an_empty_variable_names_no_file() {
    for command in [
        &["run"][..],
        &["health"],
        &["erase", "--user", "42", "--dry-run"],
    ] {
        let empty = [("WSGW_PIPELINE", ""), ("WSGW_PIPELINES", "/nowhere")];
        let output = wsgw(command, &empty);
        assert_code(&output, 1);
        assert!(stderr(&output).contains("/nowhere/terminator.yaml"));
    }
    let args = ["bench", "churn", "--url", "ws://127.0.0.1:1/"];
    let args = [&args[..], &["--rate", "1", "--seconds", "1"]].concat();
    let output = wsgw(&args, &[("JWT_PRIVATE_KEY_FILE", "")]);
    assert_code(&output, 1);
    assert!(stdout(&output).contains("refused"), "{}", stdout(&output));
}

#[test]
fn help_lists_every_command() {
    let output = run(&["--help"], &[]);
    assert_code(&output, 0);
    let text = stdout(&output);
    for command in ["run", "check", "schema", "explain", "dev", "bench", "token"] {
        let listed = text
            .lines()
            .any(|line| line.trim_start().starts_with(&format!("{command} ")));
        assert!(listed, "{command} in {text}");
        let output = run(&[command, "--help"], &[]);
        assert_code(&output, 0);
        assert!(stdout(&output).contains("Usage: wsgw"), "{command} --help");
    }
    let output = run(&["--version"], &[]);
    assert_code(&output, 0);
    assert!(stdout(&output).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn schema_prints_the_schema_that_is_checked_in() {
    let output = run(&["schema"], &[]);
    assert_code(&output, 0);
    let printed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let kept = std::fs::read_to_string(in_crate("schemas/pipeline.schema.json")).unwrap();
    assert_eq!(printed, serde_json::from_str::<Value>(&kept).unwrap());
}

#[test]
fn explain_shows_the_stages_in_order_and_where_values_come_from() {
    let output = wsgw(
        &["explain", "--set", "server.drain_seconds=7", &file()],
        &[
            ("WSGW__SERVER__PING_INTERVAL_SECONDS", "9"),
            ("WS_RATE_LIMIT_BURST", "77"),
        ],
    );
    assert_code(&output, 0);
    let text = stdout(&output);
    let at = |stage: &str| {
        text.lines()
            .position(|line| {
                line.split_whitespace()
                    .any(|word| word.trim_end_matches(':') == stage)
            })
            .unwrap_or_else(|| panic!("{stage} in {text}"))
    };
    let places: Vec<usize> = [
        "auth",
        "ping_filter",
        "rate_limit",
        "ordering_key",
        "trace",
        "fan_out",
    ]
    .into_iter()
    .map(at)
    .collect();
    assert!(places.is_sorted(), "{text}");
    let line = |key: &str| {
        text.lines()
            .find(|line| line.contains(key))
            .unwrap_or_else(|| panic!("{key} in {text}"))
    };
    assert!(
        line("server.drain_seconds").contains('7')
            && line("server.drain_seconds").contains("--set")
    );
    let from_env = line("server.ping_interval_seconds");
    assert!(
        from_env.contains('9') && from_env.contains("WSGW__SERVER__PING_INTERVAL_SECONDS"),
        "{from_env}"
    );
    let expanded = line("rate_limit.burst");
    assert!(
        expanded.contains("77") && expanded.contains("WS_RATE_LIMIT_BURST"),
        "{expanded}"
    );
    assert!(line("server.max_body_bytes").contains("default"));
    assert_code(
        &wsgw(&["explain", bad_file().path().to_str().unwrap()], &[]),
        1,
    );
}

#[tokio::test]
async fn nothing_but_logs_is_written_while_serving() {
    let gateway = Gateway::start().await;
    Client::connect(&gateway, "42").await.close(None).await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(gateway.stdout(), "");
    for line in gateway.stderr().lines() {
        let line: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["event"].is_string(), "each line has an event: {line}");
    }
}

#[tokio::test]
async fn health_says_by_its_exit_code_whether_the_gateway_serves() {
    let gateway = Gateway::start().await;
    let url = format!("http://{}", gateway.address);
    let healthy = wsgw(&["health", "--url", &url], &[]);
    assert_eq!(healthy.status.code(), Some(0), "{}", stderr(&healthy));
    assert_eq!(stdout(&healthy), "ok\n");
    // By the file, as an image's health check has it.
    let listen = gateway.address.to_string().replace("127.0.0.1", "0.0.0.0");
    for args in [&["health"][..], &["health", "--live"]] {
        let output = wsgw(
            args,
            &[("WSGW_LISTEN", &listen), ("WSGW_PIPELINE", &file())],
        );
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    // A password would be of no use, and is not shown.
    let with_password = url.replace("http://", "http://me:hidden@");
    let refused = wsgw(&["health", "--url", &with_password], &[]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(!stderr(&refused).contains("hidden"));
    drop(gateway);
    let gone = wsgw(&["health", "--url", &url], &[]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(stderr(&gone).contains("refused"), "{}", stderr(&gone));
}

#[tokio::test]
async fn health_fails_while_a_dependency_is_down_though_the_process_lives() {
    let gateway = Setup::default()
        .yaml(include_str!("../pipelines/core.yaml").replace("0.0.0.0:8000", "127.0.0.1:0"))
        .env("REDIS_DSN", "redis://127.0.0.1:1")
        .start_unready()
        .await;
    let url = format!("http://{}", gateway.address);
    let unready = wsgw(&["health", "--url", &url], &[]);
    assert_eq!(unready.status.code(), Some(1));
    assert!(stderr(&unready).contains("503"), "{}", stderr(&unready));
    assert!(stderr(&unready).contains("redis"), "{}", stderr(&unready));
    let live = wsgw(&["health", "--live", "--url", &url], &[]);
    assert_eq!(live.status.code(), Some(0), "{}", stderr(&live));
}

#[test]
fn health_waits_no_longer_than_it_says() {
    // Accepts, and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let output = wsgw(&["health", "--timeout", "0.2", "--url", &url], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("no answer within 0.2 s"));
    for (arguments, word) in [
        (["health", "--url", "ftp://x"], "--url"),
        (["health", "--timeout", "0"], "--timeout"),
    ] {
        let output = wsgw(&arguments, &[]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}
