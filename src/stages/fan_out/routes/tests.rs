use serde_json::{Value, json};

use super::*;
use crate::event::EventKind;
use crate::stages::testing::text;

const NAMES: [&str; 4] = ["webhook", "redis", "stdout", "memory"];

fn routes(json: Value) -> Vec<RouteConfig> {
    serde_json::from_value(json).unwrap()
}

fn compiled(json: Value, which: RouteMatch) -> (Arc<Routes>, IntCounter) {
    let unrouted = IntCounter::new("a", "b").unwrap();
    let compiled = Routes::compile(
        &routes(json),
        which,
        &Config::default(),
        &NAMES,
        unrouted.clone(),
    );
    (compiled.unwrap().unwrap(), unrouted)
}

fn picked(routes: &Arc<Routes>, message: &Message) -> Vec<&'static str> {
    let session = Session::for_tests("42", &["user:42"]);
    let targets = routes.bind(&session).pick(message);
    targets.of(&NAMES).copied().collect()
}

#[test]
fn the_first_route_counts_or_all() {
    let list = json!([
        {"when": {"type": ["chat"]}, "to": ["redis"]},
        {"when": {"type": ["chat", "typing"]}, "to": ["redis", "webhook"]},
        {"when": {"type": ["noise"]}, "to": []},
        {"when": {"event": ["connected"]}, "to": ["rabbitmq"]},
    ]);
    for (message, first, all) in [
        (
            text(r#"{"type":"chat"}"#),
            &["redis", "memory"][..],
            &["webhook", "redis", "memory"][..],
        ),
        (
            text(r#"{"type":"typing"}"#),
            &["webhook", "redis", "memory"],
            &["webhook", "redis", "memory"],
        ),
        (text(r#"{"type":"noise"}"#), &["memory"], &["memory"]),
        (text("{}"), &["memory"], &["memory"]),
        (Message::connected(), &["memory"], &["memory"]),
    ] {
        let (routes, _) = compiled(list.clone(), RouteMatch::First);
        assert_eq!(picked(&routes, &message), first);
        let (routes, _) = compiled(list.clone(), RouteMatch::All);
        assert_eq!(picked(&routes, &message), all);
    }
}

#[test]
fn what_goes_nowhere_is_counted_unless_it_is_meant() {
    let list = json!([
        {"when": {"type": ["noise"]}, "to": []},
        {"when": {"type": ["off"]}, "to": ["rabbitmq"]},
        {"when": {"type": ["chat"]}, "to": ["redis"]},
    ]);
    let (routes, unrouted) = compiled(list, RouteMatch::First);
    for (kind, count) in [("noise", 0), ("chat", 0), ("other", 1), ("off", 2)] {
        picked(&routes, &text(&json!({"type": kind}).to_string()));
        assert_eq!(unrouted.get(), count, "{kind}");
    }
}

#[test]
fn no_routes_lead_everywhere() {
    let unrouted = IntCounter::new("a", "b").unwrap();
    let none = Routes::compile(&[], RouteMatch::First, &Config::default(), &NAMES, unrouted);
    assert!(none.unwrap().is_none());
    assert_eq!(Targets::ALL.of(&NAMES).count(), NAMES.len());
}

#[test]
fn what_cannot_be_compiled_is_named() {
    for (list, problem) in [
        (json!([{}]), "routes[0]` has no `to`"),
        (
            json!([{"to": []}, {"to": ["kafka"]}]),
            "routes[1]` names the sink `kafka`",
        ),
        (
            json!([{"to": [], "when": {"json": {"a": {"exists": true}}}}]),
            "no JSON pointer",
        ),
    ] {
        let unrouted = IntCounter::new("a", "b").unwrap();
        let error = Routes::compile(
            &routes(list),
            RouteMatch::First,
            &Config::default(),
            &NAMES,
            unrouted,
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains(problem), "{error}");
    }
}

/// Routes, what happens, and the routes that then lead to Redis.
type Row = (Value, EventKind, &'static [(usize, Certainty)]);

#[test]
fn both_ends_of_a_connection_as_far_as_routes_tell() {
    use Certainty::{Always, Perhaps};
    let (connected, disconnected) = (EventKind::Connected, EventKind::Disconnected);
    let rows: [Row; 7] = [
        (json!([{"to": ["redis"]}]), connected, &[(0, Always)]),
        (
            json!([{"to": ["webhook"]}, {"to": ["redis"]}]),
            connected,
            &[],
        ),
        (
            json!([{"to": ["redis"], "when": {"subject": ["a"]}}, {"to": ["redis"]}]),
            disconnected,
            &[(0, Perhaps), (1, Always)],
        ),
        (
            json!([{"to": ["redis"], "when": {"event": ["connected"]}}]),
            disconnected,
            &[],
        ),
        (
            json!([{"to": ["redis"], "when": {"not": [{"event": ["connected"]}]}}]),
            connected,
            &[],
        ),
        (
            json!([{"to": ["redis"], "when": {"not": [{"event": ["connected"]}]}}]),
            disconnected,
            &[(0, Always)],
        ),
        (
            json!([{"to": ["redis"], "when": {"any": [{"type": ["a"]}, {"claim": {"/a": {"exists": true}}}]}}]),
            connected,
            &[(0, Perhaps)],
        ),
    ];
    for (list, kind, expected) in rows {
        let found = lifecycle(&routes(list.clone()), RouteMatch::First, kind, "redis");
        assert_eq!(found, expected, "{list}");
    }
}
