//! The stages of a pipeline, one file each, and the table that names them.
//!
//! Stands between the connection, which reads messages, and the sinks, which deliver events. Adding a stage
//! touches two places: its file in this folder and its row here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::Stage;

pub mod auth;
pub mod fan_out;
pub mod ordering_key;
pub mod ping_filter;
pub mod rate_limit;
pub mod trace;

#[cfg(test)]
pub(crate) mod testing;

macro_rules! stages {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal : $config:ty ),+ $(,)?) => {
        /// One item of `stages`: a map with one key, the stage's name.
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        pub enum StageConfig {
            $( $(#[$doc])* #[serde(rename = $name)] $variant($config), )+
        }

        impl StageConfig {
            /// The names of all stages, in the order in which they are usually written.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The stage's name as the pipeline file writes it.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant(_) => $name, )+ }
            }

            /// The stage's settings, to be compiled.
            #[must_use]
            pub fn settings(&self) -> &dyn Stage {
                match self { $( Self::$variant(settings) => settings, )+ }
            }
        }
    };
}

stages! {
    /// Admits connections by their token, and lets a client renew it in-band.
    Auth = "auth": auth::AuthConfig,
    /// Answers `ping` and `heartbeat` messages, so that they are never published.
    PingFilter = "ping_filter": ping_filter::PingFilterConfig,
    /// Refuses messages that come faster than the limit.
    RateLimit = "rate_limit": rate_limit::RateLimitConfig,
    /// Names the key within which a message keeps its order.
    OrderingKey = "ordering_key": ordering_key::OrderingKeyConfig,
    /// Copies or starts the message's trace context.
    Trace = "trace": trace::TraceConfig,
    /// Makes the event and hands it to the sinks; always the last stage.
    FanOut = "fan_out": fan_out::FanOutConfig,
}
