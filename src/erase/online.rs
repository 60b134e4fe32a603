//! Erases who is online: presence, and what gateways left behind that were lost.
//!
//! What is kept of an open connection goes when it ends, and is written again until then; it says that the user is
//! still there.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use tokio::time::Instant;

use super::stores::{Link, Search};
use super::{Finding, Task};
use crate::brokers::redis::RedisLink;
use crate::config::{Config, PresenceConfig};
use crate::leases::records_of_user;
use crate::presence::redis::RedisPresence;

/// Presence in one Redis.
pub(super) struct PresenceSearch {
    link: Arc<RedisLink>,
    presence: Arc<RedisPresence>,
    open: u64,
    finding: Finding,
}

impl PresenceSearch {
    pub(super) fn new(link: Arc<RedisLink>, config: &PresenceConfig) -> Self {
        let name = format!("{}*", config.redis.prefix);
        Self {
            finding: Finding::of("presence", name, link.address()),
            presence: RedisPresence::new(Arc::clone(&link), config, Instant::now()),
            open: 0,
            link,
        }
    }
}

impl Search for PresenceSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let Self {
                presence, finding, ..
            } = self;
            finding.exists = true;
            let before = finding.found;
            let person = task.person;
            let counted = |examined: u64, found: u64| {
                finding.examined += examined;
                finding.found += found;
                finding.erased += if task.dry_run { 0 } else { found };
                (task.tell)(finding);
            };
            let erased = presence.erase(person.id(), person.subject(), task.dry_run, counted);
            erased.await.map_err(|error| error.to_string())?;
            self.open = self.open.max(self.finding.found - before);
            Ok(())
        }
        .boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }

    fn link(&self) -> Link {
        Link::Redis(Arc::clone(&self.link))
    }

    fn open_connections(&self) -> Option<u64> {
        Some(self.open)
    }
}

/// The leases in one Redis, with a record of each connection.
pub(super) struct LeaseSearch {
    link: Arc<RedisLink>,
    config: Config,
    open: Option<u64>,
    finding: Finding,
}

impl LeaseSearch {
    pub(super) fn new(link: Arc<RedisLink>, config: &Config) -> Self {
        let name = format!("{}conns:*", config.leases.prefix);
        Self {
            finding: Finding::of("leases", name, link.address()),
            config: config.clone(),
            open: None,
            link,
        }
    }
}

impl Search for LeaseSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let id = task.person.id();
            let found = records_of_user(&self.link, &self.config, id, task.dry_run).await?;
            self.open = Some(found.open);
            self.finding.exists = true;
            self.finding.examined += found.examined;
            self.finding.found += found.left_behind;
            if !task.dry_run {
                self.finding.erased += found.left_behind;
            }
            (task.tell)(&self.finding);
            Ok(())
        }
        .boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }

    fn link(&self) -> Link {
        Link::Redis(Arc::clone(&self.link))
    }

    fn open_connections(&self) -> Option<u64> {
        self.open
    }
}
