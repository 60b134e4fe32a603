//! The keys of one test, and the tokens that its client shows.
//!
//! Stands before the handshake. ES256 whatever the file says, since making such a key takes no time.

use http::header::{
    AUTHORIZATION, COOKIE, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL,
};
use serde_json::{Map, Number, Value};

use crate::clock::unix_millis;
use crate::config::Config;
use crate::config::cases::{Case, Claim, Who};
use crate::jwt::{DevKey, SignError, SigningKey, generate_dev_key, sign_token};
use crate::stages::StageConfig;
use crate::stages::auth::{AuthConfig, TokenSource};

/// Who connects where a test does not say it.
const SOMEBODY: &str = "42";

/// Milliseconds for which that one's token is good, where the pipeline refuses tokens without an end: a year.
const YEAR_MS: i64 = 31_536_000_000;

/// A key pair that the pipeline knows, and another.
pub(super) struct Keys {
    own: DevKey,
    other: DevKey,
}

impl Keys {
    pub(super) fn make() -> Result<Self, SignError> {
        Ok(Self {
            own: generate_dev_key()?,
            other: generate_dev_key()?,
        })
    }

    pub(super) fn public_pem(&self) -> &str {
        &self.own.public_pem
    }

    /// Signs claims as of now.
    pub(super) fn sign(
        &self,
        claims: &[(String, Claim)],
        forged: bool,
    ) -> Result<String, SignError> {
        let key = if forged { &self.other } else { &self.own };
        let key = SigningKey::from_bytes(key.private_pem.reveal().as_bytes(), None)?;
        let claims = claims
            .iter()
            .map(|(name, claim)| (name.clone(), value(claim)))
            .collect();
        sign_token(&key, &claims)
    }

    /// What the upgrade request of a test's client says.
    pub(super) fn request(
        &self,
        case: &Case,
        config: &Config,
    ) -> Result<(HeaderMap, Option<String>), SignError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &case.headers {
            // Reading the test saw to it that they are some.
            if let (Ok(name), Ok(value)) = (
                HeaderName::try_from(name.as_str()),
                HeaderValue::try_from(value.as_str()),
            ) {
                headers.append(name, value);
            }
        }
        let mut query = case.query.clone();
        let auth = config.stages.iter().find_map(|stage| match stage {
            StageConfig::Auth(auth) => Some(auth),
            _ => None,
        });
        if let Some(auth) = auth
            && let Some(token) = self.token(case, auth)?
        {
            present(&token, auth, &mut headers, &mut query);
        }
        let query = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(query)
            .finish();
        Ok((headers, Some(query).filter(|query| !query.is_empty())))
    }

    fn token(&self, case: &Case, auth: &AuthConfig) -> Result<Option<String>, SignError> {
        match &case.who {
            Who::Anonymous => Ok(None),
            Who::Token(token) => Ok(Some(token.clone())),
            Who::Claims { claims, forged } => self.sign(claims, *forged).map(Some),
            Who::Somebody => {
                let is_token = |name: &str| matches!(name, "token" | "access_token");
                let shows_one = case.query.iter().any(|(name, _)| is_token(name))
                    || case.headers.iter().any(|(name, _)| {
                        name.eq_ignore_ascii_case(AUTHORIZATION.as_str())
                            || name.eq_ignore_ascii_case(COOKIE.as_str())
                            || name.eq_ignore_ascii_case(SEC_WEBSOCKET_PROTOCOL.as_str())
                    });
                if shows_one {
                    return Ok(None);
                }
                self.sign(&somebody(auth), false).map(Some)
            }
        }
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

/// Claims that the pipeline accepts.
fn somebody(auth: &AuthConfig) -> Vec<(String, Claim)> {
    let jwt = &auth.jwt;
    let mut claims = vec![(jwt.user_id_claim.clone(), Claim::Is(SOMEBODY.into()))];
    if auth.require_exp {
        claims.push(("exp".into(), Claim::In(YEAR_MS)));
    }
    for (name, wanted) in [("iss", &jwt.issuer), ("aud", &jwt.audience)] {
        if !wanted.is_empty() {
            claims.push((name.into(), Claim::Is(wanted.as_str().into())));
        }
    }
    claims
}

fn value(claim: &Claim) -> Value {
    match claim {
        Claim::Is(value) => value.clone(),
        Claim::In(ms) => {
            let at = i64::try_from(unix_millis())
                .unwrap_or(i64::MAX)
                .saturating_add(*ms);
            if at % 1000 == 0 {
                return (at / 1000).into();
            }
            Number::from_f64(at as f64 / 1000.0).map_or(Value::Null, Value::Number)
        }
    }
}

/// Shows the token where the pipeline looks for one first.
fn present(
    token: &str,
    auth: &AuthConfig,
    headers: &mut HeaderMap,
    query: &mut Vec<(String, String)>,
) {
    let (name, value) = match auth.token_sources.first() {
        Some(TokenSource::Query) => {
            query.push(("access_token".into(), token.to_owned()));
            return;
        }
        Some(TokenSource::Subprotocol) => (SEC_WEBSOCKET_PROTOCOL, format!("bearer, {token}")),
        Some(TokenSource::Cookie) => (COOKIE, format!("{}={token}", auth.cookie_name)),
        Some(TokenSource::Header) | None => (AUTHORIZATION, format!("Bearer {token}")),
    };
    // A test may make up a token that no header can have; then none is shown, and that is refused too.
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// The message that renews a token.
pub(super) fn renewal(token: &str) -> String {
    let members = [("type", "auth"), ("token", token)];
    let members = members.map(|(name, value)| (name.to_owned(), Value::from(value)));
    Value::Object(Map::from_iter(members)).to_string()
}
