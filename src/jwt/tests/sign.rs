//! Signing: key recognition and the key pair of `wsgw dev`.

use super::*;

fn recognised(key: &str) -> Result<JwtAlgorithm, String> {
    SigningKey::from_bytes(key.as_bytes(), None)
        .map(|key| key.algorithm())
        .map_err(|error| error.to_string())
}

#[test]
fn recognises_keys_in_every_encoding() {
    use JwtAlgorithm::{EdDsa, Es256, Es384, Es512, Hs256, Rs256};
    for (key, public, algorithm) in [
        (RSA, RSA_PUBLIC, Rs256),
        (key_file!("rsa_pkcs1"), RSA_PUBLIC, Rs256),
        (EC, EC_PUBLIC, Es256),
        (key_file!("ec_p256_sec1"), EC_PUBLIC, Es256),
        (key_file!("ec_p384_sec1"), key_file!("ec_p384.pub"), Es384),
        (key_file!("ec_p521_sec1"), key_file!("ec_p521.pub"), Es512),
        (key_file!("ed25519"), key_file!("ed25519.pub"), EdDsa),
        ("secret\n", "secret", Hs256),
    ] {
        assert_eq!(recognised(key), Ok(algorithm));
        let token = sign(key, None, good_claims());
        assert!(
            verify_with(&config(algorithm, public), &token).is_ok(),
            "{algorithm}"
        );
    }
}

#[test]
fn unusable_keys_are_one_clear_line() {
    for (key, part) in [
        ("", "empty"),
        (RSA_PUBLIC, "public key"),
        (key_file!("rsa.cert"), "public key"),
        (key_file!("rsa_encrypted"), "encrypted"),
        (
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
            "unsupported",
        ),
        ("-----BEGIN PRIVATE KEY-----\n", "damaged"),
    ] {
        let text = recognised(key).unwrap_err();
        assert!(text.contains(part) && !text.contains('\n'), "{text}");
    }
    let wrong = SigningKey::from_bytes(EC.as_bytes(), Some(JwtAlgorithm::Rs256))
        .err()
        .unwrap();
    assert_eq!(
        wrong.to_string(),
        "RS256 needs an RSA key, this is an EC key on P-256"
    );
    assert!(SigningKey::from_bytes(b"secret", Some(JwtAlgorithm::Es256)).is_err());
}

#[test]
fn the_dev_key_signs_what_it_verifies() {
    let pair = generate_dev_key().unwrap();
    let token = sign(pair.private_pem.reveal(), None, good_claims());
    assert!(verify_with(&config(JwtAlgorithm::Es256, &pair.public_pem), &token).is_ok());
    assert_ne!(pair.public_pem, generate_dev_key().unwrap().public_pem);
}

#[test]
fn algorithm_names_are_those_of_the_configuration() {
    for algorithm in JwtAlgorithm::ALL {
        assert_eq!(serde_json::to_value(algorithm).unwrap(), algorithm.name());
        assert_eq!(algorithm.name().parse(), Ok(algorithm));
    }
    assert!("rs256".parse::<JwtAlgorithm>().is_err());
}
