//! Presence in Redis, where the API of every gateway and the backend itself see the clients of all.
//!
//! Stands beside the data path. A connection's task only leaves a note; the keeper, one task, brings Redis to what
//! the notes say, many commands in one round trip. The API lists straight from Redis.
//!
//! # Keys
//! Below `presence.redis.prefix`:
//!
//! | key | type | holds |
//! |---|---|---|
//! | `conn:{connection_id}` | hash | `connection_id`, `user_id`, `subjects` (JSON), `connected_at`, `last_seen_at` |
//! | `user:{user_id}`, `subject:{subject}` | set | connection ids |
//! | `node:{node_id}` | sorted set, one score | one gateway's connection ids, in their order |
//! | `nodes` | sorted set, one score | the gateways that have connections |
//!
//! The last two are the gateway's own: they make an ordered list of everything possible, and they say what a gateway
//! that crashed has left behind. There is one index a gateway, not one for all, so that it expires with its gateway
//! and in a cluster does not make one server bear every connection.
//!
//! # Life
//! Every write of a connection writes all of it again, so that whatever was lost in between (an eviction, a
//! failover, an entry that expired while the process was paused) is whole again after the next one. Members leave a
//! set by `SREM` only: the set goes with its last member. Where entries expire, sets do too, and each write of a
//! member prolongs them, so a set lives at least as long as its youngest member; members whose entry has expired are
//! removed by whoever finds them in a list.
//!
//! A reload that changes anything of presence begins with another keeper, which adopts the connections that are open.
//! Where the keys are the same, it writes them again by its own rules; else the old ones are removed.
//!
//! After a lost connection, and where the index does not hold what it should (Redis came back empty, say), the
//! keeper removes what the index has too much and writes every connection again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Value};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use self::keeper::Keeper;
use self::keys::{Keys, Life, Place, add};
use self::notes::Notes;
use super::{Page, Presence, Query, Sign};
use crate::brokers::redis::{Atomicity, LinkError, RedisLink};
use crate::clock::unix_now;
use crate::config::{PresenceConfig, PresenceStrategy};
use crate::registry::Registry;
use crate::session::Session;
use crate::svc::BoxError;

mod erase;
mod keeper;
mod keys;
mod list;
mod notes;
mod sweep;
mod wheel;

/// Wait between two tries to remove entries.
const REMOVE_AGAIN: Duration = Duration::from_secs(1);

/// Presence in Redis; its task stops when it is dropped.
pub struct RedisPresence {
    store: Store,
    notes: Arc<Notes>,
    rules: Rules,
    keeper: Mutex<Option<AbortOnDropHandle<()>>>,
}

/// The connections' keys in one Redis.
#[derive(Debug, Clone)]
struct Store {
    link: Arc<RedisLink>,
    keys: Keys,
    /// Whether entries go away by themselves.
    expires: bool,
}

/// When entries expire and are written again, in milliseconds since `start`.
#[derive(Debug, Clone, Copy)]
struct Rules {
    start: Instant,
    strategy: PresenceStrategy,
    refresh_on_message: bool,
    /// Time an entry lives.
    life: u64,
    /// Shortest time between two writes of one connection.
    interval: u64,
}

/// What is kept of a connection, with its session.
#[derive(Debug, Default)]
struct Mark {
    written: AtomicU64,
    beat: AtomicU64,
    look_asked: AtomicBool,
}

/// A connection of a lost gateway.
#[derive(Debug, Clone, Copy)]
pub struct Lost<'a> {
    /// Its id.
    pub connection_id: &'a str,
    /// Its user's id.
    pub user_id: &'a str,
    /// The subjects it listened to.
    pub subjects: &'a [String],
}

/// Why Redis does not hold what it should.
#[derive(Debug, thiserror::Error)]
enum StoreError {
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("Redis answered: {0}")]
    Refused(String),
}

impl RedisPresence {
    /// Makes a store that keeps nothing before [`RedisPresence::start`].
    ///
    /// `epoch` is when the process began: connections keep times since then over a reload.
    #[must_use]
    pub fn new(link: Arc<RedisLink>, config: &PresenceConfig, epoch: Instant) -> Arc<Self> {
        Arc::new(Self {
            store: Store {
                link,
                keys: Keys::new(&config.redis.prefix),
                expires: config.strategy != PresenceStrategy::Session,
            },
            notes: Arc::default(),
            rules: Rules::new(config, epoch),
            keeper: Mutex::default(),
        })
    }

