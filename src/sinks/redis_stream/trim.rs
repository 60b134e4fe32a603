//! Keeps streams within `replay.retention_seconds`.
//!
//! Stands beside whatever adds to streams. `XADD` trims by length or by age, not by both: it trims by length, and
//! this task trims by age now and then, also where nothing is added any more. Redis removes whole nodes of a stream,
//! of some hundred entries, so a few older ones stay.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio_util::task::AbortOnDropHandle;

use crate::brokers::redis::{Atomicity, RedisLink};
use crate::clock::unix_now;
use crate::replay::{ReplayConfig, ReplayStrategy};

/// Longest time between two rounds.
const LONGEST: Duration = Duration::from_mins(1);

/// Partitions remembered for the next round; the others have their turn when they are written to again.
const MAX_PARTITIONS: usize = 10_000;

/// About how many entries a stream keeps, where that is bounded.
pub(crate) fn maxlen(replay: &ReplayConfig) -> Option<u64> {
    (replay.strategy != ReplayStrategy::None && replay.maxlen > 0).then_some(replay.maxlen)
}

/// For how many seconds a stream keeps entries, where that is bounded.
fn retention(replay: &ReplayConfig) -> Option<u64> {
    (replay.strategy != ReplayStrategy::None && replay.retention_seconds > 0)
        .then_some(replay.retention_seconds)
}

/// What trimming reads of a configuration.
pub(crate) fn made_of(replay: &ReplayConfig) -> impl PartialEq {
    (maxlen(replay), retention(replay))
}

/// Trims streams by age; its task ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Trimmer {
    partitions: Arc<Mutex<HashSet<String>>>,
    _task: AbortOnDropHandle<()>,
}

impl Trimmer {
    /// Starts the task, where age is bounded.
    pub(crate) fn start(
        link: &Arc<RedisLink>,
        streams: Vec<String>,
        replay: &ReplayConfig,
    ) -> Option<Self> {
        let retention_seconds = retention(replay)?;
        let partitions = Arc::new(Mutex::new(HashSet::new()));
        let task = trim(
            Arc::clone(link),
            streams,
            Arc::clone(&partitions),
            retention_seconds,
        );
        Some(Self {
            partitions,
            _task: AbortOnDropHandle::new(tokio::spawn(task)),
        })
    }

    /// Has a partition trimmed in the next round.
    pub(crate) fn note(&self, partition: &str) {
        let mut partitions = self.partitions.lock();
        if partitions.len() < MAX_PARTITIONS && !partitions.contains(partition) {
            partitions.insert(partition.to_owned());
        }
    }
}

async fn trim(
    link: Arc<RedisLink>,
    streams: Vec<String>,
    partitions: Arc<Mutex<HashSet<String>>>,
    retention_seconds: u64,
) {
    let interval =
        Duration::from_secs(retention_seconds / 10).clamp(Duration::from_secs(1), LONGEST);
    loop {
        tokio::time::sleep(interval).await;
        let oldest = unix_now().saturating_sub(retention_seconds) * 1000;
        let partitions = std::mem::take(&mut *partitions.lock());
        let commands: Vec<_> = streams
            .iter()
            .chain(&partitions)
            .map(|stream| {
                let mut command = redis::cmd("XTRIM");
                command.arg(stream).arg("MINID").arg("~").arg(oldest);
                command
            })
            .collect();
        // What fails now has its turn in the next round.
        let _ = link.run_owned(commands, Atomicity::Each).await;
    }
}
