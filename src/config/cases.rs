//! The tests that are written in a pipeline file, below `tests`, or beside it in `<name>.test.yaml`.
//!
//! Stands beside the data path: `load` takes them out of the file before it looks at the rest and only says what is
//! wrong with them; `wsgw test` reads them for [`crate::trial`], which runs them. Nothing in them is expanded.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::EnvVars;
use super::diagnostic::{Diagnostic, Severity};
use super::document::{Mark, Node, Value};
use super::excerpt::KeyNames;
use super::load::{self, LoadError};
use super::problem::Problem;
use super::{shape, yaml};

mod read;
mod steps;
#[cfg(test)]
mod tests;
mod want;

pub use want::{Located, Pattern, Want};

/// The root key that tests stand below.
pub(super) const KEY: &str = "tests";

/// What the name of a file of tests ends with.
pub const SUFFIX: &str = ".test.yaml";

/// A place in a file, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The line.
    pub line: usize,
    /// The column, in characters.
    pub column: usize,
}

impl From<Mark> for Place {
    fn from(mark: Mark) -> Self {
        Self {
            line: mark.line,
            column: mark.column,
        }
    }
}

/// One test: a client, and what happens step by step.
#[derive(Debug, Clone)]
pub struct Case {
    /// What it shows, in a few words.
    pub name: String,
    /// The file it stands in.
    pub file: Arc<str>,
    /// Where it begins there.
    pub place: Place,
    /// Variables for the expansion of the pipeline file.
    pub env: EnvVars,
    /// Values that override the pipeline file, `path.to.key=value` each.
    pub sets: Vec<String>,
    /// Who connects.
    pub who: Who,
    /// Headers of the upgrade request.
    pub headers: Vec<(String, String)>,
    /// Parameters of its query.
    pub query: Vec<(String, String)>,
    /// Unix milliseconds at which it begins.
    pub at_ms: u64,
    /// What happens.
    pub steps: Vec<Step>,
}

/// Who connects.
#[derive(Debug, Clone, PartialEq)]
pub enum Who {
    /// A user, by a token that the pipeline accepts.
    Somebody,
    /// Whoever these claims say.
    Claims {
        /// What the token says.
        claims: Vec<(String, Claim)>,
        /// Whether it is signed with a key that the pipeline does not know.
        forged: bool,
    },
    /// Whoever has this token, which nobody signed.
    Token(String),
    /// A client without a token.
    Anonymous,
}

/// The value of a claim.
#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// A value.
    Is(Json),
    /// A moment, in milliseconds from the one at which the token is signed.
    In(i64),
}

/// One step.
#[derive(Debug, Clone)]
pub struct Step {
    /// Where it stands.
    pub place: Place,
    /// What is done.
    pub action: Option<Action>,
    /// How often it is done.
    pub times: u32,
    /// What must have come of it.
    pub expect: Vec<Expectation>,
}

/// What a step does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// The client sends a text.
    Send(String),
    /// The client sends bytes.
    SendBinary(Vec<u8>),
    /// The client sends a fresh token.
    Renew(Vec<(String, Claim)>),
    /// Time goes by.
    Advance(Duration),
    /// The client closes the connection; without a code, the frame has none.
    Close {
        /// The close code.
        code: Option<u16>,
        /// The reason.
        reason: String,
    },
    /// The client is lost without a word.
    Lose,
    /// The backend sends to subjects; without any, to the client's own.
    Push {
        /// Whom it is sent to.
        subjects: Vec<String>,
        /// What, as JSON.
        payload: String,
    },
    /// The backend disconnects the client.
    Disconnect(Option<String>),
    /// Sinks fail from now on.
    Down(Vec<String>),
    /// Sinks work again.
    Up(Vec<String>),
}

/// What must have come of the steps so far.
#[derive(Debug, Clone)]
pub struct Expectation {
    /// Where it stands.
    pub place: Place,
    /// How often.
    pub times: u32,
    /// What.
    pub wanted: Wanted,
}

/// What is expected.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// The client gets a message.
    Reply(Located),
    /// An event goes out.
    Published(Published),
    /// An event that could not be delivered is kept.
    DeadLetter {
        /// The event.
        event: Located,
        /// The sink that failed.
        sink: Option<String>,
        /// Why.
        reason: Option<Located>,
    },
    /// The connection is closed by the gateway.
    Close(Closing),
    /// The client was not admitted.
    Refused(Closing),
    /// Nothing else happened.
    Nothing,
}

