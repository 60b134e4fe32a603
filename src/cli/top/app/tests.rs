//! Each page as it stands on terminals of several sizes, and what keys do.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use serde_json::{Value, json};

use super::{App, Next};
use crate::cli::top::client::read;
use crate::cli::top::paint::Theme;

const NOW: u64 = 1_700_000_000;

/// A gateway after so many seconds of work.
fn busy(seconds: f64) -> Value {
    let count = |per_second: f64| whole(seconds * per_second);
    json!({
        "version": "0.1.0", "node_id": "gw-1", "started_at": "2023-11-14T20:00:00Z", "now": "2023-11-14T22:13:20Z",
        "uptime_seconds": 8_000.0 + seconds, "state": "ready", "checks": {"gateway": "ok", "redis": "ok"},
        "process": {"resident_bytes": 88_290_099, "cpu_seconds": seconds * 0.41, "open_fds": 1_250, "max_fds": 65_536},
        "connections": {"open": 1_234, "opened_total": count(12.0), "closed_total": {"1000": count(9.0), "4401": count(0.5)}},
        "messages": {"received_total": count(1_203.0), "rate_limited_total": 0},
        "pushes": {"accepted_total": count(340.0), "queued_total": count(400.0), "waiting": 12, "dropped_total": {}},
        "pipeline": {"mode": "core", "file": "pipelines/core.yaml", "hash": "3f9c2a7b1d30aabb", "generation": 3,
            "loaded_at": "2023-11-14T21:00:00Z", "stages": [
                {"name": "auth", "when": null, "messages_total": null, "ended_total": null, "timed": timed(seconds, 75.0)},
                {"name": "ping_filter", "ended_total": count(203.0), "timed": timed(seconds, 75.0)},
                {"name": "rate_limit", "when": "type = \"chat\"", "ended_total": 0, "timed": timed(seconds, 62.0)},
                {"name": "fan_out", "ended_total": null, "timed": timed(seconds, 62.0)}
            ]},
        "sinks": [
            {"name": "redis", "configured": true, "up": true, "buffered_events": 120, "buffer_limit_events": 10_000,
             "buffered_bytes": 40_000, "oldest_event_age_seconds": 0.2, "delivered_total": count(1_000.0),
             "retries_total": 0, "dead_letters_total": {}, "timed": timed(seconds, 1_000.0)},
            {"name": "webhook", "configured": true, "up": false, "buffered_events": 9_400, "buffer_limit_events": 10_000,
             "buffered_bytes": 9_000_000, "oldest_event_age_seconds": 73.0, "delivered_total": 5, "retries_total": count(4.0),
             "dead_letters_total": {"exhausted": 3, "rejected": 1}, "timed": null}
        ],
        "sources": [
            {"name": "redis", "up": true, "pushes_total": count(300.0), "malformed_total": 2, "lag": 7},
            {"name": "rabbitmq", "up": null, "pushes_total": 0, "malformed_total": 0, "lag": null}
        ],
        "dead_letters": {"redis": 3, "rabbitmq": null, "file": 1},
        "reloads": [
            {"at": "2023-11-14T22:10:00Z", "result": "failure", "seconds": 0.004, "generation": 3, "changed": [],
             "waits_for_restart": [], "errors": ["pipelines/core.yaml:3:5: error[unknown_key]: unknown key `per_secnd`"]},
            {"at": "2023-11-14T21:00:00Z", "result": "success", "seconds": 0.009, "generation": 3,
             "changed": ["stages.rate_limit.per_second", "events.webhook.timeout_seconds"],
             "waits_for_restart": ["server.listen"], "errors": []}
        ],
        "traces": {"exporter": "otlp", "exported_total": count(30.0), "dropped_total": 4},
        "something_newer": true
    })
}

/// Observations of 1 to 10 µs, few of which are longer.
fn timed(seconds: f64, per_second: f64) -> Value {
    let all = seconds * per_second;
    let (most, all) = (whole(all * 0.9), whole(all));
    json!({"count": all, "sum_seconds": 1.0, "buckets": [[1e-6, 0], [1e-5, most], [1e-3, all]]})
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small and not negative"
)]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

fn app(gateways: usize) -> App {
    let urls = (1..=gateways).map(|index| format!("http://10.0.0.{index}:8000"));
    App::new(urls, Theme::default())
}

fn answer(app: &mut App, gateway: usize, status: &Value, now: u64) {
    app.take(gateway, read(status), now);
}

/// One that has been watched for a while.
fn watched() -> App {
    let mut app = app(1);
    for (index, load) in [100.0, 101.0, 101.5, 103.0, 104.0].into_iter().enumerate() {
        let mut status = busy(load);
        status["uptime_seconds"] = json!(8_000 + index);
        answer(&mut app, 0, &status, NOW - 4 + index as u64);
    }
    app
}

