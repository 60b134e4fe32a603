//! Signs tokens for trying things out: `wsgw token` and `wsgw dev`. The gateway itself never signs.

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey};
use pem::{EncodeConfig, LineEnding, Pem};
use serde_json::{Map, Value, json};
use thiserror::Error;

use super::algorithm::KeyType;
use super::error::{KeyError, KeyProblem};
use super::keys::{first_key_block, is_pem};
use super::verify::without_line_end;
use crate::config::Secret;
use crate::stages::auth::JwtAlgorithm;

/// A private key or shared secret, bound to the algorithm it signs with.
pub struct SigningKey {
    algorithm: JwtAlgorithm,
    kid: Option<String>,
    key: SignKey,
}

enum SignKey {
    /// Signs by `jsonwebtoken`.
    Library(Algorithm, EncodingKey),
    /// ES512, which `jsonwebtoken` does not know.
    Es512(EcdsaKeyPair),
}

/// The reason for which nothing can be signed.
#[derive(Debug, Error)]
pub enum SignError {
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The cryptographic library refused to sign or to generate a key.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl SigningKey {
    /// Recognises the key in a file's bytes.
    ///
    /// RSA, EC and Ed25519 private keys are PEM documents (PKCS#8, PKCS#1 or SEC 1); anything else is a
    /// shared secret. Without an algorithm the key's own is taken: RS256, ES256, ES384, ES512, `EdDSA` or
    /// HS256.
    ///
    /// # Errors
    ///
    /// When the PEM document is not a usable private key, or the key does not fit the algorithm.
    pub fn from_bytes(bytes: &[u8], algorithm: Option<JwtAlgorithm>) -> Result<Self, SignError> {
        if !is_pem(bytes) {
            return Self::from_secret(without_line_end(bytes), algorithm);
        }
        let der = private_der(bytes)?;
        let (found, default) = recognise(&der).ok_or_else(unsupported)?;
        let algorithm = algorithm.unwrap_or(default);
        check_type(algorithm, found)?;
        let key = match found {
            KeyType::Rsa => EncodingKey::from_rsa_der(&pkcs1(bytes, &der)?),
            KeyType::Ed25519 => EncodingKey::from_ed_der(&der),
            _ => {
                let (pair, _) = ec_pair(&der).ok_or_else(unsupported)?;
                if found == KeyType::P521 {
                    return Ok(Self::new(algorithm, SignKey::Es512(pair)));
                }
                // SEC 1 documents become the PKCS#8 that the library takes.
                let pkcs8 = pair.to_pkcs8v1().map_err(|_| SignError::Crypto)?;
                EncodingKey::from_ec_der(pkcs8.as_ref())
            }
        };
        Self::in_library(algorithm, key)
    }

    /// Names the key in the token's header, for verifiers with a key set.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Returns the algorithm that the key signs with.
    #[must_use]
    pub const fn algorithm(&self) -> JwtAlgorithm {
        self.algorithm
    }

    fn from_secret(secret: &[u8], algorithm: Option<JwtAlgorithm>) -> Result<Self, SignError> {
        if secret.is_empty() {
            return Err(KeyError(KeyProblem::Empty).into());
        }
        let algorithm = algorithm.unwrap_or(JwtAlgorithm::Hs256);
        check_type(algorithm, KeyType::Secret)?;
        Self::in_library(algorithm, EncodingKey::from_secret(secret))
    }

    fn in_library(algorithm: JwtAlgorithm, key: EncodingKey) -> Result<Self, SignError> {
        let library = algorithm.in_library().ok_or(SignError::Crypto)?;
        Ok(Self::new(algorithm, SignKey::Library(library, key)))
    }

    const fn new(algorithm: JwtAlgorithm, key: SignKey) -> Self {
        Self {
            algorithm,
            kid: None,
            key,
        }
    }

    fn signature(&self, message: &str) -> Result<String, SignError> {
        match &self.key {
            SignKey::Library(algorithm, key) => {
                jsonwebtoken::crypto::sign(message.as_bytes(), key, *algorithm)
                    .map_err(|_| SignError::Crypto)
            }
            SignKey::Es512(pair) => pair
                .sign(&SystemRandom::new(), message.as_bytes())
                .map(|signature| URL_SAFE_NO_PAD.encode(signature))
                .map_err(|_| SignError::Crypto),
        }
    }
}

/// Makes a signed token (JWS compact serialisation, RFC 7515) of some claims.
///
/// # Errors
///
/// When the cryptographic library fails.
pub fn sign_token(key: &SigningKey, claims: &Map<String, Value>) -> Result<String, SignError> {
    let header = match &key.kid {
        Some(kid) => json!({"typ": "JWT", "alg": key.algorithm.name(), "kid": kid}),
        None => json!({"typ": "JWT", "alg": key.algorithm.name()}),
    };
    let header = URL_SAFE_NO_PAD.encode(header.to_string());
    let payload = URL_SAFE_NO_PAD.encode(Value::Object(claims.clone()).to_string());
    let message = format!("{header}.{payload}");
    let signature = key.signature(&message)?;
    Ok(format!("{message}.{signature}"))
}

/// A throw-away key pair for ES256.
pub struct DevKey {
    /// The private key (PKCS#8, PEM).
    pub private_pem: Secret,
    /// The public key (`SubjectPublicKeyInfo`, PEM).
    pub public_pem: String,
}

/// Generates a key pair for ES256, which takes well under a millisecond.
///
/// # Errors
///
/// When the cryptographic library fails.
pub fn generate_dev_key() -> Result<DevKey, SignError> {
    let pair =
        EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| SignError::Crypto)?;
    let private = pair.to_pkcs8v1().map_err(|_| SignError::Crypto)?;
    let public = pair.public_key().as_der().map_err(|_| SignError::Crypto)?;
    Ok(DevKey {
        private_pem: encode_pem("PRIVATE KEY", private.as_ref()).into(),
        public_pem: encode_pem("PUBLIC KEY", public.as_ref()),
    })
}

