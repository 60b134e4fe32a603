//! Where `connected` and `disconnected` go, as far as the routes alone tell.
//!
//! Beside the data path: `wsgw check` warns where the two of one connection go to different sinks.

use super::{RouteConfig, RouteMatch};
use crate::condition::{Condition, PlainCondition};
use crate::event::EventKind;

/// Whether something holds of an event of which only the kind is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// It never does.
    Never,
    /// It depends on the connection, and so is the same for its whole life.
    Perhaps,
    /// It always does.
    Always,
}

use Certainty::{Always, Never, Perhaps};

/// The certainty with which a sink gets the events of a kind that have no message.
#[must_use]
pub fn lifecycle(
    routes: &[RouteConfig],
    which: RouteMatch,
    kind: EventKind,
    sink: &str,
) -> Vec<(usize, Certainty)> {
    let mut found = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let holds = route
            .when
            .as_ref()
            .map_or(Always, |when| certainty(when, kind));
        let leads = route.to.iter().flatten().any(|name| name == sink);
        if leads && holds != Never {
            found.push((index, holds));
        }
        // What stands below is not reached.
        if which == RouteMatch::First && holds == Always {
            break;
        }
    }
    found
}

fn certainty(when: &Condition, kind: EventKind) -> Certainty {
    let any = when.any.iter().map(|plain| plain_certainty(plain, kind));
    let none = when.not.iter().map(|plain| plain_certainty(plain, kind));
    let not = match none.max() {
        Some(Always) => Never,
        Some(Perhaps) => Perhaps,
        Some(Never) | None => Always,
    };
    plain_certainty(&when.plain(), kind)
        .min(any.max().unwrap_or(Always))
        .min(not)
}

fn plain_certainty(plain: &PlainCondition, kind: EventKind) -> Certainty {
    let asks_content = !plain.types.is_empty() || !plain.json.is_empty();
    let asks_connection =
        !plain.subject.is_empty() || !plain.claim.is_empty() || !plain.header.is_empty();
    if asks_content || !plain.event.is_empty() && !plain.event.contains(&kind) {
        Never
    } else if asks_connection {
        Perhaps
    } else {
        Always
    }
}
