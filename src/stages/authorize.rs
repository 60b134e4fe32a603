//! Refuses messages that name what their user may not: rooms, topics, subjects of others.
//!
//! Stands above `fan_out`. What is allowed comes from the configuration and from the claims of the connection's token;
//! it is put together once for each connection, and again when the client renews its token.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use self::pattern::{Pattern, Template, text};
use super::validate::Unchecked;
use crate::condition::{Condition, Pointer, identity};
use crate::event::EventKind;
use crate::message::{FieldId, FieldSet, Message, TooManyFields};
use crate::pipeline::{CompileError, Ingredients, MESSAGES, Stage, StageLayers};
use crate::session::Session;
use crate::svc::{BoxError, MessageFuture, MessageLayer, NewService, Outcome};

mod pattern;

/// Time between two log lines about one connection's being refused.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Settings of the `authorize` stage.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizeConfig {
    /// Which messages the stage meets; all of them without a condition.
    #[serde(
        skip_serializing_if = "crate::condition::absent",
        deserialize_with = "crate::condition::present"
    )]
    #[schemars(with = "Condition")]
    pub when: Option<Condition>,
    /// What each field of a message may name; all rules must hold.
    pub rules: Vec<AuthorizeRule>,
    /// What happens to a message that lacks the field of a rule.
    pub on_missing: Unchecked,
    /// Refused messages after which the connection is closed with 1008; 0: it is not.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub close_after_denials: u32,
}

impl Default for AuthorizeConfig {
    fn default() -> Self {
        Self {
            when: None,
            rules: Vec::new(),
            on_missing: Unchecked::Pass,
            close_after_denials: 0,
        }
    }
}

/// What one field of a message may name.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuthorizeRule {
    /// The field, at the top level and in `meta`: a text, a number, or a list of them that must all be allowed.
    pub field: String,
    /// Patterns of what is allowed: `*` stands for any text, `{user_id}` and `{claim:/path}` for what is known of the connection.
    pub allow: Vec<String>,
    /// JSON pointer (RFC 6901) to a claim that lists further patterns, in which only `*` is special; empty: none.
    pub allow_claim: String,
}

impl AuthorizeRule {
    /// What is wrong with the rule, beginning with a verb, and the key below it that is.
    #[must_use]
    pub fn fault(&self) -> Option<(String, String)> {
        if self.field.trim().is_empty() {
            return Some(("field".into(), "names no field".into()));
        }
        for (index, pattern) in self.allow.iter().enumerate() {
            if let Err(fault) = Template::parse(pattern) {
                return Some((format!("allow.{index}"), fault.to_string()));
            }
        }
        if let Err(fault) = Pointer::parse(&self.allow_claim) {
            return Some((
                "allow_claim".into(),
                format!("names a claim by a pointer that {fault}"),
            ));
        }
        (self.allow.is_empty() && self.allow_claim.is_empty())
            .then(|| ("allow".into(), "allows nothing".into()))
    }
}

/// A message names what its user may not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Forbidden {
    /// The message is refused.
    #[error("the message names what its user may not")]
    Reply {
        /// The name of the field, as JSON.
        field: Arc<str>,
    },
    /// The connection is to be closed.
    #[error("too many messages named what their user may not")]
    Close,
}

impl Stage for AuthorizeConfig {
    fn acts_on(&self) -> &'static str {
        MESSAGES
    }

    fn does(&self) -> &'static str {
        "refuses what the user may not name"
    }

    fn when(&self) -> Option<&Condition> {
        self.when.as_ref()
    }

    fn layers(&self, with: &mut Ingredients<'_>) -> Result<StageLayers, CompileError> {
        let mut rules = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            rules.push(
                Rule::compile(rule, &mut with.fields).map_err(|error| match error {
                    RuleError::Fields(error) => CompileError::Fields(error),
                    RuleError::Fault { key, fault } => CompileError::setting(
                        format!("stages.authorize.rules.{index}.{key}"),
                        fault,
                    ),
                })?,
            );
        }
        if rules.is_empty() {
            return Ok(StageLayers::none());
        }
        Ok(StageLayers::messages(MessageLayer::new(AuthorizeLayer {
            settings: Arc::new(Settings {
                rules,
                on_missing: self.on_missing,
                close_after: self.close_after_denials,
                identity: identity(self.when()),
                forbidden: with.metrics.forbidden_messages_total.clone(),
            }),
        })))
    }
}

#[derive(Debug)]
struct Rule {
    field: FieldId,
    /// The field's name, as JSON.
    name: Arc<str>,
    allow: Vec<Template>,
    allow_claim: Option<Pointer>,
}

/// Why a rule cannot be compiled.
#[derive(Debug)]
enum RuleError {
    Fields(TooManyFields),
    Fault { key: String, fault: String },
}

impl Rule {
    fn compile(rule: &AuthorizeRule, fields: &mut FieldSet) -> Result<Self, RuleError> {
        if let Some((key, fault)) = rule.fault() {
            return Err(RuleError::Fault { key, fault });
        }
        let name = serde_json::Value::from(rule.field.as_str()).to_string();
        // The fault was looked for above: nothing is left out here.
        let allow = rule.allow.iter().flat_map(|text| Template::parse(text));
        Ok(Self {
            field: fields.want(&rule.field).map_err(RuleError::Fields)?,
            name: name.into(),
            allow: allow.collect(),
            allow_claim: match rule.allow_claim.as_str() {
                "" => None,
                pointer => Pointer::parse(pointer).ok(),
            },
        })
    }

