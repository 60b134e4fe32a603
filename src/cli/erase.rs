//! `wsgw erase`: erases what the stores of a gateway keep of one user, while gateways go on.
//!
//! Stands outside the gateway: it reads the pipeline file, goes to the stores itself, and says what came of it.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use self::progress::Progress;
use super::{USAGE, clean, complain, fail, load};
use crate::config::Overrides;
use crate::erase::{Report, Request, erase};

mod progress;
mod table;

/// What the help ends with.
pub(super) const EXAMPLES: &str = "Examples:\n  \
    wsgw erase --user 42 --dry-run pipelines/core.yaml     count what is there, erase nothing\n  \
    wsgw erase --user 42 pipelines/core.yaml               erase it, after a question\n  \
    wsgw erase --user 42 --yes --json pipelines/core.yaml  the same from a script, with a report to keep\n\n\
    Before: have the user's tokens refused, and close the connections by POST /internal/disconnect.\n\
    Run it with the environment and in the working directory of the gateway: variables and relative paths\n\
    are taken as `wsgw run` takes them. It may be interrupted, and run again, at any time.\n\n\
    What is the user's: events with this user_id, pushes addressed to the user's subject (user:42), and who is\n\
    online. What others wrote about the user is not found. What cannot be erased is listed at the end.";

/// Exit code where more of the user may come.
const GOES_ON: u8 = 3;

/// Whose data, and how to go about it.
#[derive(Debug, Clone, Args)]
pub struct EraseArgs {
    /// Pipeline file of the gateway, by which the stores are found; by default the one that `wsgw run` takes.
    pub file: Option<PathBuf>,
    /// Id of the user, exactly as events have it in `user_id`.
    #[arg(long, value_name = "ID", value_parser = user_id, allow_hyphen_values = true)]
    pub user: String,
    /// Counts what is there, and erases nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Does not ask first.
    #[arg(long)]
    pub yes: bool,
    /// Prints the report as JSON.
    #[arg(long)]
    pub json: bool,
}

fn user_id(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a user's id is not empty".to_owned());
    }
    Ok(text.to_owned())
}

/// Runs the command.
pub(super) fn run(args: &EraseArgs, overrides: &Overrides) -> ExitCode {
    let file = super::run::file_or_default(args.file.clone(), overrides);
    let config = match load(&file, overrides) {
        Ok(loaded) => loaded.config,
        Err(code) => return code,
    };
    if !args.dry_run && !args.yes {
        match confirmed(&args.user) {
            Some(true) => {}
            Some(false) => return fail(&"nothing was erased"),
            None => {
                complain("wsgw: there is no terminal to ask on: give --yes, or --dry-run");
                return USAGE.into();
            }
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error),
    };
    let request = Request {
        user_id: args.user.clone(),
        dry_run: args.dry_run,
    };
    let progress = Progress::start();
    let tell = |finding: &_| progress.at(finding);
    let report = runtime.block_on(erase(&config, &request, &tell));
    progress.finish();
    match report {
        Ok(report) => told(&report, args.json),
        Err(error) => fail(&error),
    }
}

/// Prints the report, and gives the exit code.
fn told(report: &Report, json: bool) -> ExitCode {
    let text = if json {
        serde_json::to_string_pretty(report).map(|text| text + "\n")
    } else {
        Ok(table::render(report))
    };
    let written = match text {
        Ok(text) => std::io::stdout().write_all(text.as_bytes()),
        Err(error) => return fail(&error),
    };
    // A reader that went away, as `head` does, is no failure of what was done.
    if let Err(error) = written
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        return fail(&error);
    }
    if report.failed() {
        ExitCode::FAILURE
    } else if report.goes_on() && !report.dry_run {
        GOES_ON.into()
    } else {
        ExitCode::SUCCESS
    }
}

/// Asks on the terminal, where there is one.
fn confirmed(user: &str) -> Option<bool> {
    if !std::io::stdin().is_terminal() {
        return None;
    }
    let shown = clean(user);
    let mut stderr = std::io::stderr().lock();
    // Nowhere is left to ask where standard error is closed; the answer is then no.
    let _ = write!(
        stderr,
        "Erases what is kept of the user `{shown}`, which cannot be undone. Type the id again to go on: "
    );
    let _ = stderr.flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    Some(read.is_ok() && answer.trim_end_matches(['\r', '\n']) == user)
}
