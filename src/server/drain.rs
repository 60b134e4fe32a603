//! Stopping: clients are sent away one after the other, the backend is told of each, and what is buffered is delivered.
//!
//! Stands at the end of the whole data path, and ends it from the clients' side to the sinks'. Every wait has a bound, so
//! that the process ends in time whatever clients, backend and brokers do:
//!
//! | step | lasts at most |
//! |---|---|
//! | clients are told when to reconnect, and closed | `server.drain_seconds` |
//! | they answer the close; what sources have read is handed over | 6 s |
//! | what is buffered is delivered | `server.drain_seconds` from the last close on, but at least 1 s after the step before |
//! | what is left becomes dead letters | 5.5 s |
//! | presence is removed, the archive closed, the lease ended, the last spans exported | 2 s |
//!
//! Together that is no more than `drain_seconds` + the greater of `drain_seconds` and 7 s + 8 s.
//!
//! # When clients reconnect
//! A client that is closed when `rest` of the drain is left is told a random time between 1 ms and `rest` +
//! `server.reconnect_spread_seconds`. So all come back between their close and the spread's end: for n clients, a drain of
//! D and a spread of S, at no more than n/D · ln(1 + D/S) a second.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::Gateway;
use crate::api::Phase;
use crate::clock::seconds;
use crate::close::Close;
use crate::session::Session;
use crate::sinks::dead_letter::DeadLetterCount;
use crate::sinks::delivery::drain::DEAD_LETTER_GRACE;

/// How long connections may take to end once they are closed: what a client that ignores the close frame is given, and
/// a little more.
const CLOSE_GRACE: Duration = Duration::from_secs(6);

/// Time to deliver the last events at least, also where `server.drain_seconds` is shorter than closing took.
const MIN_FLUSH: Duration = Duration::from_secs(1);

/// Time for connections that waited for room in a buffer to hand over their last events once it has drained.
const LATE: Duration = Duration::from_millis(500);

/// How long the archive, the removal of presence and the export of the last spans may take.
const LEAVE_GRACE: Duration = Duration::from_secs(2);

/// Whether the gateway stops, and how far it is.
#[derive(Debug, Default)]
pub(super) struct Drain {
    begun: OnceLock<Begun>,
    over: AtomicBool,
}

#[derive(Debug)]
struct Begun {
    /// When the last client is closed.
    ends: Instant,
    spread: Duration,
}

impl Drain {
    /// Whether no more connections are taken.
    pub(super) fn has_begun(&self) -> bool {
        self.begun.get().is_some()
    }

    /// Whether even a handshake that was under way when the drain began comes too late.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// How a connection is to be closed now; none unless the gateway stops.
    pub(super) fn close(&self) -> Option<Close> {
        let Begun { ends, spread } = self.begun.get()?;
        let rest = ends.saturating_duration_since(Instant::now());
        Some(Close::stopping(reconnect_after_ms(
            rest,
            *spread,
            rand::random(),
        )))
    }
}

/// When a client is to reconnect: `random` is from 0 to 1, and no spread means that it is not told.
fn reconnect_after_ms(rest: Duration, spread: Duration, random: f64) -> Option<NonZeroU32> {
    if spread.is_zero() {
        return None;
    }
    let after = (rest + spread).mul_f64(random);
    let ms = u32::try_from(after.as_millis()).unwrap_or(u32::MAX);
    NonZeroU32::new(ms.max(1))
}

/// What became of events while the gateway stopped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Delivered while stopping.
    pub delivered: u64,
    /// Kept by the dead-letter target.
    pub dead_lettered: u64,
    /// Kept nowhere.
    pub lost: u64,
}

