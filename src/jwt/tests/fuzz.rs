//! Nothing panics, and nothing but the signed bytes is accepted.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(&ec_config()).unwrap());
static TOKEN: LazyLock<String> = LazyLock::new(|| ec_token(good_claims()));

fn verify(token: &str) -> Result<Claims, AuthError> {
    VERIFIER.verify_now(token, NOW).unwrap()
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused(token in ".*") {
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn token_like_text_is_refused(token in "[A-Za-z0-9_-]{0,40}(\\.[A-Za-z0-9_-]{0,40}){0,4}") {
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn arbitrary_json_never_panics(header in ".*", payload in ".*") {
        let header = json!({"alg": "ES256", "kid": header});
        let _ = verify(&encode(&header, &json!({"user_id": payload}), &[1; 64]));
    }

    #[test]
    fn a_changed_token_is_refused(at in any::<prop::sample::Index>(), new in "[A-Za-z0-9_.=-]") {
        let mut token = TOKEN.clone();
        let at = at.index(token.len());
        token.replace_range(at..=at, &new);
        prop_assume!(token != *TOKEN);
        prop_assert!(verify(&token).is_err());
    }

    #[test]
    fn a_cut_token_is_refused(at in any::<prop::sample::Index>()) {
        prop_assert!(verify(&TOKEN[..at.index(TOKEN.len())]).is_err());
    }
}

#[test]
fn the_unchanged_token_is_accepted() {
    assert!(verify(&TOKEN).is_ok());
}
