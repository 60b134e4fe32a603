//! Logs, metrics and traces.
//!
//! Stands beside the data path: every part is handed its metrics, and logs by `tracing`.

mod log_level;
mod log_writer;
pub mod logs;
pub mod metrics;
pub mod process;
mod repeats;
pub(crate) mod throttle;
pub mod traces;
