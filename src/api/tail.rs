//! `GET /internal/tail?user_id=…`: one user's events and pushes as they happen, as server-sent events.
//!
//! Stands between an operator and [`crate::tail`]. What users wrote is only shown where `admin.tail` is `full`. A
//! tail ends with the key that it was opened with, and with the gateway.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::stream;
use http::header::CACHE_CONTROL;
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::value::RawValue;
use uuid::Uuid;
use warp::Reply as _;
use warp::reply::Response;
use warp::sse::{self, Event as SseEvent};

use super::problem::Problem;
use super::route::Realm;
use super::{ApiState, InForce};
use crate::clock::rfc3339;
use crate::config::{Secret, TailMode};
use crate::event::EventKind;
use crate::replay::Caller;
use crate::tail::{Next, Seen, Tail, What};

/// How often a quiet tail looks whether its key is still in force.
const KEY_CHECK: Duration = Duration::from_secs(1);

/// One viewer's stream.
struct Feed {
    in_force: Arc<ArcSwap<InForce>>,
    realm: Realm,
    key: Secret,
    tail: Tail,
    opened: bool,
}

#[derive(Serialize)]
struct ShownEvent<'a> {
    at: String,
    r#type: EventKind,
    connection_id: Uuid,
    event_id: Uuid,
    seq: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering_key: Option<&'a str>,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct ShownPush<'a> {
    at: String,
    connection_id: Uuid,
    queued: bool,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    push: Option<&'a RawValue>,
}

pub(super) fn open(
    state: &ApiState,
    in_force: &InForce,
    realm: Realm,
    caller: &Caller,
    parameters: Vec<(String, String)>,
) -> Result<Response, Problem> {
    let mut user_id = None;
    for (name, value) in parameters {
        if name == "user_id" {
            user_id = Some(value).filter(|user| !user.is_empty());
        }
    }
    let user_id = user_id.ok_or_else(|| Problem::bad_request("`user_id`: is missing"))?;
    if in_force.config.admin.tail == TailMode::Off {
        return Err(Problem::forbidden("there is no tail: admin.tail is off"));
    }
    let log_user = user_id.clone();
    let tail = state
        .registry
        .tails()
        .open(user_id)
        .map_err(|full| Problem::new(StatusCode::TOO_MANY_REQUESTS, full.to_string()))?;
    // Whoever looks at what a user does leaves a trace of that.
    tracing::info!(
        event = "tail_opened",
        user_id = log_user,
        address = caller.address.map(tracing::field::display),
        key = caller.short_key(),
    );
    let feed = Feed {
        in_force: Arc::clone(&state.in_force),
        key: in_force.key_of(realm).clone(),
        realm,
        tail,
        opened: false,
    };
    let stream = stream::unfold(feed, async |mut feed| {
        let told = feed.next().await?;
        Some((Ok::<_, Infallible>(told), feed))
    });
    let mut response = sse::reply(sse::keep_alive().stream(stream)).into_response();
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

impl Feed {
    /// The next thing to tell; none when the viewer may no longer look.
    async fn next(&mut self) -> Option<SseEvent> {
        if !self.opened {
            self.opened = true;
            let mode = serde_json::json!({"mode": self.mode()?});
            return Some(SseEvent::default().event("open").data(mode.to_string()));
        }
        let next = loop {
            match tokio::time::timeout(KEY_CHECK, self.tail.next()).await {
                Ok(next) => break next,
                // Nothing happens, and nobody who may no longer look keeps the place of one who may.
                Err(_) => self.mode()?,
            };
        };
        let full = self.mode()? == TailMode::Full;
        Some(match next {
            Next::Seen(seen) => told(&seen, full),
            Next::Missed(count) => {
                let missed = serde_json::json!({"count": count});
                SseEvent::default().event("missed").data(missed.to_string())
            }
        })
    }

    /// What may be shown now; none if the key is no longer the one that the tail was opened with.
    fn mode(&self) -> Option<TailMode> {
        let in_force = self.in_force.load();
        let mode = in_force.config.admin.tail;
        (*in_force.key_of(self.realm) == self.key && mode != TailMode::Off).then_some(mode)
    }
}

fn told(seen: &Seen, full: bool) -> SseEvent {
    let (at, bytes) = (rfc3339(seen.at), seen.what.bytes());
    let written = match &seen.what {
        What::Event(event) => SseEvent::default().event("event").json_data(ShownEvent {
            at,
            r#type: event.kind,
            connection_id: event.connection_id,
            event_id: event.id,
            seq: event.seq,
            // A key may be what a user wrote.
            ordering_key: event.ordering_key.as_deref().filter(|_| full),
            bytes,
            event: raw(&event.json).filter(|_| full),
        }),
        What::Push {
            connection_id,
            text,
            queued,
        } => SseEvent::default().event("push").json_data(ShownPush {
            at,
            connection_id: *connection_id,
            queued: *queued,
            bytes,
            push: raw(text.as_bytes()).filter(|_| full),
        }),
    };
    // Both always serialise.
    written.unwrap_or_default()
}

fn raw(json: &[u8]) -> Option<&RawValue> {
    serde_json::from_slice(json).ok()
}
