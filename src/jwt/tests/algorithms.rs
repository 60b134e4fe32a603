//! Shape, algorithms, signatures and the keys they need.

use super::*;
use crate::jwt::error::KeyProblem;

const SECRET: &str = "a secret of at least thirty-two bytes";

/// Every algorithm with its private and public key.
const KEYS: [(JwtAlgorithm, &str, &str); 13] = [
    (JwtAlgorithm::Rs256, RSA, RSA_PUBLIC),
    (JwtAlgorithm::Rs384, RSA, RSA_PUBLIC),
    (JwtAlgorithm::Rs512, RSA, key_file!("rsa_pkcs1.pub")),
    (JwtAlgorithm::Ps256, RSA, RSA_PUBLIC),
    (JwtAlgorithm::Ps384, RSA, RSA_PUBLIC),
    (JwtAlgorithm::Ps512, RSA, RSA_PUBLIC),
    (JwtAlgorithm::Es256, EC, EC_PUBLIC),
    (
        JwtAlgorithm::Es384,
        key_file!("ec_p384"),
        key_file!("ec_p384.pub"),
    ),
    (
        JwtAlgorithm::Es512,
        key_file!("ec_p521"),
        key_file!("ec_p521.pub"),
    ),
    (
        JwtAlgorithm::EdDsa,
        key_file!("ed25519"),
        key_file!("ed25519.pub"),
    ),
    (JwtAlgorithm::Hs256, SECRET, SECRET),
    (JwtAlgorithm::Hs384, SECRET, SECRET),
    (JwtAlgorithm::Hs512, SECRET, SECRET),
];

fn problem(config: &AuthConfig) -> KeyProblem {
    match Verifier::new(config).err() {
        Some(VerifierError::Key { source, .. }) => source.0,
        other => panic!("no key problem but {other:?}"),
    }
}

#[test]
fn every_algorithm_accepts_its_own_tokens_only() {
    for (algorithm, _, public) in KEYS {
        let verifier = Verifier::new(&config(algorithm, public)).unwrap();
        for (other, private, _) in KEYS {
            let token = sign(private, Some(other), good_claims());
            let expected = if other == algorithm {
                Ok("42".to_owned())
            } else {
                Err(AuthError::Algorithm)
            };
            let verdict = verifier.verify_now(&token, NOW).unwrap();
            assert_eq!(
                verdict.map(|claims| claims.user_id),
                expected,
                "{other} for {algorithm}"
            );
        }
    }
}

#[test]
fn a_changed_signature_is_refused_by_every_algorithm() {
    for (algorithm, private, public) in KEYS {
        let token = sign(private, Some(algorithm), good_claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        let flipped = if signature.starts_with('A') { "B" } else { "A" };
        for bad in [
            format!("{message}.{flipped}{}", &signature[1..]),
            format!("{message}."),
            format!("{message}.{}", &signature[..signature.len() - 4]),
            format!("{message}.{signature}AAAA"),
            format!("{message}.{signature}="),
        ] {
            assert_eq!(
                verify_with(&config(algorithm, public), &bad),
                Err(AuthError::BadSignature),
                "{algorithm}"
            );
        }
    }
}

#[test]
fn another_key_of_the_same_type_is_refused() {
    let token = sign(key_file!("rsa_other"), None, good_claims());
    let verdict = verify_with(&config(JwtAlgorithm::Rs256, RSA_PUBLIC), &token);
    assert_eq!(verdict, Err(AuthError::BadSignature));
}

#[test]
fn unsigned_tokens_are_refused_however_they_spell_it() {
    for alg in ["none", "None", "NONE", "nOnE", "", "none ", "rs256"] {
        for (algorithm, _, public) in KEYS {
            let token = encode(&json!({"alg": alg}), &good_claims(), b"");
            assert_eq!(
                verify_with(&config(algorithm, public), &token),
                Err(AuthError::Algorithm)
            );
        }
    }
}

#[test]
fn the_public_key_is_no_hmac_secret() {
    for (algorithm, _, public) in KEYS.into_iter().filter(|(alg, ..)| !alg.is_symmetric()) {
        for header in ["HS256", algorithm.name()] {
            let message = encode(&json!({"alg": header}), &good_claims(), b"");
            let message = message.trim_end_matches('.');
            let key = jsonwebtoken::EncodingKey::from_secret(public.as_bytes());
            let signature = jsonwebtoken::crypto::sign(
                message.as_bytes(),
                &key,
                jsonwebtoken::Algorithm::HS256,
            )
            .unwrap();
            let verdict = verify_with(
                &config(algorithm, public),
                &format!("{message}.{signature}"),
            );
            assert!(
                matches!(verdict, Err(AuthError::Algorithm | AuthError::BadSignature)),
                "{verdict:?}"
            );
        }
    }
}

#[test]
fn shape_is_checked_first() {
    let config = ec_config();
    let huge = "a".repeat(16 * 1024 + 1);
    let spaced = format!(" {}", ec_token(good_claims()));
    for (token, expected) in [
        ("", AuthError::Missing),
        ("garbage", AuthError::Malformed),
        ("..", AuthError::Malformed),
        ("!!.??.##", AuthError::Malformed),
        ("a.b.c", AuthError::Malformed),
        ("e30.e30.e30", AuthError::Malformed),
        ("e30.e30.e30.e30", AuthError::Malformed),
        ("bnVsbA.e30.", AuthError::Malformed),
        ("ü.ü.ü", AuthError::Malformed),
        (&huge, AuthError::TooLarge),
        (&spaced, AuthError::Malformed),
    ] {
        assert_eq!(verify_with(&config, token), Err(expected), "{token:.20}");
    }
}

#[test]
fn odd_headers_are_refused() {
    for header in [
        json!({"alg": "ES256", "crit": ["exp"]}),
        json!({"alg": "ES256", "crit": null}),
        json!({"alg": "ES256", "kid": 1}),
        json!({"alg": ["ES256"]}),
        json!({"typ": "JWT"}),
        json!(["ES256"]),
    ] {
        let token = encode(&header, &good_claims(), &[0; 64]);
        assert_eq!(
            verify_with(&ec_config(), &token),
            Err(AuthError::Malformed),
            "{header}"
        );
    }
}

#[test]
fn a_signed_payload_that_is_no_object_is_malformed() {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    for payload in [json!([1]), json!("text"), json!(1)] {
        let message = encode(&json!({"alg": "HS256"}), &payload, b"");
        let message = message.trim_end_matches('.');
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::HS256)
                .unwrap();
        let token = format!("{message}.{signature}");
        assert_eq!(
            verify_with(&config(JwtAlgorithm::Hs256, SECRET), &token),
            Err(AuthError::Malformed)
        );
    }
}

