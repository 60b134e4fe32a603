//! The link to one `RabbitMQ`: one connection that everything shares, and channels on it.
//!
//! Stands below everything that talks to `RabbitMQ`. It connects in the background and again whenever the connection
//! is lost; lapin's own recovery stays off, since it would declare and publish behind the back of those who decide
//! what is repeated. A dead peer is noticed by heartbeats.
//!
//! While the broker blocks publishers (memory or disk alarm) it reads nothing from the connection: whoever waits for
//! an answer then goes on waiting, without a timeout, and `/ready` is 503 and says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures_util::{Stream, StreamExt as _};
use lapin::Event;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::sync::{Notify, watch};
use tokio_util::task::AbortOnDropHandle;

use self::connect::{Connector, Socket};
use super::{BrokerConfig, DsnError};
use crate::api::{Owner, Readiness};
use crate::clock::seconds;
use crate::config::Secret;
use crate::telemetry::throttle::Throttle;

mod channel;
mod connect;
mod dsn;
mod error;
mod publisher;
mod topology;

pub use self::channel::LinkChannel;
pub use self::dsn::RabbitmqDsn;
pub use self::error::LinkError;
pub use self::publisher::{Outcome, Outgoing, Publisher, WhenRefused};
pub use self::topology::{Exchange, Queue, Topology, short};

/// The name of `RabbitMQ` in `/ready`, metrics and dead letters.
pub const NAME: &str = "rabbitmq";

/// The broker's code for what is not there.
const NOT_FOUND: u16 = 404;

/// Wait before the second try to connect.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// How often a connection is looked at, beside what it tells of itself.
const LOOK: Duration = Duration::from_secs(1);

/// What `/ready` says while there has been no connection yet.
const NOT_YET: &str = "not connected yet";

/// The link to one `RabbitMQ`.
pub struct RabbitmqLink {
    address: String,
    timeout: Duration,
    readiness: Arc<Readiness>,
    owner: Owner,
    /// Whether `/ready` depends on it.
    connects: IntCounter,
    required: AtomicBool,
    health: Mutex<Health>,
    /// The settings that name this broker.
    settings: Mutex<Vec<&'static str>>,
    state: watch::Sender<State>,
    /// Someone found the connection lost.
    suspect: Arc<Notify>,
    _task: AbortOnDropHandle<()>,
}

/// How the link and those that use it are.
#[derive(Debug)]
struct Health {
    link: Result<(), String>,
    parts: BTreeMap<&'static str, String>,
}

/// The connection now.
#[derive(Clone, Default)]
struct State {
    live: Option<Arc<Live>>,
    /// The broker takes no messages.
    blocked: bool,
}

/// A connection that was made.
struct Live {
    connection: lapin::Connection,
    /// Its place among this link's connections, from 1.
    number: u64,
    socket: Socket,
}

