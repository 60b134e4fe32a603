//! Who gets in: tokens, where they may stand, origins, and what an upgrade request must look like.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    clippy::float_cmp,
    missing_docs,
    reason = "a test fails by panicking, and reads best in one piece"
)]

mod support;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use support::client::Upgrade;
use support::raw::upgrade_request;
use support::tokens::{claims, hmac_signed, key_file, signed_with, unsigned};
use support::{Client, Gateway, Raw, Setup, Webhook, now, signed, token};
use wsgw::stages::auth::JwtAlgorithm;

const UNAUTHORISED: u16 = 4401;

/// A gateway that checks issuer and audience too.
async fn strict() -> Gateway {
    Setup::default()
        .env("JWT_ISSUER", "https://id.example")
        .env("JWT_AUDIENCE", "chat")
        .start()
        .await
}

/// Claims that [`strict`] accepts, with others added or replaced.
fn good(others: &Value) -> Value {
    let mut all = json!({"iss": "https://id.example", "aud": "chat"});
    all.as_object_mut()
        .unwrap()
        .extend(others.as_object().unwrap().clone());
    claims("42", all)
}

/// A token of 6,000 brackets of JSON, in its claims or in its header; what parses by recursion would not survive it.
fn deep_token(start: &str, in_claims: bool) -> String {
    let deep = format!("{start}{}{}}}", "[".repeat(3000), "]".repeat(3000));
    let plain = if in_claims {
        r#"{"alg":"RS256"}"#
    } else {
        r#"{"user_id":"42"}"#
    };
    let [header, claims] = if in_claims {
        [plain, &deep]
    } else {
        [&deep, plain]
    };
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    format!("{}.{}.{}", part(header), part(claims), part("signature"))
}

