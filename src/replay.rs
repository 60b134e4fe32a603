//! Replay: bringing back what could not be delivered, or what was delivered long ago.
//!
//! Stands beside the data path. The API and the command line ask for it; the stores of dead letters and the archive
//! do it.
//!
//! # How a call goes
//!
//! Every call, whatever it replays from, passes [`Replays`] in one order: the API judges its key and reads its body;
//! then its rate is judged; then an earlier result of the same idempotency key is given, or waited for; then it waits
//! for its turn, as one call at a time acts on a store; and only then the store acts, in a task that goes on when the
//! caller hangs up. An [`Attempt`] goes along with the call and leaves one count and one line of the audit log behind,
//! however the call ends.
//!
//! # Adding something to replay from
//!
//! A store of dead letters implements [`DeadLetterStore`] and is handed over in `Sinks::dead_letter_stores`; it needs
//! a `Target` and a route (`api/route.rs`). What is no store of dead letters, as the archive, has a handler of its
//! own (`api/replay_archive.rs`), which reads its fields, then hands a future to `api::replay::guarded`: that is all
//! of the above.

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};

mod attempt;
mod file;
mod idempotency;
mod rate_limit;
mod service;
mod settings;

pub mod archive;

pub use attempt::{Attempt, Caller};
pub use file::FileDeadLetters;
pub use service::{Call, Listed, Refusal, ReplaySetupError, Replays, Work};
pub use settings::{
    ArchiveConfig, CountStrategy, IdempotencyConfig, RabbitmqReplayConfig, RateLimitKey,
    RedisReplayConfig, ReplayApiConfig, ReplayConfig, ReplayRateLimitConfig, ReplayStrategy,
};

/// A dead letter as its store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StoredLetter {
    /// Where it is kept: `redis`, `rabbitmq` or `file`.
    pub store: &'static str,
    /// Its place there, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Id of the event, for events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
    /// The sink that failed, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Why it is dead.
    pub reason: String,
    /// Unix seconds at which it was given up, where known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<u64>,
    /// What was to be delivered.
    pub raw: String,
}

/// Why a replay ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ReplayError {
    /// What was replayed all the same.
    pub replayed: usize,
    /// What went wrong; never a password or a payload.
    pub reason: String,
}

impl From<String> for ReplayError {
    /// Nothing was replayed.
    fn from(reason: String) -> Self {
        Self {
            replayed: 0,
            reason,
        }
    }
}

/// A store of dead letters that can give them back.
pub trait DeadLetterStore: Send + Sync {
    /// `redis`, `rabbitmq` or `file`.
    fn name(&self) -> &'static str;

    /// How many dead letters there are.
    fn depth(&self) -> BoxFuture<'_, Result<u64, ReplayError>>;

    /// The oldest dead letters, which stay where they are.
    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredLetter>, ReplayError>>;

    /// Moves the oldest dead letters to the configured target, each only once its copy is safe there.
    ///
    /// Gives how many it moved; fewer than `limit` when there are no more.
    fn replay(&self, limit: usize) -> BoxFuture<'_, Result<usize, ReplayError>>;
}

/// What a replay came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// How many letters or events were moved.
    pub replayed: usize,
    /// How many the target would not take, where that does not end the replay.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub refused: usize,
    /// Where the next call goes on, for what is not used up by being replayed and has more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl From<usize> for Replayed {
    fn from(replayed: usize) -> Self {
        Self {
            replayed,
            ..Self::default()
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A replay that ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct EndedEarly {
    /// What it had come to.
    pub came: Replayed,
    /// What went wrong; never a password or a payload.
    pub reason: String,
}

impl From<ReplayError> for EndedEarly {
    fn from(error: ReplayError) -> Self {
        Self {
            came: error.replayed.into(),
            reason: error.reason,
        }
    }
}
