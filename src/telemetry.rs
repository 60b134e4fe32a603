//! Logs and metrics.
//!
//! Stands beside the data path: every part is handed its metrics, and logs by `tracing`.

mod log_writer;
pub mod logs;
pub mod metrics;
pub mod process;
pub(crate) mod throttle;
