//! Answers of the API: JSON, and problems (RFC 9457) for whatever is not a success.
//!
//! Stands at the end of a call's path: every handler ends here, so that no other body format reaches a caller.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use warp::reply::Response;

use crate::replay::Replayed;

/// Media type of a problem.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// An answer that is not a success, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    status: StatusCode,
    detail: Cow<'static, str>,
    replayed: Option<Replayed>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The members of a problem in the order RFC 9457 lists them.
#[derive(Serialize)]
struct Members<'a> {
    r#type: &'static str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    #[serde(flatten)]
    replayed: Option<&'a Replayed>,
}

impl Problem {
    /// Makes a problem; `detail` is read by the caller's developer and repeats nothing that the caller sent.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            detail: detail.into(),
            replayed: None,
            headers: Vec::new(),
        }
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// Adds the member `replayed` and those beside it: what a replay had come to before it failed.
    #[must_use]
    pub fn with_replayed(mut self, replayed: Replayed) -> Self {
        self.replayed = Some(replayed);
        self
    }

    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The sentence for the caller's developer.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The problem as JSON text.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and a constant always serialise.
        serde_json::to_vec(&Members {
            r#type: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.detail,
            replayed: self.replayed.as_ref(),
        })
        .unwrap_or_default()
    }

    /// The whole answer.
    #[must_use]
    pub fn into_response(self) -> Response {
        let mut response = answer(self.status, PROBLEM_JSON, self.to_json());
        for (name, value) in self.headers {
            response.headers_mut().append(name, value);
        }
        response
    }

    pub(crate) fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// A known path with a method it does not take; `allow` lists those it takes.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, detail)
            .with_header(ALLOW, HeaderValue::from_static(allow))
    }

    /// Something broke inside the gateway; why is for the log alone.
    pub(crate) fn internal(detail: &'static str) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "there is nothing at this path")
    }
}

/// Makes an answer that no cache keeps: each says how things stand now.
pub(crate) fn answer(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response {
    let mut response = Response::new(body.into().into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Makes a JSON answer.
pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    match serde_json::to_vec(body) {
        Ok(body) => answer(status, "application/json", body),
        Err(_) => Problem::internal("the answer could not be written as JSON").into_response(),
    }
}
