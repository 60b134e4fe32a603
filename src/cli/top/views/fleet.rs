//! Several gateways: one row each, their sum above.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::state;
use crate::cli::top::paint::{Column, Theme, paragraph, plain, table, text};
use crate::cli::top::rates::Rates;
use crate::cli::top::status::Status;
use crate::cli::top::watched::Watched;
use crate::cli::top::words::{UNKNOWN, age, bytes, clock, count, or_unknown, percent, rate};

/// Lines above the first gateway: the head and the sum.
pub(in crate::cli::top) const ABOVE: usize = 2;

const COLUMNS: &[Column] = &[
    Column::left("GATEWAY", 20),
    Column::left("STATE", 10),
    Column::right("CLIENTS", 9),
    Column::right("MSG/S", 8),
    Column::right("PUSH/S", 7),
    Column::left("SINKS", 6),
    Column::right("CPU", 5),
    Column::right("MEMORY", 4),
    Column::right("LAG", 3),
    Column::right("DEAD", 3),
    Column::right("UP", 1),
];

/// The lines; `chosen` is the row that a key would open.
pub(in crate::cli::top) fn lines(
    gateways: &[&Watched],
    chosen: Option<usize>,
    width: usize,
    theme: Theme,
) -> Vec<Line<'static>> {
    let mut rows = vec![sum(gateways, theme)];
    rows.extend(gateways.iter().enumerate().map(|(index, watched)| {
        let mark = if chosen == Some(index) { '>' } else { ' ' };
        let name = format!("{mark}{:>2} {}", index + 1, watched.name());
        row(name, watched, theme)
    }));
    let mut lines = table(COLUMNS, &rows, width, theme);
    if let Some(line) = chosen.and_then(|chosen| lines.get_mut(chosen + ABOVE)) {
        *line = std::mem::take(line).patch_style(Theme::chosen());
    }
    let troubles = gateways
        .iter()
        .filter_map(|watched| watched.trouble.as_ref());
    for trouble in troubles {
        lines.push(Line::default());
        let said = format!("since {}: {}", clock(trouble.since), trouble.text);
        lines.extend(paragraph(&text(said, theme.bad()), 0, width));
    }
    lines
}

fn row(name: String, watched: &Watched, theme: Theme) -> Vec<Span<'static>> {
    let mut cells = vec![plain(name)];
    let (Some(seen), None) = (watched.status(), &watched.trouble) else {
        let said = match watched.trouble {
            Some(_) => text("NO ANSWER", theme.bad()),
            None => plain("asked"),
        };
        cells.push(said);
        cells.resize(COLUMNS.len(), plain(UNKNOWN));
        return cells;
    };
    let rates = &watched.rates;
    cells.push(state(&seen.state, theme));
    cells.push(plain(count(seen.connections.open)));
    cells.extend(traffic(rates.messages_per_second, rates.pushes_per_second));
    cells.push(sinks(seen, theme));
    cells.push(plain(or_unknown(rates.cpu, percent)));
    cells.push(plain(or_unknown(seen.process.resident_bytes, bytes)));
    cells.push(plain(or_unknown(lag(seen), count)));
    cells.push(dead(dead_letters(&[seen]), theme));
    cells.push(plain(age(seen.uptime_seconds)));
    cells
}

fn sum(gateways: &[&Watched], theme: Theme) -> Vec<Span<'static>> {
    let answers: Vec<(&Status, &Rates)> = gateways
        .iter()
        .filter(|watched| watched.trouble.is_none())
        .filter_map(|watched| Some((watched.status()?, &watched.rates)))
        .collect();
    let statuses = || answers.iter().map(|(seen, _)| *seen);
    let rates = |of: fn(&Rates) -> Option<f64>| {
        answers
            .iter()
            .filter_map(|(_, rates)| of(rates))
            .reduce(|sum, more| sum + more)
    };
    let ready = statuses().filter(|seen| seen.state == "ready").count();
    let style = if ready == gateways.len() {
        theme.good()
    } else {
        theme.bad()
    };
    let mut cells = vec![
        text(format!("    all {}", gateways.len()), theme.head()),
        text(format!("{ready} ready"), style),
        plain(count(statuses().map(|seen| seen.connections.open).sum())),
    ];
    cells.extend(traffic(
        rates(|rates| rates.messages_per_second),
        rates(|rates| rates.pushes_per_second),
    ));
    let down = statuses()
        .flat_map(|seen| &seen.sinks)
        .filter(|sink| sink.up == Some(false))
        .count();
    cells.push(if down == 0 {
        plain(UNKNOWN)
    } else {
        text(format!("{down} DOWN"), theme.bad())
    });
    cells.push(plain(or_unknown(rates(|rates| rates.cpu), percent)));
    let memory = statuses().filter_map(|seen| seen.process.resident_bytes);
    cells.push(plain(or_unknown(
        memory.reduce(|sum, more| sum + more),
        bytes,
    )));
    let behind = statuses().filter_map(lag).max();
    cells.push(plain(or_unknown(behind, count)));
    cells.push(dead(dead_letters(&statuses().collect::<Vec<_>>()), theme));
    cells.push(plain(""));
    cells
}

fn traffic(messages: Option<f64>, pushes: Option<f64>) -> [Span<'static>; 2] {
    [messages, pushes].map(|number| plain(or_unknown(number, rate)))
}

/// The sinks in words: those that are down by name.
fn sinks(seen: &Status, theme: Theme) -> Span<'static> {
    let down = seen.sinks.iter().filter(|sink| sink.up == Some(false));
    let down: Vec<&str> = down.map(|sink| sink.name.as_str()).collect();
    if down.is_empty() {
        let up = seen.sinks.iter().filter(|sink| sink.up == Some(true));
        return text(format!("{} up", up.count()), theme.good());
    }
    text(format!("{} DOWN", down.join(", ")), theme.bad())
}

/// How far the source that is furthest behind is.
fn lag(seen: &Status) -> Option<u64> {
    seen.sources.iter().filter_map(|source| source.lag).max()
}

/// Dead letters that wait: those in a broker, which gateways share, once; those in files added up.
fn dead_letters(seen: &[&Status]) -> Option<u64> {
    let of = |store: &'static str| {
        seen.iter()
            .filter_map(move |status| *status.dead_letters.get(store)?)
    };
    let shared = ["redis", "rabbitmq"]
        .into_iter()
        .filter_map(|store| of(store).max());
    let own = of("file").reduce(|sum, more| sum + more);
    shared.chain(own).reduce(|sum, more| sum + more)
}

fn dead(letters: Option<u64>, theme: Theme) -> Span<'static> {
    let some = letters.is_some_and(|letters| letters > 0);
    let style = if some { theme.warning() } else { Style::new() };
    text(or_unknown(letters, count), style)
}
