//! Lets a message that a client sends again pass once, by the id that the client gave it.
//!
//! Stands above `fan_out`, and goes with what it lets pass: the id of a message that finally was not delivered is
//! free again, and a repetition of one that is still on its way is acknowledged when that one is. With
//! acknowledgements, and a client that sends again what was not acknowledged, each message takes effect once.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_lc_rs::digest;
use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tower_layer::Layer;
use tower_service::Service;

use self::seen::{Bounds, Claim, Key, Known, Seen, Waited};
use super::fan_out::ack::Acks;
use crate::close::Nack;
use crate::condition::{Condition, identity};
use crate::event::EventKind;
use crate::message::{FieldId, Follower, ID_FIELD, Message, MessageId};
use crate::pipeline::{CompileError, Ingredients, MESSAGES, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{BoxError, MessageFuture, MessageLayer, NewService, Outcome};

mod seen;

/// Settings of the `dedupe` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DedupeConfig {
    /// Which messages the stage meets; all of them without a condition.
    #[serde(
        skip_serializing_if = "crate::condition::absent",
        deserialize_with = "crate::condition::present"
    )]
    #[schemars(with = "Condition")]
    pub when: Option<Condition>,
    /// Seconds for which an id is remembered after its message was confirmed.
    #[schemars(range(min = 1, max = 604_800))]
    pub window_seconds: u64,
    /// Ids of one user remembered at once; beyond, the oldest is forgotten.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_ids_per_user: usize,
    /// Ids remembered in all, of about 200 bytes each; beyond, the oldest is forgotten.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_ids: usize,
    /// The message's field that holds its id, a text or a number; a message without it passes.
    pub id_field: String,
    /// Within what an id is one message's: all connections of a `user` on this gateway, or one `connection`.
    pub scope: DedupeScope,
}

impl Default for DedupeConfig {
    fn default() -> Self {
        Self {
            when: None,
            window_seconds: 300,
            max_ids_per_user: 1000,
            max_ids: 1_000_000,
            id_field: ID_FIELD.into(),
            scope: DedupeScope::User,
        }
    }
}

/// Within what an id is one message's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DedupeScope {
    /// All connections of one user on this gateway, also one after the other.
    User,
    /// Each connection.
    Connection,
}

impl Stage for DedupeConfig {
    fn acts_on(&self) -> &'static str {
        MESSAGES
    }

    fn does(&self) -> &'static str {
        "lets what is sent again pass once"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        let config = Arc::clone(with.config);
        let fan_out = config.fan_out().ok_or(CompileError::NoFanOut)?;
        let identity = identity(self.when());
        let duplicate = |first| {
            with.metrics
                .duplicate_messages_total
                .with_label_values(&[first])
        };
        let (pending, confirmed) = (duplicate("pending"), duplicate("confirmed"));
        let of_all = match self.scope {
            DedupeScope::User => self.max_ids,
            DedupeScope::Connection => self.max_ids_per_user,
        };
        Ok(StageLayers::messages(MessageLayer::new(DedupeLayer {
            settings: Arc::new(Settings {
                acks: fan_out.acks(with)?,
                id: with.fields.want(&self.id_field)?,
                bounds: Bounds {
                    window: Duration::from_secs(self.window_seconds),
                    of_a_user: self.max_ids_per_user,
                    of_all,
                },
                of_users: (self.scope == DedupeScope::User)
                    .then(|| with.shared.keep_for(identity.as_ref(), Seen::default)),
                identity,
                pending,
                confirmed,
                forgotten: with.metrics.dedupe_forgotten_total.clone(),
            }),
        })))
    }
}

#[derive(Debug)]
struct Settings {
    acks: Arc<Acks>,
    id: FieldId,
    bounds: Bounds,
    /// None: each connection has its own.
    of_users: Option<Arc<Seen>>,
    identity: Option<Arc<str>>,
    pending: IntCounter,
    confirmed: IntCounter,
    forgotten: IntCounter,
}

#[derive(Debug, Clone)]
struct DedupeLayer {
    settings: Arc<Settings>,
}

impl<N> Layer<N> for DedupeLayer {
    type Service = NewDedupe<N>;

