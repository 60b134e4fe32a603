//! How many dead letters wait, and how far sources are behind: what only the brokers know.
//!
//! Stands beside the data path. One task asks, every 15 s and only while somebody looks at the metrics; whoever looks gets
//! what it found last and never waits for a broker. What nobody could say is not shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use prometheus::IntGaugeVec;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::api::InForce;
use crate::brokers::{rabbitmq, redis};
use crate::sources::Lags;
use crate::telemetry::metrics::{Metrics, Sampled};

/// Every store of dead letters.
const STORES: [&str; 3] = [redis::NAME, rabbitmq::NAME, "file"];

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(15);

/// Time that a broker has to answer one look.
const PATIENCE: Duration = Duration::from_secs(2);

/// Time without anybody who looks at the metrics after which nothing is asked any more; longer than scrapes are apart.
const UNTIL_IDLE: Duration = Duration::from_secs(150);

/// Keeps the gauges fresh while somebody looks at them; stops when dropped.
pub(super) struct Depths {
    _asked: Arc<Asked>,
    _task: AbortOnDropHandle<()>,
}

/// When somebody last looked at the metrics.
struct Asked(watch::Sender<Option<Instant>>);

impl Sampled for Asked {
    fn sample(&self, _: &Metrics) {
        self.0.send_replace(Some(Instant::now()));
    }
}

impl Depths {
    /// Starts the task, which waits until somebody looks.
    pub(super) fn start(metrics: &Metrics, in_force: Arc<ArcSwap<InForce>>, lags: Lags) -> Self {
        let (asked, looked) = watch::channel(None);
        let asked = Arc::new(Asked(asked));
        let sampled: Arc<dyn Sampled> = Arc::clone(&asked) as _;
        metrics.sample_from(Arc::downgrade(&sampled));
        let look = Look {
            metrics: metrics.clone(),
            in_force,
            lags,
        };
        Self {
            _asked: asked,
            _task: AbortOnDropHandle::new(tokio::spawn(look.while_asked(looked))),
        }
    }
}

struct Look {
    metrics: Metrics,
    in_force: Arc<ArcSwap<InForce>>,
    lags: Lags,
}

impl Look {
    async fn while_asked(self, mut asked: watch::Receiver<Option<Instant>>) {
        while asked.changed().await.is_ok() {
            loop {
                let began = Instant::now();
                tokio::join!(self.dead_letters(), self.lags());
                sleep_until(began + EVERY).await;
                let last = *asked.borrow_and_update();
                if last.is_none_or(|at| at.elapsed() >= UNTIL_IDLE) {
                    break;
                }
            }
            // Better nothing than what was true once.
            self.metrics.dead_letter_queue_depth.reset();
            self.metrics.source_lag.reset();
        }
    }

    async fn dead_letters(&self) {
        let in_force = self.in_force.load_full();
        let looks = in_force.replays.stores().iter().map(async |store| {
            let depth = timeout(PATIENCE, store.depth()).await;
            (store.name(), depth.ok().and_then(Result::ok))
        });
        let found: HashMap<_, _> = join_all(looks).await.into_iter().collect();
        // A reload may have done away with one that was known.
        let depths = STORES.map(|store| (store, found.get(store).copied().flatten()));
        show(&self.metrics.dead_letter_queue_depth, &depths);
    }

    async fn lags(&self) {
        show(&self.metrics.source_lag, &self.lags.look().await);
    }
}

/// Shows what is known, and nothing of the rest.
fn show(gauges: &IntGaugeVec, found: &[(&'static str, Option<u64>)]) {
    for (label, value) in found {
        match value {
            Some(value) => gauges
                .with_label_values(&[*label])
                .set(i64::try_from(*value).unwrap_or(i64::MAX)),
            // It may never have been known.
            None => drop(gauges.remove_label_values(&[*label])),
        }
    }
}
