//! A reload: another configuration is put in force while connections stay open.
//!
//! Stands between whoever asks for it (a signal, a file that changed) and the foundation. What it does with each
//! setting is said by [`crate::config::changes`].

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::foundation::Prepared;
use super::{Gateway, StartError};
use crate::clock::numeric_date;
use crate::config::changes::{self, Restart};
use crate::config::{Diagnostic, LoadError, Loaded, Severity};

/// What a reload came to.
#[derive(Debug)]
pub struct Reloaded {
    /// The generation's number, counted from 1.
    pub generation: u64,
    /// Names the configuration in force.
    pub hash: String,
    /// Paths of the settings that changed; never values.
    pub changed: Vec<String>,
    /// The settings that keep their running values until the next start.
    pub waiting: Vec<&'static Restart>,
    /// How long preparing took.
    pub prepare: Duration,
    /// How long activating took.
    pub activate: Duration,
    /// How long it took since it was asked for, reading the file included.
    pub total: Duration,
}

/// Why a reload changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReloadError {
    /// The file cannot be used.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A setting names something that is not there, or cannot be used.
    #[error(transparent)]
    Prepare(#[from] StartError),
    /// The gateway stops.
    #[error("the gateway stops")]
    Stopping,
}

impl Gateway {
    /// Puts another configuration in force, or changes nothing; counts and logs what came of it.
    ///
    /// New connections, and the next message of every open one, go through the new stack. `asked` is when the reload
    /// was asked for. Must be called within the runtime that the gateway was started on.
    ///
    /// # Errors
    /// When the configuration cannot be used: the old one goes on.
    pub fn reload(
        &self,
        loaded: Result<Loaded, LoadError>,
        asked: Instant,
    ) -> Result<Reloaded, ReloadError> {
        let result = loaded
            .map_err(ReloadError::from)
            .and_then(|loaded| self.try_reload(loaded, asked));
        let label = if result.is_ok() { "success" } else { "failure" };
        let metrics = &self.foundation.metrics;
        metrics
            .config_reloads_total
            .with_label_values(&[label])
            .inc();
        metrics
            .config_last_reload_successful
            .set(i64::from(result.is_ok()));
        metrics
            .config_last_reload_timestamp_seconds
            .set(numeric_date());
        metrics
            .config_last_reload_seconds
            .set(asked.elapsed().as_secs_f64());
        match &result {
            Ok(reloaded) => reloaded.log(),
            Err(error) => log_failure(error),
        }
        result
    }

    fn try_reload(&self, loaded: Loaded, asked: Instant) -> Result<Reloaded, ReloadError> {
        if self.state.drain.has_begun() {
            return Err(ReloadError::Stopping);
        }
        // Held to the end: one reload at a time.
        let mut running = self.running.lock();
        let began = Instant::now();
        let Loaded {
            mut config,
            warnings,
            hash,
            effective,
            ..
        } = loaded;
        let waiting = changes::keep_running(&running.config, &mut config);
        let changed = changes::paths(&running.effective, &effective);
        let Prepared {
            generation,
            in_force,
            parts,
        } = self.foundation.prepare(&Arc::new(config), Some(&running))?;
        let prepared = Instant::now();
        let number = generation.number;
        self.state.current.store(Arc::new(generation));
        self.state.newest.store(number, Ordering::Release);
        self.state.in_force.store(Arc::new(in_force));
        let next = self
            .foundation
            .activate(parts, Some(&running), &self.state, &self.sources);
        let info = &self.foundation.metrics.config_info;
        if running.hash != hash {
            // There never was such a series where the first configuration had no name.
            let _ = info.remove_label_values(&[&running.hash]);
            info.with_label_values(&[&hash]).set(1);
            warnings.iter().for_each(log_warning);
        }
        *running = next.named(hash.clone(), effective);
        Ok(Reloaded {
            generation: number,
            hash,
            changed,
            waiting,
            prepare: prepared.duration_since(began),
            activate: prepared.elapsed(),
            total: asked.elapsed(),
        })
    }
}

impl Reloaded {
    fn log(&self) {
        let waiting: Vec<_> = self.waiting.iter().map(|restart| restart.path).collect();
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            event = "reloaded",
            generation = self.generation,
            config = self.hash,
            changed = self.changed.join(", "),
            waits_for_restart = waiting.join(", "),
            prepare_ms = ms(self.prepare),
            activate_ms = ms(self.activate),
            total_ms = ms(self.total),
        );
        for restart in &self.waiting {
            tracing::warn!(
                event = "restart_needed",
                setting = restart.path,
                reason = restart.why,
                "the running value stays until the next start"
            );
        }
    }
}

/// Logs a warning of a pipeline file, as `wsgw check` prints it.
pub(crate) fn log_warning(warning: &Diagnostic) {
    tracing::warn!(
        event = "config_warning",
        code = warning.code,
        place = %place(warning),
        message = %warning.message,
    );
}

fn place(diagnostic: &Diagnostic) -> String {
    let Diagnostic {
        file, line, column, ..
    } = diagnostic;
    format!("{file}:{line}:{column}")
}

fn log_failure(error: &ReloadError) {
    let reason = match error {
        ReloadError::Load(LoadError::Invalid(problems)) => {
            for problem in problems {
                if problem.severity == Severity::Warning {
                    log_warning(problem);
                    continue;
                }
                tracing::error!(
                    event = "config_error",
                    code = problem.code,
                    place = %place(problem),
                    message = %problem.message,
                    hint = problem.hint,
                );
            }
            "the file has errors".to_owned()
        }
        ReloadError::Stopping => {
            tracing::warn!(event = "reload_refused", reason = %error);
            return;
        }
        error => error.to_string(),
    };
    tracing::error!(
        event = "reload_failed",
        reason,
        "the configuration in force stays as it is"
    );
}
