//! `wsgw token`: a signed token for trying things out.

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
    let algorithm = args
        .alg
        .as_deref()
        .map(str::parse::<JwtAlgorithm>)
        .transpose()?;
    let claims = claims(args, now)?;
    let bytes = fs::read(&args.key).map_err(|source| TokenError::Unreadable {
        path: args.key.clone(),
        source,
    })?;
    SigningKey::from_bytes(&bytes, algorithm)
        .and_then(|key| sign_token(&key, &claims))
        .map_err(|source| TokenError::Key {
            path: args.key.clone(),
            source,
        })
}

/// The claims; those of `--claim` come last and win, so that bad tokens can be made for tests too.
fn claims(args: &TokenArgs, now: u64) -> Result<Map<String, Value>, TokenError> {
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
