use std::collections::BTreeSet;

use super::*;
use crate::config::{Overrides, load_str};

fn load(text: &str) -> Loaded {
    load_str("test.yaml", text, &Overrides::default()).unwrap()
}

/// A file with more lines below `snoke_ws`, and its stages.
fn file(more: &str, stages: &str) -> Loaded {
    load(&format!(
        "snoke_ws:\n  server: {{ api_key: an-api-key-of-decent-length }}\n{more}  stages: [{stages}]\n"
    ))
}

const FAN_OUT: &str = "fan_out: { events_mode: none }";

fn leaves(shape: &Shape, path: &str, found: &mut BTreeSet<String>) {
    match &shape.kind {
        Kind::Object(fields) | Kind::OneKey(fields) => {
            for field in fields {
                leaves(&field.shape, &below(path, &field.name), found);
            }
        }
        Kind::List(item) if matches!(item.kind, Kind::OneKey(_)) => leaves(item, path, found),
        _ => {
            found.insert(path.to_owned());
        }
    }
}

fn all() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let document = Shape::of_document();
    leaves(&document.fields()[0].shape, "", &mut found);
    found
}

#[test]
fn every_setting_has_an_effect_and_every_row_a_setting() {
    let all = all();
    assert!(all.len() > 80, "{}", all.len());
    for path in &all {
        assert!(
            effect(path).is_some(),
            "`{path}` has no row in src/config/changes.rs: what does a reload do with it?"
        );
    }
    for (row, _) in EFFECTS {
        let covered = |path: &String| path == row || path.starts_with(&format!("{row}."));
        assert!(all.iter().any(covered), "no setting is below `{row}`");
    }
    for restart in RESTARTS {
        assert!(all.contains(restart.path), "{}", restart.path);
    }
}

#[test]
fn a_setting_that_waits_keeps_its_running_value_and_the_rest_applies() {
    let running = file("", FAN_OUT).config;
    let mut new = running.clone();
    new.server.listen = "127.0.0.1:1".into();
    new.server.node_id = "other".into();
    new.server.path = "/other".into();
    let waiting: Vec<_> = keep_running(&running, &mut new)
        .into_iter()
        .map(|restart| restart.path)
        .collect();
    assert_eq!(waiting, ["server.listen", "server.node_id"]);
    assert_eq!(new.server.listen, running.server.listen);
    assert_eq!(new.server.path, "/other");
    assert!(keep_running(&running, &mut new).is_empty());
}

#[test]
fn leases_begin_by_a_reload_and_stay_where_they_are() {
    let redis = |dsn: &str| {
        let mut config = Config::default();
        config.events.redis_stream.dsn = dsn.to_owned().into();
        config
    };
    let without = redis("");
    let a = redis("redis://a");
    assert!(keep_running(&without, &mut a.clone()).is_empty());
    for mut new in [redis("redis://b"), redis("")] {
        let waiting = keep_running(&a, &mut new);
        assert_eq!(waiting.len(), 1);
        assert_eq!(waiting[0].path, "leases.dsn");
        assert_eq!(
            LeasesConfig::place(&new),
            Some(("leases.dsn", &a.events.redis_stream.dsn))
        );
    }
    let mut off = a.clone();
    off.leases.enabled = false;
    let waiting = keep_running(&a, &mut off);
    assert_eq!(waiting[0].path, "leases.enabled");
    assert!(LeasesConfig::place(&off).is_some());
}

#[test]
fn the_archive_waits_and_other_strategies_do_not() {
    let with = |strategy| {
        let mut config = Config::default();
        config.replay.strategy = strategy;
        config
    };
    let none = with(ReplayStrategy::None);
    assert!(keep_running(&none, &mut with(ReplayStrategy::Bounded)).is_empty());
    let mut durable = with(ReplayStrategy::Durable);
    assert_eq!(keep_running(&none, &mut durable).len(), 1);
    assert_eq!(durable.replay.strategy, ReplayStrategy::None);
}

#[test]
fn changes_are_named_with_their_effect_and_without_secrets() {
    let old = file(
        "  events: { webhook: { url: \"http://a/\", secret: old-secret-of-decent-length } }\n",
        FAN_OUT,
    );
    let new = file(
        "  events: { webhook: { url: \"http://b/\", secret: new-secret-of-decent-length } }\n  \
         logging: { format: text }\n  backpressure: { per_conn_buffer: 7 }\n",
        FAN_OUT,
    );
    let changes = between(&old, &new);
    let rows: Vec<_> = changes
        .iter()
        .map(|change| (change.path.as_str(), change.effect))
        .collect();
    assert_eq!(
        rows,
        [
            ("events.webhook.url", Effect::Drains),
            ("events.webhook.secret", Effect::Drains),
            ("backpressure.per_conn_buffer", Effect::Hot),
            ("logging.format", Effect::Restart),
        ]
    );
    assert_eq!(changes[1].old, Some("***".into()));
    assert_eq!(changes[1].new, Some("***".into()));
    let text = format!("{changes:?} {:?} {:?}", old.effective, new.effective);
    assert!(!text.contains("of-decent-length"), "{text}");
    assert!(between(&old, &old).is_empty());
    assert_ne!(old.hash, new.hash);
}

#[test]
fn stages_are_added_removed_and_moved() {
    let old = file(
        "",
        &format!("ping_filter: {{}}, rate_limit: {{}}, trace: {{}}, {FAN_OUT}"),
    );
    let new = file(
        "",
        &format!("trace: {{}}, rate_limit: {{ burst: 3 }}, ordering_key: {{}}, {FAN_OUT}"),
    );
    let rows: Vec<_> = between(&old, &new)
        .into_iter()
        .map(|change| (change.path, change.change))
        .collect();
    let expected = [
        ("stages.ping_filter", How::Removed),
        ("stages.trace", How::Moved),
        ("stages.ordering_key", How::Added),
        ("stages.rate_limit.burst", How::Changed),
    ];
    // Which of two that changed places has moved is a matter of taste.
    assert_eq!(rows.len(), expected.len(), "{rows:?}");
    for (path, how) in expected {
        let found = rows.iter().any(|(found, change)| {
            *change == how && (found == path || how == How::Moved && found == "stages.rate_limit")
        });
        assert!(found, "{path} {how:?} in {rows:?}");
    }
}

#[test]
fn what_follows_from_another_setting_is_named_too() {
    let redis = |host: &str| {
        file(
            &format!("  events: {{ redis_stream: {{ dsn: \"redis://{host}/0\" }} }}\n"),
            FAN_OUT,
        )
    };
    let changes = between(&redis("a"), &redis("b"));
    let rows: Vec<_> = changes
        .iter()
        .map(|change| (change.path.as_str(), change.effect))
        .collect();
    assert_eq!(
        rows,
        [
            ("events.redis_stream.dsn", Effect::Drains),
            ("leases.dsn", Effect::Restart)
        ]
    );
}
