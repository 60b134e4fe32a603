//! A problem while a file is being loaded, before it is tied to the file's name and text.
//!
//! The loader's parts report these; `load` turns them into [`Diagnostic`](super::Diagnostic)s at the end.

use super::codes;
use super::diagnostic::Severity;
use super::document::Mark;

/// A problem at a place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    /// Where it is.
    pub at: Mark,
    /// Its code, a row of [`codes::TABLE`].
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Makes a problem without a hint.
    pub(super) fn at(at: Mark, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            at,
            code,
            message: message.into(),
            hint: None,
        }
    }

    /// Adds what to do about it.
    #[must_use]
    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Gives the severity that the table of codes names.
    #[must_use]
    pub(super) fn severity(&self) -> Severity {
        codes::severity(self.code)
    }
}
