//! Keeps a source from reading faster than healthy clients can be written to.
//!
//! Stands between the sources and the registry. Each connection's outbox is small, and a full one means that its
//! client is too slow; a source that hands over a hundred thousand pushes at once would fill everybody's. So after
//! a push that leaves outboxes more than half full, the source waits until they have drained to a quarter.
//!
//! # Clients that do not read
//! A connection that takes nothing for [`PATIENCE`], or is not done after [`LONGEST`], counts as stalled: it is not
//! waited for again until its outbox was empty once, and the third time never more. What becomes of it is up to
//! `backpressure` alone. However many stall at once, they are waited for side by side.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::push::Push;
use crate::registry::Registry;
use crate::session::Session;

/// Time in which a connection must take at least one push to be waited for further.
const PATIENCE: Duration = Duration::from_millis(500);

/// Longest time to wait after one push, for clients that read, but hardly.
const LONGEST: Duration = Duration::from_secs(5);

/// Connections noted after one push; the others are noted after the next ones, long before they overflow.
const MAX_NOTED: usize = 1024;

/// Pushes queued to connections before their tasks have a turn.
const QUEUED_PER_TURN: usize = 1024;

/// What one source keeps to pace itself.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// The connections to wait for, with how many pushes each had taken; empty between two pushes.
    crowded: Vec<(Arc<Session>, u16)>,
    queued: usize,
}

impl Pace {
    /// Sends a push to every connection of its subjects, and waits while healthy ones among them are behind.
    ///
    /// Returns how many connections it was queued to. Pushes given one after the other keep their order; a call that
    /// is cancelled while it waits has sent its push.
    pub(crate) async fn publish(&mut self, registry: &Registry, push: &Push) -> usize {
        let Self { crowded, queued } = self;
        // A call before this one may have been cancelled.
        crowded.clear();
        let sent = registry.publish_noting(&push.subjects, &push.payload, |session| {
            if crowded.len() < MAX_NOTED
                && let Some(taken) = session.outbox().crowded(registry.limits())
            {
                crowded.push((Arc::clone(session), taken));
            }
        });
        *queued += sent;
        if !self.crowded.is_empty() {
            self.wait(registry).await;
            self.crowded.clear();
            self.queued = 0;
        } else if self.queued >= QUEUED_PER_TURN {
            self.queued = 0;
            tokio::task::yield_now().await;
        }
        sent
    }

