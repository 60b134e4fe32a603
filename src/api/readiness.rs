//! Readiness: whether the gateway may be sent traffic, as `GET /ready` answers.
//!
//! Written to by whatever starts, stops or loses a dependency; read by the API alone.

use std::collections::BTreeMap;

use http::StatusCode;
use parking_lot::RwLock;
use serde::Serialize;
use warp::reply::Response;

use super::problem::json;

/// What the gateway is doing; it only moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Phase {
    /// The pipeline is being compiled, or sources are not subscribed yet.
    #[default]
    Starting,
    /// Connections are taken.
    Serving,
    /// The gateway stops and closes its connections.
    Draining,
}

/// Whether the gateway may be sent traffic.
#[derive(Debug, Default)]
pub struct Readiness {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    phase: Phase,
    checks: BTreeMap<String, Result<(), String>>,
    advisories: BTreeMap<String, Result<(), String>>,
}

/// What `GET /ready` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all is well.
    pub ok: bool,
    /// For the gateway itself and each dependency `ok`, or what is wrong.
    pub checks: BTreeMap<String, String>,
}

impl Readiness {
    /// The phase the gateway is in.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.state.read().phase
    }

    /// Moves to a later phase.
    ///
    /// An earlier one is ignored: a start that ends after the stop began must not undo it.
    pub fn set_phase(&self, phase: Phase) {
        let mut state = self.state.write();
        state.phase = state.phase.max(phase);
    }

    /// Notes how a required dependency is.
    ///
    /// The text is shown to anyone who asks, without a key: it must hold no address with credentials.
    pub fn set_check(&self, name: &str, result: Result<(), String>) {
        self.state.write().checks.insert(name.to_owned(), result);
    }

    /// Notes how a dependency is that traffic can do without: it is shown, and makes nothing unready.
    ///
    /// The text is shown to anyone who asks, without a key: it must hold no address with credentials.
    pub fn set_advisory(&self, name: &str, result: Result<(), String>) {
        self.state
            .write()
            .advisories
            .insert(name.to_owned(), result);
    }

    /// Forgets a dependency that the pipeline no longer has.
    pub fn remove_check(&self, name: &str) {
        let mut state = self.state.write();
        state.checks.remove(name);
        state.advisories.remove(name);
    }

    /// What `GET /ready` answers now.
    #[must_use]
    pub fn report(&self) -> Report {
        let state = self.state.read();
        let gateway = match state.phase {
            Phase::Starting => "starting",
            Phase::Serving => "ok",
            Phase::Draining => "draining",
        };
        let mut ok = state.phase == Phase::Serving;
        let mut checks = BTreeMap::from([("gateway".to_owned(), gateway.to_owned())]);
        ok &= state.checks.values().all(Result::is_ok);
        for (name, result) in state.advisories.iter().chain(&state.checks) {
            let text = result.as_ref().map_or_else(String::as_str, |()| "ok");
            checks.insert(name.clone(), text.to_owned());
        }
        Report { ok, checks }
    }
}

pub(super) fn ready(readiness: &Readiness) -> Response {
    let report = readiness.report();
    let status = if report.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    json(status, &report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_only_while_serving_with_every_dependency_up() {
        let readiness = Readiness::default();
        assert!(!readiness.report().ok);
        readiness.set_phase(Phase::Serving);
        assert!(readiness.report().ok);
        readiness.set_check("redis", Err("connection refused".into()));
        let report = readiness.report();
        assert!(!report.ok);
        assert_eq!(report.checks["redis"], "connection refused");
        assert_eq!(report.checks["gateway"], "ok");
        readiness.set_check("redis", Ok(()));
        assert_eq!(readiness.report().checks["redis"], "ok");
        assert!(readiness.report().ok);
        readiness.set_check("rabbitmq", Err("gone".into()));
        readiness.remove_check("rabbitmq");
        assert!(readiness.report().ok);
    }

    #[test]
    fn an_advisory_is_shown_and_makes_nothing_unready() {
        let readiness = Readiness::default();
        readiness.set_phase(Phase::Serving);
        readiness.set_advisory("archive", Err("database is locked".into()));
        let report = readiness.report();
        assert!(report.ok);
        assert_eq!(report.checks["archive"], "database is locked");
        readiness.remove_check("archive");
        assert!(!readiness.report().checks.contains_key("archive"));
    }

    #[test]
    fn a_stop_is_final() {
        let readiness = Readiness::default();
        readiness.set_phase(Phase::Draining);
        readiness.set_phase(Phase::Serving);
        assert_eq!(readiness.phase(), Phase::Draining);
        assert_eq!(readiness.report().checks["gateway"], "draining");
    }
}
