//! `wsgw erase` where stores are in the way: pipes, foreign lines, replicas, and another who erases.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use support::erase::{SECRET, report_in, setup, store};
use support::{Redis, RedisSetup, until};

/// A folder with the pipeline file of a gateway that does not run.
fn folder(mode: &str, sections: &str) -> tempfile::TempDir {
    let gateway = setup(mode, sections).spawn();
    let folder = tempfile::tempdir().unwrap();
    let file = |folder: &Path| folder.join("pipeline.yaml");
    std::fs::copy(file(gateway.directory()), file(folder.path())).unwrap();
    folder
}

fn event(user: &str) -> String {
    json!({"connection_id": "c", "user_id": user, "text": SECRET}).to_string()
}

fn letter(user: &str) -> String {
    json!({"reason": "HTTP 400", "raw": event(user), "event_id": null, "sink": "webhook", "failed_at": 1}).to_string()
}

const FILE: &str = "wsgw-dead-letters.jsonl";

#[tokio::test]
async fn nobody_waits_for_a_pipe_in_the_place_of_letters() {
    let folder = folder("terminator", "");
    for name in [FILE.to_owned(), format!("{FILE}.1")] {
        let made = Command::new("mkfifo")
            .arg(folder.path().join(name))
            .status();
        assert!(made.unwrap().success());
    }
    for args in [["--dry-run"], ["--yes"]] {
        let (code, report) = report_in(folder.path(), &args).await;
        assert_eq!(code, 0, "{report:#}");
        assert_eq!(store(&report, "dead_letter_file", FILE)["exists"], false);
        assert!(report["remains"].to_string().contains("a pipe or a device"));
    }
}

#[tokio::test]
async fn what_is_no_letter_stays_and_keeps_no_other_file_from_being_searched() {
    let folder = folder("terminator", "");
    let path = |suffix: &str| folder.path().join(format!("{FILE}{suffix}"));
    let foreign = format!(
        "Traceback:\n  at line 1\n    \"user_id\": \"7\",\n{}\n",
        letter("7")
    );
    std::fs::write(path(""), &foreign).unwrap();
    std::fs::create_dir(path(".1")).unwrap();
    // The last line has no end, as a crash leaves it.
    let letters = format!("{}\n{}", letter("42"), letter("42"));
    std::fs::write(path(".2"), letters).unwrap();

    let (code, report) = report_in(folder.path(), &["--dry-run"]).await;
    let file = store(&report, "dead_letter_file", FILE);
    assert_eq!((code, &file["found"]), (1, &json!(2)), "{report:#}");
    let (code, report) = report_in(folder.path(), &["--yes"]).await;
    let file = store(&report, "dead_letter_file", FILE);
    assert_eq!((code, &file["erased"]), (1, &json!(1)), "{report:#}");
    assert!(file["error"].as_str().unwrap().contains(".jsonl.1"));

    // The second pass takes what the first found without an end; it did not come late.
    std::fs::remove_dir(path(".1")).unwrap();
    let (code, report) = report_in(folder.path(), &["--yes"]).await;
    let file = store(&report, "dead_letter_file", FILE);
    assert_eq!((code, &file["erased"]), (0, &json!(1)), "{report:#}");
    let erased = std::fs::read_to_string(path(".2")).unwrap();
    assert!(!erased.contains(SECRET));
    assert_eq!(std::fs::read_to_string(path("")).unwrap(), foreign);
}

async fn add(redis: &Redis, stream: &str, user: &str) {
    let _: String = redis
        .command("XADD", &[stream, "*", "data", &event(user)])
        .await;
}

fn core(dsn: &str) -> tempfile::TempDir {
    folder(
        "core",
        &format!("  events: {{ redis_stream: {{ dsn: \"{dsn}\" }} }}"),
    )
}

#[tokio::test]
async fn two_who_erase_at_once_do_not_get_in_each_others_way() {
    let redis = Redis::start().await;
    let folder = core(&redis.dsn());
    for n in 0..500 {
        add(&redis, &format!("ws.inbox.t{n}"), "42").await;
    }
    let both = tokio::join!(
        report_in(folder.path(), &["--yes"]),
        report_in(folder.path(), &["--yes"])
    );
    for (_, report) in [both.0, both.1] {
        let partitions = store(&report, "redis_stream", "ws.inbox.*");
        assert_eq!(partitions["error"], Value::Null, "{report:#}");
    }
    let left: Vec<String> = redis.command("KEYS", &["ws.inbox*"]).await;
    assert_eq!(left, [""; 0]);
}

#[tokio::test]
async fn partitions_are_emptied_though_they_may_not_be_removed() {
    let redis = Redis::start().await;
    for stream in ["ws.inbox.a", "ws.inbox.b", "ws.inbox.c"] {
        add(&redis, stream, "42").await;
    }
    let rules = "ACL SETUSER eraser on >s3cret-password ~* &* +@all -eval";
    let rules: Vec<&str> = rules.split(' ').collect();
    let _: String = redis.command(rules[0], &rules[1..]).await;
    let dsn = redis
        .dsn()
        .replace("redis://", "redis://eraser:s3cret-password@");
    let folder = core(&dsn);
    let (code, report) = report_in(folder.path(), &["--yes"]).await;
    let partitions = store(&report, "redis_stream", "ws.inbox.*");
    assert_eq!((code, &partitions["erased"]), (1, &json!(3)), "{report:#}");
    assert!(partitions["error"].as_str().unwrap().contains("NOPERM"));
}

#[tokio::test]
async fn nobody_waits_again_for_a_server_that_became_a_replica() {
    let redis = Redis::start().await;
    for stream in ["ws.inbox", "ws.events"] {
        add(&redis, stream, "42").await;
    }
    let replica = RedisSetup::default()
        .line(&format!("replicaof 127.0.0.1 {}", redis.port()))
        .start()
        .await;
    until("what the replica copies", || async {
        replica.command::<u64>("EXISTS", &["ws.events"]).await == 1
    })
    .await;
    let folder = core(&replica.dsn());
    let (code, report) = report_in(folder.path(), &["--yes"]).await;
    assert_eq!(code, 1, "{report:#}");
    for stream in ["ws.inbox", "ws.events", "ws.dlq"] {
        let error = &store(&report, "redis_stream", stream)["error"];
        assert!(
            error.as_str().unwrap_or_default().contains("READONLY"),
            "{report:#}"
        );
    }
}
