//! Log output: JSON lines or text on standard error, never a token, key, secret or payload.
//!
//! Stands beside the data path; started once for each process, by `cli`.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogFormat, LoggingConfig};

/// Starts logging for the process.
///
/// # Errors
/// When the level is no filter, or logging was started before.
pub fn start(config: &LoggingConfig) -> Result<(), crate::svc::BoxError> {
    // It logs returned messages with their bodies; what matters of it is told by the links themselves.
    let filter = EnvFilter::try_new(&config.level)?.add_directive("lapin=off".parse()?);
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(std::io::stderr);
    match config.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .try_init(),
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
    }
}
