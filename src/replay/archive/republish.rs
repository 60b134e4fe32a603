//! Sends events of the archive to a sink again.
//!
//! Stands between the API and a sink's own service: what is replayed waits in no buffer, is tried a bounded number of
//! times, and its order is that of the archive.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::Rng as _;
use serde_json::value::RawValue;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use uuid::Uuid;

use super::database::{Connection, Database, Row, Wanted};
use super::error::DatabaseError;
use crate::event::{Event, EventKind};
use crate::replay::Replayed;
use crate::sinks::delivery::Target;
use crate::sinks::{Batch, DeliveryError, Retry};

/// Rows read in one go.
const PAGE: usize = 500;

/// Tries in a row without any progress.
const TRIES: u32 = 5;

/// Wait after a first failed try, doubled for each further one, and the longest.
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Time after which a call answers with what it has done and where to go on.
const BUDGET: Duration = Duration::from_secs(20);

/// Where a replay stands, and what it works with.
pub(super) struct Republish<'a> {
    pub(super) database: &'a Database,
    pub(super) target: Target,
    pub(super) trace_id_field: &'a str,
    pub(super) wanted: Wanted,
    pub(super) limit: usize,
    pub(super) stop: &'a CancellationToken,
    /// What it has come to; the cursor is the last event looked at, after which the next call goes on.
    pub(super) done: Replayed,
}

impl Republish<'_> {
    /// Replays until the limit, the end, or the time is up; what was done before a failure is in `done`.
    pub(super) async fn run(&mut self) -> Result<(), String> {
        let mut connection = self
            .database
            .connect()
            .await
            .map_err(|error| of_archive(&error))?;
        let replayed = self.run_on(&mut connection).await;
        connection.close().await;
        if replayed.is_err() {
            self.done.next_cursor = self.cursor();
        }
        replayed
    }

    async fn run_on(&mut self, connection: &mut Connection) -> Result<(), String> {
        let deadline = Instant::now() + BUDGET;
        loop {
            let end = self.window(connection).await?;
            let left = self.limit - self.done.replayed - self.done.refused;
            // With nothing left to do, a single row tells whether there is more.
            let limit = left.clamp(1, PAGE);
            let window = Wanted {
                until: end,
                ..self.wanted.clone()
            };
            let rows = connection
                .page(&window, i64::try_from(limit).unwrap_or(i64::MAX))
                .await
                .map_err(|error| of_archive(&error))?;
            if left == 0 && !rows.is_empty() {
                self.done.next_cursor = self.cursor();
                return Ok(());
            }
            for chunk in rows.chunks(self.target.max_batch) {
                self.send(chunk).await?;
                if Instant::now() > deadline {
                    self.done.next_cursor = self.cursor();
                    return Ok(());
                }
            }
            if rows.len() < limit {
                if end == self.wanted.until {
                    return Ok(());
                }
                self.wanted.from = end;
            }
            if Instant::now() > deadline {
                self.done.next_cursor = self.cursor();
                return Ok(());
            }
        }
    }

    /// Where the next look ends: where every row must be looked at, a part of the range, so that no query takes long.
    async fn window(&self, connection: &mut Connection) -> Result<Uuid, String> {
        let Wanted { from, until, .. } = self.wanted;
        let ahead = match self.database.scan_rows() {
            Some(rows) if !self.wanted.all() => connection
                .ahead(from, until, rows)
                .await
                .map_err(|error| of_archive(&error))?,
            _ => None,
        };
        Ok(ahead.unwrap_or(until))
    }

    /// What comes just before the next event to look at.
    fn cursor(&self) -> Option<String> {
        self.wanted
            .from
            .as_u128()
            .checked_sub(1)
            .map(|id| Uuid::from_u128(id).to_string())
    }

    /// Sends the events of some rows, in order, and notes how far it came.
    async fn send(&mut self, rows: &[Row]) -> Result<(), String> {
        let events: Vec<Arc<Event>> = rows
            .iter()
            .filter_map(|row| restore(row, self.trace_id_field).map(Arc::new))
            .collect();
        let (mut at, mut failures) = (0, 0);
        while at < events.len() {
            let batch = Batch::from(&events[at..]);
            let count = batch.len();
            let tried = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err("the gateway stops".to_owned()),
                tried = self.target.sink.clone().oneshot(batch) => tried,
            };
            let settled = match tried {
                Ok(()) => Settled {
                    events: count,
                    ..Settled::default()
                },
                Err(error) => settle(&error, count),
            };
            at += settled.events;
            self.done.replayed += settled.events - settled.refused;
            self.done.refused += settled.refused;
            if settled.events > 0 {
                self.wanted.from = after(events[at - 1].id);
                failures = 0;
            }
            let Some((reason, retry)) = settled.failed else {
                continue;
            };
            failures += 1;
            let Some(wait) = wait(failures, retry) else {
                return Err(format!("{}: {reason}", self.target.name));
            };
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.done.refused += rows.len() - events.len();
        if let Some((id, _)) = rows.last() {
            self.wanted.from = after(*id);
        }
        Ok(())
    }
}

