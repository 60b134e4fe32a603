//! Finds the records of one user's connections, and erases those that a lost gateway left behind.
//!
//! Stands between `erase` and the keys. The record of an open connection stays: it goes when the connection ends, and
//! its gateway would write it again. What a survivor is about to tell of is not told once its record is gone.

use std::sync::Arc;
use std::time::Duration;

use redis::{FromRedisValue, cmd};

use super::keys::Keys;
use super::record::Record;
use crate::brokers::redis::{Atomicity, RedisLink};
use crate::config::Config;

/// Records looked at in one round trip.
const CHUNK: usize = 500;

/// Records of one user's connections.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UserRecords {
    /// Records that were looked at, of all users.
    pub examined: u64,
    /// Of connections that are open at gateways that live.
    pub open: u64,
    /// Of gateways whose lease has expired.
    pub left_behind: u64,
}

/// Counts the records of a user, and erases those that were left behind unless that is not wanted.
///
/// # Errors
/// When Redis does not answer, in words.
pub async fn records_of_user(
    link: &Arc<RedisLink>,
    config: &Config,
    user_id: &str,
    dry_run: bool,
) -> Result<UserRecords, String> {
    let keys = Keys::new(&config.leases.prefix, link.is_cluster());
    let mut found = UserRecords::default();
    let (seconds, micros): (u64, u64) = ask(link, cmd("TIME")).await?;
    let now = seconds * 1000 + micros / 1000;
    let mut leases = keys.leases();
    leases.arg("WITHSCORES");
    let leases: Vec<(String, f64)> = ask(link, leases).await?;
    for (lease, expires) in leases {
        let lives = expires >= now as f64;
        let mut cursor = "0".to_owned();
        loop {
            let scan = keys.scan(&lease, &cursor, CHUNK);
            let (next, pairs): (String, Vec<(String, String)>) = ask(link, scan).await?;
            let records = pairs.iter().filter_map(|(_, json)| Record::parse(json));
            let theirs = records.filter(|record| record.user_id == user_id);
            let theirs: Vec<_> = theirs.map(|record| record.connection_id).collect();
            found.examined += pairs.len() as u64;
            if lives {
                found.open += theirs.len() as u64;
            } else {
                found.left_behind += theirs.len() as u64;
                if !dry_run && !theirs.is_empty() {
                    ask::<u64>(link, keys.forget(&lease, &theirs)).await?;
                }
            }
            if next == "0" {
                break;
            }
            cursor = next;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    Ok(found)
}

async fn ask<T: FromRedisValue>(link: &RedisLink, command: redis::Cmd) -> Result<T, String> {
    let mut answers = link
        .run_owned(vec![command], Atomicity::Each)
        .await
        .map_err(|error| error.0)?;
    let answer = answers.pop().ok_or("no answer")?.map_err(|error| error.0)?;
    redis::from_redis_value(answer).map_err(|_| "an answer of another type".to_owned())
}
