//! How far an erasure is: a line that changes on a terminal, one line for each store elsewhere.

use std::io::{IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::cli::clean;
use crate::erase::Finding;

/// The progress of one erasure.
#[derive(Debug)]
pub(super) struct Progress {
    /// None where standard error is no terminal.
    bar: Option<ProgressBar>,
    /// The store that was told of last.
    store: Mutex<String>,
}

impl Progress {
    pub(super) fn start() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Self {
            bar,
            store: Mutex::default(),
        }
    }

    /// So far it is with a store.
    pub(super) fn at(&self, finding: &Finding) {
        let Finding {
            name,
            place,
            examined,
            found,
            ..
        } = finding;
        let store = clean(&format!("{name} at {place}"));
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{store}: {examined} looked at, {found} found"));
            bar.tick();
            return;
        }
        let mut last = self.store.lock();
        if *last != store {
            // Nowhere is left to say that standard error is closed.
            let _ = writeln!(std::io::stderr(), "searching {store}");
            *last = store;
        }
    }

    pub(super) fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
