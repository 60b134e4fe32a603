//! Keeps dead letters in a durable `RabbitMQ` queue, and gives them back.
//!
//! Stands behind the deliveries and the sources as a dead-letter target, and behind the replay API as a store. What
//! an expired or rejected message of the gateway's own queues becomes arrives in the same queue, put there by the
//! broker.
//!
//! # Looking and moving
//! `RabbitMQ` has no way to look into a queue: [`list`](DeadLetterStore::list) gets messages without acknowledging
//! them and gives them back, to their old places as far as the broker can, and marked as redelivered. Meanwhile
//! nobody else sees them, so in one gateway a list and a replay wait for each other. A replay gets a window of messages,
//! publishes their copies, and acknowledges each once the broker confirmed its copy: when the gateway or the broker ends
//! in between, messages of one window may be there twice, with one `message_id`, never not at all; and two replays
//! never get the same message.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions, ExchangeDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{BasicProperties, ExchangeKind};

use super::dead_letter::{DeadLetter, DeadLetterError, DeadLetters, StoreFuture};
use super::rabbitmq::{
    PERSISTENT, declare_dead_letters, declare_inbox, inbox_made_of, shards, text,
};
use crate::brokers::rabbitmq::{
    LinkChannel, LinkError, NAME, Outcome, Outgoing, Publisher, RabbitmqLink, Topology,
    WhenRefused, short,
};
use crate::config::{Config, DeadLetterQueueConfig};
use crate::replay::{DeadLetterStore, ReplayError, StoredLetter};
use crate::stages::ordering_key::Partitions;

/// Tries to keep one dead letter: the second after what someone deleted was declared again.
const TRIES: usize = 2;

/// Letters that are moved at once, and their bytes, so that large ones are not all held in memory.
const WINDOW: usize = 256;
const WINDOW_BYTES: usize = 4 << 20;

/// AMQP's code for what is not there.
const NOT_FOUND: u16 = 404;

/// The queue of dead letters.
pub struct RabbitmqDeadLetters {
    publisher: Publisher,
    exchange: ShortString,
    queue: ShortString,
    target_exchange: ShortString,
    /// What is declared where the target is missing: the inbox, if that is the target.
    inbox: Option<Topology>,
    target_routing_key: ShortString,
    /// With shards, if the target is the inbox: the routing key of each.
    shards: Vec<ShortString>,
    partitions: Partitions,
    max_batch: usize,
    /// Held by whoever looks into the queue or moves what is in it.
    looking: tokio::sync::Mutex<()>,
}

/// What [`RabbitmqDeadLetters::new`] reads of a configuration, besides the link.
pub(super) fn made_of(config: &Config) -> impl PartialEq {
    (&config.replay.rabbitmq, inbox_made_of(config))
}

impl RabbitmqDeadLetters {
    /// Makes the target of a configuration, on a link.
    ///
    /// # Errors
    /// When a name is longer than AMQP allows.
    pub fn new(config: &Config, link: Arc<RabbitmqLink>) -> Result<Self, LinkError> {
        let mut topology = Topology::default();
        let DeadLetterQueueConfig { exchange, queue } = &config.events.dead_letters.rabbitmq;
        declare_dead_letters(&mut topology, &config.events.dead_letters.rabbitmq)?;
        let replay = &config.replay.rabbitmq;
        let sink = &config.events.rabbitmq;
        let or = |own: &str, other: &str| short(if own.is_empty() { other } else { own });
        let target_exchange = or(&replay.target_exchange, &sink.inbox_exchange)?;
        let mut inbox = None;
        if target_exchange.as_str() == sink.inbox_exchange {
            declare_inbox(inbox.insert(Topology::default()), config)?;
        }
        let partitions =
            if replay.target_exchange.is_empty() && replay.target_routing_key.is_empty() {
                Partitions::of(config)
            } else {
                Partitions::One
            };
        Ok(Self {
            shards: shards(&sink.inbox_routing_key, partitions)?,
            partitions,
            publisher: Publisher::new(link, "dead letters", topology, WhenRefused::Fail),
            exchange: short(exchange)?,
            queue: short(queue)?,
            target_exchange,
            inbox,
            target_routing_key: or(&replay.target_routing_key, &sink.inbox_routing_key)?,
            max_batch: replay.max_batch,
            looking: tokio::sync::Mutex::default(),
        })
    }

    async fn keep(&self, letter: &DeadLetter) -> Result<(), DeadLetterError> {
        let mut headers = FieldTable::default();
        headers.insert("reason".into(), text(&letter.reason));
        headers.insert("sink".into(), text(letter.sink));
        let failed_at = i64::try_from(letter.failed_at).unwrap_or(i64::MAX);
        headers.insert("failed_at".into(), AMQPValue::LongLongInt(failed_at));
        let id = letter
            .event_id
            .unwrap_or_else(uuid::Uuid::now_v7)
            .to_string();
        if letter.event_id.is_some() {
            headers.insert("event_id".into(), text(&id));
        }
        let properties = BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_message_id(id.into())
            .with_timestamp(letter.failed_at)
            .with_headers(headers);
        let mut reason = String::new();
        for _ in 0..TRIES {
            let message = Outgoing {
                exchange: self.exchange.clone(),
                routing_key: self.queue.clone(),
                body: &letter.raw,
                properties: properties.clone(),
            };
            reason = tokio::select! {
                biased;
                // Another target can have it at once; waiting here could outlast the process.
                () = self.publisher.link().until_blocked() => {
                    return Err(DeadLetterError::Failed("the broker blocks publishers".to_owned()));
                }
                copied = self.copy(message) => match copied {
                    Ok(()) => return Ok(()),
                    Err(reason) => reason,
                },
            };
        }
        Err(DeadLetterError::Failed(reason))
    }

