//! Routes: which sinks an event goes to.
//!
//! Stands between the message and the sinks' buffers: `fan_out` asks for the targets before it takes room anywhere.
//! Without routes every event goes to every sink.

use std::sync::Arc;

use prometheus::IntCounter;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::condition::{Bound, Condition, Matcher};
use crate::config::Config;
use crate::message::Message;
use crate::pipeline::CompileError;
use crate::session::Session;

mod lifecycle;

pub use lifecycle::{Certainty, lifecycle};

/// A route: the sinks that events go to for which its condition holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// Which events take the route; empty: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// The sinks: `webhook`, `redis`, `rabbitmq`, `stdout`; an empty list: nowhere, and that is meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<String>>,
}

/// Which of the routes count whose conditions hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteMatch {
    /// The first alone.
    #[default]
    First,
    /// All of them; a sink gets an event once however many name it.
    All,
}

/// The sinks that a route can name, and whether the configuration gives them events.
#[must_use]
pub fn sinks(config: &Config) -> [(&'static str, bool); 4] {
    let (mode, events) = (config.events_mode(), &config.events);
    [
        (
            "webhook",
            mode.has_webhook() && !events.webhook.url.is_empty(),
        ),
        (
            "redis",
            mode.has_broker() && !events.redis_stream.dsn.is_empty(),
        ),
        (
            "rabbitmq",
            mode.has_broker() && !events.rabbitmq.dsn.is_empty(),
        ),
        ("stdout", events.stdout.enabled),
    ]
}

/// Places in a list of sinks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Targets(u64);

impl Targets {
    /// Every sink.
    pub(super) const ALL: Self = Self(u64::MAX);
    const NONE: Self = Self(0);

    /// Whether the sink at this place is one of them.
    pub(super) fn has(self, place: usize) -> bool {
        place < 64 && self.0 & (1 << place) != 0
    }

    /// The sinks of a list that are among them.
    pub(super) fn of<T>(self, list: &[T]) -> impl Iterator<Item = &T> {
        let places = list.iter().enumerate();
        places.filter_map(move |(place, sink)| self.has(place).then_some(sink))
    }

    fn named(names: &[&str], wanted: impl Fn(&str) -> bool) -> Self {
        let places = names.iter().take(64).enumerate();
        let bits = places
            .filter(|(_, name)| wanted(name))
            .map(|(place, _)| 1 << place);
        Self(bits.fold(0, |all, bit: u64| all | bit))
    }
}

/// The compiled routes.
#[derive(Debug)]
pub(super) struct Routes {
    list: Box<[Route]>,
    which: RouteMatch,
    /// Sinks that no route can name, such as the one in memory: they get every event.
    always: Targets,
    unrouted: IntCounter,
}

#[derive(Debug)]
struct Route {
    when: Option<Matcher>,
    to: Targets,
    /// It leads somewhere, or nowhere on purpose.
    is_meant: bool,
}

impl Routes {
    /// Compiles routes to the sinks of these names, in this order; none where there are none.
    pub(super) fn compile(
        routes: &[RouteConfig],
        which: RouteMatch,
        config: &Config,
        names: &[&str],
        unrouted: IntCounter,
    ) -> Result<Option<Arc<Self>>, CompileError> {
        if routes.is_empty() {
            return Ok(None);
        }
        let known = sinks(config).map(|(name, _)| name);
        let list = routes.iter().enumerate().map(|(index, route)| {
            let wrong = |problem: String| {
                CompileError::setting(format!("stages.fan_out.routes[{index}]"), problem)
            };
            let to = route
                .to
                .as_deref()
                .ok_or_else(|| wrong("has no `to`".into()))?;
            if let Some(unknown) = to.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(wrong(format!("names the sink `{unknown}`, which is none")));
            }
            let when = route.when.as_ref().map(Matcher::new).transpose();
            let targets = Targets::named(names, |name| to.iter().any(|wanted| wanted == name));
            Ok(Route {
                when: when.map_err(|fault| wrong(format!("cannot be used: {fault}")))?,
                to: targets,
                is_meant: to.is_empty() || targets != Targets::NONE,
            })
        });
        Ok(Some(Arc::new(Self {
            list: list.collect::<Result<_, _>>()?,
            which,
            always: Targets::named(names, |name| !known.contains(&name)),
            unrouted,
        })))
    }

    /// The routes as one connection asks them.
    pub(super) fn bind(self: &Arc<Self>, session: &Arc<Session>) -> BoundRoutes {
        let bind = |route: &Route| route.when.as_ref().map(|matcher| matcher.bind(session));
        BoundRoutes {
            routes: Arc::clone(self),
            bound: self.list.iter().map(bind).collect(),
        }
    }
}

/// One connection's routes.
#[derive(Debug)]
pub(super) struct BoundRoutes {
    routes: Arc<Routes>,
    bound: Box<[Option<Bound>]>,
}

impl BoundRoutes {
    /// The sinks that a message's event goes to; one that goes to none is counted, unless that is meant.
    pub(super) fn pick(&mut self, message: &Message) -> Targets {
        let (mut targets, mut is_meant) = (Targets::NONE, false);
        for (route, when) in self.routes.list.iter().zip(&mut self.bound) {
            if when.as_mut().is_none_or(|when| when.holds(message)) {
                targets.0 |= route.to.0;
                is_meant |= route.is_meant;
                if self.routes.which == RouteMatch::First {
                    break;
                }
            }
        }
        if !is_meant {
            self.routes.unrouted.inc();
        }
        Targets(targets.0 | self.routes.always.0)
    }
}

#[cfg(test)]
mod tests;
