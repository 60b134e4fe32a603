//! `POST /internal/publish`: a push from the backend to the connections of some subjects.
//!
//! Stands between the backend and the registry; the payload is carried over as it was written.

use http::{HeaderMap, StatusCode};
use serde::Serialize;
use warp::reply::Response;

use super::ApiState;
use super::fields::{Field, Fields};
use super::problem::{Problem, json};
use crate::registry::Registry;
use crate::telemetry::traces::Kind;

/// Subjects one push may have.
pub const MAX_SUBJECTS: usize = 10_000;

#[derive(Serialize)]
struct Sent {
    sent: usize,
}

pub(super) fn publish(
    state: &ApiState,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Problem> {
    // It comes with the request, as any; the body's is for those who send pushes by brokers as well.
    let header = headers
        .get("traceparent")
        .and_then(|text| text.to_str().ok());
    let fields = Fields::parse(body, ["subjects", "payload", "traceparent"]);
    let inside = || {
        let field = fields.as_ref().ok()?.get("traceparent")?;
        field.string().ok()
    };
    let span = match header {
        Some(header) => state.tracer.begin_push(Some(header)),
        None => state.tracer.begin_push(inside().as_deref()),
    };
    let mut facts = Facts::default();
    let answer = fields
        .map_err(Problem::from)
        .and_then(|fields| send(&state.registry, &fields, &mut facts));
    if let Some(span) = span {
        let status = match &answer {
            Ok(response) => response.status(),
            Err(problem) => problem.status(),
        };
        span.end("ws.publish.http", Kind::Server, |span| {
            span.text("http.request.method", "POST");
            span.text("http.route", "/internal/publish");
            span.text("url.path", "/internal/publish");
            span.text("network.protocol.name", "http");
            span.number("http.request.body.size", body.len() as u64);
            span.number("http.response.status_code", status.as_u16().into());
            span.number("wsgw.push.subjects", facts.subjects as u64);
            span.number("wsgw.push.connections", facts.sent as u64);
            if status.is_server_error() {
                span.failed(status.as_str(), "the push was not taken");
            }
        });
    }
    answer
}

/// What a span tells of a push.
#[derive(Default)]
struct Facts {
    subjects: usize,
    sent: usize,
}

fn send(
    registry: &Registry,
    fields: &Fields<'_, 3>,
    facts: &mut Facts,
) -> Result<Response, Problem> {
    let subjects = fields
        .required("subjects")?
        .array(MAX_SUBJECTS)?
        .into_iter()
        .map(Field::filled)
        .collect::<Result<Vec<_>, _>>()?;
    let payload = fields.required("payload")?;
    let sent = registry.publish(&subjects, payload.raw());
    (facts.subjects, facts.sent) = (subjects.len(), sent);
    tracing::debug!(event = "api_publish", subjects = subjects.len(), sent);
    Ok(json(StatusCode::OK, &Sent { sent }))
}
