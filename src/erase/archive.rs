//! Erases events from the archive.
//!
//! Stands between the whole and `replay::archive`, which knows the database.

use futures_util::future::{BoxFuture, FutureExt as _};

use super::stores::Search;
use super::{Finding, Task, Verdict};
use crate::clock::unix_now;
use crate::replay::ReplayConfig;
use crate::replay::archive::{ArchiveError, Eraser};

/// How far before the search began events may have been made that are written after it, in seconds: they wait in a
/// gateway's buffer while the database is away.
const LATE: u64 = 3600;

/// The archive of a configuration; there need not be one.
pub(super) struct ArchiveSearch {
    eraser: Eraser,
    began: u64,
    finding: Finding,
}

impl ArchiveSearch {
    pub(super) fn new(config: &ReplayConfig) -> Result<Self, ArchiveError> {
        let eraser = Eraser::of(&config.archive)?;
        let (name, place) = eraser.place();
        Ok(Self {
            finding: Finding::of("archive", name, place),
            began: unix_now(),
            eraser,
        })
    }

    async fn search(&mut self, task: Task<'_>) -> Result<(), String> {
        let words = |error: ArchiveError| error.to_string();
        if !self.eraser.open().await.map_err(words)? {
            return Ok(());
        }
        self.finding.exists = true;
        let since = if task.late {
            self.began.saturating_sub(LATE) * 1000
        } else {
            0
        };
        let finding = &mut self.finding;
        let judge = |event: &str| {
            // Its column says that it is the user's; only of a hash may that be said of two users.
            let theirs = !matches!(task.person.judge(event.as_bytes()), Verdict::Others);
            let verdict = if theirs {
                Verdict::Theirs { shared: false }
            } else {
                Verdict::Others
            };
            finding.judge(verdict, task.late);
            if theirs && !task.dry_run {
                finding.erased += 1;
            }
            (task.tell)(finding);
            theirs
        };
        let id = task.person.id();
        let erased = self.eraser.erase(id, since, task.dry_run, judge).await;
        self.eraser.close().await;
        erased.map_err(words)
    }
}

impl Search for ArchiveSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        self.search(task).boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }
}
