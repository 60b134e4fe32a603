//! Tells the page what happens: every stage's step and every event, as server-sent events.
//!
//! Nothing waits for a page: what it does not take in time is dropped, and it is told how much it missed.

use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use uuid::Uuid;
use warp::Reply as _;
use warp::reply::Response;
use warp::sse::{self, Event as SseEvent};

use crate::event::Event;
use crate::sinks::memory::MemorySink;
use crate::svc::probe::{Step, Tap};

/// What one page is still to be told.
struct Feed {
    /// Events from before the page was opened.
    backlog: VecDeque<Arc<Event>>,
    /// Those of them that may come once more, having been delivered while the backlog was copied.
    seen: HashSet<Uuid>,
    events: Receiver<Arc<Event>>,
    steps: Receiver<Step>,
    /// Whether the page was told that what follows happens now.
    live: bool,
}

/// Streams the latest events, then everything from now on.
pub(super) fn response(events: &MemorySink, steps: &Tap) -> Response {
    sse::reply(sse::keep_alive().stream(stream(events, steps))).into_response()
}

fn stream(
    events: &MemorySink,
    steps: &Tap,
) -> impl Stream<Item = Result<SseEvent, Infallible>> + Send + Sync + use<> {
    // Subscribed before the backlog is copied: an event in between comes twice rather than never.
    let (live, steps) = (events.subscribe(), steps.subscribe());
    let backlog = VecDeque::from(events.recent());
    let feed = Feed {
        seen: backlog.iter().map(|event| event.id).collect(),
        backlog,
        events: live,
        steps,
        live: false,
    };
    stream::unfold(feed, async |mut feed| {
        let told = feed.next().await?;
        Some((Ok(told), feed))
    })
}

impl Feed {
    /// The next thing to tell; none when the gateway is gone.
    async fn next(&mut self) -> Option<SseEvent> {
        if let Some(event) = self.backlog.pop_front() {
            return Some(told("event", &event.json));
        }
        if !self.live {
            self.live = true;
            return Some(SseEvent::default().event("live").data("{}"));
        }
        loop {
            tokio::select! {
                step = self.steps.recv() => return match step {
                    Ok(step) => Some(SseEvent::default().event("step").json_data(&step).unwrap_or_default()),
                    Err(RecvError::Lagged(count)) => Some(missed("steps", count)),
                    Err(RecvError::Closed) => None,
                },
                event = self.events.recv() => match event {
                    Ok(event) if self.seen.remove(&event.id) => {}
                    Ok(event) => return Some(told("event", &event.json)),
                    Err(RecvError::Lagged(count)) => return Some(missed("events", count)),
                    Err(RecvError::Closed) => return None,
                },
            }
        }
    }
}

fn told(name: &'static str, json: &[u8]) -> SseEvent {
    // Events are JSON text on one line, which the framing relies on.
    SseEvent::default()
        .event(name)
        .data(String::from_utf8_lossy(json))
}

fn missed(what: &'static str, count: u64) -> SseEvent {
    let told = serde_json::json!({"what": what, "count": count});
    SseEvent::default().event("missed").data(told.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt as _;
    use tokio::sync::broadcast;

    fn step(stage: &'static str) -> Step {
        Step {
            connection_id: Uuid::nil(),
            stage,
            outcome: None,
            micros: 0.5,
        }
    }

    #[tokio::test]
    async fn a_page_that_lags_is_told_how_much_it_missed() {
        let (events, steps) = (MemorySink::new(4), broadcast::Sender::new(2));
        let mut feed = Box::pin(stream(&events, &steps));
        for stage in ["a", "b", "c", "d", "e"] {
            steps.send(step(stage)).unwrap();
        }
        let mut texts = Vec::new();
        for _ in 0..4 {
            texts.push(feed.next().await.unwrap().unwrap().to_string());
        }
        assert!(texts[0].contains("event:live"), "{}", texts[0]);
        assert!(texts[1].contains("event:missed"), "{}", texts[1]);
        assert!(
            texts[1].contains(r#"{"what":"steps","count":3}"#),
            "{}",
            texts[1]
        );
        assert!(texts[2].contains(r#""stage":"d""#) && texts[3].contains(r#""stage":"e""#));
    }

    #[tokio::test]
    async fn the_feed_ends_with_the_gateway() {
        let (events, steps) = (MemorySink::new(4), broadcast::Sender::new(2));
        let mut feed = Box::pin(stream(&events, &steps));
        drop(steps);
        assert!(feed.next().await.is_some(), "`live`");
        assert!(feed.next().await.is_none());
    }
}
