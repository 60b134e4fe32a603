//! What a worker draws from the schedule, and what its try makes of it.

use std::cmp::Reverse;
use std::sync::Arc;

use tokio::time::Instant;

use super::{Finished, NONE, Schedule};
use crate::event::Event;
use crate::sinks::{DeliveryError, Failure, Retry};

/// Bytes of JSON in one try, beyond which no further event joins it. A sink copies a batch more than once to send it, and
/// what a client library's buffers have grown to they keep: large messages must not multiply by the size of a batch.
const MAX_BATCH_BYTES: usize = 256 * 1024;

/// Events under one try, and the lanes they lead.
#[derive(Debug, Default)]
pub(in crate::sinks::delivery) struct Drawn {
    pub(in crate::sinks::delivery) events: Vec<Arc<Event>>,
    lanes: Vec<(usize, usize)>,
    version: usize,
    /// Bytes of the events' JSON.
    bytes: usize,
}

impl Drawn {
    fn clear(&mut self) {
        self.events.clear();
        self.lanes.clear();
        self.bytes = 0;
    }

    /// Whether no more fits beside what was drawn: `max` events, or as many bytes as are tried at once.
    pub(in crate::sinks::delivery) fn is_full(&self, max: usize) -> bool {
        self.events.len() >= max || self.bytes >= MAX_BATCH_BYTES
    }
}

/// An event that made a try fail; its lane is held until it is finished or backs off.
#[derive(Debug, Clone)]
pub(in crate::sinks::delivery) struct Failed {
    lane: usize,
    pub(in crate::sinks::delivery) event: Arc<Event>,
    /// Tries so far, the failed one among them.
    pub(in crate::sinks::delivery) tries: u32,
    /// The next event of its lane failed for good as well, and holds the lane on.
    followed: bool,
}

impl Schedule {
    /// Draws up to `max` events of one version that may be tried together, lane after lane, and holds their lanes; the
    /// last is the one that brings them to [`MAX_BATCH_BYTES`].
    pub(in crate::sinks::delivery) fn draw(
        &mut self,
        version: usize,
        max: usize,
        drawn: &mut Drawn,
    ) {
        drawn.clear();
        drawn.version = version;
        while !drawn.is_full(max) {
            let Some(lane) = self.queues[version].ready.pop_front() else {
                break;
            };
            let mut count = 0;
            let mut next = self.lanes[lane].head;
            while next != NONE && !drawn.is_full(max) {
                let entry = &self.entries[next];
                // The first may start, or its lane would not be ready; the others only if nothing drawn here
                // has to be finished before them.
                if count > 0 && (entry.version != version || !self.may_start(entry)) {
                    break;
                }
                drawn.events.push(Arc::clone(&entry.event));
                drawn.bytes += entry.event.json.len();
                count += 1;
                next = entry.next;
            }
            drawn.lanes.push((lane, count));
        }
    }

    /// All that was drawn is finished.
    pub(in crate::sinks::delivery) fn finish(&mut self, drawn: &mut Drawn) -> Finished {
        let mut finished = Finished::default();
        for &(lane, count) in &drawn.lanes {
            if self.pop(lane, count, &mut finished) {
                self.place(lane);
            }
        }
        drawn.clear();
        self.shrink_if_empty();
        finished
    }

