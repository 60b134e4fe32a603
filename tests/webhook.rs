//! Delivery by webhook: what a request looks like, what is retried, and where the rest goes.

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

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::webhook::free_address;
use support::{Client, Gateway, Received, Reply, Setup, Webhook, eventually, now};

const SECRET: &str = "a webhook secret of some length";

fn tag(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    for part in parts {
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

/// One request of each type, signed by a secret in a form.
async fn signed_requests(secret: &str, form: Option<&str>) -> Vec<Received> {
    let webhook = Webhook::start().await;
    let mut setup = Setup::default()
        .webhook(&webhook)
        .env("SYMFONY_WEBHOOK_SECRET", secret);
    if let Some(form) = form {
        setup = setup.set("events.webhook.signature", form);
    }
    let gateway = setup.start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client
        .send("{\"type\":\"chat\",\"payload\":\"żółć \\\"quoted\\\" 😀\"}")
        .await;
    client.send_binary(vec![0; 3000]).await;
    client.close(None).await;
    webhook.wait_for(4).await;
    webhook.received()
}

#[tokio::test]
async fn a_request_is_a_post_of_one_json_event() {
    for request in signed_requests("", None).await {
        assert_eq!(
            (request.method.as_str(), request.path.as_str()),
            ("POST", "/events")
        );
        assert!(
            request
                .header("content-type")
                .starts_with("application/json")
        );
        assert_eq!(
            request.header("content-length"),
            request.body.len().to_string()
        );
        assert!(request.event()["event_id"].is_string());
        assert_eq!(
            request.header("x-webhook-signature"),
            "",
            "without a secret nothing is signed"
        );
        assert_eq!(request.header("webhook-signature"), "");
    }
}

#[tokio::test]
async fn standard_signatures_verify_against_the_exact_body() {
    for form in [None, Some("standard")] {
        for request in signed_requests(SECRET, form).await {
            assert_standard(&request, SECRET, SECRET.as_bytes());
        }
    }
}

#[tokio::test]
async fn a_whsec_secret_is_base64_for_the_standard_signature_only() {
    let key = b"thirty-two bytes of random bits!";
    let secret = format!("whsec_{}", STANDARD.encode(key));
    for request in signed_requests(&secret, None).await {
        assert_standard(&request, &secret, key);
    }
}

fn assert_standard(request: &Received, raw_secret: &str, key: &[u8]) {
    let body = &request.body;
    let expected = format!("sha256={}", hex(&tag(raw_secret.as_bytes(), &[body])));
    assert_eq!(request.header("x-webhook-signature"), expected);
    let (id, timestamp) = (
        request.header("webhook-id"),
        request.header("webhook-timestamp"),
    );
    assert_eq!(request.event()["event_id"], id);
    assert!(timestamp.parse::<u64>().unwrap().abs_diff(now()) < 120);
    let expected = tag(key, &[format!("{id}.{timestamp}.").as_bytes(), body]);
    assert_eq!(
        request.header("webhook-signature"),
        format!("v1,{}", STANDARD.encode(expected))
    );
}

#[tokio::test]
async fn symfony_signatures_verify_against_the_exact_body() {
    for request in signed_requests(SECRET, Some("symfony")).await {
        let event = request.event();
        assert_eq!(event["type"], request.header("webhook-event"));
        assert_eq!(event["event_id"], request.header("webhook-id"));
        let parts = [
            request.header("webhook-event").as_bytes(),
            request.header("webhook-id").as_bytes(),
            &request.body,
        ];
        let expected = format!("sha256={}", hex(&tag(SECRET.as_bytes(), &parts)));
        assert_eq!(request.header("webhook-signature"), expected);
        let expected = format!("sha256={}", hex(&tag(SECRET.as_bytes(), &[&request.body])));
        assert_eq!(request.header("x-webhook-signature"), expected);
    }
}

/// Answers the first try of a message as its field `reply` says, and everything else by 204.
async fn first_try_as_told() -> Webhook {
    Webhook::scripted(|request| {
        let event = request.event();
        let told = &event["message"]["reply"];
        if request.earlier > 0 || told.is_null() {
            return Reply::Status(204);
        }
        match (told.as_str(), told.as_u64()) {
            (Some("reset"), _) => Reply::Reset,
            (Some("never"), _) => Reply::Never,
            (_, Some(status)) => Reply::Status(u16::try_from(status).unwrap()),
            _ => panic!("{event}"),
        }
    })
    .await
}

fn tries_of(requests: &[Received], reply: &Value) -> Vec<Received> {
    requests
        .iter()
        .filter(|request| request.event()["message"]["reply"] == *reply)
        .cloned()
        .collect()
}

#[tokio::test]
async fn what_may_pass_is_retried_with_the_same_event() {
    let webhook = first_try_as_told().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("SYMFONY_WEBHOOK_SECRET", SECRET)
        .env("WEBHOOK_TIMEOUT_SECONDS", "1")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let replies = [
        json!(500),
        json!(502),
        json!(503),
        json!(504),
        json!(408),
        json!(425),
        json!(429),
        json!("reset"),
        json!("never"),
    ];
    for reply in &replies {
        client.send_json(&json!({"reply": reply})).await;
    }
    webhook.wait_for(1 + replies.len()).await;
    let requests = webhook.received();
    for reply in &replies {
        let tries = tries_of(&requests, reply);
        assert_eq!(tries.len(), 2, "{reply}: once refused, once taken");
        assert_eq!(
            tries[0].body, tries[1].body,
            "{reply}: the event is the same, its id too"
        );
        for request in &tries {
            assert_standard(request, SECRET, SECRET.as_bytes());
        }
        assert_eq!(tries[0].header("webhook-id"), tries[1].header("webhook-id"));
    }
    assert_eq!(gateway.metric("webhook_publish_total", &[]).await, 10.0);
    assert_eq!(
        gateway.metric("webhook_publish_failed_total", &[]).await,
        0.0
    );
    assert!(gateway.dead_letters().is_empty());
}

#[tokio::test]
async fn any_2xx_is_delivered() {
    let webhook = first_try_as_told().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for status in [200, 201, 202, 204, 299] {
        client.send_json(&json!({"reply": status})).await;
    }
    webhook.wait_for(6).await;
    client.send("{\"type\":\"last\"}").await;
    webhook.wait_for(7).await;
    assert_eq!(webhook.count(), 7, "nothing came twice");
}

#[tokio::test]
async fn what_cannot_pass_goes_to_the_dead_letters_at_once() {
    let webhook = Webhook::scripted(|request| {
        let status = request.event()["message"]["reply"].as_u64().unwrap_or(204);
        Reply::With(
            u16::try_from(status).unwrap(),
            vec![("location", "/elsewhere".into())],
        )
    })
    .await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_RETRY_ATTEMPTS", 5)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    let statuses = [400, 401, 403, 404, 410, 422, 301, 302, 303, 307, 308];
    for status in statuses {
        client.send_json(&json!({"reply": status})).await;
    }
    client.send("{\"type\":\"last\"}").await;
    webhook.wait_for(2).await;
    let letters = eventually("the dead letters", || {
        Some(gateway.dead_letters()).filter(|letters| letters.len() >= statuses.len())
    })
    .await;
    let requests = webhook.received();
    assert!(
        requests.iter().all(|request| request.path == "/events"),
        "no redirect is followed"
    );
    assert_eq!(letters.len(), statuses.len());
    for status in statuses {
        let tries = tries_of(&requests, &json!(status));
        assert_eq!(tries.len(), 1, "{status} is not retried");
        assert_dead_letter(&letters, &tries[0], &status.to_string());
    }
    let failed = gateway.metric("webhook_publish_failed_total", &[]).await;
    assert!((failed - statuses.len() as f64).abs() < 0.1, "{failed}");
}

/// One dead letter must be of this request's event, with its reason and its exact text.
fn assert_dead_letter(letters: &[Value], request: &Received, reason_has: &str) {
    let event = request.event();
    let of_event: Vec<&Value> = letters
        .iter()
        .filter(|letter| letter["event_id"] == event["event_id"])
        .collect();
    assert_eq!(
        of_event.len(),
        1,
        "one dead letter of {event} in {letters:?}"
    );
    let letter = of_event[0];
    assert_eq!(letter["sink"], "webhook");
    assert_eq!(
        letter["raw"],
        request.text(),
        "the event as it would have been delivered"
    );
    let reason = letter["reason"].as_str().unwrap();
    assert!(reason.contains(reason_has), "{letter}");
    assert!(!letter["failed_at"].is_null(), "{letter}");
}

#[tokio::test]
async fn retry_attempts_counts_all_tries() {
    for (attempts, tries) in [("1", 1), ("4", 4), ("", 3)] {
        let webhook = Webhook::scripted(|request| match request.event()["message"]["fail"] {
            Value::Null => Reply::Status(204),
            _ => Reply::Status(500),
        })
        .await;
        let gateway = Setup::default()
            .webhook(&webhook)
            .env("WEBHOOK_RETRY_ATTEMPTS", attempts)
            .start()
            .await;
        let mut client = Client::connect(&gateway, "42").await;
        client.send("{\"fail\":1}").await;
        client.send("{\"type\":\"after\"}").await;
        let letters = eventually("the dead letter", || {
            Some(gateway.dead_letters()).filter(|l| !l.is_empty())
        })
        .await;
        let events = webhook.wait_for(2).await;
        assert_eq!(
            events[1]["message"]["type"], "after",
            "the next event has its turn"
        );
        let failed = tries_of(&webhook.received(), &Value::Null);
        let failed: Vec<_> = failed
            .iter()
            .filter(|r| !r.event()["message"]["fail"].is_null())
            .collect();
        assert_eq!(failed.len(), tries, "WEBHOOK_RETRY_ATTEMPTS={attempts:?}");
        assert_dead_letter(&letters, failed[0], "500");
        assert_eq!(
            gateway.metric("webhook_publish_failed_total", &[]).await,
            1.0
        );
        assert!(
            gateway
                .metric("wsgw_dead_letters_total", &["webhook"])
                .await
                >= 1.0
        );
    }
}

#[tokio::test]
async fn retries_back_off() {
    let webhook = Webhook::scripted(|_| Reply::Status(500)).await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_RETRY_ATTEMPTS", 5)
        .env("WEBHOOK_RETRY_BASE_SECONDS", "0.2")
        .start()
        .await;
    let _client = Client::connect(&gateway, "42").await;
    let requests = webhook.wait_for_requests(5).await;
    let gap = |n: usize| requests[n].at - requests[n - 1].at;
    // Whatever the jitter, four waits of 0.2, 0.4, 0.8 and 1.6 s are not done in the time of the first two.
    let all: Duration = (1..5).map(gap).sum();
    assert!(
        all > Duration::from_millis(600),
        "five tries within {all:?}"
    );
}

#[tokio::test]
async fn retry_after_is_respected_on_429_and_503() {
    let webhook = Webhook::scripted(|request| {
        if request.earlier > 0 {
            return Reply::Status(204);
        }
        match request.event()["message"]["status"].as_u64() {
            None => Reply::Status(204),
            Some(status) => Reply::With(
                u16::try_from(status).unwrap(),
                vec![("retry-after", "2".into())],
            ),
        }
    })
    .await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut clients = Vec::new();
    for status in [429, 503] {
        let mut client = Client::connect(&gateway, &status.to_string()).await;
        client.send_json(&json!({"status": status})).await;
        clients.push(client);
    }
    webhook.wait_for(4).await;
    for status in [429, 503] {
        let requests = webhook.received();
        let tries: Vec<_> = requests
            .iter()
            .filter(|r| r.event()["message"]["status"] == status)
            .collect();
        let waited = tries[1].at - tries[0].at;
        assert!(
            waited >= Duration::from_millis(1990),
            "{status}: retried after {waited:?}"
        );
    }
}

#[tokio::test]
async fn a_backend_that_is_down_at_the_start_gets_everything_once_it_is_up() {
    let address = free_address().await;
    let gateway = Setup::default()
        .env("SYMFONY_WEBHOOK_URL", format!("http://{address}/events"))
        .env("WEBHOOK_RETRY_ATTEMPTS", 100_000)
        .set("events.webhook.retry_max_seconds", "0.2")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..50 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    client.round_trip().await;
    gateway
        .wait_for_metric("wsgw_sink_retries_total", &["webhook"], 3.0)
        .await;
    let webhook = Webhook::at(address, |_| Reply::Status(204)).await;
    let events = webhook.wait_for(51).await;
    let seqs: Vec<_> = events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=51).collect::<Vec<_>>());
    assert!(gateway.dead_letters().is_empty());
}