fn of_archive(error: &DatabaseError) -> String {
    format!("the archive: {error}")
}

/// The id that comes next to one.
pub(super) fn after(id: Uuid) -> Uuid {
    Uuid::from_u128(id.as_u128().saturating_add(1))
}

/// What a try came to, for the events from its start that need no other try.
#[derive(Debug, Default)]
struct Settled {
    events: usize,
    refused: usize,
    /// Why the next event needs another try, and when.
    failed: Option<(Arc<str>, Retry)>,
}

fn settle(error: &DeliveryError, count: usize) -> Settled {
    let again = error
        .failed
        .iter()
        .find(|failure| failure.retry != Retry::Never);
    let events = again.map_or(error.tried.min(count), |failure| failure.index);
    let refused = error
        .failed
        .iter()
        .filter(|failure| failure.index < events)
        .count();
    let failed = match again {
        Some(failure) => Some((Arc::clone(&failure.reason), failure.retry)),
        None if events == 0 => Some(("the sink tried nothing".into(), Retry::Backoff)),
        None => None,
    };
    Settled {
        events,
        refused,
        failed,
    }
}

/// The wait after so many failures in a row, or nothing when there is to be no further try.
fn wait(failures: u32, retry: Retry) -> Option<Duration> {
    if failures >= TRIES {
        return None;
    }
    let full = FIRST_WAIT
        .saturating_mul(1 << failures.min(16))
        .min(LONGEST_WAIT);
    let jittered = full.mul_f64(rand::rng().random_range(0.5..1.0));
    match retry {
        // Whoever asks for longer than a call may last is not tried again within this call.
        Retry::After(asked) if asked > LONGEST_WAIT => None,
        Retry::After(asked) => Some(asked.max(jittered)),
        Retry::Backoff | Retry::Never => Some(jittered),
    }
}

/// Makes an event of what the archive holds; none if that is no event.
fn restore((id, json): &Row, trace_id_field: &str) -> Option<Event> {
    let members: HashMap<&str, &RawValue> = serde_json::from_str(json).ok()?;
    let text = |name: &str| -> Option<String> {
        let raw = members.get(name)?;
        serde_json::from_str(raw.get()).ok()
    };
    let kind = EventKind::from_name(&text("type")?)?;
    Some(Event {
        spoken_for: None,
        receipt: None,
        span: None,
        id: *id,
        kind,
        connection_id: Uuid::parse_str(&text("connection_id")?).ok()?,
        user_id: text("user_id")?.into(),
        seq: members.get("seq")?.get().parse().ok()?,
        ordering_key: text("ordering_key").map(Arc::from),
        traceparent: text("traceparent").map(Arc::from),
        trace_id: text(trace_id_field).map(Arc::from),
        replayed: true,
        json: Bytes::copy_from_slice(json.as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{FieldSet, Message, Ordering};
    use crate::session::Session;
    use crate::sinks::Failure;

    #[test]
    fn an_event_comes_back_as_it_went() {
        let session = Session::for_tests("4\"2", &["user:42"]);
        let mut message = Message::text("{\"type\":\"chat\",\"n\":1.0}", &FieldSet::default());
        message.ordering = Some(Ordering {
            key: "room:\u{e9}".into(),
            strategy: "topic",
        });
        message.trace.traceparent = Some("00-ab-cd-01".into());
        message.trace.trace_id = Some("ab".into());
        let event = Event::new(&session, &message, "trace");
        let row = (event.id, String::from_utf8(event.json.to_vec()).unwrap());
        let back = restore(&row, "trace").unwrap();
        assert!(back.replayed);
        let again = Event {
            replayed: false,
            ..back
        };
        assert_eq!(format!("{again:?}"), format!("{event:?}"));
        assert!(restore(&(event.id, "{}".into()), "trace").is_none());
    }

    fn failure(index: usize, retry: Retry) -> Failure {
        Failure::new(index, "HTTP 400", retry)
    }

    #[test]
    fn refused_events_are_passed_over_and_others_are_tried_again() {
        let settled = |failed, tried| {
            let settled = settle(&DeliveryError { failed, tried }, 4);
            (settled.events, settled.refused, settled.failed.is_some())
        };
        let (never, later) = (Retry::Never, Retry::Backoff);
        assert_eq!(settled(vec![failure(1, never)], 4), (4, 1, false));
        assert_eq!(settled(vec![failure(1, never)], 2), (2, 1, false));
        assert_eq!(settled(vec![failure(2, later)], 4), (2, 0, true));
        let both = vec![failure(0, never), failure(2, later), failure(3, never)];
        assert_eq!(settled(both, 4), (2, 1, true));
        assert_eq!(settled(vec![], 0), (0, 0, true));
    }

    #[test]
    fn tries_end() {
        assert!(wait(TRIES - 1, Retry::Backoff).is_some());
        assert!(wait(TRIES, Retry::Backoff).is_none());
        assert!(wait(1, Retry::After(Duration::from_mins(1))).is_none());
    }
}
