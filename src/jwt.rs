//! Tokens (JSON Web Tokens, RFC 7519): finding, verifying and, for development, signing them.
//!
//! Stands at the very start of the data path: the `auth` stage asks this module about the upgrade
//! request, and again about every token that a client sends to renew its connection.
//!
//! # Layout
//!
//! - [`find_token`] takes the token out of the upgrade request (`source`).
//! - [`Verifier`] decides about it (`verify`): shape and algorithm (`token`), signature (`keys`), then the
//!   claims against the clock and the configuration (`claims`).
//! - The key is fixed at start (`keys`) or comes from a key set that is fetched and kept (`jwks`, `jwk`).
//! - [`SigningKey`] is the other side, for `wsgw token` and `wsgw dev` (`sign`).
//!
//! Signatures are checked by `jsonwebtoken`, and by `aws-lc-rs` where it lacks the algorithm (ES512). The
//! claims are checked here, because the clock is injected and the leeway has to be exact.

mod algorithm;
mod claims;
mod error;
mod jwk;
mod jwks;
mod keys;
mod sign;
mod source;
mod token;
mod verify;

#[cfg(test)]
mod tests;

pub use algorithm::UnknownAlgorithm;
pub use claims::Claims;
pub use error::{AuthError, KeyError, VerifierError};
pub use jwks::KeySets;
pub use sign::{DevKey, SignError, SigningKey, generate_dev_key, sign_token};
pub use source::{FoundToken, find_token, offers_bearer};
pub use verify::Verifier;
