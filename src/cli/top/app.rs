//! What is on the screen: which page, of which gateway, how far scrolled; and what keys do to it.

use ratatui::Frame;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::Rect;
use ratatui::text::{Line, Span, Text};

use super::paint::{Theme, cut, paragraph, plain, text};
use super::status::Status;
use super::views::{View, fleet};
use super::watched::Watched;
use super::words::{age, clock};

/// Fewest columns and rows in which something can be shown.
const LEAST: (u16, u16) = (20, 5);

/// Rows that the screen has beside the page: the head, the tabs, and the keys.
const AROUND: u16 = 3;

/// Lines that a page key scrolls.
const PAGE: usize = 10;

/// What is to happen after a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Stay,
    Leave,
}

/// The whole screen.
#[derive(Debug)]
pub(super) struct App {
    pub(super) gateways: Vec<Watched>,
    theme: Theme,
    /// The gateway that is looked at; none while all are.
    open: Option<usize>,
    chosen: usize,
    view: View,
    scrolled: usize,
    /// Whether the chosen row is to be brought into sight.
    follow: bool,
    help: bool,
    paused: bool,
}

impl App {
    pub(super) fn new(urls: impl Iterator<Item = String>, theme: Theme) -> Self {
        let gateways: Vec<_> = urls.map(Watched::new).collect();
        Self {
            open: (gateways.len() == 1).then_some(0),
            gateways,
            theme,
            chosen: 0,
            view: View::default(),
            scrolled: 0,
            follow: false,
            help: false,
            paused: false,
        }
    }

    /// Whether the gateways are not to be asked.
    pub(super) fn paused(&self) -> bool {
        self.paused
    }

    /// Takes an answer of one gateway, at a time in Unix seconds.
    pub(super) fn take(&mut self, gateway: usize, answer: Result<Status, String>, now: u64) {
        // What was asked before the pause is not shown in it.
        if !self.paused
            && let Some(watched) = self.gateways.get_mut(gateway)
        {
            watched.take(answer, now);
        }
    }

