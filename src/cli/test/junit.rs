//! `JUnit`'s XML, in the form that CI servers have agreed on: suites, cases, failures.
//!
//! Stands behind `wsgw test`. The counts stand before the cases, so that all is kept until the end.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use super::{Outcome, Reporter, Trouble};
use crate::xml::escaped;

pub(super) struct Junit<'a> {
    out: &'a mut dyn Write,
    suites: Vec<Suite>,
}

/// The cases of one file.
struct Suite {
    name: String,
    cases: String,
    tests: usize,
    failures: usize,
    errors: usize,
    took: Duration,
}

impl<'a> Junit<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self {
            out,
            suites: Vec::new(),
        }
    }

    fn sum(&self, count: impl Fn(&Suite) -> usize) -> usize {
        self.suites.iter().map(count).sum()
    }
}

impl Suite {
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            cases: String::new(),
            tests: 0,
            failures: 0,
            errors: 0,
            took: Duration::ZERO,
        }
    }

    fn add(&mut self, outcome: &Outcome<'_>) {
        self.tests += 1;
        self.took += outcome.took;
        let (name, place) = match outcome.case {
            Some(case) => {
                let (file, line) = (escaped(&case.file), case.place.line);
                (&*case.name, format!(" file=\"{file}\" line=\"{line}\""))
            }
            None => (outcome.suite, String::new()),
        };
        // Writing to a string cannot fail.
        let _ = write!(
            self.cases,
            "    <testcase name=\"{}\" classname=\"{}\"{place} time=\"{}\"",
            escaped(name),
            escaped(outcome.suite),
            seconds(outcome.took)
        );
        let Err(trouble) = &outcome.result else {
            self.cases.push_str("/>\n");
            return;
        };
        let element = if let Trouble::Failed(_) = trouble {
            self.failures += 1;
            "failure"
        } else {
            self.errors += 1;
            "error"
        };
        let _ = writeln!(
            self.cases,
            ">\n      <{element} message=\"{}\">{}</{element}>\n    </testcase>",
            escaped(&trouble.message()),
            escaped(&details(trouble))
        );
    }
}

impl Reporter for Junit<'_> {
    fn begin(&mut self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn outcome(&mut self, outcome: &Outcome<'_>) -> io::Result<()> {
        if self
            .suites
            .last()
            .is_none_or(|suite| suite.name != outcome.suite)
        {
            self.suites.push(Suite::new(outcome.suite));
        }
        if let Some(suite) = self.suites.last_mut() {
            suite.add(outcome);
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        let (tests, failures, errors) = (
            self.sum(|suite| suite.tests),
            self.sum(|suite| suite.failures),
            self.sum(|suite| suite.errors),
        );
        let took = seconds(self.suites.iter().map(|suite| suite.took).sum());
        writeln!(
            self.out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"wsgw\" tests=\"{tests}\" \
             failures=\"{failures}\" errors=\"{errors}\" time=\"{took}\">"
        )?;
        for suite in &self.suites {
            writeln!(
                self.out,
                "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" time=\"{}\">",
                escaped(&suite.name),
                suite.tests,
                suite.failures,
                suite.errors,
                seconds(suite.took)
            )?;
            writeln!(self.out, "{}  </testsuite>", suite.cases)?;
        }
        writeln!(self.out, "</testsuites>")
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

/// Where it failed and how, line by line.
fn details(trouble: &Trouble<'_>) -> String {
    let mut lines = Vec::new();
    if let Trouble::Failed(failure) = trouble {
        let place = failure.place;
        lines.push(format!("{}:{}:{}", failure.file, place.line, place.column));
        for (name, value) in [("expected", &failure.expected), ("got", &failure.got)] {
            lines.extend(value.iter().map(|value| format!("{name}: {value}")));
        }
        lines.extend(failure.diff.iter().cloned());
    }
    lines.extend(trouble.diagnostics().iter().map(ToString::to_string));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_the_markup() {
        assert_eq!(
            escaped("a<b> & \"c\"\n\u{1b}[0m]]>"),
            "a&lt;b&gt; &amp; &quot;c&quot;&#10;\u{fffd}[0m]]&gt;"
        );
    }
}