    /// What the rule allows on one connection.
    fn bind(&self, user_id: &str, claims: Option<&str>) -> Vec<Pattern> {
        let filled = self.allow.iter().filter_map(|t| t.fill(user_id, claims));
        let mut patterns: Vec<Pattern> = filled.collect();
        if let (Some(pointer), Some(claims)) = (&self.allow_claim, claims)
            && let Some(json) = pointer.find(claims)
        {
            if let Ok(list) = serde_json::from_str::<Vec<&RawValue>>(json) {
                let texts = list.iter().filter_map(|item| text(item.get()));
                patterns.extend(texts.map(|pattern| Pattern::glob(&pattern)));
            } else if let Some(one) = text(json) {
                patterns.push(Pattern::glob(&one));
            }
        }
        patterns
    }
}

/// What a field names, in the eyes of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named {
    Nothing,
    Allowed,
    Forbidden,
}

fn judge(json: Option<&str>, allowed: &[Pattern]) -> Named {
    let Some(json) = json else {
        return Named::Nothing;
    };
    let may = |name: &str| allowed.iter().any(|pattern| pattern.matches(name));
    let verdict = |allowed| {
        if allowed {
            Named::Allowed
        } else {
            Named::Forbidden
        }
    };
    match json.as_bytes().first() {
        Some(b'n') | None => Named::Nothing,
        // A blank names nothing, as everywhere.
        Some(b'"') => text(json).map_or(Named::Nothing, |name| verdict(may(&name))),
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(json) {
            Ok(list) if list.is_empty() => Named::Nothing,
            Ok(list) => verdict(
                list.iter()
                    .all(|item| text(item.get()).is_some_and(|name| may(&name))),
            ),
            Err(_) => Named::Forbidden,
        },
        // A map or a truth value is nothing that a rule could allow, and the backend might read a name in it.
        _ => verdict(text(json).is_some_and(|name| may(&name))),
    }
}

#[derive(Debug)]
struct Settings {
    rules: Vec<Rule>,
    on_missing: Unchecked,
    close_after: u32,
    identity: Option<Arc<str>>,
    forbidden: IntCounter,
}

#[derive(Debug, Clone)]
struct AuthorizeLayer {
    settings: Arc<Settings>,
}

impl<N> Layer<N> for AuthorizeLayer {
    type Service = NewAuthorize<N>;

    fn layer(&self, inner: N) -> NewAuthorize<N> {
        NewAuthorize {
            settings: Arc::clone(&self.settings),
            inner,
        }
    }
}

#[derive(Debug)]
struct NewAuthorize<N> {
    settings: Arc<Settings>,
    inner: N,
}

/// How many messages of a connection were refused; outlives a reload.
#[derive(Debug, Default)]
struct Denials(AtomicU32);

impl<N: NewService<Arc<Session>>> NewService<Arc<Session>> for NewAuthorize<N> {
    type Service = Authorize<N::Service>;

    fn new_service(&self, session: Arc<Session>) -> Self::Service {
        let settings = Arc::clone(&self.settings);
        let mut authorize = Authorize {
            denials: session.keep_for(settings.identity.as_ref(), Denials::default),
            claims_version: session.claims_version(),
            allowed: Vec::new(),
            logged_at: None,
            settings,
            inner: self.inner.new_service(Arc::clone(&session)),
            session,
        };
        authorize.bind();
        authorize
    }
}

#[derive(Debug)]
struct Authorize<S> {
    settings: Arc<Settings>,
    session: Arc<Session>,
    /// What each rule allows, as of these claims.
    allowed: Vec<Vec<Pattern>>,
    claims_version: u64,
    denials: Arc<Denials>,
    logged_at: Option<Instant>,
    inner: S,
}

impl<S> Authorize<S> {
    fn bind(&mut self) {
        self.claims_version = self.session.claims_version();
        let (user_id, claims) = (self.session.user_id(), self.session.claims());
        self.allowed = self
            .settings
            .rules
            .iter()
            .map(|rule| rule.bind(user_id, claims.as_deref()))
            .collect();
    }

    /// The first rule that a message breaks.
    fn broken(&self, message: &Message) -> Option<&Rule> {
        let mut rules = self.settings.rules.iter().zip(&self.allowed);
        let broken = rules.find(|(rule, allowed)| {
            // The backend may look at either place, so both must be allowed.
            let (top, meta) = message.json_of(rule.field);
            match (judge(top, allowed), judge(meta, allowed)) {
                (Named::Forbidden, _) | (_, Named::Forbidden) => true,
                (Named::Nothing, Named::Nothing) => self.settings.on_missing == Unchecked::Reject,
                _ => false,
            }
        });
        broken.map(|(rule, _)| rule)
    }

    fn deny(&mut self, field: Arc<str>) -> Forbidden {
        self.settings.forbidden.inc();
        let denials = self.denials.0.fetch_add(1, Ordering::Relaxed) + 1;
        let now = Instant::now();
        if self
            .logged_at
            .is_none_or(|at| now.duration_since(at) >= LOG_EVERY)
        {
            self.logged_at = Some(now);
            tracing::info!(
                event = "ws_forbidden",
                connection_id = %self.session.id(),
                user_id = %self.session.user_id(),
                field = %field,
            );
        }
        match self.settings.close_after {
            0 => Forbidden::Reply { field },
            most if denials >= most => Forbidden::Close,
            _ => Forbidden::Reply { field },
        }
    }
}

impl<S> Service<Message> for Authorize<S>
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

    fn call(&mut self, message: Message) -> Self::Future {
        if message.kind() != EventKind::MessageReceived {
            return self.inner.call(message).into();
        }
        if self.session.claims_version() != self.claims_version {
            self.bind();
        }
        let Some(field) = self.broken(&message).map(|rule| Arc::clone(&rule.name)) else {
            return self.inner.call(message).into();
        };
        MessageFuture::ready(Err(Box::new(self.deny(field))))
    }
}

#[cfg(test)]
mod tests;
