//! The configuration in force, and what the latest reloads came to.
//!
//! Written to by the server at its start and with each reload; read by the status alone.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::RwLock;
use serde::Serialize;

use crate::clock::{rfc3339, unix_millis};

/// Reloads that are remembered.
const KEPT: usize = 50;

/// Problems of one file that are remembered.
const MAX_ERRORS: usize = 50;

/// The configuration in force, and the latest reloads.
#[derive(Debug, Default)]
pub struct Reloads {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<String>,
    in_force: Revision,
    latest: VecDeque<Arc<Reload>>,
}

/// The configuration in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revision {
    /// Names it.
    pub hash: String,
    /// Its number, counted from 1.
    pub generation: u64,
    /// When it was put in force, as RFC 3339 writes it.
    pub loaded_at: String,
}

/// Whether a reload changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReloadResult {
    /// The configuration is in force.
    Success,
    /// The one before stays.
    Failure,
}

/// What one reload came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reload {
    /// When it ended, as RFC 3339 writes it.
    pub at: String,
    /// Whether it changed anything.
    pub result: ReloadResult,
    /// How long it took since it was asked for.
    pub seconds: f64,
    /// The generation in force afterwards.
    pub generation: u64,
    /// Paths of the settings that changed; never values.
    pub changed: Vec<String>,
    /// Paths of the settings that wait for a restart.
    pub waits_for_restart: Vec<String>,
    /// What was wrong, each with its place; never a secret.
    pub errors: Vec<String>,
}

impl Reloads {
    /// Notes the configuration that the gateway starts with.
    pub fn started(&self, file: Option<String>, hash: &str, generation: u64) {
        let mut state = self.state.write();
        state.file = file;
        state.in_force = Revision::now(hash, generation);
    }

    /// Notes a reload that put a configuration in force.
    pub fn succeeded(
        &self,
        (hash, generation): (&str, u64),
        seconds: f64,
        changed: Vec<String>,
        waits_for_restart: Vec<String>,
    ) {
        let mut state = self.state.write();
        state.in_force = Revision::now(hash, generation);
        let at = state.in_force.loaded_at.clone();
        state.note(Reload {
            at,
            result: ReloadResult::Success,
            seconds,
            generation,
            changed,
            waits_for_restart,
            errors: Vec::new(),
        });
    }

    /// Notes a reload that changed nothing.
    pub fn failed(&self, seconds: f64, mut errors: Vec<String>) {
        if errors.len() > MAX_ERRORS {
            let more = errors.len() - MAX_ERRORS;
            errors.truncate(MAX_ERRORS);
            errors.push(format!("and {more} more"));
        }
        let mut state = self.state.write();
        let generation = state.in_force.generation;
        state.note(Reload {
            at: rfc3339(unix_millis()),
            result: ReloadResult::Failure,
            seconds,
            generation,
            changed: Vec::new(),
            waits_for_restart: Vec::new(),
            errors,
        });
    }

    /// The file that the configuration comes from, where there is one.
    #[must_use]
    pub fn file(&self) -> Option<String> {
        self.state.read().file.clone()
    }

    /// The configuration in force.
    #[must_use]
    pub fn in_force(&self) -> Revision {
        self.state.read().in_force.clone()
    }

    /// The latest reloads, newest first.
    #[must_use]
    pub fn latest(&self) -> Vec<Arc<Reload>> {
        self.state.read().latest.iter().cloned().collect()
    }
}

impl Revision {
    fn now(hash: &str, generation: u64) -> Self {
        Self {
            hash: hash.to_owned(),
            generation,
            loaded_at: rfc3339(unix_millis()),
        }
    }
}

impl State {
    fn note(&mut self, reload: Reload) {
        self.latest.truncate(KEPT - 1);
        self.latest.push_front(Arc::new(reload));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_reloads_are_kept() {
        let reloads = Reloads::default();
        reloads.started(Some("a.yaml".into()), "h1", 1);
        for number in 2..=60 {
            let hash = format!("h{number}");
            reloads.succeeded(
                (&hash, number),
                0.01,
                vec!["server.path".into()],
                Vec::new(),
            );
        }
        reloads.failed(
            0.5,
            (0..60).map(|n| format!("a.yaml:{n}:1 wrong")).collect(),
        );
        let latest = reloads.latest();
        assert_eq!(latest.len(), KEPT);
        assert_eq!(
            (latest[0].result, latest[0].generation),
            (ReloadResult::Failure, 60)
        );
        assert_eq!(latest[0].errors.len(), MAX_ERRORS + 1);
        assert_eq!(latest[0].errors[MAX_ERRORS], "and 10 more");
        assert_eq!((latest[1].generation, latest[49].generation), (60, 12));
        let in_force = reloads.in_force();
        assert_eq!((in_force.hash.as_str(), in_force.generation), ("h60", 60));
        assert_eq!(reloads.file().as_deref(), Some("a.yaml"));
    }
}