    async fn wait(&mut self, registry: &Registry) {
        let limits = registry.limits();
        let started = Instant::now();
        let mut look_again = started + PATIENCE;
        loop {
            let mut drained = std::pin::pin!(limits.drained());
            drained.as_mut().enable();
            // One is watched at a time: by when it has drained, most others have.
            while self
                .crowded
                .pop_if(|(session, _)| !session.outbox().watch(limits))
                .is_some()
            {}
            if self.crowded.is_empty() {
                return;
            }
            if tokio::time::timeout_at(look_again, drained).await.is_ok() {
                continue;
            }
            if started.elapsed() >= LONGEST {
                for (session, _) in &self.crowded {
                    session.outbox().give_up(limits);
                }
                return;
            }
            self.crowded
                .retain_mut(|(session, taken)| session.outbox().progresses(taken, limits));
            look_again += PATIENCE;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::{BackpressureConfig, BackpressureStrategy};
    use crate::outbox::Registered;
    use crate::telemetry::metrics::Metrics;

    fn registry(global_buffer: usize) -> Arc<Registry> {
        let backpressure = BackpressureConfig {
            strategy: BackpressureStrategy::Close,
            per_conn_buffer: 8,
            global_buffer,
            ..BackpressureConfig::default()
        };
        Arc::new(Registry::new(backpressure, Metrics::new().unwrap()))
    }

    fn session(registry: &Registry, subject: &str) -> Arc<Session> {
        let session = Session::for_tests("1", &[subject]);
        registry.register(&session, 0).unwrap();
        session
    }

    fn push(n: usize) -> Push {
        Push::parse(format!(r#"{{"subjects":["all"],"payload":{n}}}"#).as_bytes()).unwrap()
    }

    /// Takes pushes as a connection's task does, with a pause after each, until there were `count`.
    fn reader(
        registry: &Arc<Registry>,
        count: usize,
        pause: Duration,
    ) -> (Arc<Session>, JoinHandle<()>) {
        let session = session(registry, "all");
        let (registry, reading) = (Arc::clone(registry), Arc::clone(&session));
        let task = tokio::spawn(async move {
            for n in 0..count {
                let text = loop {
                    if let Some(text) = reading.outbox().pop(registry.limits()) {
                        break text;
                    }
                    poll_fn(|cx| match reading.outbox().register(cx.waker()) {
                        Registered::Nothing => Poll::Pending,
                        Registered::Push => Poll::Ready(()),
                        Registered::Close(close) => panic!("{close:?}"),
                    })
                    .await;
                };
                assert_eq!(
                    text.as_str(),
                    format!(r#"{{"type":"event","payload":{n}}}"#)
                );
                if !pause.is_zero() {
                    tokio::time::sleep(pause).await;
                }
            }
        });
        (session, task)
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_gets_all_however_much_there_is() {
        const PUSHES: usize = 10_000;
        for global_buffer in [4, 1000] {
            let registry = registry(global_buffer);
            let readers: Vec<_> = (0..3)
                .map(|_| reader(&registry, PUSHES, Duration::ZERO))
                .collect();
            let mut pace = Pace::default();
            for n in 0..PUSHES {
                assert_eq!(pace.publish(&registry, &push(n)).await, 3);
            }
            for (_, task) in readers {
                task.await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_stop_reading_cost_one_patience_however_many_they_are() {
        let registry = registry(1_000_000);
        let (_reader, task) = reader(&registry, 1000, Duration::ZERO);
        let stopped: Vec<_> = (0..100).map(|_| session(&registry, "all")).collect();
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..1000 {
            pace.publish(&registry, &push(n)).await;
        }
        task.await.unwrap();
        let waited = start.elapsed();
        assert!((PATIENCE..PATIENCE * 2).contains(&waited), "{waited:?}");
        for session in stopped {
            assert_eq!(session.outbox().close_asked().unwrap().code, 4408);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_reader_is_waited_for_and_one_that_hardly_reads_is_not() {
        let registry = registry(1000);
        let (_session, steady) = reader(&registry, 100, PATIENCE / 4);
        let mut pace = Pace::default();
        for n in 0..100 {
            pace.publish(&registry, &push(n)).await;
        }
        steady.await.unwrap();

        let hardly = session(&registry, "all");
        let reading = tokio::spawn({
            let (registry, hardly) = (Arc::clone(&registry), Arc::clone(&hardly));
            async move {
                loop {
                    tokio::time::sleep(PATIENCE).await;
                    hardly.outbox().pop(registry.limits());
                    if hardly.outbox().close_asked().is_some() {
                        return;
                    }
                    // It is more behind with every push that it takes.
                    registry.publish(&["all"], &push(0).payload);
                }
            }
        });
        let start = Instant::now();
        while hardly.outbox().close_asked().is_none() {
            pace.publish(&registry, &push(0)).await;
        }
        assert!(
            start.elapsed() <= LONGEST + PATIENCE,
            "{:?}",
            start.elapsed()
        );
        reading.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_stalls_is_waited_for_again_once_it_caught_up_but_not_for_ever() {
        let registry = registry(1000);
        let session = session(&registry, "all");
        let (mut pace, mut waits) = (Pace::default(), 0);
        for _ in 0..10 {
            let start = Instant::now();
            for n in 0..8 {
                pace.publish(&registry, &push(n)).await;
            }
            waits += usize::from(start.elapsed() >= PATIENCE);
            while session.outbox().pop(registry.limits()).is_some() {}
        }
        assert_eq!(waits, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_is_not_waited_for() {
        let registry = registry(1000);
        let session = session(&registry, "all");
        let leaving = tokio::spawn({
            let registry = Arc::clone(&registry);
            async move {
                tokio::time::sleep(PATIENCE / 10).await;
                registry.unregister(&session);
            }
        });
        let (mut pace, start) = (Pace::default(), Instant::now());
        for n in 0..100 {
            pace.publish(&registry, &push(n)).await;
        }
        assert!(start.elapsed() < PATIENCE / 2, "{:?}", start.elapsed());
        leaving.await.unwrap();
    }
}
