//! The archive in a file: what is in it, what it may cost the clients (nothing), and sending it again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _, Executor as _};
use support::{Client, Gateway, Reply, Setup, Webhook, eventually, within};
use uuid::Uuid;

/// A gateway whose archive is where it is by default, in its working directory.
fn archiving(webhook: &Webhook) -> Setup {
    Setup::default()
        .webhook(webhook)
        .set("replay.strategy", "durable")
}

fn file(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("wsgw-archive.db")
}

async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10))
        .connect()
        .await
        .unwrap()
}

/// An archived event: its columns, and itself.
type Row = (
    Vec<u8>,
    String,
    String,
    Vec<u8>,
    i64,
    Option<String>,
    String,
);

async fn rows(path: &Path) -> Vec<Row> {
    let mut connection = open(path).await;
    let rows = sqlx::query_as(
        "SELECT event_id, type, user_id, connection_id, seq, ordering_key, event \
         FROM wsgw_events ORDER BY event_id",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    rows
}

async fn count(path: &Path) -> usize {
    rows(path).await.len()
}

async fn wait_for_rows(path: &Path, wanted: usize) -> Vec<Row> {
    within(&format!("{wanted} events in the archive"), async {
        loop {
            let rows = rows(path).await;
            if rows.len() >= wanted {
                return rows;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn events(rows: &[Row]) -> Vec<Value> {
    rows.iter()
        .map(|row| serde_json::from_str(&row.6).unwrap())
        .collect()
}

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

async fn replay(gateway: &Gateway, body: Value) -> Value {
    let answer = gateway.post("/internal/replay/archive", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The ids of what came to the webhook from a place on.
fn ids_from(webhook: &Webhook, from: usize) -> Vec<String> {
    webhook.received()[from..]
        .iter()
        .map(|request| request.event()["event_id"].as_str().unwrap().to_owned())
        .collect()
}

fn ids_of(events: &[Value], fits: impl Fn(&Value) -> bool) -> Vec<String> {
    let mut ids: Vec<String> = events
        .iter()
        .filter(|event| fits(event))
        .map(|event| event["event_id"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    ids
}

/// Whether an event is asked for.
type Fits = fn(&Value) -> bool;

fn ms(event: &Value) -> u64 {
    let id: Uuid = event["event_id"].as_str().unwrap().parse().unwrap();
    let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
    seconds * 1000 + u64::from(nanos) / 1_000_000
}

#[tokio::test]
async fn what_was_archived_comes_again_filtered_in_order_and_in_parts() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook)
        .env("ORDERING_STRATEGY", "topic")
        .start()
        .await;
    let mut users = [
        Client::connect(&gateway, "1").await,
        Client::connect(&gateway, "2").await,
    ];
    for n in 0..100 {
        let room = if n % 3 == 0 { "a" } else { "b" };
        for client in &mut users {
            client.send_json(&json!({"topic": room, "n": n})).await;
        }
        // Not to wait for anything: the events are to spread over some milliseconds.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for client in users {
        client.close(None).await;
    }
    wait_for_rows(&file(&gateway), 204).await;
    let all = webhook.wait_for(204).await;
    let cases: [(Value, Fits); 5] = [
        (json!({"since": 0}), |_| true),
        (
            json!({"since": "1970-01-01T00:00:00Z", "user_id": 2}),
            |e| e["user_id"] == "2",
        ),
        (json!({"since": "0", "ordering_key": "a"}), |e| {
            e["ordering_key"] == "a"
        }),
        (json!({"since": 0, "type": "disconnected"}), |e| {
            e["type"] == "disconnected"
        }),
        (
            json!({"since": 0, "user_id": "1", "ordering_key": "b", "target": "webhook"}),
            |e| e["user_id"] == "1" && e["ordering_key"] == "b",
        ),
    ];
    for (body, fits) in cases {
        let before = webhook.count();
        let wanted = ids_of(&all, fits);
        let answer = replay(&gateway, body.clone()).await;
        assert_eq!(answer, json!({"replayed": wanted.len()}), "{body}");
        assert_eq!(ids_from(&webhook, before), wanted, "{body}");
    }
    // A range of time: from the first millisecond, up to the last, which is not part of it.
    let (since, until) = (ms(&all[50]), ms(&all[150]));
    assert!(since < until);
    let before = webhook.count();
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
    let body = json!({"since": since as f64 / 1000.0, "until": until as f64 / 1000.0});
    replay(&gateway, body).await;
    let wanted = ids_of(&all, |e| (since..until).contains(&ms(e)));
    assert_eq!(ids_from(&webhook, before), wanted);
    // In parts.
    let before = webhook.count();
    let mut body = json!({"since": 0, "user_id": "2", "limit": 25});
    let mut calls = 0;
    loop {
        let answer = replay(&gateway, body.clone()).await;
        calls += 1;
        match answer.get("next_cursor") {
            Some(cursor) => {
                assert_eq!(answer["replayed"], 25);
                body["cursor"] = cursor.clone();
            }
            None => break,
        }
    }
    assert_eq!(calls, 5, "102 events, 25 at a time");
    assert_eq!(
        ids_from(&webhook, before),
        ids_of(&all, |e| e["user_id"] == "2")
    );
    for limit in [0, -1] {
        let answer = replay(&gateway, json!({"since": 0, "limit": limit})).await;
        assert_eq!(answer, json!({"replayed": 0}));
    }
    let rows = rows(&file(&gateway)).await;
    assert_eq!(rows.len(), 204, "what is replayed is not archived again");
}

#[tokio::test]
async fn a_sink_that_fails_half_way_is_told_and_the_rest_follows() {
    let webhook = Webhook::scripted(|request| match request.event()["message"]["n"].as_u64() {
        // The live delivery passes; of the replay, 5 fails often and 7 is refused.
        Some(5) if (1..=5).contains(&request.earlier) => Reply::Status(500),
        Some(7) if request.earlier > 0 => Reply::Status(400),
        _ => Reply::Status(204),
    })
    .await;
    let gateway = archiving(&webhook)
        .set("replay.archive.max_batch", 50)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..10 {
        client.send_json(&json!({"n": n})).await;
    }
    wait_for_rows(&file(&gateway), 11).await;
    webhook.wait_for(11).await;
    let mut body = json!({"since": 0});
    let failed = gateway.post("/internal/replay/archive", &body).await;
    assert_eq!(failed.status, 503, "{failed:?}");
    assert_eq!(failed.header("content-type"), "application/problem+json");
    let problem = failed.json();
    assert_eq!(problem["replayed"], 6, "connected and 0 to 4");
    assert_eq!(problem["detail"], "webhook: HTTP 500");
    body["cursor"] = problem["next_cursor"].clone();
    let before = webhook.count();
    let rest = replay(&gateway, body).await;
    assert_eq!(rest, json!({"replayed": 4, "refused": 1}));
    let numbers: Vec<_> = webhook.received()[before..]
        .iter()
        .map(|request| request.event()["message"]["n"].as_u64().unwrap())
        .collect();
    assert_eq!(numbers, [5, 6, 7, 8, 9]);
    assert_eq!(metric(&gateway, "wsgw_archive_replayed_total ").await, 10);
}

#[tokio::test]
async fn one_replay_at_a_time_and_a_stop_ends_it() {
    let webhook = Webhook::scripted(|request| match request.earlier {
        0 => Reply::Status(204),
        _ => Reply::Hold,
    })
    .await;
    let gateway = std::sync::Arc::new(
        archiving(&webhook)
            .env("WEBHOOK_TIMEOUT_SECONDS", 60)
            .start()
            .await,
    );
    Client::connect(&gateway, "42").await.close(None).await;
    wait_for_rows(&file(&gateway), 2).await;
    let first = tokio::spawn({
        let gateway = std::sync::Arc::clone(&gateway);
        async move {
            gateway
                .post("/internal/replay/archive", &json!({"since": 0}))
                .await
        }
    });
    eventually("the replay to be under way", || {
        (webhook.in_flight() == 1).then_some(())
    })
    .await;
    let second = gateway
        .post("/internal/replay/archive", &json!({"since": 0}))
        .await;
    assert_eq!(second.status, 409, "{second:?}");
    gateway.signal("TERM");
    let first = first.await.unwrap();
    assert_eq!(first.status, 503);
    assert_eq!(first.json()["detail"], "the gateway stops");
    assert!(gateway.ended().await.success());
}

#[tokio::test]
async fn calls_that_make_no_sense_are_told_which_field() {
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook).start().await;
    for (body, field) in [
        (json!({}), "`since`"),
        (json!({"since": "yesterday"}), "`since`"),
        (json!({"since": "2026-02-30T00:00:00Z"}), "`since`"),
        (json!({"since": -1}), "`since`"),
        (json!({"since": 1e300}), "`since`"),
        (json!({"since": true}), "`since`"),
        (json!({"since": 0, "until": "NaN"}), "`until`"),
        (json!({"since": 0, "limit": "10"}), "`limit`"),
        (json!({"since": 0, "limit": 1.5}), "`limit`"),
        (json!({"since": 0, "type": "chat"}), "`type`"),
        (json!({"since": 0, "user_id": []}), "`user_id`"),
        (json!({"since": 0, "ordering_key": ""}), "`ordering_key`"),
        (json!({"since": 0, "cursor": "5"}), "`cursor`"),
        (json!({"since": 0, "target": "redis"}), "`target`"),
        (json!({"since": 0, "target": "archive"}), "`target`"),
    ] {
        let answer = gateway.post("/internal/replay/archive", &body).await;
        assert_eq!(answer.status, 400, "{body} {answer:?}");
        let problem = answer.json();
        assert!(
            problem["detail"].as_str().unwrap().starts_with(field),
            "{body}: {problem}"
        );
    }
    let keyless = gateway
        .request(
            reqwest::Method::POST,
            "/internal/replay/archive",
            &[],
            b"{}".to_vec(),
        )
        .await;
    assert_eq!(keyless.status, 401);
    let without = Setup::default().webhook(&webhook).start().await;
    let answer = without
        .post("/internal/replay/archive", &json!({"since": 0}))
        .await;
    assert_eq!(answer.status, 503);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("durable")
    );
    assert!(
        without.get("/ready").await.json()["checks"]
            .get("archive")
            .is_none()
    );
}
