//! Names the key within which a message keeps its order, across connections.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `ordering_key` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OrderingKeyConfig {
    /// Where the key comes from.
    pub strategy: OrderingStrategy,
    /// With `topic`: the message's field that holds the key; else the same field in `meta`, else `type`.
    pub topic_field: String,
    /// With `subject`: what stands in where the message names none.
    pub subject_source: SubjectSource,
    /// Whether the key is appended to the Redis stream and the RabbitMQ routing key.
    pub partition_mode: PartitionMode,
    /// Characters of the appended key at most; a longer one becomes its SHA-1 in hex. 0: no limit.
    pub partition_max_len: usize,
}

impl Default for OrderingKeyConfig {
    fn default() -> Self {
        Self {
            strategy: OrderingStrategy::None,
            topic_field: "topic".into(),
            subject_source: SubjectSource::User,
            partition_mode: PartitionMode::None,
            partition_max_len: 64,
        }
    }
}

/// Where an ordering key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OrderingStrategy {
    /// No key: order is kept per connection.
    None,
    /// The message's topic field, else the same field in `meta`, else its `type`.
    Topic,
    /// The message's `subject`, else the first of its `subjects`, else `subject_source`.
    Subject,
}

/// What stands in where a message names no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubjectSource {
    /// The user id.
    User,
    /// The connection's first subject in sort order.
    Subject,
}

/// Whether ordering keys split streams and routing keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartitionMode {
    /// One stream, one routing key.
    None,
    /// `.{key}` is appended to the Redis stream and to the routing key.
    Suffix,
}
