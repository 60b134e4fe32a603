//! Speaks for a lost gateway: one `disconnected` for each of its connections.
//!
//! Stands between the keeper, which sees that a lease has expired, and the deliveries, like any connection.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use redis::{Cmd, FromRedisValue, Value};

use super::Charges;
use super::keys::node_of;
use super::layer::Desk;
use super::record::Record;
use crate::brokers::redis::{Atomicity, LinkError};
use crate::event::{Event, Orphan};
use crate::presence::redis::Lost;
use crate::telemetry::metrics::Metrics;

/// Records taken over in one round trip.
const CHUNK: usize = 200;

/// What speaking for others needs.
#[derive(Clone)]
pub(super) struct Speaker {
    pub(super) desk: Arc<Desk>,
    /// A reload replaces them.
    pub(super) charges: Arc<ArcSwap<Charges>>,
    pub(super) metrics: Metrics,
}

/// Why speaking was given up; someone goes on when the claim has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Interrupted {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("Redis answered: {0}")]
    Refused(String),
    #[error("the claim was not renewed in time")]
    ClaimLost,
}

impl Speaker {
    /// Declares a lease lost and speaks for its connections, unless someone else does.
    ///
    /// Ends when every event was delivered or became a dead letter.
    pub(super) async fn speak(&self, lease: Arc<str>, held: bool) -> Result<(), Interrupted> {
        let (keys, ttl) = (&self.desk.book.keys, self.desk.book.ttl);
        let me = self.desk.book.lease();
        let claim = keys.take_lease(&lease, &me, held, ttl);
        let Some(expired_at) = self.ask::<Option<f64>>(claim).await? else {
            return Ok(());
        };
        let node = node_of(&lease);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "Unix milliseconds"
        )]
        let expired_at = expired_at as u64;
        self.metrics.nodes_lost_total.inc();
        let mut count = 0_usize;
        let mut cursor = "0".to_owned();
        loop {
            let scan = keys.scan(&lease, &cursor, CHUNK);
            let (next, fields): (String, Vec<String>) = self.ask(scan).await?;
            let ids: Vec<String> = fields.into_iter().step_by(2).collect();
            for ids in ids.chunks(CHUNK) {
                let records = self.take(&lease, &me, ids).await?;
                count += self.tell(&lease, &me, expired_at, &records).await?;
                self.forget(node, &records).await;
            }
            if next == "0" {
                break;
            }
            cursor = next;
        }
        tracing::warn!(event = "node_lost", node, connections = count);
        self.forget_rest(&lease, node).await?;
        self.settled(&lease, &me).await?;
        let left: i64 = self.ask(keys.finish(&lease, &me)).await?;
        if left < 0 {
            return Err(Interrupted::ClaimLost);
        }
        Ok(())
    }

    /// Takes connections over, and prolongs the claim.
    async fn take(
        &self,
        lease: &str,
        me: &str,
        ids: &[String],
    ) -> Result<Vec<Record>, Interrupted> {
        let take = self.desk.book.keys.take(lease, me, self.desk.book.ttl, ids);
        let records: Option<Vec<String>> = self.ask(take).await?;
        let records = records.ok_or(Interrupted::ClaimLost)?;
        Ok(records
            .iter()
            .filter_map(|json| Record::parse(json))
            .collect())
    }

    /// Enqueues the events of some connections, as far as there is room; the claim is prolonged meanwhile.
    async fn tell(
        &self,
        lease: &Arc<str>,
        me: &str,
        expired_at: u64,
        records: &[Record],
    ) -> Result<usize, Interrupted> {
        let charges = self.charges.load_full();
        let enqueue = async {
            for record in records {
                let identity = record.identity_json();
                let event = Arc::new(Event::node_lost(&Orphan {
                    connection_id: record.connection_id,
                    user_id: &record.user_id,
                    identity_json: &identity,
                    gateway: lease,
                    expired_at,
                }));
                for outlet in &charges.outlets {
                    let slot = outlet.reserve(event.json.len()).await;
                    outlet.enqueue(slot, Arc::clone(&event));
                }
                self.metrics.node_lost_disconnects_total.inc();
            }
        };
        tokio::select! {
            () = enqueue => Ok(records.len()),
            error = self.keep_claim(lease, me) => Err(error),
        }
    }

    /// Waits until all events of a lost gateway were delivered or became dead letters.
    async fn settled(&self, lease: &Arc<str>, me: &str) -> Result<(), Interrupted> {
        let settled = async {
            // Each event holds the lease's name; besides them only the caller does.
            while Arc::strong_count(lease) > 1 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            () = settled => Ok(()),
            error = self.keep_claim(lease, me) => Err(error),
        }
    }

    /// Prolongs the claim until that fails.
    async fn keep_claim(&self, lease: &str, me: &str) -> Interrupted {
        loop {
            tokio::time::sleep(self.desk.book.ttl / 3).await;
            if let Err(error) = self.take(lease, me, &[]).await {
                return error;
            }
        }
    }

    async fn forget(&self, node: &str, records: &[Record]) {
        let charges = self.charges.load_full();
        let Some(presence) = &charges.presence else {
            return;
        };
        let ids: Vec<String> = records
            .iter()
            .map(|r| r.connection_id.to_string())
            .collect();
        let lost: Vec<Lost<'_>> = records
            .iter()
            .zip(&ids)
            .map(|(record, id)| Lost {
                connection_id: id,
                user_id: &record.user_id,
                subjects: &record.subjects,
            })
            .collect();
        if !lost.is_empty()
            && let Err(error) = presence.forget(node, &lost).await
        {
            tracing::warn!(event = "presence_sweep_failed", node, %error);
        }
    }

    /// Removes what presence still holds of a gateway of which no process lives.
    async fn forget_rest(&self, lease: &str, node: &str) -> Result<(), Interrupted> {
        let charges = self.charges.load_full();
        let Some(presence) = &charges.presence else {
            return Ok(());
        };
        let leases: Vec<String> = self.ask(self.desk.book.keys.leases()).await?;
        // A process that began meanwhile sweeps by itself, and knows what to keep.
        let lives = |other: &String| node_of(other) == node && other != lease;
        if !leases.iter().any(lives)
            && let Err(error) = presence.forget_all(node).await
        {
            tracing::warn!(event = "presence_sweep_failed", node, %error);
        }
        Ok(())
    }

    pub(super) async fn ask<T: FromRedisValue>(&self, command: Cmd) -> Result<T, Interrupted> {
        let mut answers = self
            .desk
            .link
            .load_full()
            .run(&[command], Atomicity::Each)
            .await?;
        let answer = answers.pop().unwrap_or(Ok(Value::Nil));
        let value = answer.map_err(|error| Interrupted::Refused(error.0))?;
        redis::from_redis_value(value)
            .map_err(|_| Interrupted::Refused("an answer of another type".to_owned()))
    }
}
