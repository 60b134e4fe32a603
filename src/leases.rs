//! Leases: each gateway says in Redis that it lives, and the others speak for one that no longer does.
//!
//! Stands beside the data path. Every `connected` that the backend was told is followed by exactly one
//! `disconnected`, also where the gateway in between was killed: a survivor that sees its lease expire tells
//! `disconnected` (close code 1006, reason `node_lost`) for each of its connections and removes their presence.
//!
//! # Keys
//! Below `leases.prefix`; a *lease* is `{node_id}/{uuid}`, a new one for each process:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `nodes` | sorted set | leases, by when they expire in Unix milliseconds of Redis' clock |
//! | `conns:{lease}` | hash | the record of each open connection: its id, and its identity as JSON |
//! | `lost:{lease}` | set | exists for a day once a lease was declared lost; the connections that others speak for |
//! | `claim:{lease}` | string | the lease of whoever speaks for it now; expires |
//!
//! # Who speaks
//! The record is the right to tell `disconnected`, and every step that moves it is one script or one transaction:
//!
//! 1. `connected` and its record are written together, `disconnected` is written and its record removed together:
//!    in the transaction of the Redis sink where the leases are in its Redis (and that is no cluster), else around
//!    the sink, where a record is written before `connected` is tried and removed after `disconnected` was delivered.
//!    Of several sinks one does this, the primary: Redis, else `RabbitMQ`, else the webhook.
//! 2. A survivor claims the expired lease and so declares it lost; from then on its owner cannot renew it. It takes
//!    connections over: those that still have a record become members of `lost:{lease}`. A gateway that comes back
//!    after a pause tells `disconnected` only of connections that are no members, so one of both speaks and never
//!    both, whichever came first.
//! 3. The record goes when the survivor's event is delivered. If the survivor dies before, its claim expires, and
//!    another goes on with the records that are left; the events bear the same ids.
//!
//! A record is always written together with its lease's membership of `nodes`, so that none is ever left where
//! nobody looks: not if a gateway dies before its first renewal, nor if one that was declared lost admits one more
//! connection before it knows.
//!
//! # Who is lost
//! Only Redis' clock counts. A gateway judges others only after it has itself renewed without a break for the time
//! of a lease and the longest wait between two tries to connect: after an outage of Redis every lease looks expired,
//! and everyone gets the time to come back. Earlier processes of the same `server.node_id` are lost at once.
//!
//! A gateway that finds its own lease declared lost takes a new one and closes its connections with 1013, so that
//! clients come back as new connections. Redis that comes back empty is not that: no lease is declared lost there, and
//! all records are written again.
//!
//! # Reload
//! Where leases are kept cannot change while connections have records there: neither order of moving them to another
//! Redis is safe against a gateway that is killed in between. Where none were kept they can begin: the connections
//! that are open are adopted, each once its `connected` was enqueued, and their end is told by the new sinks.
//!
//! # What remains
//! A gateway that is cut off from Redis for longer than a lease, but not from its clients, is declared lost all the
//! same; messages that its clients sent meanwhile arrive after their `disconnected`. Sinks other than the primary hear
//! of a lost connection at least once: if the survivor dies after the primary was told, they may hear of it never.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use tokio_util::task::AbortOnDropHandle;

use self::book::Book;
use self::keeper::Keeper;
use self::keys::Keys;
use self::layer::{Desk, Leased, Role};
use self::ledger::LeaseLedger;
use self::speaker::Speaker;
use crate::brokers::redis::RedisLink;
use crate::brokers::{Brokers, DsnError};
use crate::clock::seconds;
use crate::config::{Config, Secret};
use crate::presence::redis::RedisPresence;
use crate::registry::Registry;
use crate::sinks::delivery::Outlet;
use crate::sinks::redis_stream::Ledger;
use crate::svc::BoxSink;
use crate::telemetry::metrics::Metrics;

mod book;
mod erase;
mod keeper;
mod keys;
mod layer;
mod ledger;
mod record;
mod speaker;

pub use self::erase::{UserRecords, records_of_user};

/// How long the end of the lease may take when the gateway stops.
const LEAVE: Duration = Duration::from_secs(2);

/// Settings of the leases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeasesConfig {
    /// Whether leases are kept, where Redis is configured. Switching them off needs a restart.
    pub enabled: bool,
    /// Where they are kept; empty: in the Redis of `events.redis_stream`, else in that of `presence`. Once they are kept, a change needs a restart.
    pub dsn: Secret,
    /// Put before the keys of leases. While they are kept, a change needs a restart.
    pub prefix: String,
    /// Seconds after which a gateway that says nothing counts as lost. While leases are kept, a change needs a restart.
    #[schemars(range(min = 1.0, max = 3600.0))]
    pub ttl_seconds: f64,
}

impl Default for LeasesConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            dsn: Secret::default(),
            prefix: "wsgw:".into(),
            ttl_seconds: 15.0,
        }
    }
}

