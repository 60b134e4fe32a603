//! `POST /internal/replay/archive`: events of the archive once more to a sink.
//!
//! Stands between the backend and the archive; here the call is read, and what came of it is written.

use http::StatusCode;
use serde::Serialize;
use uuid::Uuid;
use warp::reply::Response;

use super::fields::{Field, Fields, Malformed};
use super::problem::{PROBLEM_JSON, Problem, answer, json};
use crate::clock::{parse_rfc3339_ms, unix_now};
use crate::event::EventKind;
use crate::replay::archive::{Archive, Failed, Replayed, Request};

const FIELDS: [&str; 8] = [
    "since",
    "until",
    "cursor",
    "user_id",
    "ordering_key",
    "type",
    "limit",
    "target",
];

/// What a replay came to, as the caller is told.
#[derive(Serialize)]
struct Told {
    replayed: usize,
    #[serde(skip_serializing_if = "is_zero")]
    refused: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<Uuid>,
}

/// A problem that also says what was done before.
#[derive(Serialize)]
struct EndedEarly<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    told: Told,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl From<Replayed> for Told {
    fn from(replayed: Replayed) -> Self {
        Self {
            replayed: replayed.replayed,
            refused: replayed.refused,
            next_cursor: replayed.next_cursor,
        }
    }
}

/// Answers a call that has been admitted.
pub(super) async fn replay(archive: Option<&Archive>, body: &[u8]) -> Result<Response, Problem> {
    let Some(archive) = archive else {
        return Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "there is no archive: `replay.strategy` is not `durable`",
        ));
    };
    let Some(request) = request(archive, body)? else {
        let nothing = Told::from(Replayed::default());
        return Ok(json(StatusCode::OK, &nothing));
    };
    match archive.replay(&request).await {
        Ok(replayed) => Ok(json(StatusCode::OK, &Told::from(replayed))),
        Err(Failed::Busy) => Err(Problem::new(
            StatusCode::CONFLICT,
            "another replay from the archive is under way",
        )),
        Err(Failed::Early { done, reason }) => Ok(ended_early(done, &reason)),
    }
}

fn ended_early(done: Replayed, reason: &str) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let problem = EndedEarly {
        r#type: "about:blank",
        title: "Service Unavailable",
        status: status.as_u16(),
        detail: reason,
        told: done.into(),
    };
    // Strings and numbers always serialise.
    let body = serde_json::to_vec(&problem).unwrap_or_default();
    answer(status, PROBLEM_JSON, body)
}

/// Reads a call; none if it asks for no event at all.
fn request(archive: &Archive, body: &[u8]) -> Result<Option<Request>, Malformed> {
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
    let limit = match fields.present("limit") {
        Some(field) => limit(field)?,
        None => archive.max_batch(),
    };
    Ok((limit > 0).then(|| Request {
        since_ms,
        until_ms,
        cursor,
        user_id: user_id.map(Into::into),
        ordering_key: ordering_key.map(Into::into),
        kind,
        limit,
        target,
    }))
}

fn target(archive: &Archive, fields: &Fields<'_, 8>) -> Result<&'static str, Malformed> {
    let names: Vec<_> = archive.targets().collect();
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

/// A number of events; one below zero asks for none.
fn limit(field: Field<'_>) -> Result<usize, Malformed> {
    let text = field.raw().get();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(field.wrong("expected an integer"));
    }
    if digits.len() < text.len() {
        return Ok(0);
    }
    Ok(text.parse().unwrap_or(usize::MAX))
}