/// An event that is expected.
#[derive(Debug, Clone)]
pub struct Published {
    /// The event.
    pub event: Located,
    /// The sinks that get it, and no others; none: whichever.
    pub to: Vec<String>,
    /// Where it goes there: `stream`, `exchange`, `routing_key`, `url`.
    pub target: Vec<(&'static str, Located)>,
}

/// How a connection ends.
#[derive(Debug, Clone)]
pub struct Closing {
    /// The close code, or the HTTP status.
    pub code: u16,
    /// The reason.
    pub reason: Option<Located>,
}

/// The pipeline file that a file of tests is about; nothing for any other file.
#[must_use]
pub fn pipeline_of(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_suffix(SUFFIX)?;
    Some(path.with_file_name(format!("{name}.yaml")))
}

/// The file of tests that may stand beside a pipeline file.
#[must_use]
pub fn beside(path: &Path) -> Option<PathBuf> {
    if pipeline_of(path).is_some() {
        return None;
    }
    let name = path.file_name()?.to_str()?.strip_suffix(".yaml")?;
    Some(path.with_file_name(format!("{name}{SUFFIX}")))
}

/// Reads the tests of one file: a pipeline's own, or those of a file of tests.
///
/// # Errors
///
/// [`LoadError::Unreadable`] if it cannot be read, [`LoadError::Invalid`] with every problem of its tests, or with why
/// it is no YAML. Whether the pipeline itself is valid is not looked at.
pub fn load_cases(path: &Path) -> Result<Vec<Case>, LoadError> {
    let text = load::read(path)?;
    let name = path.display().to_string();
    let parsed = yaml::parse(&text);
    let mut problems = parsed.problems;
    let cases = match parsed.root {
        Some(root) => {
            if pipeline_of(path).is_some() {
                only_tests(&root, &mut problems);
            }
            root.entry(KEY)
                .map(|entry| read::cases(&name, &entry.node, &mut problems))
        }
        None => None,
    };
    if problems.is_empty() {
        return Ok(cases.unwrap_or_default());
    }
    let mut diagnostics = load::locate(&name, &text, &key_names(), problems);
    for diagnostic in &mut diagnostics {
        // A pipeline can do without its tests, so that they only cause warnings there.
        diagnostic.severity = Severity::Error;
    }
    Err(LoadError::Invalid(diagnostics))
}

/// Checks a file of tests; gives what is wrong with it.
///
/// # Errors
///
/// [`LoadError::Unreadable`] if it cannot be read.
pub fn check_cases(path: &Path) -> Result<Vec<Diagnostic>, LoadError> {
    match load_cases(path) {
        Ok(_) => Ok(Vec::new()),
        Err(LoadError::Invalid(problems)) => Ok(problems),
        Err(error) => Err(error),
    }
}

fn key_names() -> KeyNames {
    shape::Shape::of_document().key_names()
}

/// Takes the tests out of a pipeline file and says what is wrong with them.
pub(super) fn take(name: &str, root: &mut Node, problems: &mut Vec<Problem>) {
    let Value::Map(entries) = &mut root.value else {
        return;
    };
    // Beside nothing else they would be all there is, and the file is no pipeline.
    if let Some(index) = entries.iter().position(|entry| entry.key == KEY) {
        let entry = entries.remove(index);
        read::cases(name, &entry.node, problems);
    }
}

fn only_tests(root: &Node, problems: &mut Vec<Problem>) {
    let Value::Map(entries) = &root.value else {
        problems.push(Problem::at(
            root.start,
            "bad_case",
            "a file of tests must be a map with the key `tests`",
        ));
        return;
    };
    if root.entry(KEY).is_none() {
        problems.push(
            Problem::at(root.start, "bad_case", "the file has no key `tests`")
                .hint("write the tests as a list below `tests:`"),
        );
    }
    for entry in entries.iter().filter(|entry| entry.key != KEY) {
        problems.push(
            Problem::at(
                entry.key_start,
                "bad_case",
                format!("a file of tests has no key `{}`", entry.key),
            )
            .hint("only `tests` stands here; the pipeline is in the file of the same name without `.test`"),
        );
    }
}

/// The JSON Schema of `tests`, for editors.
#[must_use]
pub(super) fn schema() -> Json {
    // The text is part of the program, and a test reads it.
    serde_json::from_str(include_str!("cases/schema.json")).unwrap_or_default()
}
