//! The replay API as the command calls it: repeated calls, and errors in words.

use std::time::Duration;

use reqwest::header::RETRY_AFTER;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::progress::Progress;
use crate::cli::gateway::{Gateway, KeyHints};

const KEYS: KeyHints = KeyHints {
    wrong: "--key, REPLAY_API_KEY or GATEWAY_API_KEY",
    none: "server.api_key or replay.api.api_key",
};

/// Time that one batch may take.
const ANSWER: Duration = Duration::from_mins(5);

/// Calls of one batch whose answer is lost before the command gives up.
const TRIES: u32 = 3;

/// Wait where the gateway asks for one and does not say how long.
const UNTOLD_WAIT: u64 = 10;

/// Why the command ends with 1.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(super) struct Failed {
    text: String,
    /// What the failed call had replayed.
    pub(super) replayed: u64,
    /// Where a further call goes on, if the failed one told.
    pub(super) next_cursor: Option<String>,
}

impl Failed {
    pub(super) fn new(text: String) -> Self {
        Self {
            text,
            replayed: 0,
            next_cursor: None,
        }
    }
}

/// What one call came to.
#[derive(Debug, Deserialize)]
pub(super) struct Came {
    pub(super) replayed: u64,
    #[serde(default)]
    pub(super) refused: u64,
    pub(super) next_cursor: Option<String>,
}

/// The dead letters of all stores.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    #[serde(rename = "dead_letters")]
    pub(super) letters: Vec<Letter>,
    #[serde(default)]
    pub(super) unavailable: Vec<String>,
}

/// One dead letter.
#[derive(Debug, Deserialize)]
pub(super) struct Letter {
    pub(super) store: String,
    pub(super) event_id: Option<String>,
    pub(super) sink: Option<String>,
    pub(super) reason: String,
    pub(super) failed_at: Option<u64>,
    pub(super) raw: String,
}

impl Listed {
    /// Forgets what is not of one store.
    pub(super) fn of_store(&mut self, name: &str) {
        self.letters.retain(|letter| letter.store == name);
        self.unavailable.retain(|store| store == name);
    }

    pub(super) fn count(&self, name: &str) -> usize {
        let of_store = |letter: &&Letter| letter.store == name;
        self.letters.iter().filter(of_store).count()
    }
}

/// Calls one gateway.
#[derive(Debug)]
pub(super) struct Client {
    gateway: Gateway,
}

impl Client {
    /// Prepares calls; the error is a mistake in the arguments.
    pub(super) fn new(url: &str, key: &str) -> Result<Self, String> {
        let gateway = Gateway::new(url, key, ANSWER, KEYS)?;
        Ok(Self { gateway })
    }

    /// The oldest dead letters.
    pub(super) async fn dead_letters(&self, limit: u64) -> Result<Listed, Failed> {
        let path = format!("/internal/dead-letters?limit={limit}");
        let answer = self.gateway.call(Method::GET, &path).send().await;
        let answer = answer.map_err(|error| self.unreachable(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(self.refused(answer).await);
        }
        answer
            .json()
            .await
            .map_err(|error| self.unreachable(&error))
    }

    /// Replays one batch. A lost answer is asked for again with the same idempotency key, and a call that came too
    /// soon repeated when its time has come.
    pub(super) async fn replay(
        &self,
        from: &str,
        body: &Map<String, Value>,
        progress: &Progress,
    ) -> Result<Came, Failed> {
        let key = Uuid::now_v7().to_string();
        let mut body = body.clone();
        body.insert("idempotency_key".into(), json!(key));
        let mut tries = 1;
        loop {
            let request = self
                .gateway
                .call(Method::POST, &format!("/internal/replay/{from}"))
                .header("idempotency-key", &key)
                .json(&body);
            match answered(request).await {
                Ok(Answered::Came(came)) => return Ok(came),
                Ok(Answered::Other(answer)) if answer.status() == StatusCode::TOO_MANY_REQUESTS => {
                    let told = answer.headers().get(RETRY_AFTER);
                    let told = told.and_then(|told| told.to_str().ok()?.parse().ok());
                    let wait = Duration::from_secs(told.unwrap_or(UNTOLD_WAIT));
                    progress.wait(wait, "the rate limit is reached").await;
                }
                Ok(Answered::Other(answer)) => return Err(self.refused(answer).await),
                Err(error) if tries < TRIES && (tries > 1 || !error.is_connect()) => {
                    let why =
                        "the answer was lost, asking for it again with the same idempotency key";
                    progress.wait(Duration::from_secs(tries.into()), why).await;
                    tries += 1;
                }
                Err(error) => return Err(self.unreachable(&error)),
            }
        }
    }

    /// An answer that is no success, in words.
    async fn refused(&self, answer: Response) -> Failed {
        let refused = self.gateway.refused(answer).await;
        Failed {
            text: refused.text,
            replayed: refused.problem["replayed"].as_u64().unwrap_or_default(),
            next_cursor: refused.problem["next_cursor"].as_str().map(str::to_owned),
        }
    }

    fn unreachable(&self, error: &reqwest::Error) -> Failed {
        Failed::new(self.gateway.unreachable(error))
    }
}

enum Answered {
    Came(Came),
    Other(Response),
}

async fn answered(request: RequestBuilder) -> reqwest::Result<Answered> {
    let answer = request.send().await?;
    if answer.status() == StatusCode::OK {
        // A body that breaks off is a lost answer too.
        return answer.json().await.map(Answered::Came);
    }
    Ok(Answered::Other(answer))
}
