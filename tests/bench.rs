//! `wsgw bench` against real gateways: what it finds, what it refuses, how it ends.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking"
)]

mod support;

use std::process::{Command, Stdio};

use support::bench::{bench, fails, key, passed, result, stdout, url};
use support::{Gateway, Setup, Webhook, eventually, free_port, in_crate, token};

/// A gateway that posts to a port which only the tool is going to listen on.
async fn with_backend(setup: Setup) -> (Gateway, String) {
    let backend = format!("127.0.0.1:{}", free_port());
    let gateway = setup
        .env("SYMFONY_WEBHOOK_URL", format!("http://{backend}/"))
        .start()
        .await;
    (gateway, backend)
}

#[tokio::test]
async fn every_mode_finds_that_a_gateway_loses_nothing() {
    let (gateway, backend) = with_backend(Setup::default().env("WEBHOOK_RETRY_ATTEMPTS", 50)).await;
    let (url, key, pid) = (url(&gateway), key(), gateway.pid().to_string());
    let common = ["--url", &url, "--key", &key, "--server-pid", &pid, "--json"];
    let run = async |args: &str| {
        let args: Vec<&str> = args.split(' ').chain(common).collect();
        bench(&args).await
    };

    let idle = passed(&run("idle --connections 20 --hold-seconds 0.5").await, 20);
    assert!(idle["pss_before"].as_u64().unwrap() > 1_000_000, "{idle}");
    assert!(idle["idle_cpu_percent"].is_number(), "{idle}");
    assert!(idle["latency_us"]["p99"].as_f64().unwrap() > 0.0, "{idle}");

    let burst = format!("inbound --connections 5 --messages 103 --webhook-listen {backend}");
    let burst = passed(&run(&burst).await, 103);
    assert_eq!(burst["checked"], true);
    let paced =
        format!("inbound --connections 5 --rate 200 --seconds 0.5 --webhook-listen {backend}");
    let paced = passed(&run(&paced).await, 100);
    let quantiles = ["p50", "p90", "p99", "p999", "max"];
    let found = quantiles.map(|name| paced["latency_us"][name].as_f64().unwrap());
    assert!(found.is_sorted() && found[0] > 0.0, "{paced}");
    let closed =
        format!("inbound --connections 2 --rate closed --seconds 0.3 --webhook-listen {backend}");
    let closed = run(&closed).await;
    let count = result(&closed)["count"].as_u64().unwrap();
    assert!(count > 0);
    passed(&closed, count);

    passed(&run("fanout --connections 10 --pushes 30").await, 300);
    passed(
        &run("fanout --connections 10 --rate 100 --seconds 0.2").await,
        200,
    );
    let rtt = run("rtt --connections 3 --seconds 0.3").await;
    let count = result(&rtt)["count"].as_u64().unwrap();
    assert!(count >= 3);
    passed(&rtt, count);
    passed(
        &run("rtt --connections 3 --seconds 0.5 --rate 100").await,
        50,
    );
    passed(
        &run("churn --rate 50 --seconds 0.4 --source-addresses 3").await,
        20,
    );
}

#[tokio::test]
async fn a_users_own_message_is_told_apart_wherever_its_mark_stands() {
    let (gateway, backend) = with_backend(Setup::default()).await;
    let message =
        r#"{"type":"chat","at":{time},"deep":{"marks":["{id}"]},"who":{client},"pad":"{pad}"}"#;
    let args = [
        "inbound",
        "--url",
        &url(&gateway),
        "--key",
        &key(),
        "--connections",
        "3",
        "--messages",
        "30",
        "--message",
        message,
        "--payload-bytes",
        "500",
        "--webhook-listen",
        &backend,
        "--json",
    ];
    passed(&bench(&args).await, 30);
}

#[tokio::test]
async fn retries_make_up_for_a_failing_backend() {
    let (gateway, backend) = with_backend(Setup::default().env("WEBHOOK_RETRY_ATTEMPTS", 50)).await;
    let args = [
        "inbound",
        "--url",
        &url(&gateway),
        "--key",
        &key(),
        "--connections",
        "4",
        "--messages",
        "100",
        "--fail-percent",
        "30",
        "--webhook-listen",
        &backend,
        "--json",
    ];
    let result = passed(&bench(&args).await, 100);
    let note = result["notes"][0].as_str().unwrap();
    assert!(note.contains("failed on purpose"), "{note}");
}

