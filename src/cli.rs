//! The command line: what each command is called, what it takes, and the exit codes of the process.
//!
//! Stands around everything: a command loads what it needs from `config` and runs a gateway or prints a text.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{self, LoadError, Loaded, Overrides};
use crate::telemetry::logs;

mod bench;
pub mod check;
pub mod dev;
pub mod diff;
pub mod erase;
pub mod explain;
mod gateway;
pub mod graph;
pub mod health;
pub mod replay;
mod run;
pub mod schema;
pub mod test;
pub mod token;
pub mod top;
mod watch;

/// Exit code of a usage mistake or an unreadable file, as clap has it too.
const USAGE: u8 = 2;

/// A WebSocket gateway for PHP and Symfony backends.
#[derive(Debug, Parser)]
#[command(
    name = "wsgw",
    version = env!("WSGW_VERSION"),
    about = "Holds WebSocket connections for a backend that should not.",
    long_about = "Holds WebSocket connections for a backend that should not: clients connect here, their messages \
                  pass the stages of a pipeline file, the backend hears events and pushes to clients.",
    after_help = "Examples:\n  \
                  wsgw dev                                      try it: no broker, no keys, no PHP\n  \
                  wsgw check pipelines/terminator.yaml          validate a pipeline file\n  \
                  wsgw explain pipelines/terminator.yaml        see what it amounts to\n  \
                  wsgw test pipelines/terminator.yaml           run the tests in it\n  \
                  wsgw run pipelines/terminator.yaml            serve it\n  \
                  wsgw run --set server.listen=127.0.0.1:9000   serve it with one value changed"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves a pipeline until SIGTERM or Ctrl-C.
    ///
    /// SIGHUP has it read the file again, and change to it without losing a connection. Exits 0 after a clean stop, 1 if it
    /// cannot start or a second signal ends it at once, 2 on wrong usage.
    Run {
        /// Pipeline file; by default the one that `WSGW_PIPELINE` names, else
        /// `${WSGW_PIPELINES:-pipelines}/${WS_MODE:-terminator}.yaml`.
        file: Option<PathBuf>,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Validates pipeline files without starting anything.
    ///
    /// Prints every problem with file, line and column. Exits 0 if valid, 1 if a file has errors, 2 if a file
    /// cannot be read.
    Check {
        /// Pipeline files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The Symfony bundle's `snoke_ws.yaml`, to compare each pipeline file with.
        ///
        /// Reports what contradicts the gateway: modes, paths, prefixes, secrets set on one side only.
        /// `%env(NAME)%` is taken from the environment; a value that is not known there is not compared.
        #[arg(long, value_name = "FILE")]
        symfony: Option<PathBuf>,
        /// How problems are printed.
        #[arg(long, value_enum, default_value_t)]
        format: check::Format,
        /// Exits 1 on warnings too.
        #[arg(long)]
        deny_warnings: bool,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Prints what a reload would do with each difference between two pipeline files, without doing it.
    ///
    /// `hot` applies at once; `drains` applies at once, and what is buffered goes to where it was meant to go first;
    /// `restart` waits for the next start. Exits 0 if nothing waits, 3 if something does, 1 if a file has errors, 2
    /// if a file cannot be read.
    Diff {
        /// The file that runs.
        old: PathBuf,
        /// The file that is to run.
        new: PathBuf,
        /// How differences are printed.
        #[arg(long, value_enum, default_value_t)]
        format: check::Format,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Prints the JSON Schema of a pipeline file.
    Schema,
    /// Prints what a pipeline file amounts to: stages, sinks, and where each value comes from.
    Explain {
        /// Pipeline file.
        file: PathBuf,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Prints a pipeline as a picture: stages, sinks, dead letters, and the way of pushes.
    ///
    /// URLs are shown without user name, password and query; DSNs are not shown at all.
    #[command(after_help = graph::EXAMPLES)]
    Graph {
        /// Pipeline file.
        file: PathBuf,
        /// The form of the picture.
        #[arg(long, value_enum, default_value_t)]
        format: graph::Format,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Runs the tests that stand in pipeline files, or beside them.
    ///
    /// Exits 0 if all pass, 1 if one fails or is malformed, 2 if a file cannot be read.
    #[command(after_help = test::EXAMPLES)]
    Test(test::TestArgs),
    /// Serves a gateway that needs no set-up, with a page that shows what it does.
    ///
    /// No broker, no PHP and no keys are needed: events stay in memory, and keys are made up at each start.
    Dev(dev::DevArgs),
    /// Brings dead letters, or what the archive has, back to where they are worked on.
    ///
    /// Asks a running gateway, in batches, until the limit is reached or nothing is left. Exits 0 when it did what
    /// was asked, 1 when it could not, 2 on wrong usage.
    #[command(after_help = replay::EXAMPLES)]
    Replay(replay::ReplayArgs),
    /// Erases what the stores keep of one user, while gateways go on (GDPR, article 17).
    ///
    /// Searches streams, dead letters, archive and presence. Exits 0 when every store was searched to its end, 1 when
    /// one failed or it was not confirmed, 2 on wrong usage, 3 when the user is still there and more may come. Each
    /// time it may be run again.
    #[command(after_help = erase::EXAMPLES)]
    Erase {
        #[command(flatten)]
        args: erase::EraseArgs,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Asks a running gateway how it is, by its exit code.
    ///
    /// Exits 0 when it serves and reaches what it depends on, 1 when not or when nobody answers, 2 on wrong usage.
    #[command(after_help = health::EXAMPLES)]
    Health {
        #[command(flatten)]
        args: health::HealthArgs,
        #[command(flatten)]
        overriding: Overriding,
    },
    /// Shows what running gateways do, on the terminal.
    ///
    /// Exits 0 when left, or when --once has printed; 1 when a gateway does not answer to --once; 2 on wrong usage.
    #[command(after_help = top::EXAMPLES)]
    Top(top::TopArgs),
    /// Puts load on a gateway, and says what arrived, how late, and what it cost.
    ///
    /// Exits 0 when nothing was lost or out of order, 1 when something was or the run failed, 2 on wrong usage, 130 when
    /// Ctrl-C ended it.
    #[command(after_help = bench::EXAMPLES)]
    Bench(Box<bench::BenchArgs>),
    /// Prints a signed token for trying things out.
    Token(token::TokenArgs),
}

/// What changes single values of a pipeline file.
#[derive(Debug, clap::Args)]
struct Overriding {
    /// Overrides one value, with a path below `snoke_ws`; repeatable. A stage is `stages.<name>.<key>`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
}

impl Overriding {
    fn overrides(self) -> Overrides {
        Overrides::from_process(self.sets)
    }
}

/// Runs the command line of the process.
#[must_use]
pub fn main() -> ExitCode {
    let code = run_command(Cli::parse().command);
    logs::flush();
    code
}

fn run_command(command: Command) -> ExitCode {
    match command {
        Command::Run { file, overriding } => run::run(file, overriding.overrides()),
        Command::Check {
            files,
            symfony,
            format,
            deny_warnings,
            overriding,
        } => {
            let (overrides, color) = (overriding.overrides(), std::io::stdout().is_terminal());
            let symfony = symfony.as_deref();
            printed(|out| {
                check::run_check(
                    &files,
                    symfony,
                    format,
                    deny_warnings,
                    &overrides,
                    color,
                    out,
                )
            })
        }
        Command::Diff {
            old,
            new,
            format,
            overriding,
        } => {
            let overrides = overriding.overrides();
            let load = |file: &Path| {
                // As `check` has it; `run` knows no usage mistakes but those of the command line.
                load(file, &overrides)
                    .map_err(|code| if file.is_file() { code } else { USAGE.into() })
            };
            match (load(&old), load(&new)) {
                (Ok(old), Ok(new)) => printed(|out| diff::run_diff(&old, &new, format, out)),
                (Err(code), _) | (_, Err(code)) => code,
            }
        }
        Command::Schema => printed(schema::run),
        Command::Explain { file, overriding } => {
            let (overrides, color) = (overriding.overrides(), std::io::stdout().is_terminal());
            printed(|out| explain::run_explain(&file, &overrides, color, out))
        }
        Command::Graph {
            file,
            format,
            overriding,
        } => {
            let overrides = overriding.overrides();
            printed(|out| graph::run_graph(&file, format, &overrides, out))
        }
        Command::Test(args) => {
            let color = std::io::stdout().is_terminal();
            printed(|out| test::run_test(args, color, out))
        }
        Command::Dev(args) => dev::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Erase { args, overriding } => erase::run(&args, &overriding.overrides()),
        Command::Health { args, overriding } => health::run(&args, &overriding.overrides()),
        Command::Top(args) => top::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Token(args) => match token::make_token(&args, crate::clock::unix_now()) {
            Ok(token) => printed(|out| writeln!(out, "{token}").map(|()| 0)),
            Err(error) => fail(&error),
        },
    }
}

/// The innermost cause, which says what happened; those around it say that a request failed.
fn innermost<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> &'a (dyn std::error::Error + 'static) {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    innermost
}

/// The text without what would move a terminal's cursor: it may be a stranger's.
pub(crate) fn clean(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            clean.extend(character.escape_default());
        } else {
            clean.push(character);
        }
    }
    clean
}

/// Loads a pipeline file, or prints its problems and gives the exit code.
fn load(file: &Path, overrides: &Overrides) -> Result<Loaded, ExitCode> {
    match config::load(file, overrides) {
        Ok(loaded) => Ok(loaded),
        Err(LoadError::Invalid(problems)) => {
            let color = std::io::stderr().is_terminal();
            let mut stderr = std::io::stderr().lock();
            for problem in &problems {
                // Nowhere is left to say that standard error is closed.
                let _ = writeln!(stderr, "{}", problem.render(color));
            }
            Err(ExitCode::FAILURE)
        }
        Err(error) => Err(fail(&error)),
    }
}

/// Writes to standard output; a reader that went away, as `head` does, is no failure.
fn printed(write: impl FnOnce(&mut dyn Write) -> std::io::Result<u8>) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match write(&mut out).and_then(|code| out.flush().map(|()| code)) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error);
            ExitCode::from(USAGE)
        }
    }
}

fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    complain(&format!("wsgw: {error}"));
    ExitCode::FAILURE
}

/// Writes a line to standard error; nowhere is left to say that it is closed.
pub(crate) fn complain(text: &str) {
    // What was logged before stands before.
    logs::flush();
    let _ = writeln!(std::io::stderr(), "{text}");
}
