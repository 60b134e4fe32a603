//! Names the key within which a message keeps its order, across connections.
//!
//! Stands above `fan_out`; the deliveries keep the order that the key asks for.

use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

use crate::condition::Condition;
use crate::event::EventKind;
use crate::message::{FieldId, Message, Ordering, TYPE};
use crate::pipeline::{CompileError, Ingredients, MESSAGES, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{BoxError, MessageLayer, NewService, Outcome};

mod partitions;

pub use self::partitions::{Partitions, partition, shard};

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
    /// How messages are split into several Redis streams and `RabbitMQ` routing keys.
    pub partition_mode: PartitionMode,
    /// With `suffix`: characters of the appended key at most; a longer one becomes its SHA-1 in hex. 0: no limit.
    pub partition_max_len: usize,
    /// With `shards`: how many there are.
    #[schemars(range(min = 1, max = 1024))]
    pub partitions: u16,
    /// Which messages meet the stage; the others pass by it to the next. Empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
}

impl Default for OrderingKeyConfig {
    fn default() -> Self {
        Self {
            strategy: OrderingStrategy::None,
            topic_field: "topic".into(),
            subject_source: SubjectSource::User,
            partition_mode: PartitionMode::None,
            partition_max_len: 64,
            partitions: 16,
            when: None,
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

/// How messages are split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PartitionMode {
    /// One stream, one routing key.
    None,
    /// `.{key}` is appended to the Redis stream and to the routing key: one for each key that is ever used.
    Suffix,
    /// `.{n}` is appended, the CRC-32 of the ordering key, else of the connection's id, modulo `partitions`.
    Shards,
}

impl Stage for OrderingKeyConfig {
    fn acts_on(&self) -> &'static str {
        MESSAGES
    }

    fn does(&self) -> &'static str {
        "names the key that keeps its order"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        let finder = match self.strategy {
            OrderingStrategy::None => return Ok(StageLayers::none()),
            OrderingStrategy::Topic => Finder::Topic(with.fields.want(&self.topic_field)?),
            OrderingStrategy::Subject => Finder::Subject {
                subject: with.fields.want("subject")?,
                subjects: with.fields.want("subjects")?,
                source: self.subject_source,
            },
        };
        Ok(StageLayers::messages(MessageLayer::new(OrderingKeyLayer {
            finder,
        })))
    }
}

#[derive(Debug, Clone, Copy)]
enum Finder {
    Topic(FieldId),
    Subject {
        subject: FieldId,
        subjects: FieldId,
        source: SubjectSource,
    },
}

#[derive(Debug, Clone, Copy)]
struct OrderingKeyLayer {
    finder: Finder,
}

impl<N> Layer<N> for OrderingKeyLayer {
    type Service = NewOrderingKey<N>;

    fn layer(&self, inner: N) -> NewOrderingKey<N> {
        NewOrderingKey {
            finder: self.finder,
            inner,
        }
    }
}

#[derive(Debug)]
struct NewOrderingKey<N> {
    finder: Finder,
    inner: N,
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for NewOrderingKey<N> {
    type Service = OrderingKey<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        let fallback = match self.finder {
            Finder::Topic(_) => None,
            Finder::Subject {
                source: SubjectSource::User,
                ..
            } => Some(Arc::clone(session.user_id())),
            Finder::Subject {
                source: SubjectSource::Subject,
                ..
            } => session.subjects().iter().min().cloned(),
        };
        OrderingKey {
            finder: self.finder,
            fallback: fallback.filter(|key| !key.trim().is_empty()),
            inner: self.inner.new_service(session),
        }
    }
}

#[derive(Debug)]
struct OrderingKey<S> {
    finder: Finder,
    fallback: Option<Arc<str>>,
    inner: S,
}

impl<S> OrderingKey<S> {
    fn find(&self, message: &Message) -> Option<Ordering> {
        let shared = |key: Cow<'_, str>| Arc::<str>::from(&*key);
        let (key, strategy) = match self.finder {
            Finder::Topic(topic) => {
                let found = message
                    .scalar(topic)
                    .or_else(|| message.meta_scalar(topic))
                    .or_else(|| message.scalar(TYPE))
                    // What is no JSON object is published under a type all the same.
                    .or_else(|| message.type_name().filter(|name| !name.trim().is_empty()));
                (found.map(shared), "topic")
            }
            Finder::Subject {
                subject, subjects, ..
            } => {
                let found = message
                    .scalar(subject)
                    .or_else(|| message.first_of(subjects));
                (
                    found.map(shared).or_else(|| self.fallback.clone()),
                    "subject",
                )
            }
        };
        key.map(|key| Ordering { key, strategy })
    }
}

impl<S> Service<Message> for OrderingKey<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut message: Message) -> S::Future {
        if message.kind() == EventKind::MessageReceived {
            message.ordering = self.find(&message);
        }
        self.inner.call(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::FieldSet;
    use crate::stages::testing::Inner;

    fn key(finder: fn(&mut FieldSet) -> Finder, text: &str) -> Option<String> {
        let mut fields = FieldSet::default();
        let new = OrderingKeyLayer {
            finder: finder(&mut fields),
        }
        .layer(Inner::publishes());
        let stage = new.new_service(Session::for_tests("42", &["user:42", "room:7"]));
        stage
            .find(&Message::text(text, &fields))
            .map(|o| o.key.to_string())
    }

    fn topic(fields: &mut FieldSet) -> Finder {
        Finder::Topic(fields.want("topic").unwrap())
    }

    fn subject(fields: &mut FieldSet, source: SubjectSource) -> Finder {
        Finder::Subject {
            subject: fields.want("subject").unwrap(),
            subjects: fields.want("subjects").unwrap(),
            source,
        }
    }

    #[test]
    fn topic_then_meta_then_type() {
        for (text, expected) in [
            (
                r#"{"topic":"room:1","meta":{"topic":"x"},"type":"chat"}"#,
                Some("room:1"),
            ),
            (
                r#"{"topic":" ","meta":{"topic":"room:2"},"type":"chat"}"#,
                Some("room:2"),
            ),
            (r#"{"topic":7,"type":"chat"}"#, Some("7")),
            (r#"{"topic":[1],"type":"chat"}"#, Some("chat")),
            (r#"{"topic":" padded "}"#, Some(" padded ")),
            (r#"{"type":""}"#, None),
            ("{}", None),
            ("plain", Some("raw")),
        ] {
            assert_eq!(key(topic, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn subject_then_subjects_then_the_connection() {
        let by_user: fn(&mut FieldSet) -> Finder = |f| subject(f, SubjectSource::User);
        let by_subject: fn(&mut FieldSet) -> Finder = |f| subject(f, SubjectSource::Subject);
        assert_eq!(
            key(by_user, r#"{"subject":"a","subjects":["b"]}"#).as_deref(),
            Some("a")
        );
        assert_eq!(
            key(by_user, r#"{"subjects":["b","c"]}"#).as_deref(),
            Some("b")
        );
        assert_eq!(key(by_user, r#"{"subjects":[]}"#).as_deref(), Some("42"));
        assert_eq!(key(by_user, r#"{"subjects":"b"}"#).as_deref(), Some("42"));
        assert_eq!(key(by_subject, "{}").as_deref(), Some("room:7"));
        assert_eq!(key(by_subject, "plain").as_deref(), Some("room:7"));
    }
}
