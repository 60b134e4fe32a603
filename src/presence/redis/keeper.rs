//! The task that brings Redis to what the connections say.
//!
//! Stands between the notes and the link; nobody waits for it but the end of the process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;
use redis::{Cmd, Value};
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::keys::{Place, add, keep};
use super::notes::{Notes, Pending};
use super::wheel::Wheel;
use super::{Rules, Store, StoreError, mark};
use crate::clock::unix_now;
use crate::registry::Registry;
use crate::session::Session;
use crate::sparse;
use crate::telemetry::throttle::Throttle;

/// Commands in one round trip, or few more.
const BATCH: usize = 500;

/// Time between two looks at whether the index holds what it should.
const CHECK: Duration = Duration::from_secs(1);

/// Wait after the first failure; each further one waits longer.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The task that brings Redis to what the connections say.
pub(super) struct Keeper {
    store: Store,
    node_id: Box<str>,
    /// The key of this gateway's index.
    index: String,
    registry: Arc<Registry>,
    notes: Arc<Notes>,
    rules: Rules,
    wheel: Wheel,
    /// The connections, and whether each has an entry, which one whose heartbeat is overdue has not.
    known: HashMap<Uuid, bool, RandomState>,
    present: usize,
    /// Connections that were open when it began, until the first look.
    adopted: Vec<Arc<Session>>,
    /// Looks in a row that found another count in the index.
    differing: u32,
    wait: Duration,
    log: Throttle,
}

/// What one round trip is about.
#[derive(Default)]
struct Batch {
    commands: Vec<Cmd>,
    written: Vec<String>,
    removed: Vec<String>,
}

impl Keeper {
    pub(super) fn new(
        store: Store,
        node_id: &str,
        registry: Arc<Registry>,
        notes: Arc<Notes>,
        rules: Rules,
    ) -> Self {
        Self {
            index: store.keys.node(node_id),
            node_id: node_id.into(),
            store,
            registry,
            notes,
            wheel: Wheel::new(rules.granule()),
            rules,
            known: HashMap::default(),
            present: 0,
            adopted: Vec::new(),
            differing: 0,
            wait: FIRST_WAIT,
            log: Throttle::default(),
        }
    }

