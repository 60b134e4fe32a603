//! Why a token is refused, and why a verifier cannot be built.
//!
//! Stands at the exit of `jwt`: `close` says what each reason means for the client.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::algorithm::KeyType;
use crate::stages::auth::JwtAlgorithm;

/// The reason for which a token is refused.
///
/// `Display` is fit for a close frame (at most 123 bytes, RFC 6455 section 5.5) and never holds any part
/// of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum AuthError {
    /// The request carries no token.
    #[error("no token")]
    Missing,
    /// The text is not a signed JWT, or a registered claim has the wrong type.
    #[error("token malformed")]
    Malformed,
    /// `exp` has passed (RFC 7519 section 4.1.4).
    #[error("token expired")]
    Expired,
    /// `nbf` has not come yet (RFC 7519 section 4.1.5).
    #[error("token not valid yet")]
    NotYetValid,
    /// `exp` is absent although the configuration requires it.
    #[error("token without expiry")]
    NoExpiry,
    /// The signature does not match the key.
    #[error("token signature invalid")]
    BadSignature,
    /// The token is signed with another algorithm than the configured one, or not at all.
    #[error("token algorithm not accepted")]
    Algorithm,
    /// `iss` is not the configured issuer.
    #[error("token issuer not accepted")]
    Issuer,
    /// `aud` does not name the configured audience.
    #[error("token audience not accepted")]
    Audience,
    /// The user id claim is absent, blank or neither a string nor an integer.
    #[error("token without user id")]
    NoUser,
    /// The claim `subjects` is not a list of non-empty strings of sensible size.
    #[error("token subjects malformed")]
    Subjects,
    /// The token is over 16 KiB.
    #[error("token too large")]
    TooLarge,
    /// The key set holds no key for this token.
    #[error("token key unknown")]
    UnknownKey,
    /// The key set cannot be fetched, so that nothing can be said about the token.
    #[error("token keys unavailable, try again later")]
    KeysUnavailable,
    /// A token that should renew a connection belongs to another user.
    #[error("token of another user")]
    OtherUser,
}

impl AuthError {
    /// Every reason, e.g. to announce the labels of a metric.
    pub const ALL: [Self; 15] = [
        Self::Missing,
        Self::Malformed,
        Self::Expired,
        Self::NotYetValid,
        Self::NoExpiry,
        Self::BadSignature,
        Self::Algorithm,
        Self::Issuer,
        Self::Audience,
        Self::NoUser,
        Self::Subjects,
        Self::TooLarge,
        Self::UnknownKey,
        Self::KeysUnavailable,
        Self::OtherUser,
    ];

    /// Returns the reason as a metric label.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::NoExpiry => "no_expiry",
            Self::BadSignature => "bad_signature",
            Self::Algorithm => "algorithm",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::NoUser => "no_user",
            Self::Subjects => "subjects",
            Self::TooLarge => "too_large",
            Self::UnknownKey => "unknown_key",
            Self::KeysUnavailable => "keys_unavailable",
            Self::OtherUser => "other_user",
        }
    }

    /// Returns whether another token would help; otherwise the same token may do later.
    #[must_use]
    pub const fn is_client_fault(&self) -> bool {
        !matches!(self, Self::KeysUnavailable)
    }
}

/// The reason for which a [`Verifier`](super::Verifier) cannot be built from its configuration.
#[derive(Debug, Error)]
pub enum VerifierError {
    /// Neither a key nor a key set is configured.
    #[error(
        "no key to verify tokens with: set auth.jwt.public_key, auth.jwt.public_key_file or auth.jwt.jwks_url"
    )]
    NoKey,
    /// More than one of the three places has a key.
    #[error("auth.jwt.{0} and auth.jwt.{1} are both set: keep one")]
    TwoKeys(&'static str, &'static str),
    /// The key file cannot be read.
    #[error("cannot read the key file {}: {source}", path.display())]
    Unreadable {
        /// The file, as configured.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key cannot be used.
    #[error("{origin}: {source}")]
    Key {
        /// The setting or file that holds the key.
        origin: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key set cannot serve an algorithm with a shared secret.
    #[error("auth.jwt.jwks_url: {0} needs a shared secret, which a public key set must not hold")]
    SecretFromKeySet(JwtAlgorithm),
    /// The address of the key set is not an HTTP URL.
    #[error("auth.jwt.jwks_url: not an http or https URL")]
    Url,
    /// The HTTP client for the key set cannot be built.
    #[error("auth.jwt.jwks_url: cannot set up the HTTP client: {0}")]
    Client(String),
}

/// The reason for which a key cannot be used. The text never holds any part of the key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct KeyError(pub(super) KeyProblem);

/// What is wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum KeyProblem {
    #[error("the key is empty")]
    Empty,
    #[error("not a PEM file (it should begin with `-----BEGIN PUBLIC KEY-----`)")]
    NotPem,
    #[error("the PEM block is damaged")]
    Damaged,
    #[error("a PEM block `{0}` is not a key")]
    NotAKey(String),
    #[error(
        "this is a private key: give the gateway the public one (openssl pkey -in FILE -pubout)"
    )]
    Private,
    #[error("this is a public key: signing needs the private one")]
    Public,
    #[error("this is a certificate: give its public key (openssl x509 -in FILE -pubkey -noout)")]
    Certificate,
    #[error("the key is encrypted: decrypt it first (openssl pkey -in FILE -out FILE)")]
    Encrypted,
    #[error("{algorithm} needs {}, this is {found}", algorithm.key_type())]
    WrongType {
        algorithm: JwtAlgorithm,
        found: KeyType,
    },
    #[error("a key of an unsupported type; {0} needs {ty}", ty = .0.key_type())]
    Unsupported(JwtAlgorithm),
    #[error(
        "a private key of an unsupported type (RSA, EC on P-256, P-384 or P-521, and Ed25519 are known)"
    )]
    UnsupportedPrivate,
    #[error("{0} needs a shared secret, this is a PEM key")]
    PemAsSecret(JwtAlgorithm),
    #[error("the RSA key has {0} bits, 2048 to 8192 are accepted")]
    RsaSize(u32),
}

impl From<KeyProblem> for KeyError {
    fn from(problem: KeyProblem) -> Self {
        Self(problem)
    }
}
