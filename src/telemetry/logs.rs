//! Log output: JSON lines or text on standard error, never a token, key, secret or payload.
//!
//! Stands beside the data path; started once for each process, by `cli`.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::{EnvFilter, Layer, Registry};

use super::log_writer::LogWriter;
use crate::config::{LogFormat, LoggingConfig};
use crate::svc::BoxError;

/// How long the end of a process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where the process logs; one, as standard error is.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Changes what a process logs; none where logging was started by someone else, as in tests.
#[derive(Debug, Clone, Default)]
pub struct LogLevel(Option<Handle<EnvFilter, Registry>>);

/// A level that can be applied.
#[derive(Debug)]
pub struct PreparedLevel(EnvFilter);

impl LogLevel {
    /// Reads a level.
    ///
    /// # Errors
    /// When the level is no filter.
    pub fn prepare(level: &str) -> Result<PreparedLevel, BoxError> {
        // It logs returned messages with their bodies; what matters of it is told by the links themselves.
        let filter = EnvFilter::try_new(level)?.add_directive("lapin=off".parse()?);
        Ok(PreparedLevel(filter))
    }

    /// Logs by another level from now on.
    pub fn apply(&self, level: PreparedLevel) {
        if let Some(handle) = &self.0 {
            // It only fails when nobody logs any more.
            let _ = handle.reload(level.0);
        }
    }
}

/// Starts logging for the process; gives what changes its level.
///
/// # Errors
/// When the level is no filter, no thread can be started, or logging was started before.
pub fn start(config: &LoggingConfig) -> Result<LogLevel, BoxError> {
    let PreparedLevel(filter) = LogLevel::prepare(&config.level)?;
    let (filter, handle) = reload::Layer::new(filter);
    let writer = LogWriter::start_on(std::io::stderr())?;
    let layer = tracing_subscriber::fmt::layer()
        .with_span_events(FmtSpan::NONE)
        .with_writer(writer.clone());
    let layer: Box<dyn Layer<_> + Send + Sync> = match config.format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
        LogFormat::Text => layer.with_ansi(std::io::stderr().is_terminal()).boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(layer);
    tracing::subscriber::set_global_default(subscriber)?;
    // It is the first, or logging would have been started before.
    let _ = WRITER.set(writer);
    Ok(LogLevel(Some(handle)))
}

/// Counts the lines that are dropped because nobody reads standard error.
pub fn count_dropped(counter: &IntCounter) {
    if let Some(writer) = WRITER.get() {
        writer.count_on(counter);
    }
}

/// Waits for the lines so far to be written; not for ever, since nobody may be reading them.
pub fn flush() {
    if let Some(writer) = WRITER.get() {
        writer.flush(LAST_LINES);
    }
}
