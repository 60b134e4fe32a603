//! Nothing is lost and order holds while the backend is slow and fails now and then.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rand::Rng as _;
use serde_json::{Value, json};
use support::{Client, Gateway, Received, Reply, Setup, Webhook};

/// One try in so many fails.
const ONE_IN: u32 = 10;

/// Delays at random, and answers one in ten by 503.
fn moody(longest: Duration) -> impl Fn(&Received) -> Reply + Send + Sync + 'static {
    move |_| {
        let mut rng = rand::rng();
        let status = if rng.random_ratio(1, ONE_IN) {
            503
        } else {
            204
        };
        // Half of the answers come at once, since a timer's shortest time is long on a busy machine.
        if rng.random_bool(0.5) {
            return Reply::Status(status);
        }
        Reply::After(
            longest.mul_f64(rng.random()),
            Box::new(Reply::Status(status)),
        )
    }
}

fn patient(webhook: &Webhook) -> Setup {
    Setup::default()
        .webhook(webhook)
        .env("WEBHOOK_RETRY_ATTEMPTS", 1000)
        .env("WEBHOOK_RETRY_BASE_SECONDS", "0.001")
        .env("WEBHOOK_TIMEOUT_SECONDS", 60)
        .set("events.webhook.retry_max_seconds", "0.01")
}

/// Connects, sends its share and closes; the pings in between leave the gateway's pushes room.
async fn chatter(
    gateway: Arc<Gateway>,
    user: usize,
    messages: usize,
    message: fn(usize, usize) -> Value,
) {
    let mut client = Client::connect(&gateway, &user.to_string()).await;
    for n in 0..messages {
        client.feed(message(user, n).to_string()).await;
        if n % 100 == 99 {
            client.round_trip().await;
        }
    }
    client.flush().await;
    client.close(Some((1000, ""))).await;
}

