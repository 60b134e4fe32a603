//! The events of one version: which of its lanes may be tried, how many workers do so, and when it is to end.
//!
//! Stands beside the lanes, which run through all versions: a lane is in the queue of its first event's version.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Schedule;
use crate::sinks::delivery::version::{Line, Version};

/// What a delivery holds of one version.
pub(in crate::sinks::delivery) struct Queue {
    pub(in crate::sinks::delivery) line: Arc<Line>,
    /// Those who may still enqueue for it.
    pub(in crate::sinks::delivery) handle: Weak<Version>,
    pub(in crate::sinks::delivery) workers: usize,
    /// Where it is retired: when what is left becomes dead letters.
    pub(in crate::sinks::delivery) deadline: Option<Instant>,
    /// The deadline has passed.
    pub(in crate::sinks::delivery) expired: bool,
    /// Tries under way are given up.
    pub(in crate::sinks::delivery) halt: CancellationToken,
    pub(super) ready: VecDeque<usize>,
    pub(super) unfinished: usize,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("ready", &self.ready)
            .field("unfinished", &self.unfinished)
            .finish_non_exhaustive()
    }
}

impl Schedule {
    /// Adds a version, made for the place that it gets.
    pub(in crate::sinks::delivery) fn add(
        &mut self,
        halt: CancellationToken,
        make: impl FnOnce(usize) -> Arc<Version>,
    ) -> Arc<Version> {
        let vacant = self.queues.vacant_entry();
        let version = make(vacant.key());
        vacant.insert(Queue {
            line: Arc::clone(&version.line),
            handle: Arc::downgrade(&version),
            workers: 0,
            deadline: None,
            expired: false,
            halt,
            ready: VecDeque::new(),
            unfinished: 0,
        });
        version
    }

    /// What holds a version that is not finished: as it is, or made anew.
    pub(in crate::sinks::delivery) fn hold(
        &mut self,
        line: &Arc<Line>,
        make: impl FnOnce() -> Arc<Version>,
    ) -> Option<Arc<Version>> {
        let queue = self.queues.get_mut(line.index)?;
        if !Arc::ptr_eq(&queue.line, line) {
            return None;
        }
        Some(queue.handle.upgrade().unwrap_or_else(|| {
            let version = make();
            queue.handle = Arc::downgrade(&version);
            version
        }))
    }

    /// Whether the version is the newest one.
    pub(in crate::sinks::delivery) fn is_current(&self, version: usize) -> bool {
        self.current == Some(version)
    }

    /// Nobody holds the version any more, unless someone found it again meanwhile.
    pub(in crate::sinks::delivery) fn let_go(&mut self, version: usize) {
        let done = self.queues.get(version).is_some_and(|queue| {
            queue.handle.strong_count() == 0 && queue.unfinished == 0 && queue.workers == 0
        });
        if done {
            self.queues.remove(version);
            if self.current == Some(version) {
                self.current = None;
            }
        }
    }

    /// A worker of the version is gone.
    pub(in crate::sinks::delivery) fn leave(&mut self, version: usize) {
        self.queues[version].workers -= 1;
        self.let_go(version);
    }

    /// The first version with something to try and fewer workers than it may have.
    pub(in crate::sinks::delivery) fn short_of_workers(
        &mut self,
        concurrency: usize,
    ) -> Option<&mut Queue> {
        self.queues
            .iter_mut()
            .map(|(_, queue)| queue)
            .find(|queue| queue.workers < concurrency && !queue.ready.is_empty())
    }

    /// The version is the newest one, and does not end; `halt` is for its tries from now on.
    pub(in crate::sinks::delivery) fn activate(&mut self, version: usize, halt: CancellationToken) {
        self.current = Some(version);
        let queue = &mut self.queues[version];
        queue.deadline = None;
        if std::mem::take(&mut queue.expired) {
            queue.halt = halt;
        }
    }

    /// The version ends at the deadline, or at an earlier one that it has; until then its back-offs last until
    /// `latest` at most.
    pub(in crate::sinks::delivery) fn retire(
        &mut self,
        version: usize,
        deadline: Instant,
        latest: Instant,
    ) {
        if self.current == Some(version) {
            self.current = None;
        }
        let queue = &mut self.queues[version];
        let earlier = queue.deadline.map_or(deadline, |other| other.min(deadline));
        queue.deadline = Some(earlier);
        self.cut_back_offs(latest, Some(version));
    }

    /// Ends the versions whose deadline has passed: whatever is left of them is ready, to become dead letters.
    pub(in crate::sinks::delivery) fn expire(&mut self, now: Instant) {
        let mut due = Vec::new();
        for (index, queue) in &mut self.queues {
            if !queue.expired && queue.deadline.is_some_and(|deadline| deadline <= now) {
                queue.expired = true;
                queue.halt.cancel();
                due.push(index);
            }
        }
        for version in due {
            self.cut_back_offs(now, Some(version));
        }
    }

    /// When the next version is to end.
    pub(in crate::sinks::delivery) fn next_end(&self) -> Option<Instant> {
        let running = self.queues.iter().filter(|(_, queue)| !queue.expired);
        running.filter_map(|(_, queue)| queue.deadline).min()
    }
}