    /// Works until it is dropped.
    pub(super) async fn run(mut self) {
        self.adopt();
        loop {
            self.store.link.connected().await;
            if let Err(error) = self.serve().await {
                if let Some(suppressed) = self.log.pass() {
                    tracing::warn!(event = "presence_write_failed", %error, suppressed);
                }
                tokio::time::sleep(self.wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
                self.wait = (self.wait * 2).min(LONGEST_WAIT);
            }
        }
    }

    /// Takes over connections that were open before it began, as after a reload.
    fn adopt(&mut self) {
        self.adopted = self.registry.all();
        for session in &self.adopted {
            let quiet = unix_now().saturating_sub(session.beat_at());
            let beat = self.rules.now().saturating_sub(quiet * 1000);
            mark(session).beat.fetch_max(beat, Ordering::Relaxed);
        }
        for at in 0..self.adopted.len() {
            self.set_known(self.adopted[at].id(), true);
        }
    }

    /// Removes adopted connections that told only their former store of their end.
    fn look_at_adopted(&mut self) {
        for session in std::mem::take(&mut self.adopted) {
            if self.registry.get(session.id()).is_none() {
                self.notes.gone(&session);
            }
        }
    }

    /// Writes everything again, then what is noted, until something fails.
    async fn serve(&mut self) -> Result<(), StoreError> {
        self.reconcile().await?;
        let mut check = tokio::time::interval_at(Instant::now() + CHECK, CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let due = self.wheel.next().map(|at| self.rules.instant(at));
            let due = async {
                match due {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.notes.noted.notified() => self.work().await?,
                () = due => self.work().await?,
                _ = check.tick() => self.check().await?,
            }
        }
    }

    /// Does all that is noted or due.
    async fn work(&mut self) -> Result<(), StoreError> {
        let Pending {
            write, look, gone, ..
        } = self.notes.take();
        for id in look {
            self.note_look(id);
        }
        let due = self.wheel.take(self.rules.now());
        let mut result = Ok(());
        let mut ending: Vec<Arc<Session>> = Vec::new();
        let mut ended = gone.into_iter();
        let mut batch = Batch::default();
        let mut ids = write.into_iter().chain(due);
        loop {
            while batch.commands.len() < BATCH
                && let Some((_, session)) = ended.next()
            {
                self.remove(&session, &mut batch);
                self.drop_known(session.id());
                ending.push(session);
            }
            while batch.commands.len() < BATCH
                && let Some(id) = ids.next()
            {
                self.bring(id, &mut batch);
            }
            if batch.commands.is_empty() {
                break;
            }
            result = self.send(std::mem::take(&mut batch)).await;
            if result.is_err() {
                break;
            }
            ending.clear();
        }
        if result.is_err() {
            let mut undone = Pending::default();
            undone.write.extend(ids);
            undone
                .gone
                .extend(ending.into_iter().map(|session| (session.id(), session)));
            undone.gone.extend(ended);
            self.notes.put_back(undone);
        } else {
            self.wait = FIRST_WAIT;
        }
        self.notes.settle();
        result
    }

    fn note_look(&mut self, id: Uuid) {
        if let Some(session) = self.registry.get(id)
            && let Some(at) = self.rules.next_look(id, &mark(&session))
        {
            self.wheel.set(id, at);
        }
    }

    fn drop_known(&mut self, id: Uuid) {
        self.wheel.remove(id);
        if self.known.remove(&id) == Some(true) {
            self.present -= 1;
        }
        sparse::shrink(&mut self.known);
    }

    fn set_known(&mut self, id: Uuid, present: bool) {
        let was = self.known.insert(id, present).unwrap_or_default();
        self.present = self.present + usize::from(present) - usize::from(was);
    }

    /// Brings one connection's keys to what they should be now.
    fn bring(&mut self, id: Uuid, batch: &mut Batch) {
        let Some(session) = self.registry.get(id) else {
            // The note of its end follows, or was one too many and is left to the sweep.
            self.drop_known(id);
            return;
        };
        let (now, mark) = (self.rules.now(), mark(&session));
        mark.look_asked.store(false, Ordering::Relaxed);
        if self.rules.is_overdue(&mark, now) {
            self.set_known(id, false);
            self.remove(&session, batch);
            return;
        }
        let life = self.rules.life(&mark, now);
        mark.written.store(now, Ordering::Relaxed);
        self.store.keys.write(&session, life, &mut batch.commands);
        batch.written.push(id.to_string());
        self.set_known(id, true);
        if let Some(at) = self.rules.next_look(id, &mark) {
            self.wheel.set(id, at);
        }
    }

    fn remove(&self, session: &Session, batch: &mut Batch) {
        let id = session.id().to_string();
        let place = Place {
            id: &id,
            user_id: session.user_id(),
            subjects: session.subjects(),
        };
        self.store.keys.remove(&place, &mut batch.commands);
        batch.removed.push(id);
    }

    /// Sends a batch, with what it means for the index.
    async fn send(&self, batch: Batch) -> Result<(), StoreError> {
        let Batch {
            mut commands,
            written,
            removed,
        } = batch;
        let nodes = self.store.keys.nodes();
        let life = self
            .store
            .expires
            .then(|| Duration::from_millis(self.rules.life));
        if !removed.is_empty() {
            commands.push(add("ZREM", &self.index, removed));
        }
        if !written.is_empty() {
            let members: Vec<(u8, String)> = written.into_iter().map(|id| (0, id)).collect();
            commands.push(add("ZADD", &self.index, members));
            commands.push(keep(&self.index, life));
            commands.push(add("ZADD", &nodes, (0, &*self.node_id)));
            commands.push(keep(&nodes, life));
        }
        if self.present == 0 {
            commands.push(add("ZREM", &nodes, &*self.node_id));
        }
        self.store.run(&commands).await.map(drop)
    }

    /// Looks whether the index holds what it should: Redis may have come back empty, or failed over to one that
    /// missed something, without any command having failed.
    async fn check(&mut self) -> Result<(), StoreError> {
        self.look_at_adopted();
        if self.known.is_empty() {
            return Ok(());
        }
        let count = add("ZCARD", &self.index, None::<&str>);
        let listed = add("ZSCORE", &self.store.keys.nodes(), &*self.node_id);
        let answers = self.store.run(&[count, listed]).await?;
        let is_listed = !matches!(answers[..], [_, Value::Nil]);
        let count = match answers.first() {
            Some(Value::Int(count)) => usize::try_from(*count).unwrap_or_default(),
            _ => 0,
        };
        if count == self.present && is_listed == (self.present > 0) {
            self.differing = 0;
            return Ok(());
        }
        self.differing += 1;
        // Whoever lists removes an expired entry a little before this task does, which a second look knows.
        if self.differing > 1 || (count == 0 || !is_listed) && self.present > 0 {
            self.differing = 0;
            self.reconcile().await?;
        }
        Ok(())
    }

    /// Removes what the index has too much, and notes every connection to be written again.
    async fn reconcile(&mut self) -> Result<(), StoreError> {
        self.sweep().await?;
        for id in self.known.keys() {
            self.notes.write(*id);
        }
        Ok(())
    }

    /// Removes what is in this gateway's index and is no connection of this process.
    async fn sweep(&self) -> Result<(), StoreError> {
        let keep =
            |id: &str| Uuid::parse_str(id).is_ok_and(|id| self.known.get(&id) == Some(&true));
        self.store.sweep(&self.node_id, keep).await
    }
}
