//! Presence in this gateway's memory: a view of the registry, so that it costs a connection nothing more.
//!
//! Stands between the API and the registry, which holds all that is listed.

use std::sync::Arc;

use futures_util::future::{self, BoxFuture, FutureExt};

use super::{Entry, Page, Presence, Query, Sign};
use crate::clock::unix_now;
use crate::config::{PresenceConfig, PresenceStrategy};
use crate::registry::Registry;
use crate::session::Session;
use crate::svc::BoxError;

/// Presence in this gateway's memory.
#[derive(Debug)]
pub struct MemoryPresence {
    registry: Arc<Registry>,
    config: PresenceConfig,
}

impl MemoryPresence {
    /// Makes a view of the registry under a strategy.
    #[must_use]
    pub fn new(registry: Arc<Registry>, config: PresenceConfig) -> Self {
        Self { registry, config }
    }

    /// Whether the entry counts as online.
    ///
    /// With `ttl` an open connection is refreshed for as long as it lives, so it always does; only `heartbeat`
    /// lets an open connection's entry expire.
    fn is_online(&self, session: &Session, now: u64) -> bool {
        match self.config.strategy {
            PresenceStrategy::Heartbeat => {
                now < session.beat_at() + self.config.heartbeat_seconds + self.config.grace_seconds
            }
            PresenceStrategy::None | PresenceStrategy::Ttl | PresenceStrategy::Session => true,
        }
    }

    fn page(&self, query: &Query) -> Page {
        let mut sessions = match (&query.user_id, &query.subject) {
            (Some(user), _) => self.registry.of_user(user),
            (None, Some(subject)) => self.registry.of_subject(subject),
            (None, None) => self.registry.all(),
        };
        let now = unix_now();
        let after = query
            .after
            .as_deref()
            .and_then(|id| uuid::Uuid::parse_str(id).ok());
        sessions.retain(|session| {
            after.is_none_or(|after| session.id() > after)
                && query
                    .subject
                    .as_deref()
                    .is_none_or(|wanted| session.subjects().iter().any(|s| **s == *wanted))
                && self.is_online(session, now)
        });
        sessions.sort_unstable_by_key(|session| session.id());
        // One more than is wanted says whether there is another page.
        let first = sessions.iter().take(query.limit.saturating_add(1));
        Page::first(first.map(|session| entry(session)).collect(), query.limit)
    }
}

fn entry(session: &Session) -> Entry {
    Entry {
        connection_id: session.id().to_string(),
        user_id: session.user_id().to_string(),
        subjects: session.subjects().iter().map(ToString::to_string).collect(),
        connected_at: session.connected_at(),
        last_seen_at: session.last_seen_at(),
    }
}

impl Presence for MemoryPresence {
    fn connected(&self, _session: &Arc<Session>) {}

    fn heard(&self, session: &Arc<Session>, sign: Sign) {
        if sign == Sign::Beat {
            session.beat(unix_now());
        }
    }

    fn disconnected(&self, _session: &Arc<Session>) {}

    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BoxError>> {
        future::ready(Ok(self.page(&query))).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackpressureConfig;
    use crate::telemetry::metrics::Metrics;

    fn presence(config: PresenceConfig) -> MemoryPresence {
        let registry = Registry::new(BackpressureConfig::default(), Metrics::new().unwrap());
        MemoryPresence::new(Arc::new(registry), config)
    }

    #[test]
    fn pages_through_all_connections_once() {
        let presence = presence(PresenceConfig::default());
        for n in 0..25 {
            let user = (n % 2).to_string();
            presence
                .registry
                .register(&Session::for_tests(&user, &["room"]), 0)
                .unwrap();
        }
        let mut query = Query {
            limit: 10,
            ..Query::default()
        };
        let mut ids = Vec::new();
        loop {
            let page = presence.page(&query);
            ids.extend(page.connections.into_iter().map(|e| e.connection_id));
            match page.next_cursor {
                Some(cursor) => query.after = Some(cursor),
                None => break,
            }
        }
        assert_eq!(ids.len(), 25);
        assert!(ids.is_sorted_by(|a, b| a < b));
        query = Query {
            limit: 100,
            user_id: Some("1".into()),
            subject: Some("room".into()),
            after: None,
        };
        assert_eq!(presence.page(&query).connections.len(), 12);
        query.subject = Some("other".into());
        assert!(presence.page(&query).connections.is_empty());
    }

    #[test]
    fn heartbeat_expires_and_returns_with_the_next_beat() {
        let presence = presence(PresenceConfig {
            strategy: PresenceStrategy::Heartbeat,
            ..PresenceConfig::default()
        });
        let session = Session::for_tests("1", &[]);
        presence.registry.register(&session, 0).unwrap();
        session.beat(unix_now() - 46);
        let query = Query {
            limit: 1,
            ..Query::default()
        };
        assert!(presence.page(&query).connections.is_empty());
        presence.heard(&session, Sign::Message);
        assert!(
            presence.page(&query).connections.is_empty(),
            "a message is no heartbeat"
        );
        presence.heard(&session, Sign::Beat);
        assert_eq!(presence.page(&query).connections.len(), 1);
    }
}
