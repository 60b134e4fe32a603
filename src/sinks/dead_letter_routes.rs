//! Chooses the target of each dead letter by who failed.
//!
//! Stands between the deliveries and sources on one side and the targets on the other: a broker's own dead letters
//! go to that broker, those of the others to Redis, else `RabbitMQ`; the file takes what no broker can.

use std::sync::Arc;

use super::dead_letter::{DeadLetter, DeadLetters, FallbackDeadLetters, StoreFuture};
use crate::brokers::{rabbitmq, redis};
use crate::config::Config;

/// The targets that are configured.
#[derive(Default)]
pub struct DeadLetterTargets {
    /// The stream.
    pub redis: Option<Arc<dyn DeadLetters>>,
    /// The queue.
    pub rabbitmq: Option<Arc<dyn DeadLetters>>,
    /// The file.
    pub file: Option<Arc<dyn DeadLetters>>,
}

impl DeadLetterTargets {
    /// The targets of what a sink or source could not handle, the preferred one first.
    fn of(&self, sink: &str) -> Vec<Arc<dyn DeadLetters>> {
        let Self {
            redis,
            rabbitmq,
            file,
        } = self;
        let targets = match sink {
            redis::NAME => [redis, &None, file],
            rabbitmq::NAME => [rabbitmq, &None, file],
            _ => [redis, rabbitmq, file],
        };
        targets.into_iter().flatten().cloned().collect()
    }
}

/// The way of each sink's and source's dead letters.
#[derive(Debug)]
pub struct DeadLetterRoutes {
    redis: Arc<FallbackDeadLetters>,
    rabbitmq: Arc<FallbackDeadLetters>,
    others: Arc<FallbackDeadLetters>,
}

impl DeadLetterRoutes {
    /// Has the targets of each way chained.
    #[must_use]
    pub fn new(
        targets: &DeadLetterTargets,
        mut chain: impl FnMut(Vec<Arc<dyn DeadLetters>>) -> Arc<FallbackDeadLetters>,
    ) -> Self {
        Self {
            redis: chain(targets.of(redis::NAME)),
            rabbitmq: chain(targets.of(rabbitmq::NAME)),
            others: chain(targets.of("")),
        }
    }

    /// The way of one sink's or source's dead letters.
    #[must_use]
    pub fn of(&self, sink: &str) -> &Arc<FallbackDeadLetters> {
        match sink {
            redis::NAME => &self.redis,
            rabbitmq::NAME => &self.rabbitmq,
            _ => &self.others,
        }
    }

    /// Whether all ways are the same ones.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        let pairs = [
            (&self.redis, &other.redis),
            (&self.rabbitmq, &other.rabbitmq),
            (&self.others, &other.others),
        ];
        pairs
            .into_iter()
            .all(|(own, other)| Arc::ptr_eq(own, other))
    }
}

impl DeadLetters for DeadLetterRoutes {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        self.of(letter.sink).store(letter)
    }
}

/// The brokers that a configuration keeps dead letters in, in words, the preferred one first.
#[must_use]
pub fn brokers(config: &Config) -> Vec<String> {
    let targets = &config.events.dead_letters;
    let mut named = Vec::new();
    if !config.redis_dsn().is_empty() {
        named.push(format!("Redis stream {}", targets.redis_stream.stream));
    }
    if !config.rabbitmq_dsn().is_empty() {
        named.push(format!("RabbitMQ queue {}", targets.rabbitmq.queue));
    }
    named
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;

    use super::*;

    #[derive(Default)]
    struct Counts(AtomicUsize);

    impl DeadLetters for Counts {
        fn store(&self, _letter: DeadLetter) -> StoreFuture<'_> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Ok(())))
        }
    }

    #[tokio::test]
    async fn a_brokers_own_letters_go_to_it_and_others_to_the_first() {
        let [redis, rabbitmq, file] = [(); 3].map(|()| Arc::new(Counts::default()));
        let store = async |targets: DeadLetterTargets| {
            let routes = DeadLetterRoutes::new(&targets, |targets| {
                Arc::new(FallbackDeadLetters::new(targets))
            });
            for sink in ["redis", "rabbitmq", "webhook"] {
                let letter = DeadLetter::now(String::new(), Bytes::new(), None, sink);
                routes.store(letter).await.unwrap();
            }
            [&redis, &rabbitmq, &file].map(|counts| counts.0.swap(0, Ordering::Relaxed))
        };
        let targets = |with_redis: bool, with_rabbitmq: bool| DeadLetterTargets {
            redis: with_redis.then(|| redis.clone() as _),
            rabbitmq: with_rabbitmq.then(|| rabbitmq.clone() as _),
            file: Some(file.clone()),
        };
        assert_eq!(store(targets(true, true)).await, [2, 1, 0]);
        assert_eq!(store(targets(true, false)).await, [2, 0, 1]);
        assert_eq!(store(targets(false, true)).await, [0, 2, 1]);
        assert_eq!(store(targets(false, false)).await, [0, 0, 3]);
    }
}
