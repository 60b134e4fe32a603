//! Where the pushes of a gateway come from.

use ratatui::text::Line;

use super::{fact, note, standing};
use crate::cli::top::paint::{Column, Theme, plain, table, text};
use crate::cli::top::rates::Rates;
use crate::cli::top::status::Status;
use crate::cli::top::words::{count, or_unknown, per_second, rate};

/// Lag from which on a source is behind.
const BEHIND: u64 = 1_000;

const COLUMNS: &[Column] = &[
    Column::left("SOURCE", 9),
    Column::left("STATE", 8),
    Column::right("PUSH/S", 7),
    Column::right("LAG", 6),
    Column::right("PUSHES", 2),
    Column::right("MALFORMED", 4),
];

pub(super) fn lines(
    rates: &Rates,
    seen: &Status,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let mut lines = if seen.sources.is_empty() {
        vec![Line::from("no sources but HTTP")]
    } else {
        let rows = seen.sources.iter().enumerate().map(|(index, source)| {
            let now = rates.sources.get(index);
            let behind = source.lag.is_some_and(|lag| lag >= BEHIND);
            vec![
                plain(&source.name),
                standing(source.up, theme),
                plain(or_unknown(now.and_then(|now| now.pushes_per_second), rate)),
                text(or_unknown(source.lag, count), theme.warning_if(behind)),
                plain(count(source.pushes_total)),
                text(
                    count(source.malformed_total),
                    theme.warning_if(source.malformed_total > 0),
                ),
            ]
        });
        table(COLUMNS, &rows.collect::<Vec<_>>(), width, theme)
    };
    lines.push(Line::default());
    let all = format!(
        "{} by HTTP and brokers, {} since the start",
        per_second(rates.pushes_per_second),
        count(seen.pushes.accepted_total)
    );
    lines.extend(fact("all pushes", all, width, theme));
    if !seen.sources.is_empty() {
        lines.extend(note(
            "LAG: what the broker holds that this gateway has not read. MALFORMED: what was no push, and became a dead \
             letter.",
            width,
        ));
    }
    lines
}
