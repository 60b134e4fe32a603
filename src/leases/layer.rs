//! Records around a sink that cannot write them itself.
//!
//! Stands between a delivery and its sink, where that is the webhook, `RabbitMQ`, or a Redis other than that of the
//! leases. Redis is asked before and told after a try, each time for a moment at most: a Redis that does not answer
//! stops no event.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::BoxFuture;
use redis::{Cmd, Value};
use tower_service::Service;
use uuid::Uuid;

use super::book::{Book, LeftOver};
use super::record::Record;
use crate::brokers::redis::{Atomicity, RedisLink};
use crate::event::{Event, EventKind};
use crate::sinks::{Batch, DeliveryError, Failure};
use crate::svc::BoxSink;

/// Longest wait for Redis before and after a try.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a sink is for the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// What it was told decides: its events write and remove the records.
    Primary,
    /// It only asks who is to speak.
    Secondary,
}

/// The Redis of the leases, as far as it answers.
#[derive(Debug)]
pub(super) struct Desk {
    /// A reload may open another one to the same Redis.
    pub(super) link: ArcSwap<RedisLink>,
    pub(super) book: Arc<Book>,
    /// Cleared by the first wait in vain, so that not every event waits; set by the keeper.
    pub(super) answers: AtomicBool,
}

impl Desk {
    async fn ask(&self, commands: &[Cmd]) -> Option<Vec<Value>> {
        if commands.is_empty() || !self.answers.load(Ordering::Relaxed) {
            return None;
        }
        let link = self.link.load_full();
        let run = link.run(commands, Atomicity::Each);
        let Ok(answers) = tokio::time::timeout(PATIENCE, run).await else {
            self.answers.store(false, Ordering::Relaxed);
            return None;
        };
        let answers = answers.ok()?;
        answers.into_iter().collect::<Result<_, _>>().ok()
    }

    /// Writes records before `connected` is told, and finds the events that are not this gateway's to tell.
    async fn before(&self, batch: &Batch, role: Role) -> Vec<usize> {
        let (book, keys) = (&self.book, &self.book.keys);
        let (mut commands, mut asked) = (Vec::new(), Vec::new());
        for (index, event) in batch.iter().enumerate() {
            let id = event.connection_id;
            match (event.kind, &event.spoken_for, role) {
                (EventKind::Disconnected, None, _) => {
                    asked.push((index, 1));
                    commands.push(keys.is_taken(&book.lease_of(id), id));
                }
                (EventKind::Disconnected, Some(lease), Role::Primary) => {
                    asked.push((index, 0));
                    commands.push(keys.has_record(lease, id));
                }
                _ => {}
            }
        }
        for event in batch.iter() {
            if (event.kind, role) == (EventKind::Connected, Role::Primary)
                && let Some(record) = Record::of_event(event)
            {
                commands.extend(book.record(event.connection_id, &record));
            }
        }
        let Some(answers) = self.ask(&commands).await else {
            return Vec::new();
        };
        asked
            .into_iter()
            .zip(answers)
            .filter(|((_, no), answer)| *answer == Value::Int(*no))
            .map(|((index, _), _)| index)
            .collect()
    }

    /// Removes the records of those whose `disconnected` was told.
    async fn after(&self, batch: &Batch, result: &Result<(), DeliveryError>) {
        let mut told: HashMap<Arc<str>, Vec<Uuid>> = HashMap::new();
        for (index, event) in batch.iter().enumerate() {
            if event.kind != EventKind::Disconnected {
                continue;
            }
            let id = event.connection_id;
            let lease = self.lease(event);
            if is_delivered(index, result) {
                told.entry(lease).or_default().push(id);
            } else if event.spoken_for.is_none() {
                // If it becomes a dead letter, its record goes with it.
                let event = Some(Arc::downgrade(event));
                self.book.leave_over(id, LeftOver { lease, event });
            }
        }
        for (lease, ids) in told {
            let forget = self.book.keys.forget(&lease, &ids);
            let done = self.ask(&[forget]).await.is_some();
            self.book.removed(&ids);
            if !done {
                for id in ids {
                    let lease = Arc::clone(&lease);
                    self.book.leave_over(id, LeftOver { lease, event: None });
                }
            }
        }
    }

    fn lease(&self, event: &Event) -> Arc<str> {
        let own = || self.book.lease_of(event.connection_id);
        event.spoken_for.clone().unwrap_or_else(own)
    }
}

fn is_delivered(index: usize, result: &Result<(), DeliveryError>) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            index < error.tried && error.failed.iter().all(|failure| failure.index != index)
        }
    }
}

/// A sink whose lifecycle events go by the records.
#[derive(Clone)]
pub(super) struct Leased {
    pub(super) inner: BoxSink,
    pub(super) desk: Arc<Desk>,
    pub(super) role: Role,
}

impl Service<Batch> for Leased {
    type Response = ();
    type Error = DeliveryError;
    type Future = BoxFuture<'static, Result<(), DeliveryError>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), DeliveryError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, batch: Batch) -> Self::Future {
        let matters = |event: &Arc<Event>| match self.role {
            Role::Primary => event.kind != EventKind::MessageReceived,
            Role::Secondary => event.kind == EventKind::Disconnected && event.spoken_for.is_none(),
        };
        if !batch.iter().any(matters) {
            return self.inner.call(batch);
        }
        let spare = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, spare);
        let (desk, role) = (Arc::clone(&self.desk), self.role);
        Box::pin(async move {
            let skipped = desk.before(&batch, role).await;
            let result = if skipped.is_empty() {
                inner.call(Arc::clone(&batch)).await
            } else {
                without(&mut inner, &batch, &skipped).await
            };
            if role == Role::Primary {
                desk.after(&batch, &result).await;
            }
            result
        })
    }
}

/// Tries a batch without some of its events, which count as delivered.
async fn without(
    inner: &mut BoxSink,
    batch: &Batch,
    skipped: &[usize],
) -> Result<(), DeliveryError> {
    let kept: Vec<usize> = (0..batch.len())
        .filter(|index| !skipped.contains(index))
        .collect();
    if kept.is_empty() {
        return Ok(());
    }
    let events: Vec<Arc<Event>> = kept
        .iter()
        .map(|&index| Arc::clone(&batch[index]))
        .collect();
    let Err(error) = inner.call(events.into()).await else {
        return Ok(());
    };
    let failed = error.failed.into_iter().map(|failure| Failure {
        index: kept[failure.index],
        ..failure
    });
    Err(DeliveryError {
        failed: failed.collect(),
        tried: kept.get(error.tried).copied().unwrap_or(batch.len()),
    })
}