    /// Publishes one message; done means that the broker keeps it in a queue.
    async fn copy(&self, message: Outgoing<'_>) -> Result<(), String> {
        let message = [message];
        let mut outcomes = self
            .publisher
            .publish(&message)
            .await
            .map_err(|error| error.to_string())?;
        let outcome = outcomes.pop().unwrap_or(Outcome::Nacked);
        judge(outcome, &message[0])
    }

    async fn get(&self, channel: &LinkChannel) -> Result<Option<Delivery>, LinkError> {
        let getting = channel
            .raw()
            .basic_get(self.queue.clone(), BasicGetOptions { no_ack: false });
        Ok(channel.answer(getting).await?.map(|got| got.delivery))
    }

    async fn look(&self, limit: usize) -> Result<Vec<StoredLetter>, LinkError> {
        let _looking = self.looking.lock().await;
        self.publisher.declare().await?;
        let channel = self.publisher.link().channel().await?;
        let mut letters = Vec::new();
        let mut last = None;
        while letters.len() < limit
            && let Some(delivery) = self.get(&channel).await?
        {
            last = Some(delivery.delivery_tag);
            letters.push(stored(&delivery));
        }
        if let Some(last) = last {
            let options = BasicNackOptions {
                multiple: true,
                requeue: true,
            };
            channel
                .answer(channel.raw().basic_nack(last, options))
                .await?;
        }
        channel.close().await;
        Ok(letters)
    }

    async fn move_back(&self, limit: usize, replayed: &mut usize) -> Result<(), String> {
        let text = |error: LinkError| error.to_string();
        let limit = limit.min(self.max_batch);
        if limit == 0 {
            return Ok(());
        }
        let _looking = self.looking.lock().await;
        self.publisher.declare().await.map_err(text)?;
        self.find_target().await.map_err(text)?;
        let channel = self.publisher.link().channel().await.map_err(text)?;
        // Whatever ends this early drops the channel: what was got and not acknowledged goes back.
        while *replayed < limit {
            let wanted = (limit - *replayed).min(WINDOW);
            let letters = self.get_window(&channel, wanted).await.map_err(text)?;
            if letters.is_empty() {
                break;
            }
            self.move_window(&channel, &letters, replayed).await?;
        }
        channel.close().await;
        Ok(())
    }

    /// Sees to it that the target is there: the inbox is declared, as the sink that does so may be off.
    ///
    /// What is there is left as it is, whatever type it has.
    async fn find_target(&self) -> Result<(), LinkError> {
        // The default exchange is always there, and cannot be asked for.
        if self.target_exchange.as_str().is_empty() {
            return Ok(());
        }
        let channel = self.publisher.link().channel().await?;
        let looking = channel.raw().exchange_declare(
            self.target_exchange.clone(),
            ExchangeKind::Direct,
            ExchangeDeclareOptions {
                passive: true,
                ..ExchangeDeclareOptions::default()
            },
            FieldTable::default(),
        );
        match (channel.answer(looking).await, &self.inbox) {
            (Err(LinkError::Refused { code, .. }), Some(inbox)) if code == NOT_FOUND => {
                let channel = self.publisher.link().channel().await?;
                inbox.declare(&channel).await?;
                channel.close().await;
                Ok(())
            }
            (found, _) => {
                found?;
                channel.close().await;
                Ok(())
            }
        }
    }

    /// Gets the oldest letters: at most so many, and no more once they are large.
    async fn get_window(
        &self,
        channel: &LinkChannel,
        limit: usize,
    ) -> Result<Vec<Delivery>, LinkError> {
        let (mut letters, mut bytes) = (Vec::new(), 0);
        while letters.len() < limit
            && bytes < WINDOW_BYTES
            && let Some(delivery) = self.get(channel).await?
        {
            bytes += delivery.data.len();
            letters.push(delivery);
        }
        Ok(letters)
    }

    /// The routing key that a letter goes back by.
    fn target_of(&self, letter: &[u8]) -> &ShortString {
        let shard = self.partitions.shard_of_json(letter).map(usize::from);
        let shard = shard.and_then(|shard| self.shards.get(shard));
        shard.unwrap_or(&self.target_routing_key)
    }

