//! The Test Anything Protocol, version 14 (testanything.org): a line a test, and a YAML block below what failed.
//!
//! Stands behind `wsgw test`.

use std::io::{self, Write};

use super::{Outcome, Reporter, Trouble};

pub(super) struct Tap<'a> {
    out: &'a mut dyn Write,
    color: bool,
    number: usize,
    failed: usize,
    suite: Option<String>,
}

impl<'a> Tap<'a> {
    pub(super) fn new(out: &'a mut dyn Write, color: bool) -> Self {
        Self {
            out,
            color,
            number: 0,
            failed: 0,
            suite: None,
        }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.color {
            format!("\u{1b}[{code}m{text}\u{1b}[0m")
        } else {
            text.to_owned()
        }
    }

    fn trouble(&mut self, trouble: &Trouble<'_>) -> io::Result<()> {
        writeln!(self.out, "  ---")?;
        writeln!(self.out, "  message: {}", quoted(&trouble.message()))?;
        writeln!(self.out, "  severity: fail")?;
        if let Trouble::Failed(failure) = trouble {
            let place = failure.place;
            let at = format!("{}:{}:{}", failure.file, place.line, place.column);
            writeln!(self.out, "  at: {}", quoted(&at))?;
            for (name, value) in [("expected", &failure.expected), ("got", &failure.got)] {
                if let Some(value) = value {
                    writeln!(self.out, "  {name}: {}", quoted(value))?;
                }
            }
            if !failure.diff.is_empty() {
                writeln!(self.out, "  diff: |")?;
                for line in &failure.diff {
                    let code = if line.starts_with('-') { "31" } else { "32" };
                    let line = self.paint(code, &printable(line));
                    writeln!(self.out, "    {line}")?;
                }
            }
        }
        if !trouble.diagnostics().is_empty() {
            writeln!(self.out, "  diagnostics: |")?;
            for diagnostic in trouble.diagnostics() {
                for line in diagnostic.render(self.color).lines() {
                    writeln!(self.out, "    {line}")?;
                }
            }
        }
        writeln!(self.out, "  ...")
    }
}

impl Reporter for Tap<'_> {
    fn begin(&mut self, count: usize) -> io::Result<()> {
        writeln!(self.out, "TAP version 14\n1..{count}")
    }

    fn outcome(&mut self, outcome: &Outcome<'_>) -> io::Result<()> {
        if self.suite.as_deref() != Some(outcome.suite) {
            self.suite = Some(outcome.suite.to_owned());
            writeln!(self.out, "# {}", printable(outcome.suite))?;
        }
        self.number += 1;
        let name = outcome.case.map_or(outcome.suite, |case| &*case.name);
        let result = match outcome.result {
            Ok(()) => self.paint("32", "ok"),
            Err(_) => self.paint("1;31", "not ok"),
        };
        writeln!(self.out, "{result} {} - {}", self.number, described(name))?;
        if let Err(trouble) = &outcome.result {
            self.failed += 1;
            self.trouble(trouble)?;
        }
        // A test may take long, and who waits for it wants to see how far it is.
        self.out.flush()
    }

    fn end(&mut self) -> io::Result<()> {
        let passed = self.number - self.failed;
        writeln!(self.out, "# {passed} passed, {} failed", self.failed)
    }
}

/// A description: `#` would begin a directive.
fn described(name: &str) -> String {
    printable(name).replace('\\', "\\\\").replace('#', "\\#")
}

/// A text on one line, without what would steer a terminal.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// A text as YAML writes it: in single quotes, in which JSON stays readable, where it can be.
fn quoted(text: &str) -> String {
    if text.contains(char::is_control) {
        serde_json::Value::from(text).to_string()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_cannot_leave_their_quotes() {
        assert_eq!(quoted(r#"{"a":"it's"}"#), r#"'{"a":"it''s"}'"#);
        assert_eq!(quoted("a\nb"), "\"a\\nb\"");
    }

    #[test]
    fn descriptions_hold_no_directive() {
        assert_eq!(described("a # TODO \\ b\u{1b}[2J"), "a \\# TODO \\\\ b [2J");
    }
}
