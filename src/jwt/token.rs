//! A token's shape (JWS compact serialisation, RFC 7515), before anything in it is believed.
//!
//! Stands between the text that `source` finds and the key that proves it.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::error::AuthError;
use super::keys::VerifyKey;
use crate::stages::auth::JwtAlgorithm;

/// Tokens beyond this are refused unread: decoding them is work that anybody could ask for.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// A token of the right shape and algorithm whose signature is not checked yet.
pub(super) struct UnverifiedToken<'a> {
    message: &'a str,
    payload: &'a str,
    signature: &'a str,
    kid: Option<String>,
}

impl<'a> UnverifiedToken<'a> {
    pub(super) fn parse(token: &'a str, algorithm: JwtAlgorithm) -> Result<Self, AuthError> {
        if token.is_empty() {
            return Err(AuthError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(AuthError::TooLarge);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(AuthError::Malformed)?;
        let (header, payload) = message.split_once('.').ok_or(AuthError::Malformed)?;
        if payload.contains('.') {
            return Err(AuthError::Malformed);
        }
        let mut header = decode_object(header)?;
        match header.get("alg") {
            Some(Value::String(alg)) if alg == algorithm.name() => {}
            Some(Value::String(_)) => return Err(AuthError::Algorithm),
            _ => return Err(AuthError::Malformed),
        }
        // RFC 7515 section 4.1.11: an extension that must be understood, and none is.
        if header.contains_key("crit") {
            return Err(AuthError::Malformed);
        }
        let kid = match header.remove("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid),
            Some(_) => return Err(AuthError::Malformed),
        };
        Ok(Self {
            message,
            payload,
            signature,
            kid,
        })
    }

    /// The id of the key that the token says it is signed with.
    pub(super) fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// The claims as text and read, once the signature has proved them.
    pub(super) fn claims(
        &self,
        key: &VerifyKey,
    ) -> Result<(Arc<str>, Map<String, Value>), AuthError> {
        if !key.verifies(self.message, self.signature) {
            return Err(AuthError::BadSignature);
        }
        let bytes = decode(self.payload)?;
        let claims = serde_json::from_slice(&bytes).map_err(|_| AuthError::Malformed)?;
        let text = String::from_utf8(bytes).map_err(|_| AuthError::Malformed)?;
        Ok((compact(text).into(), claims))
    }
}

fn decode(part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| AuthError::Malformed)
}

fn decode_object(part: &str) -> Result<Map<String, Value>, AuthError> {
    serde_json::from_slice(&decode(part)?).map_err(|_| AuthError::Malformed)
}

/// Takes white space out of valid JSON, except within its strings; few tokens have any.
fn compact(mut json: String) -> String {
    let (mut in_string, mut escaped) = (false, false);
    json.retain(|c| {
        if in_string {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
            return true;
        }
        in_string = c == '"';
        !c.is_ascii_whitespace()
    });
    json
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_goes_but_from_strings() {
        let json = "{ \"a b\" : [ 1.50 ,\n\"c \\\" d \\\\\" , {} ] }\t";
        assert_eq!(compact(json.to_owned()), r#"{"a b":[1.50,"c \" d \\",{}]}"#);
    }
}
