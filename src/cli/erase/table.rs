//! The report of an erasure as a person reads it.

use std::fmt::Write as _;

use crate::cli::clean;
use crate::erase::{Finding, Report};

/// Writes the report; nothing in it is a payload.
pub(super) fn render(report: &Report) -> String {
    let mut text = String::new();
    let mut rows = vec![["STORE", "NAME", "AT", "FOUND", "ERASED"].map(str::to_owned)];
    for finding in &report.stores {
        rows.push([
            finding.store.to_owned(),
            clean(&finding.name),
            clean(&finding.place),
            count(finding, finding.found),
            count(finding, finding.erased),
        ]);
    }
    let mut widths = [0; 5];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &rows {
        let cells = row.iter().zip(widths);
        let line: Vec<String> = cells
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
    }
    for finding in &report.stores {
        remarks(finding, &mut text);
    }
    if report.open_connections > 0 {
        let _ = writeln!(
            text,
            "\nThe user has {} open connections: events go on. Have the tokens refused, close the connections by POST \
             /internal/disconnect, and run this again.",
            report.open_connections
        );
    } else if report.goes_on() {
        text.push_str("\nMore of the user came meanwhile: run this again.\n");
    }
    text.push_str("\nNot erased by this command:\n");
    for remains in &report.remains {
        let _ = writeln!(
            text,
            "- {}\n  why: {}\n  do:  {}",
            clean(&remains.place),
            clean(&remains.reason),
            clean(&remains.advice)
        );
    }
    let _ = writeln!(text, "\n{}", verdict(report));
    text
}

fn count(finding: &Finding, count: u64) -> String {
    match (finding.exists, &finding.error) {
        (false, None) => "none there".to_owned(),
        (false, Some(_)) => "-".to_owned(),
        (true, _) => count.to_string(),
    }
}

fn remarks(finding: &Finding, text: &mut String) {
    let name = format!("{} {}", finding.store, clean(&finding.name));
    if let Some(error) = &finding.error {
        let _ = writeln!(text, "{name}: failed: {}", clean(error));
    }
    if finding.shared > 0 {
        let _ = writeln!(
            text,
            "{name}: {} of the pushes were addressed to others too",
            finding.shared
        );
    }
    if finding.unreadable > 0 {
        let _ = writeln!(
            text,
            "{name}: {} entries are no event and no push; look at them yourself",
            finding.unreadable
        );
    }
}

fn verdict(report: &Report) -> &'static str {
    match (report.failed(), report.dry_run, report.goes_on()) {
        (true, _, _) => "INCOMPLETE: a store failed. Mend it, and run this again.",
        (false, true, _) => "Nothing was erased: this was a dry run.",
        (false, false, true) => "INCOMPLETE: more of the user may come.",
        (false, false, false) => "Complete: every store above was searched to its end.",
    }
}