impl RabbitmqLink {
    /// Opens a link; connects in the background, and reconnects for ever until the last holder drops it; each
    /// connection is counted.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(
        dsn: &Secret,
        setting: &'static str,
        config: &BrokerConfig,
        (readiness, connects): (&Arc<Readiness>, IntCounter),
    ) -> Result<Arc<Self>, DsnError> {
        let dsn = RabbitmqDsn::parse(dsn.reveal())?;
        let address = dsn.address();
        let connector = Connector::new(dsn, config)?;
        let suspect = Arc::new(Notify::new());
        Ok(Arc::new_cyclic(|link| Self {
            address,
            timeout: seconds(config.response_timeout_seconds),
            owner: readiness.owner(),
            readiness: Arc::clone(readiness),
            connects,
            required: AtomicBool::new(false),
            settings: Mutex::new(vec![setting]),
            health: Mutex::new(Health {
                link: Err(NOT_YET.to_owned()),
                parts: BTreeMap::new(),
            }),
            state: watch::Sender::default(),
            suspect: Arc::clone(&suspect),
            _task: AbortOnDropHandle::new(tokio::spawn(keep_connected(
                Weak::clone(link),
                suspect,
                connector,
                seconds(config.reconnect_max_seconds),
            ))),
        }))
    }

    /// Where it leads, without credentials, for logs.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Notes the setting that a user of the link took its DSN from, for logs.
    pub(super) fn used_by(&self, setting: &'static str) {
        let mut settings = self.settings.lock();
        if !settings.contains(&setting) {
            settings.push(setting);
        }
    }

    fn setting(&self) -> String {
        self.settings.lock().join(", ")
    }

    /// Waits until it is connected.
    pub async fn connected(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.live.is_some()).await;
    }

    /// Whether it is connected now.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state.borrow().live.is_some()
    }

    /// Whether the broker takes no messages now, for want of memory or disk, say.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.state.borrow().blocked
    }

    /// The number of the connection now, from 1; none while there is none.
    #[must_use]
    pub fn connection(&self) -> Option<u64> {
        self.state.borrow().live.as_ref().map(|live| live.number)
    }

    /// Waits for a connection of another number than the one given, and gives its number.
    pub async fn connection_after(&self, known: u64) -> u64 {
        let mut state = self.state.subscribe();
        let other = |state: &State| state.live.as_ref().is_some_and(|live| live.number != known);
        match state.wait_for(other).await {
            Ok(state) => state.live.as_ref().map_or(known, |live| live.number),
            // The sender lives as long as `self`.
            Err(_) => known,
        }
    }

    /// Waits until the broker takes no messages, for want of memory or disk, say.
    pub async fn until_blocked(&self) {
        let mut state = self.state.subscribe();
        // The sender lives as long as `self`.
        let _ = state.wait_for(|state| state.blocked).await;
    }

    /// Makes `/ready` depend on this link from now on, for as long as it lives.
    pub fn require(&self) {
        self.required.store(true, Ordering::Relaxed);
        self.tell(|_| {});
    }

    /// Makes `/ready` no longer depend on this link, which only what ends still uses.
    pub(super) fn relinquish(&self) {
        let _health = self.health.lock();
        if self.required.swap(false, Ordering::Relaxed) {
            self.readiness.remove_parts_of(self.owner, NAME);
        }
    }

    /// Opens a channel; never waits for a connection.
    ///
    /// # Errors
    /// When there is no connection, or the broker refuses another channel.
    pub async fn channel(&self) -> Result<LinkChannel, LinkError> {
        let Some(live) = self.state.borrow().live.clone() else {
            return Err(LinkError::NotConnected);
        };
        let guard = channel::Guard::new(live.number, self.state.subscribe(), self.timeout);
        let opened = guard.answer(live.connection.create_channel()).await;
        if opened.is_err() {
            self.suspect.notify_one();
        }
        opened.map(|channel| LinkChannel::new(channel, guard))
    }

    /// How many messages of a queue nobody has been given; none where there is no such queue.
    ///
    /// # Errors
    /// When there is no connection, or the broker does not say.
    pub async fn ready_messages(&self, queue: ShortString) -> Result<Option<u64>, LinkError> {
        let channel = self.channel().await?;
        let options = QueueDeclareOptions {
            passive: true,
            ..QueueDeclareOptions::default()
        };
        let asking = channel
            .raw()
            .queue_declare(queue, options, FieldTable::default());
        match channel.answer(asking).await {
            Ok(queue) => {
                channel.close().await;
                Ok(Some(queue.message_count().into()))
            }
            // The broker has closed the channel with its answer.
            Err(LinkError::Refused { code, .. }) if code == NOT_FOUND => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says in `/ready` what is wrong with one that uses the link, or that all is well with it.
    pub fn report(&self, part: &'static str, fault: Option<String>) {
        self.tell(|health| {
            match fault {
                Some(fault) => health.parts.insert(part, fault),
                None => health.parts.remove(part),
            };
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Health)) {
        let mut health = self.health.lock();
        change(&mut health);
        if self.required.load(Ordering::Relaxed) {
            let result = match (&health.link, health.parts.iter().next()) {
                (Err(reason), _) => Err(reason.clone()),
                (Ok(()), Some((part, fault))) => Err(format!("{part}: {fault}")),
                (Ok(()), None) => Ok(()),
            };
            // Under the lock, so that an older word never replaces a newer one.
            self.readiness
                .set_part_by(self.owner, NAME, &self.address, result);
        }
    }

    fn up(&self, live: Live) {
        self.connects.inc();
        tracing::info!(
            event = "broker_connected",
            broker = NAME,
            address = self.address
        );
        self.state.send_replace(State {
            live: Some(Arc::new(live)),
            blocked: false,
        });
        self.tell(|health| health.link = Ok(()));
    }

    fn down(&self, reason: String) {
        let before = self.state.send_replace(State::default());
        if let Some(live) = before.live {
            live.socket.shut();
        }
        self.tell(|health| health.link = Err(reason));
    }

    fn blocked(&self, reason: Option<&str>) {
        self.state
            .send_modify(|state| state.blocked = reason.is_some());
        tracing::warn!(
            event = "broker_blocked",
            broker = NAME,
            address = self.address,
            blocked = reason.is_some(),
            reason = reason.unwrap_or_default(),
        );
        self.tell(|health| {
            health.link = match reason {
                Some(reason) => Err(format!("the broker blocks publishers: {reason}")),
                None => Ok(()),
            };
        });
    }
}

impl Drop for RabbitmqLink {
    fn drop(&mut self) {
        // Channels that are still held would keep the connection open.
        self.state.send_replace(State::default());
        self.relinquish();
    }
}

impl std::fmt::Debug for RabbitmqLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitmqLink")
            .field("address", &self.address)
            .field("connected", &self.is_connected())
            .finish_non_exhaustive()
    }
}

