//! The link to one `RabbitMQ`: one connection that everything shares, and channels on it.
//!
//! Stands below everything that talks to `RabbitMQ`.

use std::sync::Arc;

use super::{BrokerConfig, DsnError};
use crate::api::Readiness;
use crate::config::Secret;

/// The name of `RabbitMQ` in `/ready`, metrics and dead letters.
pub const NAME: &str = "rabbitmq";

/// The link to one `RabbitMQ`.
#[derive(Debug)]
pub struct RabbitmqLink {
    address: String,
}

impl RabbitmqLink {
    /// Opens a link; connects in the background, and reconnects for ever.
    ///
    /// # Errors
    /// When the DSN is malformed or names a certificate that cannot be read.
    pub fn open(
        _dsn: &Secret,
        _config: &BrokerConfig,
        _readiness: &Arc<Readiness>,
    ) -> Result<Arc<Self>, DsnError> {
        Err(DsnError("RabbitMQ is not supported yet".to_owned()))
    }

    /// Where it leads, without credentials, for logs.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }
}
