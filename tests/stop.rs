//! Stopping: what clients, the backend and the operator see of SIGTERM and SIGINT.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use support::client::Upgrade;
use support::raw::upgrade_request;
use support::tokens::{claims, key_file};
use support::webhook::free_address;
use support::{Client, Gateway, PATIENCE, Raw, Reply, Setup, Webhook, eventually, token, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

async fn wait_until_draining(gateway: &Gateway) {
    within("/ready to be 503", async {
        loop {
            if gateway.get("/ready").await.status == 503 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// The code of the close frame, which neither is answered nor ends the connection on this side.
async fn told_to_close(client: &mut Raw) -> u16 {
    loop {
        let frame = client.next().await.unwrap();
        if let Some(code) = frame.close_code() {
            return code;
        }
    }
}

#[tokio::test]
async fn sigterm_closes_clients_with_1001_tells_the_backend_and_exits_0() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.drain_seconds", "1")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in 0..20 {
        let mut client = Client::connect(&gateway, &user.to_string()).await;
        client.send("{\"type\":\"last words\"}").await;
        client.round_trip().await;
        clients.push(client);
    }
    gateway.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1001);
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    let events = webhook.events();
    assert_eq!(events.len(), 60, "all is delivered before the process ends");
    for user in 0..20 {
        let user = user.to_string();
        let of_user: Vec<_> = events
            .iter()
            .filter(|event| event["user_id"] == user.as_str())
            .collect();
        let types: Vec<_> = of_user
            .iter()
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["connected", "message_received", "disconnected"]);
        assert_eq!(of_user[2]["close_code"], 1001);
    }
    assert!(gateway.dead_letters().is_empty());
}

/// Serves the key set of `tests/keys` twice: at once, and under another key id once it is told to.
async fn key_sets(asked: oneshot::Sender<()>, answer: oneshot::Receiver<()>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
    let first = String::from_utf8(key_file("rsa.jwks.json")).unwrap();
    let second = first.replace("\"test\"", "\"new\"");
    tokio::spawn(async move {
        send_keys(read_request(&listener).await, &first).await;
        let stream = read_request(&listener).await;
        asked.send(()).unwrap();
        answer.await.unwrap();
        send_keys(stream, &second).await;
    });
    url
}

async fn read_request(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await.unwrap());
    }
    stream
}

async fn send_keys(mut stream: TcpStream, keys: &str) {
    let length = keys.len();
    let head = format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(keys.as_bytes()).await.unwrap();
}

async fn request_upgrade(gateway: &Gateway, user: &str, kid: &str) -> Raw {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::RS256);
    header.kid = Some(kid.into());
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(&key_file("rsa.pem")).unwrap();
    let token = jsonwebtoken::encode(&header, &claims(user, json!({})), &key).unwrap();
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(upgrade_request(&format!("Authorization: Bearer {token}\r\n")).as_bytes())
        .await;
    raw
}

#[tokio::test]
async fn a_handshake_that_ends_while_draining_is_closed_and_the_backend_told() {
    let webhook = Webhook::start().await;
    let (asked, was_asked) = oneshot::channel();
    let (answer, answered) = oneshot::channel();
    let gateway = Setup::default()
        .webhook(&webhook)
        .without("JWT_PUBLIC_KEY_FILE")
        .env("JWT_JWKS_URL", key_sets(asked, answered).await)
        .set("server.drain_seconds", "0.1")
        .start()
        .await;
    // Never answers the close frame, and so keeps the gateway waiting for a while.
    let mut deaf = request_upgrade(&gateway, "deaf", "test").await;
    assert!(deaf.head().await.starts_with("HTTP/1.1 101 "));
    let mut late = request_upgrade(&gateway, "late", "new").await;
    within("the key set to be asked for again", was_asked)
        .await
        .unwrap();
    gateway.signal("TERM");
    assert_eq!(told_to_close(&mut deaf).await, 1001);
    // All that were registered have been closed by now.
    tokio::time::sleep(Duration::from_millis(200)).await;
    answer.send(()).unwrap();
    assert!(late.head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(told_to_close(&mut late).await, 1001);
    drop(late);
    assert_eq!(gateway.ended().await.code(), Some(0));
    let events = webhook.events();
    for user in ["deaf", "late"] {
        let types: Vec<_> = events
            .iter()
            .filter(|event| event["user_id"] == user)
            .map(|event| event["type"].as_str().unwrap())
            .collect();
        assert_eq!(types, ["connected", "disconnected"], "{user}");
    }
}

#[tokio::test]
async fn sigint_stops_as_sigterm_does() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.drain_seconds", "0.2")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.round_trip().await;
    gateway.signal("INT");
    assert_eq!(client.closed().await.code, 1001);
    assert_eq!(gateway.ended().await.code(), Some(0));
    assert_eq!(webhook.events().last().unwrap()["type"], "disconnected");
}

