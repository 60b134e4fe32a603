//! Delivers events as signed HTTP POSTs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::{BufferConfig, Secret};

/// Settings of the webhook sink.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// URL that events are posted to; empty switches the sink off.
    pub url: String,
    /// Key of the signatures; empty: unsigned.
    pub secret: Secret,
    /// Which signature headers accompany `X-Webhook-Signature`.
    pub signature: SignatureForm,
    /// Tries in all, the first one among them.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub retry_attempts: u32,
    /// Seconds before the first retry; doubled, with jitter, for each further one.
    #[schemars(range(min = 0.0, max = 3600.0))]
    pub retry_base_seconds: f64,
    /// Seconds between two tries at most, a `Retry-After` of the backend included.
    #[schemars(range(min = 0.0, max = 86400.0))]
    pub retry_max_seconds: f64,
    /// Seconds one try may take.
    #[schemars(range(min = 0.01, max = 3600.0))]
    pub timeout_seconds: f64,
    /// Requests under way at once; those of one ordering key never overlap.
    #[schemars(range(min = 1, max = 65_536))]
    pub concurrency: usize,
    /// The bounded buffer in front of the sink.
    pub buffer: BufferConfig,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            secret: Secret::default(),
            signature: SignatureForm::Standard,
            retry_attempts: 3,
            retry_base_seconds: 0.5,
            retry_max_seconds: 60.0,
            timeout_seconds: 5.0,
            concurrency: 64,
            buffer: BufferConfig::default(),
        }
    }
}

/// Which signature headers a webhook carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SignatureForm {
    /// `webhook-id`, `webhook-timestamp`, `webhook-signature` of the Standard Webhooks specification.
    Standard,
    /// `Webhook-Event`, `Webhook-Id`, `Webhook-Signature` as Symfony's `webhook.request_parser` verifies them.
    Symfony,
}
