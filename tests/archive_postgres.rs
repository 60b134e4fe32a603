//! The archive in `PostgreSQL`: several gateways in one database, which goes away and comes back.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use support::postgres::{PASSWORD, Postgres};
use support::{Client, Gateway, Setup, Webhook, within};

fn archiving(webhook: &Webhook, postgres: &Postgres) -> Setup {
    Setup::default()
        .webhook(webhook)
        .env("ORDERING_STRATEGY", "topic")
        .set("replay.strategy", "durable")
        .set("replay.archive.dsn", postgres.dsn())
}

async fn events(postgres: &Postgres) -> Vec<Value> {
    let texts = postgres
        .column("SELECT event FROM wsgw_events ORDER BY event_id")
        .await;
    let event = |text: &String| serde_json::from_str(text).unwrap();
    texts.iter().map(event).collect()
}

async fn wait_for_events(postgres: &Postgres, wanted: usize) -> Vec<Value> {
    within(&format!("{wanted} events in the archive"), async {
        loop {
            let events = events(postgres).await;
            if events.len() >= wanted {
                return events;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
}

async fn wait_for_advice(gateway: &Gateway, fits: impl Fn(&str) -> bool) -> String {
    within("what /ready says of the archive", async {
        loop {
            let ready = gateway.get("/ready").await;
            assert_eq!(ready.status, 200, "{ready:?}");
            let checks = ready.json();
            let advice = checks["checks"]["archive"].as_str().unwrap();
            if fits(advice) {
                return advice.to_owned();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
}

fn assert_secret_is_kept(gateway: &Gateway) {
    assert!(!gateway.stderr().contains(PASSWORD), "{}", gateway.stderr());
}

#[tokio::test]
async fn two_gateways_lose_nothing_while_the_server_is_away() {
    const MESSAGES: usize = 300;
    let postgres = Postgres::start().await;
    let webhook = Webhook::start().await;
    let gateways = [
        archiving(&webhook, &postgres).start().await,
        archiving(&webhook, &postgres).start().await,
    ];
    let mut clients = Vec::new();
    for (user, gateway) in ["1", "2"].iter().zip(&gateways) {
        clients.push(Client::connect(gateway, user).await);
    }
    let long = "long".repeat(2000);
    for n in 0..MESSAGES {
        if n == MESSAGES / 3 {
            wait_for_events(&postgres, 2).await;
            postgres.stop();
        }
        for client in &mut clients {
            let topic = ["a", "nul\0", &long][n % 3];
            client.send_json(&json!({"topic": topic, "n": n})).await;
        }
        if n == MESSAGES / 3 * 2 {
            for gateway in &gateways {
                let away = |advice: &str| {
                    advice.contains("connection refused") && !advice.contains(" 0 events wait")
                };
                let advice = wait_for_advice(gateway, away).await;
                assert!(!advice.contains(PASSWORD), "{advice}");
            }
            postgres.up().await;
        }
    }
    for client in clients {
        client.close(None).await;
    }
    let total = 2 * (MESSAGES + 2);
    let delivered = webhook.wait_for(total).await;
    let archived = wait_for_events(&postgres, total).await;
    assert_eq!(archived.len(), total, "each once");
    let by_id = |events: &[Value]| -> BTreeMap<String, Value> {
        events
            .iter()
            .map(|event| (event["event_id"].to_string(), event.clone()))
            .collect()
    };
    assert_eq!(by_id(&archived), by_id(&delivered));
    for gateway in &gateways {
        wait_for_advice(gateway, |advice| advice == "ok").await;
        assert_secret_is_kept(gateway);
    }
    // Either gateway replays what both have archived, by a key that is too long for an index, too.
    let before = webhook.count();
    let body = json!({"since": 0, "ordering_key": long});
    let answer = gateways[0].post("/internal/replay/archive", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let wanted: Vec<_> = archived
        .iter()
        .filter(|event| event["ordering_key"] == body["ordering_key"])
        .map(|event| event["event_id"].clone())
        .collect();
    assert_eq!(wanted.len(), 2 * MESSAGES / 3);
    assert_eq!(answer.json(), json!({"replayed": wanted.len()}));
    let replayed: Vec<_> = webhook.received()[before..]
        .iter()
        .map(|request| request.event()["event_id"].clone())
        .collect();
    assert_eq!(replayed, wanted);
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let postgres = Postgres::start().await;
    postgres.stop();
    let webhook = Webhook::start().await;
    let gateway = archiving(&webhook, &postgres)
        .set("replay.retention_seconds", 8)
        .start()
        .await;
    wait_for_advice(&gateway, |advice| advice.contains("connection refused")).await;
    Client::connect(&gateway, "42").await.close(None).await;
    webhook.wait_for(2).await;
    postgres.up().await;
    // Before that the server answers and may have no table yet.
    wait_for_advice(&gateway, |advice| advice == "ok").await;
    let archived = wait_for_events(&postgres, 2).await;
    assert_eq!(archived.len(), 2);
    within("retention to delete them", async {
        while !events(&postgres).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_secret_is_kept(&gateway);
}
