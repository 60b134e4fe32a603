//! The task that renews the gateway's lease and looks after those of others.
//!
//! Stands beside the data path; nobody waits for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::keys::node_of;
use super::layer::Desk;
use super::record::Record;
use super::speaker::{Interrupted, Speaker};
use crate::brokers::redis::{Atomicity, LinkError};
use crate::close::Close;
use crate::registry::Registry;
use crate::session::Session;
use crate::telemetry::throttle::Throttle;

/// Records written again in one round trip.
const CHUNK: usize = 250;

/// The task that renews the gateway's lease.
pub(super) struct Keeper {
    pub(super) desk: Arc<Desk>,
    pub(super) registry: Arc<Registry>,
    pub(super) speaker: Speaker,
    /// Time without a break after which this gateway may judge others.
    pub(super) patience: Duration,
    /// Connections that are open already were admitted without leases.
    adopts: bool,
    state: State,
}

#[derive(Default)]
struct State {
    /// Since when every renewal succeeded.
    steady_since: Option<Instant>,
    last_renewal: Option<Instant>,
    /// Records may be missing.
    doubtful: bool,
    /// Renewals in a row that found fewer records than there should be.
    short: u32,
    /// Connections below this id began under a lease that is lost, and must end.
    ended_below: Option<Uuid>,
    /// Earlier processes of this gateway were looked for.
    looked_back: bool,
    speaking: Option<AbortOnDropHandle<()>>,
    /// Connections without a record, whose `connected` may not have been told yet.
    adopting: Vec<Arc<Session>>,
    log: Throttle,
}

/// What a renewal found.
struct Renewed {
    lost: bool,
    /// The lease was not there before.
    new: bool,
    records: usize,
    expired: Vec<Arc<str>>,
}

impl Keeper {
    pub(super) fn new(
        desk: Arc<Desk>,
        registry: Arc<Registry>,
        speaker: Speaker,
        patience: Duration,
        adopts: bool,
    ) -> Self {
        Self {
            desk,
            registry,
            speaker,
            patience,
            adopts,
            state: State::default(),
        }
    }

