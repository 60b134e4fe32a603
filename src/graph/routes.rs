//! Which events a picture shows going to which sink.
//!
//! Stands between the settings of `fan_out` and the drawing: a route is a label on the lines to its sinks.

use std::borrow::Cow;
use std::fmt;

use super::{ARCHIVE, Graph, Place};
use crate::config::Config;
use crate::stages::fan_out::{RouteMatch, sinks};

/// Characters of a label on a line; the whole is in the image's tooltip and description.
const MOST_CHARS: usize = 44;

/// A route, and the sinks that it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its number and its condition, in words.
    pub label: String,
    /// The sinks that are configured; none: it leads nowhere.
    pub to: Vec<String>,
}

impl Route {
    /// The label, cut to what fits on a line.
    pub(super) fn shown(&self) -> Cow<'_, str> {
        if self.label.chars().count() <= MOST_CHARS {
            return Cow::Borrowed(&self.label);
        }
        let kept: String = self.label.chars().take(MOST_CHARS - 1).collect();
        Cow::Owned(format!("{}…", kept.trim_end()))
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let to = match self.to.as_slice() {
            [] => Cow::Borrowed("nowhere"),
            to => Cow::Owned(to.join(", ")),
        };
        write!(f, "{} to {to}", self.label)
    }
}

/// The routes, with the one that is not written: what none takes goes nowhere.
pub(super) fn of(config: &Config) -> Vec<Route> {
    let Some(fan_out) = config.fan_out() else {
        return Vec::new();
    };
    if fan_out.routes.is_empty() {
        return Vec::new();
    }
    let configured = sinks(config);
    let is_sink = |name: &&String| configured.contains(&(name.as_str(), true));
    let mut routes: Vec<_> = (1..)
        .zip(&fan_out.routes)
        .map(|(number, route)| {
            let when = match (&route.when, fan_out.route_match) {
                (Some(when), _) => when.to_string(),
                (None, RouteMatch::First) if number > 1 => "otherwise".into(),
                (None, _) => "always".into(),
            };
            let to = route.to.iter().flatten().filter(is_sink);
            Route {
                // With a full stop, Mermaid would take it for a list.
                label: format!("{number}: {when}"),
                to: to.cloned().collect(),
            }
        })
        .collect();
    if fan_out.routes.iter().all(|route| route.when.is_some()) {
        routes.push(Route {
            label: "otherwise".into(),
            to: Vec::new(),
        });
    }
    routes
}

impl Graph {
    /// The routes that lead to a sink, none where it gets everything; nothing where it gets nothing.
    pub(super) fn routes_to(&self, sink: &str) -> Option<Vec<&Route>> {
        if self.routes.is_empty() || sink == ARCHIVE {
            return Some(Vec::new());
        }
        let leads = |route: &&Route| route.to.iter().any(|to| to == sink);
        let routes: Vec<_> = self.routes.iter().filter(leads).collect();
        (!routes.is_empty()).then_some(routes)
    }

    /// The routes that lead nowhere.
    pub(super) fn routes_nowhere(&self) -> Vec<&Route> {
        let leads_nowhere = |route: &&Route| route.to.is_empty();
        self.routes.iter().filter(leads_nowhere).collect()
    }

    /// The sinks that get events, with their places in the list.
    pub(super) fn reached(&self) -> impl Iterator<Item = (usize, &Place)> {
        let sinks = self.sinks.iter().enumerate();
        sinks.filter(|(_, sink)| self.routes_to(sink.name).is_some())
    }
}
