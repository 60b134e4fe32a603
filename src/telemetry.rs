//! Logs and metrics.
//!
//! Stands beside the data path: every part is handed its metrics, and logs by `tracing`.

pub mod logs;
pub mod metrics;
pub(crate) mod throttle;
