//! The drain: when clients are told to come back, and that the process ends in time whoever does not play along.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Upgrade;
use support::raw::upgrade_request;
use support::webhook::free_address;
use support::{
    Client, Gateway, Raw, Redis, Reply, Setup, Webhook, eventually, signed, token, within,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// What the docs promise: the drain, as long again or 7 s, and 8 s.
fn limit(drain_seconds: f64) -> Duration {
    Duration::from_secs_f64(drain_seconds + drain_seconds.max(7.0) + 8.0)
}

/// Waits for the end, which must be clean and in time.
async fn ends_in_time(gateway: &Gateway, signalled: Instant, drain_seconds: f64) {
    assert_eq!(gateway.ended().await.code(), Some(0));
    let (took, limit) = (signalled.elapsed(), limit(drain_seconds));
    assert!(took <= limit, "{took:?} is more than {limit:?}");
}

fn after_ms(text: &str) -> f64 {
    let message: Value = serde_json::from_str(text).unwrap();
    assert_eq!(message["type"], "reconnect", "{text}");
    assert_eq!(message.as_object().unwrap().len(), 2, "{text}");
    message["after_ms"].as_u64().unwrap() as f64
}

/// The events, each once, that the webhook took or the dead-letter file keeps.
fn accounted(webhook: &Webhook, gateway: &Gateway) -> Vec<Value> {
    let mut events: HashMap<String, Value> = HashMap::new();
    let letters = gateway.dead_letters().into_iter().map(|letter| {
        let raw = letter["raw"].as_str().unwrap();
        serde_json::from_str::<Value>(raw).unwrap()
    });
    for event in webhook.events().into_iter().chain(letters) {
        events.insert(event["event_id"].as_str().unwrap().to_owned(), event);
    }
    events.into_values().collect()
}

/// Every connection has exactly its `connected` and `disconnected`; gives how many there are.
fn each_came_and_went(events: &[Value]) -> usize {
    let mut connections: HashMap<&str, Vec<&str>> = HashMap::new();
    for event in events {
        let kinds = connections
            .entry(event["connection_id"].as_str().unwrap())
            .or_default();
        kinds.push(event["type"].as_str().unwrap());
    }
    for (id, kinds) in &mut connections {
        kinds.sort_unstable();
        assert_eq!(*kinds, ["connected", "disconnected"], "{id}");
    }
    connections.len()
}

#[tokio::test]
async fn clients_are_told_when_to_reconnect_after_all_that_waits_for_them() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "0.2")
        .set("server.reconnect_spread_seconds", "30")
        .start()
        .await;
    let mut clients = Client::connect_all(&gateway, 0..40).await;
    // Nobody reads meanwhile, so that pushes are still on their way when the close is asked for.
    for user in 0..40 {
        for n in 0..5 {
            let subject = format!("user:{user}");
            assert_eq!(gateway.publish(&[&subject], json!(n)).await, 1);
        }
    }
    gateway.signal("TERM");
    let mut told = Vec::new();
    for client in &mut clients {
        let (texts, closed) = client.rest().await;
        assert_eq!(closed.code, 1001);
        let (hint, pushes) = texts.split_last().unwrap();
        let payloads: Vec<_> = pushes
            .iter()
            .map(|text| serde_json::from_str::<Value>(text).unwrap()["payload"].as_u64())
            .collect();
        assert_eq!(payloads, [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        told.push(after_ms(hint));
    }
    assert!(
        told.iter().all(|ms| (1.0..=30_200.0).contains(ms)),
        "{told:?}"
    );
    // Of 40 random times the chance that a half gets fewer than 4 is less than one in a million.
    for half in [1.0..15_000.0, 15_000.0..30_201.0] {
        let count = told.iter().filter(|ms| half.contains(*ms)).count();
        assert!(count >= 4, "{told:?} are not spread");
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn without_a_spread_clients_are_told_nothing() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "0.1")
        .set("server.reconnect_spread_seconds", "0")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    gateway.signal("TERM");
    let (texts, closed) = client.rest().await;
    assert_eq!((texts.len(), closed.code), (0, 1001));
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn only_those_who_are_sent_away_by_the_stop_are_told_to_reconnect() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    let answer = gateway
        .post("/internal/disconnect", &json!({"user_id": "42"}))
        .await;
    assert_eq!(answer.json()["disconnected"], 1);
    let (texts, closed) = client.rest().await;
    assert_eq!((texts.len(), closed.code), (0, 4403));
}

#[tokio::test]
async fn with_no_drain_time_all_are_closed_at_once_and_the_backend_is_told() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.drain_seconds", "0")
        .start()
        .await;
    let mut clients = Client::connect_all(&gateway, 0..20).await;
    let signalled = Instant::now();
    gateway.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1001);
    }
    ends_in_time(&gateway, signalled, 0.0).await;
    // A backend that answers gets the time to do so.
    assert_eq!(each_came_and_went(&webhook.events()), 20);
    assert!(gateway.dead_letters().is_empty());
}

