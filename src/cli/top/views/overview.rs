//! How a gateway does at a glance.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{counts, fact, state};
use crate::cli::top::paint::{Theme, curve, facts, plain, text};
use crate::cli::top::status::Status;
use crate::cli::top::watched::{Curve, Watched};
use crate::cli::top::words::{age, bytes, count, or_unknown, per_second, percent};

/// Cells of a curve, and the width from which on it has them.
const CURVES: [(usize, usize); 3] = [(100, 40), (70, 20), (50, 10)];

/// Characters of a configuration's hash that tell it from others.
const HASH: usize = 12;

pub(super) fn lines(
    watched: &Watched,
    seen: &Status,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let mut lines = health(watched, seen, width, theme);
    lines.extend(traffic(watched, seen, width, theme));
    lines.extend(process(watched, seen, width, theme));
    lines.extend(pipeline(seen, width, theme));
    lines
}

fn health(watched: &Watched, seen: &Status, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let mut health = vec![state(&seen.state, theme)];
    health.push(plain(format!("for {}", age(seen.uptime_seconds))));
    if watched.restarted.is_some() {
        health.push(text("restarted while watched", theme.warning()));
    }
    let mut lines = facts("state", health, width, theme);
    let checks = seen.checks.iter().map(|(name, found)| {
        let well = found == "ok";
        let style = if well { theme.good() } else { theme.bad() };
        let link = if well { " " } else { ": " };
        text(format!("{name}{link}{found}"), style)
    });
    let checks: Vec<_> = checks.collect();
    if !checks.is_empty() {
        lines.extend(facts("checks", checks, width, theme));
    }
    lines
}

fn traffic(watched: &Watched, seen: &Status, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let rates = &watched.rates;
    let connections = &seen.connections;
    let mut lines = facts(
        "connections",
        vec![
            plain(format!("{} open", count(connections.open))),
            plain(format!("opened {}", per_second(rates.opened_per_second))),
            plain(format!("closed {}", per_second(rates.closed_per_second))),
        ],
        width,
        theme,
    );
    let codes = counts(&connections.closed_total);
    if !codes.is_empty() {
        let all = count(connections.closed_total.values().sum());
        lines.extend(fact(
            "closed",
            format!("{all} by code: {codes}"),
            width,
            theme,
        ));
    }
    let mut messages = rate_with_curve(rates.messages_per_second, &watched.messages, width);
    let limited = rates.rate_limited_per_second;
    messages.push(text(
        format!("rate limited {}", per_second(limited)),
        theme.warning_if(limited.is_some_and(|limited| limited > 0.0)),
    ));
    lines.extend(facts("messages in", messages, width, theme));

    let mut pushes = rate_with_curve(rates.pushes_per_second, &watched.pushes, width);
    pushes.push(plain(format!(
        "to clients {}",
        per_second(rates.queued_per_second)
    )));
    pushes.push(plain(format!("waiting {}", count(seen.pushes.waiting))));
    lines.extend(facts("pushes", pushes, width, theme));
    let dropped = counts(&seen.pushes.dropped_total);
    if !dropped.is_empty() {
        let now = rates.dropped_per_second;
        let growing = now.is_some_and(|now| now > 0.0);
        let dropped = text(
            format!("{}, so far {dropped}", per_second(now)),
            theme.bad_if(growing),
        );
        lines.extend(facts("dropped", vec![dropped], width, theme));
    }
    lines
}

fn rate_with_curve(rate: Option<f64>, points: &Curve, width: usize) -> Vec<Span<'static>> {
    let mut spans = vec![plain(format!("{:>9}", per_second(rate)))];
    let fits = CURVES.into_iter().find(|(from, _)| width >= *from);
    if let Some((_, cells)) = fits
        && points.points().iter().any(Option::is_some)
    {
        spans.push(plain(curve(points.points(), cells)));
    }
    spans
}

fn process(watched: &Watched, seen: &Status, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let process = &seen.process;
    let files = match (process.open_fds, process.max_fds) {
        (Some(open), Some(most)) => {
            let near = open.saturating_mul(10) >= most.saturating_mul(9);
            let of = format!("files {} of {}", count(open), count(most));
            text(of, theme.bad_if(near))
        }
        (open, _) => plain(format!("files {}", or_unknown(open, count))),
    };
    let mut lines = facts(
        "process",
        vec![
            plain(format!("CPU {}", or_unknown(watched.rates.cpu, percent))),
            plain(format!(
                "memory {}",
                or_unknown(process.resident_bytes, bytes)
            )),
            files,
        ],
        width,
        theme,
    );
    let letters = seen.dead_letters.iter().map(|(store, letters)| {
        let some = letters.is_some_and(|letters| letters > 0);
        let said = format!("{store} {}", or_unknown(*letters, count));
        text(said, theme.warning_if(some))
    });
    let letters: Vec<_> = letters.collect();
    if !letters.is_empty() {
        lines.extend(facts("dead letters", letters, width, theme));
    }
    let traces = &seen.traces;
    if !matches!(traces.exporter.as_str(), "" | "none") {
        let lost = text(
            format!("{} lost", count(traces.dropped_total)),
            theme.warning_if(traces.dropped_total > 0),
        );
        let sent = per_second(watched.rates.spans_per_second);
        let spans = vec![
            plain(&traces.exporter),
            plain(format!("{sent} exported")),
            lost,
        ];
        lines.extend(facts("spans", spans, width, theme));
    }
    lines
}

fn pipeline(seen: &Status, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let pipeline = &seen.pipeline;
    let hash: String = pipeline.hash.chars().take(HASH).collect();
    let mut said = vec![plain(&pipeline.mode)];
    said.extend(pipeline.file.as_ref().map(plain));
    said.push(plain(format!("generation {}", pipeline.generation)));
    said.push(plain(format!("hash {hash}")));
    if !pipeline.loaded_at.is_empty() {
        said.push(plain(format!("since {}", pipeline.loaded_at)));
    }
    let mut lines = facts("pipeline", said, width, theme);
    if let Some(last) = seen.reloads.first()
        && last.result != "success"
    {
        let failed = format!("FAILED at {}, see reloads", last.at);
        lines.extend(facts(
            "last reload",
            vec![text(failed, theme.bad())],
            width,
            theme,
        ));
    }
    let node = vec![
        text(&seen.node_id, Style::new()),
        plain(format!("version {}", seen.version)),
    ];
    lines.extend(facts("node", node, width, theme));
    lines
}
