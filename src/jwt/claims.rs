//! What a token says (RFC 7519 section 4), checked against the clock and the configuration.
//!
//! Stands last in deciding about a token: the signature has been checked by then.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::error::AuthError;
use crate::stages::auth::AuthConfig;

const MAX_SUBJECTS: usize = 1000;
const MAX_SUBJECT_CHARS: usize = 256;

/// What the gateway takes from a verified token.
#[derive(Debug, Clone, PartialEq)]
pub struct Claims {
    /// The user; a number in the token is its decimal string here.
    pub user_id: String,
    /// The claim `subjects`: in the token's order, each once; empty when the token has none.
    pub subjects: Vec<String>,
    /// When the token stops being valid, leeway included (Unix seconds); none without `exp`.
    pub expires_at: Option<f64>,
    /// All claims as the token writes them: one JSON object without white space.
    pub raw: Arc<str>,
}

/// What the configuration demands of the claims.
pub(super) struct ClaimRules {
    user_id_claim: String,
    issuer: String,
    audience: String,
    leeway: f64,
    require_exp: bool,
}

impl ClaimRules {
    pub(super) fn new(config: &AuthConfig) -> Self {
        Self {
            user_id_claim: config.jwt.user_id_claim.clone(),
            issuer: config.jwt.issuer.clone(),
            audience: config.jwt.audience.clone(),
            #[expect(
                clippy::cast_precision_loss,
                reason = "exact up to 2^53 seconds, which is 285 million years"
            )]
            leeway: config.jwt.leeway as f64,
            require_exp: config.require_exp,
        }
    }

    /// Checks verified claims, which `raw` is the text of, at the time `now` (Unix seconds).
    pub(super) fn check(
        &self,
        raw: Arc<str>,
        mut claims: Map<String, Value>,
        now: f64,
    ) -> Result<Claims, AuthError> {
        let expires_at = numeric_date(&claims, "exp")?.map(|exp| exp + self.leeway);
        match expires_at {
            Some(end) if now >= end => return Err(AuthError::Expired),
            None if self.require_exp => return Err(AuthError::NoExpiry),
            _ => {}
        }
        if numeric_date(&claims, "nbf")?.is_some_and(|nbf| nbf > now + self.leeway) {
            return Err(AuthError::NotYetValid);
        }
        let issuer = claims.get("iss").and_then(Value::as_str);
        if !self.issuer.is_empty() && issuer != Some(self.issuer.as_str()) {
            return Err(AuthError::Issuer);
        }
        if !self.audience.is_empty() && !is_meant_for(claims.get("aud"), &self.audience) {
            return Err(AuthError::Audience);
        }
        Ok(Claims {
            user_id: user_id(claims.remove(&self.user_id_claim))?,
            subjects: subjects(claims.remove("subjects"))?,
            expires_at,
            raw,
        })
    }
}

/// A point in time, which may have a fraction (RFC 7519 section 2, `NumericDate`).
fn numeric_date(claims: &Map<String, Value>, name: &str) -> Result<Option<f64>, AuthError> {
    match claims.get(name) {
        None => Ok(None),
        Some(Value::Number(number)) => number.as_f64().map(Some).ok_or(AuthError::Malformed),
        Some(_) => Err(AuthError::Malformed),
    }
}

fn is_meant_for(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(one)) => one == audience,
        Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

fn user_id(claim: Option<Value>) -> Result<String, AuthError> {
    match claim {
        Some(Value::String(id)) if !id.trim().is_empty() => Ok(id),
        Some(Value::Number(id)) if id.is_i64() || id.is_u64() => Ok(id.to_string()),
        _ => Err(AuthError::NoUser),
    }
}

fn subjects(claim: Option<Value>) -> Result<Vec<String>, AuthError> {
    let list = match claim {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) if list.len() <= MAX_SUBJECTS => list,
        Some(_) => return Err(AuthError::Subjects),
    };
    let mut seen = HashSet::with_capacity(list.len());
    let mut subjects = Vec::with_capacity(list.len());
    for entry in list {
        match entry {
            Value::String(subject) if is_subject(&subject) => {
                if seen.insert(subject.clone()) {
                    subjects.push(subject);
                }
            }
            _ => return Err(AuthError::Subjects),
        }
    }
    Ok(subjects)
}

fn is_subject(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_SUBJECT_CHARS
}
