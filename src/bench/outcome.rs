//! The result of a run: printed for people, or as JSON for `summary` and scripts.
//!
//! Stands last. `docs/bench.md` names every field, and says what it means.

use std::io::Write;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::process::Memory;
use super::socket::Closed;
use super::tally::{Latencies, Percentiles, Totals};
use super::{BenchError, Ended, Result, connector};

/// Everything one run found out. Absent figures were not measured.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Outcome {
    /// Which benchmark.
    pub(crate) mode: String,
    /// Which benchmark, or the name given with `--label`.
    pub(crate) label: String,
    /// What is counted: connection, message, delivery or round trip.
    pub(crate) unit: String,
    /// How many of them there should have been.
    pub(crate) expected: usize,
    /// How many there were.
    pub(crate) count: usize,
    /// Duration of the load.
    pub(crate) seconds: f64,
    /// Units per second.
    pub(crate) per_second: f64,
    /// CPU time of the server during the load, until it was quiet.
    pub(crate) cpu_seconds: Option<f64>,
    /// The same per unit, in microseconds.
    pub(crate) cpu_us_per_unit: Option<f64>,
    /// CPU time of the broker per unit, in microseconds.
    pub(crate) broker_cpu_us_per_unit: Option<f64>,
    /// Server's proportional set size before, in bytes.
    pub(crate) pss_before: Option<u64>,
    /// Growth of the proportional set size per connection, in bytes.
    pub(crate) pss_per_connection: Option<f64>,
    /// Growth of the resident set size per connection, in bytes.
    pub(crate) rss_per_connection: Option<f64>,
    /// CPU of the idle server, in percent of one core.
    pub(crate) idle_cpu_percent: Option<f64>,
    /// CPU of the broker meanwhile, in percent of one core.
    pub(crate) broker_idle_cpu_percent: Option<f64>,
    /// From the intended send time to the arrival.
    pub(crate) latency_us: Option<Percentiles>,
    /// Every latency, in microseconds, with how often it was seen.
    pub(crate) latency_counts: Option<Vec<(f64, u64)>>,
    /// Units that never arrived.
    pub(crate) lost: usize,
    /// Units that arrived more than once; allowed where delivery is at least once.
    pub(crate) duplicate: usize,
    /// Units that arrived after a later one.
    pub(crate) reordered: usize,
    /// Whether `lost`, `duplicate` and `reordered` were looked at.
    pub(crate) checked: bool,
    /// Whether Ctrl-C ended it: what was still on its way then counts as lost.
    pub(crate) interrupted: bool,
    /// What went wrong besides, in words.
    pub(crate) problems: Vec<String>,
    /// What else is worth knowing.
    pub(crate) notes: Vec<String>,
}

impl Outcome {
    /// Starts a result.
    pub(crate) fn new(label: Option<&str>, mode: &str, unit: &str, expected: usize) -> Self {
        Self {
            mode: mode.to_owned(),
            label: label.unwrap_or(mode).to_owned(),
            unit: unit.to_owned(),
            expected,
            ..Self::default()
        }
    }

    /// Notes how many units arrived, and in what time.
    pub(crate) fn arrived(&mut self, count: usize, took: Duration) {
        self.count = count;
        self.seconds = took.as_secs_f64();
        self.per_second = count as f64 / self.seconds.max(1e-9);
    }

    /// Notes what was lost, duplicated and reordered.
    pub(crate) fn check(&mut self, totals: Totals) {
        self.checked = true;
        self.lost = self.expected.saturating_sub(totals.unique);
        self.duplicate = totals.duplicate;
        self.reordered = totals.reordered;
    }

    /// Notes how long things took, in full where several runs are to be added up.
    pub(crate) fn latencies(&mut self, latencies: &Latencies, in_full: bool) {
        self.latency_us = latencies.percentiles();
        self.latency_counts = in_full.then(|| latencies.counts()).flatten();
    }

    /// Notes the server's CPU time; call it after `arrived`.
    pub(crate) fn cpu(&mut self, before: Option<Duration>, after: Option<Duration>) {
        let Some((before, after)) = before.zip(after) else {
            return;
        };
        let used = after.saturating_sub(before).as_secs_f64();
        self.cpu_seconds = Some(used);
        self.cpu_us_per_unit = (self.count > 0).then(|| used * 1e6 / self.count as f64);
    }

