//! What of the log is written: the configured level, or another one that an operator asked for.
//!
//! Stands beside the data path. A reload changes the configured level; a call of the API or SIGUSR1 puts another in its
//! place, for a while or until it is taken back.

use std::str::FromStr as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;
use tracing_subscriber::filter::{Directive, LevelFilter};
use tracing_subscriber::reload::Handle;
use tracing_subscriber::{EnvFilter, Registry};

use crate::svc::BoxError;

/// It logs returned messages with their bodies; what matters of it is told by the links themselves.
const NEVER: &str = "lapin";

/// What SIGUSR1 puts in the place of the configured level.
const DEBUG: &str = "debug";

/// Changes what a process logs; it changes nothing where logging was started by someone else, as in tests.
#[derive(Debug, Clone, Default)]
pub struct LogLevel(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    handle: Option<Handle<EnvFilter, Registry>>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    configured: String,
    other: Option<Other>,
}

/// A level in the place of the configured one.
#[derive(Debug)]
struct Other {
    level: String,
    ends: Option<(Instant, AbortOnDropHandle<()>)>,
}

/// A level that can be applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedLevel(String);

/// A part of a level that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is neither a level (off, error, warn, info, debug, trace) nor a target with one, as `wsgw::sinks=debug`"
)]
pub struct WrongDirective(pub String);

/// What is logged now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The level.
    pub level: String,
    /// The level that the configuration asks for.
    pub configured: String,
    /// Time until that is in force again, where that is certain.
    pub left: Option<Duration>,
}

impl PreparedLevel {
    /// The filter of the level, which leaves out what would log payloads.
    ///
    /// # Errors
    /// When the level is no filter.
    pub(super) fn filter(&self) -> Result<EnvFilter, BoxError> {
        let allowed = |part: &&str| !part.starts_with(NEVER);
        let parts: Vec<&str> = self.0.split(',').map(str::trim).filter(allowed).collect();
        let filter = EnvFilter::try_new(parts.join(","))?;
        Ok(filter.add_directive(format!("{NEVER}=off").parse()?))
    }
}

impl LogLevel {
    pub(super) fn new(level: PreparedLevel, handle: Handle<EnvFilter, Registry>) -> Self {
        Self(Arc::new(Shared {
            handle: Some(handle),
            state: Mutex::new(State {
                configured: level.0,
                other: None,
            }),
        }))
    }

    /// Reads a level.
    ///
    /// # Errors
    /// When the level is no filter.
    pub fn prepare(level: &str) -> Result<PreparedLevel, BoxError> {
        let level = PreparedLevel(level.to_owned());
        level.filter()?;
        Ok(level)
    }

    /// Reads a level that someone asks for while the gateway runs, and names the part that is wrong.
    ///
    /// # Errors
    /// When a part is neither a level nor a target with a level.
    pub fn prepare_strictly(level: &str) -> Result<PreparedLevel, WrongDirective> {
        for part in level.split(',') {
            let (target, level) = match part.trim().split_once('=') {
                Some((target, level)) => (Some(target), level),
                None => (None, part.trim()),
            };
            // A target without a level would count as one that logs all, and so would each misspelt level.
            let known = !level.is_empty() && LevelFilter::from_str(level).is_ok();
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-');
            let named = target.is_none_or(|target| !target.is_empty() && target.chars().all(plain));
            if !known || !named || Directive::from_str(part.trim()).is_err() {
                return Err(WrongDirective(part.trim().chars().take(100).collect()));
            }
        }
        Self::prepare(level).map_err(|_| WrongDirective(level.chars().take(100).collect()))
    }

    /// Takes over the level of another configuration. One that differs from the former counts at once; one that does not
    /// leaves in force what was asked for meanwhile.
    pub fn apply(&self, level: &PreparedLevel) {
        let mut state = self.0.state.lock();
        if state.configured != level.0 {
            state.configured.clone_from(&level.0);
            state.other = None;
            self.0.load(level);
        }
    }

    /// Logs by another level, until the configuration has another one, or for as long as is said.
    ///
    /// Must be called within a tokio runtime where a time is given.
    pub fn set(&self, level: PreparedLevel, lasts: Option<Duration>) {
        let ends = lasts.map(|lasts| {
            let end = Instant::now() + lasts;
            let shared = Arc::downgrade(&self.0);
            let task = tokio::spawn(async move {
                tokio::time::sleep_until(end).await;
                Shared::take_back(&shared);
            });
            (end, AbortOnDropHandle::new(task))
        });
        {
            let mut state = self.0.state.lock();
            self.0.load(&level);
            let same = ends.is_none() && level.0 == state.configured;
            state.other = (!same).then_some(Other {
                level: level.0,
                ends,
            });
        }
        self.in_force().log();
    }

