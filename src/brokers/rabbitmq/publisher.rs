//! Publishes with publisher confirms: a window of messages goes out, then every confirm is awaited.
//!
//! Stands between the link and the sink, the dead letters and the replay.
//!
//! A returned (unroutable) message is told by its `message_id` and body: lapin hands it out with whichever confirm comes
//! next, which is another message's where the broker confirms several at once.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use lapin::message::{BasicReturnMessage, Delivery as Delivered};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Confirmation};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::channel::LinkChannel;
use super::error::LinkError;
use super::topology::Topology;
use super::{NAME, RabbitmqLink};
use crate::telemetry::throttle::Throttle;

/// Time between two tries to declare what the broker refused.
const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Time between two declarations because of a message that was returned.
const RETURNED_PAUSE: Duration = Duration::from_secs(5);

/// Time in which a lost connection's confirms are told apart: those that came before it was lost from the others.
const LOST_GRACE: Duration = Duration::from_secs(1);

/// Channels kept for later; more are opened when more publish at once.
const KEPT_CHANNELS: usize = 8;

/// One message to publish.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The exchange.
    pub exchange: ShortString,
    /// The routing key.
    pub routing_key: ShortString,
    /// The body.
    pub body: &'a [u8],
    /// The properties; a `message_id` tells apart which message of one body was returned.
    pub properties: BasicProperties,
}

/// What became of one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Confirmed,
    /// No queue is bound for it.
    Returned,
    /// The broker could not keep it, and may another time.
    Nacked,
    /// Nobody knows.
    Unknown(LinkError),
}

/// What to do while the broker refuses what is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenRefused {
    /// Wait before the next try: whoever publishes tries again anyway.
    Wait,
    /// Fail at once: whoever publishes can turn elsewhere.
    Fail,
}

/// Publishes to what it declares first, on every connection.
pub struct Publisher {
    link: Arc<RabbitmqLink>,
    part: &'static str,
    topology: Topology,
    when_refused: WhenRefused,
    declared: tokio::sync::Mutex<Declared>,
    channels: Mutex<Vec<LinkChannel>>,
    refused_lines: Throttle,
}

#[derive(Default)]
struct Declared {
    /// On which connection, if it still stands.
    connection: Option<u64>,
    at: Option<Instant>,
    refused: Option<(Instant, LinkError)>,
}

impl Publisher {
    /// Makes a publisher, whose name is told in `/ready` when the broker refuses what it declares.
    #[must_use]
    pub fn new(
        link: Arc<RabbitmqLink>,
        part: &'static str,
        topology: Topology,
        when_refused: WhenRefused,
    ) -> Self {
        Self {
            link,
            part,
            topology,
            when_refused,
            declared: tokio::sync::Mutex::default(),
            channels: Mutex::default(),
            refused_lines: Throttle::default(),
        }
    }

    /// The link it publishes on.
    #[must_use]
    pub fn link(&self) -> &Arc<RabbitmqLink> {
        &self.link
    }

    /// Declares what it publishes to, unless that stands already.
    ///
    /// # Errors
    /// When there is no connection, or the broker refuses.
    pub async fn declare(&self) -> Result<(), LinkError> {
        let mut declared = self.declared.lock().await;
        if let Some((until, error)) = &declared.refused {
            match self.when_refused {
                WhenRefused::Wait => tokio::time::sleep_until(*until).await,
                WhenRefused::Fail if Instant::now() < *until => return Err(error.clone()),
                WhenRefused::Fail => {}
            }
        }
        if declared.connection.is_some() && declared.connection == self.link.connection() {
            return Ok(());
        }
        let channel = self.link.channel().await?;
        match self.topology.declare(&channel).await {
            Ok(_) => {
                *declared = Declared {
                    connection: Some(channel.connection()),
                    at: Some(Instant::now()),
                    refused: None,
                };
                drop(declared);
                self.link.report(self.part, None);
                channel.close().await;
                Ok(())
            }
            Err(error) => {
                if error.is_refusal() {
                    self.tell_refused(&error);
                    declared.refused = Some((Instant::now() + REFUSED_PAUSE, error.clone()));
                }
                Err(error)
            }
        }
    }

    /// Declares on every connection as soon as it is there, and again for as long as the broker refuses.
    ///
    /// So queues are there before the first message, and `/ready` tells early what is wrong.
    pub async fn keep_declared(self: Arc<Self>) {
        let mut known = 0;
        loop {
            known = self.link.connection_after(known).await;
            while self.link.connection() == Some(known) {
                match self.declare().await {
                    Ok(()) => break,
                    // Trying again waits as long as refusals are to be waited for.
                    Err(error) if error.is_refusal() => {}
                    Err(_) => tokio::time::sleep(REFUSED_PAUSE).await,
                }
            }
        }
    }

    fn tell_refused(&self, error: &LinkError) {
        self.link.report(self.part, Some(error.to_string()));
        if let Some(suppressed) = self.refused_lines.pass() {
            tracing::error!(
                event = "broker_topology_refused",
                broker = NAME,
                address = self.link.address(),
                part = self.part,
                reason = %error,
                suppressed,
            );
        }
    }

