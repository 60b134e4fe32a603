//! What `--once` prints: the same lines as the pages, one after the other, or an object for scripts.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use serde::Serialize;
use serde_json::Value;

use super::Format;
use super::client::{Client, read};
use super::paint::Theme;
use super::rates::Rates;
use super::status::Status;
use super::views::{View, fleet};
use super::watched::Watched;
use crate::cli::{complain, printed};
use crate::clock::unix_now;

/// Columns of the text.
const WIDTH: usize = 110;

/// What one gateway answered.
#[derive(Debug, Serialize)]
struct Answered {
    url: String,
    /// Why there is no answer.
    error: Option<String>,
    rates: Option<Rates>,
    status: Option<Value>,
    #[serde(skip)]
    watched: Watched,
}

/// What all gateways answered.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Unix seconds.
    at: u64,
    interval_seconds: f64,
    gateways: Vec<Answered>,
}

/// Asks every gateway twice, an interval apart.
pub(super) async fn ask(clients: &[Client], interval: Duration) -> Report {
    let gateways = join_all(clients.iter().map(|client| ask_one(client, interval))).await;
    Report {
        at: unix_now(),
        interval_seconds: interval.as_secs_f64(),
        gateways,
    }
}

async fn ask_one(client: &Client, interval: Duration) -> Answered {
    let mut watched = Watched::new(client.url().to_owned());
    let asked = async {
        watched.take(Ok(client.status().await?), unix_now());
        tokio::time::sleep(interval).await;
        let raw = client.raw_status().await?;
        let status: Status = read(&raw)?;
        Ok((raw, status))
    };
    let asked: Result<_, String> = asked.await;
    let (status, error) = match asked {
        Ok((raw, status)) => {
            watched.take(Ok(status), unix_now());
            (Some(raw), None)
        }
        Err(error) => {
            watched.take(Err(error.clone()), unix_now());
            (None, Some(error))
        }
    };
    Answered {
        url: watched.url.clone(),
        rates: status.is_some().then(|| watched.rates.clone()),
        status,
        error,
        watched,
    }
}

/// Prints a report; fails if a gateway gave no answer.
pub(super) fn print(report: &Report, format: Format) -> ExitCode {
    let errors = report.gateways.iter().filter_map(|one| one.error.as_ref());
    let mut failed = false;
    for error in errors {
        complain(&format!("wsgw: {error}"));
        failed = true;
    }
    printed(|out| {
        match format {
            Format::Text => write(report, out)?,
            Format::Json => {
                serde_json::to_writer_pretty(&mut *out, report)?;
                writeln!(out)?;
            }
        }
        Ok(u8::from(failed))
    })
}

fn write(report: &Report, out: &mut dyn Write) -> std::io::Result<()> {
    let gateways = || report.gateways.iter().map(|one| &one.watched);
    if report.gateways.len() > 1 {
        let all: Vec<&Watched> = gateways().collect();
        for line in fleet::lines(&all, None, WIDTH, Theme::default()) {
            writeln!(out, "{}", line.to_string().trim_end())?;
        }
        writeln!(out)?;
    }
    let answered = gateways().filter(|watched| watched.trouble.is_none());
    for (index, watched) in answered.enumerate() {
        let Some(seen) = watched.status() else {
            continue;
        };
        let between = if index == 0 { "" } else { "\n" };
        let over = watched.rates.seconds;
        writeln!(out, "{between}{}, rates over {over:.1} s", watched.url)?;
        for view in View::ALL {
            writeln!(out, "\n{}", view.name().to_uppercase())?;
            for line in view.lines(watched, seen, WIDTH, Theme::default()) {
                writeln!(out, "{}", line.to_string().trim_end())?;
            }
        }
    }
    Ok(())
}