/// What must hold of every try that ever came in.
fn assert_nothing_lost(
    received: &[Received],
    connections: usize,
    messages: usize,
) -> BTreeMap<String, Vec<Value>> {
    let mut content: HashMap<String, &[u8]> = HashMap::new();
    let mut taken: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let mut seen = std::collections::HashSet::new();
    for request in received {
        let event = request.event();
        let id = event["event_id"].as_str().unwrap().to_owned();
        let first = content.entry(id.clone()).or_insert(&request.body);
        assert_eq!(*first, &request.body[..], "one event_id, one content");
        if request.status == Some(204) && seen.insert(id) {
            taken
                .entry(event["user_id"].as_str().unwrap().into())
                .or_default()
                .push(event);
        }
    }
    assert_eq!(taken.len(), connections);
    for (user, events) in &taken {
        assert_eq!(events.len(), messages + 2, "user {user}");
        assert_eq!(events[0]["type"], "connected", "user {user}");
        assert_eq!(events[messages + 1]["type"], "disconnected", "user {user}");
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_arrives_in_its_connections_order() {
    const CONNECTIONS: usize = 20;
    const MESSAGES: usize = 2000;
    let webhook = Webhook::scripted(moody(Duration::from_millis(3))).await;
    let gateway = Arc::new(patient(&webhook).start().await);
    let mut clients = tokio::task::JoinSet::new();
    for user in 0..CONNECTIONS {
        clients.spawn(chatter(
            Arc::clone(&gateway),
            user,
            MESSAGES,
            |user, n| json!({"user": user, "n": n}),
        ));
    }
    // Far beyond one wait's patience, should the machine be slow.
    while clients.join_next().await.transpose().unwrap().is_some() {}
    let total = CONNECTIONS * (MESSAGES + 2);
    wait_for_total(&webhook, total).await;
    let taken = assert_nothing_lost(&webhook.received(), CONNECTIONS, MESSAGES);
    for (user, events) in &taken {
        for (at, event) in events.iter().enumerate() {
            assert_eq!(event["seq"], at + 1, "order of user {user}");
        }
        for (n, event) in events[1..=MESSAGES].iter().enumerate() {
            assert_eq!(
                event["message"]["n"], n,
                "the client's own count, user {user}"
            );
        }
    }
    assert!(webhook.count() > total, "some were refused and came again");
    assert!(gateway.dead_letters().is_empty());
}

/// Waits as long as there is progress.
async fn wait_for_total(webhook: &Webhook, total: usize) {
    let mut before = usize::MAX;
    loop {
        let count = webhook.delivered_count();
        if count >= total {
            return;
        }
        assert_ne!(
            count,
            before,
            "no event came for {:?}",
            support::PATIENCE / 4
        );
        before = count;
        let deadline = tokio::time::Instant::now() + support::PATIENCE / 4;
        while webhook.delivered_count() == count && tokio::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_one_key_keep_their_order_across_connections() {
    const CONNECTIONS: usize = 20;
    const MESSAGES: usize = 60;
    let overlaps = Arc::new(Overlaps::default());
    let webhook = Webhook::scripted({
        let (overlaps, moody) = (Arc::clone(&overlaps), moody(Duration::from_millis(2)));
        move |request| {
            overlaps.note(request);
            moody(request)
        }
    })
    .await;
    let setup = patient(&webhook).env("ORDERING_STRATEGY", "topic");
    let gateway = Arc::new(setup.start().await);
    let mut clients = tokio::task::JoinSet::new();
    for user in 0..CONNECTIONS {
        let message = |user, n| json!({"topic": "shared", "user": user, "n": n});
        clients.spawn(chatter(Arc::clone(&gateway), user, MESSAGES, message));
    }
    while clients.join_next().await.transpose().unwrap().is_some() {}
    wait_for_total(&webhook, CONNECTIONS * (MESSAGES + 2)).await;
    let taken = assert_nothing_lost(&webhook.received(), CONNECTIONS, MESSAGES);
    for (user, events) in &taken {
        for (n, event) in events[1..=MESSAGES].iter().enumerate() {
            assert_eq!(event["ordering_key"], "shared");
            assert_eq!(event["message"]["n"], n, "order of user {user}");
        }
    }
    assert_eq!(
        overlaps.steps_back.load(Ordering::SeqCst),
        0,
        "an event was tried before its predecessor was taken"
    );
}

/// Notes when a keyed event's first try comes while an earlier one of its key is still to be taken: from then on
/// that earlier one comes again after it.
#[derive(Default)]
struct Overlaps {
    newest: parking_lot::Mutex<Option<String>>,
    steps_back: AtomicUsize,
}

impl Overlaps {
    fn note(&self, request: &Received) {
        let event = request.event();
        if event.get("ordering_key").is_none() {
            return;
        }
        let id = event["event_id"].as_str().unwrap().to_owned();
        let mut newest = self.newest.lock();
        if request.earlier == 0 {
            *newest = Some(id);
        } else if newest.as_ref() != Some(&id) {
            self.steps_back.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_keys_order_is_that_in_which_the_gateway_read_across_connections() {
    const CLIENTS: usize = 4;
    const ROUNDS: usize = 100;
    let webhook = Webhook::scripted(moody(Duration::from_millis(2))).await;
    let gateway = patient(&webhook)
        .env("ORDERING_STRATEGY", "topic")
        .start()
        .await;
    let mut clients = Vec::new();
    for user in 0..CLIENTS {
        clients.push(Client::connect(&gateway, &user.to_string()).await);
    }
    let mut sent = 0;
    for _ in 0..ROUNDS {
        for client in &mut clients {
            client
                .send_json(&json!({"topic": "shared", "n": sent}))
                .await;
            // The pong says that the message was read, so that the next client's is read after it.
            client.round_trip().await;
            sent += 1;
        }
    }
    wait_for_total(&webhook, sent + CLIENTS).await;
    let events = webhook.events();
    let order: Vec<_> = events
        .iter()
        .filter_map(|event| event["message"]["n"].as_u64())
        .collect();
    assert_eq!(order, (0..sent as u64).collect::<Vec<_>>());
}
