//! First results, so that a call that is repeated does not act again.
//!
//! Stands between the rate limit and the stores. A key is claimed before anything is done; whoever comes with the
//! same key meanwhile waits, and is given the first one's result. A failed call leaves nothing behind, so that it can
//! be repeated.
//!
//! In Redis the claim is a lease: a gateway renews it while it works, and when the gateway dies the key is free again
//! after [`LEASE`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Value, cmd};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::Replayed;
use super::rate_limit::one;
use super::settings::{CountStrategy, IdempotencyConfig};
use crate::brokers::redis::RedisLink;

/// Time after which the key of a gateway that died is free again.
const LEASE: Duration = Duration::from_secs(15);

/// Longest time between two looks at a key that another gateway works on.
const POLL: Duration = Duration::from_millis(200);

/// Results remembered in memory at most; beyond that, the one that would be forgotten first is forgotten now.
const MAX_RESULTS: usize = 10_000;

/// What stands before a claim's token, and before a result, in Redis.
const RUNNING: &str = "running:";
const DONE: &str = "done:";

/// Gives what the key holds, or else claims it.
const CLAIM: &str = r"
local held = redis.call('GET', KEYS[1])
if held then return held end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return false
";

/// Prolongs a claim that still holds.
const RENEW: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
";

/// Puts a result in a claim's place, unless someone else claimed the key meanwhile.
const REMEMBER: &str = r"
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
";

/// Gives a claim up.
const FORGET: &str = r"
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
";

/// Remembers first results.
#[derive(Debug)]
pub(super) enum Idempotency {
    /// Every call acts.
    Off,
    /// In this gateway.
    InMemory(InMemory),
    /// For all gateways.
    Redis(InRedis),
}

/// Whether a call is the first of its key.
#[derive(Debug)]
pub(super) enum Claimed {
    /// It is, and is to act.
    First(Claim),
    /// It is not: this is what the first one came to.
    Earlier(Replayed),
}

/// The right to act for a key; given up on drop.
#[derive(Debug)]
pub(super) enum Claim {
    /// No key was given, or none counts.
    None,
    /// In this gateway.
    InMemory(ClaimInMemory),
    /// For all gateways.
    Redis(ClaimInRedis),
}

impl Idempotency {
    /// Makes the memory; `link` is needed with the strategy `redis`.
    pub(super) fn new(config: &IdempotencyConfig, link: Option<Arc<RedisLink>>) -> Self {
        let ttl = Duration::from_secs(config.ttl_seconds.max(1));
        match (config.strategy, link) {
            (CountStrategy::None, _) => Self::Off,
            (CountStrategy::Redis, Some(link)) => Self::Redis(InRedis {
                link,
                prefix: config.prefix.clone(),
                ttl,
            }),
            (CountStrategy::InMemory | CountStrategy::Redis, _) => Self::InMemory(InMemory {
                ttl,
                entries: Arc::default(),
            }),
        }
    }

    /// Goes on with what an earlier one remembers, where both remember in memory.
    pub(super) fn continuing(self, earlier: &Self) -> Self {
        match (self, earlier) {
            (Self::InMemory(own), Self::InMemory(earlier)) => Self::InMemory(InMemory {
                entries: Arc::clone(&earlier.entries),
                ..own
            }),
            (own, _) => own,
        }
    }

    /// Claims a key, or waits for the result of whoever claimed it first.
    ///
    /// # Errors
    /// When the memory cannot be reached: the call must not act then, as it may have acted before.
    pub(super) async fn claim(&self, key: &str) -> Result<Claimed, String> {
        match self {
            Self::Off => Ok(Claimed::First(Claim::None)),
            Self::InMemory(memory) => Ok(memory.claim(key).await),
            Self::Redis(memory) => memory.claim(key).await,
        }
    }
}

impl Claim {
    /// Remembers what came of it, or forgets the key if nothing did.
    ///
    /// # Errors
    /// When the memory cannot be reached.
    pub(super) async fn settle(&self, result: Option<&Replayed>) -> Result<(), String> {
        match (self, result) {
            (Self::InMemory(claim), Some(result)) => {
                claim.remember(result);
                Ok(())
            }
            (Self::None | Self::InMemory(_), _) => Ok(()),
            (Self::Redis(claim), result) => claim.settle(result).await,
        }
    }