fn without(name: &str) -> Value {
    let mut claims = good(&json!({}));
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// The socket must open, and close with 4401 and a reason that says what is wrong but nothing of the token.
async fn assert_refused(what: &str, upgrade: Upgrade, token: &str, reason_has: &str) {
    let closed = upgrade.open().await.closed().await;
    assert_eq!(closed.code, UNAUTHORISED, "{what}: {closed:?}");
    let reason = closed.reason.to_lowercase();
    assert!(reason.contains(reason_has), "{what}: {closed:?}");
    for part in token.split('.').filter(|part| part.len() > 4) {
        let start = &part[..part.len().min(16)];
        assert!(
            !closed.reason.contains(start),
            "{what}: the reason repeats the token: {closed:?}"
        );
    }
}

async fn assert_accepted(what: &str, upgrade: Upgrade) {
    let mut client = upgrade.open().await;
    client.send(r#"{"type":"ping"}"#).await;
    assert_eq!(client.text().await, r#"{"type":"pong"}"#, "{what}");
}

#[tokio::test]
async fn a_bad_token_closes_with_4401_and_a_reason_without_the_token() {
    let gateway = strict().await;
    let rsa = key_file("rsa.pem");
    let public = key_file("rsa.pub.pem");
    let hour_ago = now() - 3600;
    let none = |alg: &str| {
        format!(
            "{}.",
            unsigned(&json!({"alg": alg, "typ": "JWT"}), &good(&json!({})))
        )
    };
    let stripped = {
        let token = signed(good(&json!({})));
        token[..=token.rfind('.').unwrap()].to_owned()
    };
    let tampered = {
        let token = signed(good(&json!({})));
        let parts: Vec<&str> = token.split('.').collect();
        let other = signed(good(&json!({"user_id": "43"})));
        format!(
            "{}.{}.{}",
            parts[0],
            other.split('.').nth(1).unwrap(),
            parts[2]
        )
    };
    let matrix = [
        (
            "expired",
            signed(good(&json!({"exp": hour_ago}))),
            "expired",
        ),
        (
            "expired a second ago",
            signed(good(&json!({"exp": now() - 1}))),
            "expired",
        ),
        (
            "not yet valid",
            signed(good(&json!({"nbf": now() + 3600}))),
            "not valid yet",
        ),
        (
            "not yet valid by a minute",
            signed(good(&json!({"nbf": now() + 50}))),
            "not valid yet",
        ),
        (
            "another key",
            signed_with(&key_file("rsa_other.pem"), None, good(&json!({}))),
            "signature",
        ),
        ("changed claims", tampered, "signature"),
        (
            "another algorithm",
            signed_with(&rsa, Some(JwtAlgorithm::Rs512), good(&json!({}))),
            "algorithm",
        ),
        (
            "a key of another type",
            signed_with(&key_file("ec_p256.pem"), None, good(&json!({}))),
            "algorithm",
        ),
        ("alg none", none("none"), ""),
        ("alg None", none("None"), ""),
        ("alg nOnE", none("nOnE"), ""),
        ("no signature", stripped, ""),
        (
            "HMAC by the public key",
            hmac_signed(&public, &good(&json!({}))),
            "algorithm",
        ),
        (
            "HMAC by the trimmed public key",
            hmac_signed(public.trim_ascii(), &good(&json!({}))),
            "algorithm",
        ),
        (
            "another issuer",
            signed(good(&json!({"iss": "https://evil.example"}))),
            "issuer",
        ),
        ("no issuer", signed(without("iss")), "issuer"),
        (
            "another audience",
            signed(good(&json!({"aud": ["mail", "chats"]}))),
            "audience",
        ),
        ("no audience", signed(without("aud")), "audience"),
        ("no user", signed(without("user_id")), "user"),
        ("null user", signed(good(&json!({"user_id": null}))), "user"),
        ("empty user", signed(good(&json!({"user_id": ""}))), "user"),
        (
            "boolean user",
            signed(good(&json!({"user_id": true}))),
            "user",
        ),
        (
            "list of users",
            signed(good(&json!({"user_id": ["42"]}))),
            "user",
        ),
        (
            "object as user",
            signed(good(&json!({"user_id": {"id": 42}}))),
            "user",
        ),
        (
            "subjects as text",
            signed(good(&json!({"subjects": "room:1"}))),
            "subjects",
        ),
        (
            "numbers among the subjects",
            signed(good(&json!({"subjects": ["room:1", 2]}))),
            "subjects",
        ),
        (
            "object as subjects",
            signed(good(&json!({"subjects": {"a": "b"}}))),
            "subjects",
        ),
        ("exp as text", signed(good(&json!({"exp": "tomorrow"}))), ""),
        ("no JWT at all", "s3cret-but-no-token".to_owned(), ""),
        ("two parts", "aaaaaa.bbbbbb".to_owned(), ""),
        (
            "five parts",
            "aaaaaa.bbbbbb.cccccc.dddddd.eeeeee".to_owned(),
            "",
        ),
        (
            "deep claims",
            deep_token(
                r#"{"user_id":"42","iss":"https://id.example","aud":"chat","a":"#,
                true,
            ),
            "",
        ),
        (
            "deep header",
            deep_token(r#"{"alg":"RS256","a":"#, false),
            "",
        ),
        (
            "20 KB",
            signed(good(&json!({"pad": "x".repeat(20_000)}))),
            "",
        ),
        (
            "100 KB",
            signed(good(&json!({"pad": "x".repeat(100_000)}))),
            "",
        ),
    ];
    for (what, token, reason_has) in &matrix {
        assert_refused(what, Upgrade::to(&gateway).bearer(token), token, reason_has).await;
    }
    assert_refused("missing", Upgrade::to(&gateway), "", "token").await;
    assert_refused(
        "empty",
        Upgrade::to(&gateway).header("authorization", "Bearer "),
        "",
        "",
    )
    .await;
    assert_refused(
        "Basic",
        Upgrade::to(&gateway).header("authorization", "Basic dTpw"),
        "",
        "",
    )
    .await;
    assert_accepted(
        "a good one, after all that",
        Upgrade::to(&gateway).bearer(&signed(good(&json!({})))),
    )
    .await;
}

#[tokio::test]
async fn refusals_are_counted_by_reason_and_make_no_event() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    for _ in 0..2 {
        let expired = signed(claims("7", json!({"exp": now() - 60})));
        Client::with_token(&gateway, &expired).await.closed().await;
    }
    Upgrade::to(&gateway).open().await.closed().await;
    let metrics = gateway.metrics().await;
    let of_auth = |line: &&str| {
        line.starts_with("wsgw_") && line.contains("auth") && line.contains("reason=")
    };
    let of = |what: &str| {
        metrics
            .lines()
            .filter(of_auth)
            .any(|line| line.contains(what))
    };
    assert!(of("\"expired\"} 2") && of("\"missing\"} 1"), "{metrics}");
    assert_eq!(gateway.metric("ws_connections_total", &[]).await, 0.0);
    let _guest = Client::connect(&gateway, "8").await;
    let events = webhook.wait_for(1).await;
    assert_eq!(
        events[0]["user_id"], "8",
        "only the admitted client makes an event"
    );
}

#[tokio::test]
async fn a_token_may_lack_exp_and_have_iat_in_the_future() {
    let gateway = Gateway::start().await;
    for claims in [
        json!({"user_id": "1"}),
        json!({"user_id": "1", "iat": now() + 900}),
    ] {
        assert_accepted(
            &claims.to_string(),
            Upgrade::to(&gateway).bearer(&signed(claims.clone())),
        )
        .await;
    }
    let strict = Setup::default()
        .set("stages.auth.require_exp", true)
        .start()
        .await;
    let token = signed(json!({"user_id": "1"}));
    assert_refused("no exp", Upgrade::to(&strict).bearer(&token), &token, "").await;
}

#[tokio::test]
async fn the_configured_leeway_is_what_counts_and_no_other() {
    let gateway = Setup::default().env("JWT_LEEWAY", "120").start().await;
    for claims in [json!({"exp": now() - 60}), json!({"nbf": now() + 60})] {
        let token = signed(support::tokens::claims("1", claims.clone()));
        assert_accepted(&claims.to_string(), Upgrade::to(&gateway).bearer(&token)).await;
    }
    for claims in [json!({"exp": now() - 180}), json!({"nbf": now() + 180})] {
        let token = signed(support::tokens::claims("1", claims.clone()));
        assert_refused(
            &claims.to_string(),
            Upgrade::to(&gateway).bearer(&token),
            &token,
            "",
        )
        .await;
    }
}

#[tokio::test]
async fn the_user_id_is_published_as_a_string_and_makes_the_first_subject() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("JWT_USER_ID_CLAIM", "sub")
        .start()
        .await;
    let exp = now() + 600;
    for (claims, user, subjects) in [
        (json!({"sub": 42, "exp": exp}), "42", json!(["user:42"])),
        (
            json!({"sub": 9_007_199_254_740_993_u64, "exp": exp}),
            "9007199254740993",
            json!(["user:9007199254740993"]),
        ),
        (
            json!({"sub": "ann", "subjects": [], "exp": exp}),
            "ann",
            json!(["user:ann"]),
        ),
    ] {
        let _client = Client::with_token(&gateway, &signed(claims)).await;
        let event = webhook.wait_for_type(user, "connected").await;
        assert_eq!(event["subjects"], subjects);
    }
    let token = signed(json!({"sub": "bob", "subjects": ["room:1", "user:bob", "a"], "exp": exp}));
    let _client = Client::with_token(&gateway, &token).await;
    let event = webhook.wait_for_type("bob", "connected").await;
    let mut subjects: Vec<&str> = event["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap())
        .collect();
    subjects.sort_unstable();
    assert_eq!(subjects, ["a", "room:1", "user:bob"], "each subject once");
}

#[tokio::test]
async fn the_prefix_of_user_subjects_is_configurable() {
    let gateway = Setup::default()
        .set("subjects.user_prefix", "u/")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    assert_eq!(gateway.publish(&["user:42"], json!(1)).await, 0);
    assert_eq!(gateway.publish(&["u/42"], json!(1)).await, 1);
}

#[tokio::test]
async fn a_token_is_found_in_header_query_and_subprotocol() {
    let gateway = Gateway::start().await;
    let token = token("42");
    let to = || Upgrade::to(&gateway);
    assert_accepted("header", to().bearer(&token)).await;
    assert_accepted(
        "scheme in lower case",
        to().header("authorization", format!("bearer {token}")),
    )
    .await;
    assert_accepted(
        "access_token",
        to().target(format!("/ws?access_token={token}")),
    )
    .await;
    assert_accepted("token", to().target(format!("/ws?x=1&token={token}&y=2"))).await;
    let (_, response) = to()
        .header("sec-websocket-protocol", format!("bearer, {token}"))
        .try_open()
        .await
        .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "bearer");
    let (_, response) = to().bearer(&token).try_open().await.unwrap();
    assert!(
        !response.headers().contains_key("sec-websocket-protocol"),
        "none was offered"
    );
    let cookie = to().header("cookie", format!("access_token={token}"));
    assert_refused("a cookie, which is not configured", cookie, &token, "").await;
}

#[tokio::test]
async fn the_first_source_with_a_token_decides_without_fall_through() {
    let gateway = Gateway::start().await;
    let good = token("42");
    let bad = signed(claims("42", json!({"exp": now() - 60})));
    let to = || Upgrade::to(&gateway);
    let query = |token: &str| format!("/ws?access_token={token}");
    let protocol = |token: &str| format!("bearer, {token}");
    assert_refused(
        "bad header, good query",
        to().target(query(&good)).bearer(&bad),
        &bad,
        "expired",
    )
    .await;
    assert_accepted(
        "good header, bad query",
        to().target(query(&bad)).bearer(&good),
    )
    .await;
    let upgrade = to()
        .target(query(&bad))
        .header("sec-websocket-protocol", protocol(&good));
    assert_refused("bad query, good subprotocol", upgrade, &bad, "expired").await;
    let upgrade = to().target(format!("/ws?token={good}&access_token={bad}"));
    assert_refused("access_token goes before token", upgrade, &bad, "expired").await;
}

#[tokio::test]
async fn the_order_of_token_sources_is_configurable_and_may_have_cookies() {
    let gateway = Setup::default()
        .set("stages.auth.token_sources", "[cookie, query]")
        .set("stages.auth.cookie_name", "session")
        .start()
        .await;
    let good = token("42");
    let bad = signed(claims("42", json!({"exp": now() - 60})));
    let to = || Upgrade::to(&gateway);
    assert_accepted(
        "cookie",
        to().header("cookie", format!("a=b; session={good}; c=d")),
    )
    .await;
    assert_accepted("query", to().target(format!("/ws?token={good}"))).await;
    assert_refused(
        "a header, which is not listed",
        to().bearer(&good),
        &good,
        "",
    )
    .await;
    let both = to()
        .target(format!("/ws?token={good}"))
        .header("cookie", format!("session={bad}"));
    assert_refused("bad cookie, good query", both, &bad, "expired").await;
}

#[tokio::test]
async fn an_origin_that_is_not_listed_is_answered_403_before_the_upgrade() {
    let gateway = Setup::default()
        .set(
            "server.allowed_origins",
            "[https://app.example, https://b.example]",
        )
        .start()
        .await;
    let token = token("42");
    let from = |origin: &str| {
        Upgrade::to(&gateway)
            .bearer(&token)
            .header("origin", origin)
    };
    assert_accepted("listed", from("https://app.example")).await;
    assert_accepted("no origin", Upgrade::to(&gateway).bearer(&token)).await;
    for origin in [
        "https://evil.example",
        "http://app.example",
        "https://app.example.evil",
        "https://app.example:8443",
        "null",
    ] {
        assert_eq!(from(origin).refused().await.status(), 403, "{origin}");
    }
    let anyone = Gateway::start().await;
    let upgrade = Upgrade::to(&anyone)
        .bearer(&token)
        .header("origin", "https://any.example");
    assert_accepted("any origin by default", upgrade).await;
}

#[tokio::test]
async fn a_request_that_is_no_upgrade_is_answered_426() {
    let gateway = Gateway::start().await;
    let answer = gateway.get("/ws").await;
    assert_eq!(answer.status, 426);
    assert!(
        answer.header("upgrade").eq_ignore_ascii_case("websocket"),
        "{answer:?}"
    );
    let answer = gateway
        .get(&format!("/ws?access_token={}", token("42")))
        .await;
    assert_eq!(answer.status, 426);
}

#[tokio::test]
async fn an_upgrade_with_a_bad_version_or_key_is_refused() {
    let gateway = Gateway::start().await;
    let bearer = format!("Authorization: Bearer {}\r\n", token("42"));
    let good = upgrade_request(&bearer);
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let replaced = |from: &str, to: &str| {
        assert!(good.contains(from));
        good.replace(from, to)
    };
    for (what, request, status) in [
        ("as it should be", good.clone(), 101),
        ("version 8", replaced("Version: 13", "Version: 8"), 426),
        (
            "no version",
            replaced("Sec-WebSocket-Version: 13\r\n", ""),
            426,
        ),
        ("no key", replaced(key, ""), 400),
        (
            "a short key",
            replaced("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="),
            400,
        ),
        (
            "a key that is no base64",
            replaced("dGhlIHNhbXBsZSBub25jZQ==", "!!!!!!!!!!!!!!!!!!!!!!=="),
            400,
        ),
    ] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(request.as_bytes()).await;
        let head = raw.head().await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{what}: {head}"
        );
        match status {
            // The example of RFC 6455 section 1.3.
            101 => assert!(
                head.to_lowercase()
                    .contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="),
                "{head}"
            ),
            426 => assert!(
                head.to_lowercase().contains("sec-websocket-version: 13"),
                "{what}: {head}"
            ),
            _ => {}
        }
    }
}

