//! Erases what the stores of a gateway keep of one user (article 17 of the GDPR), while gateways go on.
//!
//! Stands beside the data path: `wsgw erase` calls it, with the pipeline file of a gateway and no gateway in between.
//!
//! # What is a user's
//! An event whose `user_id` is the user's, and a push that is addressed to the user's own subject, wherever it lies: in
//! a stream, in the archive, as a dead letter. What others wrote about the user cannot be found, as nobody looks into
//! payloads. `person` decides; all stores ask it.
//!
//! # While gateways write
//! Nothing here locks anything. Each store is read from its beginning to its end, in batches, with pauses as long as
//! the batches took; then streams, archive and file are looked at once more, for what came meanwhile. Every step can
//! be repeated, and two that erase at once do not harm each other.
//!
//! # Layout
//! `streams`, `online`, `queue`, `letter_file` and `archive` know one kind of store each; `remains` names what is left.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

pub(crate) use self::person::{Person, Verdict};
use self::stores::Stores;
use crate::api::Readiness;
use crate::brokers::Brokers;
use crate::config::Config;
use crate::svc::BoxError;
use crate::telemetry::metrics::Metrics;

mod archive;
mod letter_file;
mod online;
mod person;
mod queue;
mod redis;
mod remains;
mod stores;
mod streams;

/// Longest pause between two batches.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Whose data, and whether it is only counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The user's id, as events have it.
    pub user_id: String,
    /// Counts, and erases nothing.
    pub dry_run: bool,
}

/// What became of one store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The kind of store: `redis_stream`, `presence`, `leases`, `rabbitmq_queue`, `archive` or `dead_letter_file`.
    pub store: &'static str,
    /// Its name: of a stream, a queue, a file.
    pub name: String,
    /// Where it is, without credentials.
    pub place: String,
    /// Whether there is such a store at all.
    pub exists: bool,
    /// Entries that were looked at.
    pub examined: u64,
    /// Entries of the user among them.
    pub found: u64,
    /// Entries that were erased.
    pub erased: u64,
    /// Entries among the found that came while the others were erased.
    pub found_late: u64,
    /// Pushes among the found that were addressed to others too.
    pub shared: u64,
    /// Entries that are no event and no push, and do not name the user as far as can be seen.
    pub unreadable: u64,
    /// What kept the store from being searched to its end; never a payload or a password.
    pub error: Option<String>,
}

/// What may still be kept of the user, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remains {
    /// Where.
    pub place: String,
    /// Why it is not erased.
    pub reason: String,
    /// What to do.
    pub advice: String,
}

/// What became of all stores.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whose data.
    pub user_id: String,
    /// Whether it was only counted.
    pub dry_run: bool,
    /// Whether every store was searched to its end, and nothing of the user came meanwhile.
    pub complete: bool,
    /// Connections of the user that gateways had open, as far as Redis knows.
    pub open_connections: u64,
    /// The stores.
    pub stores: Vec<Finding>,
    /// What else may be kept.
    pub remains: Vec<Remains>,
}

impl Report {
    /// Whether a store could not be searched to its end.
    #[must_use]
    pub fn failed(&self) -> bool {
        self.stores.iter().any(|store| store.error.is_some())
    }

    /// Whether the user is still there, so that there will be more.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.open_connections > 0 || self.stores.iter().any(|store| store.found_late > 0)
    }
}

impl Finding {
    fn of(store: &'static str, name: impl Into<String>, place: impl Into<String>) -> Self {
        Self {
            store,
            name: name.into(),
            place: place.into(),
            ..Self::default()
        }
    }

    /// Counts an entry that was looked at; says whether it is to go.
    fn judge(&mut self, verdict: Verdict, late: bool) -> bool {
        self.examined += 1;
        match verdict {
            Verdict::Theirs { shared } => {
                self.found += 1;
                self.found_late += u64::from(late);
                self.shared += u64::from(shared);
                true
            }
            Verdict::Unreadable => {
                self.unreadable += 1;
                false
            }
            Verdict::Others => false,
        }
    }
}

/// What is told while stores are searched; called often.
pub type Tell<'a> = &'a (dyn Fn(&Finding) + Send + Sync);

/// What every store is asked with.
#[derive(Clone, Copy)]
struct Task<'a> {
    person: &'a Person,
    dry_run: bool,
    /// Whether the store was searched before, so that what is found came meanwhile.
    late: bool,
    tell: Tell<'a>,
}

/// Erases what the stores of a configuration keep of a user, or counts it.
///
/// A store that fails is named in the report, and the others are searched all the same.
///
/// # Errors
/// When a DSN is malformed, before anything is erased.
pub async fn erase(config: &Config, request: &Request, tell: Tell<'_>) -> Result<Report, BoxError> {
    let readiness = Arc::new(Readiness::default());
    let brokers = Brokers::new(
        config.brokers.clone(),
        Arc::clone(&readiness),
        Metrics::new()?,
    );
    let person = Person::new(&request.user_id, &config.subjects.user_prefix);
    let mut stores = Stores::of(config, &brokers, &person)?;
    let mut task = Task {
        person: &person,
        dry_run: request.dry_run,
        late: false,
        tell,
    };
    stores.connect(&readiness).await;
    stores.search(task).await;
    // Counting is done once: what comes later is found when it is erased.
    if !request.dry_run {
        task.late = true;
        stores.search(task).await;
    }
    let remains = remains::of(config, &mut stores).await;
    let mut report = Report {
        user_id: request.user_id.clone(),
        dry_run: request.dry_run,
        complete: false,
        open_connections: stores.open_connections(),
        stores: stores.findings(),
        remains,
    };
    report.complete = !report.failed() && !report.goes_on();
    Ok(report)
}

/// Leaves a store to others for as long as a batch took.
pub(crate) async fn pause(took: Duration) {
    tokio::time::sleep(took.min(LONGEST_PAUSE)).await;
}
