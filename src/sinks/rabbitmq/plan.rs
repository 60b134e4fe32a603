//! Reads from the settings where messages go, and what is to be declared for it.
//!
//! Stands beside the sink, before its first event; the dead letters declare the inbox by it as well.

use lapin::ExchangeKind;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::{ExchangeType, QueueType, Routing, text};
use crate::brokers::rabbitmq::{LinkError, Queue, Topology, short};
use crate::config::{Config, DeadLetterQueueConfig};
use crate::stages::ordering_key::Partitions;

/// Bytes of a routing key at most, as AMQP has it.
pub(super) const MAX_KEY_BYTES: usize = 255;

/// Characters of a key that became its SHA-1 in hex.
pub(super) const HASH_CHARS: usize = 40;

/// Reads from the settings where messages go, and what has to be there for it.
pub(super) fn plan(config: &Config) -> Result<(Routing, Topology), LinkError> {
    let rabbitmq = &config.events.rabbitmq;
    let mut topology = Topology::default();
    let inbox_exchange = topology.exchange(&rabbitmq.inbox_exchange, inbox_kind(config))?;
    let exchange = topology.exchange(&rabbitmq.exchange, ExchangeKind::Direct)?;
    let routing_key = short(&rabbitmq.routing_key)?;
    let inbox_routing_key = short(&rabbitmq.inbox_routing_key)?;
    let partitions = match Partitions::of(config) {
        Partitions::Keys { max_len } => {
            let room = (MAX_KEY_BYTES - inbox_routing_key.as_str().len()).saturating_sub(1);
            if room < HASH_CHARS {
                return Err(LinkError::TooLong(rabbitmq.inbox_routing_key.clone()));
            }
            let max_len = if max_len == 0 {
                room
            } else {
                max_len.min(room)
            };
            Partitions::Keys { max_len }
        }
        other => other,
    };
    let dead_letters = &config.events.dead_letters.rabbitmq;
    declare_dead_letters(&mut topology, dead_letters)?;
    declare_inbox(&mut topology, config)?;
    if !rabbitmq.queue.is_empty() {
        topology.queue(Queue {
            name: short(&rabbitmq.queue)?,
            private: false,
            arguments: arguments(rabbitmq.queue_ttl_ms, config),
            bindings: vec![(exchange.clone(), routing_key.clone())],
        });
    }
    let routing = Routing {
        events: (exchange, routing_key),
        shards: shards(&rabbitmq.inbox_routing_key, partitions)?,
        inbox: (inbox_exchange, inbox_routing_key),
        partitions,
        format: rabbitmq.format,
    };
    Ok((routing, topology))
}

/// What follows a name for each shard.
///
/// # Errors
/// When a name is longer than AMQP allows.
pub(in crate::sinks) fn shards(
    name: &str,
    partitions: Partitions,
) -> Result<Vec<ShortString>, LinkError> {
    let names = partitions.shards().map(|shard| format!("{name}.{shard}"));
    names.map(|name| short(&name)).collect()
}

pub(super) fn inbox_kind(config: &Config) -> ExchangeKind {
    let by_default = match Partitions::of(config) {
        Partitions::Keys { .. } => ExchangeType::Topic,
        // The same for shards, so that an inbox that is there can be split.
        Partitions::One | Partitions::Shards(_) => ExchangeType::Direct,
    };
    let configured = config.events.rabbitmq.inbox_exchange_type;
    match configured.unwrap_or(by_default) {
        ExchangeType::Direct => ExchangeKind::Direct,
        ExchangeType::Topic => ExchangeKind::Topic,
        ExchangeType::Fanout => ExchangeKind::Fanout,
    }
}

/// Adds the exchange of `message_received`, and its queue where one is configured: with shards one for each.
pub(in crate::sinks) fn declare_inbox(
    topology: &mut Topology,
    config: &Config,
) -> Result<(), LinkError> {
    let rabbitmq = &config.events.rabbitmq;
    let exchange = topology.exchange(&rabbitmq.inbox_exchange, inbox_kind(config))?;
    if rabbitmq.inbox_queue.is_empty() {
        return Ok(());
    }
    let mut arguments = arguments(rabbitmq.inbox_queue_ttl_ms, config);
    if rabbitmq.inbox_single_active_consumer {
        arguments.insert("x-single-active-consumer".into(), true.into());
    }
    let mut declare = |name, bindings| {
        topology.queue(Queue {
            name,
            private: false,
            arguments: arguments.clone(),
            bindings,
        });
    };
    let routing_key = short(&rabbitmq.inbox_routing_key)?;
    let partitions = Partitions::of(config);
    match partitions {
        Partitions::One => declare(short(&rabbitmq.inbox_queue)?, vec![(exchange, routing_key)]),
        Partitions::Keys { .. } => {
            let every_key = short(&format!("{routing_key}.#"))?;
            let bindings = [routing_key, every_key].map(|key| (exchange.clone(), key));
            declare(short(&rabbitmq.inbox_queue)?, bindings.into());
        }
        Partitions::Shards(_) => {
            let queues = shards(&rabbitmq.inbox_queue, partitions)?;
            let keys = shards(&rabbitmq.inbox_routing_key, partitions)?;
            for (queue, key) in queues.into_iter().zip(keys) {
                declare(queue, vec![(exchange.clone(), key)]);
            }
        }
    }
    Ok(())
}

/// Adds the exchange and the queue of dead letters, bound by the queue's name.
pub(in crate::sinks) fn declare_dead_letters(
    topology: &mut Topology,
    config: &DeadLetterQueueConfig,
) -> Result<(), LinkError> {
    let exchange = topology.exchange(&config.exchange, ExchangeKind::Direct)?;
    let name = short(&config.queue)?;
    topology.queue(Queue {
        private: false,
        arguments: FieldTable::default(),
        bindings: vec![(exchange, name.clone())],
        name,
    });
    Ok(())
}

fn arguments(ttl_ms: u32, config: &Config) -> FieldTable {
    let dead_letters = &config.events.dead_letters.rabbitmq;
    let mut arguments = FieldTable::default();
    // Nothing for classic ones, which then may be there without it, or by a default of the vhost another type.
    if config.events.rabbitmq.queue_type == QueueType::Quorum {
        arguments.insert("x-queue-type".into(), text("quorum"));
    }
    if ttl_ms > 0 {
        arguments.insert(
            "x-message-ttl".into(),
            AMQPValue::LongLongInt(ttl_ms.into()),
        );
    }
    arguments.insert(
        "x-dead-letter-exchange".into(),
        text(&dead_letters.exchange),
    );
    arguments.insert(
        "x-dead-letter-routing-key".into(),
        text(&dead_letters.queue),
    );
    arguments
}
