//! Takes the token out of an upgrade request.
//!
//! Stands first: `auth` asks it before there is anything to verify.

use std::borrow::Cow;
use std::fmt;

use http::HeaderMap;
use http::header::{AUTHORIZATION, COOKIE, HeaderName, SEC_WEBSOCKET_PROTOCOL};

use crate::stages::auth::{AuthConfig, TokenSource};

/// The subprotocol that announces a token as the next entry of the list.
const BEARER_PROTOCOL: &str = "bearer";

/// A token and the place where it was found. `Debug` shows only the place.
#[derive(Clone, PartialEq, Eq)]
pub struct FoundToken {
    /// The token's text, not verified in any way.
    pub token: String,
    /// The place that had it.
    pub source: TokenSource,
}

impl fmt::Debug for FoundToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FoundToken")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// Finds the token in the first configured source that has one.
///
/// A source that has a token decides, even if the token turns out bad: falling through to the next one
/// would let an attacker's cookie stand in for a client's expired header. An empty value counts as absent.
#[must_use]
pub fn find_token(
    headers: &HeaderMap,
    query: Option<&str>,
    config: &AuthConfig,
) -> Option<FoundToken> {
    config.token_sources.iter().find_map(|&source| {
        let token = match source {
            TokenSource::Header => from_authorization(headers),
            TokenSource::Query => query.and_then(from_query),
            TokenSource::Subprotocol => from_subprotocol(headers),
            TokenSource::Cookie => from_cookie(headers, &config.cookie_name),
        }?;
        Some(FoundToken { token, source })
    })
}

/// Returns whether the client offers the subprotocol `bearer`, with a token behind it or not.
///
/// A browser that offered subprotocols and is answered none fails the connection, and then cannot see
/// the close code that explains a refusal.
#[must_use]
pub fn offers_bearer(headers: &HeaderMap) -> bool {
    offered_protocols(headers)
        .iter()
        .any(|name| name == BEARER_PROTOCOL)
}

fn from_authorization(headers: &HeaderMap) -> Option<String> {
    lines(headers, &AUTHORIZATION).find_map(|line| {
        let (scheme, token) = line.trim().split_once(' ')?;
        // RFC 9110 section 11.1: the scheme is case-insensitive.
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| non_empty(token))?
    })
}

fn from_query(query: &str) -> Option<String> {
    ["access_token", "token"].into_iter().find_map(|name| {
        form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == name)
            .find_map(|(_, token)| non_empty(&token))
    })
}

fn from_subprotocol(headers: &HeaderMap) -> Option<String> {
    let offered = offered_protocols(headers);
    let bearer = offered.iter().position(|name| name == BEARER_PROTOCOL)?;
    non_empty(offered.get(bearer + 1)?)
}

fn from_cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    lines(headers, &COOKIE).find_map(|line| {
        line.split(';').find_map(|pair| {
            let (key, value) = pair.split_once('=')?;
            let value = value.trim();
            // RFC 6265 section 4.1.1: a value may stand in quotes.
            let bare = value
                .strip_prefix('"')
                .and_then(|rest| rest.strip_suffix('"'))
                .unwrap_or(value);
            (key.trim() == name).then(|| non_empty(bare))?
        })
    })
}

/// The subprotocols of the request; the list may be spread over lines (RFC 6455 section 11.3.4).
fn offered_protocols(headers: &HeaderMap) -> Vec<String> {
    lines(headers, &SEC_WEBSOCKET_PROTOCOL)
        .flat_map(|line| {
            line.split(',')
                .map(|name| name.trim().to_owned())
                .collect::<Vec<_>>()
        })
        .collect()
}

/// The lines of one header. Bytes that are not text are replaced, so that a token with such bytes is
/// present and refused rather than absent.
fn lines<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = Cow<'a, str>> {
    headers
        .get_all(name)
        .iter()
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
}

fn non_empty(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}