/// Connects, and again whenever the connection is lost; holds the link only for moments, so that it can go away.
async fn keep_connected(
    link: Weak<RabbitmqLink>,
    suspect: Arc<Notify>,
    connector: Connector,
    longest: Duration,
) {
    let (mut wait, mut number) = (FIRST_WAIT, 0);
    let (lost_lines, unreachable_lines) = (Throttle::default(), Throttle::default());
    loop {
        let connected = connector.connect().await;
        let Some(strong) = link.upgrade() else { return };
        match connected {
            Ok((connection, socket)) => {
                number += 1;
                let started = Instant::now();
                let status = connection.status().clone();
                let events = connection.events_listener();
                strong.up(Live {
                    connection,
                    number,
                    socket,
                });
                drop(strong);
                let reason = until_lost(&link, &suspect, &status, events).await;
                let Some(strong) = link.upgrade() else { return };
                if let Some(suppressed) = lost_lines.pass() {
                    let address = strong.address();
                    tracing::warn!(
                        event = "broker_lost",
                        broker = NAME,
                        address,
                        reason,
                        suppressed
                    );
                }
                strong.down(reason);
                // A broker that accepts and hangs up is not to be asked twenty times a second.
                if started.elapsed() > longest {
                    wait = FIRST_WAIT;
                }
            }
            Err(error) => {
                let reason = error.to_string();
                if let Some(suppressed) = unreachable_lines.pass() {
                    tracing::warn!(
                        event = "broker_unreachable",
                        broker = NAME,
                        address = strong.address(),
                        setting = strong.setting(),
                        reason,
                        suppressed
                    );
                }
                strong.tell(|health| health.link = Err(reason));
            }
        }
        tokio::time::sleep(wait.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        wait = (wait * 2).min(longest);
    }
}

/// Waits for the connection's end and gives its reason; tells the link when the broker blocks.
async fn until_lost(
    link: &Weak<RabbitmqLink>,
    suspect: &Notify,
    status: &lapin::ConnectionStatus,
    events: impl Stream<Item = Event>,
) -> String {
    let mut events = std::pin::pin!(events);
    let mut last = None;
    while status.connected() {
        let event = tokio::select! {
            biased;
            event = events.next() => event,
            () = suspect.notified() => None,
            () = tokio::time::sleep(LOOK) => None,
        };
        let Some(strong) = link.upgrade() else { break };
        match event {
            Some(Event::ConnectionBlocked(reason)) => strong.blocked(Some(&reason)),
            Some(Event::ConnectionUnblocked) => strong.blocked(None),
            Some(Event::Error(error)) => last = Some(LinkError::from(error)),
            _ => {}
        }
    }
    match last {
        Some(LinkError::Lost(reason)) => reason,
        Some(error) => error.to_string(),
        None => "closed".to_owned(),
    }
}
