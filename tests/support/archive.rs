//! The archive in a `SQLite` file, as tests read it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};

use super::{Gateway, Setup, Webhook, within};

/// A gateway whose archive is where it is by default, in its working directory.
pub fn archiving(webhook: &Webhook) -> Setup {
    Setup::default()
        .webhook(webhook)
        .set("replay.strategy", "durable")
}

pub fn file(gateway: &Gateway) -> PathBuf {
    gateway.directory().join("wsgw-archive.db")
}

pub async fn open(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(10))
        .connect()
        .await
        .unwrap()
}

/// An archived event: its columns, and itself.
pub type Row = (
    Vec<u8>,
    String,
    String,
    Vec<u8>,
    i64,
    Option<String>,
    String,
);

pub async fn rows(path: &Path) -> Vec<Row> {
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

pub async fn count(path: &Path) -> usize {
    rows(path).await.len()
}

pub async fn wait_for_rows(path: &Path, wanted: usize) -> Vec<Row> {
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

pub fn events(rows: &[Row]) -> Vec<Value> {
    rows.iter()
        .map(|row| serde_json::from_str(&row.6).unwrap())
        .collect()
}
