//! Keeps the keys of an identity provider at hand: fetched when first needed, refreshed behind the
//! clients' backs, and kept when the provider is down.
//!
//! All times are those of the tokens being checked (Unix seconds, injected), so that the policy can be
//! tested without waiting. A clock that jumps back makes keys stale, never eternal.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use reqwest::header::ACCEPT;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::error::{AuthError, VerifierError};
use super::jwk::KeySet;
use crate::clock::numeric_date;
use crate::stages::auth::{JwtAlgorithm, JwtConfig};

const MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// How long the network may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// A fetch may take longer than any client waits: its keys serve the next one.
    pub(super) fetch: Duration,
    /// A client's wait for a fetch.
    pub(super) wait: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(10),
            wait: Duration::from_secs(5),
        }
    }
}

/// A remote key set. Dropping it aborts a fetch in flight.
pub(super) struct Jwks {
    shared: Arc<Shared>,
    /// The fetch in flight, or the last one. It holds `shared` only, so that it cannot keep itself alive.
    fetch: Mutex<Option<AbortHandle>>,
}

struct Shared {
    client: Client,
    url: Url,
    config: JwtConfig,
    patience: Patience,
    state: Mutex<State>,
    /// Counts finished fetches; waiting tokens watch it.
    finished: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    keys: Option<Arc<KeySet>>,
    /// Start of the fetch that brought `keys`.
    fetched_at: f64,
    /// Start of the last fetch if it failed.
    failed_at: Option<f64>,
    /// Start of the last fetch that a token with an unknown key id caused.
    missed_at: Option<f64>,
    in_flight: bool,
}

/// What is known about a token's key right now.
pub(super) enum Lookup {
    /// A set that holds the key.
    Keys(Arc<KeySet>),
    /// The token cannot be judged, or has no key.
    Refused(AuthError),
    /// A fetch that will tell is in flight.
    Wait(watch::Receiver<u64>),
}

/// The key sets in use, by which a reload goes on with the keys that were fetched before it.
#[derive(Default)]
pub struct KeySets(Mutex<Vec<Weak<Shared>>>);

impl KeySets {
    /// What was fetched last from the same place for the same algorithm.
    fn known(&self, config: &JwtConfig) -> Option<(Arc<KeySet>, f64)> {
        let sets = self.0.lock();
        sets.iter().rev().filter_map(Weak::upgrade).find_map(|set| {
            let same =
                set.config.jwks_url == config.jwks_url && set.config.algorithm == config.algorithm;
            let state = set.state.lock();
            let keys = state.keys.clone().filter(|_| same)?;
            Some((keys, state.fetched_at))
        })
    }

    fn add(&self, set: &Arc<Shared>) {
        let mut sets = self.0.lock();
        sets.retain(|set| set.strong_count() > 0);
        sets.push(Arc::downgrade(set));
    }
}

impl Jwks {
    /// Goes on with the keys that `sets` has from the same place, and fetches them again behind the clients' backs.
    pub(super) fn with_known(
        config: &JwtConfig,
        patience: Patience,
        sets: &KeySets,
    ) -> Result<Self, VerifierError> {
        let jwks = Self::new(config, patience)?;
        let known = sets.known(config);
        sets.add(&jwks.shared);
        if let Some((keys, fetched_at)) = known {
            let mut state = jwks.shared.state.lock();
            state.keys = Some(keys);
            state.fetched_at = fetched_at;
            jwks.start(&mut state, numeric_date());
        }
        Ok(jwks)
    }

    pub(super) fn new(config: &JwtConfig, patience: Patience) -> Result<Self, VerifierError> {
        let url = Url::parse(&config.jwks_url).map_err(|_| VerifierError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(VerifierError::Url);
        }
        let client = Client::builder()
            .user_agent(concat!("wsgw/", env!("CARGO_PKG_VERSION")))
            // A redirect could lead the trust in the keys anywhere, also from https to http.
            .redirect(Policy::none())
            .timeout(patience.fetch)
            // Minutes pass between fetches: an idle connection would only go stale.
            .pool_max_idle_per_host(0)
            .build()
            .map_err(|error| VerifierError::Client(describe(error)))?;
        Ok(Self {
            shared: Arc::new(Shared {
                client,
                url,
                config: config.clone(),
                patience,
                state: Mutex::default(),
                finished: watch::Sender::new(0),
            }),
            fetch: Mutex::new(None),
        })
    }

    /// Looks for a token's key without waiting, and starts a fetch if one is due.
    pub(super) fn lookup(&self, kid: Option<&str>, now: f64) -> Lookup {
        let mut state = self.shared.state.lock();
        let Some(keys) = state.keys.clone() else {
            return if self.is_backing_off(&state, now) && !state.in_flight {
                Lookup::Refused(AuthError::KeysUnavailable)
            } else {
                self.start_and_wait(&mut state, now)
            };
        };
        let refresh = seconds(self.shared.config.jwks_refresh_seconds);
        let fetch = if is_within(state.fetched_at, refresh, now) || self.is_backing_off(&state, now)
        {
            None
        } else {
            self.start(&mut state, now)
        };
        if keys.find(kid).is_some() {
            // After a long silence the keys may have been revoked long ago: wait for the answer, unless
            // the last one was a failure, because a provider that is down must not slow anybody.
            let overdue = !is_within(state.fetched_at, 2.0 * refresh, now);
            return match fetch {
                Some(fetch) if overdue && state.failed_at.is_none() => Lookup::Wait(fetch),
                _ => Lookup::Keys(keys),
            };
        }
        if kid.is_none() {
            return Lookup::Refused(AuthError::UnknownKey);
        }
        if let Some(fetch) = fetch {
            return Lookup::Wait(fetch);
        }
        if !state.in_flight {
            // Anybody can invent key ids: they must not turn into requests to the provider.
            if self.is_backing_off(&state, now) {
                return Lookup::Refused(AuthError::KeysUnavailable);
            }
            if self.is_recent(state.missed_at, now) {
                return Lookup::Refused(AuthError::UnknownKey);
            }
            state.missed_at = Some(now);
        }
        self.start_and_wait(&mut state, now)
    }