impl Gateway {
    /// Stops: turns unready, closes the clients with 1001 spread over the drain time, tells the backend of each,
    /// delivers what is buffered, and hands the rest to the dead letters.
    pub async fn stop(self) -> Stopped {
        let (drain, spread) = {
            let server = &self.state.current.load().config.server;
            (
                seconds(server.drain_seconds),
                seconds(server.reconnect_spread_seconds),
            )
        };
        let before = self.totals();
        let ends = Instant::now() + drain;
        self.readiness.set_phase(Phase::Draining);
        // Set once: who stops a gateway consumes it.
        let _ = self.state.drain.begun.set(Begun { ends, spread });
        self.state.tasks.close();
        if let Some(archive) = &self.archive {
            archive.stop_replay();
        }
        self.close_clients(drain).await;
        let closed = Instant::now();
        // Sources read on until now, for the clients that were still there. Connections that wait for room in a full
        // buffer end only as that drains.
        let _ = tokio::join!(
            timeout(CLOSE_GRACE, self.sources.stop()),
            timeout(CLOSE_GRACE, self.state.tasks.wait()),
        );
        self.state.drain.over.store(true, Ordering::Relaxed);
        self.flush((closed + drain).max(Instant::now() + MIN_FLUSH))
            .await;
        let after = self.totals();
        let stopped = Stopped {
            delivered: after.delivered.saturating_sub(before.delivered),
            dead_lettered: after.dead_lettered.saturating_sub(before.dead_lettered),
            lost: after.lost.saturating_sub(before.lost),
        };
        self.leave(stopped.lost == 0).await;
        self.listening.cancel();
        stopped
    }

    /// Closes the clients, spread over the drain; sooner done if they all leave by themselves.
    async fn close_clients(&self, drain: Duration) {
        let sessions = self.state.registry.all();
        let started = Instant::now();
        let count = u32::try_from(sessions.len()).unwrap_or(u32::MAX).max(1);
        tracing::info!(event = "draining", connections = sessions.len());
        let close = |session: &Session| {
            if let Some(close) = self.state.drain.close() {
                session.outbox().close(close);
            }
        };
        let closing = async {
            for (at, session) in (0_u32..).zip(sessions) {
                sleep_until(started + drain * at / count).await;
                close(&session);
            }
        };
        tokio::select! {
            () = closing => {}
            () = self.state.tasks.wait() => {}
        }
        // A handshake that was under way when the list was made.
        for session in self.state.registry.all() {
            close(&session);
        }
    }

    /// Delivers what is buffered until the deadline, makes dead letters of the rest, and waits for replays.
    async fn flush(&self, deadline: Instant) {
        let deliveries = self.deliveries();
        let drain_all = || join_all(deliveries.iter().map(|d| d.drain(deadline)));
        let flushed = async {
            drain_all().await;
            // What waited for room has got it by now, and its events follow.
            self.state.tasks.wait().await;
            drain_all().await;
        };
        let latest = deadline + DEAD_LETTER_GRACE + LATE;
        let replays = Arc::clone(&self.state.in_force.load().replays);
        let _ = tokio::join!(
            timeout_at(latest, flushed),
            timeout_at(latest, replays.finish())
        );
    }

    /// Leaves what is shared with other gateways.
    async fn leave(&self, all_told: bool) {
        let presence = Arc::clone(&self.state.in_force.load().presence);
        let archive = async {
            if let Some(archive) = &self.archive {
                archive.close().await;
            }
        };
        let leases = async {
            if let Some(leases) = self.leases() {
                leases.leave(all_told).await;
            }
        };
        let _ = tokio::join!(
            timeout(LEAVE_GRACE, presence.flush()),
            timeout(LEAVE_GRACE, archive),
            leases,
            self.foundation.traces.stop(LEAVE_GRACE),
        );
    }

    /// What became of all events so far.
    fn totals(&self) -> Stopped {
        let metrics = &self.state.metrics;
        let mut totals = Stopped::default();
        for delivery in self.deliveries() {
            let sink = delivery.name();
            let (kept, lost) = DeadLetterCount::of_sink(sink, metrics).totals();
            totals.delivered += metrics
                .sink_delivered_total
                .with_label_values(&[sink])
                .get();
            totals.dead_lettered += kept;
            totals.lost += lost;
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_come_back_between_their_close_and_the_end_of_the_spread() {
        let ms = |rest: f64, spread: f64, random: f64| {
            let after = reconnect_after_ms(seconds(rest), seconds(spread), random);
            after.map(NonZeroU32::get)
        };
        assert_eq!(ms(10.0, 5.0, 0.0), Some(1), "0 would be taken for no delay");
        assert_eq!(ms(10.0, 5.0, 0.5), Some(7_500));
        assert_eq!(ms(10.0, 5.0, 1.0), Some(15_000));
        assert_eq!(ms(0.0, 5.0, 0.5), Some(2_500));
        assert_eq!(ms(3600.0, 3600.0, 1.0), Some(7_200_000));
        assert_eq!(ms(10.0, 0.0, 0.5), None);
    }

    #[test]
    fn nobody_is_closed_before_the_drain() {
        let drain = Drain::default();
        assert!(!drain.has_begun() && drain.close().is_none());
    }
}
