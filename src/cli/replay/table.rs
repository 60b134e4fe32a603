//! The table of dead letters.

use std::fmt::Write as _;

use super::client::Letter;
use crate::cli::clean;

/// Characters of a reason that are shown at most.
const REASON: usize = 60;

const HEADS: [&str; 5] = ["STORE", "AGE", "SINK", "REASON", "EVENT ID"];

/// The letters in columns, as of `now` (Unix seconds); with `raw`, what was to be delivered below each.
pub(super) fn render(letters: &[Letter], raw: bool, now: u64) -> String {
    if letters.is_empty() {
        return "no dead letters\n".to_owned();
    }
    let rows: Vec<[String; 5]> = letters
        .iter()
        .map(|letter| {
            let or_dash = |text: &Option<String>| clean(text.as_deref().unwrap_or("-"));
            [
                clean(&letter.store),
                letter
                    .failed_at
                    .map_or("-".to_owned(), |at| age(now.saturating_sub(at))),
                or_dash(&letter.sink),
                clean(&shortened(&letter.reason)),
                or_dash(&letter.event_id),
            ]
        })
        .collect();
    let mut widths = HEADS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    write_row(&mut text, &HEADS.map(str::to_owned), &widths);
    for (row, letter) in rows.iter().zip(letters) {
        write_row(&mut text, row, &widths);
        if raw {
            let _ = writeln!(text, "  {}", clean(&letter.raw));
        }
    }
    text
}

fn write_row(text: &mut String, row: &[String; 5], widths: &[usize; 5]) {
    let mut line = String::new();
    for (cell, width) in row.iter().zip(widths) {
        // Writing to a string cannot fail.
        let _ = write!(line, "{cell:width$}  ");
    }
    let _ = writeln!(text, "{}", line.trim_end());
}

fn shortened(reason: &str) -> String {
    if reason.chars().count() <= REASON {
        return reason.to_owned();
    }
    reason.chars().take(REASON - 1).chain(['…']).collect()
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_terminal_is_disturbed() {
        let letter = |store: &str, sink: Option<&str>, reason: &str, failed_at| Letter {
            store: store.into(),
            event_id: Some("0192".into()),
            sink: sink.map(Into::into),
            reason: reason.into(),
            failed_at,
            raw: "{\"a\":\"\u{1b}[2J\"}".into(),
        };
        let letters = [
            letter("redis", Some("webhook"), "HTTP 400", Some(940)),
            letter("file", None, &"é\n".repeat(40), None),
        ];
        let reason = format!("{}é…", "é\\n".repeat(29));
        let table = render(&letters, false, 1_000);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>().len(), 6);
        assert!(
            lines[1].starts_with("redis  1 min  webhook  HTTP 400 "),
            "{table}"
        );
        assert_eq!(lines[2], format!("file   -      -        {reason}  0192"));
        assert!(!table.contains("2J"));
        let table = render(&letters, true, 1_000);
        assert!(table.contains("\n  {\"a\":\"\\u{1b}[2J\"}\n"), "{table}");
        assert_eq!(render(&[], true, 0), "no dead letters\n");
        assert_eq!(
            [59, 61, 7_200, 172_800].map(age),
            ["59 s", "1 min", "2 h", "2 d"]
        );
    }
}
