//! Full buffers towards the backend, and clients that read too slowly.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::client::Upgrade;
use support::tokens::claims;
use support::{Client, Gateway, Reply, Setup, Webhook, eventually, signed, token};

const OVERLOADED: &str = r#"{"type":"overloaded"}"#;
const BUFFER: usize = 10;

/// A webhook that holds every answer, and a gateway in front of it.
async fn stuck_with(settings: impl FnOnce(Setup) -> Setup) -> (Webhook, Gateway) {
    let webhook = Webhook::scripted(|_| Reply::Hold).await;
    let setup = Setup::default()
        .webhook(&webhook)
        .env("WEBHOOK_TIMEOUT_SECONDS", 600);
    let gateway = settings(setup).start().await;
    (webhook, gateway)
}

/// The same with a small buffer.
async fn stuck(on_full: &str) -> (Webhook, Gateway) {
    stuck_with(|setup| {
        setup
            .set("events.webhook.buffer.max_events", BUFFER)
            .set("stages.fan_out.on_full", on_full)
    })
    .await
}

fn seqs(events: &[Value]) -> Vec<u64> {
    events
        .iter()
        .map(|event| event["seq"].as_u64().unwrap())
        .collect()
}

#[tokio::test]
async fn wait_pauses_reading_and_loses_nothing() {
    const MESSAGES: usize = 200;
    let (webhook, gateway) = stuck("wait").await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..MESSAGES {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    client.send(r#"{"type":"ping"}"#).await;
    // `connected` and nine messages fill the buffer; a tenth one waits for room.
    gateway
        .wait_for_metric("ws_messages_total", &[], BUFFER as f64)
        .await;
    let unanswered = tokio::time::timeout(Duration::from_millis(500), client.text()).await;
    assert!(
        unanswered.is_err(),
        "the ping lies unread behind the messages"
    );
    let read = gateway.metric("ws_messages_total", &[]).await;
    assert!(read <= BUFFER as f64 + 1.0, "{read} messages were read");
    assert_eq!(gateway.publish(&["user:42"], json!("meanwhile")).await, 1);
    assert_eq!(
        client.json().await["payload"],
        "meanwhile",
        "pushes go on while reading is paused"
    );
    webhook.release();
    assert_eq!(client.text().await, r#"{"type":"pong"}"#);
    let events = webhook.wait_for(1 + MESSAGES).await;
    assert_eq!(seqs(&events), (1..=201).collect::<Vec<_>>());
}

#[tokio::test]
async fn wait_is_the_default_and_slows_the_client_by_tcp() {
    let (webhook, gateway) =
        stuck_with(|setup| setup.set("events.webhook.buffer.max_events", BUFFER)).await;
    let mut client = Client::connect(&gateway, "42").await;
    let before = gateway.resident_bytes();
    let message = "x".repeat(60_000);
    let mut sent = 0_u64;
    // A gateway that went on reading would take these 60 MB within moments.
    let writing = async {
        while sent < 1000 {
            client.send(message.as_str()).await;
            sent += 1;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(3), writing)
            .await
            .is_err(),
        "all was taken"
    );
    let grown = gateway.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "{grown} bytes");
    webhook.release();
    webhook.wait_for(1 + usize::try_from(sent).unwrap()).await;
}

#[tokio::test]
async fn a_buffer_is_bounded_in_bytes_too() {
    let (_webhook, gateway) = stuck_with(|setup| {
        setup
            .set("events.webhook.buffer.max_bytes", 200_000)
            .set("stages.fan_out.on_full", "reject")
    })
    .await;
    let mut client = Client::connect(&gateway, "42").await;
    let message = "x".repeat(20_000);
    let mut taken = 0;
    loop {
        client.send(message.as_str()).await;
        client.send(r#"{"type":"ping"}"#).await;
        if client.text().await == OVERLOADED {
            break;
        }
        taken += 1;
        assert!(taken <= 10, "{taken} messages of 20 kB in 200 kB");
    }
    assert!(taken >= 3, "only {taken} messages of 20 kB in 200 kB");
}

#[tokio::test]
async fn reject_answers_overloaded_and_publishes_nothing() {
    let (webhook, gateway) = stuck("reject").await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..50 {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    client.send(r#"{"type":"ping"}"#).await;
    let mut rejected = 0;
    loop {
        match client.text().await.as_str() {
            OVERLOADED => rejected += 1,
            r#"{"type":"pong"}"# => break,
            other => panic!("{other}"),
        }
    }
    assert_eq!(
        rejected,
        50 - (BUFFER - 1),
        "the buffer holds connected and nine messages"
    );
    webhook.release();
    webhook.wait_for(BUFFER).await;
    client.send("{\"n\":\"after\"}").await;
    client.close(None).await;
    let events = webhook.wait_for(BUFFER + 2).await;
    assert_eq!(
        seqs(&events),
        (1..=12).collect::<Vec<_>>(),
        "no gap in seq, and nothing of what was refused"
    );
    assert_eq!(events[10]["message"]["n"], "after");
}

#[tokio::test]
async fn close_closes_with_1013() {
    let (webhook, gateway) = stuck("close").await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..BUFFER {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    assert_eq!(client.closed().await.code, 1013);
    webhook.release();
    let end = webhook.wait_for_type("42", "disconnected").await;
    assert_eq!(
        (&end["close_code"], &end["seq"]),
        (&json!(1013), &json!(11))
    );
    let mut next = Client::connect(&gateway, "43").await;
    next.send("{\"n\":0}").await;
    next.round_trip().await;
}

#[tokio::test]
async fn large_messages_stay_unread_while_many_bytes_wait() {
    const CLIENTS: usize = 20;
    const WAITING: f64 = 150_000.0;
    let (webhook, gateway) = stuck_with(|setup| {
        setup
            .set("events.webhook.buffer.max_bytes", 100_000)
            .set("server.max_waiting_bytes", WAITING)
            .set("server.ping_interval_seconds", 2)
            .set("server.pong_timeout_seconds", 2)
    })
    .await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(Client::connect(&gateway, &n.to_string()).await);
    }
    let mut quiet = Client::connect(&gateway, "quiet").await;
    let message = "x".repeat(60_000);
    for client in &mut clients {
        client.send(message.as_str()).await;
    }
    gateway
        .wait_for_metric("wsgw_waiting_message_bytes", &[], WAITING)
        .await;
    // Whoever sends and leaves counts as much as whoever stays.
    let leaves = tokio::spawn(clients.pop().unwrap().close(Some((1000, "bye"))));
    // Heartbeats, which those who are held up cannot answer.
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(500)).await;
        quiet.send(r#"{"type":"ping"}"#).await;
        assert_eq!(quiet.text().await, r#"{"type":"pong"}"#);
        let waiting = gateway.metric("wsgw_waiting_message_bytes", &[]).await;
        // The last one that was let in, and one on each of the other threads.
        assert!(waiting < WAITING + 8.0 * 60_000.0, "{waiting} bytes wait");
    }
    let disconnects = gateway.metric("ws_disconnects_total", &[]).await;
    assert!(disconnects.abs() < 0.5, "{disconnects} were cut");
    webhook.release();
    leaves.await.unwrap();
    webhook
        .wait_for_type(&(CLIENTS - 1).to_string(), "disconnected")
        .await;
    // Those that did not read meanwhile may have been cut by now, which loses nothing.
    eventually("all messages", || {
        let events = webhook.events();
        let messages = events.iter().filter(|event| event["raw"] == message);
        (messages.count() == CLIENTS).then_some(())
    })
    .await;
    let waiting = gateway.metric("wsgw_waiting_message_bytes", &[]).await;
    assert!(waiting.abs() < 0.5, "{waiting} bytes still wait");
}

#[tokio::test]
async fn a_client_that_hangs_up_while_it_waits_loses_nothing() {
    let (webhook, gateway) = stuck("wait").await;
    let mut client = Client::connect(&gateway, "42").await;
    for n in 0..BUFFER {
        client.send(format!("{{\"n\":{n}}}")).await;
    }
    gateway
        .wait_for_metric("ws_messages_total", &[], BUFFER as f64)
        .await;
    client.reset();
    webhook.release();
    webhook.wait_for_type("42", "disconnected").await;
    let events = webhook.events();
    assert_eq!(seqs(&events), (1..=12).collect::<Vec<_>>());
}

/// Bytes of one push's padding.
const PAD: usize = 64 * 1024;

/// A client that does not read, one that does, both with the subject `all`.
async fn slow_and_quick(setup: Setup) -> (Gateway, Client, Client) {
    let gateway = setup
        .env("BACKPRESSURE_PER_CONN_BUFFER", 8)
        // The slow one must not be found out by its pings.
        .set("server.ping_interval_seconds", 3000)
        .start()
        .await;
    let of = |user: &str| signed(claims(user, json!({"subjects": ["all"]})));
    let slow = Upgrade::to(&gateway)
        .bearer(&of("slow"))
        .receive_buffer(4096)
        .open()
        .await;
    let mut quick = Client::with_token(&gateway, &of("quick")).await;
    quick.round_trip().await;
    gateway.wait_for_connections(2).await;
    (gateway, slow, quick)
}

/// Pushes to both until `enough` says so; the quick one must get each before the next one is sent.
async fn push_until(
    gateway: &Gateway,
    quick: &mut Client,
    mut enough: impl AsyncFnMut(u64) -> bool,
) -> (u64, u64) {
    let pad = "x".repeat(PAD);
    let before = gateway.resident_bytes();
    let (mut n, mut most) = (0, 0);
    loop {
        let sent = gateway.publish(&["all"], json!({"n": n, "pad": pad})).await;
        assert!(sent >= 1, "push {n} reached nobody");
        assert_eq!(
            quick.json().await["payload"]["n"],
            n,
            "the quick one gets each push"
        );
        n += 1;
        most = most.max(gateway.resident_bytes().saturating_sub(before));
        if enough(sent).await {
            return (n, most);
        }
        assert!(
            n < 4000,
            "{n} pushes of 64 KiB and the slow one is still not noticed"
        );
    }
}

/// The numbers of the pushes that the slow one gets once it reads, and how its connection ends.
async fn drained(gateway: &Gateway, slow: &mut Client) -> (Vec<u64>, u16) {
    gateway
        .post("/internal/disconnect", &json!({"user_id": "slow"}))
        .await;
    let (texts, closed) = slow.rest().await;
    let number = |text: &String| {
        serde_json::from_str::<Value>(text).unwrap()["payload"]["n"]
            .as_u64()
            .unwrap()
    };
    (texts.iter().map(number).collect(), closed.code)
}

/// Pushes enough for an unbounded buffer to show.
const MANY: u64 = 1200;

#[tokio::test]
async fn drop_oldest_keeps_the_newest_for_a_slow_reader_and_slows_nobody() {
    let setup = Setup::default()
        .env("BACKPRESSURE_STRATEGY", "drop")
        .env("BACKPRESSURE_DROP_POLICY", "oldest");
    let (gateway, mut slow, mut quick) = slow_and_quick(setup).await;
    let mut pushes = 0;
    let (count, most) = push_until(&gateway, &mut quick, async |sent| {
        assert_eq!(sent, 2, "each is queued, and an older one lost for it");
        pushes += 1;
        pushes == MANY
    })
    .await;
    assert!(
        most < 40 << 20,
        "{most} bytes more for {} bytes of pushes",
        count * PAD as u64
    );
    assert!(
        gateway
            .metric("wsgw_pushes_dropped_total", &["oldest"])
            .await
            >= 1.0
    );
    let (got, code) = drained(&gateway, &mut slow).await;
    assert_eq!(code, 4403);
    assert!(got.is_sorted(), "in order");
    assert!((got.len() as u64) < count, "some were dropped");
    assert_eq!(
        got[got.len() - 8..],
        (count - 8..count).collect::<Vec<_>>(),
        "the newest are those that waited"
    );
}

#[tokio::test]
async fn drop_newest_keeps_the_oldest_for_a_slow_reader_and_slows_nobody() {
    let setup = Setup::default()
        .env("BACKPRESSURE_STRATEGY", "drop")
        .env("BACKPRESSURE_DROP_POLICY", "newest");
    let (gateway, mut slow, mut quick) = slow_and_quick(setup).await;
    let (mut pushes, mut queued) = (0, 0);
    let (count, most) = push_until(&gateway, &mut quick, async |sent| {
        pushes += 1;
        queued += u64::from(sent == 2);
        pushes == MANY
    })
    .await;
    assert!(
        most < 40 << 20,
        "{most} bytes more for {} bytes of pushes",
        count * PAD as u64
    );
    let (got, code) = drained(&gateway, &mut slow).await;
    assert_eq!(code, 4403);
    assert!(got.is_sorted(), "in order");
    assert_eq!(
        got.len() as u64,
        queued,
        "it gets what `sent` counted for it"
    );
    assert!(queued < count, "the newest were lost");
    let whole = got.iter().zip(0..).take_while(|(got, n)| *got == n).count();
    assert!(
        whole >= 8,
        "the first ones are whole: {:?}",
        &got[..20.min(got.len())]
    );
}

#[tokio::test]
async fn close_tells_a_slow_reader_by_4408_and_slows_nobody() {
    let webhook = Webhook::start().await;
    let setup = Setup::default()
        .webhook(&webhook)
        .env("BACKPRESSURE_STRATEGY", "close");
    let (gateway, mut slow, mut quick) = slow_and_quick(setup).await;
    let (_, most) = push_until(&gateway, &mut quick, async |sent| sent == 1).await;
    let started = Instant::now();
    let (texts, closed) = slow.rest().await;
    assert!(!texts.is_empty(), "what was written before arrives");
    // It is cut if it does not come to the close frame in time.
    if started.elapsed() < Duration::from_secs(3) {
        assert_eq!(closed.code, 4408);
    }
    assert!(most < 40 << 20, "{most} bytes more");
    let end = webhook.wait_for_type("slow", "disconnected").await;
    assert_eq!(end["close_code"], 4408);
    quick.round_trip().await;
}

#[tokio::test]
async fn a_slow_reader_that_never_reads_again_is_cut() {
    let webhook = Webhook::start().await;
    let setup = Setup::default()
        .webhook(&webhook)
        .env("BACKPRESSURE_STRATEGY", "close");
    let (gateway, slow, mut quick) = slow_and_quick(setup).await;
    push_until(&gateway, &mut quick, async |sent| sent == 1).await;
    let end = webhook.wait_for_type("slow", "disconnected").await;
    assert_eq!(end["close_code"], 4408);
    gateway.wait_for_connections(1).await;
    drop(slow);
}

#[tokio::test]
async fn a_slow_reader_does_not_answer_pings_and_is_cut() {
    let webhook = Webhook::start().await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.ping_interval_seconds", "0.5")
        .set("server.pong_timeout_seconds", "0.5")
        .env("BACKPRESSURE_PER_CONN_BUFFER", 1_000_000)
        .set("backpressure.per_conn_bytes", 1 << 30)
        .start()
        .await;
    let slow = Upgrade::to(&gateway)
        .bearer(&token("slow"))
        .receive_buffer(4096)
        .open()
        .await;
    let pad = "x".repeat(PAD);
    for _ in 0..200 {
        gateway.publish(&["user:slow"], json!(pad)).await;
    }
    let end = webhook.wait_for_type("slow", "disconnected").await;
    assert!(
        [json!(4408), json!(1006)].contains(&end["close_code"]),
        "{end}"
    );
    drop(slow);
}

#[tokio::test]
async fn the_gateways_total_of_waiting_pushes_is_bounded() {
    const TOTAL: usize = 20;
    let gateway = Setup::default()
        .env("BACKPRESSURE_STRATEGY", "drop")
        .env("BACKPRESSURE_PER_CONN_BUFFER", 1000)
        .env("BACKPRESSURE_GLOBAL_BUFFER", TOTAL)
        .set("server.ping_interval_seconds", 3000)
        .start()
        .await;
    let mut slow = Vec::new();
    for user in 0..4 {
        let token = signed(claims(&user.to_string(), json!({"subjects": ["all"]})));
        slow.push(
            Upgrade::to(&gateway)
                .bearer(&token)
                .receive_buffer(4096)
                .open()
                .await,
        );
    }
    gateway.wait_for_connections(4).await;
    let pad = "x".repeat(PAD);
    for _ in 0..250 {
        gateway.publish(&["all"], json!(pad)).await;
        let waiting = gateway.metric("wsgw_outbox_waiting", &[]).await;
        assert!(waiting <= TOTAL as f64, "{waiting} wait");
    }
    assert!(gateway.metric("wsgw_pushes_dropped_total", &[]).await >= 1.0);
}
