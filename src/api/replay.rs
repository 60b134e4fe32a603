//! `POST /internal/replay/{store}`: moves dead letters back to where they are worked on.
//!
//! Stands between a call and [`Replays`], which judges rate and repetition and lets the store act. Another kind of
//! replay reads its own fields and goes through [`Asked::read`] and [`guarded`].

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Serialize;
use warp::reply::Response;

use super::fields::Fields;
use super::problem::{Problem, json};
use crate::replay::{Attempt, Call, Refusal, Replayed, Replays, Work};

/// Bytes of an idempotency key at most.
const MAX_KEY_BYTES: usize = 255;

/// What all replay calls may ask for.
#[derive(Debug)]
pub(super) struct Asked {
    /// How much at most, where that is said; what is below zero is zero.
    pub(super) limit: Option<usize>,
    /// By what a repeated call is known.
    pub(super) idempotency_key: Option<Vec<u8>>,
}

#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    came: Replayed,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    idempotent: bool,
}

impl Asked {
    /// Reads what all replay calls may ask for; an empty body asks for nothing in particular.
    pub(super) fn read(
        replays: &Replays,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Problem> {
        let body = if body.trim_ascii().is_empty() {
            b"{}"
        } else {
            body
        };
        let (header, member) = replays.idempotency_places().unzip();
        let fields = Fields::parse(body, ["limit", member.unwrap_or("limit")])?;
        let limit = match fields.get("limit") {
            // No limit over the platform's sizes is ever reached.
            Some(limit) => Some(usize::try_from(limit.integer()?.max(0)).unwrap_or(usize::MAX)),
            None => None,
        };
        let mut in_header = header.map(|header| headers.get_all(header).iter());
        let sent = in_header.as_mut().and_then(Iterator::next);
        let idempotency_key = if let Some(sent) = sent {
            if in_header.is_some_and(|mut more| more.any(|other| other != sent)) {
                return Err(Problem::bad_request(
                    "the header with the idempotency key appears twice, and differs",
                ));
            }
            Some(sent.as_bytes().trim_ascii().to_vec())
        } else if let Some(field) = member.and_then(|member| fields.present(member)) {
            Some(field.id()?.trim().as_bytes().to_vec())
        } else {
            None
        };
        if let Some(key) = &idempotency_key
            && !(1..=MAX_KEY_BYTES).contains(&key.len())
        {
            return Err(Problem::bad_request(format!(
                "the idempotency key must have 1 to {MAX_KEY_BYTES} bytes"
            )));
        }
        Ok(Self {
            limit,
            idempotency_key,
        })
    }
}

/// Replays from a store of dead letters.
pub(super) async fn dead_letters(
    replays: &Replays,
    attempt: Attempt,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    let asked = match Asked::read(replays, headers, body) {
        Ok(asked) => asked,
        Err(problem) => {
            attempt.failed(0, problem.detail());
            return Err(problem);
        }
    };
    let name = attempt.store();
    let Some(store) = replays.store(name) else {
        let detail = format!("no {name} is configured, so that there are no dead letters in it");
        attempt.failed(0, &detail);
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail));
    };
    let max_batch = replays.max_batch(name);
    guarded(replays, attempt, asked, max_batch, |limit| {
        Box::pin(async move {
            if limit == 0 {
                return Ok(Replayed::default());
            }
            Ok(store.replay(limit).await.map(Replayed::from)?)
        })
    })
    .await
}

/// Lets a call act, once nothing speaks against it, on `max_batch` things at most; `work` makes what is to be done
/// from the limit that remains.
pub(super) async fn guarded(
    replays: &Replays,
    attempt: Attempt,
    asked: Asked,
    max_batch: usize,
    work: impl FnOnce(usize) -> Work,
) -> Result<Response, Problem> {
    let limit = asked.limit.map_or(max_batch, |limit| limit.min(max_batch));
    let call = Call {
        limit,
        idempotency_key: asked.idempotency_key,
    };
    match replays.perform(attempt, call, work(limit)).await {
        Ok((came, idempotent)) => Ok(json(StatusCode::OK, &Answer { came, idempotent })),
        Err(refusal) => Err(refusal.into()),
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::RateLimited { retry_after } => {
                // Rounded up, as the call would be refused again within the second that rounding down cuts off.
                let nanos = u64::from(retry_after.subsec_nanos() > 0);
                let seconds = (retry_after.as_secs() + nanos).max(1);
                Self::new(
                    StatusCode::TOO_MANY_REQUESTS,
                    format!("too many replay calls: the next one is taken in {seconds} s"),
                )
                .with_header(RETRY_AFTER, HeaderValue::from(seconds))
            }
            Refusal::Unavailable(reason) => Self::new(StatusCode::SERVICE_UNAVAILABLE, reason),
            Refusal::Failed(error) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.reason).with_replayed(error.came)
            }
        }
    }
}
