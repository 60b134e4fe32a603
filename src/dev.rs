//! The zero-set-up gateway of `wsgw dev`: throw-away keys, events in memory, and a page that shows what happens.
//!
//! Stands beside the data path, not in it: the same [`Gateway`] as in `wsgw run` serves the pipeline of
//! `dev/pipeline.yaml`, with a sink in memory, a tap on its stages and a page as its only extras.
//!
//! # Layout
//!
//! - `keys` makes what is thrown away: the key pair, the API key, the tokens.
//! - `routes` answers the page's requests; `guard` says which of them come from this machine's own browser.
//! - `feed` tells the page what happens, by server-sent events.
//! - `page.html`, `page.css` and `page.js` are the page, compiled into the binary.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::broadcast;

use crate::config::{self, EnvVars, LoadError, Loaded, Overrides};
use crate::jwt::SignError;
use crate::server::{Extras, Gateway, StartError};
use crate::sinks::memory::MemorySink;

mod feed;
mod guard;
mod keys;
mod routes;
#[cfg(test)]
mod tests;

use keys::DevKeys;
pub use keys::TokenRequest;

/// The pipeline file that `wsgw dev` runs.
pub const PIPELINE: &str = include_str!("dev/pipeline.yaml");

/// Events that a page opened later still gets to see.
const RECENT_EVENTS: usize = 200;

/// Steps that may wait for a page; one message takes two a stage.
const STEPS_WAITING: usize = 8192;

/// What can be chosen about a development gateway.
#[derive(Debug, Clone)]
pub struct DevOptions {
    /// Address and port to listen on.
    pub listen: String,
    /// The user that the page connects as at first.
    pub user: String,
}

/// Why a development gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The keys could not be made.
    #[error("cannot make throw-away keys: {0}")]
    Keys(#[from] SignError),
    /// An option makes the pipeline invalid.
    #[error(transparent)]
    Pipeline(#[from] LoadError),
    /// The gateway could not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// A running development gateway.
#[derive(Debug)]
pub struct DevGateway {
    gateway: Gateway,
    keys: Arc<DevKeys>,
    user: String,
}

impl DevGateway {
    /// Starts a gateway that needs nothing but this process.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the cryptographic library fails.
    pub async fn start(options: DevOptions) -> Result<Self, DevError> {
        let keys = Arc::new(DevKeys::generate()?);
        let Loaded { config, hash, .. } = pipeline(&options.listen, &keys)?;
        let memory = MemorySink::new(RECENT_EVENTS);
        let tap = broadcast::Sender::new(STEPS_WAITING);
        let pages = routes::Site {
            // Asked of the address as written, since the pages are made before it is bound; what is no literal
            // address, `localhost` for one, counts as this machine only if it is that name.
            local_only: guard::is_local(&options.listen),
            info: routes::info(&config, &options.user, &keys),
            keys: Arc::clone(&keys),
            events: memory.clone(),
            steps: tap.clone(),
        };
        let extras = Extras {
            memory: Some(memory),
            tap: Some(tap),
            pages: Some(pages.into_pages()),
            config_hash: hash,
            ..Extras::default()
        };
        Ok(Self {
            gateway: Gateway::start(config, extras).await?,
            keys,
            user: options.user,
        })
    }

    /// The address that is listened on, with the port that the system chose for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.gateway.address()
    }

    /// Whether only this machine can reach the gateway.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.address().ip().is_loopback()
    }

    /// The key for `/internal/*`.
    #[must_use]
    pub fn api_key(&self) -> &str {
        self.keys.api_key()
    }

    /// The user that the page connects as at first.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// A token that the gateway accepts, as of `now` (Unix seconds).
    ///
    /// # Errors
    /// When the cryptographic library fails.
    pub fn token(&self, request: &TokenRequest, now: u64) -> Result<String, SignError> {
        self.keys.token(request, now)
    }

    /// The gateway itself.
    #[must_use]
    pub fn into_gateway(self) -> Gateway {
        self.gateway
    }
}

/// The settings of [`PIPELINE`] with these keys; nothing of the process's environment counts, so that the start is
/// the same everywhere.
fn pipeline(listen: &str, keys: &DevKeys) -> Result<Loaded, LoadError> {
    let env = EnvVars::from([
        ("WSGW_LISTEN".to_owned(), listen.to_owned()),
        ("GATEWAY_API_KEY".to_owned(), keys.api_key().to_owned()),
        ("JWT_PUBLIC_KEY".to_owned(), keys.public_pem().to_owned()),
    ]);
    let overrides = Overrides {
        sets: Vec::new(),
        env,
    };
    config::load_str("dev.yaml", PIPELINE, &overrides)
}
