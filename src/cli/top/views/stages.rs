//! What the stages of a gateway do.

use ratatui::text::Line;

use super::note;
use crate::cli::top::paint::{Column, Theme, plain, table};
use crate::cli::top::rates::Rates;
use crate::cli::top::status::Status;
use crate::cli::top::words::{UNKNOWN, or_unknown, quantile, rate};

const COLUMNS: &[Column] = &[
    Column::left("STAGE", 9),
    Column::right("MSG/S", 8),
    Column::right("ENDED/S", 7),
    Column::right("P50", 5),
    Column::right("P99", 6),
    Column::left("WHEN", 1),
];

pub(super) fn lines(
    rates: &Rates,
    seen: &Status,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let rows: Vec<_> = seen
        .pipeline
        .stages
        .iter()
        .enumerate()
        .map(|(index, stage)| {
            let now = rates.stages.get(index);
            vec![
                plain(&stage.name),
                plain(or_unknown(
                    now.and_then(|now| now.messages_per_second),
                    rate,
                )),
                plain(or_unknown(now.and_then(|now| now.ended_per_second), rate)),
                plain(or_unknown(now.and_then(|now| now.p50), quantile)),
                plain(or_unknown(now.and_then(|now| now.p99), quantile)),
                plain(stage.when.as_deref().unwrap_or(UNKNOWN)),
            ]
        })
        .collect();
    if rows.is_empty() {
        return vec![Line::from("no stages")];
    }
    let mut lines = table(COLUMNS, &rows, width, theme);
    lines.extend(note(
        "A message meets the stages top to bottom. ENDED: answered or refused there. P50, P99: time in a stage and \
         those below it, of one message in sixteen. Stages of one name are counted together.",
        width,
    ));
    lines
}
