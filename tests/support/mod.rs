//! What the integration tests share: the real binary, a real webhook receiver, real and malformed clients.
//!
//! # Layout
//!
//! - [`gateway`] starts `wsgw run` in a directory of its own and reads its logs.
//! - [`reload`] gives it another pipeline file while it runs.
//! - [`webhook`] is the backend: an HTTP server that records every request and answers by a script.
//! - [`collector`] takes the gateway's spans, as OpenTelemetry's collectors do.
//! - [`erase`] runs `wsgw erase` beside gateways that write.
//! - [`client`] speaks WebSocket properly, [`raw`] writes whatever bytes it is told.
//! - [`redis`] is a real Redis server of a test's own, [`redis_groups`] several that belong together.
//! - [`rabbitmq`] is a real `RabbitMQ` of a test program's own.
//! - [`postgres`] is a real `PostgreSQL` server of a test's own.
//! - [`archive`] reads the gateway's archive, [`replay`] fills its dead letters and calls its replay API.
//! - [`bench`] runs the gateway's load tool.
//! - [`terminal`] is a real pseudo terminal.
//! - [`tokens`] signs JSON Web Tokens with the keys of `tests/keys`.
//!
//! Nothing here sleeps to synchronise: [`eventually`] polls, with a deadline that only a hang reaches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "a test fails by panicking"
)]
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "each test file is a program of its own and uses its part of this"
)]

use std::future::Future;
use std::time::{Duration, Instant};

pub mod archive;
pub mod bench;
pub mod client;
pub mod collector;
pub mod erase;
pub mod gateway;
pub mod postgres;
pub mod rabbitmq;
pub mod raw;
pub mod redis;
pub mod redis_groups;
pub mod reload;
pub mod replay;
pub mod terminal;
pub mod tokens;
pub mod webhook;

pub use client::{Client, Frame};
pub use gateway::{API_KEY, Gateway, Setup};
pub use rabbitmq::{Broker, BrokerSetup};
pub use raw::Raw;
pub use redis::{Redis, RedisSetup};
pub use redis_groups::{RedisCluster, RedisSentinel};
pub use tokens::{now, signed, token};
pub use webhook::{Received, Reply, Webhook};

/// Longer than anything takes on a busy machine; reached only by a hang.
pub const PATIENCE: Duration = Duration::from_mins(1);

const POLL: Duration = Duration::from_millis(10);

/// Polls until the closure gives something.
#[track_caller]
pub fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> impl Future<Output = T> {
    let caller = std::panic::Location::caller();
    poll_until(format!("{what} ({caller})"), PATIENCE, look)
}

async fn poll_until<T>(what: String, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        tokio::time::sleep(POLL).await;
    }
}

/// Awaits something that must not hang.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let Ok(value) = tokio::time::timeout(PATIENCE, future).await else {
        panic!("waited in vain for: {what}");
    };
    value
}

/// Polls until the asynchronous look finds that it is so.
pub async fn until<F: Future<Output = bool>>(what: &str, mut look: impl FnMut() -> F) {
    within(what, async {
        while !look().await {
            tokio::time::sleep(POLL).await;
        }
    })
    .await;
}

/// A port that nobody listens on now.
///
/// Not an ephemeral one, which any connection of this machine may be given before the server binds it.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let tries = std::iter::repeat_with(|| rand::random_range(20_000..32_000));
    tries
        .take(200)
        .find(is_free)
        .expect("a free port between 20000 and 32000")
}

/// A path below the crate's root.
pub fn in_crate(path: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}