#[tokio::test]
async fn what_the_backend_never_took_is_lost() {
    let (gateway, backend) = with_backend(Setup::default().env("WEBHOOK_RETRY_ATTEMPTS", 1)).await;
    let args = [
        "inbound",
        "--url",
        &url(&gateway),
        "--key",
        &key(),
        "--connections",
        "2",
        "--messages",
        "10",
        "--fail-percent",
        "100",
        "--webhook-listen",
        &backend,
        "--stall-seconds",
        "1",
        "--json",
    ];
    let output = bench(&args).await;
    fails(&output, 1, &["nothing arrived"]);
    assert_eq!(result(&output)["lost"], 10);
}

#[tokio::test]
async fn a_gateway_that_dies_is_named_as_the_cause() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let pid = gateway.pid().to_string();
    let address = url(&gateway);
    let running = tokio::spawn(async move {
        let key = key();
        let args = [
            "inbound",
            "--url",
            &address,
            "--key",
            &key,
            "--connections",
            "3",
            "--rate",
            "50",
            "--seconds",
            "60",
            "--server-pid",
            &pid,
        ];
        bench(&args).await
    });
    webhook.wait_for(20).await;
    gateway.signal("KILL");
    gateway.ended().await;
    let told = [
        "messages could not be sent",
        "the server ended 3 connections, the first with 1006",
        "did it end during the run?",
    ];
    fails(&running.await.unwrap(), 1, &told);
}

#[tokio::test]
async fn ctrl_c_prints_what_was_measured_so_far() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_wsgw"))
        .args(["bench", "inbound", "--url", &url(&gateway), "--key", &key()])
        .args([
            "--connections",
            "2",
            "--rate",
            "50",
            "--seconds",
            "600",
            "--json",
        ])
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    webhook.wait_for(20).await;
    let pid = child.id().to_string();
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -INT {pid}")])
        .status();
    assert!(sent.unwrap().success());
    let status = eventually("the end after Ctrl-C", || child.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(130));
    let output = child.wait_with_output().unwrap();
    let result = result(&output);
    assert_eq!(result["interrupted"], true, "{result}");
    assert!(result["count"].as_u64().unwrap() > 0, "{result}");
    assert!(result["expected"].as_u64().unwrap() < 30_000, "{result}");
}

#[tokio::test]
async fn other_machines_are_refused_unless_allowed() {
    for args in [
        &["idle", "--url", "ws://192.0.2.1/ws"][..],
        &["inbound", "--webhook-listen", "0.0.0.0:0"],
        &["inbound", "--redis", "redis://192.0.2.1"],
        &["inbound", "--rabbitmq", "amqp://192.0.2.1"],
        &[
            "fanout",
            "--publish-url",
            "http://192.0.2.1/internal/publish",
        ],
    ] {
        fails(
            &bench(args).await,
            2,
            &["is not this machine", "--allow-remote"],
        );
    }
}

#[tokio::test]
async fn wrong_usage_is_told_before_anything_is_sent() {
    let missing = in_crate("no/such/file");
    let missing = missing.to_str().unwrap();
    for (args, told) in [
        (&["idle", "--url", "http://127.0.0.1/"][..], "ws://HOST"),
        (&["idle", "--key", missing], "--key"),
        (&["idle", "--token-file", missing], "--token-file"),
        (&["idle", "--token", "a b"], "--token"),
        (&["idle", "--header", "no colon"], "--header"),
        (&["idle", "--server-pid", "4194999"], "no process 4194999"),
        (&["inbound", "--rate", "closed"], "--webhook-listen"),
        (&["inbound", "--rate", "fast"], "burst"),
        (
            &[
                "inbound",
                "--webhook-listen",
                "127.0.0.1:0",
                "--message",
                "{}",
            ],
            "{id}",
        ),
        (
            &["inbound", "--payload-bytes", "9", "--message", "{}"],
            "{pad}",
        ),
        (&["fanout", "--api-key", ""], "GATEWAY_API_KEY"),
        (&["rtt", "--pong-contains", ""], "--pong-contains"),
        (&["churn", "--rate", "0"], "from 0.001"),
        (&["fanout", "--receive"], "--run"),
        (
            &["idle", "--url", "wss://127.0.0.1/", "--ca-file", missing],
            "--ca-file",
        ),
        (&["summary", missing], "cannot read"),
    ] {
        fails(&bench(args).await, 2, &[told]);
    }
}