#[tokio::test]
async fn the_drain_is_over_when_the_last_client_has_left_by_itself() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "3000")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["1", "2", "3"] {
        let mut client = Client::connect(&gateway, user).await;
        client.round_trip().await;
        clients.push(client);
    }
    gateway.signal("TERM");
    gateway.wait_for_log("draining", "").await;
    for client in clients {
        // One of them is being closed at this moment.
        client.reset();
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn clients_that_do_not_read_or_do_not_answer_hold_up_neither_the_others_nor_the_end() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("BACKPRESSURE_PER_CONN_BUFFER", 10_000)
        .set("server.drain_seconds", "1")
        .start()
        .await;
    let stuck = Upgrade::to(&gateway)
        .bearer(&token("stuck"))
        .receive_buffer(4096)
        .open()
        .await;
    let deaf = Raw::upgraded(&gateway, "deaf").await;
    let mut reads = Client::connect(&gateway, "reads").await;
    reads.round_trip().await;
    // More than the socket takes, so that the close frame cannot even leave.
    for _ in 0..40 {
        gateway
            .publish(&["user:stuck"], json!("x".repeat(100_000)))
            .await;
    }
    let signalled = Instant::now();
    gateway.signal("TERM");
    let (texts, closed) = reads.rest().await;
    assert_eq!((texts.len(), closed.code), (1, 1001));
    ends_in_time(&gateway, signalled, 1.0).await;
    assert_eq!(each_came_and_went(&accounted(&webhook, &gateway)), 3);
    drop((stuck, deaf));
}

#[tokio::test]
async fn a_webhook_that_hangs_and_clients_that_wait_for_room_do_not_hold_up_the_end() {
    for drain_seconds in ["0", "2"] {
        let webhook = Webhook::scripted(|_| Reply::Never).await;
        let gateway = Setup::default()
            .webhook(&webhook)
            .env("WEBHOOK_TIMEOUT_SECONDS", 600)
            .set("events.webhook.buffer.max_events", 30)
            .set("server.drain_seconds", drain_seconds)
            .start()
            .await;
        let mut clients = Vec::new();
        for user in 0..20 {
            let mut client = Client::connect(&gateway, &user.to_string()).await;
            client.send("{\"n\":1}").await;
            client.send("{\"n\":2}").await;
            clients.push(client);
        }
        // 20 `connected` and 10 messages fill the buffer; the other clients' first message has been read and waits.
        gateway
            .wait_for_metric("ws_messages_total", &[], 20.0)
            .await;
        let signalled = Instant::now();
        gateway.signal("TERM");
        for client in &mut clients {
            assert_eq!(client.closed().await.code, 1001);
        }
        ends_in_time(&gateway, signalled, drain_seconds.parse().unwrap()).await;
        let events = accounted(&webhook, &gateway);
        for kind in ["connected", "disconnected"] {
            let count = events.iter().filter(|event| event["type"] == kind).count();
            assert_eq!(count, 20, "{kind}");
        }
        let stopped = gateway.wait_for_log("stopped", "").await;
        assert_eq!(stopped["dead_lettered"], events.len(), "{stopped}");
        assert_eq!(stopped["lost"], 0, "{stopped}");
    }
}

const BOTH: &str = r#"
snoke_ws:
  server: { listen: "127.0.0.1:0", api_key: "${GATEWAY_API_KEY}", drain_seconds: 1, node_id: drained }
  stages:
    - auth: { jwt: { public_key_file: "${JWT_PUBLIC_KEY_FILE}" } }
    - ping_filter: {}
    - fan_out: { events_mode: both }
  transport:
    redis_stream: { dsn: "${REDIS_DSN}" }
  events:
    webhook: { url: "${SYMFONY_WEBHOOK_URL}", retry_attempts: 100000 }
    redis_stream: { dsn: "${REDIS_DSN}" }
    stdout: { enabled: true }
  presence: { type: redis, redis: { dsn: "${REDIS_DSN}" } }
  replay: { strategy: durable, archive: { dsn: "sqlite://archive.db" } }
"#;

#[tokio::test]
async fn with_every_broker_hanging_the_end_comes_in_time_and_all_is_kept() {
    let redis = Redis::start().await;
    let address = free_address().await;
    let gateway = Setup::default()
        .yaml(BOTH)
        .env("REDIS_DSN", redis.dsn())
        .env("SYMFONY_WEBHOOK_URL", format!("http://{address}/"))
        .start()
        .await;
    let mut clients = Client::connect_all(&gateway, 0..10).await;
    redis.freeze();
    for client in &mut clients {
        client.send("{\"n\":1}").await;
        client.round_trip().await;
    }
    let signalled = Instant::now();
    gateway.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1001);
    }
    ends_in_time(&gateway, signalled, 1.0).await;
    // The webhook's all, and at least what Redis had not taken before.
    let letters = gateway.dead_letters();
    let of = |sink: &str, kind: &str| {
        let fits = |letter: &&Value| {
            let raw = letter["raw"].as_str().unwrap();
            letter["sink"] == sink && serde_json::from_str::<Value>(raw).unwrap()["type"] == kind
        };
        letters.iter().filter(fits).count()
    };
    for kind in ["connected", "message_received", "disconnected"] {
        assert_eq!(of("webhook", kind), 10, "{kind}");
    }
    for kind in ["message_received", "disconnected"] {
        assert_eq!(of("redis", kind), 10, "{kind}");
    }
    eventually("all lines", || {
        (gateway.stdout().lines().count() == 30).then_some(())
    })
    .await;
    let stopped = gateway.wait_for_log("stopped", "").await;
    assert_eq!(stopped["lost"], 0, "{stopped}");
}