    /// Publishes copies of letters, and acknowledges those whose copy was confirmed; the error is that of the first
    /// other one.
    async fn move_window(
        &self,
        channel: &LinkChannel,
        letters: &[Delivery],
        replayed: &mut usize,
    ) -> Result<(), String> {
        let text = |error: LinkError| error.to_string();
        let copy = |letter: &Delivery| {
            let mut headers = letter.properties.headers().clone().unwrap_or_default();
            headers.insert("replayed".into(), true.into());
            letter.properties.clone().with_headers(headers)
        };
        let copies: Vec<_> = letters
            .iter()
            .map(|letter| Outgoing {
                exchange: self.target_exchange.clone(),
                routing_key: self.target_of(&letter.data).clone(),
                body: &letter.data,
                properties: copy(letter),
            })
            .collect();
        let outcomes = self.publisher.publish(&copies).await.map_err(text)?;
        // The confirmed copies are safe and count, whether or not the broker still hears of it.
        let confirmed = |outcome: &Outcome| *outcome == Outcome::Confirmed;
        *replayed += outcomes.iter().filter(|outcome| confirmed(outcome)).count();
        let all_up_to = outcomes
            .iter()
            .take_while(|outcome| confirmed(outcome))
            .count();
        let mut acknowledged = Ok(());
        for (at, (letter, outcome)) in letters.iter().zip(&outcomes).enumerate() {
            // One acknowledgement for all before the first that failed, and one for each after it.
            if acknowledged.is_err() || !confirmed(outcome) || at + 1 < all_up_to {
                continue;
            }
            let options = BasicAckOptions {
                multiple: at + 1 == all_up_to,
            };
            let acknowledging = channel.raw().basic_ack(letter.delivery_tag, options);
            acknowledged = channel.answer(acknowledging).await.map_err(text);
        }
        for (outcome, copy) in outcomes.into_iter().zip(&copies) {
            judge(outcome, copy)?;
        }
        acknowledged
    }
}

/// Says what became of a message that the broker does not have for certain.
fn judge(outcome: Outcome, message: &Outgoing<'_>) -> Result<(), String> {
    match outcome {
        Outcome::Confirmed => Ok(()),
        Outcome::Returned => Err(format!(
            "unroutable: no queue is bound to the exchange `{}` for the routing key `{}`",
            message.exchange, message.routing_key
        )),
        Outcome::Nacked => Err("the broker could not keep the message (nack)".to_owned()),
        Outcome::Unknown(error) => Err(error.to_string()),
    }
}

impl DeadLetters for RabbitmqDeadLetters {
    fn store(&self, letter: DeadLetter) -> StoreFuture<'_> {
        Box::pin(async move { self.keep(&letter).await })
    }
}

impl DeadLetterStore for RabbitmqDeadLetters {
    fn name(&self) -> &'static str {
        NAME
    }

    fn depth(&self) -> BoxFuture<'_, Result<u64, ReplayError>> {
        Box::pin(async move {
            let ready = self.publisher.link().ready_messages(self.queue.clone());
            let ready = ready.await.map_err(|error| error.to_string())?;
            // Nobody has declared it before the first letter.
            Ok(ready.unwrap_or(0))
        })
    }

    fn list(&self, limit: usize) -> BoxFuture<'_, Result<Vec<StoredLetter>, ReplayError>> {
        Box::pin(async move {
            self.look(limit).await.map_err(|error| ReplayError {
                replayed: 0,
                reason: error.to_string(),
            })
        })
    }

    fn replay(&self, limit: usize) -> BoxFuture<'_, Result<usize, ReplayError>> {
        Box::pin(async move {
            let mut replayed = 0;
            match self.move_back(limit, &mut replayed).await {
                Ok(()) => Ok(replayed),
                Err(reason) => Err(ReplayError { replayed, reason }),
            }
        })
    }
}

impl std::fmt::Debug for RabbitmqDeadLetters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RabbitmqDeadLetters")
            .field("queue", &self.queue.as_str())
            .finish_non_exhaustive()
    }
}

/// What a message tells of itself; one that the broker dead-lettered has headers of the broker's own.
fn stored(delivery: &Delivery) -> StoredLetter {
    let properties = &delivery.properties;
    let header = |name: &str| {
        let headers = properties.headers().as_ref()?;
        match headers.inner().get(name)? {
            AMQPValue::LongString(text) => Some(text.to_string()),
            AMQPValue::LongLongInt(number) => Some(number.to_string()),
            AMQPValue::LongInt(number) => Some(number.to_string()),
            _ => None,
        }
    };
    let by_broker = || {
        let reason = header("x-first-death-reason")?;
        Some(match header("x-first-death-queue") {
            Some(queue) => format!("{reason} in the queue `{queue}`"),
            None => reason,
        })
    };
    let id = properties.message_id().as_ref().map(ToString::to_string);
    StoredLetter {
        store: NAME,
        event_id: header("event_id").or_else(|| {
            // A message of the sink itself, whose id is the event's.
            properties.kind().as_ref().and(id.clone())
        }),
        id,
        sink: header("sink"),
        reason: header("reason").or_else(by_broker).unwrap_or_default(),
        failed_at: header("failed_at").and_then(|at| at.parse().ok()),
        raw: String::from_utf8_lossy(&delivery.data).into_owned(),
    }
}
