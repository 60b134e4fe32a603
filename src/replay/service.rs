//! What every replay passes, whatever it is from: rate, first results, turns, the audit log.
//!
//! Stands between the API and the stores.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use http::HeaderName;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::task::JoinSet;

use super::archive::{self, Archive};
use super::attempt::{Attempt, Caller, hex_digest};
use super::file::FileDeadLetters;
use super::idempotency::{Claim, Claimed, Idempotency};
use super::rate_limit::{Pass, RateLimit};
use super::settings::{CountStrategy, RateLimitKey, ReplayConfig};
use super::{DeadLetterStore, EndedEarly, Replayed, StoredLetter};
use crate::brokers::redis::RedisLink;
use crate::brokers::{self, Brokers, DsnError};
use crate::config::{Config, Secret};
use crate::telemetry::metrics::Metrics;

/// Time that one store may take to list its dead letters.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Wait between two tries to remember a result.
const REMEMBER_AGAIN: Duration = Duration::from_secs(1);

/// What a call does once it is its turn; not begun before.
pub type Work = Pin<Box<dyn Future<Output = Result<Replayed, EndedEarly>> + Send>>;

/// Why the replay API cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ReplaySetupError {
    /// No Redis is configured, where the strategy is `redis`.
    #[error("`{0}.strategy` is `redis`, and no Redis is configured: set `{0}.redis_dsn`")]
    NoRedis(&'static str),
    /// The DSN cannot be used.
    #[error("`{0}.redis_dsn`: {1}")]
    Dsn(&'static str, DsnError),
    /// The header's name is none.
    #[error("`replay.api.idempotency.header` is not a name an HTTP header can have")]
    Header,
}

/// What a call asks for, beside who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// How much is replayed at most.
    pub limit: usize,
    /// By what a repeated call is known, where the caller gave that.
    pub idempotency_key: Option<Vec<u8>>,
}

/// Why a call did not do what it was to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// It came too soon.
    RateLimited {
        /// Time until it may come again.
        retry_after: Duration,
    },
    /// Calls cannot be counted, or first results not looked up: it did nothing.
    Unavailable(&'static str),
    /// The store failed, perhaps half-way.
    Failed(EndedEarly),
}

/// Dead letters of all stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// The letters, oldest first.
    pub dead_letters: Vec<StoredLetter>,
    /// The stores that did not answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unavailable: Vec<&'static str>,
}

type Turns = Arc<Mutex<HashMap<&'static str, Arc<Turn<()>>>>>;

/// The replays of one gateway; those under way end when it is dropped.
pub struct Replays {
    config: ReplayConfig,
    header: HeaderName,
    stores: Vec<Arc<dyn DeadLetterStore>>,
    archive: Option<Arc<Archive>>,
    rate_limit: RateLimit,
    counted_by: RateLimitKey,
    first_results: Idempotency,
    metrics: Metrics,
    /// For each store, and the archive, the right to act on it, as two at once would take the same.
    turns: Turns,
    under_way: Arc<Mutex<JoinSet<()>>>,
}

impl Replays {
    /// Sets up replays from stores of dead letters, to which the file's is added.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When Redis is to count or remember and none can be, or a header's name is none.
    pub fn new(
        config: &Config,
        brokers: &Brokers,
        mut stores: Vec<Arc<dyn DeadLetterStore>>,
    ) -> Result<Self, ReplaySetupError> {
        let api = &config.replay.api;
        let link = |setting, strategy, own: &Secret| -> Result<Option<Arc<RedisLink>>, _> {
            if strategy != CountStrategy::Redis {
                return Ok(None);
            }
            let dsn = if own.is_empty() {
                config.redis_dsn()
            } else {
                own
            };
            if dsn.is_empty() {
                return Err(ReplaySetupError::NoRedis(setting));
            }
            let link = brokers.redis(dsn, setting);
            link.map(Some)
                .map_err(|error| ReplaySetupError::Dsn(setting, error))
        };
        let (rate, first) = (&api.rate_limit, &api.idempotency);
        let rate_link = link("replay.api.rate_limit", rate.strategy, &rate.redis_dsn)?;
        let first_link = link("replay.api.idempotency", first.strategy, &first.redis_dsn)?;
        let file = &config.events.dead_letters.file;
        if !file.path.is_empty() {
            stores.push(Arc::new(FileDeadLetters::new(&file.path, file.max_files)));
        }
        Ok(Self {
            header: HeaderName::try_from(first.header.as_str())
                .map_err(|_| ReplaySetupError::Header)?,
            stores,
            archive: None,
            rate_limit: RateLimit::new(rate, rate_link),
            counted_by: rate.key,
            first_results: Idempotency::new(first, first_link),
            metrics: brokers.metrics().clone(),
            turns: Arc::default(),
            under_way: Arc::default(),
            config: config.replay.clone(),
        })
    }

