//! Chooses the target of each dead letter by who failed.
//!
//! Stands between the deliveries and sources on one side and the targets on the other: a broker's own dead letters
//! go to that broker, those of the others to Redis, else `RabbitMQ`; the file takes what no broker can.

use std::sync::Arc;

use super::dead_letter::{DeadLetter, DeadLetters, FallbackDeadLetters, StoreFuture};
use crate::brokers::{rabbitmq, redis};

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

/// The way of each sink's and source's dead letters.
#[derive(Debug)]
pub struct DeadLetterRoutes {
    redis: FallbackDeadLetters,
    rabbitmq: FallbackDeadLetters,
    others: FallbackDeadLetters,
}

impl DeadLetterRoutes {
    /// Chains the targets.
    #[must_use]
    pub fn new(targets: &DeadLetterTargets) -> Self {
        let DeadLetterTargets {
            redis,
            rabbitmq,
            file,
        } = targets;
        let chain = |targets: &[&Option<Arc<dyn DeadLetters>>]| {
            FallbackDeadLetters::new(targets.iter().copied().flatten().cloned().collect())
        };
        Self {
            redis: chain(&[redis, file]),
            rabbitmq: chain(&[rabbitmq, file]),
            others: chain(&[redis, rabbitmq, file]),
        }
    }
}

impl DeadLetters for DeadLetterRoutes {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        match letter.sink {
            redis::NAME => self.redis.store(letter),
            rabbitmq::NAME => self.rabbitmq.store(letter),
            _ => self.others.store(letter),
        }
    }
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
            let routes = DeadLetterRoutes::new(&targets);
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