    /// Waits for the fetch in flight, and returns a set that holds the token's key.
    pub(super) async fn wait(
        &self,
        mut fetch: watch::Receiver<u64>,
        kid: Option<&str>,
        now: f64,
    ) -> Result<Arc<KeySet>, AuthError> {
        // The outcome does not matter: whatever keys there are now decide, also after a failure.
        let in_time = tokio::time::timeout(self.shared.patience.wait, fetch.changed())
            .await
            .is_ok();
        let mut state = self.shared.state.lock();
        match state.keys.clone() {
            Some(keys) if keys.find(kid).is_some() => Ok(keys),
            Some(_) if in_time && state.failed_at.is_none() => {
                if kid.is_some() {
                    state.missed_at = Some(now);
                }
                Err(AuthError::UnknownKey)
            }
            _ => Err(AuthError::KeysUnavailable),
        }
    }

    fn start_and_wait(&self, state: &mut MutexGuard<'_, State>, now: f64) -> Lookup {
        self.start(state, now)
            .map_or(Lookup::Refused(AuthError::KeysUnavailable), Lookup::Wait)
    }

    /// Whether the last fetch failed so recently that the next one has to wait.
    fn is_backing_off(&self, state: &State, now: f64) -> bool {
        self.is_recent(state.failed_at, now)
    }

    fn is_recent(&self, moment: Option<f64>, now: f64) -> bool {
        let pause = seconds(self.shared.config.jwks_min_refetch_seconds);
        moment.is_some_and(|moment| is_within(moment, pause, now))
    }

    /// Starts a fetch unless one is in flight; none outside a runtime, where nothing can be fetched.
    fn start(&self, state: &mut MutexGuard<'_, State>, now: f64) -> Option<watch::Receiver<u64>> {
        let finished = self.shared.finished.subscribe();
        if state.in_flight {
            return Some(finished);
        }
        let runtime = Handle::try_current().ok()?;
        state.in_flight = true;
        let fetch = Fetch {
            shared: Arc::clone(&self.shared),
            started_at: now,
            outcome: Err(FetchError::Aborted),
        };
        // A runtime that is shutting down drops the fetch inside `spawn`, and that needs the state.
        let task = MutexGuard::unlocked(state, || runtime.spawn(fetch.run()));
        *self.fetch.lock() = Some(task.abort_handle());
        Some(finished)
    }
}

impl Drop for Jwks {
    fn drop(&mut self) {
        if let Some(fetch) = self.fetch.get_mut() {
            fetch.abort();
        }
    }
}

/// One fetch. Its end is reported on drop, so that an aborted or panicking task releases who waits for it.
struct Fetch {
    shared: Arc<Shared>,
    started_at: f64,
    outcome: Result<KeySet, FetchError>,
}

impl Fetch {
    async fn run(mut self) {
        self.outcome = self.shared.fetch().await;
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        let outcome = std::mem::replace(&mut self.outcome, Err(FetchError::Aborted));
        log(&outcome, self.shared.config.algorithm);
        let mut state = self.shared.state.lock();
        state.in_flight = false;
        match outcome {
            Ok(keys) => {
                state.keys = Some(Arc::new(keys));
                state.fetched_at = self.started_at;
                state.failed_at = None;
            }
            Err(_) => state.failed_at = Some(self.started_at),
        }
        drop(state);
        self.shared.finished.send_modify(|count| *count += 1);
    }
}

fn log(outcome: &Result<KeySet, FetchError>, algorithm: JwtAlgorithm) {
    match outcome {
        // Not an error: it is how a provider revokes everything. But most likely the algorithm is wrong.
        Ok(keys) if keys.len() == 0 => tracing::warn!(
            event = "jwks_refreshed",
            keys = 0,
            algorithm = algorithm.name(),
            "the key set holds no key for the configured algorithm"
        ),
        Ok(keys) => tracing::info!(event = "jwks_refreshed", keys = keys.len()),
        Err(FetchError::Aborted) => {}
        Err(error) => tracing::warn!(event = "jwks_failed", %error),
    }
}

#[derive(Debug, Error)]
enum FetchError {
    #[error("{0}")]
    Request(String),
    #[error("the answer has status {0}, not 200")]
    Status(StatusCode),
    #[error("the answer is over 1 MiB")]
    TooLarge,
    #[error("the answer is not a JSON Web Key Set")]
    NotAKeySet,
    #[error("aborted")]
    Aborted,
}

impl From<reqwest::Error> for FetchError {
    fn from(error: reqwest::Error) -> Self {
        Self::Request(describe(error))
    }
}

impl Shared {
    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let mut response = self
            .client
            .get(self.url.clone())
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .send()
            .await?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body, self.config.algorithm).ok_or(FetchError::NotAKeySet)
    }
}

/// An HTTP error with its causes but without the address, which may hold credentials.
fn describe(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn is_within(since: f64, period: f64, now: f64) -> bool {
    (0.0..period).contains(&(now - since))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact up to 2^53 seconds, which is 285 million years"
)]
fn seconds(count: u64) -> f64 {
    count as f64
}