    /// Renews until it is dropped.
    pub(super) async fn run(mut self) {
        let ttl = self.desk.book.ttl;
        self.desk.link.load_full().connected().await;
        if self.adopts {
            self.state.adopting = self.registry.all();
        }
        let mut interval = tokio::time::interval(ttl / 3);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            let renewed = match tokio::time::timeout(ttl, self.renew()).await {
                Ok(Ok(renewed)) => {
                    self.desk.book.set_refused(false);
                    renewed
                }
                Ok(Err(error)) => {
                    if matches!(error, Interrupted::Refused(_)) {
                        self.desk.book.set_refused(true);
                    }
                    self.failed(&error.to_string());
                    continue;
                }
                Err(_) => {
                    self.failed("no answer");
                    continue;
                }
            };
            if let Err(error) = self.act(renewed).await {
                self.failed(&error.to_string());
            }
        }
    }

    fn failed(&mut self, error: &str) {
        self.state.steady_since = None;
        self.state.doubtful = true;
        if let Some(suppressed) = self.state.log.pass() {
            tracing::warn!(event = "lease_renewal_failed", error, suppressed);
        }
    }

    async fn renew(&self) -> Result<Renewed, Interrupted> {
        let book = &self.desk.book;
        let command = book.keys.renew(&book.lease(), book.ttl);
        let answer: Vec<Value> = self.ask(command).await?;
        let mut answer = answer.into_iter();
        let mut next = || answer.next().unwrap_or(Value::Nil);
        let (state, now, records) = (text(&next()), number(&next()), number(&next()));
        let (Some(now), Some(records)) = (now, records) else {
            return Err(Interrupted::Refused("an answer of another form".to_owned()));
        };
        book.set_clock(now);
        Ok(Renewed {
            lost: state == "lost",
            new: state == "new",
            records: usize::try_from(records).unwrap_or_default(),
            expired: answer.map(|lease| text(&lease).into()).collect(),
        })
    }

    async fn act(&mut self, renewed: Renewed) -> Result<(), Interrupted> {
        let (desk, now) = (Arc::clone(&self.desk), Instant::now());
        desk.answers.store(true, Ordering::Relaxed);
        if renewed.lost {
            let lease = desk.book.lease();
            self.state.ended_below = Some(desk.book.begin_anew());
            self.state.steady_since = None;
            let connections = self.registry.len();
            tracing::error!(event = "lease_lost", lease = &*lease, connections);
            self.end_former();
            // The new lease begins at once, not with the next turn.
            return self.renew().await.map(drop);
        }
        self.end_former();
        let ttl = desk.book.ttl;
        let broken = |last: Instant| now.duration_since(last) > ttl;
        if self.state.last_renewal.is_none_or(broken) {
            self.state.steady_since = None;
        }
        self.state.last_renewal = Some(now);
        let steady_since = *self.state.steady_since.get_or_insert(now);
        self.remove_left_over().await?;
        self.adopt();
        self.state.short = if renewed.records < desk.book.open_count() {
            self.state.short + 1
        } else {
            0
        };
        if renewed.new || self.state.doubtful || self.state.short > 1 {
            self.write_again().await?;
            self.state.doubtful = false;
            self.state.short = 0;
        }
        let mut lost: Vec<(Arc<str>, bool)> = Vec::new();
        if !self.state.looked_back {
            lost.extend(
                self.own_former()
                    .await?
                    .into_iter()
                    .map(|lease| (lease, true)),
            );
            self.state.looked_back = true;
        }
        if now.duration_since(steady_since) >= self.patience {
            let expired = renewed.expired.into_iter();
            lost.extend(expired.map(|lease| (lease, false)));
        }
        self.speak_for(lost);
        Ok(())
    }

    /// Gives records to connections that were admitted without leases, once their `connected` was enqueued.
    ///
    /// Whoever is registered now tells `disconnected` by the newest generation, which looks after the record.
    fn adopt(&mut self) {
        let book = &self.desk.book;
        let mut adopted = false;
        self.state.adopting.retain(|session| {
            let id = session.id();
            let is_open = || self.registry.get(id).is_some();
            if session.next_seq() == 1 {
                return is_open();
            }
            // First noted and then looked at, so that an end in between is not missed.
            book.adopt(id);
            if is_open() {
                adopted = true;
            } else {
                book.close(id);
            }
            false
        });
        self.state.doubtful |= adopted;
    }

    /// Ends the connections of a lease that is lost: the backend was told that they are gone.
    fn end_former(&self) {
        if let Some(below) = self.state.ended_below {
            for session in self.registry.all() {
                if session.id() < below {
                    session.outbox().close(Close::try_again());
                }
            }
        }
    }

    /// The leases of earlier processes of this gateway, which are lost, whatever is left of them.
    async fn own_former(&self) -> Result<Vec<Arc<str>>, Interrupted> {
        let book = &self.desk.book;
        let leases: Vec<String> = self.ask(book.keys.leases()).await?;
        let own = book.lease();
        let former = |lease: &String| node_of(lease) == &*book.node_id && **lease != *own;
        Ok(leases.into_iter().filter(former).map(Arc::from).collect())
    }

    /// Speaks for lost gateways, one after the other, unless that is going on already.
    fn speak_for(&mut self, lost: Vec<(Arc<str>, bool)>) {
        let busy = self.state.speaking.as_ref();
        if lost.is_empty() || busy.is_some_and(|task| !task.is_finished()) {
            return;
        }
        let speaker = self.speaker.clone();
        self.state.speaking = Some(AbortOnDropHandle::new(tokio::spawn(async move {
            for (lease, held) in lost {
                let node = node_of(&lease).to_owned();
                if let Err(error) = speaker.speak(lease, held).await {
                    tracing::warn!(event = "node_lost_interrupted", node, %error);
                }
            }
        })));
    }

    async fn remove_left_over(&self) -> Result<(), Interrupted> {
        let book = &self.desk.book;
        for (lease, ids) in book.left_over() {
            for ids in ids.chunks(CHUNK) {
                self.ask::<i64>(book.keys.forget(&lease, ids)).await?;
                book.removed(ids);
            }
        }
        Ok(())
    }

    /// Writes the records of all open connections again.
    async fn write_again(&self) -> Result<(), Interrupted> {
        let book = &self.desk.book;
        let lease = book.lease();
        let open = book.open_under(&lease);
        for ids in open.chunks(CHUNK) {
            let records: Vec<(Uuid, String)> = ids
                .iter()
                .filter_map(|id| self.registry.get(*id))
                .map(|session| (session.id(), Record::of_session(&session)))
                .collect();
            if records.is_empty() {
                continue;
            }
            let fields: Vec<(Uuid, &str)> = records.iter().map(|(id, r)| (*id, &**r)).collect();
            let [write, _] = book.keys.record(&lease, &fields, 0);
            self.ask::<i64>(write).await?;
            // Their end was told meanwhile, perhaps before the record was written.
            let ended: HashSet<Uuid> = ids
                .iter()
                .copied()
                .filter(|id| !book.is_open(*id))
                .collect();
            if !ended.is_empty() {
                let ended: Vec<Uuid> = ended.into_iter().collect();
                self.ask::<i64>(book.keys.forget(&lease, &ended)).await?;
            }
        }
        Ok(())
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: Cmd) -> Result<T, Interrupted> {
        self.speaker.ask(command).await
    }
}

fn text(value: &Value) -> String {
    redis::from_redis_value_ref(value).unwrap_or_default()
}

fn number(value: &Value) -> Option<u64> {
    redis::from_redis_value_ref(value).ok()
}

/// Ends a lease; with all its records, or only if it has none.
pub(super) async fn leave(desk: &Desk, all_told: bool) -> Result<(), LinkError> {
    let leave = desk.book.keys.leave(&desk.book.lease(), all_told);
    let link = desk.link.load_full();
    link.run(&[leave], Atomicity::Each).await.map(drop)
}