    /// Starts to keep presence, on the runtime of the caller: of connections that are open already, and of those to
    /// come. Entries that an earlier process of this gateway left behind are removed.
    pub fn start(&self, node_id: &str, registry: Arc<Registry>) {
        let (store, notes) = (self.store.clone(), Arc::clone(&self.notes));
        let keeper = Keeper::new(store, node_id, registry, notes, self.rules);
        *self.keeper.lock() = Some(AbortOnDropHandle::new(tokio::spawn(keeper.run())));
    }

    /// Ends keeping presence; entries stay as they are.
    pub fn end(&self) {
        drop(self.keeper.lock().take());
    }

    /// Whether both keep the same entries.
    #[must_use]
    pub fn is_in_place_of(&self, other: &Self) -> bool {
        let (own, other) = (&self.store, &other.store);
        own.link.leads_where(&other.link) && own.keys == other.keys
    }

    /// Removes all entries of this gateway, once Redis answers.
    pub async fn remove(&self, node_id: &str) {
        loop {
            self.store.link.connected().await;
            match self.forget_all(node_id).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(event = "presence_write_failed", %error),
            }
            tokio::time::sleep(REMOVE_AGAIN).await;
        }
    }

    /// Removes connections of another gateway, which no longer lives.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn forget(&self, node_id: &str, lost: &[Lost<'_>]) -> Result<(), BoxError> {
        let keys = &self.store.keys;
        let mut commands = Vec::new();
        for connection in lost {
            let place = Place {
                id: connection.connection_id,
                user_id: connection.user_id,
                subjects: connection.subjects,
            };
            keys.remove(&place, &mut commands);
        }
        let ids: Vec<&str> = lost.iter().map(|lost| lost.connection_id).collect();
        if !ids.is_empty() {
            commands.push(add("ZREM", &keys.node(node_id), ids));
        }
        self.store.run(&commands).await?;
        Ok(())
    }

    /// Removes whatever another gateway has left behind, of which no process lives.
    ///
    /// # Errors
    /// When Redis does not answer.
    pub async fn forget_all(&self, node_id: &str) -> Result<(), BoxError> {
        Ok(self.store.sweep(node_id, |_| false).await?)
    }
}

impl Presence for RedisPresence {
    fn connected(&self, session: &Arc<Session>) {
        let now = self.rules.now();
        let mark = mark(session);
        mark.beat.store(now, Ordering::Relaxed);
        mark.written.store(now, Ordering::Relaxed);
        self.notes.write(session.id());
    }

    fn heard(&self, session: &Arc<Session>, sign: Sign) {
        let Rules {
            strategy, interval, ..
        } = self.rules;
        let wanted = match strategy {
            PresenceStrategy::Ttl => self.rules.refresh_on_message,
            PresenceStrategy::Heartbeat => sign == Sign::Beat,
            PresenceStrategy::Session | PresenceStrategy::None => false,
        };
        if sign == Sign::Beat {
            session.beat(unix_now());
        }
        if !wanted {
            return;
        }
        let (now, mark) = (self.rules.now(), mark(session));
        mark.beat.store(now, Ordering::Relaxed);
        if now >= mark.written.load(Ordering::Relaxed) + interval {
            mark.written.store(now, Ordering::Relaxed);
            self.notes.write(session.id());
        } else if strategy == PresenceStrategy::Heartbeat
            && !mark.look_asked.swap(true, Ordering::Relaxed)
        {
            // The beat counts from when it came, but is written with those that follow soon.
            self.notes.look(session.id());
        }
    }

    fn disconnected(&self, session: &Arc<Session>) {
        self.notes.gone(session);
    }

    fn flush(&self) -> BoxFuture<'_, ()> {
        self.notes.settled().boxed()
    }

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BoxError>> {
        async move { Ok(self.store.page(&query).await?) }.boxed()
    }
}

impl std::fmt::Debug for RedisPresence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RedisPresence")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

fn mark(session: &Session) -> Arc<Mark> {
    session.keep(Mark::default)
}