    /// How long it makes sense to try again to settle it.
    pub(super) fn lasts(&self) -> Duration {
        match self {
            Self::Redis(_) => LEASE,
            Self::None | Self::InMemory(_) => Duration::ZERO,
        }
    }
}

type Entries = Mutex<HashMap<String, Entry>>;

#[derive(Debug)]
enum Entry {
    /// Someone acts; the channel closes when that ends.
    Running(watch::Receiver<()>),
    Done {
        result: Replayed,
        until: Instant,
    },
}

/// First results of this gateway.
#[derive(Debug)]
pub(super) struct InMemory {
    ttl: Duration,
    entries: Arc<Entries>,
}

impl InMemory {
    async fn claim(&self, key: &str) -> Claimed {
        loop {
            let mut running = {
                let mut entries = self.entries.lock();
                let now = Instant::now();
                entries.retain(|_, entry| match entry {
                    Entry::Running(_) => true,
                    Entry::Done { until, .. } => now < *until,
                });
                match entries.get(key) {
                    Some(Entry::Done { result, .. }) => return Claimed::Earlier(result.clone()),
                    Some(Entry::Running(running)) => running.clone(),
                    None => {
                        let (running, ended) = watch::channel(());
                        entries.insert(key.to_owned(), Entry::Running(ended));
                        return Claimed::First(Claim::InMemory(ClaimInMemory {
                            ttl: self.ttl,
                            entries: Arc::clone(&self.entries),
                            key: key.to_owned(),
                            _running: running,
                        }));
                    }
                }
            };
            // Nothing is ever sent: this waits for the claim's end.
            let _ = running.changed().await;
        }
    }
}

/// A claim in this gateway.
#[derive(Debug)]
pub(super) struct ClaimInMemory {
    ttl: Duration,
    entries: Arc<Entries>,
    key: String,
    /// Wakes those who wait when it is dropped, which is after the entry has been settled.
    _running: watch::Sender<()>,
}

impl ClaimInMemory {
    fn remember(&self, result: &Replayed) {
        let mut entries = self.entries.lock();
        let done = Entry::Done {
            result: result.clone(),
            until: Instant::now() + self.ttl,
        };
        entries.insert(self.key.clone(), done);
        if entries.len() > MAX_RESULTS {
            let results = entries.iter().filter_map(|(key, entry)| match entry {
                Entry::Done { until, .. } => Some((*until, key)),
                Entry::Running(_) => None,
            });
            if let Some(key) = results.min().map(|(_, key)| key.clone()) {
                entries.remove(&key);
            }
        }
    }
}

impl Drop for ClaimInMemory {
    fn drop(&mut self) {
        let mut entries = self.entries.lock();
        if matches!(entries.get(&self.key), Some(Entry::Running(_))) {
            entries.remove(&self.key);
        }
    }
}

/// First results of all gateways that share a Redis.
#[derive(Debug)]
pub(super) struct InRedis {
    link: Arc<RedisLink>,
    prefix: String,
    ttl: Duration,
}

impl InRedis {
    async fn claim(&self, key: &str) -> Result<Claimed, String> {
        let key = format!("{}{key}", self.prefix);
        let token = format!("{RUNNING}{}", Uuid::now_v7());
        let mut wait = POLL / 8;
        loop {
            let answer = script(&self.link, CLAIM, &key, &[&token, &millis(LEASE)]).await?;
            let held = match answer {
                Value::Nil => return Ok(Claimed::First(self.claimed(key, token))),
                Value::BulkString(held) => String::from_utf8(held).unwrap_or_default(),
                Value::SimpleString(held) => held,
                _ => return Err("Redis gave an answer of another kind".to_owned()),
            };
            if let Some(result) = held.strip_prefix(DONE) {
                return serde_json::from_str(result)
                    .map(Claimed::Earlier)
                    .map_err(|_| "the result in Redis is no result".to_owned());
            }
            tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
            wait = (wait * 2).min(POLL);
        }
    }

