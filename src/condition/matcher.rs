//! A condition ready to be asked: compiled once a generation, bound once a connection, asked once a message.
//!
//! Stands between a stage or a route and the messages. What depends on the connection alone (subjects, headers,
//! claims) is decided when it is bound, and claims again after a renewed token; a message pays for its kind, its
//! `type` and the pointers that are reached.

use std::sync::Arc;

use http::HeaderName;

use super::fault::Fault;
use super::{Check, Condition, PlainCondition, Pointer};
use crate::event::EventKind;
use crate::message::{Body, Message};
use crate::session::Session;

/// A compiled condition; clones share it.
#[derive(Debug, Clone)]
pub struct Matcher(Arc<Rules>);

#[derive(Debug)]
struct Rules {
    /// The condition itself, then its `any`, then its `not`.
    plain: Box<[Plain]>,
    any: usize,
    asks_claims: bool,
}

#[derive(Debug)]
struct Plain {
    events: Box<[EventKind]>,
    types: Box<[Box<str>]>,
    subjects: Box<[Glob]>,
    json: Box<[(Pointer, Check)]>,
    claims: Box<[(Pointer, Check)]>,
    headers: Box<[(HeaderName, Check)]>,
}

impl Matcher {
    /// Compiles a condition.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn new(condition: &Condition) -> Result<Self, Fault> {
        if let Some(fault) = condition.faults().into_iter().find(|fault| fault.is_error) {
            return Err(fault);
        }
        let plain: Box<[Plain]> = std::iter::once(&condition.plain())
            .chain(&condition.any)
            .chain(&condition.not)
            .map(Plain::new)
            .collect();
        Ok(Self(Arc::new(Rules {
            asks_claims: plain.iter().any(|plain| !plain.claims.is_empty()),
            any: condition.any.len(),
            plain,
        })))
    }

    /// Decides what depends on the connection alone.
    #[must_use]
    pub fn bind(&self, session: &Arc<Session>) -> Bound {
        let mut bound = Bound {
            rules: Arc::clone(&self.0),
            session: Arc::clone(session),
            version: session.claims_version(),
            fixed: Box::default(),
        };
        bound.fix();
        bound
    }
}

impl Plain {
    /// Takes what is right of a plain condition, which all of it is by then.
    fn new(plain: &PlainCondition) -> Self {
        let pointed = |tests: &std::collections::BTreeMap<String, super::Test>| {
            let parsed = tests.iter().filter_map(|(pointer, test)| {
                Some((Pointer::parse(pointer).ok()?, Check::new(test).ok()?))
            });
            parsed.collect()
        };
        let headers = plain.header.iter().filter_map(|(name, test)| {
            let name = HeaderName::try_from(name.as_str()).ok()?;
            Some((name, Check::new(test).ok()?))
        });
        Self {
            events: plain.event.as_slice().into(),
            types: plain
                .types
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
            subjects: plain.subject.iter().map(|text| Glob::new(text)).collect(),
            json: pointed(&plain.json),
            claims: pointed(&plain.claim),
            headers: headers.collect(),
        }
    }

    /// Whether all holds that depends on the connection alone.
    fn holds_of_session(&self, session: &Session, claims: Option<&str>) -> bool {
        let listens = |glob: &Glob| session.subjects().iter().any(|subject| glob.fits(subject));
        (self.subjects.is_empty() || self.subjects.iter().any(listens))
            && self
                .headers
                .iter()
                .all(|(name, check)| check.holds_of_text(session.header(name)))
            && self
                .claims
                .iter()
                .all(|(pointer, check)| check.holds(claims.and_then(|claims| pointer.find(claims))))
    }

    /// Whether all holds that depends on the message.
    fn holds_of_message(&self, message: &Message) -> bool {
        let kind = message.kind();
        if !self.events.is_empty() && !self.events.contains(&kind) {
            return false;
        }
        if self.types.is_empty() && self.json.is_empty() {
            return true;
        }
        if kind != EventKind::MessageReceived {
            return false;
        }
        if !self.types.is_empty() {
            let name = message.type_name();
            let is_it = |wanted: &str| name.as_deref() == Some(wanted);
            if !self.types.iter().any(|wanted| is_it(wanted)) {
                return false;
            }
        }
        let text = match &message.body {
            Body::Text { text, object: true } => Some(text.as_str()),
            _ => None,
        };
        self.json
            .iter()
            .all(|(pointer, check)| check.holds(text.and_then(|text| pointer.find(text))))
    }
}

/// A condition as one connection asks it.
#[derive(Debug)]
pub struct Bound {
    rules: Arc<Rules>,
    session: Arc<Session>,
    version: u64,
    /// What depends on the connection alone, for each plain condition.
    fixed: Box<[bool]>,
}

impl Bound {
    /// Whether the condition holds of a message of this connection.
    pub fn holds(&mut self, message: &Message) -> bool {
        if self.rules.asks_claims && self.session.claims_version() != self.version {
            self.version = self.session.claims_version();
            self.fix();
        }
        let holds = |at: usize| {
            self.fixed.get(at) == Some(&true)
                && self
                    .rules
                    .plain
                    .get(at)
                    .is_some_and(|plain| plain.holds_of_message(message))
        };
        let (any, all) = (self.rules.any, self.rules.plain.len());
        holds(0) && (any == 0 || (1..=any).any(holds)) && !(any + 1..all).any(holds)
    }

    fn fix(&mut self) {
        let claims = self
            .rules
            .asks_claims
            .then(|| self.session.claims())
            .flatten();
        self.fixed = self
            .rules
            .plain
            .iter()
            .map(|plain| plain.holds_of_session(&self.session, claims.as_deref()))
            .collect();
    }
}

/// A pattern in which `*` stands for any text.
#[derive(Debug, Clone)]
struct Glob(Box<[Box<str>]>);

impl Glob {
    fn new(text: &str) -> Self {
        Self(text.split('*').map(Into::into).collect())
    }

    /// Each part between two stars is taken where it is found first, which leaves most to the rest.
    fn fits(&self, text: &str) -> bool {
        let (Some(first), Some(last)) = (self.0.first(), self.0.last()) else {
            return false;
        };
        if self.0.len() == 1 {
            return **first == *text;
        }
        let Some(mut rest) = text
            .strip_prefix(&**first)
            .and_then(|rest| rest.strip_suffix(&**last))
        else {
            return false;
        };
        for part in &self.0[1..self.0.len() - 1] {
            match rest.find(&**part) {
                Some(at) => rest = &rest[at + part.len()..],
                None => return false,
            }
        }
        true
    }
}
