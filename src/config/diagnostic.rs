//! What `check` prints: a problem with its file, its place, its code and what to do about it.
//!
//! Stands last in loading; `check`, `run` and a reload print the same text.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// The file works, but perhaps not as meant.
    Warning,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// A problem in a pipeline file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// The file as the caller named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// How bad it is.
    pub severity: Severity,
    /// The stable code, a row of `docs/diagnostics.md`.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The line of the file, secrets masked; none where the file has no such line.
    #[serde(skip)]
    pub excerpt: Option<String>,
}

impl Diagnostic {
    /// Renders the problem for people, with a trailing newline, in colour if `color`.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let paint = |codes: &str, text: &str| {
            if color {
                format!("\u{1b}[{codes}m{text}\u{1b}[0m")
            } else {
                text.to_owned()
            }
        };
        let tone = match self.severity {
            Severity::Error => "1;31",
            Severity::Warning => "1;33",
        };
        let place = format!("{}:{}:{}:", self.file, self.line, self.column);
        let label = format!("{}[{}]:", self.severity, self.code);
        let mut text = format!(
            "{} {} {}\n",
            paint("1", &place),
            paint(tone, &label),
            self.message
        );
        if let Some(excerpt) = &self.excerpt {
            let gutter = self.line.to_string();
            let bar = paint("34", "|");
            // Tabs are kept below, so that the caret stands under its character whatever a tab's width.
            let lead: String = excerpt
                .chars()
                .take(self.column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            let _ = writeln!(text, "  {gutter} {bar} {excerpt}");
            let _ = writeln!(
                text,
                "  {:width$} {bar} {lead}{}",
                "",
                paint(tone, "^"),
                width = gutter.len()
            );
        }
        if let Some(hint) = &self.hint {
            let _ = writeln!(text, "  {} {hint}", paint("36", "hint:"));
        }
        text
    }
}

impl fmt::Display for Diagnostic {
    /// Writes the problem as [`Diagnostic::render`] does, without colour.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(false).trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diagnostic() -> Diagnostic {
        Diagnostic {
            file: "a.yaml".into(),
            line: 12,
            column: 3,
            severity: Severity::Error,
            code: "unknown_key",
            message: "unknown key".into(),
            hint: Some("remove it".into()),
            excerpt: Some("\tabc: 1".into()),
        }
    }

    #[test]
    fn the_caret_stands_under_the_column() {
        assert_eq!(
            diagnostic().render(false),
            "a.yaml:12:3: error[unknown_key]: unknown key\n  12 | \tabc: 1\n     | \t ^\n  hint: remove it\n"
        );
    }

    #[test]
    fn colour_only_when_asked() {
        assert!(
            diagnostic()
                .render(true)
                .contains("\u{1b}[1;31merror[unknown_key]:\u{1b}[0m")
        );
        assert!(!diagnostic().render(false).contains('\u{1b}'));
    }
}
