//! Where tokens are found.

use http::header::{AUTHORIZATION, COOKIE, HeaderName, SEC_WEBSOCKET_PROTOCOL};
use http::{HeaderMap, HeaderValue};

use super::*;
use crate::stages::auth::TokenSource;

const ALL: [TokenSource; 4] = [
    TokenSource::Header,
    TokenSource::Query,
    TokenSource::Subprotocol,
    TokenSource::Cookie,
];

fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
    lines
        .iter()
        .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

fn find(
    sources: &[TokenSource],
    lines: &[(HeaderName, &'static str)],
    query: Option<&str>,
) -> Option<(String, TokenSource)> {
    let config = AuthConfig {
        token_sources: sources.to_vec(),
        ..AuthConfig::default()
    };
    find_token(&headers(lines), query, &config).map(|found| (found.token, found.source))
}

fn token(lines: &[(HeaderName, &'static str)], query: Option<&str>) -> Option<String> {
    find(&ALL, lines, query).map(|(token, _)| token)
}

#[test]
fn authorization_scheme_is_case_insensitive() {
    for line in ["Bearer t", "bearer t", "BEARER   t ", " Bearer t"] {
        assert_eq!(
            token(&[(AUTHORIZATION, line)], None),
            Some("t".into()),
            "{line}"
        );
    }
    for line in ["Basic t", "Bearer", "Bearer ", "Bearert", "", "t"] {
        assert_eq!(token(&[(AUTHORIZATION, line)], None), None, "{line}");
    }
}

#[test]
fn query_is_decoded_and_access_token_comes_first() {
    for (query, expected) in [
        ("token=a&access_token=b", Some("b")),
        ("access_token=&token=a", Some("a")),
        ("x=1&access_token=a%2Eb%2ec", Some("a.b.c")),
        ("access%5Ftoken=a", Some("a")),
        ("access_token=%ZZ", Some("%ZZ")),
        ("access_token", None),
        ("my_token=a", None),
        ("", None),
    ] {
        assert_eq!(token(&[], Some(query)).as_deref(), expected, "{query}");
    }
}

#[test]
fn subprotocol_follows_bearer() {
    let p = SEC_WEBSOCKET_PROTOCOL;
    let at = |lines: &[&'static str]| {
        let lines: Vec<_> = lines.iter().map(|line| (p.clone(), *line)).collect();
        find(&[TokenSource::Subprotocol], &lines, None).map(|(token, _)| token)
    };
    assert_eq!(at(&["bearer, t"]).as_deref(), Some("t"));
    assert_eq!(at(&["bearer,t,chat"]).as_deref(), Some("t"));
    assert_eq!(at(&["chat, bearer", "t, x"]).as_deref(), Some("t"));
    assert_eq!(at(&["bearer"]), None);
    assert_eq!(at(&["bearer, "]), None);
    assert_eq!(at(&["t"]), None);
    assert!(offers_bearer(&headers(&[(p.clone(), "chat, bearer")])));
    assert!(!offers_bearer(&headers(&[(p, "chat")])));
}

#[test]
fn cookie_may_be_quoted() {
    for (line, expected) in [
        ("access_token=t", Some("t")),
        ("a=b; access_token=\"t\"; c=d", Some("t")),
        ("access_token=\"\"; access_token=u", Some("u")),
        ("access_token=\"", Some("\"")),
        ("xaccess_token=t", None),
        ("access_token=", None),
    ] {
        assert_eq!(
            token(&[(COOKIE, line)], None).as_deref(),
            expected,
            "{line}"
        );
    }
}

#[test]
fn the_first_source_present_decides() {
    let lines = [
        (AUTHORIZATION, "Bearer header"),
        (SEC_WEBSOCKET_PROTOCOL, "bearer, protocol"),
        (COOKIE, "access_token=cookie"),
    ];
    for (order, expected) in [
        (&ALL[..], "header"),
        (&ALL[1..], "query"),
        (&ALL[2..], "protocol"),
        (&ALL[3..], "cookie"),
    ] {
        let (token, source) = find(order, &lines, Some("token=query")).unwrap();
        assert_eq!((token.as_str(), source), (expected, order[0]));
    }
    assert_eq!(find(&[], &lines, Some("token=query")), None);
    // Another scheme is no token at all, so that the next source counts.
    let basic = [(AUTHORIZATION, "Basic x")];
    assert_eq!(token(&basic, Some("token=query")).as_deref(), Some("query"));
}

#[test]
fn bytes_that_are_no_text_are_a_bad_token_not_an_absent_one() {
    let mut map = HeaderMap::new();
    map.insert(
        AUTHORIZATION,
        HeaderValue::from_bytes(b"Bearer \xff").unwrap(),
    );
    let found = find_token(&map, Some("token=good"), &AuthConfig::default()).unwrap();
    assert_eq!(found.source, TokenSource::Header);
    assert_eq!(
        verify_with(&ec_config(), &found.token),
        Err(AuthError::Malformed)
    );
    assert!(!format!("{found:?}").contains('\u{fffd}'));
}
