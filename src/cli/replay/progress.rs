//! How far a replay is: a bar on a terminal, plain lines elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::note;

/// The progress of one replay.
#[derive(Debug)]
pub(super) struct Progress {
    from: &'static str,
    limit: u64,
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn start(from: &'static str, limit: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{prefix} [{bar:30}] {pos}/{len} {wide_msg}");
            let bar = ProgressBar::new(limit).with_prefix(from);
            if let Ok(style) = style {
                bar.set_style(style.progress_chars("=> "));
            }
            bar.tick();
            bar
        });
        Self { from, limit, bar }
    }

    /// So much is replayed.
    pub(super) fn at(&self, replayed: u64) {
        match &self.bar {
            Some(bar) => bar.set_position(replayed),
            None => note(format_args!(
                "{}: {replayed} of at most {}",
                self.from, self.limit
            )),
        }
    }

    /// Says that something takes time or went wrong.
    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => note(format_args!("{}: {text}", self.from)),
        }
    }

    /// Waits, and says why.
    pub(super) async fn wait(&self, time: Duration, why: &str) {
        self.say(&format!("{why}, waiting {} s", time.as_secs()));
        tokio::time::sleep(time).await;
        if let Some(bar) = &self.bar {
            bar.set_message("");
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
