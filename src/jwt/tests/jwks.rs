//! Key sets, against a real HTTP server. Time is the injected `now`; only the slow server takes real time.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;

use super::provider::{Answer, Provider, TestKey, set_of};
use super::*;
use crate::jwt::jwk::KeySet;
use crate::jwt::jwks::Patience;

/// Waits until the background fetch that `verify_now` started has reached its end.
async fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing happened within 5 s");
}

async fn user(verifier: &Verifier, token: &str, now: f64) -> Result<String, AuthError> {
    verifier
        .verify(token, now)
        .await
        .map(|claims| claims.user_id)
}

#[expect(clippy::unnecessary_wraps, reason = "what a verdict is compared with")]
fn ok(kid: &str) -> Result<String, AuthError> {
    Ok(kid.to_owned())
}

#[tokio::test]
async fn fetches_once_and_then_needs_no_waiting() {
    let a = TestKey::new("a");
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(
        provider.hits(),
        0,
        "nothing is fetched before the first token"
    );
    assert!(verifier.verify_now(&a.token(), NOW).is_none());
    let (first, second) = (a.token(), a.token());
    let both = tokio::join!(user(&verifier, &first, NOW), user(&verifier, &second, NOW));
    assert_eq!(both, (ok("a"), ok("a")));
    assert!(
        verifier
            .verify_now(&a.token(), NOW + 299.0)
            .unwrap()
            .is_ok()
    );
    assert_eq!(provider.hits(), 1);
}

#[tokio::test]
async fn rotation_is_noticed_by_the_unknown_key_id() {
    let (a, b) = (TestKey::new("a"), TestKey::new("b"));
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(user(&verifier, &a.token(), NOW).await, ok("a"));
    provider.publish(&[&b]);
    let (first, second) = (b.token(), b.token());
    let both = tokio::join!(
        user(&verifier, &first, NOW + 1.0),
        user(&verifier, &second, NOW + 1.0)
    );
    assert_eq!(both, (ok("b"), ok("b")));
    assert_eq!(provider.hits(), 2, "both tokens waited for one fetch");
    assert_eq!(
        user(&verifier, &a.token(), NOW + 2.0).await,
        Err(AuthError::UnknownKey)
    );
    assert_eq!(provider.hits(), 2);
}

#[tokio::test]
async fn invented_key_ids_do_not_become_requests() {
    let (a, junk) = (TestKey::new("a"), TestKey::new("junk"));
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(user(&verifier, &a.token(), NOW).await, ok("a"));
    for i in 0..50 {
        let verdict = user(&verifier, &junk.token(), NOW + 0.1 * f64::from(i)).await;
        assert_eq!(verdict, Err(AuthError::UnknownKey));
    }
    assert_eq!(provider.hits(), 2);
    // Known keys are not held up, and after the pause one more fetch is due.
    assert!(verifier.verify_now(&a.token(), NOW + 5.0).unwrap().is_ok());
    assert!(user(&verifier, &junk.token(), NOW + 10.0).await.is_err());
    assert_eq!(provider.hits(), 3);
}

