//! The keys of presence, and the commands that write and remove one connection.
//!
//! Stands between the keeper, the list and the sweep, which decide what to do, and the link.

use std::time::Duration;

use redis::{Cmd, cmd};

use crate::presence::Entry;
use crate::session::Session;

/// The names of keys under one prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    prefix: Box<str>,
}

/// What names a connection in every key that it is part of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a, S> {
    pub(super) id: &'a str,
    pub(super) user_id: &'a str,
    pub(super) subjects: &'a [S],
}

/// How long what is written may live without being written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Life {
    /// Of the connection's own key; none: for ever.
    pub(super) entry: Option<Duration>,
    /// Of sets that it is a member of, whose other members may be younger; none: for ever.
    pub(super) sets: Option<Duration>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.into(),
        }
    }

    pub(super) fn connection(&self, id: &str) -> String {
        format!("{}conn:{id}", self.prefix)
    }

    pub(super) fn user(&self, user_id: &str) -> String {
        format!("{}user:{user_id}", self.prefix)
    }

    pub(super) fn subject(&self, subject: &str) -> String {
        format!("{}subject:{subject}", self.prefix)
    }

    /// The index of one gateway's connections: a sorted set of their ids under one score, so in their order.
    pub(super) fn node(&self, node_id: &str) -> String {
        format!("{}node:{node_id}", self.prefix)
    }

    /// The gateways that have connections.
    pub(super) fn nodes(&self) -> String {
        format!("{}nodes", self.prefix)
    }

    /// Writes a connection, whatever of it is there already.
    pub(super) fn write(&self, session: &Session, life: Life, commands: &mut Vec<Cmd>) {
        let id = session.id().to_string();
        let subjects: Vec<&str> = session.subjects().iter().map(|s| &**s).collect();
        let mut entry = cmd("HSET");
        entry
            .arg(self.connection(&id))
            .arg("connection_id")
            .arg(&id)
            .arg("user_id")
            .arg(&**session.user_id())
            .arg("subjects")
            .arg(serde_json::to_string(&subjects).unwrap_or_default())
            .arg("connected_at")
            .arg(session.connected_at())
            .arg("last_seen_at")
            .arg(session.last_seen_at());
        commands.push(entry);
        commands.push(keep(&self.connection(&id), life.entry));
        let mut join = |key: String| {
            commands.push(add("SADD", &key, &id));
            commands.push(keep(&key, life.sets));
        };
        join(self.user(session.user_id()));
        for subject in subjects {
            join(self.subject(subject));
        }
    }

    /// Removes a connection from the key of its own and from the sets it is a member of.
    pub(super) fn remove<S: AsRef<str>>(&self, place: &Place<'_, S>, commands: &mut Vec<Cmd>) {
        commands.push(add("DEL", &self.connection(place.id), None::<&str>));
        commands.push(add("SREM", &self.user(place.user_id), place.id));
        for subject in place.subjects {
            commands.push(add("SREM", &self.subject(subject.as_ref()), place.id));
        }
    }

    /// Reads a connection; see [`entry`].
    pub(super) fn read(&self, id: &str) -> Cmd {
        let fields: &[&str] = &["user_id", "subjects", "connected_at", "last_seen_at"];
        add("HMGET", &self.connection(id), fields)
    }
}

/// A command on one key with one argument, or as many as the argument comes to.
pub(super) fn add(name: &str, key: &str, argument: impl redis::ToRedisArgs) -> Cmd {
    let mut command = cmd(name);
    command.arg(key).arg(argument);
    command
}

/// Sets a key's life.
pub(super) fn keep(key: &str, life: Option<Duration>) -> Cmd {
    match life {
        Some(life) => expire(key, life),
        // It may have had an end under another strategy.
        None => add("PERSIST", key, None::<&str>),
    }
}

fn expire(key: &str, life: Duration) -> Cmd {
    add(
        "PEXPIRE",
        key,
        u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1),
    )
}

/// The answer of [`Keys::read`].
pub(super) type Fields = (
    Option<String>,
    Option<String>,
    Option<String>,
    Option<String>,
);

/// The entry that was read, unless there is none (any more).
pub(super) fn entry(id: &str, fields: Fields) -> Option<Entry> {
    let (user_id, subjects, connected_at, last_seen_at) = fields;
    let connected_at = connected_at.and_then(|at| at.parse().ok()).unwrap_or(0);
    Some(Entry {
        connection_id: id.to_owned(),
        user_id: user_id?,
        subjects: serde_json::from_str(&subjects.unwrap_or_default()).unwrap_or_default(),
        connected_at,
        last_seen_at: last_seen_at
            .and_then(|at| at.parse().ok())
            .unwrap_or(connected_at),
    })
}
