//! What a development gateway throws away when it ends: its key pair, its API key, and the tokens it signs.
//!
//! Stands behind the page and the banner, which hand out what is made here.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};

use crate::config::Secret;
use crate::jwt::{SignError, SigningKey, generate_dev_key, sign_token};

/// Seconds a token is good for unless asked otherwise: a working day and the night after it.
pub(crate) const TOKEN_TTL: i64 = 24 * 60 * 60;

/// What a token is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// The user id.
    pub user: String,
    /// Further subjects that the connection listens to.
    pub subjects: Vec<String>,
    /// Seconds until it expires; a negative number makes a token that has expired.
    pub ttl_seconds: i64,
}

impl TokenRequest {
    /// Asks for a day's token without further subjects.
    #[must_use]
    pub fn for_user(user: impl Into<String>) -> Self {
        Self {
            user: user.into(),
            subjects: Vec::new(),
            ttl_seconds: TOKEN_TTL,
        }
    }
}

/// The keys of one development gateway.
pub(super) struct DevKeys {
    signing: SigningKey,
    public_pem: String,
    api_key: Secret,
}

impl DevKeys {
    /// Makes new keys.
    pub(super) fn generate() -> Result<Self, SignError> {
        let pair = generate_dev_key()?;
        let mut bytes = [0_u8; 18];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| SignError::Crypto)?;
        Ok(Self {
            signing: SigningKey::from_bytes(pair.private_pem.reveal().as_bytes(), None)?,
            public_pem: pair.public_pem,
            api_key: format!("dev_{}", URL_SAFE_NO_PAD.encode(bytes)).into(),
        })
    }

    pub(super) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    pub(super) fn api_key(&self) -> &str {
        self.api_key.reveal()
    }

    /// Signs a token as of `now` (Unix seconds).
    pub(super) fn token(&self, request: &TokenRequest, now: u64) -> Result<String, SignError> {
        let mut claims = Map::<String, Value>::new();
        claims.insert("user_id".into(), json!(request.user));
        if !request.subjects.is_empty() {
            claims.insert("subjects".into(), json!(request.subjects));
        }
        claims.insert("iat".into(), json!(now));
        let expires = now.saturating_add_signed(request.ttl_seconds);
        claims.insert("exp".into(), json!(expires));
        sign_token(&self.signing, &claims)
    }
}

impl std::fmt::Debug for DevKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DevKeys(***)")
    }
}
