//! The API key: who may call `/internal/*`.
//!
//! Stands between the route table and the handlers of `/internal/*`. The key is compared by digest in constant
//! time, so that neither its text nor its length can be measured from outside.

use aws_lc_rs::digest::{SHA256, digest};
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use subtle::ConstantTimeEq;

use super::fields::Fields;
use super::problem::Problem;
use crate::config::Secret;
use crate::telemetry::throttle::Throttle;

/// The header that carries the key.
pub const API_KEY_HEADER: &str = "x-api-key";

/// Why a call was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    NotConfigured,
    Missing,
    Wrong,
}

impl Denied {
    fn reason(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let refused = |detail| {
            // A 401 must say how to authenticate (RFC 9110 section 15.5.2).
            Self::new(StatusCode::UNAUTHORIZED, detail)
                .with_header(WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey"))
        };
        match denied {
            Denied::NotConfigured => {
                Self::forbidden("the internal API is off, since no server.api_key is configured")
            }
            Denied::Missing => refused(
                "the API key is missing: send it in the header X-API-Key or as api_key in a JSON body",
            ),
            Denied::Wrong => refused("the API key is wrong"),
        }
    }
}

/// Where a call's key is to be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looked {
    /// The header had the right key.
    Granted,
    /// There is no header: the body decides.
    InBody,
}

/// Whether a key is configured at all.
pub(super) fn is_configured(key: &Secret) -> bool {
    // A header's value never has white space around it, so a blank key could not be sent either.
    !key.reveal().trim().is_empty()
}

/// Judges a call by its headers.
pub(super) fn in_headers(headers: &HeaderMap, key: &Secret) -> Result<Looked, Denied> {
    let mut sent = headers.get_all(API_KEY_HEADER).iter();
    match (sent.next(), sent.next()) {
        (None, _) => Ok(Looked::InBody),
        (Some(sent), None) if matches(sent.as_bytes(), key) => Ok(Looked::Granted),
        _ => Err(Denied::Wrong),
    }
}

/// The key that a call presents, right or wrong.
pub(super) fn presented(headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
    if let Some(sent) = headers.get(API_KEY_HEADER) {
        return Some(sent.as_bytes().to_vec());
    }
    let fields = Fields::parse(body, ["api_key"]).ok()?;
    let sent = fields.get("api_key")?.string().ok()?;
    Some(sent.as_bytes().to_vec())
}

/// Judges a call by its body.
pub(super) fn in_body(body: &[u8], key: &Secret) -> Result<(), Denied> {
    let fields = Fields::parse(body, ["api_key"]).map_err(|_| Denied::Missing)?;
    let sent = fields.get("api_key").ok_or(Denied::Missing)?;
    match sent.string() {
        Ok(sent) if matches(sent.as_bytes(), key) => Ok(()),
        _ => Err(Denied::Wrong),
    }
}

fn matches(sent: &[u8], key: &Secret) -> bool {
    let sent = digest(&SHA256, sent);
    let key_digest = digest(&SHA256, key.reveal().as_bytes());
    is_configured(key) & bool::from(sent.as_ref().ct_eq(key_digest.as_ref()))
}

/// Logs refused calls, so few that a guessing caller cannot fill the disk.
#[derive(Debug, Default)]
pub(super) struct DeniedLog(Throttle);

impl DeniedLog {
    pub(super) fn note(&self, denied: Denied, route: &'static str) {
        let Some(not_logged) = self.0.pass() else {
            return;
        };
        tracing::warn!(
            event = "api_denied",
            route,
            reason = denied.reason(),
            not_logged,
            "call of the internal API refused"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Secret {
        Secret::from(text.to_owned())
    }

    #[test]
    fn only_the_exact_key_matches() {
        assert!(matches(b"key", &key("key")));
        for sent in ["", "ke", "keyy", "Key", "key "] {
            assert!(!matches(sent.as_bytes(), &key("key")), "{sent:?}");
        }
        assert!(!matches(b"", &key("")) && !matches(b" ", &key(" ")));
    }
}