fn press(app: &mut App, code: KeyCode) -> Next {
    app.press(KeyEvent::new(code, KeyModifiers::NONE))
}

fn type_keys(app: &mut App, keys: &str) {
    for key in keys.chars() {
        assert_eq!(press(app, KeyCode::Char(key)), Next::Stay, "{key}");
    }
}

fn terminal(app: &mut App, width: u16, height: u16) -> Terminal<TestBackend> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| app.draw(frame, NOW)).unwrap();
    terminal
}

fn screen(app: &mut App, width: u16, height: u16) -> String {
    terminal(app, width, height).backend().to_string()
}

/// What is on the screen, however it is broken into lines.
fn words(app: &mut App, width: u16, height: u16) -> String {
    let text = screen(app, width, height).replace('"', " ");
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

macro_rules! assert_screen {
    ($app:expr, $width:expr, $height:expr, $name:literal) => {
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path("../../../../tests/snapshots");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| {
            insta::assert_snapshot!(concat!("top_", $name), screen(&mut $app, $width, $height))
        });
    };
}

#[test]
fn every_page_of_a_gateway() {
    let mut app = watched();
    assert_screen!(app, 80, 24, "overview");
    type_keys(&mut app, "2");
    assert_screen!(app, 80, 14, "stages");
    type_keys(&mut app, "3");
    assert_screen!(app, 100, 14, "sinks");
    type_keys(&mut app, "4");
    assert_screen!(app, 80, 14, "sources");
    type_keys(&mut app, "5");
    assert_screen!(app, 80, 14, "reloads");
    type_keys(&mut app, "?");
    assert_screen!(app, 80, 16, "help");
}

#[test]
fn a_small_terminal_shows_what_matters_most() {
    let mut app = watched();
    assert_screen!(app, 40, 10, "overview_small");
    press(&mut app, KeyCode::PageDown);
    assert_screen!(app, 40, 10, "overview_small_scrolled");
    type_keys(&mut app, "3");
    assert_screen!(app, 40, 10, "sinks_small");
    type_keys(&mut app, "5");
    assert_screen!(app, 40, 10, "reloads_small");
    assert!(screen(&mut app, 19, 10).contains("too small"));
    for (width, height) in [(1, 1), (20, 5), (300, 100)] {
        for key in "12345?".chars() {
            type_keys(&mut app, &key.to_string());
            screen(&mut app, width, height);
        }
        type_keys(&mut app, "1");
    }
}

#[test]
fn several_gateways_are_rows_and_a_sum() {
    let mut app = app(3);
    for second in 0..2 {
        answer(&mut app, 0, &busy(f64::from(second)), NOW);
        let mut other = busy(f64::from(second) * 2.0);
        other["uptime_seconds"] = json!(60 + second);
        other["state"] = json!("draining");
        other["sinks"][1]["up"] = json!(true);
        answer(&mut app, 1, &other, NOW);
    }
    let refused = "http://10.0.0.3:8000 cannot be reached: Connection refused (os error 111)";
    app.take(2, Err(refused.into()), NOW - 75);
    assert_screen!(app, 110, 12, "gateways");
    assert_screen!(app, 80, 12, "gateways_80");
    press(&mut app, KeyCode::Down);
    assert_screen!(app, 40, 10, "gateways_small");
    press(&mut app, KeyCode::Enter);
    assert!(screen(&mut app, 80, 24).contains("10.0.0.2:8000"));
    press(&mut app, KeyCode::Esc);
    type_keys(&mut app, "39");
    let text = screen(&mut app, 80, 24);
    assert!(
        text.contains("NO ANSWER since 22:12:05 (1 min 15 s): "),
        "{text}"
    );
    type_keys(&mut app, "0");
    assert!(screen(&mut app, 80, 24).contains("3 gateways"));
}

#[test]
fn a_gateway_that_is_gone_keeps_its_last_figures_and_says_so() {
    let mut app = watched();
    let gone = "http://10.0.0.1:8000 cannot be reached: Connection refused (os error 111); is the gateway running, and \
                is this its internal API?";
    app.take(0, Err(gone.into()), NOW - 14);
    assert_screen!(app, 80, 16, "gone");
    let small = screen(&mut app, 40, 10);
    assert!(small.contains("NO ANSWER since 22:13:06 (14 s)"), "{small}");
    assert!(small.contains("state "), "the page is still there: {small}");

    // Another process, whose counters are lower.
    let mut restarted = busy(0.0);
    restarted["started_at"] = json!("2023-11-14T22:13:18Z");
    restarted["uptime_seconds"] = json!(2.0);
    answer(&mut app, 0, &restarted, NOW);
    let text = words(&mut app, 80, 24);
    assert!(text.contains("restarted while watched"), "{text}");
    assert!(!text.contains("NO ANSWER"), "{text}");
    let negative = |word: &str| word.starts_with('-') && word != "-";
    assert!(!text.split(' ').any(negative), "no negative rates: {text}");
    assert!(text.contains("opened - closed -"), "{text}");
}

