//! `wsgw check`: validates pipeline files without starting anything.
//!
//! Stands beside the data path: loading and comparing are done by `config`, this prints what they find.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::cases;
use crate::config::{self, Diagnostic, LoadError, Overrides, Severity, Symfony};

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// A list of objects.
    Json,
}

/// Checks `files`, prints what it finds to `out` and gives the exit code.
///
/// With `symfony`, the Symfony bundle's file, each valid file is also compared with it. The code is 0 if all are
/// valid, 1 if one has errors (or warnings, with `deny_warnings`), 2 if one cannot be read. `color` paints the
/// text form.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run_check(
    files: &[PathBuf],
    symfony: Option<&Path>,
    format: Format,
    deny_warnings: bool,
    overrides: &Overrides,
    color: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let mut report = Report {
        format,
        deny_warnings,
        color,
        out,
        code: 0,
        all: Vec::new(),
    };
    let symfony = match symfony {
        Some(path) => match Symfony::load(path, &overrides.env) {
            Ok(symfony) => Some(symfony),
            Err(error) => {
                report.fail(path, error)?;
                None
            }
        },
        None => None,
    };
    for file in files {
        let name = file.display().to_string();
        if cases::pipeline_of(file).is_some() {
            match cases::check_cases(file) {
                Ok(problems) => report.add(&name, problems)?,
                Err(error) => report.fail(file, error)?,
            }
            continue;
        }
        match config::load(file, overrides) {
            Ok(loaded) => {
                let compared = symfony
                    .as_ref()
                    .map(|symfony| (symfony.name(), symfony.compare(&name, &loaded)));
                report.add(&name, loaded.warnings)?;
                if let Some((symfony, problems)) = compared.filter(|(_, found)| !found.is_empty()) {
                    report.add(&format!("{symfony} against {name}"), problems)?;
                }
            }
            Err(error) => {
                report.fail(file, error)?;
                if let Some(symfony) = &symfony {
                    report.note(&format!("{}: not compared with {name}", symfony.name()))?;
                }
            }
        }
    }
    report.finish()
}

/// What is printed, and what the exit code will be.
struct Report<'a> {
    format: Format,
    deny_warnings: bool,
    color: bool,
    out: &'a mut dyn Write,
    code: u8,
    all: Vec<Diagnostic>,
}

impl Report<'_> {
    /// Reports `problems` of what `name` calls, which could be read.
    fn add(&mut self, name: &str, problems: Vec<Diagnostic>) -> io::Result<()> {
        let count = |severity| {
            problems
                .iter()
                .filter(|problem| problem.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        if errors > 0 || warnings > 0 && self.deny_warnings {
            self.code = self.code.max(1);
        }
        if self.format == Format::Text {
            for problem in &problems {
                writeln!(self.out, "{}", problem.render(self.color))?;
            }
            writeln!(self.out, "{}", summary(name, errors, warnings))?;
        }
        self.all.extend(problems);
        Ok(())
    }

    /// Reports that `file` cannot be used.
    fn fail(&mut self, file: &Path, error: LoadError) -> io::Result<()> {
        let problems = match error {
            LoadError::Invalid(problems) => problems,
            LoadError::Unreadable { path, reason } => {
                self.code = super::USAGE;
                vec![Diagnostic {
                    file: path,
                    line: 1,
                    column: 1,
                    severity: Severity::Error,
                    code: "unreadable_file",
                    message: format!("the file cannot be read: {reason}"),
                    hint: None,
                    excerpt: None,
                }]
            }
        };
        self.add(&file.display().to_string(), problems)
    }

    /// Tells people something that is no problem.
    fn note(&mut self, text: &str) -> io::Result<()> {
        if self.format == Format::Text {
            writeln!(self.out, "{text}")?;
        }
        Ok(())
    }

    fn finish(self) -> io::Result<u8> {
        if self.format == Format::Json {
            serde_json::to_writer_pretty(&mut *self.out, &self.all)?;
            writeln!(self.out)?;
        }
        Ok(self.code)
    }
}

fn summary(name: &str, errors: usize, warnings: usize) -> String {
    let count = |number: usize, word: &str| match number {
        0 => None,
        1 => Some(format!("1 {word}")),
        _ => Some(format!("{number} {word}s")),
    };
    let counts: Vec<_> = [count(errors, "error"), count(warnings, "warning")]
        .into_iter()
        .flatten()
        .collect();
    let counts = counts.join(", ");
    match (errors, warnings) {
        (0, 0) => format!("{name}: ok"),
        (0, _) => format!("{name}: ok, {counts}"),
        _ => format!("{name}: {counts}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &[u8], format: Format, deny_warnings: bool) -> (u8, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("p.yaml");
        std::fs::write(&file, text).expect("written");
        let mut out = Vec::new();
        let code = run_check(
            &[file],
            None,
            format,
            deny_warnings,
            &Overrides::default(),
            false,
            &mut out,
        )
        .expect("printed");
        (
            code,
            String::from_utf8(out)
                .expect("UTF-8")
                .replace(&format!("{}/", folder.path().display()), ""),
        )
    }

    const WARNS: &[u8] = b"snoke_ws:\n  server: { api_key: 0123456789abcdef-x }\n  stages:\n    - fan_out: { events_mode: none }\n";

    #[test]
    fn warnings_count_only_when_denied() {
        let (code, text) = check(WARNS, Format::Text, false);
        assert_eq!(code, 0, "{text}");
        assert!(text.ends_with("p.yaml: ok, 1 warning\n"), "{text}");
        assert_eq!(check(WARNS, Format::Text, true).0, 1);
    }

    #[test]
    fn json_is_a_list_of_seven_fields() {
        let (_, text) = check(WARNS, Format::Json, false);
        let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let keys: Vec<_> = list[0]
            .as_object()
            .expect("an object")
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(
            keys,
            [
                "file", "line", "column", "severity", "code", "message", "hint"
            ]
        );
        assert_eq!(list[0]["severity"], "warning");
        assert_eq!(list[0]["code"], "missing_auth");
    }

    #[test]
    fn unreadable_files_exit_with_2() {
        let (code, text) = check(b"snoke_ws:\n  mode: \xff\n", Format::Text, false);
        assert_eq!(code, 2);
        assert!(
            text.contains(
                "error[unreadable_file]: the file cannot be read: it is not UTF-8 text (line 2)"
            ),
            "{text}"
        );
        let mut out = Vec::new();
        let code = run_check(
            &["no/such.yaml".into()],
            None,
            Format::Json,
            false,
            &Overrides::default(),
            false,
            &mut out,
        )
        .expect("printed");
        assert_eq!(code, 2);
        assert!(String::from_utf8_lossy(&out).contains("there is no such file"));
    }
}
