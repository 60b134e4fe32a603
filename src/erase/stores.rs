//! The stores that a configuration names, each once.
//!
//! Stands between the whole and the kinds of stores: it reads the settings, opens links, and passes over what fails.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;

use super::archive::ArchiveSearch;
use super::letter_file::LetterFileSearch;
use super::online::{LeaseSearch, PresenceSearch};
use super::queue::QueueSearch;
use super::streams::{PartitionSearch, StreamSearch};
use super::{Finding, Person, Task};
use crate::api::Readiness;
use crate::brokers::rabbitmq::RabbitmqLink;
use crate::brokers::redis::RedisLink;
use crate::brokers::{self, Brokers};
use crate::clock::seconds;
use crate::config::{Config, PresenceKind, Secret};
use crate::leases::LeasesConfig;
use crate::stages::ordering_key::Partitions;
use crate::svc::BoxError;

/// One store, which can be searched again and again.
pub(super) trait Search: Send + Sync {
    /// Searches it, and counts in its finding.
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>>;

    /// What became of it.
    fn finding(&mut self) -> &mut Finding;

    /// The broker that it needs.
    fn link(&self) -> Link {
        Link::None
    }

    /// Connections of the user that are open as far as it knows; none where it cannot know.
    fn open_connections(&self) -> Option<u64> {
        None
    }
}

/// The broker that a store needs.
#[derive(Clone)]
pub(super) enum Link {
    None,
    Redis(Arc<RedisLink>),
    Rabbitmq(Arc<RabbitmqLink>),
}

impl Link {
    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Redis(one), Self::Redis(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// Whether it was lost and does not come back soon, after a store of it failed that had waited for it already.
    async fn is_gone(&self, reason: &str, waited: Duration) -> bool {
        match self {
            // It connects again, but to a primary only.
            Self::Redis(_) if reason.starts_with("READONLY") => true,
            Self::Redis(link) if !link.is_connected() => !super::redis::is_back(link, waited).await,
            _ => false,
        }
    }
}

/// The stores of one configuration, in the order in which they are searched.
pub(super) struct Stores {
    searches: Vec<Box<dyn Search>>,
    /// The `RabbitMQ` servers, with the settings' queues that cannot be searched.
    pub(super) queues: Vec<(Arc<RabbitmqLink>, Vec<String>)>,
    connect_timeout: [Duration; 2],
    /// The brokers that were lost meanwhile, and why: no other store of theirs waits for them again.
    gone: Vec<(Link, String)>,
}

impl Stores {
    /// Reads the settings; connects to nothing yet.
    pub(super) fn of(
        config: &Config,
        brokers: &Brokers,
        person: &Person,
    ) -> Result<Self, BoxError> {
        let mut stores = Self {
            searches: Vec::new(),
            queues: Vec::new(),
            connect_timeout: [&config.brokers.redis, &config.brokers.rabbitmq]
                .map(|broker| seconds(broker.connect_timeout_seconds) + Duration::from_secs(1)),
            gone: Vec::new(),
        };
        // Where something new may still come from is emptied first: what moves on is found where it goes.
        stores.add_streams(config, brokers, person)?;
        stores.add_rabbitmq(config, brokers)?;
        stores.add_file(config);
        stores.add_archive(config)?;
        stores.add_online(config, brokers)?;
        Ok(stores)
    }

    fn add_streams(
        &mut self,
        config: &Config,
        brokers: &Brokers,
        person: &Person,
    ) -> Result<(), BoxError> {
        let sink = &config.events.redis_stream;
        let source = &config.transport.redis_stream;
        let own = (&sink.dsn, "events.redis_stream.dsn");
        let dead = (config.redis_dsn(), "events.redis_stream.dsn");
        let wanted = [
            ((&source.dsn, "transport.redis_stream.dsn"), &source.stream),
            (own, &sink.inbox_stream),
            (own, &sink.stream),
            (dead, &config.replay.redis_stream.target_stream),
            (dead, &config.events.dead_letters.redis_stream.stream),
        ];
        let mut known: HashSet<(&Secret, &str)> = HashSet::new();
        for ((dsn, setting), stream) in wanted {
            if dsn.is_empty() || stream.is_empty() || !known.insert((dsn, stream)) {
                continue;
            }
            let link = brokers.redis(dsn, setting)?;
            self.add(StreamSearch::new(link, stream));
        }
        if !sink.dsn.is_empty() {
            let others = known.iter().filter(|(dsn, _)| *dsn == &sink.dsn);
            let others = others.map(|(_, stream)| (*stream).to_owned()).collect();
            let link = brokers.redis(&sink.dsn, own.1)?;
            self.add(PartitionSearch::new(
                link,
                &sink.inbox_stream,
                others,
                person,
            ));
        }
        Ok(())
    }