#[test]
fn before_the_first_answer_nothing_is_made_up() {
    let mut app = app(1);
    assert!(screen(&mut app, 80, 24).contains("asking"));
    let refused = "http://10.0.0.1:8000 answered 401: the API key is wrong; give the right one by --api-key, \
                   --api-key-file or GATEWAY_API_KEY";
    app.take(0, Err(refused.into()), NOW);
    let text = words(&mut app, 80, 24);
    assert!(
        text.contains("answered 401: the API key is wrong"),
        "{text}"
    );
    assert!(!text.contains("from before"), "{text}");
}

#[test]
fn an_older_or_newer_gateway_can_be_looked_at() {
    let mut app = app(1);
    answer(
        &mut app,
        0,
        &json!({"state": "resting", "sinks": [{"name": "a"}]}),
        NOW,
    );
    for key in ["1", "2", "3", "4", "5"] {
        type_keys(&mut app, key);
        screen(&mut app, 80, 24);
    }
    assert!(read(&json!([])).is_err() && read(&json!({"sinks": 5})).is_err());
}

#[test]
fn what_a_stranger_wrote_cannot_move_the_cursor() {
    let mut app = app(1);
    let mut status = busy(1.0);
    status["checks"]["redis"] = json!("\u{1b}[2J\u{7}gone");
    answer(&mut app, 0, &status, NOW);
    let text = screen(&mut app, 80, 24);
    assert!(!text.contains(['\u{1b}', '\u{7}']) && text.contains("\\u{1b}[2J"));
}

#[test]
fn a_pause_changes_nothing_until_it_ends() {
    let mut app = watched();
    type_keys(&mut app, "p");
    let before = screen(&mut app, 80, 24);
    assert!(before.contains("PAUSED") && app.paused());
    app.take(0, Err("gone".into()), NOW);
    assert_eq!(screen(&mut app, 80, 24), before);
    type_keys(&mut app, "p");
    assert!(!app.paused() && !screen(&mut app, 80, 24).contains("PAUSED"));
}

#[test]
fn keys_move_between_pages_and_leave() {
    let mut app = watched();
    let here = |app: &mut App| {
        let text = screen(app, 80, 24);
        let (_, tab) = text.split_once('[').unwrap();
        tab.split_once(']').unwrap().0.to_owned()
    };
    for page in [
        "2 stages",
        "3 sinks",
        "4 sources",
        "5 reloads",
        "1 overview",
    ] {
        press(&mut app, KeyCode::Tab);
        assert_eq!(here(&mut app), page);
    }
    press(&mut app, KeyCode::Left);
    assert_eq!(here(&mut app), "5 reloads");
    type_keys(&mut app, "?x");
    assert_eq!(here(&mut app), "5 reloads", "any key leaves the help");
    press(&mut app, KeyCode::Esc);
    assert_eq!(
        here(&mut app),
        "5 reloads",
        "there are no others to go back to"
    );
    assert_eq!(press(&mut app, KeyCode::Char('q')), Next::Leave);
    let ctrl_c = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert_eq!(app.press(ctrl_c), Next::Leave);
    type_keys(&mut app, "?");
    assert_eq!(
        press(&mut app, KeyCode::Char('q')),
        Next::Leave,
        "from the help too"
    );
}

#[test]
fn colours_repeat_what_the_words_say_and_can_be_off() {
    let colors = |theme: Theme| {
        let mut app = App::new(["http://a:1".to_owned()].into_iter(), theme);
        let mut status = busy(1.0);
        status["state"] = json!("not_ready");
        answer(&mut app, 0, &status, NOW);
        let terminal = terminal(&mut app, 80, 24);
        let text = terminal.backend().to_string();
        assert!(text.contains("NOT READY"), "{text}");
        let cells = terminal.backend().buffer().content().iter();
        let mut colors: Vec<Color> = cells.map(|cell| cell.fg).collect();
        colors.sort_by_key(ToString::to_string);
        colors.dedup();
        colors
    };
    assert_eq!(colors(Theme { color: false }), [Color::Reset]);
    assert!(colors(Theme { color: true }).contains(&Color::Red));
}