impl LeasesConfig {
    /// Where leases are kept, and the setting that says so; none where they are not.
    pub(crate) fn place(config: &Config) -> Option<(&'static str, &Secret)> {
        if !config.leases.enabled {
            return None;
        }
        [
            ("leases.dsn", &config.leases.dsn),
            ("events.redis_stream.dsn", &config.events.redis_stream.dsn),
            ("presence.redis.dsn", &config.presence.redis.dsn),
        ]
        .into_iter()
        .find(|(_, dsn)| !dsn.is_empty())
    }
}

/// Why leases cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("`{setting}`: {reason}")]
pub struct LeasesError {
    /// The setting that is wrong.
    pub setting: &'static str,
    /// What is wrong with it.
    pub reason: DsnError,
}

/// The lease of one gateway; its tasks stop when it is dropped.
pub struct Leases {
    desk: Arc<Desk>,
    patience: Duration,
    work: Mutex<Option<Work>>,
}

/// What is done while the gateway runs.
struct Work {
    charges: Arc<ArcSwap<Charges>>,
    _keeper: AbortOnDropHandle<()>,
}

/// What leases tell of and look after.
#[derive(Debug)]
pub struct Charges {
    /// The sinks that hear of a lost gateway's connections.
    pub outlets: Vec<Outlet>,
    /// This gateway's own connections.
    pub registry: Arc<Registry>,
    /// Where presence is kept, if in Redis.
    pub presence: Option<Arc<RedisPresence>>,
}

impl Leases {
    /// The link to the Redis that leases are kept in, where they are kept.
    ///
    /// # Errors
    /// When the DSN is malformed.
    pub fn link(config: &Config, brokers: &Brokers) -> Result<Option<Arc<RedisLink>>, LeasesError> {
        let Some((setting, dsn)) = LeasesConfig::place(config) else {
            return Ok(None);
        };
        let link = brokers
            .redis(dsn, setting)
            .map_err(|reason| LeasesError { setting, reason })?;
        Ok(Some(link))
    }

    /// Makes the gateway's lease; it begins with [`Leases::start`].
    #[must_use]
    pub fn open(config: &Config, link: Arc<RedisLink>, node_id: &str) -> Arc<Self> {
        let ttl = seconds(config.leases.ttl_seconds);
        let keys = Keys::new(&config.leases.prefix, link.is_cluster());
        Arc::new(Self {
            desk: Arc::new(Desk {
                link: ArcSwap::new(link),
                book: Arc::new(Book::new(keys, node_id, ttl)),
                answers: AtomicBool::new(true),
            }),
            patience: ttl + seconds(config.brokers.redis.reconnect_max_seconds),
            work: Mutex::new(None),
        })
    }

    /// What the Redis sink writes beside its events, if it writes to the Redis of the leases.
    #[must_use]
    pub fn ledger(&self, sink: &Arc<RedisLink>) -> Option<Arc<dyn Ledger>> {
        // Scripts with keys of several hash slots do not run in a cluster.
        let same = sink.leads_where(&self.desk.link.load()) && !sink.is_cluster();
        same.then(|| Arc::new(LeaseLedger(Arc::clone(&self.desk.book))) as Arc<dyn Ledger>)
    }

    /// Stands around a sink that has no ledger. Of all sinks one is the primary, which may be one with a ledger.
    #[must_use]
    pub fn layer(&self, inner: BoxSink, primary: bool) -> BoxSink {
        let role = if primary {
            Role::Primary
        } else {
            Role::Secondary
        };
        let desk = Arc::clone(&self.desk);
        BoxSink::new(Leased { inner, desk, role })
    }

    /// Begins the lease and looks after those of others, on the runtime of the caller.
    ///
    /// `adopts` says that connections are open already, which have no record yet.
    pub fn start(&self, charges: Charges, metrics: Metrics, adopts: bool) {
        let registry = Arc::clone(&charges.registry);
        let charges = Arc::new(ArcSwap::from_pointee(charges));
        let speaker = Speaker {
            desk: Arc::clone(&self.desk),
            charges: Arc::clone(&charges),
            metrics,
        };
        let desk = Arc::clone(&self.desk);
        let keeper = Keeper::new(desk, registry, speaker, self.patience, adopts);
        *self.work.lock() = Some(Work {
            charges,
            _keeper: AbortOnDropHandle::new(tokio::spawn(keeper.run())),
        });
    }

    /// Goes on with other sinks and stores, and by a link that may be another one to the same Redis.
    pub fn change(&self, link: Arc<RedisLink>, charges: Charges) {
        self.desk.link.store(link);
        if let Some(work) = &*self.work.lock() {
            work.charges.store(Arc::new(charges));
        }
    }

    /// Ends the lease after a clean stop.
    ///
    /// Where events were lost, connections whose end was not told are left for others to tell of.
    pub async fn leave(&self, all_told: bool) {
        drop(self.work.lock().take());
        let left = tokio::time::timeout(LEAVE, keeper::leave(&self.desk, all_told)).await;
        if !matches!(left, Ok(Ok(()))) {
            tracing::warn!(event = "lease_left_behind");
        }
    }
}

impl std::fmt::Debug for Leases {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leases")
            .field("desk", &self.desk)
            .finish_non_exhaustive()
    }
}
