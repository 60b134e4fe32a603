//! `wsgw run`: serves a pipeline until it is told to stop.
//!
//! Stands around `server`: it loads, logs, starts, and turns signals into a stop.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{fail, load};
use crate::config::Overrides;
use crate::server::{Extras, Gateway, Stopped};
use crate::telemetry::logs;

/// Serves the pipeline; the exit code is 0 after a clean stop, 1 otherwise.
pub(super) fn run(file: Option<PathBuf>, overrides: &Overrides) -> ExitCode {
    let file = file.unwrap_or_else(|| default_file(overrides));
    let loaded = match load(&file, overrides) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    if let Err(error) = logs::start(&loaded.config.logging) {
        return fail(&error);
    }
    for warning in &loaded.warnings {
        tracing::warn!(
            event = "config_warning",
            code = warning.code,
            place = %format_args!("{}:{}:{}", warning.file, warning.line, warning.column),
            message = %warning.message,
        );
    }
    on_runtime(async |signals| {
        let hash = loaded.hash;
        let extras = Extras {
            config_hash: hash.clone(),
            ..Extras::default()
        };
        match Gateway::start(loaded.config, extras).await {
            Ok(gateway) => {
                tracing::info!(
                    event = "started",
                    version = env!("CARGO_PKG_VERSION"),
                    file = %file.display(),
                    config = hash,
                );
                serve(gateway, signals).await
            }
            Err(error) => fail(&error),
        }
    })
}

/// Runs a command on a runtime of its own, with signals caught from the start.
pub(super) fn on_runtime(command: impl AsyncFnOnce(Signals) -> ExitCode) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let code = runtime.block_on(async {
        match Signals::listen() {
            Ok(signals) => command(signals).await,
            Err(error) => fail(&error),
        }
    });
    // A host name that is being looked up blocks a thread for as long as the resolver likes; nobody waits for it now.
    runtime.shutdown_background();
    code
}

/// The file that `WS_MODE` names.
fn default_file(overrides: &Overrides) -> PathBuf {
    let mode = overrides.env.get("WS_MODE").map(String::as_str);
    let mode = mode.filter(|mode| !mode.is_empty()).unwrap_or("terminator");
    PathBuf::from(format!("pipelines/{mode}.yaml"))
}

/// Serves until the first signal, then stops; a second signal ends the process at once.
pub(super) async fn serve(gateway: Gateway, mut signals: Signals) -> ExitCode {
    let name = signals.stop().await;
    tracing::info!(event = "stopping", signal = name);
    tokio::select! {
        stopped = gateway.stop() => {
            log(stopped);
            ExitCode::SUCCESS
        }
        name = signals.stop() => {
            tracing::warn!(event = "stopped_at_once", signal = name);
            ExitCode::FAILURE
        }
    }
}

fn log(stopped: Stopped) {
    let Stopped {
        delivered,
        dead_lettered,
        lost,
    } = stopped;
    if lost > 0 {
        tracing::error!(event = "stopped", delivered, dead_lettered, lost);
    } else {
        tracing::info!(event = "stopped", delivered, dead_lettered, lost);
    }
}

/// The signals that a gateway minds.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// Listens from now on; must be called within a tokio runtime.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for a signal to stop.
    async fn stop(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                // Its default would end the process, and a terminal that goes away must not.
                _ = self.hangup.recv() => {
                    tracing::warn!(
                        event = "reload_refused",
                        reason = "this version takes changes of the pipeline file by a restart",
                    );
                }
            }
        }
    }
}