    fn add_rabbitmq(&mut self, config: &Config, brokers: &Brokers) -> Result<(), BoxError> {
        let sink = &config.events.rabbitmq;
        let source = &config.transport.rabbitmq;
        if !config.rabbitmq_dsn().is_empty() {
            let link = brokers.rabbitmq(config.rabbitmq_dsn(), config.rabbitmq_dsn_setting())?;
            let queue = &config.events.dead_letters.rabbitmq.queue;
            self.add(QueueSearch::new(link, queue));
        }
        let mut outbox = vec![source.queue.clone()];
        if !config.server.node_id.is_empty() {
            outbox.push(format!("{}.{}", source.exchange, config.server.node_id));
        }
        let mut inbox = vec![sink.inbox_queue.clone(), sink.queue.clone()];
        if !sink.inbox_queue.is_empty() {
            let shards = Partitions::of(config).shards();
            inbox.extend(shards.map(|shard| format!("{}.{shard}", sink.inbox_queue)));
        }
        let named = [
            (&sink.dsn, "events.rabbitmq.dsn", inbox),
            (&source.dsn, "transport.rabbitmq.dsn", outbox),
        ];
        for (dsn, setting, mut queues) in named {
            if dsn.is_empty() {
                continue;
            }
            queues.retain(|queue| !queue.is_empty());
            let link = brokers.rabbitmq(dsn, setting)?;
            let mut known = self.queues.iter_mut();
            match known.find(|(known, _)| Arc::ptr_eq(known, &link)) {
                Some((_, known)) => known.append(&mut queues),
                None => self.queues.push((link, queues)),
            }
        }
        Ok(())
    }

    fn add_file(&mut self, config: &Config) {
        let file = &config.events.dead_letters.file;
        if !file.path.is_empty() {
            self.add(LetterFileSearch::new(&file.path));
        }
    }

    fn add_archive(&mut self, config: &Config) -> Result<(), BoxError> {
        self.add(ArchiveSearch::new(&config.replay)?);
        Ok(())
    }

    fn add_online(&mut self, config: &Config, brokers: &Brokers) -> Result<(), BoxError> {
        let presence = &config.presence;
        if presence.kind == Some(PresenceKind::Redis) && !presence.redis.dsn.is_empty() {
            let link = brokers.redis(&presence.redis.dsn, "presence.redis.dsn")?;
            self.add(PresenceSearch::new(link, presence));
        }
        if let Some((setting, dsn)) = LeasesConfig::place(config) {
            self.add(LeaseSearch::new(brokers.redis(dsn, setting)?, config));
        }
        Ok(())
    }

    fn add(&mut self, search: impl Search + 'static) {
        self.searches.push(Box::new(search));
    }

    /// Waits for the brokers; what needs one that does not answer has failed.
    pub(super) async fn connect(&mut self, readiness: &Readiness) {
        let [redis, rabbitmq] = self.connect_timeout;
        let connecting = self.searches.iter().map(|search| {
            let link = search.link();
            async move {
                match link {
                    Link::None => Ok(()),
                    Link::Redis(link) => {
                        link.require();
                        let connected = tokio::time::timeout(redis, link.connected()).await;
                        connected.map_err(|_| brokers::redis::NAME)
                    }
                    Link::Rabbitmq(link) => {
                        link.require();
                        let connected = tokio::time::timeout(rabbitmq, link.connected()).await;
                        connected.map_err(|_| brokers::rabbitmq::NAME)
                    }
                }
            }
        });
        let connected = futures_util::future::join_all(connecting).await;
        for (search, connected) in self.searches.iter_mut().zip(connected) {
            if let Err(broker) = connected {
                let mut checks = readiness.report().checks;
                let reason = checks.remove(broker);
                let reason = reason.unwrap_or_else(|| "no connection".to_owned());
                search.finding().error = Some(reason);
            }
        }
    }

    /// Searches all stores that did not fail yet.
    pub(super) async fn search(&mut self, task: Task<'_>) {
        for search in &mut self.searches {
            if search.finding().error.is_some() {
                continue;
            }
            let (link, started) = (search.link(), Instant::now());
            let searched = match self.gone.iter().find(|(gone, _)| gone.is(&link)) {
                Some((_, reason)) => Err(reason.clone()),
                None => search.search(task).await,
            };
            if let Err(reason) = &searched
                && link.is_gone(reason, started.elapsed()).await
            {
                self.gone.push((link, reason.clone()));
            }
            let finding = search.finding();
            finding.error = searched.err();
            (task.tell)(finding);
        }
    }

    /// Open connections of the user: as the leases say, else as presence does.
    pub(super) fn open_connections(&self) -> u64 {
        let mut searches = self.searches.iter().rev();
        let open = searches.find_map(|search| search.open_connections());
        open.unwrap_or(0)
    }

    /// What was found so far, in the order of the stores.
    pub(super) fn findings(&mut self) -> Vec<Finding> {
        let findings = self.searches.iter_mut();
        findings.map(|search| search.finding().clone()).collect()
    }
}
