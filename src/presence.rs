//! Presence: who is online, behind a trait that several stores fill.
//!
//! Stands beside the data path: connections tell it of themselves, and the API lists from it.

use std::sync::Arc;

use futures_util::future::{self, BoxFuture, FutureExt as _};
use serde::Serialize;

use crate::session::Session;
use crate::svc::BoxError;

pub mod memory;
pub mod redis;

/// One connection as the API lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Entry {
    /// The connection's id.
    pub connection_id: String,
    /// Its user's id.
    pub user_id: String,
    /// The subjects it listens to.
    pub subjects: Vec<String>,
    /// Unix seconds of its start.
    pub connected_at: u64,
    /// Unix seconds at which its client was last heard of.
    pub last_seen_at: u64,
}

/// Which connections to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Only those that listen to this subject.
    pub subject: Option<String>,
    /// Only those of this user.
    pub user_id: Option<String>,
    /// How many at most.
    pub limit: usize,
    /// Those after this connection id.
    pub after: Option<String>,
}

/// A page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// The connections, in the order of their ids, which is that of their start.
    pub connections: Vec<Entry>,
    /// Where the next page begins, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<String>,
}

impl Page {
    /// Takes the first `limit` of these; more of them mean that there is another page.
    fn first(mut connections: Vec<Entry>, limit: usize) -> Self {
        let more = connections.len() > limit;
        connections.truncate(limit);
        let next_cursor = connections
            .last()
            .filter(|_| more)
            .map(|last| last.connection_id.clone());
        Self {
            connections,
            next_cursor,
        }
    }
}

/// Why a client was heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// It sent a `ping` or `heartbeat` message.
    Beat,
    /// It sent another message.
    Message,
}

/// Where presence is kept.
///
/// The calls about a connection only take note: a store that talks to a server does so in its own task, so that
/// no message ever waits for presence.
pub trait Presence: Send + Sync {
    /// A connection was admitted.
    fn connected(&self, session: &Arc<Session>);

    /// A client was heard of.
    fn heard(&self, session: &Arc<Session>, sign: Sign);

    /// A connection ended.
    fn disconnected(&self, session: &Arc<Session>);

    /// Waits until all that was told is kept, however long the store takes.
    fn flush(&self) -> BoxFuture<'_, ()> {
        future::ready(()).boxed()
    }

    /// Lists connections.
    fn list(&self, query: Query) -> BoxFuture<'_, Result<Page, BoxError>>;
}
