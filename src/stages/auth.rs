//! Admits connections by their token, and lets a client renew it in-band.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::Secret;

/// Settings of the `auth` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthConfig {
    /// How tokens are verified.
    pub jwt: JwtConfig,
    /// Where a token is looked for; the first place that has one decides.
    pub token_sources: Vec<TokenSource>,
    /// Name of the cookie that the source `cookie` reads.
    pub cookie_name: String,
    /// Refuses tokens without `exp`.
    pub require_exp: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt: JwtConfig::default(),
            token_sources: vec![
                TokenSource::Header,
                TokenSource::Query,
                TokenSource::Subprotocol,
            ],
            cookie_name: "access_token".into(),
            require_exp: false,
        }
    }
}

/// A place in the upgrade request that may hold the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenSource {
    /// `Authorization: Bearer <token>`.
    Header,
    /// The query parameter `access_token`, else `token`.
    Query,
    /// `Sec-WebSocket-Protocol: bearer, <token>`; the server answers with `bearer`.
    Subprotocol,
    /// The cookie named by `cookie_name`. Set `server.allowed_origins` with it: browsers send cookies from any site.
    Cookie,
}

/// How tokens are verified (JSON Web Tokens, RFC 7519).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct JwtConfig {
    /// The one signature algorithm that is accepted.
    pub algorithm: JwtAlgorithm,
    /// The public key as PEM; literal `\n` count as line ends. With an HS algorithm: the shared secret.
    pub public_key: Secret,
    /// File with the public key as PEM, or with the shared secret of an HS algorithm.
    pub public_key_file: String,
    /// URL of a JSON Web Key Set (RFC 7517), instead of a fixed key.
    pub jwks_url: String,
    /// Seconds after which the key set is fetched again.
    #[schemars(range(min = 1, max = 604_800))]
    pub jwks_refresh_seconds: u64,
    /// Seconds that must pass between two fetches caused by unknown key ids.
    #[schemars(range(min = 1, max = 86_400))]
    pub jwks_min_refetch_seconds: u64,
    /// Claim that holds the user id: a string, or a number that becomes its decimal string.
    pub user_id_claim: String,
    /// Required value of `iss`; empty: not checked.
    pub issuer: String,
    /// Required value in `aud`; empty: not checked.
    pub audience: String,
    /// Seconds of clock difference allowed for `exp` and `nbf`.
    #[schemars(range(min = 0, max = 86_400))]
    pub leeway: u64,
}

impl Default for JwtConfig {
    fn default() -> Self {
        Self {
            algorithm: JwtAlgorithm::Rs256,
            public_key: Secret::default(),
            public_key_file: String::new(),
            jwks_url: String::new(),
            jwks_refresh_seconds: 300,
            jwks_min_refetch_seconds: 10,
            user_id_claim: "user_id".into(),
            issuer: String::new(),
            audience: String::new(),
            leeway: 0,
        }
    }
}

/// A JWS signature algorithm (RFC 7518 section 3.1, RFC 8037).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the names are those of RFC 7518")]
pub enum JwtAlgorithm {
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "RS384")]
    Rs384,
    #[serde(rename = "RS512")]
    Rs512,
    #[serde(rename = "PS256")]
    Ps256,
    #[serde(rename = "PS384")]
    Ps384,
    #[serde(rename = "PS512")]
    Ps512,
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "ES384")]
    Es384,
    #[serde(rename = "ES512")]
    Es512,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "HS256")]
    Hs256,
    #[serde(rename = "HS384")]
    Hs384,
    #[serde(rename = "HS512")]
    Hs512,
}
