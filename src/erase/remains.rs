//! Names what may still be kept of the user, why it is not erased, and what to do about it.
//!
//! Stands at the end: whoever answers for an erasure must know what it did not reach.

use super::stores::Stores;
use super::{Finding, Remains};
use crate::brokers::rabbitmq::short;
use crate::config::Config;

/// What is left in this set-up.
pub(super) async fn of(config: &Config, stores: &mut Stores) -> Vec<Remains> {
    let mut remains = Vec::new();
    let mut add = |place: String, reason: &str, advice: &str| {
        remains.push(Remains {
            place,
            reason: reason.to_owned(),
            advice: advice.to_owned(),
        });
    };
    let findings = stores.findings();
    let found = |finding: &Finding| finding.found > 0;
    let of = |store: &'static str| {
        findings
            .iter()
            .filter(move |finding| finding.store == store)
    };
    for queue in of("rabbitmq_queue").filter(|queue| queue.exists) {
        add(
            format!(
                "RabbitMQ queue {} at {}: messages that others hold",
                queue.name, queue.place
            ),
            "what somebody has taken out and not acknowledged, as a replay or another erasure does, is not seen",
            "run the command again once they are done",
        );
    }
    for (link, queues) in &stores.queues {
        for queue in queues {
            let depth = match short(queue) {
                Ok(name) => link.ready_messages(name).await.ok().flatten(),
                Err(_) => None,
            };
            if let Some(depth @ 1..) = depth {
                add(
                    format!(
                        "RabbitMQ queue {queue} at {}: {depth} messages",
                        link.address()
                    ),
                    "a queue cannot be searched without taking messages from whoever reads it",
                    "let its readers empty it, give it a TTL, or purge it",
                );
            }
        }
        add(
            format!("RabbitMQ at {}: other queues", link.address()),
            "queues that applications bound to the gateway's exchanges are not known to the gateway",
            "let their readers empty them, or give them a TTL",
        );
    }
    if of("redis_stream").any(found) {
        add(
            "memory and snapshots of Redis".to_owned(),
            "Redis marks an entry as deleted, and frees it with the last entry of its node (100 by default)",
            "bound streams by replay.strategy: bounded, or by MAXLEN; rewrite the AOF (BGREWRITEAOF) and restart",
        );
    }
    if of("archive").any(|finding| found(finding) && finding.name == "postgres") {
        add(
            "PostgreSQL: dead rows and write-ahead log".to_owned(),
            "a deleted row stays on disk until it is vacuumed, and in the log until that is recycled",
            "autovacuum sees to it; VACUUM wsgw_events does it now",
        );
    }
    let letters = &config.events.dead_letters.file.path;
    let letters_go_on = |is: &std::fs::Metadata| !is.is_file() && !is.is_dir();
    if std::fs::metadata(letters).is_ok_and(|is| letters_go_on(&is)) {
        add(
            format!("dead letters that went through {letters}"),
            "it is a pipe or a device, which keeps nothing itself",
            "erase where they went",
        );
    }
    if !letters.is_empty() {
        add(
            "dead-letter files of gateways on other machines".to_owned(),
            "the command reads the files of the machine and the directory that it runs in",
            "run it once on each machine, in the gateway's working directory",
        );
    }
    add(
        "events and pushes that gateways hold in memory".to_owned(),
        "they wait for a broker that is away, or for a retry, and become visible only later",
        "run the command again once /ready is 200 and wsgw_sink_buffer_events is 0",
    );
    add(
        "the backend, logs, traces and backups".to_owned(),
        "the gateway does not own them: webhooks and workers' tables, Messenger's failure transport, log lines that name user ids",
        "erase there, or let their retention pass",
    );
    remains
}