#[test]
fn too_few_open_files_are_told_before_anything_is_sent() {
    let output = Command::new("sh")
        .arg("-c")
        .arg(r#"ulimit -n 200; exec "$0" bench idle --connections 500"#)
        .arg(env!("CARGO_BIN_EXE_wsgw"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    fails(
        &output,
        2,
        &["500 connections need 564 open files", "ulimit -n 564"],
    );
}

#[tokio::test]
async fn refusals_are_told_by_status_and_close_code() {
    let gateway = Gateway::start().await;
    let (url, key) = (url(&gateway), key());
    let many = [
        "--connections",
        "200",
        "--ramp",
        "0",
        "--connect-concurrency",
        "4",
    ];
    let args = [&["idle", "--url", &url, "--token", "a.b.c"][..], &many].concat();
    fails(&bench(&args).await, 1, &["4401", "is the token right"]);
    let one = [
        "rtt",
        "--url",
        &url,
        "--connections",
        "1",
        "--seconds",
        "60",
    ];
    fails(&bench(&one).await, 1, &["4401", "is the token right"]);
    let churn = ["churn", "--url", &url, "--rate", "20", "--seconds", "0.2"];
    fails(&bench(&churn).await, 1, &["4401"]);

    let elsewhere = format!("ws://{}/elsewhere", gateway.address);
    let args = [
        "idle",
        "--url",
        &elsewhere,
        "--key",
        &key,
        "--connections",
        "2",
    ];
    fails(
        &bench(&args).await,
        1,
        &["connection 1 of 2", "HTTP 404", "is the path"],
    );
    let nobody = format!("ws://127.0.0.1:{}/ws", free_port());
    fails(
        &bench(&["idle", "--url", &nobody]).await,
        1,
        &["cannot connect", "refused"],
    );

    let args = [
        "fanout",
        "--url",
        &url,
        "--key",
        &key,
        "--connections",
        "2",
        "--pushes",
        "2",
        "--api-key",
        "wrong",
    ];
    fails(
        &bench(&args).await,
        1,
        &["2 publish calls were refused", "HTTP 401"],
    );
}

#[tokio::test]
async fn tokens_go_where_the_gateway_looks_for_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens");
    std::fs::write(&file, format!("{}\n{}\n", token("ann"), token("bob"))).unwrap();
    for (place, source) in [
        ("header", "header"),
        ("query", "query"),
        ("subprotocol", "subprotocol"),
    ] {
        let gateway = Setup::default()
            .set("stages.auth.token_sources", source)
            .start()
            .await;
        let address = url(&gateway);
        let args = [
            "idle",
            "--url",
            &address,
            "--token-file",
            file.to_str().unwrap(),
            "--token-in",
            place,
            "--connections",
            "4",
            "--json",
        ];
        passed(&bench(&args).await, 4);
        for user in ["ann", "bob"] {
            gateway
                .wait_for_log("ws_connected", &format!("\"{user}\""))
                .await;
        }
    }
}

#[tokio::test]
async fn results_are_summed_up_and_compared() {
    let gateway = Gateway::start().await;
    let (url, key) = (url(&gateway), key());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("results.jsonl");
    let mut text = String::new();
    for label in ["before", "after"] {
        let args = [
            "rtt",
            "--url",
            &url,
            "--key",
            &key,
            "--connections",
            "2",
            "--seconds",
            "0.2",
            "--json",
            "--label",
            label,
        ];
        text += &stdout(&bench(&args).await);
    }
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let summary = bench(&["summary", file]).await;
    assert_eq!(summary.status.code(), Some(0));
    let lines: Vec<String> = stdout(&summary).lines().map(str::to_owned).collect();
    assert!(
        lines[1].starts_with("before") && lines[2].starts_with("after"),
        "{lines:?}"
    );
    let compared = bench(&["compare", "before", "after", file]).await;
    assert_eq!(compared.status.code(), Some(0));
    assert!(stdout(&compared).starts_with("speed of after to before: "));
    fails(
        &bench(&["compare", "before", "never", file]).await,
        1,
        &["never"],
    );
}

/// The fields of a result, which scripts rely on, are those that the page promises.
#[tokio::test]
async fn the_page_lists_every_field_of_a_result() {
    let gateway = Gateway::start().await;
    let args = [
        "rtt",
        "--url",
        &url(&gateway),
        "--key",
        &key(),
        "--connections",
        "1",
        "--seconds",
        "0.1",
        "--json",
    ];
    let result = result(&bench(&args).await);
    let fields: Vec<&str> = result
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    let page = std::fs::read_to_string(in_crate("docs/bench.md")).unwrap();
    let documented: Vec<&str> = page
        .lines()
        .skip_while(|line| !line.starts_with("| field |"))
        .skip(2)
        .map_while(|line| line.strip_prefix("| `")?.split('`').next())
        .collect();
    assert_eq!(fields, documented, "docs/bench.md and the result differ");
}