fn encode_pem(tag: &str, der: &[u8]) -> String {
    pem::encode_config(
        &Pem::new(tag, der),
        EncodeConfig::new().set_line_ending(LineEnding::LF),
    )
}

fn unsupported() -> SignError {
    KeyError(KeyProblem::UnsupportedPrivate).into()
}

fn check_type(algorithm: JwtAlgorithm, found: KeyType) -> Result<(), SignError> {
    if algorithm.key_type() == found {
        Ok(())
    } else {
        Err(KeyError(KeyProblem::WrongType { algorithm, found }).into())
    }
}

fn private_der(bytes: &[u8]) -> Result<Vec<u8>, KeyError> {
    let block = first_key_block(bytes)?;
    // Old OpenSSL formats say so in a header inside the block.
    if block.tag() == "ENCRYPTED PRIVATE KEY" || block.headers().get("Proc-Type").is_some() {
        return Err(KeyProblem::Encrypted.into());
    }
    match block.tag() {
        "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => Ok(block.into_contents()),
        "PUBLIC KEY" | "RSA PUBLIC KEY" | "CERTIFICATE" => Err(KeyProblem::Public.into()),
        tag => Err(KeyProblem::NotAKey(tag.to_owned()).into()),
    }
}

/// The type of a private key, and the algorithm that is customary for it.
fn recognise(der: &[u8]) -> Option<(KeyType, JwtAlgorithm)> {
    if RsaKeyPair::from_pkcs8(der).is_ok() || RsaKeyPair::from_der(der).is_ok() {
        return Some((KeyType::Rsa, JwtAlgorithm::Rs256));
    }
    if Ed25519KeyPair::from_pkcs8(der).is_ok() {
        return Some((KeyType::Ed25519, JwtAlgorithm::EdDsa));
    }
    ec_pair(der).map(|(_, algorithm)| (algorithm.key_type(), algorithm))
}

fn ec_pair(der: &[u8]) -> Option<(EcdsaKeyPair, JwtAlgorithm)> {
    let curves: [(&'static EcdsaSigningAlgorithm, JwtAlgorithm); 3] = [
        (&ECDSA_P256_SHA256_FIXED_SIGNING, JwtAlgorithm::Es256),
        (&ECDSA_P384_SHA384_FIXED_SIGNING, JwtAlgorithm::Es384),
        (&ECDSA_P521_SHA512_FIXED_SIGNING, JwtAlgorithm::Es512),
    ];
    curves.into_iter().find_map(|(curve, algorithm)| {
        let pair = EcdsaKeyPair::from_private_key_der(curve, der).ok()?;
        Some((pair, algorithm))
    })
}

/// An RSA private key as PKCS#1, the only encoding that the library signs with.
fn pkcs1(pem: &[u8], der: &[u8]) -> Result<Vec<u8>, SignError> {
    if RsaKeyPair::from_der(der).is_ok() {
        return Ok(der.to_vec());
    }
    // Its own PEM reader unwraps PKCS#8.
    EncodingKey::from_rsa_pem(pem)
        .map(|key| key.as_bytes().to_vec())
        .map_err(|_| unsupported())
}
