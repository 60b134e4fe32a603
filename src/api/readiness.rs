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
    checks: BTreeMap<String, BTreeMap<String, Part>>,
    advisories: BTreeMap<String, Result<(), String>>,
    owners: u64,
}

#[derive(Debug)]
struct Part {
    owner: Owner,
    result: Result<(), String>,
}

/// Who speaks for parts of a check.
///
/// After a reload an old connection to a server may end beside a new one to the same: only the newest is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Owner(u64);

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
        self.set_part(name, "", result);
    }

    /// Notes how one part of a required dependency is, such as one of two servers; all must be well.
    ///
    /// Both texts are shown to anyone who asks: see [`Readiness::set_check`].
    pub fn set_part(&self, name: &str, part: &str, result: Result<(), String>) {
        self.set_part_by(Owner::default(), name, part, result);
    }

    /// Makes an owner of parts, which is believed rather than all that were made before.
    #[must_use]
    pub fn owner(&self) -> Owner {
        let mut state = self.state.write();
        state.owners += 1;
        Owner(state.owners)
    }

    /// As [`Readiness::set_part`], unless a newer owner speaks for the part.
    pub fn set_part_by(&self, owner: Owner, name: &str, part: &str, result: Result<(), String>) {
        let mut state = self.state.write();
        let parts = state.checks.entry(name.to_owned()).or_default();
        if parts.get(part).is_none_or(|known| known.owner <= owner) {
            parts.insert(part.to_owned(), Part { owner, result });
        }
    }

    /// Forgets the parts of a check that an owner speaks for, and the check with its last part.
    pub fn remove_parts_of(&self, owner: Owner, name: &str) {
        let mut state = self.state.write();
        if let Some(parts) = state.checks.get_mut(name) {
            parts.retain(|_, part| part.owner != owner);
            if parts.is_empty() {
                state.checks.remove(name);
            }
        }
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
        for (name, result) in &state.advisories {
            let text = result.as_ref().map_or_else(String::as_str, |()| "ok");
            checks.insert(name.clone(), text.to_owned());
        }
        for (name, parts) in &state.checks {
            let failed: Vec<String> = parts
                .iter()
                .filter_map(|(name, part)| match (&part.result, parts.len()) {
                    (Ok(()), _) => None,
                    (Err(reason), 1) => Some(reason.clone()),
                    (Err(reason), _) => Some(format!("{name}: {reason}")),
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
    fn the_newest_owner_of_a_part_is_believed() {
        let readiness = Readiness::default();
        readiness.set_phase(Phase::Serving);
        let (old, new) = (readiness.owner(), readiness.owner());
        readiness.set_part_by(old, "redis", "a:1/0", Err("refused".into()));
        readiness.set_part_by(new, "redis", "a:1/0", Ok(()));
        readiness.set_part_by(old, "redis", "a:1/0", Err("refused".into()));
        assert!(readiness.report().ok);
        readiness.remove_parts_of(old, "redis");
        assert_eq!(readiness.report().checks["redis"], "ok");
        readiness.remove_parts_of(new, "redis");
        assert!(!readiness.report().checks.contains_key("redis"));
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
