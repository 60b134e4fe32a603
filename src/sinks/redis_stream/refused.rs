//! Says in `/ready` which stream Redis refuses to add to, such as for want of memory or as a key of another type.
//!
//! A stream counts as refused until an event was added to it: what goes to other streams meanwhile proves nothing.
//! Streams named after ordering keys do not count, since clients choose them by what they send.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::brokers::redis::RedisLink;

/// The streams that Redis refuses to add to.
pub(super) struct Refused {
    link: Arc<RedisLink>,
    streams: Mutex<BTreeMap<String, Arc<str>>>,
    /// Whether there are any: what is asked for each batch.
    any: AtomicBool,
}

impl Refused {
    pub(super) fn new(link: Arc<RedisLink>) -> Self {
        Self {
            link,
            streams: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }

    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// Redis refused to add to a stream.
    pub(super) fn refuse(&self, stream: &str, reason: &Arc<str>) {
        let mut streams = self.streams.lock();
        if !streams.contains_key(stream) {
            streams.insert(stream.to_owned(), Arc::clone(reason));
            self.tell(&streams);
        }
    }

    /// Redis added to a stream.
    pub(super) fn accept(&self, stream: &str) {
        let mut streams = self.streams.lock();
        if streams.remove(stream).is_some() {
            self.tell(&streams);
        }
    }

    fn tell(&self, streams: &BTreeMap<String, Arc<str>>) {
        self.any.store(!streams.is_empty(), Ordering::Relaxed);
        self.link.report(
            "events",
            streams
                .first_key_value()
                .map_or(Ok(()), |(stream, reason)| {
                    Err(format!("events are refused: `{stream}`: {reason}"))
                }),
        );
    }
}

impl Drop for Refused {
    fn drop(&mut self) {
        if self.any() {
            self.link.report("events", Ok(()));
        }
    }
}
