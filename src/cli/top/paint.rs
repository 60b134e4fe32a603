//! Lines of text that fit a width: tables, labelled facts, bars and curves.
//!
//! A page of the terminal and the plain report are made of the same lines. Colour only repeats what the words say.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

use crate::cli::clean;

/// Columns that a label takes.
const LABEL: usize = 14;

/// Between two columns of a table, or two facts.
const GAP: usize = 2;

/// How meanings look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Theme {
    /// Whether there are colours.
    pub(super) color: bool,
}

impl Theme {
    fn colored(self, color: Color) -> Style {
        if self.color {
            Style::new().fg(color)
        } else {
            Style::new()
        }
    }

    pub(super) fn good(self) -> Style {
        self.colored(Color::Green)
    }

    pub(super) fn warning(self) -> Style {
        self.colored(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    pub(super) fn bad(self) -> Style {
        self.colored(Color::Red).add_modifier(Modifier::BOLD)
    }

    pub(super) fn head(self) -> Style {
        self.colored(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    pub(super) fn chosen() -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Bad if it is so, else unremarkable.
    pub(super) fn bad_if(self, bad: bool) -> Style {
        if bad { self.bad() } else { Style::new() }
    }

    /// The same for what may be well.
    pub(super) fn warning_if(self, warning: bool) -> Style {
        if warning {
            self.warning()
        } else {
            Style::new()
        }
    }
}

/// A piece of text, which may be a stranger's.
pub(super) fn text(text: impl AsRef<str>, style: Style) -> Span<'static> {
    Span::styled(clean(text.as_ref()), style)
}

pub(super) fn plain(plain: impl AsRef<str>) -> Span<'static> {
    text(plain, Style::new())
}

/// One column of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    head: &'static str,
    right: bool,
    /// Where not all fit, those with the least go.
    keep: u8,
}

impl Column {
    pub(super) const fn left(head: &'static str, keep: u8) -> Self {
        let right = false;
        Self { head, right, keep }
    }

    pub(super) const fn right(head: &'static str, keep: u8) -> Self {
        let right = true;
        Self { head, right, keep }
    }
}

/// The lines of a table: a head, and one for each row. Columns go until it fits; then the first is cut.
pub(super) fn table(
    columns: &[Column],
    rows: &[Vec<Span<'static>>],
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let cells = |index: usize| rows.iter().filter_map(move |row| row.get(index));
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let widest = cells(index).map(Span::width).max().unwrap_or_default();
            widest.max(column.head.len())
        })
        .collect();
    let mut shown: Vec<usize> = (0..columns.len()).collect();
    let total = |shown: &[usize], widths: &[usize]| {
        shown
            .iter()
            .map(|&index| widths[index] + GAP)
            .sum::<usize>()
            - GAP
    };
    while shown.len() > 1 && total(&shown, &widths) > width {
        let least = shown[1..].iter().min_by_key(|&&index| columns[index].keep);
        let least = least.copied();
        shown.retain(|index| Some(*index) != least);
    }
    let over = total(&shown, &widths).saturating_sub(width);
    widths[0] = widths[0].saturating_sub(over);

    let heads: Vec<_> = columns
        .iter()
        .map(|column| text(column.head, theme.head()))
        .collect();
    std::iter::once(&heads)
        .chain(rows)
        .map(|row| {
            let mut spans = Vec::new();
            for (place, &index) in shown.iter().enumerate() {
                let Some(cell) = row.get(index) else { continue };
                let cell = cut(cell.clone(), widths[index]);
                let fill = " ".repeat(widths[index] - cell.width());
                let last = place + 1 == shown.len();
                match (columns[index].right, last) {
                    (true, _) => spans.extend([Span::raw(fill), cell]),
                    (false, true) => spans.push(cell),
                    (false, false) => spans.extend([cell, Span::raw(fill)]),
                }
                if !last {
                    spans.push(Span::raw(" ".repeat(GAP)));
                }
            }
            Line::from(spans)
        })
        .collect()
}

/// A label and facts beside it, on as many lines as they need.
pub(super) fn facts(
    label: &'static str,
    facts: Vec<Span<'static>>,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let room = width.saturating_sub(LABEL).max(1);
    let mut lines = Vec::new();
    let mut line: Vec<Span<'static>> = Vec::new();
    let mut used = 0;
    for fact in facts {
        for piece in wrapped(&fact, room) {
            let gap = if line.is_empty() { 0 } else { GAP };
            if used + gap + piece.width() > room && !line.is_empty() {
                lines.push(std::mem::take(&mut line));
                used = 0;
            } else if gap > 0 {
                line.push(Span::raw(" ".repeat(GAP)));
                used += GAP;
            }
            used += piece.width();
            line.push(piece);
        }
    }
    lines.push(line);
    let labelled = lines.into_iter().enumerate().map(|(index, mut spans)| {
        let label = if index == 0 { label } else { "" };
        spans.insert(0, text(format!("{label:LABEL$}"), theme.head()));
        Line::from(spans)
    });
    labelled.collect()
}

