//! The dead-letter targets of a configuration, found again where they are still in use.
//!
//! Stands beside the sinks: a version keeps its own targets, also while it only finishes what it has. What is here
//! is held weakly, so that a target ends with the last who uses it.

use std::sync::{Arc, Weak};

use super::running::{Origin, Ties};
use super::{SinkError, redis_link};
use crate::brokers::redis::RedisLink;
use crate::brokers::{Brokers, Link};
use crate::config::Config;
use crate::replay::DeadLetterStore;
use crate::sinks::dead_letter::FallbackDeadLetters;
use crate::sinks::dead_letter_file::DeadLetterFile;
use crate::sinks::dead_letter_rabbitmq::{self, RabbitmqDeadLetters};
use crate::sinks::dead_letter_redis::{self, RedisDeadLetters};
use crate::sinks::dead_letter_routes::{DeadLetterRoutes, DeadLetterTargets};

/// The targets in use, and of what they were made.
#[derive(Clone, Default)]
pub(super) struct Letters {
    redis: Vec<(Arc<Origin>, Weak<RedisDeadLetters>)>,
    rabbitmq: Vec<(Arc<Origin>, Weak<RabbitmqDeadLetters>)>,
    files: Vec<Weak<DeadLetterFile>>,
    chains: Vec<Weak<FallbackDeadLetters>>,
    routes: Weak<DeadLetterRoutes>,
}

/// What a configuration's dead letters come to.
pub(super) struct Found {
    pub(super) routes: Arc<DeadLetterRoutes>,
    pub(super) stores: Vec<Arc<dyn DeadLetterStore>>,
    /// Its limits are to be set.
    pub(super) file: Option<Arc<DeadLetterFile>>,
}

impl Letters {
    /// Finds or makes the targets; the file only if something may fail.
    pub(super) fn find(
        &mut self,
        config: &Arc<Config>,
        links: &Brokers,
        something_fails: bool,
    ) -> Result<Found, SinkError> {
        let mut stores: Vec<Arc<dyn DeadLetterStore>> = Vec::new();
        let mut targets = DeadLetterTargets::default();
        if let Some(link) = redis_of(config, links)? {
            let origin = origin(config, &link);
            let same = |old: &Config, new: &Config| {
                dead_letter_redis::made_of(old) == dead_letter_redis::made_of(new)
            };
            let letters = one_of(&mut self.redis, origin, same, || {
                Ok(RedisDeadLetters::new(link, config))
            })?;
            stores.push(letters.clone());
            targets.redis = Some(letters);
        }
        if !config.rabbitmq_dsn().is_empty() {
            let link = links
                .rabbitmq(config.rabbitmq_dsn(), config.rabbitmq_dsn_setting())
                .map_err(SinkError::RabbitmqDsn)?;
            let origin = origin(config, &link);
            let same = |old: &Config, new: &Config| {
                dead_letter_rabbitmq::made_of(old) == dead_letter_rabbitmq::made_of(new)
            };
            let letters = one_of(&mut self.rabbitmq, origin, same, || {
                Ok(RabbitmqDeadLetters::new(config, link)?)
            })?;
            stores.push(letters.clone());
            targets.rabbitmq = Some(letters);
        }
        let mut file = None;
        if something_fails && !config.events.dead_letters.file.path.is_empty() {
            let only = self.file(config)?;
            file = Some(Arc::clone(&only));
            targets.file = Some(only);
        }
        let routes = self.routes(&targets);
        Ok(Found {
            routes,
            stores,
            file,
        })
    }

    /// The one writer of the file.
    fn file(&mut self, config: &Config) -> Result<Arc<DeadLetterFile>, SinkError> {
        let config = &config.events.dead_letters.file;
        self.files.retain(|file| file.strong_count() > 0);
        let mut files = self.files.iter().filter_map(Weak::upgrade);
        if let Some(file) = files.find(|file| file.is_at(&config.path)) {
            return Ok(file);
        }
        let file = Arc::new(DeadLetterFile::start(config)?);
        self.files.push(Arc::downgrade(&file));
        Ok(file)
    }

    fn routes(&mut self, targets: &DeadLetterTargets) -> Arc<DeadLetterRoutes> {
        let chains = &mut self.chains;
        chains.retain(|chain| chain.strong_count() > 0);
        let routes = DeadLetterRoutes::new(targets, |targets| {
            let mut known = chains.iter().filter_map(Weak::upgrade);
            known
                .find(|chain| chain.chains(&targets))
                .unwrap_or_else(|| {
                    let chain = Arc::new(FallbackDeadLetters::new(targets));
                    chains.push(Arc::downgrade(&chain));
                    chain
                })
        });
        let old = self.routes.upgrade().filter(|old| old.is(&routes));
        let routes = old.unwrap_or_else(|| Arc::new(routes));
        self.routes = Arc::downgrade(&routes);
        routes
    }
}

fn origin<L: Link + 'static>(config: &Arc<Config>, link: &Arc<L>) -> Origin {
    Origin {
        config: Arc::clone(config),
        ties: Ties::default().with(link),
    }
}

/// The target that was made of the same, else another one.
fn one_of<T>(
    known: &mut Vec<(Arc<Origin>, Weak<T>)>,
    origin: Origin,
    same: impl Fn(&Config, &Config) -> bool,
    make: impl FnOnce() -> Result<T, SinkError>,
) -> Result<Arc<T>, SinkError> {
    known.retain(|(_, target)| target.strong_count() > 0);
    let mut kin = known
        .iter()
        .filter(|(old, _)| old.ties == origin.ties && same(&old.config, &origin.config));
    if let Some(target) = kin.find_map(|(_, target)| target.upgrade()) {
        return Ok(target);
    }
    let target = Arc::new(make()?);
    known.push((Arc::new(origin), Arc::downgrade(&target)));
    Ok(target)
}

/// The Redis that keeps dead letters, where there is one.
fn redis_of(config: &Config, links: &Brokers) -> Result<Option<Arc<RedisLink>>, SinkError> {
    let dsn = config.redis_dsn();
    if dsn.is_empty() {
        return Ok(None);
    }
    let setting = if config.events.redis_stream.dsn.is_empty() {
        "transport.redis_stream.dsn"
    } else {
        "events.redis_stream.dsn"
    };
    redis_link(links, dsn, setting).map(Some)
}
