//! How the last reloads of a gateway went.

use ratatui::text::Line;

use super::fact;
use crate::cli::top::paint::{Theme, paragraph, plain, text};
use crate::cli::top::status::{Reload, Status};
use crate::cli::top::words::seconds;

/// Columns that what belongs to a reload stands in from the left.
const INDENT: usize = 2;

pub(super) fn lines(seen: &Status, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let pipeline = &seen.pipeline;
    let in_force = format!("generation {}, hash {}", pipeline.generation, pipeline.hash);
    let mut lines = fact("in force", in_force, width, theme);
    lines.push(Line::default());
    if seen.reloads.is_empty() {
        lines.push(Line::from("no reloads since the start"));
    }
    for reload in &seen.reloads {
        lines.extend(one(reload, width, theme));
    }
    lines
}

fn one(reload: &Reload, width: usize, theme: Theme) -> Vec<Line<'static>> {
    let result = if reload.result == "success" {
        text("success", theme.good())
    } else {
        text("FAILED", theme.bad())
    };
    let took = format!(
        "in {}, generation {}",
        seconds(reload.seconds),
        reload.generation
    );
    let head = format!("{}  {}  {took}", reload.at, result.content);
    let mut lines = if plain(&head).width() <= width {
        let time = text(format!("{}  ", reload.at), theme.head());
        vec![Line::from(vec![time, result, plain(format!("  {took}"))])]
    } else {
        paragraph(&text(head, result.style), 0, width)
    };
    let listed = |label: &str, names: &[String]| {
        (!names.is_empty()).then(|| plain(format!("{label}: {}", names.join(", "))))
    };
    let said = [
        listed("changed", &reload.changed),
        listed("waits for a restart", &reload.waits_for_restart),
    ];
    for said in said.into_iter().flatten() {
        lines.extend(paragraph(&said, INDENT, width));
    }
    for error in &reload.errors {
        lines.extend(paragraph(&text(error, theme.bad()), INDENT, width));
    }
    lines
}
