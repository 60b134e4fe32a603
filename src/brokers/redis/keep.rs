//! The task that keeps a link connected.
//!
//! Stands beside the link, which shares what it keeps; it ends when the link is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::NAME;
use super::connect::{self, Connection, Connector};
use crate::api::{Owner, Readiness};
use crate::config::Secret;
use crate::telemetry::throttle::Throttle;

/// Wait before the second try to connect.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Longest time between two signs of life.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// What a link and its task share.
pub(super) struct Kept {
    pub(super) dsn: Secret,
    pub(super) connector: Connector,
    pub(super) address: String,
    pub(super) longest: Duration,
    pub(super) readiness: Arc<Readiness>,
    pub(super) connects: IntCounter,
    pub(super) owner: Owner,
    pub(super) required: AtomicBool,
    /// The settings that name this Redis.
    pub(super) settings: Mutex<Vec<&'static str>>,
    /// The connection that all share; none while there is none.
    pub(super) shared: watch::Sender<Option<Shared>>,
    /// How often a connection was lost.
    pub(super) losses: watch::Sender<u64>,
    /// How it is, for `/ready`.
    pub(super) state: Mutex<Result<(), String>>,
}

/// The connection that all share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) connection: Connection,
    pub(super) lost: Lost,
}

/// Where whoever finds a connection lost says so.
#[derive(Debug, Clone)]
pub(super) struct Lost(mpsc::Sender<String>);

impl Lost {
    /// Reports the connection that this came with; later reports than the first change nothing.
    pub(super) fn report(&self, reason: &str) {
        let _ = self.0.try_send(reason.to_owned());
    }
}

impl Kept {
    /// Notes how it is, where there is news, and tells `/ready`.
    pub(super) fn tell(&self, news: Option<Result<(), String>>) {
        // Held while readiness is told, so that no older news overtakes.
        let mut state = self.state.lock();
        if let Some(news) = news {
            *state = news;
        }
        if self.required.load(Ordering::Relaxed) {
            self.readiness
                .set_part_by(self.owner, NAME, &self.part(), state.clone());
        }
    }

    /// Takes the link out of `/ready`.
    pub(super) fn forget(&self) {
        let _state = self.state.lock();
        if self.required.swap(false, Ordering::Relaxed) {
            self.readiness.remove_parts_of(self.owner, NAME);
        }
    }

    pub(super) fn part(&self) -> String {
        format!("{}/{}", self.address, self.connector.dsn().database)
    }

    fn setting(&self) -> String {
        self.settings.lock().join(", ")
    }
}

/// Connects, and again whenever the connection is lost.
pub(super) async fn keep_connected(kept: Arc<Kept>) {
    let [connected_lines, lost_lines, unreachable_lines] = [(); 3].map(|()| Throttle::default());
    let mut wait = FIRST_WAIT;
    // Once a server refused a write as a replica, only a primary will do.
    let mut primary = false;
    loop {
        match kept.connector.shared(primary).await {
            Ok(connection) => {
                let since = Instant::now();
                kept.connects.inc();
                let (lost, mut reports) = mpsc::channel(1);
                kept.shared.send_replace(Some(Shared {
                    connection: connection.clone(),
                    lost: Lost(lost),
                }));
                kept.tell(Some(Ok(())));
                if let Some(suppressed) = connected_lines.pass() {
                    tracing::info!(
                        event = "broker_connected",
                        broker = NAME,
                        address = kept.address,
                        suppressed
                    );
                }
                let reason = tokio::select! {
                    reason = reports.recv() => reason.unwrap_or_default(),
                    reason = watch_over(connection, kept.connector.response_timeout) => reason,
                };
                kept.shared.send_replace(None);
                kept.losses.send_modify(|losses| *losses += 1);
                primary |= reason.starts_with("READONLY");
                kept.tell(Some(Err(reason.clone())));
                if let Some(suppressed) = lost_lines.pass() {
                    tracing::warn!(
                        event = "broker_lost",
                        broker = NAME,
                        address = kept.address,
                        reason,
                        suppressed
                    );
                }
                // A connection that is lost at once, over and over, is as good as none.
                if since.elapsed() >= kept.longest {
                    wait = FIRST_WAIT;
                }
            }
            Err(error) => {
                if let Some(suppressed) = unreachable_lines.pass() {
                    tracing::warn!(
                        event = "broker_unreachable",
                        broker = NAME,
                        address = kept.address,
                        setting = kept.setting(),
                        reason = %error,
                        suppressed
                    );
                }
                kept.tell(Some(Err(error.0)));
            }
        }
        tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        wait = (wait * 2).min(kept.longest);
    }
}

/// Asks for signs of life until there is none, and says why.
async fn watch_over(mut connection: Connection, timeout: Duration) -> String {
    let interval = PING_INTERVAL.min(timeout / 2);
    loop {
        tokio::time::sleep(interval).await;
        match tokio::time::timeout(timeout, connect::ping(&mut connection)).await {
            Ok(Ok(())) => {}
            // It answers, and tells the commands themselves the same.
            Ok(Err(reason))
                if reason.starts_with("LOADING") || reason.starts_with("MASTERDOWN") => {}
            Ok(Err(reason)) => return reason,
            Err(_) => return format!("no answer for {} s", timeout.as_secs_f64()),
        }
    }
}
