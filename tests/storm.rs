//! Very many clients at once: all lost in one moment, or all sent away while the backend is slow.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::Value;
use support::raw::{op, upgrade_request};
use support::{Client, Gateway, Reply, Setup, Webhook, token, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// File descriptors that a process keeps for what is no client.
const SPARE: usize = 500;

/// Handshakes under way at once.
const AT_ONCE: usize = 64;

/// As many clients as wanted, or as the limit of file descriptors leaves room for; this process and the gateway have
/// the same.
fn clients(wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max open files"))
        .unwrap();
    let soft = line.split_whitespace().nth(3).unwrap();
    soft.parse().map_or(wanted, |limit: usize| {
        wanted.min(limit.saturating_sub(SPARE))
    })
}

/// Opens so many connections of a hundred users.
async fn open(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let requests: Vec<String> = (0..100)
        .map(|user| {
            let token = token(&user.to_string());
            upgrade_request(&format!("Authorization: Bearer {token}\r\n"))
        })
        .collect();
    stream::iter(0..count)
        .map(|n| upgraded(address, &requests[n % requests.len()]))
        .buffer_unordered(AT_ONCE)
        .collect()
        .await
}

async fn upgraded(address: SocketAddr, request: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    assert!(
        head.starts_with(b"HTTP/1.1 101 "),
        "{}",
        String::from_utf8_lossy(&head)
    );
    stream
}

/// Connects new clients one after the other until nobody of the others is left; gives the longest time that one had to
/// wait until it was served.
async fn longest_wait(gateway: &Gateway) -> Duration {
    let token = token("late");
    let mut longest = Duration::ZERO;
    loop {
        let started = Instant::now();
        let mut client = Client::with_token(gateway, &token).await;
        client.round_trip().await;
        longest = longest.max(started.elapsed());
        drop(client);
        if gateway.metric("ws_connections", &[]).await < 10.0 {
            return longest;
        }
    }
}

/// Times that a storm is tried: a machine that is busy with something else makes a client wait now and then, a lock that
/// is held for long always does.
const TRIES: usize = 3;

/// One storm at a time: each needs most of the sockets that a process may have.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn lose_all(reset: bool) {
    let _alone = ONE.lock().await;
    let webhook = Webhook::start().await;
    let gateway = Setup::default().webhook(&webhook).start().await;
    let count = clients(10_000);
    let opened = f64::from(u32::try_from(count).unwrap());
    let mut waits = Vec::new();
    while waits.len() < TRIES && waits.iter().all(|wait| *wait >= Duration::from_secs(1)) {
        let streams = open(gateway.address, count).await;
        gateway.wait_for_metric("ws_connections", &[], opened).await;
        if reset {
            for stream in &streams {
                socket2::SockRef::from(stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
        }
        // Closing ten thousand sockets takes a while; those who come meanwhile must not wait for it to end.
        let closing = tokio::task::spawn_blocking(move || drop(streams));
        waits.push(within("the storm to pass", longest_wait(&gateway)).await);
        closing.await.unwrap();
        gateway.wait_for_connections(0).await;
    }
    let longest = waits.pop().unwrap();
    assert!(
        longest < Duration::from_secs(1),
        "a new client waited for {longest:?}, before for {waits:?}, while {count} were lost"
    );
    // All of them are told, and nothing of them stays.
    let connections = gateway.metric("ws_connections_total", &[]).await;
    assert!(connections > opened);
    gateway
        .wait_for_metric("webhook_publish_total", &[], 2.0 * connections)
        .await;
    assert!(gateway.dead_letters().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_is_served_while_ten_thousand_leave_at_once() {
    lose_all(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_client_is_served_while_ten_thousand_are_reset_at_once() {
    lose_all(true).await;
}

/// Reads to the close frame and hangs up; gives the code.
async fn sent_away(mut stream: TcpStream) -> Option<u16> {
    loop {
        let first = stream.read_u8().await.ok()?;
        let length = stream.read_u8().await.ok()?;
        let mut payload = vec![0; usize::from(length)];
        stream.read_exact(&mut payload).await.ok()?;
        if first == op::FIN | op::CLOSE {
            return Some(u16::from_be_bytes([payload[0], payload[1]]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_are_sent_away_and_each_is_told_of_though_the_backend_is_slow() {
    let _alone = ONE.lock().await;
    let webhook = Webhook::scripted(|_| {
        Reply::After(Duration::from_millis(50), Box::new(Reply::Status(204)))
    })
    .await;
    let gateway = Setup::default()
        .webhook(&webhook)
        .set("server.drain_seconds", "4")
        .start()
        .await;
    let count = clients(5_000);
    let streams = open(gateway.address, count).await;
    let clients: Vec<_> = streams
        .into_iter()
        .map(|stream| tokio::spawn(sent_away(stream)))
        .collect();
    let signalled = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await.code(), Some(0));
    let took = signalled.elapsed();
    assert!(took < Duration::from_secs(4 + 7 + 8), "{took:?}");
    for client in clients {
        assert_eq!(client.await.unwrap(), Some(1001));
    }
    let letters = gateway.dead_letters().into_iter().map(|letter| {
        let raw = letter["raw"].as_str().unwrap();
        serde_json::from_str::<Value>(raw).unwrap()
    });
    let events: HashMap<String, Value> = webhook
        .events()
        .into_iter()
        .chain(letters)
        .map(|event| (event["event_id"].to_string(), event))
        .collect();
    assert_eq!(events.len(), 2 * count);
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    for event in events.values() {
        let kinds = told.entry(event["connection_id"].to_string()).or_default();
        kinds.push(event["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(told.len(), count);
    for kinds in told.values_mut() {
        kinds.sort_unstable();
        assert_eq!(*kinds, ["connected", "disconnected"]);
    }
    let stopped = gateway.wait_for_log("stopped", "").await;
    assert_eq!(stopped["lost"], 0, "{stopped}");
}

#[tokio::test]
async fn a_thousand_that_come_in_one_moment_find_room_in_the_kernel() {
    let somaxconn = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let room: usize = somaxconn.trim().parse().unwrap();
    let gateway = Setup::default().start().await;
    let address = gateway.address;
    // It accepts nobody meanwhile, so that the kernel alone takes them; what it has no room for waits a second at least.
    gateway.signal("STOP");
    let opening = (0..clients(1_000).min(room)).map(|_| TcpStream::connect(address));
    let opening = futures_util::future::try_join_all(opening);
    let opened = within("room for all of them", opening).await;
    gateway.signal("CONT");
    let mut opened = opened.unwrap();
    let request = format!("GET /health HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    for stream in &mut opened {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}