#[tokio::test]
async fn the_path_of_the_endpoint_is_configurable() {
    let gateway = Setup::default().set("server.path", "/socket").start().await;
    let upgrade = Upgrade::to(&gateway).target("/socket").bearer(&token("42"));
    assert_accepted("the configured path", upgrade).await;
    assert_eq!(gateway.get("/ws").await.status, 404);
}

#[tokio::test]
async fn a_half_open_handshake_is_closed_after_its_timeout() {
    let gateway = Setup::default()
        .set("server.handshake_timeout_seconds", "0.5")
        .start()
        .await;
    let request = upgrade_request(&format!("Authorization: Bearer {}\r\n", token("42")));
    for sent in [&request[..0], &request[..3], &request[..request.len() - 2]] {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(sent.as_bytes()).await;
        let answer = String::from_utf8(raw.read_to_end().await).unwrap();
        assert!(
            !answer.contains(" 101 "),
            "after {} bytes: {answer}",
            sent.len()
        );
    }
    // One that trickles must not win time by it.
    let mut raw = Raw::connect(gateway.address).await;
    let (head, tail) = request.split_at(40);
    raw.write(head.as_bytes()).await;
    let started = std::time::Instant::now();
    let mut cut = false;
    for byte in tail.bytes() {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if raw.try_write(&[byte]).await.is_err() {
            cut = true;
            break;
        }
    }
    assert!(
        cut,
        "{} bytes, one by one, were waited for {:?}",
        tail.len(),
        started.elapsed()
    );
}

