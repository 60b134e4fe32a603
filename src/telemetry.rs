//! Logs, metrics and traces.
//!
//! Stands beside the data path: every part is handed its metrics, and logs by `tracing`.

mod log_writer;
pub mod logs;
pub mod metrics;
pub(crate) mod throttle;
pub mod traces;