#[tokio::test]
async fn a_key_id_unknown_at_the_first_fetch_counts_too() {
    let (a, junk) = (TestKey::new("a"), TestKey::new("junk"));
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    for _ in 0..3 {
        let verdict = user(&verifier, &junk.token(), NOW).await;
        assert_eq!(verdict, Err(AuthError::UnknownKey));
    }
    assert_eq!(provider.hits(), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_is_not_hammered() {
    let a = TestKey::new("a");
    let provider = Provider::start(&[&a]).await;
    provider.break_down();
    let verifier = provider.verifier();
    for _ in 0..5 {
        let verdict = user(&verifier, &a.token(), NOW).await;
        assert_eq!(verdict, Err(AuthError::KeysUnavailable));
    }
    assert_eq!(provider.hits(), 1, "the failed fetch counts");
    provider.recover();
    assert_eq!(
        user(&verifier, &a.token(), NOW + 9.0).await,
        Err(AuthError::KeysUnavailable)
    );
    assert_eq!(user(&verifier, &a.token(), NOW + 10.0).await, ok("a"));
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_the_gateways_fault() {
    let a = TestKey::new("a");
    let mut config = AuthConfig::default();
    config.jwt.algorithm = JwtAlgorithm::Es256;
    // Port 9 (discard) of the local host: refused at once.
    config.jwt.jwks_url = "http://127.0.0.1:9/keys".into();
    let error = user(&Verifier::new(&config).unwrap(), &a.token(), NOW).await;
    assert!(!error.unwrap_err().is_client_fault());
}

#[tokio::test]
async fn stale_keys_go_on_while_refreshes_fail() {
    let (a, b) = (TestKey::new("a"), TestKey::new("b"));
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(user(&verifier, &a.token(), NOW).await, ok("a"));
    provider.break_down();
    // The refresh runs behind the token's back.
    assert!(
        verifier
            .verify_now(&a.token(), NOW + 300.0)
            .unwrap()
            .is_ok()
    );
    until(|| provider.hits() == 2).await;
    for later in [301.0, 400.0, 1000.0, 1e6] {
        assert_eq!(
            user(&verifier, &a.token(), NOW + later).await,
            ok("a"),
            "{later}"
        );
    }
    let verdict = user(&verifier, &b.token(), NOW + 1e6 + 1.0).await;
    assert_eq!(
        verdict,
        Err(AuthError::KeysUnavailable),
        "nobody knows whether `b` exists"
    );
}

#[tokio::test]
async fn a_refresh_brings_new_keys_and_drops_old_ones() {
    let (a, b) = (TestKey::new("a"), TestKey::new("b"));
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(user(&verifier, &a.token(), NOW).await, ok("a"));
    provider.publish(&[&b]);
    assert!(
        verifier
            .verify_now(&a.token(), NOW + 300.0)
            .unwrap()
            .is_ok()
    );
    until(|| matches!(verifier.verify_now(&b.token(), NOW + 301.0), Some(Ok(_)))).await;
    assert_eq!(provider.hits(), 2);
}

#[tokio::test]
async fn a_key_revoked_during_a_long_silence_is_not_accepted_once_more() {
    let (a, b) = (TestKey::new("a"), TestKey::new("b"));
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(user(&verifier, &a.token(), NOW).await, ok("a"));
    provider.publish(&[&b]);
    let verdict = user(&verifier, &a.token(), NOW + 86_400.0).await;
    assert_eq!(verdict, Err(AuthError::UnknownKey));
}

#[tokio::test]
async fn a_clock_that_jumps_back_makes_keys_stale() {
    let a = TestKey::new("a");
    let provider = Provider::start(&[&a]).await;
    let verifier = provider.verifier();
    assert_eq!(user(&verifier, &a.token(), NOW).await, ok("a"));
    assert_eq!(user(&verifier, &a.token(), NOW - 3600.0).await, ok("a"));
    assert_eq!(provider.hits(), 2);
}

#[tokio::test]
async fn a_slow_provider_holds_a_token_only_so_long() {
    let a = TestKey::new("a");
    let provider = Provider::start(&[&a]).await;
    provider.answer.lock().delay = Duration::from_millis(300);
    let verifier = provider.patient_verifier(Patience {
        fetch: Duration::from_secs(5),
        wait: Duration::from_millis(50),
    });
    assert_eq!(
        user(&verifier, &a.token(), NOW).await,
        Err(AuthError::KeysUnavailable)
    );
    // The fetch goes on without the token that started it.
    until(|| matches!(verifier.verify_now(&a.token(), NOW), Some(Ok(_)))).await;
    assert_eq!(provider.hits(), 1);
}

#[tokio::test]
async fn answers_that_are_no_key_set_are_failures() {
    let a = TestKey::new("a");
    let huge = format!("{}{}", set_of(&[&a]), " ".repeat(1024 * 1024));
    for (status, body) in [
        (StatusCode::OK, "<html>".to_owned()),
        (StatusCode::OK, "{}".to_owned()),
        (StatusCode::OK, r#"{"keys": 1}"#.to_owned()),
        (StatusCode::OK, huge),
        (StatusCode::NO_CONTENT, String::new()),
        (StatusCode::CREATED, set_of(&[&a])),
        (StatusCode::FOUND, set_of(&[&a])),
        (StatusCode::NOT_FOUND, set_of(&[&a])),
    ] {
        let provider = Provider::start(&[]).await;
        *provider.answer.lock() = Answer {
            status,
            body,
            delay: Duration::ZERO,
        };
        let verdict = user(&provider.verifier(), &a.token(), NOW).await;
        assert_eq!(verdict, Err(AuthError::KeysUnavailable), "{status}");
        assert_eq!(provider.hits(), 1, "redirects are not followed");
    }
}

#[tokio::test]
async fn without_key_id_the_only_key_is_taken() {
    let (a, b) = (TestKey::new("a"), TestKey::new("b"));
    let provider = Provider::start(&[&a]).await;
    let verdict = user(&provider.verifier(), &a.token_without_kid(), NOW).await;
    assert_eq!(verdict, ok("a"));
    provider.publish(&[&a, &b]);
    let verdict = user(&provider.verifier(), &a.token_without_kid(), NOW).await;
    assert_eq!(verdict, Err(AuthError::UnknownKey));
}

#[tokio::test]
async fn the_key_id_chooses_but_the_signature_decides() {
    let (a, b) = (TestKey::new("a"), TestKey::new("b"));
    let provider = Provider::start(&[&a, &b]).await;
    let forged = SigningKey::from_bytes(a.private.as_bytes(), None).unwrap();
    let forged = sign_token(&forged.with_kid("b"), &object(good_claims())).unwrap();
    let verdict = user(&provider.verifier(), &forged, NOW).await;
    assert_eq!(verdict, Err(AuthError::BadSignature));
}

#[tokio::test]
async fn dropping_the_verifier_ends_its_fetch() {
    let a = TestKey::new("a");
    let provider = Provider::start(&[&a]).await;
    provider.answer.lock().delay = Duration::from_mins(1);
    let verifier = provider.verifier();
    assert!(verifier.verify_now(&a.token(), NOW).is_none());
    until(|| provider.hits() == 1).await;
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    drop(verifier);
    until(|| metrics.num_alive_tasks() < before).await;
}

#[test]
fn outside_a_runtime_keys_are_unavailable_and_nothing_panics() {
    let mut config = AuthConfig::default();
    config.jwt.algorithm = JwtAlgorithm::Es256;
    config.jwt.jwks_url = "http://127.0.0.1:9/keys".into();
    let verifier = Verifier::new(&config).unwrap();
    let verdict = verifier.verify_now(&TestKey::new("a").token(), NOW);
    assert_eq!(verdict, Some(Err(AuthError::KeysUnavailable)));
}

#[test]
fn keys_for_other_purposes_are_left_out() {
    let a = TestKey::new("a");
    let count = |jwk: Value| {
        let set = json!({"keys": [jwk]}).to_string();
        KeySet::parse(set.as_bytes(), JwtAlgorithm::Es256)
            .unwrap()
            .len()
    };
    assert_eq!(count(a.jwk.clone()), 1);
    assert_eq!(count(a.changed("alg", json!(null))), 1);
    assert_eq!(count(a.changed("use", json!(null))), 1);
    assert_eq!(count(a.changed("key_ops", json!(["verify"]))), 1);
    for (name, value) in [
        ("use", json!("enc")),
        ("alg", json!("ES384")),
        ("kty", json!("RSA")),
        ("kty", json!(null)),
        ("crv", json!("P-384")),
        ("key_ops", json!(["encrypt"])),
        ("x", json!("AAAA")),
        ("x", json!("A".repeat(43))),
        ("y", json!("!")),
    ] {
        assert_eq!(count(a.changed(name, value.clone())), 0, "{name}: {value}");
    }
    assert_eq!(count(json!("text")), 0);
}

#[test]
fn every_key_type_is_read() {
    let field = |text: &str, from: usize, to: usize| {
        let der = pem::parse(text).unwrap().into_contents();
        URL_SAFE_NO_PAD.encode(&der[der.len() - from..der.len() - to])
    };
    let rsa = pem::parse(RSA_PUBLIC).unwrap().into_contents();
    // A 2048-bit modulus with its sign byte, then the exponent 65537 as three bytes behind a header of two.
    let n = URL_SAFE_NO_PAD.encode(&rsa[rsa.len() - 262..rsa.len() - 5]);
    let p384 = key_file!("ec_p384.pub");
    let p521 = key_file!("ec_p521.pub");
    let ed = key_file!("ed25519.pub");
    for (algorithm, private, jwk) in [
        (
            JwtAlgorithm::Ps384,
            RSA,
            json!({"kty": "RSA", "n": n, "e": "AQAB"}),
        ),
        (
            JwtAlgorithm::Es384,
            key_file!("ec_p384"),
            json!({"kty": "EC", "crv": "P-384", "x": field(p384, 96, 48), "y": field(p384, 48, 0)}),
        ),
        (
            JwtAlgorithm::Es512,
            key_file!("ec_p521"),
            json!({"kty": "EC", "crv": "P-521", "x": field(p521, 132, 66), "y": field(p521, 66, 0)}),
        ),
        (
            JwtAlgorithm::EdDsa,
            key_file!("ed25519"),
            json!({"kty": "OKP", "crv": "Ed25519", "x": field(ed, 32, 0)}),
        ),
    ] {
        let set = json!({"keys": [jwk]}).to_string();
        let set = KeySet::parse(set.as_bytes(), algorithm).unwrap();
        let key = set
            .find(None)
            .unwrap_or_else(|| panic!("{algorithm} key not read"));
        let token = sign(private, Some(algorithm), good_claims());
        let (message, signature) = token.rsplit_once('.').unwrap();
        assert!(key.verifies(message, signature), "{algorithm}");
    }
}