#[tokio::test]
async fn a_backend_that_restarts_loses_nothing() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_RETRY_ATTEMPTS", 100_000)
        .set("events.webhook.retry_max_seconds", "0.2")
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send("{\"n\":0}").await;
    webhook.wait_for(2).await;
    let address = webhook.address();
    drop(webhook);
    for n in 1..20 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    gateway
        .wait_for_metric("wsgw_sink_retries_total", &["webhook"], 1.0)
        .await;
    let webhook = Webhook::at(address, |_| Reply::Status(204)).await;
    let events = webhook.wait_for(19).await;
    let seqs: Vec<_> = events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (3..=21).collect::<Vec<_>>());
}

#[tokio::test]
async fn tcp_connections_are_kept_and_used_again() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..100 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    webhook.wait_for(101).await;
    assert!(
        webhook.connections() <= 3,
        "{} TCP connections for 101 events",
        webhook.connections()
    );
}

#[tokio::test]
async fn a_key_that_fails_delays_only_itself() {
    let webhook = Webhook::scripted(
        |request| match request.event()["message"]["topic"].as_str() {
            Some("stuck") => Reply::Hold,
            Some("failing") if request.earlier < 5 => Reply::Status(503),
            _ => Reply::Status(204),
        },
    )
    .await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .env("ORDERING_STRATEGY", "topic")
        .env("WEBHOOK_RETRY_ATTEMPTS", 100)
        .env("WEBHOOK_TIMEOUT_SECONDS", 600)
        .start()
        .await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..30 {
        let topic = ["stuck", "failing", "fine"][n % 3];
        client.send_json(&json!({"topic": topic, "n": n})).await;
    }
    let events = webhook.wait_for(1 + 20).await;
    let of = |events: &[Value], topic: &str| -> Vec<u64> {
        let of_topic = events
            .iter()
            .filter(|event| event["message"]["topic"] == topic);
        of_topic
            .map(|event| event["message"]["n"].as_u64().unwrap())
            .collect()
    };
    assert_eq!(
        of(&events, "fine"),
        (0..10).map(|n| 3 * n + 2).collect::<Vec<_>>()
    );
    assert_eq!(
        of(&events, "failing"),
        (0..10).map(|n| 3 * n + 1).collect::<Vec<_>>()
    );
    assert_eq!(of(&events, "stuck"), [0_u64; 0]);
    let mut other = Client::connect(&gateway, "43").await;
    other.send("{\"topic\":\"other\"}").await;
    other.close(None).await;
    webhook.wait_for_type("43", "disconnected").await;
    webhook.release();
    let events = webhook.wait_for(1 + 30 + 3).await;
    assert_eq!(
        of(&events, "stuck"),
        (0..10).map(|n| 3 * n).collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn a_backend_that_says_nonsense_is_retried() {
    // A TCP server that answers no HTTP.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let server = tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.read(&mut [0; 8192]).await;
            let _ = socket.write_all(b"NONSENSE / 1\r\n\r\n").await;
            let _ = sender.send(());
        }
    });
    let gateway = Setup::default()
        .env("SYMFONY_WEBHOOK_URL", format!("http://{address}/"))
        .env("WEBHOOK_RETRY_ATTEMPTS", 3)
        .start()
        .await;
    let _client = Client::connect(&gateway, "42").await;
    for _ in 0..3 {
        support::within("a try", receiver.recv()).await;
    }
    let letters = eventually("the dead letter", || {
        Some(gateway.dead_letters()).filter(|l| !l.is_empty())
    })
    .await;
    assert_eq!(letters[0]["sink"], "webhook");
    server.abort();
}

#[tokio::test]
async fn without_a_webhook_clients_still_get_pushes() {
    let gateway = Gateway::start().await;
    let mut client = Client::connect(&gateway, "42").await;
    client.send("{\"type\":\"into the void\"}").await;
    client.round_trip().await;
    assert_eq!(gateway.publish(&["user:42"], json!("hello")).await, 1);
    assert_eq!(client.text().await, r#"{"type":"event","payload":"hello"}"#);
}
