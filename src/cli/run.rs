//! `wsgw run`: serves a pipeline until it is told to stop, and reloads it when asked to.
//!
//! Stands around `server`: it loads, logs, starts, and turns signals and changed files into reloads and a stop.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::watch::Watch;
use super::{fail, load};
use crate::config::{self, Config, LoadError, Loaded, Overrides};
use crate::server::{Extras, Gateway, Stopped, log_warning};
use crate::telemetry::logs;

/// Serves the pipeline; the exit code is 0 after a clean stop, 1 otherwise.
pub(super) fn run(file: Option<PathBuf>, overrides: Overrides) -> ExitCode {
    let file = file_or_default(file, &overrides);
    let loaded = match load(&file, &overrides) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let log_level = match logs::start(&loaded.config.logging) {
        Ok(log_level) => log_level,
        Err(error) => return fail(&error),
    };
    loaded.warnings.iter().for_each(log_warning);
    on_runtime(async |signals| {
        let hash = loaded.hash;
        let extras = Extras {
            file: Some(file.display().to_string()),
            config_hash: hash.clone(),
            effective: loaded.effective,
            log_level,
            ..Extras::default()
        };
        let pipeline = Pipeline::new(file, overrides, &loaded.config, loaded.env_files);
        match Gateway::start(loaded.config, extras).await {
            Ok(gateway) => {
                tracing::info!(
                    event = "started",
                    version = env!("CARGO_PKG_VERSION"),
                    file = %pipeline.file.display(),
                    config = hash,
                );
                serve(gateway, signals, Some(pipeline)).await
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

/// The variable that names the pipeline file where the command line does not.
pub(super) const FILE_VARIABLE: &str = "WSGW_PIPELINE";

/// The variable that names the folder of the files that `WS_MODE` chooses from.
const FOLDER_VARIABLE: &str = "WSGW_PIPELINES";

/// The file that was named, on the command line or by its variable, else the one that `WS_MODE` names.
pub(super) fn file_or_default(file: Option<PathBuf>, overrides: &Overrides) -> PathBuf {
    // An empty variable is as good as none; of what parses arguments it would be a usage mistake.
    let variable = || std::env::var_os(FILE_VARIABLE).filter(|value| !value.is_empty());
    if let Some(file) = file.or_else(|| variable().map(PathBuf::from)) {
        return file;
    }
    let set = |name| overrides.env.get(name).filter(|value| !value.is_empty());
    let folder = set(FOLDER_VARIABLE).map_or("pipelines", String::as_str);
    let mode = set("WS_MODE").map_or("terminator", String::as_str);
    Path::new(folder).join(format!("{mode}.yaml"))
}

/// The pipeline file of a running gateway, and what overrides it: both are as they were at the start.
pub(super) struct Pipeline {
    file: PathBuf,
    overrides: Overrides,
    /// What gave variables their values.
    env_files: Vec<PathBuf>,
    watch: Option<Watch>,
    loading: Option<JoinHandle<Result<Loaded, LoadError>>>,
    /// When the reload under way was asked for.
    asked: Instant,
    /// Someone asked while the file was being read.
    again: bool,
}

impl Pipeline {
    fn new(file: PathBuf, overrides: Overrides, config: &Config, env_files: Vec<PathBuf>) -> Self {
        let mut pipeline = Self {
            file,
            overrides,
            env_files,
            watch: None,
            loading: None,
            asked: Instant::now(),
            again: false,
        };
        pipeline.watch_as(config);
        pipeline
    }

    /// Begins to read the file, on a thread that may wait for the disk; however often that is asked for meanwhile, the
    /// file is read once more.
    fn ask(&mut self) {
        if self.loading.is_some() {
            self.again = true;
            return;
        }
        self.asked = Instant::now();
        let (file, overrides) = (self.file.clone(), self.overrides.clone());
        self.loading = Some(tokio::task::spawn_blocking(move || {
            load_again(&file, &overrides)
        }));
    }

    /// Waits until the file was read that someone asked for, or changed; asks for it in the latter case.
    async fn loaded(&mut self) -> Result<Loaded, LoadError> {
        loop {
            tokio::select! {
                read = finished(&mut self.loading) => {
                    self.loading = None;
                    return read.unwrap_or_else(|error| Err(LoadError::Unreadable {
                        path: self.file.display().to_string(),
                        reason: error.to_string(),
                    }));
                }
                () = changed(&mut self.watch) => {
                    tracing::info!(event = "config_changed", file = %self.file.display());
                    self.ask();
                }
            }
        }
    }

    /// Puts the file that was read in force, and asks for it again if that is wanted.
    fn reload(&mut self, gateway: &Gateway, loaded: Result<Loaded, LoadError>) {
        let config = loaded.as_ref().ok().map(|loaded| loaded.config.clone());
        if let Ok(loaded) = &loaded {
            self.env_files.clone_from(&loaded.env_files);
        }
        // It is logged and counted there.
        let reloaded = gateway.reload(loaded, self.asked);
        if let Some(config) = config {
            if reloaded.is_ok() {
                self.watch_as(&config);
            } else {
                // What could not be used for want of a file can be once that is there.
                let files = self.files(&config);
                if let Some(watch) = &mut self.watch {
                    watch.set_files(files);
                }
            }
        }
        if std::mem::take(&mut self.again) {
            self.ask();
        }
    }

    /// The pipeline file, and the key, certificate and variables' files that it names.
    fn files(&self, config: &Config) -> Vec<PathBuf> {
        let mut files = vec![self.file.clone()];
        files.extend(config.files().map(PathBuf::from));
        files.extend_from_slice(&self.env_files);
        files
    }

    /// Watches what a configuration names, if it wants that.
    fn watch_as(&mut self, config: &Config) {
        let files = self.files(config);
        match &mut self.watch {
            _ if !config.server.watch => self.watch = None,
            Some(watch) => watch.set_files(files),
            None => match Watch::start(files) {
                Ok(watch) => self.watch = Some(watch),
                Err(error) => tracing::warn!(
                    event = "watch_failed",
                    %error,
                    "changes of the pipeline file are not noticed"
                ),
            },
        }
    }
}

/// Loads the file of a running gateway, if it can be read without waiting for someone to write it: whoever opens a named
/// pipe may wait for ever, and no later reload would be heard of.
fn load_again(file: &Path, overrides: &Overrides) -> Result<Loaded, LoadError> {
    refuse_special(file)?;
    let loaded = config::load(file, overrides)?;
    for file in loaded.config.files() {
        refuse_special(Path::new(file))?;
    }
    Ok(loaded)
}

fn refuse_special(file: &Path) -> Result<(), LoadError> {
    match file.metadata() {
        // What is missing, or a directory, is told of by who reads it.
        Ok(is) if !is.is_file() && !is.is_dir() => Err(LoadError::Unreadable {
            path: file.display().to_string(),
            reason: "it is no regular file, and a running gateway must not wait for its content"
                .into(),
        }),
        _ => Ok(()),
    }
}

async fn finished<T>(task: &mut Option<JoinHandle<T>>) -> Result<T, tokio::task::JoinError> {
    match task {
        Some(task) => task.await,
        None => std::future::pending().await,
    }
}

async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Serves until the first signal to stop, then stops; a second one ends the process at once.
pub(super) async fn serve(
    gateway: Gateway,
    signals: Signals,
    mut pipeline: Option<Pipeline>,
) -> ExitCode {
    let Signals {
        mut stop,
        mut hangup,
        mut verbose,
    } = signals;
    let name = loop {
        let loaded = async {
            match &mut pipeline {
                Some(pipeline) => pipeline.loaded().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            name = stop.recv() => break name,
            _ = hangup.recv() => match &mut pipeline {
                Some(pipeline) => pipeline.ask(),
                None => refused("there is no pipeline file to be read again"),
            },
            _ = verbose.recv() => {
                gateway.log_level().toggle();
            }
            loaded = loaded => if let Some(pipeline) = &mut pipeline {
                pipeline.reload(&gateway, loaded);
            },
        }
    };
    tracing::info!(event = "stopping", signal = name);
    drop(pipeline);
    let log_level = gateway.log_level().clone();
    let mut stopping = std::pin::pin!(gateway.stop());
    loop {
        tokio::select! {
            stopped = &mut stopping => {
                log(stopped);
                return ExitCode::SUCCESS;
            }
            name = stop.recv() => {
                tracing::warn!(event = "stopped_at_once", signal = name);
                return ExitCode::FAILURE;
            }
            _ = hangup.recv() => refused("the gateway stops"),
            _ = verbose.recv() => {
                log_level.toggle();
            }
        }
    }
}

fn refused(reason: &str) {
    tracing::warn!(event = "reload_refused", reason);
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
    stop: Stop,
    hangup: Signal,
    /// Asks for `debug`, or for the configured level again.
    verbose: Signal,
}

/// The signals to stop.
#[derive(Debug)]
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Listens from now on; must be called within a tokio runtime.
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            stop: Stop {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
            hangup: signal(SignalKind::hangup())?,
            verbose: signal(SignalKind::user_defined1())?,
        })
    }
}

impl Stop {
    async fn recv(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
