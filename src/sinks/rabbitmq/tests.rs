//! Where events go, and what is declared for it; that the broker agrees is shown by `tests/rabbitmq_sink.rs`.

use super::*;
use crate::sinks::delivery::test_event;
use crate::stages::ordering_key::OrderingKeyConfig;

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
