//! Claims: time, issuer, audience, user and subjects.

use super::*;

fn check(claims: Value) -> Result<Claims, AuthError> {
    verify_with(&ec_config(), &ec_token(claims))
}

fn check_with(change: impl FnOnce(&mut AuthConfig), claims: Value) -> Result<Claims, AuthError> {
    let mut config = ec_config();
    change(&mut config);
    verify_with(&config, &ec_token(claims))
}

#[test]
fn takes_user_subjects_and_expiry() {
    let claims = json!({"user_id": "42", "exp": 1_700_000_060, "subjects": ["b", "a", "b"]});
    assert_eq!(
        check(claims.clone()),
        Ok(Claims {
            user_id: "42".into(),
            subjects: vec!["b".into(), "a".into()],
            expires_at: Some(1_700_000_060.0),
            raw: claims.to_string().into(),
        })
    );
}

#[test]
fn expiry_is_exact() {
    let with_exp = |exp: Value, leeway| {
        check_with(
            |config| config.jwt.leeway = leeway,
            json!({"user_id": "1", "exp": exp}),
        )
        .map(|claims| claims.expires_at)
    };
    let now = 1_700_000_000;
    assert_eq!(with_exp(json!(now - 1), 0), Err(AuthError::Expired));
    assert_eq!(with_exp(json!(now), 0), Err(AuthError::Expired));
    assert_eq!(with_exp(json!(NOW + 0.5), 0), Ok(Some(NOW + 0.5)));
    assert_eq!(with_exp(json!(now - 4), 5), Ok(Some(NOW + 1.0)));
    assert_eq!(with_exp(json!(now - 5), 5), Err(AuthError::Expired));
    assert_eq!(with_exp(json!(-1), 0), Err(AuthError::Expired));
    assert_eq!(with_exp(json!(1e300), 0), Ok(Some(1e300)));
    for bad in [json!("1800000000"), json!(null), json!(true), json!([1])] {
        assert_eq!(with_exp(bad, 0), Err(AuthError::Malformed));
    }
}

#[test]
fn missing_expiry_is_accepted_unless_required() {
    let claims = json!({"user_id": "1"});
    assert_eq!(check(claims.clone()).unwrap().expires_at, None);
    assert_eq!(
        check_with(|config| config.require_exp = true, claims),
        Err(AuthError::NoExpiry)
    );
}

#[test]
fn not_before_is_exact_and_issued_at_ignored() {
    let with_nbf = |nbf: Value, leeway| {
        check_with(
            |config| config.jwt.leeway = leeway,
            json!({"user_id": "1", "nbf": nbf, "iat": 1_900_000_000}),
        )
        .map(|claims| claims.user_id)
    };
    let now = 1_700_000_000;
    assert_eq!(with_nbf(json!(now), 0), Ok("1".into()));
    assert_eq!(with_nbf(json!(now + 1), 0), Err(AuthError::NotYetValid));
    assert_eq!(with_nbf(json!(now + 5), 5), Ok("1".into()));
    assert_eq!(with_nbf(json!(now + 6), 5), Err(AuthError::NotYetValid));
    assert_eq!(with_nbf(json!("soon"), 0), Err(AuthError::Malformed));
}

#[test]
fn issuer_must_match_when_configured() {
    let with_iss = |iss: Value| {
        check_with(
            |config| config.jwt.issuer = "shop".into(),
            json!({"user_id": "1", "iss": iss}),
        )
        .map(|claims| claims.user_id)
    };
    assert_eq!(with_iss(json!("shop")), Ok("1".into()));
    for bad in [json!("shop2"), json!(null), json!(["shop"]), json!("")] {
        assert_eq!(with_iss(bad), Err(AuthError::Issuer));
    }
    assert!(check(json!({"user_id": "1", "iss": "anyone"})).is_ok());
}

#[test]
fn audience_may_be_a_list() {
    let with_aud = |aud: Value| {
        check_with(
            |config| config.jwt.audience = "ws".into(),
            json!({"user_id": "1", "aud": aud}),
        )
        .map(|claims| claims.user_id)
    };
    assert_eq!(with_aud(json!("ws")), Ok("1".into()));
    assert_eq!(with_aud(json!(["api", "ws"])), Ok("1".into()));
    for bad in [
        json!("api"),
        json!(["api"]),
        json!([]),
        json!(null),
        json!([1]),
        json!({"ws": 1}),
    ] {
        assert_eq!(with_aud(bad), Err(AuthError::Audience));
    }
}

#[test]
fn user_id_is_a_string_or_an_integer() {
    let user = |id: Value| check(json!({"user_id": id})).map(|claims| claims.user_id);
    assert_eq!(user(json!("ann")), Ok("ann".into()));
    assert_eq!(user(json!(42)), Ok("42".into()));
    assert_eq!(user(json!(-7)), Ok("-7".into()));
    assert_eq!(user(json!(u64::MAX)), Ok(u64::MAX.to_string()));
    for bad in [
        json!(""),
        json!("  "),
        json!(4.2),
        json!(true),
        json!({}),
        json!([]),
        json!(null),
    ] {
        assert_eq!(user(bad), Err(AuthError::NoUser));
    }
    assert_eq!(check(json!({"sub": "1"})), Err(AuthError::NoUser));
    let by_sub = check_with(
        |config| config.jwt.user_id_claim = "sub".into(),
        json!({"sub": "1"}),
    );
    assert_eq!(by_sub.unwrap().user_id, "1");
}

#[test]
fn subjects_are_a_list_of_strings_of_sensible_size() {
    let subjects = |list: Value| {
        check(json!({"user_id": "1", "subjects": list})).map(|claims| claims.subjects.len())
    };
    let names = |count: usize| json!((0..count).map(|i| format!("s{i}")).collect::<Vec<_>>());
    assert_eq!(subjects(json!(null)), Ok(0));
    assert_eq!(subjects(json!([])), Ok(0));
    assert_eq!(subjects(names(1000)), Ok(1000));
    assert_eq!(subjects(json!(["é".repeat(256)])), Ok(1));
    for bad in [
        json!("a"),
        json!({"a": "b"}),
        json!([1]),
        json!(["a", null]),
        json!(["a", ""]),
        json!(["x".repeat(257)]),
        names(1001),
    ] {
        assert_eq!(subjects(bad), Err(AuthError::Subjects));
    }
}

#[test]
fn reasons_are_unique_and_fit_a_close_frame() {
    let mut reasons = std::collections::HashSet::new();
    for error in AuthError::ALL {
        assert!(error.to_string().len() <= 123);
        assert!(reasons.insert(error.reason()));
        assert_eq!(error.is_client_fault(), error != AuthError::KeysUnavailable);
    }
}
