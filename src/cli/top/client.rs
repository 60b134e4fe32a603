//! Asks gateways for their status, each in its own time: one that hangs holds up no other.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde::Deserialize as _;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::status::Status;
use crate::cli::gateway::{Gateway, KeyHints, read_json};

/// Time that an answer may take.
const ANSWER: Duration = Duration::from_secs(5);

/// Answers that may wait to be shown.
const ANSWERS: usize = 64;

const KEYS: KeyHints = KeyHints {
    wrong: "--api-key, --api-key-file or GATEWAY_API_KEY",
    none: "server.api_key",
};

/// Asks one gateway.
#[derive(Debug)]
pub(super) struct Client(Gateway);

impl Client {
    /// Prepares calls; the error is a mistake in the arguments.
    pub(super) fn new(url: &str, key: &str) -> Result<Self, String> {
        Gateway::new(url, key, ANSWER, KEYS).map(Self)
    }

    /// The address, as it may be shown.
    pub(super) fn url(&self) -> &str {
        self.0.url()
    }

    /// The status, or in words why there is none.
    pub(super) async fn status(&self) -> Result<Status, String> {
        read(&self.raw_status().await?)
    }

    /// The same as it was written.
    pub(super) async fn raw_status(&self) -> Result<Value, String> {
        let answer = self.0.call(Method::GET, "/internal/status").send().await;
        let answer = answer.map_err(|error| self.0.unreachable(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(self.0.refused(answer).await.text);
        }
        read_json(answer)
            .await
            .map_err(|problem| format!("{}: {problem}", self.url()))
    }
}

/// Reads a status.
pub(super) fn read(status: &Value) -> Result<Status, String> {
    // What every gateway has, whatever its version.
    let told = |member: &str| status.get(member).is_some_and(Value::is_string);
    if !told("node_id") || !told("state") {
        return Err("the answer is no status of a gateway".to_owned());
    }
    Status::deserialize(status)
        .map_err(|error| format!("the answer is no status of a gateway: {error}"))
}

/// Asks each gateway again and again; dropped, it ends.
pub(super) struct Polling {
    answers: mpsc::Receiver<(usize, Result<Status, String>)>,
    paused: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Polling {
    pub(super) fn start(clients: Vec<Client>, every: Duration) -> Self {
        let (sender, answers) = mpsc::channel(ANSWERS);
        let (paused, pause) = watch::channel(false);
        let mut tasks = JoinSet::new();
        for (index, client) in clients.into_iter().enumerate() {
            let (sender, mut pause) = (sender.clone(), pause.clone());
            tasks.spawn(async move {
                let mut ticks = interval(every);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                loop {
                    ticks.tick().await;
                    if pause.wait_for(|paused| !paused).await.is_err()
                        || sender.send((index, client.status().await)).await.is_err()
                    {
                        return;
                    }
                }
            });
        }
        Self {
            answers,
            paused,
            _tasks: tasks,
        }
    }

    /// Asks nothing, or goes on.
    pub(super) fn pause(&self, pause: bool) {
        self.paused.send_replace(pause);
    }

    /// The next answer of any gateway.
    pub(super) async fn next(&mut self) -> (usize, Result<Status, String>) {
        match self.answers.recv().await {
            Some(answer) => answer,
            // Only without any gateway.
            None => std::future::pending().await,
        }
    }
}