/// The turn of a connection among those that were written together, from 0 to 1: always the same.
fn jitter(id: Uuid) -> f64 {
    let bits = id.as_u128() & u128::from(u16::MAX);
    bits as f64 / f64::from(u16::MAX)
}

impl Rules {
    fn new(config: &PresenceConfig, epoch: Instant) -> Self {
        let (life, interval) = match config.strategy {
            PresenceStrategy::Heartbeat => {
                let life = 1000 * (config.heartbeat_seconds + config.grace_seconds);
                (life, life / 20)
            }
            _ => (1000 * config.ttl_seconds, 1000 * config.ttl_seconds / 3),
        };
        Self {
            start: epoch,
            strategy: config.strategy,
            refresh_on_message: config.refresh_on_message,
            life,
            interval,
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn instant(&self, at: u64) -> Instant {
        self.start + Duration::from_millis(at)
    }

    /// How late a look may be.
    fn granule(&self) -> u64 {
        (self.life / 100).clamp(10, 1000)
    }

    /// Whether the client let its time for a heartbeat pass.
    fn is_overdue(&self, mark: &Mark, now: u64) -> bool {
        self.strategy == PresenceStrategy::Heartbeat
            && mark.beat.load(Ordering::Relaxed) + self.life <= now
    }

    /// When to look at a connection that was just written.
    ///
    /// With `ttl` a refresh follows after a third of the life at the earliest, by a message, and after half of it at
    /// the latest, so that connections that came together spread out.
    fn next_look(&self, id: Uuid, mark: &Mark) -> Option<u64> {
        let written = mark.written.load(Ordering::Relaxed);
        let beat = mark.beat.load(Ordering::Relaxed);
        match self.strategy {
            PresenceStrategy::Ttl => {
                let late = jitter(id) * 0.5 * self.interval as f64;
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a part of the interval"
                )]
                Some(written + self.interval + late as u64)
            }
            PresenceStrategy::Heartbeat if beat > written => Some(written + self.interval),
            PresenceStrategy::Heartbeat => Some(beat + self.life),
            PresenceStrategy::Session | PresenceStrategy::None => None,
        }
    }

    /// How long what is written now may live.
    fn life(&self, mark: &Mark, now: u64) -> Life {
        let whole = Duration::from_millis(self.life);
        match self.strategy {
            PresenceStrategy::Heartbeat => Life {
                // Counted from the beat, however long Redis was away meanwhile.
                entry: Some(Duration::from_millis(
                    (mark.beat.load(Ordering::Relaxed) + self.life).saturating_sub(now),
                )),
                sets: Some(whole),
            },
            PresenceStrategy::Ttl => Life {
                entry: Some(whole),
                sets: Some(whole),
            },
            PresenceStrategy::Session | PresenceStrategy::None => Life {
                entry: None,
                sets: None,
            },
        }
    }
}

impl Store {
    /// Runs commands of which none may fail but for a key that someone else uses for something else.
    async fn run(&self, commands: &[Cmd]) -> Result<Vec<Value>, StoreError> {
        let answers = self.link.run(commands, Atomicity::Each).await?;
        let mut values = Vec::with_capacity(answers.len());
        for answer in answers {
            values.push(match answer {
                Ok(value) => value,
                // Trying again would hold up all the others for ever.
                Err(error) if error.0.starts_with("WRONGTYPE") => {
                    tracing::warn!(event = "presence_write_failed", %error);
                    Value::Nil
                }
                Err(error) => return Err(StoreError::Refused(error.0)),
            });
        }
        Ok(values)
    }

    /// Runs commands whose answers are all of one type.
    async fn ask<T: FromRedisValue>(&self, commands: &[Cmd]) -> Result<Vec<T>, StoreError> {
        let parsed = |value| {
            redis::from_redis_value(value)
                .map_err(|_| StoreError::Refused("an answer of another type".to_owned()))
        };
        self.run(commands).await?.into_iter().map(parsed).collect()
    }

    /// Runs one command.
    async fn ask_one<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let mut answers = self.ask(&[command]).await?;
        answers
            .pop()
            .ok_or_else(|| StoreError::Refused("no answer".to_owned()))
    }
}
