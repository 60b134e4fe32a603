//! Which queue is read; what is read from it is shown by `tests/rabbitmq_source.rs`.

use super::*;

fn queue(change: impl FnOnce(&mut Config)) -> (String, String) {
    let mut config = Config::default();
    change(&mut config);
    let (topology, name) = plan(&config, "host-127.0.0.1:8000/é").unwrap();
    (name, format!("{topology:?}"))
}

#[test]
fn the_queue_is_the_connections_own_unless_pushes_are_kept() {
    let (name, topology) = queue(|_| {});
    assert_eq!(name, "");
    assert!(topology.contains("private: true"), "{topology}");
    let (name, topology) = queue(|config| config.replay.strategy = ReplayStrategy::Bounded);
    assert_eq!(name, "ws.outbox.host-127.0.0.1:8000__");
    assert!(
        topology.contains("private: false") && topology.contains("604800000"),
        "{topology}"
    );
    let (name, topology) = queue(|config| {
        config.replay.strategy = ReplayStrategy::Durable;
        config.replay.retention_seconds = u64::MAX;
        config.transport.rabbitmq.queue = "shared".into();
    });
    assert_eq!(name, "shared");
    assert!(!topology.contains("x-expires"), "{topology}");
}

#[test]
fn a_retention_beyond_what_the_broker_takes_is_cut() {
    let expires = |seconds| {
        let (_, topology) = queue(|config| {
            config.replay.strategy = ReplayStrategy::Bounded;
            config.replay.retention_seconds = seconds;
        });
        topology
    };
    assert!(expires(u64::MAX).contains(&MAX_EXPIRES_MS.to_string()));
    assert!(!expires(0).contains("x-expires"), "no limit");
}
