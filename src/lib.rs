//! wsgw: a WebSocket gateway that holds connections for a backend that should not.

pub mod config;
pub mod jwt;
pub mod sinks;
pub mod stages;
