//! What a user of the link wants to be there: exchanges, queues, bindings.
//!
//! Declared on every connection before anything is published or consumed. Declaring is idempotent as long as nobody
//! declared the same name with other properties, which the broker refuses (406).

use lapin::ExchangeKind;
use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};

use super::channel::LinkChannel;
use super::error::LinkError;

/// Exchanges, queues and bindings, declared in this order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Topology {
    exchanges: Vec<Exchange>,
    queues: Vec<Queue>,
}

/// A durable exchange.
#[derive(Debug, Clone, PartialEq)]
pub struct Exchange {
    name: ShortString,
    kind: ExchangeKind,
}

/// A queue, and what is bound to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Queue {
    /// Its name; empty: the broker chooses one.
    pub name: ShortString,
    /// Whether it lives only as long as the connection and its one consumer, instead of being durable.
    pub private: bool,
    /// Its arguments, such as `x-message-ttl`.
    pub arguments: FieldTable,
    /// Exchanges and routing keys whose messages it gets.
    pub bindings: Vec<(ShortString, ShortString)>,
}

/// A name or key as AMQP has it.
///
/// # Errors
/// When it is longer than 255 bytes.
pub fn short(text: &str) -> Result<ShortString, LinkError> {
    ShortString::try_new(text).map_err(|_| LinkError::TooLong(text.chars().take(40).collect()))
}

impl Topology {
    /// Adds an exchange, unless it is there already, is the default one, or its name is the broker's own.
    ///
    /// # Errors
    /// When the name is longer than 255 bytes.
    pub fn exchange(&mut self, name: &str, kind: ExchangeKind) -> Result<ShortString, LinkError> {
        let name = short(name)?;
        let own = name.as_str().is_empty() || name.as_str().starts_with("amq.");
        if !own && self.exchanges.iter().all(|exchange| exchange.name != name) {
            self.exchanges.push(Exchange {
                name: name.clone(),
                kind,
            });
        }
        Ok(name)
    }

    /// Adds a queue; one of the same name that is there already gets its bindings.
    pub fn queue(&mut self, queue: Queue) {
        match self
            .queues
            .iter_mut()
            .find(|known| known.name == queue.name)
        {
            Some(known) => known.bindings.extend(queue.bindings),
            None => self.queues.push(queue),
        }
    }

    /// Declares everything; gives the name of the last queue.
    ///
    /// # Errors
    /// When the broker refuses, or goes away; the channel cannot be used any more then.
    pub async fn declare(&self, channel: &LinkChannel) -> Result<ShortString, LinkError> {
        let raw = channel.raw();
        for Exchange { name, kind } in &self.exchanges {
            let options = ExchangeDeclareOptions {
                durable: true,
                ..ExchangeDeclareOptions::default()
            };
            let none = FieldTable::default();
            channel
                .answer(raw.exchange_declare(name.clone(), kind.clone(), options, none))
                .await?;
        }
        let mut last = ShortString::default();
        for queue in &self.queues {
            let options = QueueDeclareOptions {
                durable: !queue.private,
                exclusive: queue.private,
                auto_delete: queue.private,
                ..QueueDeclareOptions::default()
            };
            let (name, arguments) = (queue.name.clone(), queue.arguments.clone());
            let declared = channel
                .answer(raw.queue_declare(name, options, arguments))
                .await?;
            last = declared.name().clone();
            for (exchange, key) in &queue.bindings {
                // Every queue is bound to the default exchange by its name.
                if exchange.as_str().is_empty() {
                    continue;
                }
                let binding = raw.queue_bind(
                    last.clone(),
                    exchange.clone(),
                    key.clone(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                );
                channel.answer(binding).await?;
            }
        }
        Ok(last)
    }
}
