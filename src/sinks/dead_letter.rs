//! Dead letters: what finally could not be delivered, and where it is kept.
//!
//! Stands behind every delivery, and behind the sources for pushes that cannot be parsed.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::time::Instant;
use uuid::Uuid;

use crate::clock::unix_now;
use crate::telemetry::metrics::Metrics;

/// Time that one target may take to keep one dead letter.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);

/// The same where another target follows: short enough that a gateway that stops while a broker hangs has most of the
/// five seconds left that its dead letters then have.
const FALLBACK_AFTER: Duration = Duration::from_secs(2);

/// Time for which a target that failed is passed over, where there is another.
const REST: Duration = Duration::from_secs(5);

/// What finally could not be delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Why; never a secret.
    pub reason: String,
    /// What was to be delivered: the event's JSON, or what a source read.
    pub raw: Bytes,
    /// The event's id, for events.
    pub event_id: Option<Uuid>,
    /// The sink that failed: `webhook`, `redis`, `rabbitmq`, `stdout`.
    pub sink: &'static str,
    /// Unix seconds at which it was given up, like every time in events and presence.
    pub failed_at: u64,
}

impl DeadLetter {
    /// Makes a dead letter that is given up now.
    #[must_use]
    pub fn now(reason: String, raw: Bytes, event_id: Option<Uuid>, sink: &'static str) -> Self {
        Self {
            reason,
            raw,
            event_id,
            sink,
            failed_at: unix_now(),
        }
    }
}

/// Why something is a dead letter, in one of few words; its `reason` says it in full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The other side refused it.
    Rejected,
    /// It was tried as often as it may be.
    Exhausted,
    /// The other side does not take so much at once.
    TooLarge,
    /// `RabbitMQ` has no queue for it.
    Returned,
    /// What a source read is no push.
    Malformed,
    /// A reload removed its sink.
    Removed,
    /// The gateway stopped.
    Shutdown,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Rejected,
        Self::Exhausted,
        Self::TooLarge,
        Self::Returned,
        Self::Malformed,
        Self::Removed,
        Self::Shutdown,
    ];

    /// The label `reason` of the metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::Exhausted => "exhausted",
            Self::TooLarge => "too_large",
            Self::Returned => "returned",
            Self::Malformed => "malformed",
            Self::Removed => "removed",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Counts the dead letters of one sink or source; every cause that it can have stands at zero from the start.
#[derive(Debug, Clone)]
pub struct DeadLetterCount(Vec<(Cause, [IntCounter; 2])>);

impl DeadLetterCount {
    /// The counts of a sink.
    #[must_use]
    pub fn of_sink(sink: &str, metrics: &Metrics) -> Self {
        let causes = Cause::ALL.into_iter();
        Self::new(
            sink,
            causes.filter(|cause| *cause != Cause::Malformed),
            metrics,
        )
    }

    /// The counts of a source.
    #[must_use]
    pub fn of_source(source: &str, metrics: &Metrics) -> Self {
        Self::new(source, [Cause::Malformed].into_iter(), metrics)
    }

    fn new(name: &str, causes: impl Iterator<Item = Cause>, metrics: &Metrics) -> Self {
        let count = |cause: Cause, result| {
            let labels = [name, cause.label(), result];
            metrics.dead_letters_total.with_label_values(&labels)
        };
        Self(
            causes
                .map(|cause| (cause, ["kept", "lost"].map(|result| count(cause, result))))
                .collect(),
        )
    }

    /// Counts dead letters, by whether they are kept.
    pub fn add(&self, cause: Cause, kept: bool, letters: usize) {
        if let Some((_, [kept_count, lost_count])) =
            self.0.iter().find(|(known, _)| *known == cause)
        {
            let count = if kept { kept_count } else { lost_count };
            count.inc_by(letters as u64);
        }
    }

    /// How many were kept and how many lost, for whatever cause.
    #[must_use]
    pub fn totals(&self) -> (u64, u64) {
        self.0
            .iter()
            .fold((0, 0), |(kept, lost), (_, [more_kept, more_lost])| {
                (kept + more_kept.get(), lost + more_lost.get())
            })
    }
}

/// Why a dead letter could not be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeadLetterError {
    /// There is no target.
    #[error("no dead-letter target is configured")]
    NoTarget,
    /// The target failed.
    #[error("{0}")]
    Failed(String),
    /// The target did not answer in time.
    #[error("the dead-letter target did not answer within {} s", STORE_TIMEOUT.as_secs())]
    Timeout,
}