#[test]
fn an_inline_key_may_have_escaped_line_ends() {
    for ends in ["\\n", "\\r\\n"] {
        let key = EC_PUBLIC.replace('\n', ends);
        let verdict = verify_with(&config(JwtAlgorithm::Es256, &key), &ec_token(good_claims()));
        assert!(verdict.is_ok(), "{verdict:?}");
    }
}

#[test]
fn keys_that_cannot_work_are_refused_at_start() {
    use super::super::algorithm::KeyType;
    use JwtAlgorithm::{Es256, Es384, Hs256, Rs256};
    let wrong = |algorithm, found| KeyProblem::WrongType { algorithm, found };
    for (algorithm, key, expected) in [
        (Rs256, "not a key", KeyProblem::NotPem),
        (Rs256, " \n", KeyProblem::Empty),
        (Hs256, "\n", KeyProblem::Empty),
        (
            Rs256,
            "-----BEGIN PUBLIC KEY-----\n!!\n",
            KeyProblem::Damaged,
        ),
        (Rs256, EC_PUBLIC, wrong(Rs256, KeyType::P256)),
        (
            Rs256,
            key_file!("ed25519.pub"),
            wrong(Rs256, KeyType::Ed25519),
        ),
        (Es256, RSA_PUBLIC, wrong(Es256, KeyType::Rsa)),
        (Es256, key_file!("ec_p384.pub"), wrong(Es256, KeyType::P384)),
        (Es384, key_file!("ec_p521.pub"), wrong(Es384, KeyType::P521)),
        (Rs256, RSA, KeyProblem::Private),
        (Es256, key_file!("ec_p256_sec1"), KeyProblem::Private),
        (Rs256, key_file!("rsa_encrypted"), KeyProblem::Private),
        (Rs256, key_file!("rsa.cert"), KeyProblem::Certificate),
        (Rs256, key_file!("rsa_1024.pub"), KeyProblem::RsaSize(1024)),
        (Hs256, RSA_PUBLIC, KeyProblem::PemAsSecret(Hs256)),
        (Hs256, EC, KeyProblem::PemAsSecret(Hs256)),
    ] {
        assert_eq!(problem(&config(algorithm, key)), expected);
    }
}

#[test]
fn errors_name_the_setting_and_never_the_key() {
    let text = |config: &AuthConfig| Verifier::new(config).err().unwrap().to_string();
    assert!(text(&AuthConfig::default()).starts_with("no key to verify tokens with"));
    assert_eq!(
        text(&config(JwtAlgorithm::Rs256, EC_PUBLIC)),
        "auth.jwt.public_key: RS256 needs an RSA key, this is an EC key on P-256"
    );
    let mut both = ec_config();
    both.jwt.jwks_url = "http://localhost/".into();
    assert_eq!(
        text(&both),
        "auth.jwt.public_key and auth.jwt.jwks_url are both set: keep one"
    );
    let mut missing = AuthConfig::default();
    missing.jwt.public_key_file = "no/such.pem".into();
    assert!(text(&missing).starts_with("cannot read the key file no/such.pem: "));
    let mut set = AuthConfig::default();
    set.jwt.jwks_url = "file:///keys".into();
    assert!(text(&set).contains("not an http or https URL"));
    set.jwt.jwks_url = "http://localhost/".into();
    set.jwt.algorithm = JwtAlgorithm::Hs256;
    assert!(text(&set).contains("shared secret"));
}

#[test]
fn a_secret_file_may_end_in_a_line_end() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{SECRET}\r\n")).unwrap();
    let mut config = config(JwtAlgorithm::Hs256, "");
    config.jwt.public_key_file = file.path().display().to_string();
    let token = sign(SECRET, None, good_claims());
    assert!(verify_with(&config, &token).is_ok());
}

/// The same tokens through another implementation, so that signing and verifying cannot be wrong alike.
#[test]
fn tokens_agree_with_the_library() {
    use jsonwebtoken::{DecodingKey, Validation, decode};
    let mut validation = Validation::new(jsonwebtoken::Algorithm::ES256);
    validation.validate_exp = false;
    let key = DecodingKey::from_ec_pem(EC_PUBLIC.as_bytes()).unwrap();
    let data = decode::<Value>(ec_token(good_claims()), &key, &validation).unwrap();
    assert_eq!(data.claims["user_id"], "42");
}