/// A text on as many lines as it needs.
pub(super) fn paragraph(span: &Span<'static>, indent: usize, width: usize) -> Vec<Line<'static>> {
    let room = width.saturating_sub(indent).max(1);
    let lines = wrapped(span, room).into_iter();
    lines
        .map(|piece| Line::from(vec![Span::raw(" ".repeat(indent)), piece]))
        .collect()
}

/// Cuts a text between words, and words that are too long anywhere.
fn wrapped(span: &Span<'static>, room: usize) -> Vec<Span<'static>> {
    if span.width() <= room {
        return vec![span.clone()];
    }
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in span.content.split(' ').filter(|word| !word.is_empty()) {
        let width = Span::raw(word).width();
        if used > 0 && used + 1 + width > room {
            lines.push(String::new());
            used = 0;
        }
        if used > 0 {
            push(&mut lines, " ");
            used += 1;
        }
        for character in word.chars() {
            let mut buffer = [0; 4];
            let character = &*character.encode_utf8(&mut buffer);
            let width = Span::raw(character).width();
            if used > 0 && used + width > room {
                lines.push(String::new());
                used = 0;
            }
            push(&mut lines, character);
            used += width;
        }
    }
    let pieces = lines.into_iter();
    pieces.map(|line| Span::styled(line, span.style)).collect()
}

fn push(lines: &mut [String], more: &str) {
    if let Some(line) = lines.last_mut() {
        line.push_str(more);
    }
}

/// The text, or its beginning and `…`.
pub(super) fn cut(span: Span<'static>, room: usize) -> Span<'static> {
    if span.width() <= room {
        return span;
    }
    let mut short = String::new();
    for character in span.content.chars() {
        short.push(character);
        if Span::raw(short.as_str()).width() >= room {
            short.pop();
            break;
        }
    }
    if room > 0 {
        short.push('…');
    }
    Span::styled(short, span.style)
}

/// A bar that is filled so far, from 0 to 1.
pub(super) fn bar(share: f64, cells: usize) -> String {
    let share = share.clamp(0.0, 1.0);
    let full = cells_of(share, cells);
    // Only what is empty looks empty, and only what is full looks full.
    let least = usize::from(share > 0.0).min(cells);
    let most = cells - usize::from(share < 1.0).min(cells);
    let full = full.clamp(least, most.max(least));
    format!("{}{}", "█".repeat(full), "░".repeat(cells - full))
}

/// A curve of the last points, the newest at the right; the highest of them reaches the top.
pub(super) fn curve(points: &[Option<f64>], cells: usize) -> String {
    const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = &points[points.len().saturating_sub(cells)..];
    let highest = shown.iter().flatten().copied().fold(0.0, f64::max);
    let drawn = shown.iter().map(|point| match point {
        None => '·',
        Some(_) if highest <= 0.0 => HEIGHTS[0],
        Some(point) => HEIGHTS[cells_of(point / highest, HEIGHTS.len() - 1)],
    });
    let before = " ".repeat(cells - shown.len());
    before.chars().chain(drawn).collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a few cells"
)]
fn cells_of(share: f64, cells: usize) -> usize {
    ((share * cells as f64).round() as usize).min(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(lines: &[Line<'_>]) -> Vec<String> {
        lines.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_table_gives_up_its_least_columns_and_then_cuts_names() {
        let columns = [
            Column::left("NAME", 9),
            Column::right("RATE", 5),
            Column::right("P99", 1),
        ];
        let rows = [["rate_limit", "12", "3 ms"], ["été", "1,200", "-"]];
        let rows = rows.map(|row| row.map(plain).to_vec());
        let at = |width| written(&table(&columns, &rows, width, Theme::default()));
        assert_eq!(
            at(30),
            [
                "NAME         RATE   P99",
                "rate_limit     12  3 ms",
                "été         1,200     -"
            ]
        );
        assert_eq!(
            at(20),
            [
                "NAME         RATE",
                "rate_limit     12",
                "été         1,200"
            ]
        );
        assert_eq!(at(7), ["NAME", "rate_l…", "été"]);
        assert_eq!(at(0), ["", "", ""]);
    }

    #[test]
    fn facts_go_on_below_each_other() {
        let all = || ["one fact", "another", "a very long fact without end"].map(plain);
        let at = |width| written(&facts("label", all().to_vec(), width, Theme::default()));
        assert_eq!(
            at(80),
            ["label         one fact  another  a very long fact without end"]
        );
        assert_eq!(
            at(32),
            [
                "label         one fact  another",
                "              a very long fact",
                "              without end"
            ]
        );
        assert_eq!(
            at(20)[..3],
            [
                "label         one",
                "              fact",
                "              anothe"
            ]
        );
    }

    #[test]
    fn no_stranger_moves_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\n").content, "a\\u{1b}[2Jb\\n");
    }

    #[test]
    fn bars_and_curves_show_extremes_as_such() {
        assert_eq!(
            [0.0, 0.001, 0.5, 0.999, 1.0, 7.0].map(|share| bar(share, 4)),
            ["░░░░", "█░░░", "██░░", "███░", "████", "████"]
        );
        assert_eq!(bar(0.5, 0), "");
        let points = [Some(9.0), None, Some(0.0), Some(1.0), Some(2.0)];
        assert_eq!(curve(&points, 4), "·▁▅█");
        assert_eq!(curve(&points[2..3], 3), "  ▁");
        assert_eq!(curve(&[], 2), "  ");
    }
}