#[tokio::test]
async fn an_idle_gateway_stops_at_once() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "3000")
        .start()
        .await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn while_draining_ready_is_503_and_no_new_socket_is_taken() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "3000")
        .start()
        .await;
    let mut first = Client::connect(&gateway, "1").await;
    let mut second = Client::connect(&gateway, "2").await;
    first.round_trip().await;
    second.round_trip().await;
    gateway.signal("TERM");
    wait_until_draining(&gateway).await;
    let ready = gateway.get("/ready").await;
    assert_eq!(ready.json()["ok"], false);
    assert_eq!(gateway.get("/health").await.status, 200, "it still lives");
    assert!(
        Upgrade::to(&gateway)
            .bearer(&token("3"))
            .try_open()
            .await
            .is_err()
    );
    // Closes are spread over the drain time: of two connections one stays for half of it.
    let left = gateway.wait_for_connections(1).await;
    let user = left[0]["user_id"].as_str().unwrap();
    assert_eq!(
        gateway
            .publish(&[&format!("user:{user}")], json!("still here"))
            .await,
        1
    );
    let (stays, goes) = if user == "1" {
        (&mut first, &mut second)
    } else {
        (&mut second, &mut first)
    };
    assert_eq!(goes.closed().await.code, 1001);
    assert_eq!(stays.json().await["payload"], "still here");
    stays.round_trip().await;
    let log = gateway.logs();
    assert!(log.iter().all(|line| line["event"] != "stopped"));
}

#[tokio::test]
async fn with_the_webhook_down_what_is_left_is_dead_lettered_and_the_exit_is_0() {
    let address = free_address().await;
    let gateway = Setup::default()
        .env("SYMFONY_WEBHOOK_URL", format!("http://{address}/"))
        .env("WEBHOOK_RETRY_ATTEMPTS", 100_000)
        .set("server.drain_seconds", "1")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in ["1", "2", "3"] {
        let mut client = Client::connect(&gateway, user).await;
        for n in 0..10 {
            client.send(format!("{{\"n\":{n}}}")).await;
        }
        client.round_trip().await;
        clients.push(client);
    }
    gateway.signal("TERM");
    for client in &mut clients {
        assert_eq!(client.closed().await.code, 1001);
    }
    assert_eq!(gateway.ended().await.code(), Some(0));
    let letters = gateway.dead_letters();
    for user in ["1", "2", "3"] {
        let events = letters.iter().map(|letter| {
            assert_eq!(letter["sink"], "webhook");
            serde_json::from_str::<Value>(letter["raw"].as_str().unwrap()).unwrap()
        });
        let mut seqs: Vec<_> = events
            .filter(|e| e["user_id"] == user)
            .map(|e| e["seq"].as_u64().unwrap())
            .collect();
        seqs.sort_unstable();
        assert_eq!(
            seqs,
            (1..=12).collect::<Vec<_>>(),
            "every event of {user} is kept, each once"
        );
    }
    let logs = gateway.logs();
    let stopped = logs.iter().find(|line| line["event"] == "stopped").unwrap();
    assert_eq!(
        (&stopped["dead_lettered"], &stopped["lost"]),
        (&json!(36), &json!(0)),
        "and the log says so: {stopped}"
    );
}

