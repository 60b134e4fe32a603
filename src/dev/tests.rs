use super::keys::TOKEN_TTL;
use super::*;
use crate::jwt::Verifier;
use crate::stages::StageConfig;

const PAGE: [&str; 6] = [
    include_str!("page.html"),
    include_str!("page.css"),
    include_str!("page.js"),
    include_str!("client.js"),
    include_str!("passes.js"),
    include_str!("text.js"),
];

#[test]
fn the_pipeline_is_valid_and_takes_the_throw_away_keys() {
    let keys = DevKeys::generate().unwrap();
    let loaded = pipeline("127.0.0.1:0", &keys).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    let names: Vec<_> = loaded.config.stages.iter().map(StageConfig::name).collect();
    assert_eq!(
        names,
        [
            "auth",
            "ping_filter",
            "rate_limit",
            "ordering_key",
            "trace",
            "fan_out"
        ]
    );
    let StageConfig::Auth(auth) = &loaded.config.stages[0] else {
        panic!("auth comes first");
    };
    let verifier = Verifier::new(auth).unwrap();
    let mut request = TokenRequest::for_user("42");
    request.subjects = vec!["room:1".into()];
    let token = keys.token(&request, 1000).unwrap();
    let claims = verifier.verify_now(&token, 1000.0).unwrap().unwrap();
    assert_eq!(claims.user_id, "42");
    let end = 1000.0 + TOKEN_TTL as f64;
    assert!(verifier.verify_now(&token, end - 1.0).unwrap().is_ok());
    assert!(verifier.verify_now(&token, end).unwrap().is_err());
}

#[test]
fn every_start_has_other_keys() {
    let (one, other) = (DevKeys::generate().unwrap(), DevKeys::generate().unwrap());
    assert_ne!(one.api_key(), other.api_key());
    assert_ne!(one.public_pem(), other.public_pem());
    assert!(!format!("{one:?}").contains(one.api_key()));
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    for text in PAGE {
        let text = text.replace("http://www.w3.org/2000/svg", "");
        assert!(
            !text.contains("http://") && !text.contains("https://"),
            "{text}"
        );
        assert!(
            !text.contains(" style=") && !text.contains("onclick"),
            "refused by the policy"
        );
        assert!(
            !text.contains("innerHTML"),
            "what clients send must stay text"
        );
    }
}
