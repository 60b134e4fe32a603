//! `wsgw check`: validates pipeline files without starting anything.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::{self, Diagnostic, LoadError, Overrides, Severity};

/// How problems are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// For people: place, message, source line, hint.
    #[default]
    Text,
    /// For programs: one JSON list.
    Json,
}

/// Checks `files`, prints what it finds to `out` and gives the exit code.
///
/// The code is 0 if all are valid, 1 if one has errors (or warnings, with `deny_warnings`), 2 if one cannot be
/// read. `color` paints the text form.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run_check(
    files: &[PathBuf],
    format: Format,
    deny_warnings: bool,
    overrides: &Overrides,
    color: bool,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let mut code = 0;
    let mut all = Vec::new();
    for file in files {
        let (problems, readable) = problems(file, overrides);
        let count = |severity| {
            problems
                .iter()
                .filter(|problem| problem.severity == severity)
                .count()
        };
        let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
        code = code.max(match (readable, errors, warnings) {
            (false, ..) => 2,
            (true, 1.., _) => 1,
            (true, 0, 1..) if deny_warnings => 1,
            _ => 0,
        });
        if format == Format::Text {
            for problem in &problems {
                writeln!(out, "{}", problem.render(color))?;
            }
            writeln!(out, "{}", summary(file, errors, warnings))?;
        }
        all.extend(problems);
    }
    if format == Format::Json {
        serde_json::to_writer_pretty(&mut *out, &all)?;
        writeln!(out)?;
    }
    Ok(code)
}

/// Gives everything wrong with `file`, and whether it could be read at all.
fn problems(file: &Path, overrides: &Overrides) -> (Vec<Diagnostic>, bool) {
    match config::load(file, overrides) {
        Ok(loaded) => (loaded.warnings, true),
        Err(LoadError::Invalid(problems)) => (problems, true),
        Err(LoadError::Unreadable { path, reason }) => {
            let problem = Diagnostic {
                file: path,
                line: 1,
                column: 1,
                severity: Severity::Error,
                code: "unreadable_file",
                message: format!("the file cannot be read: {reason}"),
                hint: None,
                excerpt: None,
            };
            (vec![problem], false)
        }
    }
}

fn summary(file: &Path, errors: usize, warnings: usize) -> String {
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
    let file = file.display();
    match (errors, warnings) {
        (0, 0) => format!("{file}: ok"),
        (0, _) => format!("{file}: ok, {counts}"),
        _ => format!("{file}: {counts}"),
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