    fn layer(&self, inner: N) -> NewDedupe<N> {
        NewDedupe {
            settings: Arc::clone(&self.settings),
            inner,
        }
    }
}

#[derive(Debug)]
struct NewDedupe<N> {
    settings: Arc<Settings>,
    inner: N,
}

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for NewDedupe<N> {
    type Service = Dedupe<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        let settings = Arc::clone(&self.settings);
        let seen = settings.of_users.clone();
        Dedupe {
            seen: seen
                .unwrap_or_else(|| session.keep_for(settings.identity.as_ref(), Seen::default)),
            settings,
            inner: self.inner.new_service(Arc::clone(&session)),
            session,
        }
    }
}

/// Two stages of the kind in one pipeline follow the same message.
struct Both(Arc<dyn Follower>, Arc<Claim>);

impl Follower for Both {
    fn settled(&self, confirmed: bool) {
        self.0.settled(confirmed);
        self.1.settled(confirmed);
    }
}

#[derive(Debug)]
struct Dedupe<S> {
    settings: Arc<Settings>,
    seen: Arc<Seen>,
    session: Arc<Session>,
    inner: S,
}

impl<S> Dedupe<S> {
    /// What the message's id is remembered by; a text and a number are never alike.
    fn key(&self, message: &Message) -> Option<Key> {
        let id = message.scalar(self.settings.id)?;
        let (json, _) = message.json_of(self.settings.id);
        let kind: &[u8] = match json?.as_bytes().first()? {
            b'"' => b"text",
            _ => b"number",
        };
        let mut digest = digest::Context::new(&digest::SHA256);
        let user = self.session.user_id();
        // The length keeps the end of one from being the beginning of the next.
        digest.update(&user.len().to_be_bytes());
        for part in [user.as_bytes(), kind, id.as_bytes()] {
            digest.update(part);
        }
        digest.finish().as_ref().first_chunk().copied()
    }

    /// What a repetition comes to; none if the first one failed meanwhile.
    fn repeated(&self, first: &Claim, id: Option<MessageId>) -> Option<Outcome> {
        let settings = &self.settings;
        let Some(id) = id else {
            if first.result() == Some(false) {
                return None;
            }
            settings.pending.inc();
            return Some(Outcome::Ignored);
        };
        let waited = first.wait(&self.session, id.clone());
        let count = match waited {
            Waited::Failed => return None,
            Waited::Confirmed => &settings.confirmed,
            Waited::Waits | Waited::TooMany => &settings.pending,
        };
        count.inc();
        Some(match waited {
            Waited::Confirmed => settings.acks.at_once(&id),
            Waited::TooMany => settings.acks.refuse(&id, &Nack::DUPLICATE),
            Waited::Waits | Waited::Failed => Outcome::Ignored,
        })
    }
}

impl<S> Service<Message> for Dedupe<S>
where
    S: Service<Message, Response = Outcome, Error = BoxError>,
    S::Future: Into<MessageFuture>,
{
    type Response = Outcome;
    type Error = BoxError;
    type Future = MessageFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut message: Message) -> Self::Future {
        if message.kind() != EventKind::MessageReceived {
            return self.inner.call(message).into();
        }
        let Some(key) = self.key(&message) else {
            return self.inner.call(message).into();
        };
        let settings = &self.settings;
        loop {
            let id = settings.acks.id_of(&message);
            let answer = (&settings.acks, id.as_ref());
            let (bounds, forgotten) = (&settings.bounds, &settings.forgotten);
            match self
                .seen
                .look(key, &self.session, answer, bounds, forgotten)
            {
                Known::First(claim) => {
                    message.follower = Some(match message.follower.take() {
                        None => claim,
                        Some(above) => Arc::new(Both(above, claim)),
                    });
                    return self.inner.call(message).into();
                }
                Known::Confirmed => {
                    settings.confirmed.inc();
                    let outcome = id.map_or(Outcome::Ignored, |id| settings.acks.at_once(&id));
                    return MessageFuture::ready(Ok(outcome));
                }
                // Should the first one fail at this very moment, its id is free, and the next look finds that.
                Known::Pending(first) => {
                    if let Some(outcome) = self.repeated(&first, id) {
                        return MessageFuture::ready(Ok(outcome));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
