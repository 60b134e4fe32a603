//! `wsgw erase` against Redis, the archive in a file and the dead-letter file, while gateways write.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use support::archive::{open, rows};
use support::erase::{
    SECRET, Writer, core, erase_in, erased, found, report_in, setup, store, streams, visit,
};
use support::terminal::Terminal;
use support::{Client, Redis, Reply, Webhook, until, within};

/// Waits until so many events of a user are in the streams.
async fn wait_for_events(redis: &Redis, user: &str, count: usize) {
    within(&format!("{count} events of user {user}"), async {
        loop {
            if events_of(redis, user).await.len() >= count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

async fn events_of(redis: &Redis, user: &str) -> Vec<Value> {
    let mut events = Vec::new();
    for stream in streams(redis).await {
        if stream.starts_with("ws.inbox") || stream == "ws.events" {
            events.extend(redis.events(&stream).await);
        }
    }
    events.retain(|event| event["user_id"] == user);
    events
}

/// The numbers of a user's messages.
fn numbers(events: &[Value]) -> BTreeSet<u64> {
    let numbers = events
        .iter()
        .filter_map(|event| event["message"]["n"].as_u64());
    numbers.collect()
}

/// Fails if a key or an entry of Redis names the user.
async fn assert_no_trace(redis: &Redis) {
    for stream in streams(redis).await {
        assert!(!stream.contains("42"), "{stream}");
        for (id, fields) in redis.stream(&stream).await {
            for (_, text) in fields {
                for trace in [SECRET, "\"user_id\":\"42\"", "\"user:42\""] {
                    assert!(!text.contains(trace), "{stream} {id}: {text}");
                }
            }
        }
    }
    let keys: Vec<String> = redis.command("KEYS", &["presence:*:42"]).await;
    assert!(keys.is_empty(), "{keys:?}");
}

#[tokio::test]
async fn everything_of_one_user_goes_from_redis_and_nothing_else() {
    let redis = Redis::start().await;
    let gateway = setup("core", &core(&redis.dsn())).start().await;
    let _other = Client::connect(&gateway, "421").await;
    let writer = Writer::start(&gateway).await;
    visit(&gateway, 40).await;
    let theirs = [
        r#"{"subjects":["user:42"],"payload":"s3cret-of-42"}"#,
        r#"{"payload":"s3cret-of-42","subjects":["room:1","user:\u0034\u0032"]}"#,
        r#"{"subjects":["user:42"],"payload":"s3cret-of-4"#,
    ];
    for push in theirs {
        let _: String = redis
            .command("XADD", &["ws.outbox", "*", "data", push])
            .await;
    }
    let wrapped = json!({"body": theirs[0], "headers": {"type": "x"}}).to_string();
    let _: String = redis
        .command("XADD", &["ws.outbox", "*", "message", &wrapped])
        .await;
    redis.push("ws.outbox", &["user:8"], json!("kept")).await;
    redis
        .push("ws.outbox", &["user:421"], json!({"of": ["user:42x"]}))
        .await;
    let letter = json!({"connection_id": "c", "user_id": "42", "raw": SECRET}).to_string();
    let kept = json!({"connection_id": "c", "user_id": "7"}).to_string();
    for raw in [&letter, &kept] {
        let fields = ["ws.dlq", "*", "reason", "HTTP 400", "raw", raw.as_str()];
        let _: String = redis.command("XADD", &fields).await;
    }
    // 40 messages, connected, disconnected; the malformed push is a dead letter once it was read.
    wait_for_events(&redis, "42", 42).await;
    within("three dead letters", async {
        while redis.stream("ws.dlq").await.len() < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;

    let (code, counted) = report_in(gateway.directory(), &["--dry-run"]).await;
    assert_eq!(code, 0, "{counted:#}");
    assert_eq!(store(&counted, "redis_stream", "ws.inbox.*")["found"], 40);
    assert_eq!(store(&counted, "redis_stream", "ws.events")["found"], 2);
    assert_eq!(store(&counted, "redis_stream", "ws.dlq")["found"], 2);
    let outbox = store(&counted, "redis_stream", "ws.outbox");
    assert_eq!(
        (&outbox["found"], &outbox["shared"]),
        (&json!(4), &json!(1))
    );
    assert_eq!(store(&counted, "redis_stream", "ws.inbox")["exists"], false);
    assert!(
        counted["stores"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["erased"] == 0)
    );
    assert_eq!(
        events_of(&redis, "42").await.len(),
        42,
        "a dry run erases nothing"
    );

    let report = erased(&gateway).await;
    assert_eq!(found(&report), 40 + 2 + 2 + 4, "{report:#}");
    assert!(
        report["stores"]
            .as_array()
            .unwrap()
            .iter()
            .all(|s| s["erased"] == s["found"])
    );
    assert_no_trace(&redis).await;
    let again = erased(&gateway).await;
    assert_eq!(found(&again), 0, "{again:#}");

    let written = writer.stop().await;
    let wanted = usize::try_from(written).unwrap() + 2;
    wait_for_events(&redis, "7", wanted).await;
    let of_others = events_of(&redis, "7").await;
    assert_eq!(
        numbers(&of_others),
        (0..written).collect(),
        "nothing of others is lost"
    );
    assert_eq!(redis.stream("ws.outbox").await.len(), 2);
    assert_eq!(redis.stream("ws.dlq").await.len(), 1);
}

#[tokio::test]
async fn a_user_who_is_still_there_is_told_of() {
    let redis = Redis::start().await;
    let gateway = setup("core", &core(&redis.dsn())).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    let _other = Client::connect(&gateway, "7").await;
    wait_for_events(&redis, "7", 1).await;
    until("both to be present", || async {
        redis
            .command::<Vec<String>>("KEYS", &["presence:conn:*"])
            .await
            .len()
            == 2
    })
    .await;
    let (code, report) = report_in(gateway.directory(), &["--yes"]).await;
    assert_eq!(code, 3, "{report:#}");
    assert_eq!(report["open_connections"], 1);
    assert_eq!(report["complete"], false);
    assert_eq!(store(&report, "presence", "presence:*")["erased"], 1);
    let shown = erase_in(gateway.directory(), &["--yes"]).await;
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("1 open connections") && shown.contains("INCOMPLETE"),
        "{shown}"
    );

    let answer = gateway
        .post("/internal/disconnect", &json!({"user_id": "42"}))
        .await;
    assert_eq!(answer.json()["disconnected"], 1);
    client.closed().await;
    wait_for_events(&redis, "42", 1).await;
    until("the record to go", || async {
        let (_, report) = report_in(gateway.directory(), &["--dry-run"]).await;
        report["open_connections"] == 0
    })
    .await;
    let report = erased(&gateway).await;
    assert_eq!(store(&report, "redis_stream", "ws.events")["erased"], 1);
    assert_no_trace(&redis).await;
    let members: Vec<String> = redis.command("SMEMBERS", &["presence:user:7"]).await;
    assert_eq!(members.len(), 1, "others are still present");
}

#[tokio::test]
async fn what_a_killed_gateway_left_behind_goes() {
    let redis = Redis::start().await;
    let gateway = setup("core", &core(&redis.dsn())).start().await;
    let _client = Client::connect(&gateway, "42").await;
    wait_for_events(&redis, "42", 1).await;
    until("an entry", || async {
        redis.command::<bool>("EXISTS", &["presence:user:42"]).await
    })
    .await;
    gateway.signal("KILL");
    gateway.ended().await;
    // Left in the set of the subject, of connections that are known nowhere else.
    let _: i64 = redis
        .command("SADD", &["presence:subject:user:42", "stray"])
        .await;
    until("the lease to expire", || async {
        let (_, report) = report_in(gateway.directory(), &["--dry-run"]).await;
        report["open_connections"] == 0
    })
    .await;
    let report = erased(&gateway).await;
    assert_eq!(store(&report, "leases", "wsgw:conns:*")["erased"], 1);
    assert_eq!(store(&report, "presence", "presence:*")["erased"], 1);
    assert_no_trace(&redis).await;
    let left: Vec<String> = redis.command("KEYS", &["wsgw:conns:*"]).await;
    assert_eq!(left, Vec::<String>::new());
    let report = erased(&gateway).await;
    assert_eq!(found(&report), 0, "{report:#}");
}

/// The dead letters in all files of a folder that are whole and were not erased.
fn letters(folder: &Path) -> (Vec<Value>, String) {
    let (mut letters, mut all) = (Vec::new(), String::new());
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name().to_string_lossy().contains("dead-letters") {
            // It may have been renamed meanwhile.
            let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
            let lines = text
                .lines()
                .filter_map(|line| serde_json::from_str(line).ok());
            letters.extend(lines.filter(|line: &Value| line["reason"] != "erased"));
            all += &text;
        }
    }
    (letters, all)
}

#[tokio::test]
async fn letters_go_from_the_file_while_it_is_written_and_renamed() {
    let webhook = Webhook::scripted(|_| Reply::Status(400)).await;
    let sections = format!(
        r#"
  events:
    webhook: {{ url: "{}" }}
    dead_letters: {{ file: {{ path: letters/dead-letters.jsonl, max_bytes: 8192, max_files: 10000 }} }}
"#,
        webhook.url()
    );
    let gateway = setup("terminator", &sections).start().await;
    let folder = gateway.directory().join("letters");
    let writer = Writer::start(&gateway).await;
    visit(&gateway, 60).await;
    let of = |letters: &[Value], user: &str| {
        let raw = letters.iter().map(|letter| letter["raw"].as_str().unwrap());
        let events = raw.map(|raw| serde_json::from_str::<Value>(raw).unwrap());
        events
            .filter(|event| event["user_id"] == user)
            .collect::<Vec<_>>()
    };
    until("62 letters of user 42", || async {
        of(&letters(&folder).0, "42").len() == 62
    })
    .await;
    // What a crash left of a letter, and of one that was being erased.
    let torn = concat!(
        r#"{"reason":"HTTP 400","raw":"{\"connection_id\":\"c\",\"user_id\":\"42\",\"message\":\"s3cret-of-42"#,
        "\n",
        r#"{"reason":"erased","raw":"","event_i,\"message\":\"s3cret-of-42\"}"}"#,
        "\n",
        r#"{"reason":"HTTP 400","raw":"{\"connection_id\":\"c\",\"user_id\":\"42\",\"text\":\"s3cret-of-42"#,
    );
    std::fs::write(folder.join("dead-letters.jsonl.99999"), torn).unwrap();

    // The one at the end is found in the second pass, and yet did not come late.
    let report = erased(&gateway).await;
    let file = store(&report, "dead_letter_file", "dead-letters.jsonl");
    assert_eq!(
        (&file["found"], &file["erased"]),
        (&json!(65), &json!(65)),
        "{report:#}"
    );
    let written = writer.stop().await;
    let wanted = usize::try_from(written).unwrap() + 2;
    until("the writer's letters", || async {
        of(&letters(&folder).0, "7").len() >= wanted
    })
    .await;
    let (letters, text) = letters(&folder);
    let others = of(&letters, "7");
    assert_eq!(
        (others.len(), numbers(&others)),
        (wanted, (0..written).collect())
    );
    for trace in [SECRET, r#"\"user_id\":\"42\""#] {
        assert!(!text.contains(trace), "{trace}");
    }
    let again = erased(&gateway).await;
    assert_eq!(found(&again), 0);
}

#[tokio::test]
async fn events_go_from_the_archive_and_from_its_file() {
    let webhook = Webhook::start().await;
    let sections = format!(
        r#"
  events: {{ webhook: {{ url: "{}" }} }}
  replay: {{ strategy: durable, archive: {{ dsn: "sqlite://events.db" }} }}
"#,
        webhook.url()
    );
    let gateway = setup("terminator", &sections).start().await;
    let path = gateway.directory().join("events.db");
    let writer = Writer::start(&gateway).await;
    visit(&gateway, 500).await;
    let of = |rows: &[support::archive::Row], user: &str| {
        rows.iter().filter(|row| row.2 == user).count()
    };
    until("502 events of user 42", || async {
        of(&rows(&path).await, "42") == 502
    })
    .await;
    let (code, counted) = report_in(gateway.directory(), &["--dry-run"]).await;
    assert_eq!(
        (code, &store(&counted, "archive", "sqlite")["found"]),
        (0, &json!(502))
    );
    let report = erased(&gateway).await;
    assert_eq!(store(&report, "archive", "sqlite")["erased"], 502);
    assert_eq!(of(&rows(&path).await, "42"), 0);
    let written = writer.stop().await;
    let wanted = usize::try_from(written).unwrap() + 2;
    until("the writer's events", || async {
        of(&rows(&path).await, "7") == wanted
    })
    .await;
    gateway.signal("TERM");
    gateway.ended().await;
    // What a gateway that stopped under load left in the write-ahead log goes to the file.
    let mut connection = open(&path).await;
    connection
        .execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .await
        .unwrap();
    connection.close().await.unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let trace = SECRET.as_bytes();
    assert!(
        !bytes.windows(trace.len()).any(|window| window == trace),
        "bytes are left"
    );
}

#[tokio::test]
async fn a_store_that_is_away_is_named_and_the_others_are_searched() {
    let folder = tempfile::tempdir().unwrap();
    let port = support::free_port();
    let sections = format!(
        r#"
  events: {{ redis_stream: {{ dsn: "redis://:s3cret-password@127.0.0.1:{port}/0" }} }}
  brokers: {{ redis: {{ connect_timeout_seconds: 0.5 }} }}
  replay: {{ archive: {{ dsn: "sqlite://none.db" }} }}
"#
    );
    drop(setup("core", "")); // The same stages.
    let gateway = setup("core", &sections).spawn();
    std::fs::copy(
        gateway.directory().join("pipeline.yaml"),
        folder.path().join("pipeline.yaml"),
    )
    .unwrap();
    drop(gateway);
    let raw = json!({"connection_id": "c", "user_id": "42", "text": SECRET}).to_string();
    let letter = json!({"reason": "HTTP 400", "raw": raw, "event_id": null, "sink": "webhook", "failed_at": 1});
    let file = folder.path().join("wsgw-dead-letters.jsonl");
    std::fs::write(&file, format!("{letter}\n")).unwrap();
    let (code, report) = report_in(folder.path(), &["--yes"]).await;
    assert_eq!((code, &report["complete"]), (1, &json!(false)));
    let inbox = store(&report, "redis_stream", "ws.inbox");
    assert!(
        inbox["error"].as_str().unwrap().contains("refused"),
        "{inbox}"
    );
    assert_eq!(
        store(&report, "dead_letter_file", "wsgw-dead-letters.jsonl")["erased"],
        1
    );
    assert_eq!(store(&report, "archive", "sqlite")["exists"], false);
    assert!(
        !folder.path().join("none.db").exists(),
        "no archive is made"
    );
    let left: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(
        (&left["reason"], &left["sink"]),
        (&json!("erased"), &json!("webhook"))
    );
}

#[tokio::test]
async fn it_asks_before_it_erases() {
    let webhook = Webhook::scripted(|_| Reply::Status(400)).await;
    let sections = format!("  events: {{ webhook: {{ url: \"{}\" }} }}", webhook.url());
    let gateway = setup("terminator", &sections).start().await;
    visit(&gateway, 1).await;
    support::eventually("three letters", || {
        (gateway.dead_letters().len() == 3).then_some(())
    })
    .await;
    let refused = erase_in(gateway.directory(), &[]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    let command = format!(
        "cd {} && {} erase --user 42 pipeline.yaml; echo exit=$?",
        gateway.directory().display(),
        env!("CARGO_BIN_EXE_wsgw")
    );
    let ask = async |answer: &str, shown: &[&str]| {
        let mut terminal = Terminal::run(&command, &[], (160, 60));
        terminal.shows(&["Type the id again"]).await;
        terminal.press(answer);
        terminal.shows(shown).await;
    };
    ask("43\n", &["nothing was erased", "exit=1"]).await;
    assert!(
        gateway
            .dead_letters()
            .iter()
            .all(|letter| letter["reason"] == "HTTP 400")
    );
    ask("42\n", &["Complete", "exit=0"]).await;
    assert!(
        gateway
            .dead_letters()
            .iter()
            .all(|letter| letter["reason"] == "erased")
    );
    let listed = gateway.get_with_key("/internal/dead-letters").await.json();
    assert_eq!(listed["dead_letters"][0]["reason"], "erased", "{listed}");
}