    /// Goes to `debug`, or back to the configured level where another one is in force.
    pub fn toggle(&self) {
        let level = {
            let state = self.0.state.lock();
            match state.other {
                Some(_) => state.configured.clone(),
                None => DEBUG.to_owned(),
            }
        };
        self.set(PreparedLevel(level), None);
    }

    /// What is logged now.
    #[must_use]
    pub fn in_force(&self) -> InForce {
        let state = self.0.state.lock();
        let configured = state.configured.clone();
        match &state.other {
            Some(other) => InForce {
                level: other.level.clone(),
                configured,
                left: other
                    .ends
                    .as_ref()
                    .map(|(end, _)| end.duration_since(Instant::now())),
            },
            None => InForce {
                level: configured.clone(),
                configured,
                left: None,
            },
        }
    }
}

impl InForce {
    fn log(&self) {
        // A warning, so that it is seen under most levels that it tells of.
        tracing::warn!(
            event = "log_level_changed",
            level = self.level,
            configured = self.configured,
            for_seconds = self.left.map(|left| left.as_secs_f64().round()),
        );
    }
}

impl Shared {
    fn load(&self, level: &PreparedLevel) {
        if let (Some(handle), Ok(filter)) = (&self.handle, level.filter()) {
            // It only fails when nobody logs any more.
            let _ = handle.reload(filter);
        }
    }

    /// Goes back to the configured level.
    fn take_back(shared: &Weak<Self>) {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let (in_force, ended) = {
            let mut state = shared.state.lock();
            let ended = state.other.take();
            let level = state.configured.clone();
            shared.load(&PreparedLevel(level.clone()));
            let configured = level.clone();
            (
                InForce {
                    level,
                    configured,
                    left: None,
                },
                ended,
            )
        };
        in_force.log();
        // This very task is among it, and is at its end.
        drop(ended);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_part_is_named() {
        for (level, part) in [
            ("inof", "inof"),
            ("info,wsgw::sinks", "wsgw::sinks"),
            ("info, wsgw=loud", "wsgw=loud"),
            ("info,[span{field=1}]=debug", "[span{field=1}]=debug"),
            ("", ""),
            ("info,", ""),
            ("=debug", "=debug"),
        ] {
            let wrong = LogLevel::prepare_strictly(level);
            assert_eq!(wrong, Err(WrongDirective(part.to_owned())), "{level}");
        }
        for level in ["info", "off", "WARN", "info,wsgw::sinks=debug, hyper=off"] {
            assert!(LogLevel::prepare_strictly(level).is_ok(), "{level}");
        }
    }

    #[test]
    fn what_would_log_payloads_cannot_be_asked_for() {
        let level = LogLevel::prepare_strictly("trace,lapin=trace,lapin::channel=trace").unwrap();
        let filter = level.filter().unwrap().to_string();
        let mut parts: Vec<_> = filter.split(',').collect();
        parts.sort_unstable();
        assert_eq!(parts, ["lapin=off", "trace"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_level_for_a_while_ends_and_a_toggle_goes_back_and_forth() {
        let log = LogLevel::default();
        let prepared = |level: &str| LogLevel::prepare(level).unwrap();
        log.apply(&prepared("info"));
        let minute = Duration::from_mins(1);
        log.set(prepared("trace"), Some(minute));
        assert_eq!(log.in_force().left, Some(minute));
        tokio::time::sleep(minute / 2).await;
        assert_eq!(log.in_force().level, "trace");
        // Another one takes its place, and is not ended by what was to end the first.
        log.set(prepared("warn"), Some(minute));
        tokio::time::sleep(minute * 3 / 4).await;
        assert_eq!(log.in_force().level, "warn");
        tokio::time::sleep(minute / 2).await;
        assert_eq!(
            (log.in_force().level.as_str(), log.in_force().left),
            ("info", None)
        );
        log.toggle();
        assert_eq!(log.in_force().level, "debug");
        log.apply(&prepared("info"));
        assert_eq!(
            log.in_force().level,
            "debug",
            "the file did not change its level"
        );
        log.toggle();
        assert_eq!(log.in_force().level, "info");
        log.toggle();
        log.apply(&prepared("error"));
        assert_eq!(
            log.in_force().level,
            "error",
            "the file's new level counts at once"
        );
        log.toggle();
        assert_eq!(log.in_force().level, "debug");
    }
}