    /// Does what a key is for.
    pub(super) fn press(&mut self, key: KeyEvent) -> Next {
        let ctrl = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Char('c') if ctrl => return Next::Leave,
            _ if ctrl => {}
            KeyCode::Char('q') => return Next::Leave,
            // Any key leaves the help.
            _ if self.help => self.help = false,
            KeyCode::Char('?' | 'h') => self.help = true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Up | KeyCode::Char('k') => self.step(false),
            KeyCode::Down | KeyCode::Char('j') => self.step(true),
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE),
            KeyCode::PageDown => self.scrolled = self.scrolled.saturating_add(PAGE),
            KeyCode::Home => self.scrolled = 0,
            KeyCode::End => self.scrolled = usize::MAX,
            code if self.open.is_some() => self.press_in_gateway(code),
            code => self.press_in_fleet(code),
        }
        Next::Stay
    }

    fn press_in_gateway(&mut self, code: KeyCode) {
        match code {
            KeyCode::Tab | KeyCode::Right => self.show(self.view.step(true)),
            KeyCode::BackTab | KeyCode::Left => self.show(self.view.step(false)),
            KeyCode::Char(digit) => {
                let view = number(digit).and_then(|index| View::ALL.get(index));
                if let Some(view) = view {
                    self.show(*view);
                } else if digit == '0' {
                    self.close();
                }
            }
            KeyCode::Esc | KeyCode::Backspace => self.close(),
            _ => {}
        }
    }

    fn press_in_fleet(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter | KeyCode::Right => self.open(self.chosen),
            KeyCode::Tab => self.step(true),
            KeyCode::Char(digit) => {
                if let Some(index) = number(digit) {
                    self.open(index);
                }
            }
            _ => {}
        }
    }

    fn step(&mut self, down: bool) {
        let at = if self.open.is_some() {
            &mut self.scrolled
        } else {
            &mut self.chosen
        };
        *at = if down {
            at.saturating_add(1)
        } else {
            at.saturating_sub(1)
        };
        self.chosen = self.chosen.min(self.gateways.len().saturating_sub(1));
        self.follow = self.open.is_none();
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scrolled = 0;
    }

    fn open(&mut self, index: usize) {
        if index < self.gateways.len() {
            self.open = Some(index);
            self.chosen = index;
            self.scrolled = 0;
        }
    }

    /// Back to all gateways, if there are several.
    fn close(&mut self) {
        if self.gateways.len() > 1 {
            self.open = None;
            self.scrolled = 0;
        }
    }

    /// Draws everything, as of a time in Unix seconds.
    pub(super) fn draw(&mut self, frame: &mut Frame<'_>, now: u64) {
        let area = frame.area();
        if area.width < LEAST.0 || area.height < LEAST.1 {
            frame.render_widget(Text::from("too small"), area);
            return;
        }
        let width = usize::from(area.width);
        let mut top = vec![self.head(width, now), self.tabs(width)];
        top.extend(self.warnings(width, now));
        // Whatever is wrong leaves half of the screen to the page.
        top.truncate(usize::from(area.height / 2).max(2));
        let mut lines = self.page(width);

        let above = u16::try_from(top.len()).unwrap_or(AROUND);
        let room = area.height.saturating_sub(above + 1);
        let hidden = lines.len().saturating_sub(usize::from(room));
        self.follow_chosen(usize::from(room));
        self.scrolled = self.scrolled.min(hidden);
        let more = hidden > self.scrolled;
        lines.drain(..self.scrolled);

        let rows = |y, height| Rect::new(area.x, area.y + y, area.width, height);
        frame.render_widget(Text::from(top), rows(0, above));
        frame.render_widget(Text::from(lines), rows(above, room));
        frame.render_widget(self.keys(width, more), rows(area.height - 1, 1));
    }

    /// Scrolls to where the chosen row can be seen.
    fn follow_chosen(&mut self, room: usize) {
        if std::mem::take(&mut self.follow) {
            let row = self.chosen + fleet::ABOVE;
            self.scrolled = (row + 1).saturating_sub(room);
        }
    }

    fn head(&self, width: usize, now: u64) -> Line<'static> {
        let name = match self.open.and_then(|index| self.gateways.get(index)) {
            Some(watched) => watched.name().to_owned(),
            None => format!("{} gateways", self.gateways.len()),
        };
        let (title, time) = ("wsgw top", format!("{} UTC", clock(now)));
        let room = width.saturating_sub(title.len() + 2);
        let name = cut(plain(name), room);
        let mut spans = vec![
            Span::styled(title, self.theme.head()),
            Span::raw("  "),
            name.clone(),
        ];
        // The time goes first where there is no room.
        let left = room.saturating_sub(name.width());
        if left >= time.len() + 2 {
            spans.push(Span::raw(" ".repeat(left - time.len())));
            spans.push(Span::raw(time));
        }
        Line::from(spans)
    }

    fn tabs(&self, width: usize) -> Line<'static> {
        if self.open.is_none() {
            return Line::from(cut(plain("Enter or a number opens one"), width));
        }
        let names = |whole: bool| {
            let mut spans = Vec::new();
            for (index, view) in View::ALL.into_iter().enumerate() {
                let here = view == self.view;
                let name = if whole || here {
                    format!("{} {}", index + 1, view.name())
                } else {
                    (index + 1).to_string()
                };
                let name = if here {
                    format!("[{name}]")
                } else {
                    format!(" {name} ")
                };
                let style = if here {
                    self.theme.head()
                } else {
                    ratatui::style::Style::new()
                };
                spans.push(Span::styled(name, style));
            }
            Line::from(spans)
        };
        let whole = names(true);
        if whole.width() <= width {
            whole
        } else {
            names(false)
        }
    }

    /// What must not be overlooked.
    fn warnings(&self, width: usize, now: u64) -> Vec<Line<'static>> {
        let mut lines = Vec::new();
        if self.paused {
            let said = "PAUSED: nothing is asked until p is pressed";
            lines.extend(paragraph(&text(said, self.theme.warning()), 0, width));
        }
        let open = self.open.and_then(|index| self.gateways.get(index));
        if let Some(watched) = open
            && let Some(trouble) = &watched.trouble
        {
            let since = clock(trouble.since);
            let lasted = age(now.saturating_sub(trouble.since) as f64);
            let old = if watched.status().is_some() {
                ", figures are from before"
            } else {
                ""
            };
            let said = format!("NO ANSWER since {since} ({lasted}){old}: {}", trouble.text);
            lines.extend(paragraph(&text(said, self.theme.bad()), 0, width));
        }
        lines
    }

    fn page(&self, width: usize) -> Vec<Line<'static>> {
        if self.help {
            return help(self.gateways.len() > 1, width);
        }
        let Some(index) = self.open else {
            let (all, chosen) = (self.gateways.iter().collect::<Vec<_>>(), Some(self.chosen));
            return fleet::lines(&all, chosen, width, self.theme);
        };
        match self.gateways.get(index) {
            Some(watched) => match watched.status() {
                Some(seen) => self.view.lines(watched, seen, width, self.theme),
                None if watched.trouble.is_some() => vec![Line::from("trying again and again")],
                None => vec![Line::from("asking")],
            },
            None => Vec::new(),
        }
    }

    fn keys(&self, width: usize, more: bool) -> Line<'static> {
        let mut keys = vec!["q quit", "? help"];
        if more {
            keys.push("↓ more");
        }
        if self.open.is_some() {
            keys.push("Tab next page");
            if self.gateways.len() > 1 {
                keys.push("Esc all gateways");
            }
        } else {
            keys.push("↑↓ choose");
            keys.push("Enter open");
        }
        keys.push("p pause");
        let mut line = String::new();
        for key in keys {
            if Span::raw(&*line).width() + Span::raw(key).width() <= width {
                line.push_str(key);
                line.push_str("  ");
            }
        }
        let line = format!("{:<width$}", line.trim_end());
        Line::from(line).style(Theme::chosen())
    }
}

fn number(digit: char) -> Option<usize> {
    usize::try_from(digit.to_digit(10)?).ok()?.checked_sub(1)
}

fn help(several: bool, width: usize) -> Vec<Line<'static>> {
    const KEYS: &[(&str, &str)] = &[
        ("q, Ctrl-C", "quit"),
        ("Tab, ← →", "next page, page before"),
        ("1 … 5", "overview, stages, sinks, sources, reloads"),
        ("↑ ↓", "scroll; also page up, page down, Home, End"),
        ("p", "pause: ask nothing, change nothing"),
        ("?", "this; any key leaves it"),
    ];
    const SEVERAL: &[(&str, &str)] = &[
        ("Enter, 1 … 9", "among all gateways: open one"),
        ("Esc, 0", "back to all gateways"),
    ];
    let several = if several { SEVERAL } else { &[] };
    let keys = KEYS.iter().chain(several).flat_map(|(key, what)| {
        super::paint::facts(key, vec![plain(what)], width, Theme::default())
    });
    let mut lines: Vec<_> = keys.collect();
    lines.push(Line::default());
    let words = "Rates are of the time between two answers, P50 and P99 of the last fifteen. A dash is what is not \
                 known, or not yet. Sums over gateways count dead letters in a shared broker once.";
    lines.extend(paragraph(&plain(words), 0, width));
    lines
}

#[cfg(test)]
mod tests;
