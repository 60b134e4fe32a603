//! The archive in a file: what is in it, and what it may cost the clients (nothing).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{Connection as _, Executor as _};
use support::archive::{archiving, count, events, file, open, rows, wait_for_rows};
use support::{Client, Gateway, Webhook, eventually, within};
use uuid::Uuid;

/// What `/ready` says of the archive; it must be 200 whatever that is.
async fn advice(gateway: &Gateway) -> String {
    let ready = gateway.get("/ready").await;
    assert_eq!(ready.status, 200, "{ready:?}");
    ready.json()["checks"]["archive"]
        .as_str()
        .unwrap()
        .to_owned()
}

async fn wait_for_advice(gateway: &Gateway, fits: impl Fn(&str) -> bool) -> String {
    within("what /ready says of the archive", async {
        loop {
            let advice = advice(gateway).await;
            if fits(&advice) {
                return advice;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

async fn metric(gateway: &Gateway, name: &str) -> u64 {
    let text = gateway.get("/metrics").await.text;
    let line = text
        .lines()
        .find(|line| line.starts_with(name))
        .unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_chat_is_in_the_archive_once_as_it_was_delivered() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .env("ORDERING_STRATEGY", "topic")
        .start()
        .await;
    let mode = std::fs::metadata(file(&gateway)).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600, "it holds messages");
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..500 {
        let room = if n % 2 == 0 { "a" } else { "b" };
        client.send_json(&json!({"topic": room, "n": n})).await;
    }
    // What no index of some databases takes.
    let long = "k".repeat(5000);
    client.send_json(&json!({"topic": long})).await;
    client.send("{\"topic\":\"nul\\u0000\"}").await;
    client.send_binary(vec![0, 255]).await;
    client.close(Some((1000, "bye"))).await;
    let delivered = webhook.wait_for(505).await;
    let rows = wait_for_rows(&file(&gateway), 505).await;
    let mut by_id: BTreeMap<String, &Value> = BTreeMap::new();
    for event in &delivered {
        by_id.insert(event["event_id"].as_str().unwrap().into(), event);
    }
    for (at, (row, event)) in rows.iter().zip(events(&rows)).enumerate() {
        let id = Uuid::from_slice(&row.0).unwrap();
        assert_eq!(by_id[&id.to_string()], &event);
        assert_eq!(event["seq"], at + 1, "the order of the ids is that of seq");
        assert_eq!(row.1, event["type"]);
        assert_eq!(row.2, "42");
        let connection = Uuid::from_slice(&row.3).unwrap();
        assert_eq!(connection.to_string(), event["connection_id"]);
        assert_eq!(row.4, event["seq"]);
    }
    assert_eq!(rows[1].5.as_deref(), Some("a"));
    assert_eq!(rows[0].5, None);
    assert_eq!(rows.len(), 505);
    assert_eq!(advice(&gateway).await, "ok");
    gateway.signal("TERM");
    assert!(gateway.ended().await.success());
    assert!(
        !gateway.directory().join("wsgw-archive.db-wal").exists(),
        "a clean stop leaves one file"
    );
    assert_eq!(count(&file(&gateway)).await, 505);
}

#[tokio::test]
async fn a_killed_gateway_leaves_whole_events_and_a_next_one_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("archive.db");
    let dsn = format!("sqlite://{}", path.display());
    let webhook = Webhook::start().await;
    let start = || archiving(&webhook).set("replay.archive.dsn", &dsn).start();
    let gateway = start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..20_000 {
        client.feed(json!({"n": n}).to_string()).await;
        if n % 1000 == 0 {
            client.flush().await;
        }
    }
    wait_for_rows(&path, 100).await;
    gateway.signal("KILL");
    gateway.ended().await;
    let before = rows(&path).await;
    for (at, event) in events(&before).iter().enumerate() {
        assert_eq!(event["seq"], at + 1, "a batch is there as a whole or not");
    }
    let mut connection = open(&path).await;
    let (sound,): (String,) = sqlx::query_as("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    assert_eq!(sound, "ok");
    connection.close().await.unwrap();
    let gateway = start().await;
    Client::connect(&gateway, "43").await.close(None).await;
    let after = wait_for_rows(&path, before.len() + 2).await;
    assert_eq!(after[..before.len()], before[..]);
}

#[tokio::test]
async fn a_locked_database_holds_nobody_up_and_its_buffer_is_bounded() {
    const ROOM: usize = 300;
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .set("replay.archive.buffer.max_events", ROOM)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    wait_for_rows(&file(&gateway), 1).await;
    let mut other = open(&file(&gateway)).await;
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    for n in 0..ROOM - 50 {
        client.send_json(&json!({"n": n})).await;
    }
    client.round_trip().await;
    webhook.wait_for(ROOM - 49).await;
    let advice = wait_for_advice(&gateway, |advice| advice.contains("locked")).await;
    assert!(advice.contains("0 were not archived"), "{advice}");
    // Over the brim.
    for n in ROOM - 50..2 * ROOM {
        client.send_json(&json!({"n": n})).await;
    }
    client.round_trip().await;
    webhook.wait_for(2 * ROOM + 1).await;
    assert_eq!(
        metric(&gateway, "wsgw_archive_dropped_total ").await,
        ROOM as u64
    );
    let wanted = format!("{ROOM} events wait, {ROOM} were not archived");
    wait_for_advice(&gateway, |advice| advice.ends_with(&wanted)).await;
    let logs = gateway.logs();
    let lines = logs
        .iter()
        .filter(|l| l["event"] == "archive_dropped")
        .count();
    assert!((1..10).contains(&lines), "{lines} lines for {ROOM} events");
    assert_eq!(count(&file(&gateway)).await, 1);
    other.execute("ROLLBACK").await.unwrap();
    let rows = wait_for_rows(&file(&gateway), ROOM + 1).await;
    let numbers: Vec<_> = events(&rows)[1..]
        .iter()
        .map(|event| event["message"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, (0..ROOM as u64).collect::<Vec<_>>());
    wait_for_advice(&gateway, |advice| advice == "ok").await;
    client.send_json(&json!({"n": "last"})).await;
    wait_for_rows(&file(&gateway), ROOM + 2).await;
}

#[tokio::test]
async fn what_a_locked_database_does_not_take_at_the_end_is_counted_as_lost() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .set("server.drain_seconds", "0.2")
        .start()
        .await;
    let mut other = open(&file(&gateway)).await;
    other.execute("BEGIN EXCLUSIVE").await.unwrap();
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    webhook.wait_for(1).await;
    gateway.signal("TERM");
    client.closed().await;
    assert!(gateway.ended().await.success());
    let logs = gateway.logs();
    let stopped = logs.iter().find(|line| line["event"] == "stopped").unwrap();
    assert_eq!(stopped["lost"], 2, "{stopped}");
    let lost = |line: &&Value| line["event"] == "dead_letter_lost" && line["sink"] == "archive";
    assert!(logs.iter().any(|line| lost(&line)));
    assert!(gateway.dead_letters().is_empty(), "the webhook has them");
    assert_eq!(webhook.events().len(), 2);
}

#[tokio::test]
async fn a_full_disk_holds_nobody_up_and_is_told() {
    let disk = Disk::of("1m");
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .set(
            "replay.archive.dsn",
            format!("sqlite://{}/archive.db", disk.path().display()),
        )
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let pad = "x".repeat(4000);
    for n in 0..500 {
        client.send_json(&json!({"n": n, "pad": pad})).await;
    }
    client.round_trip().await;
    webhook.wait_for(501).await;
    let advice = wait_for_advice(&gateway, |advice| advice != "ok").await;
    assert!(advice.contains("disk"), "{advice}");
    disk.resize("64m");
    let rows = wait_for_rows(&disk.path().join("archive.db"), 501).await;
    assert_eq!(rows.len(), 501);
    wait_for_advice(&gateway, |advice| advice == "ok").await;
    drop(client);
    drop(gateway);
}

/// A file system of limited size; needs the right to mount, as root has.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of(size: &str) -> Self {
        let disk = Self(tempfile::tempdir().unwrap());
        disk.mount(&format!("size={size}"));
        disk
    }

    fn resize(&self, size: &str) {
        self.mount(&format!("remount,size={size}"));
    }

    fn mount(&self, options: &str) {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(self.path())
            .status()
            .unwrap();
        assert!(mounted.success(), "mount: this test must run as root");
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(self.path())
            .status();
    }
}

#[tokio::test]
async fn an_archive_that_cannot_be_one_is_an_error_at_the_start() {
    let webhook = Webhook::start().await;
    let directory = tempfile::tempdir().unwrap();
    let garbage = directory.path().join("garbage.db");
    std::fs::write(&garbage, "this is no database, ".repeat(1000)).unwrap();
    for (dsn, words) in [
        (
            "sqlite:///nowhere/at/all/archive.db".to_owned(),
            "No such file",
        ),
        ("sqlite:///proc/archive.db".to_owned(), "`/proc/archive.db`"),
        (
            format!("sqlite://{}", directory.path().display()),
            "directory",
        ),
        (
            format!("sqlite://{}", garbage.display()),
            "no SQLite database",
        ),
        ("mysql://root:s3cret@localhost/x".to_owned(), "sqlite://"),
        ("postgres://root:s3cret@localhost:x/x".to_owned(), "URL"),
    ] {
        let gateway = archiving(&webhook).set("replay.archive.dsn", &dsn).spawn();
        let status = gateway.ended().await;
        assert_eq!(status.code(), Some(1), "{dsn}");
        let stderr = eventually("an error", || {
            Some(gateway.stderr()).filter(|stderr| stderr.contains("replay.archive.dsn"))
        })
        .await;
        assert!(stderr.contains(words), "{dsn}: {stderr}");
        assert!(!stderr.contains("s3cret"), "{stderr}");
    }
}

#[tokio::test]
async fn retention_deletes_what_is_too_old_and_gives_the_room_back() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .set("replay.retention_seconds", 3)
        .start()
        .await;
    let mut connection = open(&file(&gateway)).await;
    // Ten megabytes of an hour ago.
    let old = (support::now() - 3600) * 1000;
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) \
         INSERT INTO wsgw_events SELECT unhex(format('%012x7%03x8%015x', ?1 + i, 0, i)), 'connected', \
         '1', unhex('00'), 1, NULL, hex(zeroblob(1000)) FROM n",
    )
    .bind(i64::try_from(old).unwrap())
    .execute(&mut connection)
    .await
    .unwrap();
    let mut client = Client::connect(&gateway, "42").await;
    within("only what is young", async {
        loop {
            let rows = rows(&file(&gateway)).await;
            if rows.iter().all(|row| row.2 == "42") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    within("the file to shrink", async {
        loop {
            let (pages,): (i64,) = sqlx::query_as("PRAGMA page_count")
                .fetch_one(&mut connection)
                .await
                .unwrap();
            if pages * 16_384 < 6_000_000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(metric(&gateway, "wsgw_archive_deleted_total ").await >= 5000);
    client.send_json(&json!({"n": 1})).await;
    within("the message, then its end", async {
        let mut seen = false;
        loop {
            let there = rows(&file(&gateway))
                .await
                .iter()
                .any(|row| row.1 == "message_received");
            if seen && !there {
                break;
            }
            seen |= there;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}
