//! Erases dead letters from a queue of `RabbitMQ`.
//!
//! There is no way to look into a queue but to take its messages out. They are held, not acknowledged, until the last
//! one was looked at; the user's are acknowledged, and the others given back to their places, marked as redelivered.
//! Should this end half-way, `RabbitMQ` gives all back that was not acknowledged.

use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use lapin::options::{BasicAckOptions, BasicGetOptions, BasicNackOptions};

use super::stores::{Link, Search};
use super::{Finding, Task};
use crate::brokers::rabbitmq::{LinkError, RabbitmqLink, short};

/// The queue of dead letters.
pub(super) struct QueueSearch {
    link: Arc<RabbitmqLink>,
    finding: Finding,
}

impl QueueSearch {
    pub(super) fn new(link: Arc<RabbitmqLink>, queue: &str) -> Self {
        Self {
            finding: Finding::of("rabbitmq_queue", queue, link.address()),
            link,
        }
    }

    async fn cycle(&mut self, task: Task<'_>) -> Result<(), LinkError> {
        let Self { link, finding } = self;
        let queue = short(&finding.name)?;
        let Some(depth) = link.ready_messages(queue.clone()).await? else {
            return Ok(());
        };
        finding.exists = true;
        // Looking twice would mark all as redelivered twice.
        if task.late {
            return Ok(());
        }
        let channel = link.channel().await?;
        let mut held = None;
        for _ in 0..depth {
            let getting = channel
                .raw()
                .basic_get(queue.clone(), BasicGetOptions { no_ack: false });
            let Some(got) = channel.answer(getting).await? else {
                break;
            };
            let (tag, body) = (got.delivery.delivery_tag, &got.delivery.data);
            if finding.judge(task.person.judge(body), task.late) && !task.dry_run {
                let options = BasicAckOptions { multiple: false };
                channel
                    .answer(channel.raw().basic_ack(tag, options))
                    .await?;
                finding.erased += 1;
            } else {
                held = Some(tag);
            }
            (task.tell)(finding);
        }
        if let Some(last) = held {
            let options = BasicNackOptions {
                multiple: true,
                requeue: true,
            };
            channel
                .answer(channel.raw().basic_nack(last, options))
                .await?;
        }
        channel.close().await;
        Ok(())
    }
}

impl Search for QueueSearch {
    fn search<'a>(&'a mut self, task: Task<'a>) -> BoxFuture<'a, Result<(), String>> {
        async move { self.cycle(task).await.map_err(|error| error.to_string()) }.boxed()
    }

    fn finding(&mut self) -> &mut Finding {
        &mut self.finding
    }

    fn link(&self) -> Link {
        Link::Rabbitmq(Arc::clone(&self.link))
    }
}
