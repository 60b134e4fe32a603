//! `POST /internal/publish`: a push from the backend to the connections of some subjects.
//!
//! Stands between the backend and the registry; the payload is carried over as it was written.

use http::StatusCode;
use serde::Serialize;
use warp::reply::Response;

use super::fields::{Field, Fields};
use super::problem::{Problem, json};
use crate::registry::Registry;

/// Subjects one push may have.
pub const MAX_SUBJECTS: usize = 10_000;

#[derive(Serialize)]
struct Sent {
    sent: usize,
}

pub(super) fn publish(registry: &Registry, body: &[u8]) -> Result<Response, Problem> {
    let fields = Fields::parse(body, ["subjects", "payload"])?;
    let subjects = fields
        .required("subjects")?
        .array(MAX_SUBJECTS)?
        .into_iter()
        .map(Field::filled)
        .collect::<Result<Vec<_>, _>>()?;
    let payload = fields.required("payload")?;
    let sent = registry.publish(&subjects, payload.raw());
    tracing::debug!(event = "api_publish", subjects = subjects.len(), sent);
    Ok(json(StatusCode::OK, &Sent { sent }))
}
