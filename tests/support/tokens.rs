//! Tokens of every kind, good and bad, signed by the keys in `tests/keys`.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use wsgw::jwt::{SigningKey, sign_token};
use wsgw::stages::auth::JwtAlgorithm;

/// Unix time in seconds.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Unix time in seconds with its fraction.
pub fn now_exactly() -> f64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

/// The bytes of a file in `tests/keys`.
pub fn key_file(name: &str) -> Vec<u8> {
    std::fs::read(super::in_crate("tests/keys").join(name)).unwrap()
}

/// A user's token that the gateway accepts for an hour.
pub fn token(user: &str) -> String {
    signed(json!({"user_id": user, "exp": now() + 3600}))
}

/// Claims signed by the key that the gateway trusts.
pub fn signed(claims: Value) -> String {
    signed_with(&key_file("rsa.pem"), None, claims)
}

/// Claims signed by any key.
pub fn signed_with(key: &[u8], algorithm: Option<JwtAlgorithm>, claims: Value) -> String {
    let Value::Object(claims) = claims else {
        panic!("claims are an object")
    };
    let key = SigningKey::from_bytes(key, algorithm).unwrap();
    sign_token(&key, &claims).unwrap()
}

/// An HMAC token with any bytes as secret, PEM documents among them.
pub fn hmac_signed(secret: &[u8], claims: &Value) -> String {
    let message = unsigned(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let tag = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// Header and claims of a token, without a signature.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// The claims of `token`, with others added or replaced.
pub fn claims(user: &str, others: Value) -> Value {
    let mut claims = Map::from_iter([
        ("user_id".into(), json!(user)),
        ("exp".into(), json!(now() + 3600)),
    ]);
    if let Value::Object(others) = others {
        claims.extend(others);
    }
    Value::Object(claims)
}
