//! Admission: how many handshakes the gateway begins, and what those that come too fast are told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashSet;

use support::client::Upgrade;
use support::tokens::{claims, key_file, signed_with};
use support::{Gateway, Setup, Webhook, token, within};
use tokio_tungstenite::tungstenite::Error;

/// A gateway that takes so many at once and then hardly any more.
fn slow(burst: u32) -> Setup {
    // The burst is a second's worth, so that all of a test takes place within less than a handshake's interval.
    Setup::default().set("server.max_handshakes_per_second", burst)
}

/// Whether the upgrade succeeds; a refusal's `Retry-After` else.
async fn knock(gateway: &Gateway, token: &str) -> Result<support::Client, u64> {
    match Upgrade::to(gateway).bearer(token).try_open().await {
        Ok((client, _)) => Ok(client),
        Err(Error::Http(refused)) => {
            assert_eq!(refused.status(), 503);
            let seconds = refused.headers()["retry-after"].to_str().unwrap();
            Err(seconds.parse().unwrap())
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn handshakes_that_come_too_fast_are_answered_503_and_those_later_pass() {
    let gateway = slow(5).start().await;
    let token = token("1");
    let mut open = Vec::new();
    let mut waits = Vec::new();
    // However slow this machine is: 5 pass at once and 5 a second, so that some of so many are refused.
    while waits.len() < 30 {
        match knock(&gateway, &token).await {
            Ok(client) => open.push(client),
            Err(wait) => waits.push(wait),
        }
    }
    assert!(open.len() >= 5);
    assert!(
        waits.iter().all(|wait| (1..=10).contains(wait)),
        "{waits:?}"
    );
    let different: HashSet<_> = waits.iter().collect();
    assert!(different.len() > 1, "{waits:?} send all back together");
    let refused = gateway
        .metric("wsgw_upgrades_refused_total", &["reason=\"rate\""])
        .await;
    assert!((refused - 30.0).abs() < 0.5, "{refused}");
    // The others are as they were.
    for client in &mut open {
        client.round_trip().await;
    }
    within("the next one to pass", async {
        while knock(&gateway, &token).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_limit_is_off_by_default() {
    let gateway = Gateway::start().await;
    let token = token("1");
    for _ in 0..300 {
        drop(knock(&gateway, &token).await.unwrap());
    }
}

#[tokio::test]
async fn a_refused_handshake_never_gets_to_its_token() {
    let webhook = Webhook::start().await;
    let gateway = slow(1).webhook(&webhook).start().await;
    let bad = signed_with(
        &key_file("rsa_other.pem"),
        None,
        claims("1", serde_json::json!({})),
    );
    let mut upgraded = 0;
    let mut refused = 0;
    while refused < 10 {
        match knock(&gateway, &bad).await {
            Ok(mut client) => {
                assert_eq!(client.closed().await.code, 4401);
                upgraded += 1;
            }
            Err(_) => refused += 1,
        }
    }
    let failures = gateway.metric("wsgw_auth_failures_total", &[]).await;
    assert!((failures - f64::from(upgraded)).abs() < 0.5, "{failures}");
}

#[tokio::test]
async fn only_upgrades_count() {
    let gateway = slow(1).start().await;
    for _ in 0..20 {
        assert_eq!(gateway.get("/health").await.status, 200);
        // No upgrade request, and one of another version.
        assert_eq!(gateway.get("/ws").await.status, 426);
    }
    knock(&gateway, &token("1")).await.unwrap();
}
