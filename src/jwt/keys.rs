//! A key that verifies signatures, bound to one algorithm when it is loaded.
//!
//! The binding is what makes algorithm confusion impossible: the token's header never chooses how its
//! signature is checked, it can only agree with the key or be refused.

use aws_lc_rs::signature::{
    ECDSA_P521_SHA512_FIXED, ParsedPublicKey, RsaParameters, RsaSubjectPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};

use super::algorithm::KeyType;
use super::error::{KeyError, KeyProblem};
use crate::stages::auth::JwtAlgorithm;

const PEM_MARKER: &[u8] = b"-----BEGIN ";

/// A key that verifies signatures of one algorithm.
pub(super) enum VerifyKey {
    /// Verified by `jsonwebtoken`.
    Library(Algorithm, DecodingKey),
    /// ES512, which `jsonwebtoken` does not know.
    Es512(ParsedPublicKey),
}

impl VerifyKey {
    /// Takes a key as an operator writes it: a PEM document, or the secret of an HS algorithm.
    pub(super) fn from_setting(bytes: &[u8], algorithm: JwtAlgorithm) -> Result<Self, KeyError> {
        if bytes.trim_ascii().is_empty() {
            return Err(KeyProblem::Empty.into());
        }
        if !algorithm.is_symmetric() {
            return Self::from_der(&public_der(bytes)?, algorithm);
        }
        // Whoever holds the public key could sign: the oldest attack on JWT, served by configuration.
        if is_pem(bytes) {
            return Err(KeyProblem::PemAsSecret(algorithm).into());
        }
        // RFC 7518 section 3.2 demands as much as the hash has; refusing would lock out running systems.
        if bytes.len() < 32 {
            tracing::warn!(
                event = "jwt_secret_short",
                "the shared secret is under 32 bytes and can be guessed from one token"
            );
        }
        match algorithm.in_library() {
            Some(library) => Ok(Self::Library(library, DecodingKey::from_secret(bytes))),
            None => Err(KeyProblem::Unsupported(algorithm).into()),
        }
    }

    /// Takes a public key as `SubjectPublicKeyInfo` or in its type's own encoding.
    ///
    /// The key is parsed here once although the library parses it again for every token, so that a bad
    /// key is a problem at start and not with the first client.
    pub(super) fn from_der(der: &[u8], algorithm: JwtAlgorithm) -> Result<Self, KeyError> {
        let found = KeyType::PUBLIC
            .into_iter()
            .find(|kind| {
                kind.parser()
                    .is_some_and(|parser| ParsedPublicKey::new(parser, der).is_ok())
            })
            .ok_or(KeyProblem::Unsupported(algorithm))?;
        if found != algorithm.key_type() {
            return Err(KeyProblem::WrongType { algorithm, found }.into());
        }
        if found == KeyType::Rsa {
            check_rsa_size(der)?;
        }
        let key = match found {
            KeyType::Rsa => DecodingKey::from_rsa_der(der),
            KeyType::Ed25519 => DecodingKey::from_ed_der(der),
            _ => DecodingKey::from_ec_der(der),
        };
        match algorithm.in_library() {
            Some(library) => Ok(Self::Library(library, key)),
            None => ParsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, der)
                .map(Self::Es512)
                .map_err(|_| KeyProblem::Unsupported(algorithm).into()),
        }
    }

    /// Whether `signature` (base64url) is this key's signature of `message`.
    pub(super) fn verifies(&self, message: &str, signature: &str) -> bool {
        match self {
            Self::Library(algorithm, key) => {
                jsonwebtoken::crypto::verify(signature, message.as_bytes(), key, *algorithm)
                    .unwrap_or(false)
            }
            Self::Es512(key) => URL_SAFE_NO_PAD
                .decode(signature)
                .is_ok_and(|signature| key.verify_sig(message.as_bytes(), &signature).is_ok()),
        }
    }
}

/// Whether some bytes hold a PEM block (RFC 7468), well formed or not.
pub(super) fn is_pem(bytes: &[u8]) -> bool {
    memchr::memmem::find(bytes, PEM_MARKER).is_some()
}

/// The first block of a PEM document that is not mere EC parameters, which OpenSSL writes before its keys.
pub(super) fn first_key_block(bytes: &[u8]) -> Result<pem::Pem, KeyProblem> {
    if !is_pem(bytes) {
        return Err(KeyProblem::NotPem);
    }
    pem::parse_many(bytes)
        .map_err(|_| KeyProblem::Damaged)?
        .into_iter()
        .find(|block| block.tag() != "EC PARAMETERS")
        .ok_or(KeyProblem::Damaged)
}

fn public_der(bytes: &[u8]) -> Result<Vec<u8>, KeyProblem> {
    let block = first_key_block(bytes)?;
    match block.tag() {
        "PUBLIC KEY" | "RSA PUBLIC KEY" => Ok(block.into_contents()),
        tag if tag.ends_with("PRIVATE KEY") => Err(KeyProblem::Private),
        "CERTIFICATE" => Err(KeyProblem::Certificate),
        tag => Err(KeyProblem::NotAKey(tag.to_owned())),
    }
}

/// Refuses sizes that every signature check would refuse later, and silently.
fn check_rsa_size(der: &[u8]) -> Result<(), KeyProblem> {
    let bits = RsaSubjectPublicKey::from_der(der)
        .ok()
        .and_then(|key| RsaParameters::public_modulus_len(key.as_ref()).ok())
        .ok_or(KeyProblem::Damaged)?;
    if (2048..=8192).contains(&bits) {
        Ok(())
    } else {
        Err(KeyProblem::RsaSize(bits))
    }
}