/// The future of [`DeadLetters::store`].
pub type StoreFuture<'a> = Pin<Box<dyn Future<Output = Result<(), DeadLetterError>> + Send + 'a>>;

/// Where dead letters are kept.
pub trait DeadLetters: Send + Sync {
    /// Keeps a dead letter; done means that it survives the gateway's end.
    ///
    /// # Errors
    /// When it could not be kept.
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_>;
}

/// No target: every dead letter is lost, which the delivery counts and logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDeadLetters;

impl DeadLetters for NoDeadLetters {
    fn store(&self, _letter: DeadLetter) -> StoreFuture<'_> {
        Box::pin(std::future::ready(Err(DeadLetterError::NoTarget)))
    }
}

/// Several targets, of which the first that works keeps the dead letter.
///
/// A target that failed, or hung for two seconds, is passed over for five, so that a broker's end does not hold up the
/// dead letters that the next target can keep.
pub struct FallbackDeadLetters {
    targets: Vec<Target>,
}

struct Target {
    letters: Arc<dyn DeadLetters>,
    rests_until: Mutex<Option<Instant>>,
}

impl FallbackDeadLetters {
    /// Chains targets, the preferred one first.
    #[must_use]
    pub fn new(targets: Vec<Arc<dyn DeadLetters>>) -> Self {
        let targets = targets
            .into_iter()
            .map(|letters| Target {
                letters,
                rests_until: Mutex::new(None),
            })
            .collect();
        Self { targets }
    }

    /// Whether it chains exactly these targets.
    #[must_use]
    pub fn chains(&self, targets: &[Arc<dyn DeadLetters>]) -> bool {
        self.targets.len() == targets.len()
            && self
                .targets
                .iter()
                .zip(targets)
                .all(|(own, other)| Arc::ptr_eq(&own.letters, other))
    }

    async fn store_in_first(&self, letter: DeadLetter) -> Result<(), DeadLetterError> {
        let mut error = DeadLetterError::NoTarget;
        let last = self.targets.len().saturating_sub(1);
        for (index, target) in self.targets.iter().enumerate() {
            let rests = (*target.rests_until.lock()).is_some_and(|until| Instant::now() < until);
            if rests && index < last {
                continue;
            }
            let patience = if index < last {
                FALLBACK_AFTER
            } else {
                STORE_TIMEOUT
            };
            let stored = tokio::time::timeout(patience, target.letters.store(letter.clone()));
            error = match stored.await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => DeadLetterError::Timeout,
            };
            *target.rests_until.lock() = Some(Instant::now() + REST);
        }
        Err(error)
    }
}

impl DeadLetters for FallbackDeadLetters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        Box::pin(self.store_in_first(letter))
    }
}

impl std::fmt::Debug for FallbackDeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FallbackDeadLetters")
            .field("targets", &self.targets.len())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Hangs;
    impl DeadLetters for Hangs {
        fn store(&self, _letter: DeadLetter) -> StoreFuture<'_> {
            Box::pin(std::future::pending())
        }
    }

    #[derive(Default)]
    struct Keeps(Mutex<Vec<DeadLetter>>);
    impl DeadLetters for Keeps {
        fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
            self.0.lock().push(letter);
            Box::pin(std::future::ready(Ok(())))
        }
    }

    fn letter() -> DeadLetter {
        DeadLetter::now(
            "HTTP 400".into(),
            Bytes::from_static(b"{}"),
            None,
            "webhook",
        )
    }

    #[tokio::test(start_paused = true)]
    async fn the_next_target_takes_over_and_the_failed_one_rests() {
        let keeps = Arc::new(Keeps::default());
        let chain = FallbackDeadLetters::new(vec![Arc::new(Hangs), keeps.clone()]);
        let start = Instant::now();
        chain.store(letter()).await.unwrap();
        assert_eq!(start.elapsed(), FALLBACK_AFTER);
        for _ in 0..100 {
            chain.store(letter()).await.unwrap();
        }
        assert_eq!(start.elapsed(), FALLBACK_AFTER, "the hanging one rests");
        assert_eq!(keeps.0.lock().len(), 101);
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_failure_is_told() {
        let chain = FallbackDeadLetters::new(vec![Arc::new(NoDeadLetters), Arc::new(Hangs)]);
        assert_eq!(chain.store(letter()).await, Err(DeadLetterError::Timeout));
        let none = FallbackDeadLetters::new(Vec::new());
        assert_eq!(none.store(letter()).await, Err(DeadLetterError::NoTarget));
    }
}
