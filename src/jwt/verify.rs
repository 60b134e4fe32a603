//! Decides whether a token admits its bearer.
//!
//! Stands at the entry of `jwt`: the `auth` stage asks it at the upgrade and at each renewal.

use std::path::Path;
use std::sync::Arc;

use super::claims::{ClaimRules, Claims};
use super::error::{AuthError, KeyError, VerifierError};
use super::jwk::KeySet;
use super::jwks::{Jwks, KeySets, Lookup, Patience};
use super::keys::VerifyKey;
use super::token::UnverifiedToken;
use crate::config::read_bounded;
use crate::stages::auth::{AuthConfig, JwtAlgorithm, JwtConfig};

/// Verifies tokens by one configuration. Clones share the keys; the last one to go stops their refresh.
#[derive(Clone)]
pub struct Verifier(Arc<Inner>);

struct Inner {
    algorithm: JwtAlgorithm,
    rules: ClaimRules,
    keys: Keys,
}

enum Keys {
    Fixed(VerifyKey),
    Remote(Jwks),
}

impl Verifier {
    /// Reads the key, or prepares to fetch the key set with the first token.
    ///
    /// # Errors
    ///
    /// When there is no usable key for the configured algorithm, or more than one place has a key.
    pub fn new(config: &AuthConfig) -> Result<Self, VerifierError> {
        Self::with_patience(config, Patience::default(), &KeySets::default())
    }

    /// As [`Verifier::new`]; keys that an earlier verifier has fetched from the same place are known from the start,
    /// and fetched again in the background.
    ///
    /// # Errors
    ///
    /// As [`Verifier::new`].
    pub fn renewed(config: &AuthConfig, sets: &KeySets) -> Result<Self, VerifierError> {
        Self::with_patience(config, Patience::default(), sets)
    }

    pub(super) fn with_patience(
        config: &AuthConfig,
        patience: Patience,
        sets: &KeySets,
    ) -> Result<Self, VerifierError> {
        Ok(Self(Arc::new(Inner {
            algorithm: config.jwt.algorithm,
            rules: ClaimRules::new(config),
            keys: load(&config.jwt, patience, sets)?,
        })))
    }

    /// Verifies a token at the time `now` (Unix seconds), waiting up to 5 s for a key set.
    ///
    /// # Errors
    ///
    /// The reason for which the token is refused.
    pub async fn verify(&self, token: &str, now: f64) -> Result<Claims, AuthError> {
        let token = UnverifiedToken::parse(token, self.0.algorithm)?;
        let jwks = match &self.0.keys {
            Keys::Fixed(key) => return self.0.decide(&token, key, now),
            Keys::Remote(jwks) => jwks,
        };
        let keys = match jwks.lookup(token.kid(), now) {
            Lookup::Keys(keys) => keys,
            Lookup::Refused(error) => return Err(error),
            Lookup::Wait(fetch) => jwks.wait(fetch, token.kid(), now).await?,
        };
        self.0.decide_by(&token, &keys, now)
    }

    /// Verifies a token if that needs no waiting, which is always so with a fixed key.
    ///
    /// `None` means that a fetch of the key set is in flight: [`Verifier::verify`] waits for it.
    #[must_use]
    pub fn verify_now(&self, token: &str, now: f64) -> Option<Result<Claims, AuthError>> {
        let token = match UnverifiedToken::parse(token, self.0.algorithm) {
            Ok(token) => token,
            Err(error) => return Some(Err(error)),
        };
        match &self.0.keys {
            Keys::Fixed(key) => Some(self.0.decide(&token, key, now)),
            Keys::Remote(jwks) => match jwks.lookup(token.kid(), now) {
                Lookup::Keys(keys) => Some(self.0.decide_by(&token, &keys, now)),
                Lookup::Refused(error) => Some(Err(error)),
                Lookup::Wait(_) => None,
            },
        }
    }
}

impl Inner {
    fn decide(
        &self,
        token: &UnverifiedToken<'_>,
        key: &VerifyKey,
        now: f64,
    ) -> Result<Claims, AuthError> {
        let (raw, claims) = token.claims(key)?;
        self.rules.check(raw, claims, now)
    }

    fn decide_by(
        &self,
        token: &UnverifiedToken<'_>,
        keys: &KeySet,
        now: f64,
    ) -> Result<Claims, AuthError> {
        let key = keys.find(token.kid()).ok_or(AuthError::UnknownKey)?;
        self.decide(token, key, now)
    }
}

fn load(config: &JwtConfig, patience: Patience, sets: &KeySets) -> Result<Keys, VerifierError> {
    let places = [
        ("public_key", !config.public_key.is_empty()),
        ("public_key_file", !config.public_key_file.is_empty()),
        ("jwks_url", !config.jwks_url.is_empty()),
    ];
    let mut set = places.iter().filter(|(_, set)| *set).map(|(name, _)| *name);
    match (set.next(), set.next()) {
        // Choosing one silently could mean trusting a key that the operator thinks is gone.
        (Some(first), Some(second)) => Err(VerifierError::TwoKeys(first, second)),
        (Some("jwks_url"), None) if config.algorithm.is_symmetric() => {
            Err(VerifierError::SecretFromKeySet(config.algorithm))
        }
        (Some("jwks_url"), None) => Jwks::with_known(config, patience, sets).map(Keys::Remote),
        (Some("public_key_file"), None) => read_file(config).map(Keys::Fixed),
        (Some(_), None) => read_inline(config).map(Keys::Fixed),
        (None, _) => Err(VerifierError::NoKey),
    }
}

fn read_inline(config: &JwtConfig) -> Result<VerifyKey, VerifierError> {
    let text = config.public_key.reveal();
    let key = if config.algorithm.is_symmetric() {
        VerifyKey::from_setting(text.as_bytes(), config.algorithm)
    } else {
        // Environment files cannot hold line ends: `\n` is how people write a PEM into them.
        let text = text.replace("\\r", "").replace("\\n", "\n");
        VerifyKey::from_setting(text.as_bytes(), config.algorithm)
    };
    key.map_err(|source| key_error("auth.jwt.public_key".into(), source))
}

fn read_file(config: &JwtConfig) -> Result<VerifyKey, VerifierError> {
    let path = Path::new(&config.public_key_file);
    let bytes = read_bounded(path).map_err(|source| VerifierError::Unreadable {
        path: path.to_owned(),
        source,
    })?;
    VerifyKey::from_setting(without_line_end(&bytes), config.algorithm).map_err(|source| {
        key_error(
            format!("auth.jwt.public_key_file {}", path.display()),
            source,
        )
    })
}

/// A secret's bytes without the line end that editors add to its file.
pub(super) fn without_line_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., b'\n' | b'\r'] = bytes {
        bytes = rest;
    }
    bytes
}

fn key_error(origin: String, source: KeyError) -> VerifierError {
    VerifierError::Key { origin, source }
}
