//! Log output: JSON lines or text on standard error, never a token, key, secret or payload.
//!
//! Stands beside the data path; started once for each process, by `cli`.

use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use prometheus::IntCounter;
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;

pub use super::log_level::{InForce, LogLevel, PreparedLevel};
use super::log_writer::LogWriter;
use super::repeats::Repeats;
use crate::config::{LogFormat, LoggingConfig};
use crate::svc::BoxError;

/// How long the end of a process waits for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Where the process logs; one, as standard error is.
static WRITER: OnceLock<LogWriter> = OnceLock::new();

/// Starts logging for the process; gives what changes its level.
///
/// # Errors
/// When the level is no filter, no thread can be started, or logging was started before.
pub fn start(config: &LoggingConfig) -> Result<LogLevel, BoxError> {
    let level = LogLevel::prepare(&config.level)?;
    let (filter, handle) = reload::Layer::new(level.filter()?);
    let repeats = Repeats::default();
    let writer = LogWriter::start_on(std::io::stderr(), repeats.clone())?;
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
    let subscriber = tracing_subscriber::registry()
        .with(filter)
        .with(repeats)
        .with(layer);
    tracing::subscriber::set_global_default(subscriber)?;
    // It is the first, or logging would have been started before.
    let _ = WRITER.set(writer);
    Ok(LogLevel::new(level, handle))
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
        writer.tell_repeats();
        writer.flush(LAST_LINES);
    }
}
