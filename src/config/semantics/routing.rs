//! Checks conditions, the fields of `set`, and the routes of `fan_out`.
//!
//! Part of the checks of meaning: what conditions say is wrong themselves gets its place in the file here.

use std::collections::BTreeSet;

use super::Review;
use crate::condition::{Condition, Fault, identity};
use crate::config::document::{KeyPath, Value};
use crate::config::suggest::{nearest, quoted_list};
use crate::event::EventKind;
use crate::leases::LeasesConfig;
use crate::sinks;
use crate::stages::StageConfig;
use crate::stages::fan_out::{self, FanOutConfig, RouteMatch};

pub(super) fn check(review: &mut Review<'_>) {
    let trace_id_field = &review.config.tracing.trace_id_field;
    for (path, stage) in review.stage_paths() {
        if let Some(when) = stage.settings().when() {
            faults(review, &path.child("when"), &when.faults());
        }
        match stage {
            StageConfig::Set(set) => faults(review, &path, &set.faults(trace_id_field)),
            StageConfig::FanOut(fan_out) => routes(review, &path, fan_out),
            _ => {}
        }
    }
}

/// The conditions of stages that stand several times, to tell them apart: none of a stage without one.
pub(super) fn identities(stage: &StageConfig) -> Option<std::sync::Arc<str>> {
    identity(stage.settings().when())
}

fn faults(review: &mut Review<'_>, path: &KeyPath, faults: &[Fault]) {
    for fault in faults {
        let mut at = path.clone();
        for segment in &fault.path {
            // A list's only item may stand there without the list.
            let in_list = |path: &KeyPath| {
                let (_, node) = review.root.find(path)?;
                Some(matches!(node.value, Value::List(_)))
            };
            if segment.parse::<usize>().is_err() || in_list(&at) != Some(false) || is_free(&at) {
                at = at.child(segment);
            }
        }
        review.say_at(fault.code, &at, fault.message.clone(), fault.hint.clone());
    }
}

/// Whether the keys below a path are the file's own, so that a number may be one.
fn is_free(path: &KeyPath) -> bool {
    let last = path.segments().last().map(String::as_str);
    matches!(last, Some("json" | "claim" | "header" | "fields"))
}

fn routes(review: &mut Review<'_>, path: &KeyPath, fan_out: &FanOutConfig) {
    let list = path.child("routes");
    if fan_out.routes.is_empty() || review.is_poisoned(&list) {
        return;
    }
    let sinks = fan_out::sinks(review.config);
    let mut takes_all = None;
    for (index, route) in fan_out.routes.iter().enumerate() {
        let path = list.child(index.to_string());
        if let Some(when) = &route.when {
            faults(review, &path.child("when"), &when.faults());
        }
        let Some(to) = &route.to else {
            review.say_at(
                "route_without_to",
                &path,
                "the route leads nowhere: it has no `to`",
                "write `to: [webhook]`; where events are to go nowhere, `to: []`",
            );
            continue;
        };
        for (place, name) in to.iter().enumerate() {
            let at = path.child("to").child(place.to_string());
            sink(review, &at, name, &sinks);
        }
        if let Some(line) = takes_all {
            review.say_at(
                "unreachable_route",
                &path,
                format!("no event comes to this route: the one on line {line} takes all"),
                "move the route without `when` to the end, or set `route_match: all`",
            );
        } else if route.when.as_ref().is_none_or(asks_nothing)
            && fan_out.route_match == RouteMatch::First
        {
            takes_all = Some(review.place(&path).line);
        }
    }
    if fan_out.routes.iter().all(|route| route.when.is_some()) {
        review.say_at(
            "unrouted_events",
            &list,
            "every route has a condition: an event for which none holds goes nowhere",
            "end with a route without `when`; `{ to: [] }` says that this is meant",
        );
    }
    lifecycle(review, &list, fan_out);
}

fn asks_nothing(when: &Condition) -> bool {
    *when == Condition::default()
}

fn sink(review: &mut Review<'_>, at: &KeyPath, name: &str, sinks: &[(&'static str, bool)]) {
    match sinks.iter().find(|(known, _)| *known == name) {
        Some((_, true)) => {}
        Some(_) => review.say_at(
            "sink_off",
            at,
            format!("the sink `{name}` gets no events: it has no address, or `events_mode` leaves it out"),
            "configure it below `events` and choose it by `events_mode`, or take it out of the route",
        ),
        None => {
            let names = sinks.iter().map(|(known, _)| *known);
            let hint = match nearest(name, names.clone()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the sinks are {}", quoted_list(names)),
            };
            let message = format!("there is no sink `{}`", name.escape_debug());
            review.say_at("unknown_sink", at, message, hint);
        }
    }
}

/// Warns where the two ends of a connection part ways.
fn lifecycle(review: &mut Review<'_>, list: &KeyPath, fan_out: &FanOutConfig) {
    let (routes, which) = (&fan_out.routes, fan_out.route_match);
    let mut told = BTreeSet::new();
    for (sink, _) in fan_out::sinks(review.config).iter().filter(|(_, on)| *on) {
        let ends = [EventKind::Connected, EventKind::Disconnected]
            .map(|kind| fan_out::lifecycle(routes, which, kind, sink));
        if ends[0] != ends[1] {
            let differ = |route: &&(usize, _)| ends.iter().any(|end| !end.contains(route));
            let first = ends.iter().flatten().find(differ);
            let index = first.map_or(0, |(index, _)| *index);
            if told.insert(index) {
                review.say_at(
                    "lifecycle_parted",
                    &list.child(index.to_string()),
                    format!("`{sink}` hears of only one end of a connection: `connected` and `disconnected` take different routes"),
                    "let both take the same routes",
                );
            }
        }
    }
    let keeps_leases = LeasesConfig::place(review.config).is_some();
    let Some(primary) = sinks::primary(review.config).filter(|_| keeps_leases) else {
        return;
    };
    if fan_out::lifecycle(routes, which, EventKind::Connected, primary).is_empty() {
        review.say_at(
            "lost_unannounced",
            list,
            format!("`{primary}` never gets `connected`: when this gateway is lost, nobody tells of its connections' end"),
            format!("route `connected` and `disconnected` to `{primary}`, too, or set `leases.enabled: false`"),
        );
    }
}
