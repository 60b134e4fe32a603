//! Which stream an event goes to.
//!
//! Stands between the sink, which adds events, and the configuration, which may split the inbox.

use std::borrow::Cow;

use crate::config::Config;
use crate::event::{Event, EventKind};
use crate::stages::ordering_key::{Partitions, partition};

/// The streams of a configuration.
#[derive(Debug)]
pub(crate) struct Streams {
    events: String,
    inbox: String,
    partitions: Partitions,
    /// With shards: the stream of each.
    shards: Vec<String>,
}

impl Streams {
    /// Those of a configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let sink = &config.events.redis_stream;
        let partitions = Partitions::of(config);
        Self {
            events: sink.stream.clone(),
            inbox: sink.inbox_stream.clone(),
            partitions,
            shards: shards(&sink.inbox_stream, partitions),
        }
    }

    /// The stream of `connected` and `disconnected`.
    pub(crate) fn events(&self) -> &str {
        &self.events
    }

    /// The stream of messages, or what the names of its parts begin with.
    pub(crate) fn inbox(&self) -> &str {
        &self.inbox
    }

    /// All streams that the configuration names.
    pub(crate) fn configured(&self) -> impl Iterator<Item = &str> {
        let named = [&self.events, &self.inbox];
        named.into_iter().chain(&self.shards).map(String::as_str)
    }

    /// Whether the configuration names a stream, which a client's topic cannot do.
    pub(crate) fn is_configured(&self, stream: &str) -> bool {
        self.configured().any(|configured| configured == stream)
    }

    /// Whether there are streams that the configuration does not name.
    pub(crate) fn has_unknown(&self) -> bool {
        matches!(self.partitions, Partitions::Keys { .. })
    }

    /// The stream of an event.
    pub(crate) fn of(&self, event: &Event) -> Cow<'_, str> {
        match (event.kind, self.partitions, &event.ordering_key) {
            (EventKind::Connected | EventKind::Disconnected, ..) => (&*self.events).into(),
            (EventKind::MessageReceived, Partitions::Keys { max_len }, Some(key)) => {
                format!("{}.{}", self.inbox, partition(key, max_len)).into()
            }
            (EventKind::MessageReceived, ..) => {
                let shard = self.partitions.shard_of(event).map(usize::from);
                let shard = shard.and_then(|shard| self.shards.get(shard));
                shard.map_or(&*self.inbox, String::as_str).into()
            }
        }
    }
}

/// The streams of all shards of an inbox.
pub(crate) fn shards(inbox: &str, partitions: Partitions) -> Vec<String> {
    let shards = partitions.shards();
    shards.map(|shard| format!("{inbox}.{shard}")).collect()
}
