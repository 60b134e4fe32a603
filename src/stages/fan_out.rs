//! Makes the event and hands it to the sinks; always the last stage.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the `fan_out` stage.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FanOutConfig {
    /// Which sinks get events; unset or empty: `webhook` in terminator mode, `broker` in core mode.
    pub events_mode: Option<EventsMode>,
    /// What a full buffer does to the client whose message finds it full.
    pub on_full: OnFull,
}

/// Which sinks get events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventsMode {
    /// The webhook.
    Webhook,
    /// Every configured broker.
    Broker,
    /// The webhook and every configured broker.
    Both,
    /// Neither.
    None,
}

/// What a full buffer does to the client whose message finds it full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFull {
    /// The gateway stops reading from the client until there is room.
    #[default]
    Wait,
    /// The client is answered `{"type":"overloaded"}` and nothing is published.
    Reject,
    /// The connection is closed with 1013 (try again later).
    Close,
}

/// A sink's buffer was full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Overloaded {
    /// The message was refused.
    #[error("a sink's buffer is full: the message is refused")]
    Reject,
    /// The connection is to be closed.
    #[error("a sink's buffer is full: the connection is closed")]
    Close,
}
