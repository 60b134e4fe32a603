//! Where the events of a gateway go, and what waits.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{counts, note, standing};
use crate::cli::top::paint::{Column, Theme, bar, plain, table, text};
use crate::cli::top::rates::{Rates, SinkRates};
use crate::cli::top::status::{Sink, Status};
use crate::cli::top::words::{UNKNOWN, age, count, or_unknown, percent, quantile, rate};

/// Cells of the bar that shows how full a buffer is.
const BAR: usize = 10;

/// Age of the oldest event from which on something is wrong, in seconds.
const OLD: f64 = 10.0;

const COLUMNS: &[Column] = &[
    Column::left("SINK", 9),
    Column::left("STATE", 8),
    Column::left("BUFFER", 4),
    Column::right("EVENTS", 6),
    Column::right("OLDEST", 5),
    Column::right("SENT/S", 7),
    Column::right("RETRY/S", 3),
    Column::right("P50", 1),
    Column::right("P99", 2),
    Column::right("DEAD", 6),
];

pub(super) fn lines(
    rates: &Rates,
    seen: &Status,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    if seen.sinks.is_empty() {
        return vec![Line::from("no sinks: events go nowhere")];
    }
    let rows: Vec<_> = seen
        .sinks
        .iter()
        .enumerate()
        .map(|(index, sink)| row(sink, rates.sinks.get(index), theme))
        .collect();
    let mut lines = table(COLUMNS, &rows, width, theme);
    for sink in &seen.sinks {
        let dead = counts(&sink.dead_letters_total);
        if !dead.is_empty() {
            let dead = text(
                format!("{}: dead letters by reason: {dead}", sink.name),
                theme.warning(),
            );
            lines.extend(super::paragraph(&dead, 0, width));
        }
    }
    lines.extend(note(
        "BUFFER and EVENTS: what waits or is under way. OLDEST: how long the oldest of them waits. P50, P99: one try. \
         DEAD: given up since the start.",
        width,
    ));
    lines
}

fn row(sink: &Sink, now: Option<&SinkRates>, theme: Theme) -> Vec<Span<'static>> {
    let filled = sink
        .buffer_limit_events
        .filter(|limit| *limit > 0)
        .map(|limit| sink.buffered_events as f64 / limit as f64);
    let style = match filled {
        Some(filled) if filled >= 0.9 => theme.bad(),
        Some(filled) if filled >= 0.5 => theme.warning(),
        _ => Style::new(),
    };
    let buffer = or_unknown(filled, |filled| {
        format!("{} {:>5}", bar(filled, BAR), percent(filled))
    });
    let oldest = sink.oldest_event_age_seconds;
    let retries = now.and_then(|now| now.retries_per_second);
    let dead: u64 = sink.dead_letters_total.values().sum();
    let standing = if sink.configured == Some(false) {
        text("removed", theme.warning())
    } else {
        standing(sink.up, theme)
    };
    vec![
        plain(&sink.name),
        standing,
        text(buffer, style),
        text(count(sink.buffered_events), style),
        text(
            oldest
                .filter(|_| sink.buffered_events > 0)
                .map_or(UNKNOWN.to_owned(), age),
            theme.warning_if(oldest.is_some_and(|oldest| oldest >= OLD)),
        ),
        plain(or_unknown(
            now.and_then(|now| now.delivered_per_second),
            rate,
        )),
        text(
            or_unknown(retries, rate),
            theme.warning_if(retries.is_some_and(|retries| retries > 0.0)),
        ),
        plain(or_unknown(now.and_then(|now| now.p50), quantile)),
        plain(or_unknown(now.and_then(|now| now.p99), quantile)),
        text(count(dead), theme.warning_if(dead > 0)),
    ]
}