    fn claimed(&self, key: String, token: String) -> Claim {
        let renewal = renew(Arc::clone(&self.link), key.clone(), token.clone());
        Claim::Redis(ClaimInRedis {
            link: Arc::clone(&self.link),
            ttl: self.ttl,
            key,
            token,
            _renewal: AbortOnDropHandle::new(tokio::spawn(renewal)),
        })
    }
}

/// A claim in Redis, renewed until it is dropped.
#[derive(Debug)]
pub(super) struct ClaimInRedis {
    link: Arc<RedisLink>,
    ttl: Duration,
    key: String,
    token: String,
    _renewal: AbortOnDropHandle<()>,
}

impl ClaimInRedis {
    async fn settle(&self, result: Option<&Replayed>) -> Result<(), String> {
        let settled = match result {
            Some(result) => {
                let result = serde_json::to_string(result).map_err(|error| error.to_string())?;
                let arguments = [&*self.token, &format!("{DONE}{result}"), &millis(self.ttl)];
                script(&self.link, REMEMBER, &self.key, &arguments).await
            }
            None => script(&self.link, FORGET, &self.key, &[&self.token]).await,
        };
        settled.map(|_| ())
    }
}

/// Prolongs a claim for as long as it holds.
async fn renew(link: Arc<RedisLink>, key: String, token: String) {
    loop {
        tokio::time::sleep(LEASE / 5).await;
        let renewed = script(&link, RENEW, &key, &[&token, &millis(LEASE)]).await;
        if renewed == Ok(Value::Int(0)) {
            return;
        }
    }
}

async fn script(
    link: &RedisLink,
    script: &str,
    key: &str,
    arguments: &[&str],
) -> Result<Value, String> {
    let mut command = cmd("EVAL");
    command.arg(script).arg(1).arg(key).arg(arguments);
    one(link, command).await
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> Idempotency {
        let config = IdempotencyConfig {
            strategy: CountStrategy::InMemory,
            ttl_seconds: 60,
            ..IdempotencyConfig::default()
        };
        Idempotency::new(&config, None)
    }

    async fn first(memory: &Idempotency, key: &str) -> Claim {
        match memory.claim(key).await.unwrap() {
            Claimed::First(claim) => claim,
            Claimed::Earlier(result) => panic!("{result:?}"),
        }
    }

    async fn earlier(memory: &Idempotency, key: &str) -> usize {
        match memory.claim(key).await.unwrap() {
            Claimed::First(_) => panic!("it is the first"),
            Claimed::Earlier(result) => result.replayed,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_result_is_given_again_until_its_time_is_over() {
        let memory = memory();
        let claim = first(&memory, "a").await;
        claim.settle(Some(&Replayed::from(7))).await.unwrap();
        drop(claim);
        assert_eq!(earlier(&memory, "a").await, 7);
        drop(first(&memory, "b").await);
        tokio::time::advance(Duration::from_mins(1)).await;
        drop(first(&memory, "a").await);
    }

    #[tokio::test(start_paused = true)]
    async fn the_second_waits_and_takes_over_from_a_first_that_fails() {
        let memory = memory();
        let claim = first(&memory, "a").await;
        let second = async { first(&memory, "a").await };
        let (second, ()) = tokio::join!(second, async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            claim.settle(None).await.unwrap();
            drop(claim);
        });
        let (third, ()) = tokio::join!(earlier(&memory, "a"), async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            second.settle(Some(&Replayed::from(3))).await.unwrap();
            drop(second);
        });
        assert_eq!(third, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let memory = memory();
        for key in 0..=MAX_RESULTS {
            let claim = first(&memory, &key.to_string()).await;
            claim.settle(Some(&Replayed::from(key))).await.unwrap();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(
            earlier(&memory, &MAX_RESULTS.to_string()).await,
            MAX_RESULTS
        );
        drop(first(&memory, "0").await);
    }
}
