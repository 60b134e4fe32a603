//! The operator's page at `/admin`, and the key that it needs.
//!
//! Stands on the internal listener alone. The page itself is no secret: what it shows comes from `/admin/api/*`, which
//! needs the key, and the page keeps that for as long as its tab is open.

use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use http::header::{CONTENT_SECURITY_POLICY, HeaderName, LOCATION};
use http::{HeaderValue, Method, StatusCode};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter as _, Rejection};

use super::problem::{Problem, answer};
use super::{InForce, Pages};
use crate::config::{Config, Secret, read_bounded};

/// Why the operator's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AdminKeyError {
    /// The file cannot be read.
    #[error("`admin.api_key_file`: cannot be read: {0}")]
    Unreadable(std::io::Error),
    /// Nobody could send it.
    #[error("`admin.api_key_file`: it holds what no HTTP header can have, such as several lines")]
    Unsendable,
    /// There is nothing in the file.
    #[error("`admin.api_key_file`: the file is empty")]
    Empty,
    /// The backend knows it too.
    #[error("`admin.api_key_file`: it holds the gateway's key, which the backend knows")]
    Shared,
}

/// The operator's key; none where the page is not served.
///
/// # Errors
/// When the file that holds the key cannot be used.
pub fn admin_key(config: &Config) -> Result<Option<Secret>, AdminKeyError> {
    let admin = &config.admin;
    if !admin.enabled {
        return Ok(None);
    }
    if admin.api_key_file.is_empty() {
        return Ok(Some(admin.api_key.clone()).filter(|key| !key.is_empty()));
    }
    let path = Path::new(&admin.api_key_file);
    let bytes = read_bounded(path).map_err(AdminKeyError::Unreadable)?;
    let text = String::from_utf8(bytes).map_err(|_| AdminKeyError::Unsendable)?;
    let key = Secret::from(text.trim().to_owned());
    if key.is_empty() {
        return Err(AdminKeyError::Empty);
    }
    if HeaderValue::from_str(key.reveal()).is_err() {
        return Err(AdminKeyError::Unsendable);
    }
    if key == config.server.api_key {
        return Err(AdminKeyError::Shared);
    }
    Ok(Some(key))
}

/// A part of the page, compiled into the binary.
struct File {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($kind:ident $path:literal),+ $(,)?) => {
        [$( File {
            path: concat!("/admin/", $path),
            media_type: files!(@type $kind),
            text: include_str!(concat!("../admin/", $path)),
        } ),+]
    };
    (@type script) => { "text/javascript; charset=utf-8" };
    (@type style) => { "text/css; charset=utf-8" };
    (@type page) => { "text/html; charset=utf-8" };
}

/// The page's own path is the first one's folder.
const FILES: &[File] = &files! {
    page "page.html",
    style "page.css",
    script "main.js",
    script "api.js",
    script "chart.js",
    script "configuration.js",
    script "confirm.js",
    script "connections.js",
    script "dom.js",
    script "flow.js",
    script "history.js",
    script "letters.js",
    script "overview.js",
    script "tail.js",
};

/// What may be loaded and called: the page's own files, and the gateway that served it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data: blob:; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The page, while it is enabled; rejects every other path.
pub(crate) fn pages(in_force: Arc<ArcSwap<InForce>>) -> Pages {
    warp::path::full()
        .and(warp::method())
        .and_then(move |path: FullPath, method: Method| {
            let enabled = in_force.load().admin_key.is_some();
            std::future::ready(if enabled {
                page(path.as_str(), &method)
            } else {
                Err(warp::reject::not_found())
            })
        })
        .boxed()
}

fn page(path: &str, method: &Method) -> Result<Response, Rejection> {
    let file = match path {
        "/admin" => None,
        // The folder has the one name for the page.
        "/admin/" => FILES.first(),
        path => Some(
            FILES
                .iter()
                .find(|file| file.path == path)
                .ok_or_else(warp::reject::not_found)?,
        ),
    };
    if *method != Method::GET && *method != Method::HEAD {
        return Ok(Problem::method_not_allowed("GET, HEAD").into_response());
    }
    let mut response = match file {
        Some(file) => answer(StatusCode::OK, file.media_type, file.text),
        // The page's files and calls are named relative to its folder, so that a proxy may put it below a path.
        None => answer(StatusCode::PERMANENT_REDIRECT, "text/plain", ""),
    };
    let headers = response.headers_mut();
    if file.is_none() {
        headers.insert(LOCATION, HeaderValue::from_static("admin/"));
    }
    let secured = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (http::header::REFERRER_POLICY, "no-referrer"),
        (http::header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in secured {
        headers.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}