#[tokio::test]
async fn events_under_delivery_when_the_signal_comes_are_delivered() {
    let webhook = Webhook::scripted(|_| Reply::Hold).await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_TIMEOUT_SECONDS", 600)
        .set("server.drain_seconds", "600")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..100 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    client.round_trip().await;
    webhook.wait_for_requests(1).await;
    gateway.signal("TERM");
    assert_eq!(client.closed().await.code, 1001);
    webhook.release();
    assert_eq!(gateway.ended().await.code(), Some(0));
    let seqs: Vec<_> = webhook
        .events()
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=102).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_second_signal_exits_1_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let gateway = Setup::default()
            .set("server.drain_seconds", "3000")
            .start()
            .await;
        let mut one = Client::connect(&gateway, "1").await;
        let mut two = Client::connect(&gateway, "2").await;
        one.round_trip().await;
        two.round_trip().await;
        gateway.signal(first);
        wait_until_draining(&gateway).await;
        let started = Instant::now();
        gateway.signal(second);
        assert_eq!(gateway.ended().await.code(), Some(1), "{first}, {second}");
        assert!(started.elapsed() < PATIENCE);
    }
}

#[tokio::test]
async fn a_client_that_ignores_the_close_frame_is_cut() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.drain_seconds", "0.1")
        .start()
        .await;
    let mut raw = Raw::upgraded(&gateway, "42").await;
    webhook.wait_for(1).await;
    gateway.signal("TERM");
    assert_eq!(told_to_close(&mut raw).await, 1001);
    // It neither answers nor hangs up.
    assert_eq!(gateway.ended().await.code(), Some(0));
    let event = webhook.events().pop().unwrap();
    assert_eq!(
        (&event["type"], &event["close_code"]),
        (&json!("disconnected"), &json!(1001))
    );
}

#[tokio::test]
async fn a_half_open_handshake_does_not_hold_up_the_end() {
    let gateway = Setup::default()
        .set("server.drain_seconds", "0.1")
        .set("server.handshake_timeout_seconds", "3000")
        .start()
        .await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.write(b"GET /ws HTTP/1.1\r\n").await;
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
}

#[tokio::test]
async fn hangup_does_not_end_the_process() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(&gateway, "42").await;
    gateway.signal("HUP");
    client.round_trip().await;
    eventually("a word about the reload in the log", || {
        gateway
            .logs()
            .iter()
            .any(|line| line["event"].as_str().is_some_and(|e| e.contains("reload")))
            .then_some(())
    })
    .await;
    client.round_trip().await;
    let answer = gateway
        .try_request(Method::GET, "/ready", &[], Vec::new())
        .await
        .unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn with_a_full_buffer_even_what_waits_for_room_is_accounted_for() {
    let webhook = Webhook::scripted(|_| Reply::Hold).await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_TIMEOUT_SECONDS", 600)
        .set("events.webhook.buffer.max_events", 10)
        .set("server.drain_seconds", "1")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..50 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    // `connected` and nine messages fill the buffer; the tenth message has been read and waits.
    gateway
        .wait_for_metric("ws_messages_total", &[], 10.0)
        .await;
    gateway.signal("TERM");
    assert_eq!(client.closed().await.code, 1001);
    assert_eq!(gateway.ended().await.code(), Some(0));
    let events = gateway.dead_letters();
    let mut seqs: Vec<_> = events
        .iter()
        .map(|letter| serde_json::from_str::<Value>(letter["raw"].as_str().unwrap()).unwrap())
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    seqs.sort_unstable();
    assert_eq!(
        seqs,
        (1..=12).collect::<Vec<_>>(),
        "ten messages between connected and disconnected"
    );
}
