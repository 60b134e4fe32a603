//! How often a replay may be asked for.
//!
//! Stands between the key's check and everything that costs something. Calls are counted in a sliding window: at most
//! so many within any `window_seconds`, so that the turn of a minute does not let twice as many pass. A call that is
//! refused does not count.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use redis::{Value, cmd};
use tokio::time::Instant;
use uuid::Uuid;

use super::settings::{CountStrategy, ReplayRateLimitConfig};
use crate::brokers::redis::{Atomicity, RedisLink};

/// Callers whose counts are kept before those that ended are looked for.
const MANY: usize = 1_000;

/// Forgets calls that left the window, then counts this one, or gives the milliseconds until there is room.
const COUNT: &str = r"
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local window, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - window)
local count = redis.call('ZCARD', KEYS[1])
if count < limit then
  redis.call('ZADD', KEYS[1], now, ARGV[3])
  redis.call('PEXPIRE', KEYS[1], window)
  return 0
end
local leaves = redis.call('ZRANGE', KEYS[1], count - limit, count - limit, 'WITHSCORES')
return math.max(1, leaves[2] + window - now)
";

/// Whether a call may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    /// It may, and is counted.
    Yes,
    /// It may not, until so much time has passed.
    After(Duration),
}

/// Counts calls.
#[derive(Debug)]
pub(super) struct RateLimit {
    limit: usize,
    window: Duration,
    counts: Counts,
}

#[derive(Debug)]
enum Counts {
    None,
    InMemory(Arc<Mutex<HashMap<String, VecDeque<Instant>>>>),
    Redis {
        link: Arc<RedisLink>,
        prefix: String,
    },
}

impl RateLimit {
    /// Makes a limit; `link` is needed with the strategy `redis`.
    pub(super) fn new(config: &ReplayRateLimitConfig, link: Option<Arc<RedisLink>>) -> Self {
        let counts = match (config.strategy, link) {
            _ if config.per_minute == 0 => Counts::None,
            (CountStrategy::None, _) => Counts::None,
            (CountStrategy::Redis, Some(link)) => Counts::Redis {
                link,
                prefix: config.prefix.clone(),
            },
            (CountStrategy::InMemory | CountStrategy::Redis, _) => Counts::InMemory(Arc::default()),
        };
        Self {
            limit: usize::try_from(config.per_minute).unwrap_or(usize::MAX),
            window: Duration::from_secs(config.window_seconds.max(1)),
            counts,
        }
    }

    /// Goes on with what an earlier limit counted, where both count in memory.
    pub(super) fn continuing(self, earlier: &Self) -> Self {
        match (&self.counts, &earlier.counts) {
            (Counts::InMemory(_), Counts::InMemory(counts)) => Self {
                counts: Counts::InMemory(Arc::clone(counts)),
                ..self
            },
            _ => self,
        }
    }

    /// Counts a call for `who`, if it may go on.
    ///
    /// # Errors
    /// When the counts cannot be reached: the call must not go on then either.
    pub(super) async fn pass(&self, who: &str) -> Result<Pass, String> {
        match &self.counts {
            Counts::None => Ok(Pass::Yes),
            Counts::InMemory(counts) => Ok(self.count(&mut counts.lock(), who, Instant::now())),
            Counts::Redis { link, prefix } => {
                let mut command = cmd("EVAL");
                command
                    .arg(COUNT)
                    .arg(1)
                    .arg(format!("{prefix}{who}"))
                    .arg(u64::try_from(self.window.as_millis()).unwrap_or(u64::MAX))
                    .arg(self.limit)
                    .arg(Uuid::now_v7().to_string());
                match one(link, command).await? {
                    Value::Int(0) => Ok(Pass::Yes),
                    Value::Int(wait) => Ok(Pass::After(Duration::from_millis(
                        u64::try_from(wait).unwrap_or_default(),
                    ))),
                    _ => Err("Redis gave an answer of another kind".to_owned()),
                }
            }
        }
    }

    fn count(
        &self,
        counts: &mut HashMap<String, VecDeque<Instant>>,
        who: &str,
        now: Instant,
    ) -> Pass {
        let left = |call: &Instant| now.duration_since(*call) >= self.window;
        if counts.len() >= MANY {
            counts.retain(|_, calls| calls.back().is_some_and(|last| !left(last)));
        }
        let calls = counts.entry(who.to_owned()).or_default();
        while calls.front().is_some_and(left) {
            calls.pop_front();
        }
        // More than the limit may have been counted under an earlier, higher one.
        let first = calls.len().checked_sub(self.limit);
        if let Some(first) = first.and_then(|at| calls.get(at)) {
            return Pass::After(self.window.saturating_sub(now.duration_since(*first)));
        }
        calls.push_back(now);
        Pass::Yes
    }
}

/// Sends one command to Redis and gives its answer; any failure as a text.
pub(super) async fn one(link: &RedisLink, command: redis::Cmd) -> Result<Value, String> {
    let answers = link.run(&[command], Atomicity::Each).await;
    match answers.map_err(|error| error.to_string())?.pop() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(error.to_string()),
        None => Err("Redis gave no answer".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(per_minute: u32) -> RateLimit {
        let config = ReplayRateLimitConfig {
            per_minute,
            window_seconds: 60,
            ..ReplayRateLimitConfig::default()
        };
        RateLimit::new(&config, None)
    }

    #[tokio::test(start_paused = true)]
    async fn the_window_slides() {
        let limit = limit(2);
        let seconds = Duration::from_secs;
        assert_eq!(limit.pass("a").await, Ok(Pass::Yes));
        tokio::time::advance(seconds(50)).await;
        assert_eq!(limit.pass("a").await, Ok(Pass::Yes));
        for _ in 0..5 {
            assert_eq!(limit.pass("a").await, Ok(Pass::After(seconds(10))));
        }
        assert_eq!(limit.pass("b").await, Ok(Pass::Yes), "another caller");
        tokio::time::advance(seconds(10)).await;
        assert_eq!(
            limit.pass("a").await,
            Ok(Pass::Yes),
            "refused calls do not count"
        );
        assert_eq!(limit.pass("a").await, Ok(Pass::After(seconds(50))));
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_left_are_forgotten() {
        let limit = limit(1);
        for caller in 0..MANY {
            assert_eq!(limit.pass(&caller.to_string()).await, Ok(Pass::Yes));
        }
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(limit.pass("new").await, Ok(Pass::Yes));
        let Counts::InMemory(counts) = &limit.counts else {
            panic!("counted elsewhere")
        };
        assert_eq!(counts.lock().len(), 1);
    }

    #[tokio::test]
    async fn nothing_is_limited_when_it_is_off() {
        let limit = limit(0);
        for _ in 0..1000 {
            assert_eq!(limit.pass("a").await, Ok(Pass::Yes));
        }
    }
}