    /// Publishes messages and awaits what becomes of each, in their order.
    ///
    /// Takes as long as the broker takes: a broker that blocks publishers is waited for.
    ///
    /// # Errors
    /// When none was published: there is no connection, or the broker refuses what is declared.
    pub async fn publish(&self, messages: &[Outgoing<'_>]) -> Result<Vec<Outcome>, LinkError> {
        let channel = self.open().await?;
        let outcomes = outcomes(&channel, messages).await;
        let mut fit = channel.is_usable();
        let (mut refused, mut returned) = (false, false);
        for outcome in &outcomes {
            match outcome {
                Outcome::Unknown(error) => {
                    fit = false;
                    refused |= error.is_refusal();
                }
                Outcome::Returned => returned = true,
                Outcome::Confirmed | Outcome::Nacked => {}
            }
        }
        if refused || returned {
            self.doubt(refused).await;
        }
        if fit {
            let mut channels = self.channels.lock();
            if channels.len() < KEPT_CHANNELS {
                channels.push(channel);
            }
        }
        Ok(outcomes)
    }

    /// Someone may have deleted what was declared.
    async fn doubt(&self, certainly: bool) {
        let mut declared = self.declared.lock().await;
        if certainly || declared.at.is_none_or(|at| at.elapsed() > RETURNED_PAUSE) {
            declared.connection = None;
        }
    }

    /// Takes a kept channel or opens one, after everything is declared on its connection.
    async fn open(&self) -> Result<LinkChannel, LinkError> {
        loop {
            let Some(kept) = self.channels.lock().pop() else {
                break;
            };
            if kept.is_usable() && self.stands_on(kept.connection()) {
                return Ok(kept);
            }
        }
        self.declare().await?;
        let channel = self.link.channel().await?;
        let confirms = channel
            .raw()
            .confirm_select(ConfirmSelectOptions::default());
        channel.answer(confirms).await?;
        Ok(channel)
    }

    fn stands_on(&self, connection: u64) -> bool {
        // Whoever holds the lock declares, or doubts: then a new channel is the safe way.
        self.declared
            .try_lock()
            .is_ok_and(|declared| declared.connection == Some(connection))
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher")
            .field("link", &self.link)
            .field("part", &self.part)
            .finish_non_exhaustive()
    }
}

/// Publishes all, and gives what became of each, also when the connection is lost meanwhile.
async fn outcomes(channel: &LinkChannel, messages: &[Outgoing<'_>]) -> Vec<Outcome> {
    let mut window = pin!(window(channel, messages));
    let error = match channel.unless_lost(&mut window).await {
        Ok(outcomes) => return outcomes,
        Err(error) => error,
    };
    // Some may have been confirmed before; for the others the end of the connection comes as an error of their own.
    match tokio::time::timeout(LOST_GRACE, window).await {
        Ok(outcomes) => outcomes,
        Err(_) => vec![Outcome::Unknown(error); messages.len()],
    }
}

/// Publishes all, then awaits all confirms.
async fn window(channel: &LinkChannel, messages: &[Outgoing<'_>]) -> Vec<Outcome> {
    let options = BasicPublishOptions {
        mandatory: true,
        immediate: false,
    };
    // A message goes to lapin's queue when its future is polled first, and the future is done when the frames are
    // written: each is polled once here, in order, so that the thread that writes finds many to write at once.
    let mut publishing: Vec<_> = messages
        .iter()
        .map(|message| {
            Box::pin(channel.raw().basic_publish(
                message.exchange.clone(),
                message.routing_key.clone(),
                options,
                message.body,
                message.properties.clone(),
            ))
        })
        .collect();
    let mut written: Vec<_> = publishing
        .iter_mut()
        .map(|publishing| publishing.as_mut().now_or_never())
        .collect();
    let mut outcomes = Vec::with_capacity(messages.len());
    let mut returned = Vec::new();
    for (at, (publishing, written)) in publishing.into_iter().zip(&mut written).enumerate() {
        let confirm = match written.take() {
            Some(result) => result,
            None => publishing.await,
        };
        let confirmation = match confirm {
            Ok(confirm) => confirm.await,
            Err(error) => Err(error),
        };
        outcomes.push(match confirmation {
            Ok(Confirmation::Ack(message)) => {
                returned.extend(message.map(|message| (at, message)));
                Outcome::Confirmed
            }
            Ok(Confirmation::Nack(message)) => {
                returned.extend(message.map(|message| (at, message)));
                Outcome::Nacked
            }
            Ok(Confirmation::NotRequested) => {
                Outcome::Unknown(LinkError::Lost("the channel confirms nothing".to_owned()))
            }
            Err(error) => Outcome::Unknown(error.into()),
        });
    }
    attribute(messages, &returned, &mut outcomes);
    outcomes
}

/// Finds the messages that were returned, each of which came with some confirm of the window.
fn attribute(
    messages: &[Outgoing<'_>],
    returned: &[(usize, BasicReturnMessage)],
    outcomes: &mut [Outcome],
) {
    if returned.is_empty() {
        return;
    }
    // Of several that are alike any may stand for any other.
    let mut places: HashMap<(Option<&str>, &[u8]), Vec<usize>> = HashMap::new();
    for (at, message) in messages.iter().enumerate().rev() {
        let id = message_id(&message.properties);
        places.entry((id, message.body)).or_default().push(at);
    }
    for (at, message) in returned {
        let Delivered {
            properties, data, ..
        } = &message.delivery;
        let place = places
            .get_mut(&(message_id(properties), data.as_slice()))
            .and_then(Vec::pop);
        outcomes[place.unwrap_or(*at)] = Outcome::Returned;
    }
}

fn message_id(properties: &BasicProperties) -> Option<&str> {
    properties.message_id().as_ref().map(ShortString::as_str)
}