    /// What was tried and did not fail is finished, up to each lane's first failure; the rest may be drawn again.
    ///
    /// Gives each failed lane's event with its place in `error.failed`, in the order of the batch. One that is never to
    /// be tried again brings those along that follow it in its lane and are not either, so that a backend that refuses
    /// everything is not asked again and again about the same events.
    pub(in crate::sinks::delivery) fn fail(
        &mut self,
        drawn: &mut Drawn,
        error: &DeliveryError,
    ) -> (Finished, Vec<(Failed, usize)>) {
        let mut finished = Finished::default();
        let mut failed = Vec::new();
        let mut untried = Vec::new();
        let mut failures = error.failed.iter().enumerate().peekable();
        let mut start = 0;
        for &(lane, count) in &drawn.lanes {
            while failures
                .next_if(|(_, failure)| failure.index < start)
                .is_some()
            {}
            let first = failures.peek().map_or(usize::MAX, |(_, f)| f.index) - start;
            let done = count.min(error.tried.saturating_sub(start)).min(first);
            let remains = self.pop(lane, done, &mut finished);
            if done == count {
                if remains {
                    self.place(lane);
                }
            } else if first == done
                && let Some((place, failure)) = failures.next()
            {
                let mut entry = self.lanes[lane].head;
                failed.push((self.failed(lane, &mut entry), place));
                let for_good = failure.retry == Retry::Never;
                for index in start + first + 1..start + count {
                    let follows = |(_, next): &(usize, &Failure)| {
                        for_good && next.index == index && next.retry == Retry::Never
                    };
                    let Some((place, _)) = failures.next_if(follows) else {
                        break;
                    };
                    if let Some((before, _)) = failed.last_mut() {
                        before.followed = true;
                    }
                    failed.push((self.failed(lane, &mut entry), place));
                }
            } else {
                untried.push(lane);
            }
            start += count;
        }
        // Those that the failure of another kept from their turn keep their place at the front.
        for lane in untried.into_iter().rev() {
            self.queues[drawn.version].ready.push_front(lane);
        }
        drawn.clear();
        self.shrink_if_empty();
        (finished, failed)
    }

    /// Notes the failure of a lane's event, and goes on to the next one.
    fn failed(&mut self, lane: usize, entry: &mut usize) -> Failed {
        let failed = &mut self.entries[*entry];
        failed.tries += 1;
        *entry = failed.next;
        Failed {
            lane,
            event: Arc::clone(&failed.event),
            tries: failed.tries,
            followed: false,
        }
    }

    /// Nothing of what was drawn was tried: it may be drawn again.
    pub(in crate::sinks::delivery) fn give_back(&mut self, drawn: &mut Drawn) {
        for &(lane, _) in drawn.lanes.iter().rev() {
            self.queues[drawn.version].ready.push_front(lane);
        }
        drawn.clear();
    }

    /// The failed event waits until `due`, and its lane with it.
    pub(in crate::sinks::delivery) fn back_off(&mut self, failed: &Failed, due: Instant) {
        self.back_offs.push(Reverse((due, failed.lane)));
    }

    /// The failed event is finished: it is a dead letter.
    pub(in crate::sinks::delivery) fn bury(&mut self, failed: &Failed) -> Finished {
        let mut finished = Finished::default();
        if self.pop(failed.lane, 1, &mut finished) && !failed.followed {
            self.place(failed.lane);
        }
        self.shrink_if_empty();
        finished
    }

    /// When the next back-off ends.
    pub(in crate::sinks::delivery) fn next_due(&self) -> Option<Instant> {
        self.back_offs.peek().map(|Reverse((due, _))| *due)
    }

    /// Makes ready what has backed off until `now`.
    pub(in crate::sinks::delivery) fn end_back_offs(&mut self, now: Instant) {
        while let Some(Reverse((due, lane))) = self.back_offs.peek().copied() {
            if due > now {
                break;
            }
            self.back_offs.pop();
            let version = self.version_of(lane);
            self.queues[version].ready.push_back(lane);
        }
    }

    /// Ends every back-off at `latest` at the latest, or those of one version.
    pub(in crate::sinks::delivery) fn cut_back_offs(
        &mut self,
        latest: Instant,
        version: Option<usize>,
    ) {
        let cut = std::mem::take(&mut self.back_offs)
            .into_iter()
            .map(|Reverse((due, lane))| {
                let cuts = version.is_none_or(|version| version == self.version_of(lane));
                Reverse((if cuts { due.min(latest) } else { due }, lane))
            })
            .collect();
        self.back_offs = cut;
    }

    /// The version of a lane's first event.
    fn version_of(&self, lane: usize) -> usize {
        self.entries[self.lanes[lane].head].version
    }
}