    /// Notes the broker's CPU time; call it after `arrived`.
    pub(crate) fn broker_cpu(&mut self, before: Option<Duration>, after: Option<Duration>) {
        self.broker_cpu_us_per_unit =
            before
                .zip(after)
                .filter(|_| self.count > 0)
                .map(|(before, after)| {
                    after.saturating_sub(before).as_secs_f64() * 1e6 / self.count as f64
                });
    }

    /// Notes the server's memory; call it after `arrived`.
    pub(crate) fn memory(&mut self, before: Option<Memory>, after: Option<Memory>) {
        let Some((before, after)) = before.zip(after) else {
            return;
        };
        let growth = |before: u64, after: u64| {
            (self.count > 0).then(|| (after as f64 - before as f64) / self.count as f64)
        };
        self.pss_before = Some(before.pss);
        self.pss_per_connection = growth(before.pss, after.pss);
        self.rss_per_connection = growth(before.rss, after.rss);
    }

    /// Notes sockets that the server ended in the middle of the run.
    pub(crate) fn closed_early(&mut self, (count, first): (usize, Option<Closed>)) {
        if let Some(first) = first {
            let hint = connector::close_hint(&first);
            let connections = if count == 1 {
                "connection"
            } else {
                "connections"
            };
            self.problems.push(format!(
                "the server ended {count} {connections}, the first with {first}{hint}"
            ));
        }
    }

    /// Adds a problem unless the count is zero.
    pub(crate) fn problem(&mut self, count: usize, what: &str) {
        if count > 0 {
            self.problems.push(format!("{count} {what}"));
        }
    }

    /// Whether everything arrived, in order, on connections that stayed.
    pub(crate) fn passed(&self) -> bool {
        self.lost == 0 && self.reordered == 0 && self.problems.is_empty()
    }

    /// How the run ended.
    pub(crate) fn ended(&self) -> Ended {
        if self.interrupted {
            Ended::Interrupted
        } else if self.passed() {
            Ended::Well
        } else {
            Ended::Badly
        }
    }

    /// Prints the result.
    pub(crate) fn print(&self, json: bool, out: &mut dyn Write) -> Result<()> {
        let text = if json {
            serde_json::to_string(self).map_err(|error| error.to_string())? + "\n"
        } else {
            self.table()
        };
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .map_err(BenchError::Output)
    }

    fn units(&self) -> String {
        match self.unit.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{}s", self.unit),
        }
    }

    fn table(&self) -> String {
        let unit = &self.unit;
        let units = self.units();
        let mut rows = vec![
            (units, format!("{} of {}", self.count, self.expected)),
            ("duration".to_owned(), format!("{:.2} s", self.seconds)),
            ("rate".to_owned(), format!("{:.0} /s", self.per_second)),
        ];
        let mut row = |name: String, value: Option<String>| {
            if let Some(value) = value {
                rows.push((name, value));
            }
        };
        row(
            format!("server CPU per {unit}"),
            self.cpu_us_per_unit.map(|us| format!("{us:.2} µs")),
        );
        row(
            format!("broker CPU per {unit}"),
            self.broker_cpu_us_per_unit.map(|us| format!("{us:.2} µs")),
        );
        row(
            "server CPU".to_owned(),
            self.cpu_seconds.map(|s| format!("{s:.2} s")),
        );
        row(
            "Pss before".to_owned(),
            self.pss_before.map(|b| format!("{:.1} MB", b as f64 / 1e6)),
        );
        row(
            "Pss per connection".to_owned(),
            self.pss_per_connection.map(|b| format!("{b:.0} B")),
        );
        row(
            "Rss per connection".to_owned(),
            self.rss_per_connection.map(|b| format!("{b:.0} B")),
        );
        row(
            "CPU while idle".to_owned(),
            self.idle_cpu_percent.map(|p| format!("{p:.1} %")),
        );
        row(
            "broker's meanwhile".to_owned(),
            self.broker_idle_cpu_percent.map(|p| format!("{p:.1} %")),
        );
        if let Some(latency) = &self.latency_us {
            for (name, us) in [
                ("p50", latency.p50),
                ("p90", latency.p90),
                ("p99", latency.p99),
                ("p99.9", latency.p999),
                ("max", latency.max),
            ] {
                row(format!("latency {name}"), Some(milliseconds(us)));
            }
        }
        if self.checked {
            let checks = [
                ("lost", self.lost),
                ("duplicate", self.duplicate),
                ("reordered", self.reordered),
            ];
            for (name, count) in checks {
                row(name.to_owned(), Some(count.to_string()));
            }
        }
        if self.interrupted {
            row("interrupted".to_owned(), Some("yes".to_owned()));
        }
        let mut lines = vec![self.label.clone()];
        for (name, value) in rows {
            lines.push(format!("  {name:<28}{value:>16}"));
        }
        for note in &self.notes {
            lines.push(format!("  note: {note}"));
        }
        for problem in &self.problems {
            lines.push(format!("  PROBLEM: {problem}"));
        }
        lines.join("\n") + "\n"
    }

    fn summary_row(&self) -> [String; 11] {
        let number = |value: Option<f64>, digits| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
        };
        let latency = |pick: fn(&Percentiles) -> f64| {
            let latency = self.latency_us.as_ref().map(pick);
            latency.map_or_else(|| "-".to_owned(), milliseconds)
        };
        let checked = |count: usize| {
            if self.checked {
                count.to_string()
            } else {
                "-".to_owned()
            }
        };
        [
            self.label.clone(),
            format!("{} {}", self.count, self.units()),
            format!("{:.0}", self.per_second),
            number(self.cpu_us_per_unit, 2),
            number(self.broker_cpu_us_per_unit, 2),
            number(self.pss_per_connection, 0),
            match (self.idle_cpu_percent, self.broker_idle_cpu_percent) {
                (Some(server), Some(broker)) => format!("{server:.1}+{broker:.1}"),
                (server, _) => number(server, 1),
            },
            latency(|latency| latency.p50),
            latency(|latency| latency.p99),
            format!(
                "{}/{}/{}",
                checked(self.lost),
                checked(self.duplicate),
                checked(self.reordered)
            ),
            if self.passed() { "ok" } else { "FAILED" }.to_owned(),
        ]
    }
}

