//! One call of the replay API, for the audit log and the counters.
//!
//! Goes along with the call from its first byte to its end. Whatever becomes of the call, its caller's going away
//! among it, it is counted once and logged once.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};

use super::settings::RateLimitKey;
use crate::telemetry::metrics::Metrics;

/// Hex digits of the digest that stands for a key in the log.
const SHORT: usize = 12;

/// Who calls.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// The address, where it is known.
    pub address: Option<IpAddr>,
    /// The digest of the key that was presented; never the key.
    key: Option<String>,
}

impl Caller {
    /// A caller at an address that presented a key, right or wrong.
    #[must_use]
    pub fn new(address: Option<IpAddr>, key: Option<&[u8]>) -> Self {
        let key = key.map(hex_digest);
        Self { address, key }
    }

    /// A short digest of the key, by which calls of one key can be told from those of another.
    #[must_use]
    pub fn short_key(&self) -> &str {
        self.key
            .as_deref()
            .and_then(|key| key.get(..SHORT))
            .unwrap_or("none")
    }

    fn address(&self) -> String {
        match self.address {
            Some(address) => address.to_string(),
            None => "unknown".to_owned(),
        }
    }

    /// What the caller's calls are counted by.
    pub(super) fn counted_by(&self, by: RateLimitKey) -> String {
        match (by, &self.key) {
            (RateLimitKey::ApiKeyOrIp | RateLimitKey::ApiKey, Some(key)) => format!("key:{key}"),
            (RateLimitKey::ApiKey, None) => "key:none".to_owned(),
            (RateLimitKey::ApiKeyOrIp | RateLimitKey::Ip, _) => format!("ip:{}", self.address()),
        }
    }
}

/// The SHA-256 of a text, in hex.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    let digest = digest(&SHA256, bytes);
    digest.as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// One call of the replay API, which ends in exactly one way.
#[derive(Debug)]
pub struct Attempt {
    store: &'static str,
    caller: Caller,
    limit: Option<usize>,
    audit: bool,
    metrics: Metrics,
    ended: bool,
}

impl Attempt {
    pub(super) fn new(store: &'static str, caller: Caller, audit: bool, metrics: &Metrics) -> Self {
        metrics.replay_api_requests_total.inc();
        Self {
            store,
            caller,
            limit: None,
            audit,
            metrics: metrics.clone(),
            ended: false,
        }
    }

    /// What is replayed from: `redis`, `rabbitmq` or `archive`.
    #[must_use]
    pub fn store(&self) -> &'static str {
        self.store
    }

    /// Who calls.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Notes which key was presented, once that is known.
    pub fn presented(&mut self, key: Option<&[u8]>) {
        self.caller = Caller::new(self.caller.address, key);
    }

    /// Notes how much is to be replayed at most, once that is known.
    pub(super) fn limited_to(&mut self, limit: usize) {
        self.limit = Some(limit);
    }

    /// Whether the audit log gets a line of it.
    #[must_use]
    pub fn is_audited(&self) -> bool {
        self.audit
    }

    /// The key was wrong, missing, or none is configured.
    pub fn denied(mut self, reason: &str) {
        self.ended = true;
        self.metrics.replay_api_denied_total.inc();
        if self.audit {
            tracing::warn!(
                event = "replay_api_denied",
                store = self.store,
                address = self.caller.address(),
                key = self.caller.short_key(),
                reason,
            );
        }
    }

    /// The call came too soon.
    pub(super) fn rate_limited(mut self, retry_after: Duration) {
        self.ended = true;
        self.metrics.replay_api_rate_limited_total.inc();
        if self.audit {
            tracing::warn!(
                event = "replay_api_rate_limited",
                store = self.store,
                address = self.caller.address(),
                key = self.caller.short_key(),
                retry_after_seconds = retry_after.as_secs_f64().ceil(),
            );
        }
    }

    /// The call was answered with an earlier result.
    pub(super) fn idempotent(mut self, replayed: usize) {
        self.ended = true;
        self.metrics.replay_api_idempotent_total.inc();
        if self.audit {
            tracing::info!(
                event = "replay_api_idempotent",
                store = self.store,
                address = self.caller.address(),
                key = self.caller.short_key(),
                replayed,
            );
        }
    }

    /// The call did what it was to do.
    pub(super) fn success(mut self, replayed: usize) {
        self.ended = true;
        self.metrics.replay_api_success_total.inc();
        self.moved(replayed);
        if self.audit {
            tracing::info!(
                event = "replay_api_success",
                store = self.store,
                address = self.caller.address(),
                key = self.caller.short_key(),
                limit = self.limit,
                replayed,
            );
        }
    }

    /// The call failed, after it had replayed so much.
    pub fn failed(mut self, replayed: usize, reason: &str) {
        self.end_failed(replayed, reason);
    }

    fn end_failed(&mut self, replayed: usize, reason: &str) {
        self.ended = true;
        self.metrics.replay_api_errors_total.inc();
        self.moved(replayed);
        if self.audit {
            tracing::warn!(
                event = "replay_api_error",
                store = self.store,
                address = self.caller.address(),
                key = self.caller.short_key(),
                limit = self.limit,
                replayed,
                reason,
            );
        }
    }

    fn moved(&self, replayed: usize) {
        let replayed = u64::try_from(replayed).unwrap_or(u64::MAX);
        self.metrics
            .replayed_total
            .with_label_values(&[self.store])
            .inc_by(replayed);
        if self.store == crate::brokers::rabbitmq::NAME {
            self.metrics.rabbitmq_replay_total.inc_by(replayed);
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.ended {
            self.end_failed(0, "the call was given up before it acted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn callers_are_counted_by_what_is_configured() {
        let address = Some(IpAddr::from([192, 0, 2, 7]));
        let caller = Caller::new(address, Some(b"s3cret"));
        let key = format!("key:{}", hex_digest(b"s3cret"));
        assert_eq!(caller.counted_by(RateLimitKey::ApiKeyOrIp), key);
        assert_eq!(caller.counted_by(RateLimitKey::ApiKey), key);
        assert_eq!(caller.counted_by(RateLimitKey::Ip), "ip:192.0.2.7");
        let other = Caller::new(address, None);
        assert_eq!(other.counted_by(RateLimitKey::ApiKeyOrIp), "ip:192.0.2.7");
        assert!(!format!("{caller:?}").contains("s3cret"));
        assert_eq!(
            (caller.short_key().len(), other.short_key()),
            (SHORT, "none")
        );
    }

    #[test]
    fn every_attempt_is_counted_once_even_when_it_is_given_up() {
        let metrics = Metrics::new().unwrap();
        let attempt = || Attempt::new("rabbitmq", Caller::default(), true, &metrics);
        drop(attempt());
        attempt().failed(3, "lost");
        attempt().success(4);
        attempt().denied("wrong");
        let counts = [
            &metrics.replay_api_requests_total,
            &metrics.replay_api_errors_total,
            &metrics.replay_api_success_total,
            &metrics.replay_api_denied_total,
            &metrics.rabbitmq_replay_total,
        ];
        assert_eq!(
            counts.map(prometheus::core::GenericCounter::get),
            [4, 2, 1, 1, 7]
        );
    }
}
