//! `wsgw token`: a signed token for trying things out.
//!
//! Stands before the data path: what it prints is what a client connects with.

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::jwt::{SignError, SigningKey, UnknownAlgorithm, sign_token};
use crate::stages::auth::JwtAlgorithm;

/// What the token should say, and the key to sign it with.
#[derive(Debug, Clone, Args)]
pub struct TokenArgs {
    /// The user id.
    #[arg(long, value_name = "ID")]
    pub user: String,
    /// The claim that holds the user id.
    #[arg(long, value_name = "NAME", default_value = "user_id")]
    pub user_claim: String,
    /// Seconds until the token expires; 0: never.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub ttl: u64,
    /// A further claim; the value is taken as JSON if it is JSON, else as a string. Repeatable.
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    pub claims: Vec<String>,
    /// Private key (PEM), or a file with the shared secret.
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// Signature algorithm, by default the customary one of the key.
    #[arg(long, value_name = "ALG")]
    pub alg: Option<String>,
}

/// The reason for which no token is made.
#[derive(Debug, Error)]
pub enum TokenError {
    /// `--claim` is not `NAME=VALUE`.
    #[error("--claim {0}: expected NAME=VALUE")]
    Claim(String),
    /// `--alg` names no algorithm.
    #[error("--alg: {0}")]
    Algorithm(#[from] UnknownAlgorithm),
    /// The key file cannot be read.
    #[error("--key {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key cannot sign.
    #[error("--key {}: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: SignError,
    },
}

/// Makes the token, as of `now` (Unix seconds).
///
/// # Errors
///
/// When an option makes no sense or the key cannot be used; the text is one line.
pub fn make_token(args: &TokenArgs, now: u64) -> Result<String, TokenError> {
    let claims = claims(args, now)?;
    let key = signing_key(args)?;
    sign_token(&key, &claims).map_err(|source| TokenError::Key {
        path: args.key.clone(),
        source,
    })
}

/// Reads the key to sign with.
pub(crate) fn signing_key(args: &TokenArgs) -> Result<SigningKey, TokenError> {
    let algorithm = args
        .alg
        .as_deref()
        .map(str::parse::<JwtAlgorithm>)
        .transpose()?;
    let bytes = fs::read(&args.key).map_err(|source| TokenError::Unreadable {
        path: args.key.clone(),
        source,
    })?;
    SigningKey::from_bytes(&bytes, algorithm).map_err(|source| TokenError::Key {
        path: args.key.clone(),
        source,
    })
}

/// The claims; those of `--claim` come last and win, so that bad tokens can be made for tests too.
pub(crate) fn claims(args: &TokenArgs, now: u64) -> Result<Map<String, Value>, TokenError> {
    let mut claims = Map::new();
    claims.insert(args.user_claim.clone(), json!(args.user));
    claims.insert("iat".into(), json!(now));
    if args.ttl > 0 {
        claims.insert("exp".into(), json!(now.saturating_add(args.ttl)));
    }
    for claim in &args.claims {
        let (name, value) = claim
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or_else(|| TokenError::Claim(claim.clone()))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| json!(value));
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::Verifier;
    use crate::stages::auth::AuthConfig;

    fn args() -> TokenArgs {
        TokenArgs {
            user: "42".into(),
            user_claim: "user_id".into(),
            ttl: 60,
            claims: Vec::new(),
            key: concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pem").into(),
            alg: None,
        }
    }

    #[test]
    fn the_gateway_accepts_the_token_until_it_expires() {
        let token = make_token(&args(), 1000).unwrap();
        let mut config = AuthConfig::default();
        config.jwt.public_key_file =
            concat!(env!("CARGO_MANIFEST_DIR"), "/tests/keys/rsa.pub.pem").into();
        let verifier = Verifier::new(&config).unwrap();
        assert_eq!(
            verifier
                .verify_now(&token, 1059.0)
                .unwrap()
                .unwrap()
                .user_id,
            "42"
        );
        assert!(verifier.verify_now(&token, 1060.0).unwrap().is_err());
    }

    #[test]
    fn claims_are_json_where_they_can_be() {
        let args = TokenArgs {
            user_claim: "sub".into(),
            ttl: 0,
            claims: ["subjects=[\"a\"]", "name=ann", "n=1", "note=a=b", "sub=7"]
                .map(String::from)
                .into(),
            ..args()
        };
        let expected = json!(
            {"sub": 7, "iat": 1000, "subjects": ["a"], "name": "ann", "n": 1, "note": "a=b"}
        );
        assert_eq!(Value::Object(claims(&args, 1000).unwrap()), expected);
    }

    #[test]
    fn errors_are_one_line_that_names_the_option() {
        let text = |args: &TokenArgs| make_token(args, 1000).unwrap_err().to_string();
        let bad_claim = TokenArgs {
            claims: vec!["x".into()],
            ..args()
        };
        assert_eq!(text(&bad_claim), "--claim x: expected NAME=VALUE");
        let bad_alg = TokenArgs {
            alg: Some("none".into()),
            ..args()
        };
        assert!(text(&bad_alg).starts_with("--alg: unknown algorithm `none`"));
        let bad_file = TokenArgs {
            key: "no/such.pem".into(),
            ..args()
        };
        assert!(text(&bad_file).starts_with("--key no/such.pem: "));
        let wrong_key = TokenArgs {
            alg: Some("ES256".into()),
            ..args()
        };
        assert!(
            text(&wrong_key)
                .ends_with("rsa.pem: ES256 needs an EC key on P-256, this is an RSA key")
        );
    }
}
