//! The token matrix: every reason for refusal, every algorithm, every way in.

mod algorithms;
mod claims;
mod fuzz;
mod jwks;
mod provider;
mod sign;
mod source;

use serde_json::{Map, Value, json};

use super::*;
use crate::stages::auth::{AuthConfig, JwtAlgorithm};

/// The time at which the tests' tokens are checked.
const NOW: f64 = 1_700_000_000.0;

macro_rules! key_file {
    ($name:literal) => {
        include_str!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/keys/",
            $name,
            ".pem"
        ))
    };
}
use key_file;

const RSA: &str = key_file!("rsa");
const RSA_PUBLIC: &str = key_file!("rsa.pub");
const EC: &str = key_file!("ec_p256");
const EC_PUBLIC: &str = key_file!("ec_p256.pub");

fn config(algorithm: JwtAlgorithm, key: &str) -> AuthConfig {
    let mut config = AuthConfig::default();
    config.jwt.algorithm = algorithm;
    config.jwt.public_key = key.to_owned().into();
    config
}

fn ec_config() -> AuthConfig {
    config(JwtAlgorithm::Es256, EC_PUBLIC)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => panic!("not an object: {other}"),
    }
}

fn sign(private: &str, algorithm: Option<JwtAlgorithm>, claims: Value) -> String {
    let key = SigningKey::from_bytes(private.as_bytes(), algorithm).unwrap();
    sign_token(&key, &object(claims)).unwrap()
}

fn ec_token(claims: Value) -> String {
    sign(EC, None, claims)
}

fn verify_with(config: &AuthConfig, token: &str) -> Result<Claims, AuthError> {
    Verifier::new(config)
        .unwrap()
        .verify_now(token, NOW)
        .expect("a fixed key never waits")
}

/// A token with any header, signed as that header says nothing about.
fn encode(header: &Value, claims: &Value, signature: &[u8]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
    format!(
        "{}.{}.{}",
        B64.encode(header.to_string()),
        B64.encode(claims.to_string()),
        B64.encode(signature)
    )
}

fn good_claims() -> Value {
    json!({"user_id": "42", "exp": 1_700_000_060})
}
