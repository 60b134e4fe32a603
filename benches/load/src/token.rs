//! Signs the clients' tokens.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};

use crate::Result;

const LIFETIME_SECONDS: u64 = 4 * 3600;

/// Makes RS256 tokens, or none when there is no key.
pub(crate) struct Signer {
    key: Option<RsaKeyPair>,
    random: SystemRandom,
}

impl Signer {
    /// Reads an unencrypted RSA private key in PEM form (PKCS#8 or PKCS#1).
    pub(crate) fn open(path: Option<&Path>) -> Result<Self> {
        let random = SystemRandom::new();
        let Some(path) = path else {
            return Ok(Self { key: None, random });
        };
        let pem = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the key {}: {error}", path.display()))?;
        let key = parse(&pem)
            .ok_or_else(|| format!("{} is not an RSA private key in PEM form", path.display()))?;
        Ok(Self {
            key: Some(key),
            random,
        })
    }

    /// Signs a token for one user, with further claims as JSON members (`,"a":1`).
    pub(crate) fn sign(&self, user: usize, more_claims: &str) -> Result<Option<String>> {
        let Some(key) = &self.key else {
            return Ok(None);
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let claims = format!(
            r#"{{"user_id":"{user}","iat":{now},"exp":{}{more_claims}}}"#,
            now + LIFETIME_SECONDS
        );
        let mut token = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","typ":"JWT"}"#);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(
            &RSA_PKCS1_SHA256,
            &self.random,
            token.as_bytes(),
            &mut signature,
        )
        .map_err(|_| "the key could not sign a token")?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Some(token))
    }
}

fn parse(pem: &str) -> Option<RsaKeyPair> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let der = STANDARD
        .decode(body.split_ascii_whitespace().collect::<String>())
        .ok()?;
    match label {
        "PRIVATE KEY" => RsaKeyPair::from_pkcs8(&der).ok(),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&der).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_refused_without_a_panic() {
        for pem in [
            "",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ] {
            assert!(parse(pem).is_none(), "{pem}");
        }
    }

    #[test]
    fn no_key_means_no_token() {
        let signer = Signer::open(None).unwrap();
        assert!(signer.sign(1, "").unwrap().is_none());
    }
}
