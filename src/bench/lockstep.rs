//! Several load tools at once: each waits for the others before its load, and after it.
//!
//! Stands between a mode and whoever started it: a word on standard error says how far the mode is, a line on standard
//! input has it go on.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Result;
use super::args::Shared;

/// How often a run waits.
const STEPS: usize = 2;

/// Waits for lines of standard input; without `--lockstep` never.
pub(super) struct Lockstep(Option<mpsc::Receiver<()>>);

impl Lockstep {
    /// Starts to read standard input, if the options say so.
    pub(super) fn new(shared: &Shared) -> Result<Self> {
        if !shared.lockstep {
            return Ok(Self(None));
        }
        let (go, lines) = mpsc::channel(STEPS);
        // A thread, since the runtime's own standard input would keep the process from ending.
        std::thread::Builder::new()
            .name("lockstep".to_owned())
            .spawn(move || {
                let mut line = String::new();
                // The end of standard input has everything go on.
                while let Ok(1..) = std::io::stdin().read_line(&mut line) {
                    if go.blocking_send(()).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self(Some(lines)))
    }

    /// Says that everything is there, and waits for the line that starts the load.
    pub(super) async fn ready(&mut self, stop: &CancellationToken) {
        self.step("ready", stop).await;
    }

    /// Says that the load is over and the connections still open, and waits for the line that ends the run.
    pub(super) async fn done(&mut self, stop: &CancellationToken) {
        self.step("done", stop).await;
    }

    async fn step(&mut self, word: &str, stop: &CancellationToken) {
        if let Some(lines) = &mut self.0 {
            crate::cli::complain(word);
            stop.run_until_cancelled(lines.recv()).await;
        }
    }
}