    /// Goes on where the replays of an earlier configuration are: what is under way, turns, and what is counted or
    /// remembered in memory.
    #[must_use]
    pub fn continuing(self, earlier: &Self) -> Self {
        Self {
            turns: Arc::clone(&earlier.turns),
            under_way: Arc::clone(&earlier.under_way),
            rate_limit: self.rate_limit.continuing(&earlier.rate_limit),
            first_results: self.first_results.continuing(&earlier.first_results),
            ..self
        }
    }

    /// Adds the archive, where there is one.
    #[must_use]
    pub fn with_archive(self, archive: Option<Arc<Archive>>) -> Self {
        Self { archive, ..self }
    }

    /// The key of replay calls, where it is not that of all calls.
    #[must_use]
    pub fn api_key(&self) -> Option<&Secret> {
        Some(&self.config.api.api_key).filter(|key| !key.reveal().trim().is_empty())
    }

    /// The header that bears an idempotency key, and the member of the body where there is no header; nothing when
    /// every call acts.
    #[must_use]
    pub fn idempotency_places(&self) -> Option<(&HeaderName, &str)> {
        let field = &self.config.api.idempotency.payload_field;
        let on = !matches!(self.first_results, Idempotency::Off);
        on.then_some((&self.header, field.as_str()))
    }

    /// How much one call may replay from a store of dead letters, or from the archive.
    #[must_use]
    pub fn max_batch(&self, store: &str) -> usize {
        match store {
            archive::NAME => self.config.archive.max_batch,
            brokers::redis::NAME => self.config.redis_stream.max_batch,
            _ => self.config.rabbitmq.max_batch,
        }
    }

    /// The archive, if it is configured.
    #[must_use]
    pub fn archive(&self) -> Option<&Arc<Archive>> {
        self.archive.as_ref()
    }

    /// A store of dead letters, if it is configured.
    #[must_use]
    pub fn store(&self, name: &str) -> Option<Arc<dyn DeadLetterStore>> {
        self.stores
            .iter()
            .find(|store| store.name() == name)
            .cloned()
    }

    /// Notes that a call for a store came in.
    #[must_use]
    pub fn attempt(&self, store: &'static str, caller: Caller) -> Attempt {
        Attempt::new(store, caller, self.config.api.audit_log, &self.metrics)
    }

