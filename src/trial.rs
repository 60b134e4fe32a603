//! `wsgw test`: puts the compiled pipeline through the tests of its file, without a socket and without waiting.
//!
//! Stands around the data path as `server` does. Everything between a client's frame and a sink is the gateway's own
//! code: the file is loaded, `pipeline::compile` makes its stacks, a connection's task runs them over a WebSocket in
//! memory, and deliveries order and retry. Three things stand in for what a test must not depend on:
//!
//! | instead of | stands | where |
//! |---|---|---|
//! | sockets | a pipe in memory | `server::rehearsal` |
//! | the far sides of sinks | a list of what would have been sent, and where to | `sinks::rehearsal` |
//! | time | a clock that moves when a test says so | tokio's paused time, and `clock::VirtualClock` |
//!
//! The key that tokens are verified with is thrown away after each test, and replaces what the file says.

use std::path::Path;
use std::sync::Arc;

use crate::config::cases::{Case, Place};
use crate::config::{Config, Diagnostic, Overrides};

mod compare;
mod judge;
mod play;
mod prepare;
mod seen;
mod tokens;

pub use prepare::Prepared;

/// Why a test failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The file of the test.
    pub file: Arc<str>,
    /// Where what failed is written.
    pub place: Place,
    /// What failed, in a sentence.
    pub message: String,
    /// What was expected, where something was.
    pub expected: Option<String>,
    /// What there was instead.
    pub got: Option<String>,
    /// The lines of a comparison: `-` before what was expected, `+` before what there was.
    pub diff: Vec<String>,
    /// What is wrong with the pipeline file, where that is the reason.
    pub diagnostics: Vec<Diagnostic>,
}

impl Failure {
    fn new(case: &Case, place: Place, message: impl Into<String>) -> Box<Self> {
        Box::new(Self {
            file: Arc::clone(&case.file),
            place,
            message: message.into(),
            expected: None,
            got: None,
            diff: Vec::new(),
            diagnostics: Vec::new(),
        })
    }
}

/// Loads a pipeline file for a test, with the test's variables and overrides, and keys of its own.
///
/// # Errors
/// When the file is not valid then.
pub fn prepare(
    case: &Case,
    pipeline: &Path,
    overrides: &Overrides,
) -> Result<Prepared, Box<Failure>> {
    prepare::prepare(case, pipeline, overrides)
}

/// Runs a test to its end.
///
/// # Errors
/// When something is not as the test expects it.
pub fn run(case: &Case, prepared: &Prepared) -> Result<(), Box<Failure>> {
    play::run(case, prepared)
}

impl Prepared {
    /// The settings that the test runs with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Changes the settings that the test runs with.
    pub fn config_mut(&mut self) -> &mut Config {
        &mut self.config
    }
}