#[tokio::test]
async fn twenty_half_open_handshakes_hold_up_nobody() {
    let gateway = Setup::default()
        .set("server.handshake_timeout_seconds", "600")
        .start()
        .await;
    let mut idle = Vec::new();
    for at in 0..20 {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(&b"GET /ws HTTP/1.1\r\nHost: gateway\r\n"[..at])
            .await;
        idle.push(raw);
    }
    for user in 0..20 {
        let mut client = Client::connect(&gateway, &user.to_string()).await;
        client.round_trip().await;
    }
    drop(idle);
}

#[tokio::test]
async fn connections_over_the_gateways_limit_are_answered_503_with_retry_after() {
    let gateway = Setup::default()
        .set("server.max_connections", 3)
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["1", "2", "3"] {
        let mut client = Client::connect(&gateway, user).await;
        client.round_trip().await;
        clients.push(client);
    }
    let refused = Upgrade::to(&gateway).bearer(&token("4")).refused().await;
    assert_eq!(refused.status(), 503);
    let retry_after = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse::<u64>();
    assert!(retry_after.is_ok_and(|seconds| seconds > 0));
    clients.pop().unwrap().close(Some((1000, ""))).await;
    gateway.wait_for_connections(2).await;
    support::within("the place to be free again", async {
        while Upgrade::to(&gateway)
            .bearer(&token("4"))
            .try_open()
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn connections_over_a_users_limit_are_closed_with_1013() {
    let gateway = Setup::default()
        .set("server.max_connections_per_user", 2)
        .start()
        .await;
    let mut first = Client::connect(&gateway, "1").await;
    let mut second = Client::connect(&gateway, "1").await;
    first.round_trip().await;
    second.round_trip().await;
    let closed = Client::connect(&gateway, "1").await.closed().await;
    assert_eq!(closed.code, 1013, "{closed:?}");
    Client::connect(&gateway, "2").await.round_trip().await;
    second.close(None).await;
    gateway.wait_for_connections(1).await;
    Client::connect(&gateway, "1").await.round_trip().await;
}

#[tokio::test]
async fn connections_over_an_addresss_limit_are_answered_429() {
    let gateway = Setup::default()
        .set("server.max_connections_per_address", 2)
        .set("server.trusted_proxies", "[127.0.0.1/32]")
        .start()
        .await;
    let from = |address: &str| {
        Upgrade::to(&gateway)
            .bearer(&token("1"))
            .header("x-forwarded-for", address)
    };
    let first = from("192.0.2.1").open().await;
    let _second = from("192.0.2.1").open().await;
    let refused = from("192.0.2.1").refused().await;
    assert_eq!(refused.status(), 429);
    assert!(refused.headers().contains_key("retry-after"));
    let _other = from("192.0.2.2").open().await;
    first.close(None).await;
    support::within("the place to be free again", async {
        while from("192.0.2.1").try_open().await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_turned_away_and_stays_is_cut() {
    let gateway = Gateway::start().await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(upgrade_request("").as_bytes()).await;
    assert!(raw.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.next().await.unwrap().close_code(), Some(UNAUTHORISED));
    // The close frame is never answered.
    assert_eq!(
        raw.next().await,
        None,
        "the gateway ends the connection by itself"
    );
    assert!(gateway.connections().await.is_empty());
}

#[tokio::test]
async fn a_gateway_out_of_file_descriptors_serves_again_once_some_are_free() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let limited = std::process::Command::new("prlimit")
        .args(["--nofile=64:64", "--pid", &gateway.pid().to_string()])
        .status();
    assert!(limited.unwrap().success());
    let bearer = format!("Authorization: Bearer {}\r\n", token("42"));
    let mut many = Vec::new();
    for _ in 0..100 {
        let mut raw = Raw::connect(gateway.address).await;
        raw.write(upgrade_request(&bearer).as_bytes()).await;
        many.push(raw);
    }
    support::eventually("file descriptors to run out", || {
        gateway.stderr().contains("accept_failed").then_some(())
    })
    .await;
    drop(many);
    let freed = std::time::Instant::now();
    Client::connect(&gateway, "later").await.round_trip().await;
    let waited = freed.elapsed();
    assert!(
        waited < Duration::from_secs(12),
        "idle webhook connections kept a client waiting for {waited:?}"
    );
    webhook.wait_for_type("later", "connected").await;
}
