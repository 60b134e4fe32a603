//! `POST /internal/replay/archive`: events of the archive once more to a sink.
//!
//! Stands between the backend and the archive: here it is read which events are asked for, and all else is as for any
//! other replay.

use std::sync::Arc;

use http::{HeaderMap, StatusCode};
use uuid::Uuid;
use warp::reply::Response;

use super::fields::{Field, Fields, Malformed};
use super::problem::Problem;
use super::replay::{Asked, guarded};
use crate::clock::{parse_rfc3339_ms, unix_now};
use crate::event::EventKind;
use crate::replay::archive::{Archive, Request};
use crate::replay::{Attempt, Replays};

const FIELDS: [&str; 7] = [
    "since",
    "until",
    "cursor",
    "user_id",
    "ordering_key",
    "type",
    "target",
];

/// Replays from the archive.
pub(super) async fn replay(
    replays: &Replays,
    attempt: Attempt,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    let (asked, archive, request) = match read(replays, headers, body) {
        Ok(read) => read,
        Err(problem) => {
            attempt.failed(0, problem.detail());
            return Err(problem);
        }
    };
    let max_batch = replays.max_batch(attempt.store());
    guarded(replays, attempt, asked, max_batch, |limit| {
        let request = Request { limit, ..request };
        Box::pin(async move { archive.replay(&request).await })
    })
    .await
}

fn read(
    replays: &Replays,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(Asked, Arc<Archive>, Request), Problem> {
    let asked = Asked::read(replays, headers, body)?;
    let Some(archive) = replays.archive() else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no archive: `replay.strategy` is not `durable`",
        ));
    };
    let request = request(archive, body)?;
    Ok((asked, Arc::clone(archive), request))
}

/// Reads which events are asked for, but not how many.
fn request(archive: &Archive, body: &[u8]) -> Result<Request, Malformed> {
    let fields = Fields::parse(body, FIELDS)?;
    let since_ms = time(fields.required("since")?)?;
    let until_ms = match fields.present("until") {
        Some(until) => time(until)?,
        None => (unix_now() + 1) * 1000,
    };
    let target = target(archive, &fields)?;
    let text = |name| fields.present(name).map(Field::id).transpose();
    let (user_id, ordering_key) = (text("user_id")?, text("ordering_key")?);
    let kind = match fields.present("type") {
        Some(field) => Some(EventKind::from_name(&field.string()?).ok_or_else(|| {
            field.wrong("expected `connected`, `disconnected` or `message_received`")
        })?),
        None => None,
    };
    let cursor = match fields.present("cursor") {
        Some(field) => Some(
            Uuid::parse_str(&field.string()?)
                .map_err(|_| field.wrong("expected the `next_cursor` of an earlier answer"))?,
        ),
        None => None,
    };
    Ok(Request {
        since_ms,
        until_ms,
        cursor,
        user_id: user_id.map(Into::into),
        ordering_key: ordering_key.map(Into::into),
        kind,
        limit: 0,
        target,
    })
}

fn target(archive: &Archive, fields: &Fields<'_, 7>) -> Result<&'static str, Malformed> {
    let names = archive.targets();
    let known = match names.as_slice() {
        [] => "no sink is configured that could be sent to".to_owned(),
        names => format!("expected a configured sink: `{}`", names.join("`, `")),
    };
    match (fields.present("target"), names.as_slice()) {
        (Some(field), names) => {
            let wanted = field.string()?;
            names
                .iter()
                .copied()
                .find(|name| *name == wanted)
                .ok_or_else(|| field.wrong(&known))
        }
        (None, [only]) => Ok(only),
        (None, _) => Err(Malformed::of("target", &known)),
    }
}

/// A time as RFC 3339 or Unix seconds, in milliseconds.
fn time(field: Field<'_>) -> Result<u64, Malformed> {
    let wrong = || field.wrong("expected a time as RFC 3339 or Unix seconds");
    let text = match field.raw().get() {
        quoted if quoted.starts_with('"') => field.string()?,
        number => number.into(),
    };
    if let Some(ms) = parse_rfc3339_ms(&text) {
        return Ok(ms);
    }
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    // The bounds leave out what is no number, and what a UUIDv7 has no place for.
    if !(0.0..=281_474_976_710.0).contains(&seconds) {
        return Err(wrong());
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "within the bounds above"
    )]
    Ok((seconds * 1000.0).round() as u64)
}
