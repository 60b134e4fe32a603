//! `GET /internal/pipeline.svg`: the pipeline in force as an image.
//!
//! Stands between an operator and `graph`, which draws.

use http::header::CONTENT_SECURITY_POLICY;
use http::{HeaderValue, StatusCode};
use warp::reply::Response;

use super::problem::{Problem, answer};
use super::{ApiState, InForce};
use crate::graph::{Graph, Theme};

/// An image loads nothing and runs nothing, and brings its style along.
const POLICY: HeaderValue =
    HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");

pub(super) fn pipeline(
    state: &ApiState,
    in_force: &InForce,
    parameters: &[(String, String)],
) -> Result<Response, Problem> {
    let theme = parameters.iter().rfind(|(name, _)| name == "theme");
    let theme = match theme.map(|(_, value)| value.as_str()) {
        None | Some("") => Theme::Browser,
        Some("light") => Theme::Light,
        Some("dark") => Theme::Dark,
        Some(_) => return Err(Problem::bad_request("`theme`: expected light or dark")),
    };
    let title = state.about.file().unwrap_or_else(|| "pipeline".to_owned());
    let image = Graph::new(title, &in_force.config).svg(theme);
    let mut response = answer(StatusCode::OK, "image/svg+xml", image);
    response
        .headers_mut()
        .insert(CONTENT_SECURITY_POLICY, POLICY);
    Ok(response)
}