fn milliseconds(us: f64) -> String {
    format!("{:.3} ms", us / 1000.0)
}

/// Reads earlier results.
pub(crate) fn load(files: &[PathBuf]) -> Result<Vec<Outcome>> {
    let mut outcomes = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| {
            BenchError::usage(format!("cannot read {}: {error}", file.display()))
        })?;
        for line in text.lines().filter(|line| !line.is_empty()) {
            let outcome: Outcome = serde_json::from_str(line)
                .map_err(|error| format!("{} holds no result: {error}", file.display()))?;
            outcomes.push(outcome);
        }
    }
    Ok(outcomes)
}

/// Prints one table of earlier results and tells whether all of them passed.
pub(crate) fn summarise(files: &[PathBuf], out: &mut dyn Write) -> Result<Ended> {
    const TITLES: [&str; 11] = [
        "benchmark",
        "load",
        "per second",
        "server CPU µs each",
        "broker's",
        "Pss B/conn",
        "idle CPU %",
        "p50",
        "p99",
        "lost/dup/reord",
        "",
    ];
    let mut rows = vec![TITLES.map(str::to_owned)];
    let mut problems = Vec::new();
    let mut passed = true;
    let mut text = String::new();
    for outcome in load(files)? {
        passed &= outcome.passed();
        rows.push(outcome.summary_row());
        for problem in &outcome.problems {
            problems.push(format!("{}: {problem}", outcome.label));
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..TITLES.len())
        .map(|column| width(column).unwrap_or(0))
        .collect();
    for row in &rows {
        let mut cells = vec![format!("{:<1$}", row[0], widths[0])];
        for (cell, width) in row.iter().zip(&widths).skip(1) {
            cells.push(format!("{cell:>width$}"));
        }
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    for problem in problems {
        text.push_str(&problem);
        text.push('\n');
    }
    out.write_all(text.as_bytes()).map_err(BenchError::Output)?;
    Ok(if passed { Ended::Well } else { Ended::Badly })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_and_disorder_fail_but_duplicates_do_not() {
        let outcome = |unique, duplicate, reordered| {
            let mut outcome = Outcome::new(None, "inbound", "message", 10);
            outcome.check(Totals {
                unique,
                duplicate,
                reordered,
            });
            outcome
        };
        assert!(outcome(10, 0, 0).passed());
        assert!(outcome(10, 3, 0).passed());
        assert!(!outcome(9, 0, 0).passed());
        assert!(!outcome(10, 0, 1).passed());
        assert_eq!(outcome(9, 0, 0).lost, 1);
    }

    #[test]
    fn early_closes_fail() {
        let mut outcome = Outcome::new(Some("x"), "idle", "connection", 1);
        outcome.closed_early((0, None));
        assert!(outcome.passed());
        let refused = Closed {
            code: 4401,
            reason: "expired".to_owned(),
        };
        outcome.closed_early((1, Some(refused)));
        assert!(!outcome.passed());
        assert!(outcome.table().contains("4401 expired"));
    }
}
