//! What a page shows of one gateway, as lines that fit a width.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::paint::{Theme, facts, paragraph, plain, text};
use super::status::Status;
use super::watched::Watched;
use super::words::count;

pub(super) mod fleet;
pub(super) mod overview;
pub(super) mod reloads;
pub(super) mod sinks;
pub(super) mod sources;
pub(super) mod stages;

/// One page about a gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum View {
    #[default]
    Overview,
    Stages,
    Sinks,
    Sources,
    Reloads,
}

impl View {
    pub(super) const ALL: [Self; 5] = [
        Self::Overview,
        Self::Stages,
        Self::Sinks,
        Self::Sources,
        Self::Reloads,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Stages => "stages",
            Self::Sinks => "sinks",
            Self::Sources => "sources",
            Self::Reloads => "reloads",
        }
    }

    pub(super) fn step(self, forward: bool) -> Self {
        let at = Self::ALL.iter().position(|view| *view == self).unwrap_or(0);
        let more = if forward { 1 } else { Self::ALL.len() - 1 };
        Self::ALL[(at + more) % Self::ALL.len()]
    }

    /// The lines of the page; `seen` is its last answer.
    pub(super) fn lines(
        self,
        watched: &Watched,
        seen: &Status,
        width: usize,
        theme: Theme,
    ) -> Vec<Line<'static>> {
        match self {
            Self::Overview => overview::lines(watched, seen, width, theme),
            Self::Stages => stages::lines(&watched.rates, seen, width, theme),
            Self::Sinks => sinks::lines(&watched.rates, seen, width, theme),
            Self::Sources => sources::lines(&watched.rates, seen, width, theme),
            Self::Reloads => reloads::lines(seen, width, theme),
        }
    }
}

/// Whether something takes what it is given, in a word.
fn standing(up: Option<bool>, theme: Theme) -> Span<'static> {
    match up {
        Some(true) => text("up", theme.good()),
        Some(false) => text("DOWN", theme.bad()),
        None => plain("unknown"),
    }
}

/// The state of a gateway, in a word.
pub(super) fn state(state: &str, theme: Theme) -> Span<'static> {
    let style = match state {
        "ready" => theme.good(),
        "not_ready" => theme.bad(),
        _ => theme.warning(),
    };
    let word = match state {
        "not_ready" => "NOT READY",
        "" => "unknown",
        state => state,
    };
    text(word, style)
}

/// Something that is said below a table.
fn note(words: &'static str, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![Line::default()];
    lines.extend(paragraph(&plain(words), 0, width));
    lines
}

/// Names with their counts, such as close codes; nothing for none.
fn counts<'a>(counts: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let parts: Vec<String> = counts
        .into_iter()
        .filter(|(_, counted)| **counted > 0)
        .map(|(name, counted)| format!("{name} {}", count(*counted)))
        .collect();
    parts.join(", ")
}

/// A label and one fact.
fn fact(label: &'static str, words: String, width: usize, theme: Theme) -> Vec<Line<'static>> {
    facts(label, vec![text(words, Style::new())], width, theme)
}
