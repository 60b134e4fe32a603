//! Keeps the latest events in memory: for `wsgw dev`, and for tests that look at what was published.
//!
//! Stands behind a delivery like any sink.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::broadcast;

use super::Batch;
use crate::event::Event;
use crate::svc::BoxSink;

/// The latest events, and a subscription to those that come.
#[derive(Debug, Clone)]
pub struct MemorySink {
    capacity: usize,
    ring: Arc<Mutex<VecDeque<Arc<Event>>>>,
    live: broadcast::Sender<Arc<Event>>,
}

impl MemorySink {
    /// Makes a sink that keeps so many events; subscribers may lag behind by as many before they miss some.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            ring: Arc::default(),
            live: broadcast::Sender::new(capacity.min(65_536)),
        }
    }

    /// The latest events, the oldest first.
    #[must_use]
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.ring.lock().iter().cloned().collect()
    }

    /// Every event from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Event>> {
        self.live.subscribe()
    }

    /// The sink as a delivery takes it.
    #[must_use]
    pub fn into_service(self) -> BoxSink {
        BoxSink::new(tower::service_fn(move |batch: Batch| {
            self.keep(&batch);
            std::future::ready(Ok(()))
        }))
    }

    fn keep(&self, batch: &[Arc<Event>]) {
        let mut ring = self.ring.lock();
        for event in batch {
            if ring.len() == self.capacity {
                ring.pop_front();
            }
            ring.push_back(Arc::clone(event));
            // Fails only when no one listens.
            let _ = self.live.send(Arc::clone(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::delivery::test_event;
    use tower::ServiceExt as _;

    #[tokio::test]
    async fn the_latest_events_are_kept_and_told() {
        let sink = MemorySink::new(2);
        let mut live = sink.subscribe();
        let events: Vec<_> = (1..=3).map(|seq| test_event(7, seq, None)).collect();
        let batch = Batch::from(&events[..2]);
        sink.clone().into_service().oneshot(batch).await.unwrap();
        assert_eq!(live.recv().await.unwrap().seq, 1);
        assert_eq!(live.recv().await.unwrap().seq, 2);
        let batch = Batch::from(&events[2..]);
        sink.clone().into_service().oneshot(batch).await.unwrap();
        let recent: Vec<_> = sink.recent().iter().map(|event| event.seq).collect();
        assert_eq!(recent, [2, 3]);
    }
}
