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
    /// The parts of each check by their names; a check that has none has one part without a name.
    checks: BTreeMap<String, BTreeMap<String, Result<(), String>>>,
}

/// What `GET /ready` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Whether all is well.
    pub ok: bool,
    /// For the gateway itself and each required dependency `ok`, or what is wrong.
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
        self.set_part(name, "", result);
    }

    /// Notes how one part of a required dependency is, such as one of two servers; all must be well.
    ///
    /// Both texts are shown to anyone who asks: see [`Readiness::set_check`].
    pub fn set_part(&self, name: &str, part: &str, result: Result<(), String>) {
        let mut state = self.state.write();
        let parts = state.checks.entry(name.to_owned()).or_default();
        parts.insert(part.to_owned(), result);
    }

    /// Forgets a dependency that the pipeline no longer has.
    pub fn remove_check(&self, name: &str) {
        self.state.write().checks.remove(name);
    }

    /// Forgets one part of a dependency, and the dependency with its last part.
    pub fn remove_part(&self, name: &str, part: &str) {
        let mut state = self.state.write();
        if let Some(parts) = state.checks.get_mut(name) {
            parts.remove(part);
            if parts.is_empty() {
                state.checks.remove(name);
            }
        }
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
        for (name, parts) in &state.checks {
            let failed: Vec<String> = parts
                .iter()
                .filter_map(|(part, result)| match (result, parts.len()) {
                    (Ok(()), _) => None,
                    (Err(reason), 1) => Some(reason.clone()),
                    (Err(reason), _) => Some(format!("{part}: {reason}")),
                })
                .collect();
            ok &= failed.is_empty();
            let text = if failed.is_empty() {
                "ok".to_owned()
            } else {
                failed.join("; ")
            };
            checks.insert(name.clone(), text);
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
    fn a_check_is_ok_only_if_all_its_parts_are() {
        let readiness = Readiness::default();
        readiness.set_phase(Phase::Serving);
        readiness.set_part("redis", "a:1/0", Err("refused".into()));
        assert_eq!(readiness.report().checks["redis"], "refused");
        readiness.set_part("redis", "b:1/0", Ok(()));
        assert_eq!(readiness.report().checks["redis"], "a:1/0: refused");
        assert!(!readiness.report().ok);
        readiness.set_part("redis", "a:1/0", Ok(()));
        assert!(readiness.report().ok);
        readiness.remove_part("redis", "a:1/0");
        readiness.remove_part("redis", "b:1/0");
        assert!(!readiness.report().checks.contains_key("redis"));
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
