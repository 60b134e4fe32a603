//! A running gateway's internal API as the commands call it: the address, the key, and errors in words.
//!
//! Stands outside the gateway; `replay` and `top` ask by it.

use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::Value;

use super::{clean, innermost};

/// Time that connecting may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Bytes of an answer that are read; a status has a few thousand, a list of dead letters may have many.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// What the user of a command can do about a key that is not accepted.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeyHints {
    /// Where another key can be given.
    pub(super) wrong: &'static str,
    /// What to set in the gateway, where it has no key.
    pub(super) none: &'static str,
}

/// The internal API of one gateway.
#[derive(Debug)]
pub(super) struct Gateway {
    http: reqwest::Client,
    base: String,
    /// Without user name and password.
    url: String,
    hints: KeyHints,
}

/// An answer that is no success.
#[derive(Debug)]
pub(super) struct Refused {
    /// What was answered, and what can be done about it.
    pub(super) text: String,
    /// The body, if it was JSON.
    pub(super) problem: Value,
}

impl Gateway {
    /// Prepares calls, each of which may take so long; the error is a mistake in the arguments.
    pub(super) fn new(
        url: &str,
        key: &str,
        answer: Duration,
        hints: KeyHints,
    ) -> Result<Self, String> {
        let mistake = || "--url: expected an address such as http://127.0.0.1:8000".to_owned();
        let mut shown = Url::parse(url).map_err(|_| mistake())?;
        let web = matches!(shown.scheme(), "http" | "https")
            && shown.query().is_none()
            && shown.has_host();
        // Neither can fail for an address with a host.
        if !web || shown.set_username("").is_err() || shown.set_password(None).is_err() {
            return Err(mistake());
        }
        let mut key = HeaderValue::from_str(key)
            .map_err(|_| "the key has characters that no HTTP header can have".to_owned())?;
        key.set_sensitive(true);
        let mut headers = HeaderMap::new();
        headers.insert(crate::api::API_KEY_HEADER, key);
        let http = reqwest::Client::builder()
            .default_headers(headers)
            .connect_timeout(CONNECT.min(answer))
            .timeout(answer)
            // While a command waits, the gateway may close a connection that is kept.
            .pool_max_idle_per_host(0)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self {
            http,
            base: url.trim_end_matches('/').to_owned(),
            url: shown.as_str().trim_end_matches('/').to_owned(),
            hints,
        })
    }

    /// The address without user name and password.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Begins a call.
    pub(super) fn call(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.base))
    }

    /// Reads an answer that is no success.
    pub(super) async fn refused(&self, answer: Response) -> Refused {
        let status = answer.status();
        let problem = read_json(answer).await.unwrap_or_default();
        let detail = clean(problem["detail"].as_str().unwrap_or("it does not say why"));
        let hint = match status.as_u16() {
            401 => format!("; give the right one by {}", self.hints.wrong),
            403 => format!("; set {} there", self.hints.none),
            404 => "; is this the address of the gateway's internal API (server.internal_listen)?"
                .to_owned(),
            _ => String::new(),
        };
        let (url, status) = (&self.url, status.as_u16());
        Refused {
            text: format!("{url} answered {status}: {detail}{hint}"),
            problem,
        }
    }

    /// Why there was no answer.
    pub(super) fn unreachable(&self, error: &reqwest::Error) -> String {
        let cause = innermost(error);
        let url = &self.url;
        if error.is_connect() {
            format!(
                "{url} cannot be reached: {cause}; is the gateway running, and is this its internal API?"
            )
        } else {
            format!("{url} gave no answer: {cause}")
        }
    }
}

/// Reads an answer's JSON, however much somebody sends who is no gateway; the error is in words.
pub(super) async fn read_json(mut answer: Response) -> Result<Value, String> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| error.to_string())? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(format!("the answer is longer than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    serde_json::from_slice(&body).map_err(|error| format!("the answer is no JSON: {error}"))
}
