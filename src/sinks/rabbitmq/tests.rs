//! Where events go, and what is declared for it; that the broker agrees is shown by `tests/rabbitmq_sink.rs`.

use lapin::types::AMQPValue;

use super::plan::{HASH_CHARS, MAX_KEY_BYTES};
use super::*;
use crate::sinks::delivery::test_event;
use crate::stages::StageConfig;
use crate::stages::ordering_key::{OrderingKeyConfig, PartitionMode};

fn config(partition_max_len: Option<usize>) -> Config {
    let mut config = Config::default();
    if let Some(partition_max_len) = partition_max_len {
        config
            .stages
            .push(StageConfig::OrderingKey(OrderingKeyConfig {
                partition_mode: PartitionMode::Suffix,
                partition_max_len,
                ..OrderingKeyConfig::default()
            }));
    }
    config
}

fn keyed(key: &str) -> Event {
    let event = test_event(1, 1, Some(key));
    Event {
        spoken_for: None,
        receipt: None,
        id: event.id,
        kind: EventKind::MessageReceived,
        connection_id: event.connection_id,
        user_id: Arc::clone(&event.user_id),
        seq: 1,
        ordering_key: Some(key.into()),
        traceparent: None,
        trace_id: None,
        span: None,
        replayed: false,
        json: event.json.clone(),
    }
}

fn routing_key(config: &Config, key: &str) -> String {
    let (routing, _) = plan(config).unwrap();
    routing.message(&keyed(key), None).routing_key.to_string()
}

#[test]
fn keys_are_appended_only_with_suffix_mode() {
    assert_eq!(routing_key(&config(None), "room:1"), "ws.inbox");
    assert_eq!(routing_key(&config(Some(64)), "room:1"), "ws.inbox.room:1");
}

#[test]
fn a_routing_key_is_never_longer_than_amqp_allows() {
    let long = "k".repeat(1000);
    assert_eq!(
        routing_key(&config(Some(0)), &long).len(),
        "ws.inbox.".len() + HASH_CHARS
    );
    assert_eq!(
        routing_key(&config(Some(0)), &long[..246]).len(),
        MAX_KEY_BYTES
    );
    let mut config = config(Some(0));
    config.events.rabbitmq.inbox_routing_key = "r".repeat(215);
    assert!(matches!(plan(&config), Err(LinkError::TooLong(_))));
    config.events.rabbitmq.inbox_routing_key = "r".repeat(214);
    assert_eq!(routing_key(&config, &long).len(), MAX_KEY_BYTES);
}

#[test]
fn names_that_are_too_long_are_refused() {
    let mut config = config(None);
    config.events.rabbitmq.queue = "q".repeat(256);
    let error = plan(&config).unwrap_err().to_string();
    assert!(
        error.ends_with("is longer than 255 bytes, the most that AMQP allows"),
        "{error}"
    );
}

#[test]
fn a_replayed_event_says_so() {
    let (routing, _) = plan(&config(None)).unwrap();
    let mut event = keyed("k");
    let replayed = |event: &Event| {
        let properties = routing.properties(event, None);
        let headers = properties.headers().clone().unwrap();
        headers.inner().get("replayed").cloned()
    };
    assert_eq!(replayed(&event), None);
    event.replayed = true;
    assert_eq!(replayed(&event), Some(AMQPValue::Boolean(true)));
}

fn sharded() -> Config {
    let mut config = Config::default();
    config
        .stages
        .push(StageConfig::OrderingKey(OrderingKeyConfig {
            partition_mode: PartitionMode::Shards,
            ..OrderingKeyConfig::default()
        }));
    config
}

#[test]
fn shards_are_routing_keys_of_their_own() {
    let config = sharded();
    assert_eq!(routing_key(&config, "room:7"), "ws.inbox.5");
    assert_eq!(routing_key(&config, "room:123"), "ws.inbox.14");
    let (routing, _) = plan(&config).unwrap();
    let mut event = keyed("room:7");
    event.ordering_key = None;
    let own = crate::stages::ordering_key::shard(&event.connection_id.to_string(), 16);
    let key = routing.of(&event).1.to_string();
    assert_eq!(key, format!("ws.inbox.{own}"));
    event.kind = EventKind::Connected;
    assert_eq!(routing.of(&event).1.as_str(), "ws.events");
}

#[test]
fn each_shard_has_a_queue_that_one_consumer_may_have_for_itself() {
    let mut config = sharded();
    config.events.rabbitmq.inbox_queue = "in".into();
    config.events.rabbitmq.inbox_single_active_consumer = true;
    config.events.rabbitmq.queue_type = QueueType::Quorum;
    let shown = format!("{:?}", plan(&config).unwrap().1);
    for shard in 0..16 {
        assert!(shown.contains(&format!("\"in.{shard}\"")), "{shown}");
        assert!(shown.contains(&format!("\"ws.inbox.{shard}\"")), "{shown}");
    }
    assert_eq!(shown.matches("x-single-active-consumer").count(), 16);
    assert_eq!(shown.matches("x-queue-type").count(), 16);
    assert!(
        !shown.contains("\"in\"") && !shown.contains("in.16"),
        "{shown}"
    );
    config.events.rabbitmq.inbox_routing_key = "r".repeat(254);
    assert!(matches!(plan(&config), Err(LinkError::TooLong(_))));
}
