//! Answers the development page's requests: the page itself, what it shows, tokens for it, and its live feed.
//!
//! Stands beside the API on the public listener. All answers are for the page alone: see `guard`.

use std::sync::Arc;

use http::header::{CONTENT_SECURITY_POLICY, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};
use warp::path::FullPath;
use warp::reply::Response;
use warp::{Filter as _, Rejection};

use super::feed;
use super::guard;
use super::keys::{DevKeys, TOKEN_TTL, TokenRequest};
use crate::api::{self, Pages, Problem};
use crate::config::Config;
use crate::sinks::memory::MemorySink;
use crate::svc::probe::Tap;

/// Longest user id or subject that a token is made for, in characters.
const MAX_NAME: usize = 128;

/// Most subjects that a token is made for.
const MAX_SUBJECTS: usize = 16;

/// A part of the page, compiled into the binary.
struct File {
    path: &'static str,
    media_type: &'static str,
    text: &'static str,
}

const SCRIPT: &str = "text/javascript; charset=utf-8";

const FILES: [File; 6] = [
    File {
        path: "/",
        media_type: "text/html; charset=utf-8",
        text: include_str!("page.html"),
    },
    File {
        path: "/dev/page.css",
        media_type: "text/css; charset=utf-8",
        text: include_str!("page.css"),
    },
    File {
        path: "/dev/page.js",
        media_type: SCRIPT,
        text: include_str!("page.js"),
    },
    File {
        path: "/dev/client.js",
        media_type: SCRIPT,
        text: include_str!("client.js"),
    },
    File {
        path: "/dev/passes.js",
        media_type: SCRIPT,
        text: include_str!("passes.js"),
    },
    File {
        path: "/dev/text.js",
        media_type: SCRIPT,
        text: include_str!("text.js"),
    },
];

/// What the routes answer from.
pub(super) struct Site {
    pub(super) local_only: bool,
    pub(super) info: Value,
    pub(super) keys: Arc<DevKeys>,
    pub(super) events: MemorySink,
    pub(super) steps: Tap,
}

/// What the page shows of the gateway.
pub(super) fn info(config: &Config, user: &str, keys: &DevKeys) -> Value {
    let stages: Vec<Value> = config
        .stages
        .iter()
        .map(|stage| {
            let written = serde_json::to_value(stage).unwrap_or_default();
            json!({"name": stage.name(), "settings": written.get(stage.name())})
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "user": user,
        "user_prefix": config.subjects.user_prefix,
        "path": config.server.path,
        "api_key": keys.api_key(),
        "stages": stages,
        "pipeline": super::PIPELINE,
    })
}

/// A request, as far as the pages look at it.
struct Asked {
    path: FullPath,
    method: Method,
    headers: HeaderMap,
    query: String,
}

impl Site {
    /// The routes, to be served beside the API.
    pub(super) fn into_pages(self) -> Pages {
        let site = Arc::new(self);
        let query = warp::query::raw().or(warp::any().map(String::new)).unify();
        warp::path::full()
            .and(warp::method())
            .and(warp::header::headers_cloned())
            .and(query)
            .and_then(move |path, method, headers, query| {
                let asked = Asked {
                    path,
                    method,
                    headers,
                    query,
                };
                std::future::ready(site.answer(&asked))
            })
            .boxed()
    }

    fn answer(&self, asked: &Asked) -> Result<Response, Rejection> {
        let path = asked.path.as_str();
        let page = FILES.iter().find(|file| file.path == path);
        if page.is_none() && !path.starts_with("/dev/") {
            return Err(warp::reject::not_found());
        }
        let response = match self.admit(asked) {
            Ok(()) => match page {
                Some(file) => Ok(document(file, &asked.headers)),
                None => self.data(asked),
            },
            Err(problem) => Err(problem),
        };
        Ok(secured(response.unwrap_or_else(Problem::into_response)))
    }

    fn admit(&self, asked: &Asked) -> Result<(), Problem> {
        if self.local_only {
            guard::check_host(&asked.headers)?;
        }
        // A link from elsewhere may lead to the page, but only the page may ask for what it shows.
        if asked.path.as_str() != "/" {
            guard::check_site(&asked.headers)?;
        }
        if asked.method != Method::GET && asked.method != Method::HEAD {
            return Err(Problem::method_not_allowed("GET, HEAD"));
        }
        Ok(())
    }

    fn data(&self, asked: &Asked) -> Result<Response, Problem> {
        match asked.path.as_str() {
            "/dev/info" => Ok(api::json(StatusCode::OK, &self.info)),
            "/dev/token" => self.token(&asked.query),
            "/dev/events" => Ok(feed::response(&self.events, &self.steps)),
            _ => Err(Problem::not_found()),
        }
    }

    fn token(&self, query: &str) -> Result<Response, Problem> {
        let request = token_request(query)?;
        let now = crate::clock::unix_now();
        let token = self.keys.token(&request, now).map_err(|error| {
            tracing::error!(event = "dev_token_failed", %error);
            Problem::internal("the token could not be signed")
        })?;
        let token = json!({"token": token, "user": request.user});
        Ok(api::json(StatusCode::OK, &token))
    }
}

/// Reads `user=…&subject=…&subject=…&ttl=…`.
fn token_request(query: &str) -> Result<TokenRequest, Problem> {
    let bad = |detail: &'static str| Problem::bad_request(detail);
    let name = |value: &str| {
        let fits = !value.trim().is_empty() && value.chars().count() <= MAX_NAME;
        fits.then(|| value.to_owned())
            .ok_or_else(|| bad("`user` and `subject` take 1 to 128 characters"))
    };
    let (mut user, mut subjects, mut ttl_seconds) = (None, Vec::new(), TOKEN_TTL);
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        match &*key {
            "user" => user = Some(name(&value)?),
            "subject" => subjects.push(name(&value)?),
            "ttl" => {
                ttl_seconds = value
                    .parse()
                    .map_err(|_| bad("`ttl` takes a whole number of seconds"))?;
            }
            _ => return Err(bad("the query takes `user`, `subject` and `ttl`")),
        }
    }
    if subjects.len() > MAX_SUBJECTS {
        return Err(bad("at most 16 times `subject`"));
    }
    Ok(TokenRequest {
        user: user.ok_or_else(|| bad("`user` is missing"))?,
        subjects,
        ttl_seconds,
    })
}

fn document(file: &File, headers: &HeaderMap) -> Response {
    let mut response = api::answer(StatusCode::OK, file.media_type, file.text);
    // Not every browser counts the WebSocket of the same host as `self`.
    let socket = guard::authority(headers).map(|host| format!(" ws://{host} wss://{host}"));
    let policy = format!(
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'{}; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        socket.unwrap_or_default(),
    );
    let policy = HeaderValue::try_from(policy);
    response.headers_mut().insert(
        CONTENT_SECURITY_POLICY,
        policy.unwrap_or(HeaderValue::from_static("default-src 'none'")),
    );
    response
}

/// Adds what keeps other sites from making use of an answer.
fn secured(mut response: Response) -> Response {
    const HEADERS: [(HeaderName, &str); 4] = [
        (http::header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (http::header::REFERRER_POLICY, "no-referrer"),
        (http::header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ];
    for (name, value) in HEADERS {
        response
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
    }
    response
}
