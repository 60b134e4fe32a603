//! wsgw: a WebSocket gateway that holds connections for a backend that should not.

pub mod api;
pub mod cli;
pub mod close;
pub mod config;
pub mod dev;
pub mod event;
pub mod jwt;
pub mod message;
pub mod outbox;
pub mod pipeline;
pub mod presence;
pub mod registry;
pub mod server;
pub mod session;
pub mod sinks;
pub mod stages;
pub mod svc;
pub mod telemetry;