    /// Does what a call asks for, unless it comes too soon or was done before.
    ///
    /// Gives what came of it, and whether that is an earlier call's result. The work goes on when the caller does not
    /// wait for it any more.
    ///
    /// # Errors
    /// When the call did nothing, or not all that was asked.
    pub async fn perform(
        &self,
        mut attempt: Attempt,
        call: Call,
        work: Work,
    ) -> Result<(Replayed, bool), Refusal> {
        attempt.limited_to(call.limit);
        let who = attempt.caller().counted_by(self.counted_by);
        match self.rate_limit.pass(&who).await {
            Ok(Pass::Yes) => {}
            Ok(Pass::After(retry_after)) => {
                attempt.rate_limited(retry_after);
                return Err(Refusal::RateLimited { retry_after });
            }
            Err(error) => {
                let reason = "the Redis that counts calls does not answer";
                attempt.failed(0, &format!("{reason}: {error}"));
                return Err(Refusal::Unavailable(reason));
            }
        }
        let store = attempt.store();
        let claim = match &call.idempotency_key {
            None => Claim::None,
            Some(key) => {
                // A digest: of one length, and of no character that means something in Redis.
                let key = format!("{store}:{}", hex_digest(key));
                match self.first_results.claim(&key).await {
                    Ok(Claimed::First(claim)) => claim,
                    Ok(Claimed::Earlier(result)) => {
                        attempt.idempotent(result.replayed);
                        return Ok((result, true));
                    }
                    Err(error) => {
                        let reason = "the Redis that remembers first results does not answer";
                        attempt.failed(0, &format!("{reason}: {error}"));
                        return Err(Refusal::Unavailable(reason));
                    }
                }
            }
        };
        let turn = Arc::clone(self.turns.lock().entry(store).or_default());
        let turn = turn.lock_owned().await;
        let (done, result) = oneshot::channel();
        {
            let mut under_way = self.under_way.lock();
            while under_way.try_join_next().is_some() {}
            under_way.spawn(async move {
                let result = work.await;
                drop(turn);
                match &result {
                    Ok(came) => attempt.success(came.replayed),
                    Err(error) => attempt.failed(error.came.replayed, &error.reason),
                }
                settle(claim, result, done).await;
            });
        }
        let broken = || EndedEarly {
            came: Replayed::default(),
            reason: "the replay was cut short".to_owned(),
        };
        let result = result.await.unwrap_or_else(|_| Err(broken()));
        result.map(|came| (came, false)).map_err(Refusal::Failed)
    }

    /// The stores of dead letters.
    #[must_use]
    pub fn stores(&self) -> &[Arc<dyn DeadLetterStore>] {
        &self.stores
    }

    /// Waits for what is under way, and ends it when dropped before.
    pub async fn finish(&self) {
        let mut under_way = std::mem::take(&mut *self.under_way.lock());
        while under_way.join_next().await.is_some() {}
    }

    /// The oldest dead letters of all stores together, those of one sink only if one is named.
    ///
    /// Of each store the `depth` oldest are looked at.
    pub async fn list(&self, sink: Option<&str>, limit: usize, depth: usize) -> Listed {
        let looks = self.stores.iter().map(async |store| {
            let listed = tokio::time::timeout(LIST_TIMEOUT, store.list(depth)).await;
            let reason = match listed {
                Ok(Ok(letters)) => return Ok(letters),
                Ok(Err(error)) => error.reason,
                Err(_) => "no answer in time".to_owned(),
            };
            tracing::warn!(
                event = "dead_letters_unavailable",
                store = store.name(),
                reason
            );
            Err(store.name())
        });
        let mut listed = Listed {
            dead_letters: Vec::new(),
            unavailable: Vec::new(),
        };
        for look in join_all(looks).await {
            match look {
                Ok(letters) => listed.dead_letters.extend(letters),
                Err(store) => listed.unavailable.push(store),
            }
        }
        let letters = &mut listed.dead_letters;
        letters.retain(|letter| sink.is_none_or(|sink| letter.sink.as_deref() == Some(sink)));
        // A stable sort: what a store has in order stays so within a second.
        letters.sort_by_key(|letter| letter.failed_at);
        letters.truncate(limit);
        listed
    }
}

impl std::fmt::Debug for Replays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.stores.iter().map(|store| store.name()).collect();
        f.debug_struct("Replays")
            .field("stores", &names)
            .finish_non_exhaustive()
    }
}

/// Remembers a result before it is told, so that whoever repeats the call finds it; what cannot be remembered is told
/// all the same, and tried again for as long as the claim lasts.
async fn settle(
    claim: Claim,
    result: Result<Replayed, EndedEarly>,
    done: oneshot::Sender<Result<Replayed, EndedEarly>>,
) {
    let came = result.as_ref().ok().cloned();
    let mut settled = claim.settle(came.as_ref()).await;
    // The caller may have gone.
    let _ = done.send(result);
    let trying = async {
        while settled.is_err() {
            tokio::time::sleep(REMEMBER_AGAIN).await;
            settled = claim.settle(came.as_ref()).await;
        }
    };
    let _ = tokio::time::timeout(claim.lasts(), trying).await;
    if let Err(reason) = settled {
        tracing::warn!(
            event = "replay_result_forgotten",
            reason,
            "a repeated call will act again"
        );
    }
}
