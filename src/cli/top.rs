//! `wsgw top`: what running gateways do, as a page on the terminal or as a report.
//!
//! Stands outside the gateways: it asks each for `GET /internal/status`, again and again, and shows what changed between
//! two answers. [`client`] asks, [`watched`] remembers, [`rates`] compares, [`views`] writes lines, and [`app`] with
//! [`screen`] brings them to the terminal, or [`report`] to standard output.

use std::fmt::Display;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};

use self::app::{App, Next};
use self::client::{Client, Polling};
use self::paint::Theme;
use self::screen::{Ends, Input, Keys, Screen};
use super::{USAGE, fail};
use crate::clock::unix_now;
use crate::config;

mod app;
mod client;
mod paint;
mod rates;
mod report;
mod screen;
mod status;
mod views;
mod watched;
mod words;

/// What the help ends with.
pub(super) const EXAMPLES: &str = "Examples:
  wsgw top                                      watch the gateway on this machine
  wsgw top --url http://a:8000 --url http://b:8000
                                                watch several: one row each, and their sum
  wsgw top --interval 5s                        ask every 5 s
  wsgw top --once                               print a report, for a ticket
  wsgw top --once --format json | jq '.gateways[0].rates'

Keys: q quit, Tab or 1-5 pages, arrows scroll or choose, Enter opens a gateway, Esc goes back
to all, p pauses, ? explains.

The address is that of the internal API: server.internal_listen, if it is set. Prefer a file or
a variable for the key, as others on the machine can read the arguments of a command. NO_COLOR
switches colours off.";

/// What to watch, and how.
#[derive(Debug, Clone, Args)]
pub struct TopArgs {
    /// Address of a gateway's internal API; repeatable.
    #[arg(
        long = "url",
        value_name = "URL",
        default_value = "http://127.0.0.1:8000"
    )]
    pub urls: Vec<String>,
    /// The gateways' key, else `GATEWAY_API_KEY`.
    #[arg(long, alias = "key", value_name = "KEY")]
    pub api_key: Option<String>,
    /// A file with the gateways' key, which counts before the variable.
    #[arg(long, value_name = "FILE", conflicts_with = "api_key")]
    pub api_key_file: Option<PathBuf>,
    /// Time between two questions: seconds, or with a unit such as 500ms, 2s or 1m.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Prints one report, with rates over one interval, instead of a page.
    #[arg(long)]
    pub once: bool,
    /// With --once: how the report is written.
    #[arg(long, value_enum, default_value_t, requires = "once")]
    pub format: Format,
}

/// The form of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Tables for people.
    #[default]
    Text,
    /// One object for scripts.
    Json,
}

/// Reads `500ms`, `2s`, `1m` or `2`.
fn interval(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        other => return Err(format!("{other} is no unit: use ms, s or m")),
    };
    let number: f64 = digits
        .parse()
        .map_err(|_| "expected a time such as 500ms, 2s or 1m".to_owned())?;
    let seconds = number * unit;
    if !(0.1..=3_600.0).contains(&seconds) {
        return Err("expected a time between 100ms and 60m".to_owned());
    }
    Ok(crate::clock::seconds(seconds))
}

impl TopArgs {
    fn key(&self) -> Result<String, String> {
        let filled = |key: String| (!key.is_empty()).then_some(key);
        if let Some(path) = &self.api_key_file {
            return read_key(path);
        }
        self.api_key
            .clone()
            .and_then(filled)
            .or_else(|| std::env::var("GATEWAY_API_KEY").ok().and_then(filled))
            .ok_or_else(|| {
                "no key: give --api-key-file or --api-key, or set GATEWAY_API_KEY".to_owned()
            })
    }

    fn clients(&self) -> Result<Vec<Client>, String> {
        let key = self.key()?;
        let clients = self.urls.iter().map(|url| Client::new(url, &key));
        clients.collect()
    }
}

fn read_key(path: &Path) -> Result<String, String> {
    let bytes = config::read_bounded(path)
        .map_err(|error| format!("--api-key-file {}: {error}", path.display()))?;
    let key = String::from_utf8(bytes)
        .map_err(|_| format!("--api-key-file {}: it is no text", path.display()))?;
    let key = key.trim_end_matches(['\r', '\n']);
    if key.is_empty() {
        return Err(format!("--api-key-file {}: it is empty", path.display()));
    }
    Ok(key.to_owned())
}

/// Runs the command.
pub(super) fn run(args: &TopArgs) -> ExitCode {
    let usage = |mistake: &dyn Display| {
        fail(mistake);
        ExitCode::from(USAGE)
    };
    if !args.once && !io::stdout().is_terminal() {
        return usage(&"standard output is no terminal: give --once for a report");
    }
    let clients = match args.clients() {
        Ok(clients) => clients,
        Err(mistake) => return usage(&mistake),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    if args.once {
        let asking = report::ask(&clients, args.interval);
        return report::print(&runtime.block_on(asking), args.format);
    }
    match runtime.block_on(watch(clients, args.interval)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&format_args!("the terminal cannot be used: {error}")),
    }
}

/// Shows the page until somebody leaves it.
async fn watch(clients: Vec<Client>, interval: Duration) -> io::Result<()> {
    let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let urls = clients.iter().map(|client| client.url().to_owned());
    let mut app = App::new(urls, Theme { color });
    let mut ends = Ends::listen()?;
    let mut screen = Screen::take()?;
    let mut keys = Keys::read()?;
    let mut polling = Polling::start(clients, interval);
    // Ages and the time go on while nothing is answered.
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        screen.draw(|frame| app.draw(frame, unix_now()))?;
        tokio::select! {
            (gateway, answer) = polling.next() => app.take(gateway, answer, unix_now()),
            input = keys.next() => if let Input::Key(key) = input? {
                if app.press(key) == Next::Leave {
                    return Ok(());
                }
                polling.pause(app.paused());
            },
            () = ends.come() => return Ok(()),
            _ = second.tick() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_read() {
        let read = |text| interval(text).map(|interval| interval.as_millis());
        for (text, ms) in [
            ("1s", 1_000),
            ("2", 2_000),
            ("500ms", 500),
            ("0.5", 500),
            ("1m", 60_000),
            ("1.5min", 90_000),
        ] {
            assert_eq!(read(text), Ok(ms), "{text}");
        }
        for text in ["", "s", "1h", "1 s", "-1", "0", "99ms", "61m", "nan", "inf"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
