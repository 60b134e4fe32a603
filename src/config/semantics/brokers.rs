//! Checks the addresses of brokers and databases, and what needs one.
//!
//! Part of the checks of meaning; nothing is connected to, and no address is shown, since it may hold a password.

use super::Review;
use crate::config::Secret;
use crate::replay::{CountStrategy, ReplayStrategy};

pub(super) fn check(review: &mut Review<'_>) {
    let config = review.config;
    let replay = &config.replay;
    count(
        review,
        "replay.api.rate_limit",
        replay.api.rate_limit.strategy,
        &replay.api.rate_limit.redis_dsn,
    );
    count(
        review,
        "replay.api.idempotency",
        replay.api.idempotency.strategy,
        &replay.api.idempotency.redis_dsn,
    );
    let header = &replay.api.idempotency.header;
    if http::HeaderName::try_from(header.as_str()).is_err() {
        review.say(
            "bad_header_name",
            "replay.api.idempotency.header",
            format!(
                "`{}` is not a name an HTTP header can have",
                header.escape_debug()
            ),
            "use letters, digits and `-`, as in `Idempotency-Key`",
        );
    }
    if replay.strategy == ReplayStrategy::Durable {
        archive(review);
    }
    let events = &config.events.rabbitmq;
    let transport = &config.transport.rabbitmq;
    for (ttl_key, ttl, queue_key, queue) in [
        (
            "events.rabbitmq.queue_ttl_ms",
            events.queue_ttl_ms,
            "events.rabbitmq.queue",
            &events.queue,
        ),
        (
            "events.rabbitmq.inbox_queue_ttl_ms",
            events.inbox_queue_ttl_ms,
            "events.rabbitmq.inbox_queue",
            &events.inbox_queue,
        ),
        (
            "transport.rabbitmq.queue_ttl_ms",
            transport.queue_ttl_ms,
            "transport.rabbitmq.queue",
            &transport.queue,
        ),
    ] {
        if ttl > 0 && queue.is_empty() {
            review.say(
                "ttl_without_queue",
                ttl_key,
                format!("`{ttl_key}` has no effect while `{queue_key}` is empty"),
                format!("name the queue in `{queue_key}`"),
            );
        }
    }
}

/// Reports a count in Redis that has none.
fn count(review: &mut Review<'_>, path: &str, strategy: CountStrategy, dsn: &Secret) {
    if strategy == CountStrategy::Redis && dsn.is_empty() && review.config.redis_dsn().is_empty() {
        review.say(
            "replay_without_redis",
            &format!("{path}.strategy"),
            format!("`{path}.strategy` is `redis`, and no Redis is configured"),
            format!("set `{path}.redis_dsn`, or `strategy: in_memory`"),
        );
    }
}

fn archive(review: &mut Review<'_>) {
    const DSN: &str = "replay.archive.dsn";
    match review
        .config
        .replay
        .archive
        .address()
        .split_once(':')
        .map(|(scheme, _)| scheme)
    {
        Some("postgres" | "postgresql") => {}
        Some("sqlite") => {
            if review.config.events_mode().has_broker() {
                review.say(
                    "several_gateways_one_file",
                    "replay.strategy",
                    "the archive is a file of this gateway's own, while brokers let several gateways work together",
                    "name a PostgreSQL database in `replay.archive.dsn` once there is more than one gateway",
                );
            }
        }
        _ => review.say(
            "bad_dsn",
            DSN,
            format!("`{DSN}` is no address of SQLite or PostgreSQL"),
            "write `sqlite://file.db` or `postgres://user:password@host/database`",
        ),
    }
}
