//! wsgw: a WebSocket gateway that holds connections for a backend that should not.

pub mod cli;
pub mod config;
pub mod sinks;
pub mod stages;