#[tokio::test]
async fn pushes_from_a_broker_reach_clients_that_are_not_closed_yet() {
    let redis = Redis::start().await;
    let gateway = Setup::default()
        .yaml(BOTH)
        .env("REDIS_DSN", redis.dsn())
        .env("SYMFONY_WEBHOOK_URL", "")
        .set("server.drain_seconds", "3000")
        .set("fan_out.events_mode", "broker")
        .start()
        .await;
    let mut first = Client::connect(&gateway, "1").await;
    let mut second = Client::connect(&gateway, "2").await;
    first.round_trip().await;
    second.round_trip().await;
    gateway.signal("TERM");
    let left = gateway.wait_for_connections(1).await;
    let user = left[0]["user_id"].as_str().unwrap();
    redis
        .push("ws.outbox", &[&format!("user:{user}")], json!("still here"))
        .await;
    let stays = if user == "1" { &mut first } else { &mut second };
    assert_eq!(stays.json().await["payload"], "still here");
}

#[tokio::test]
async fn upgrades_that_come_all_the_time_end_with_the_gateway() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.drain_seconds", "0.5")
        .start()
        .await;
    let address = gateway.address;
    let token = signed(json!({"user_id": "flood", "exp": support::now() + 3600}));
    let request = upgrade_request(&format!("Authorization: Bearer {token}\r\n"));
    let flood: Vec<_> = (0..8)
        .map(|_| {
            let request = request.clone();
            tokio::spawn(async move {
                let (mut upgraded, mut refused) = (0, 0);
                // Until nobody listens any more.
                while let Ok(Ok(mut stream)) = tokio::time::timeout(
                    Duration::from_secs(10),
                    tokio::net::TcpStream::connect(address),
                )
                .await
                {
                    if stream.write_all(request.as_bytes()).await.is_err() {
                        continue;
                    }
                    let mut head = [0; 12];
                    if stream.read_exact(&mut head).await.is_err() {
                        // The process ended in between.
                        continue;
                    }
                    match &head {
                        b"HTTP/1.1 101" => upgraded += 1,
                        b"HTTP/1.1 503" => refused += 1,
                        other => panic!("{}", String::from_utf8_lossy(other)),
                    }
                }
                (upgraded, refused)
            })
        })
        .collect();
    gateway
        .wait_for_metric("ws_connections_total", &[], 200.0)
        .await;
    let signalled = Instant::now();
    gateway.signal("TERM");
    ends_in_time(&gateway, signalled, 0.5).await;
    let (mut upgraded, mut refused) = (0, 0);
    for task in flood {
        let (more_upgraded, more_refused) = within("the flood's end", task).await.unwrap();
        upgraded += more_upgraded;
        refused += more_refused;
    }
    assert!(upgraded >= 200 && refused > 0, "{upgraded}, {refused}");
    let told = each_came_and_went(&accounted(&webhook, &gateway));
    assert!(told >= upgraded, "{told} of {upgraded}");
}

#[tokio::test]
async fn while_draining_refusals_name_a_time_to_come_back() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "3000")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["1", "2"] {
        let mut client = Client::connect(&gateway, user).await;
        client.round_trip().await;
        clients.push(client);
    }
    gateway.signal("TERM");
    gateway.wait_for_log("draining", "").await;
    let refused = Upgrade::to(&gateway).bearer(&token("3")).refused().await;
    assert_eq!(refused.status(), 503);
    let seconds: u64 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=10).contains(&seconds), "{seconds}");
    gateway
        .wait_for_metric("wsgw_upgrades_refused_total", &["draining"], 1.0)
        .await;
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_whatever_the_first_one_waits_for() {
    let webhook = Webhook::scripted(|_| Reply::Never).await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_TIMEOUT_SECONDS", 600)
        .set("server.drain_seconds", "3000")
        .start()
        .await;
    let mut deaf = Raw::upgraded(&gateway, "deaf").await;
    webhook.wait_for_requests(1).await;
    gateway.signal("TERM");
    while deaf.next().await.unwrap().close_code().is_none() {}
    // The client is waited for, then the webhook would be for the better part of an hour.
    eventually("the buffer to be waited for", || {
        gateway
            .logs()
            .iter()
            .any(|line| line["event"] == "ws_disconnected")
            .then_some(())
    })
    .await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(1));
}
