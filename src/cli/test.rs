//! `wsgw test`: runs the tests that stand in pipeline files, or beside them, and says what failed.
//!
//! Stands beside the data path: `config::cases` reads the tests, `trial` runs them, this prints what came of it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;

use super::{Overriding, USAGE};
use crate::config::cases::{self, Case};
use crate::config::{Diagnostic, LoadError, Overrides};
use crate::trial::{self, Failure};

mod junit;
mod tap;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// The Test Anything Protocol, version 14: for people, and for what reads it.
    #[default]
    Tap,
    /// `JUnit`'s XML, as CI servers read it.
    Junit,
}

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
A test stands below the root key `tests` of a pipeline file, or of NAME.test.yaml beside NAME.yaml:

  tests:
    - name: pings are answered, and nobody else hears of them
      claims: { user_id: \"42\" }
      steps:
        - send: { type: ping }
          expect: { reply: { type: pong } }
        - send: { type: chat, text: hi }
          expect: { published: { type: message_received, user_id: \"42\", message: { text: hi } } }
        - advance: 1h
          expect: nothing

The whole compiled pipeline runs, with sinks in memory, keys that are thrown away, and a clock that
moves when a test says so. Nothing listens, nothing is sent, nothing is written. docs/testing.md has
every key.

Examples:
  wsgw test pipelines/*.yaml                           all tests of all files
  wsgw test --filter ping pipelines/core.yaml          those whose name has `ping`
  wsgw test --format junit pipelines/*.yaml > tests.xml";

/// What is tested, and how it is told.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Pipeline files, or files of tests (`NAME.test.yaml`).
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// How results are printed.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
    /// Runs only the tests whose name has this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// A file without tests is no failure.
    #[arg(long)]
    pub allow_empty: bool,
    /// Expands the files with this process's environment too; a test's own `env` goes before it.
    ///
    /// Without it only a test's own `env` counts, so that a test says the same on every machine.
    #[arg(long)]
    pub env: bool,
    #[command(flatten)]
    overriding: Overriding,
}

/// The tests of one pipeline file.
struct Suite {
    /// The file as the caller named it.
    name: String,
    pipeline: PathBuf,
    /// The tests, or why there are none to run.
    cases: Result<Vec<Case>, Broken>,
}

/// Why a file's tests cannot be run.
#[derive(Debug)]
enum Broken {
    Unreadable(String),
    Invalid(Vec<Diagnostic>),
    Empty,
}

/// What came of one test, or of a file whose tests cannot be run.
struct Outcome<'a> {
    suite: &'a str,
    /// The test's name; none where the file is broken.
    case: Option<&'a Case>,
    result: Result<(), Trouble<'a>>,
    took: Duration,
}

/// Why something is not ok.
enum Trouble<'a> {
    Failed(Box<Failure>),
    Broken(&'a Broken),
}

/// Something that prints outcomes as they come.
trait Reporter {
    fn begin(&mut self, count: usize) -> io::Result<()>;
    fn outcome(&mut self, outcome: &Outcome<'_>) -> io::Result<()>;
    fn end(&mut self) -> io::Result<()>;
}

/// Runs the tests, prints what came of them to `out` and gives the exit code.
///
/// The code is 0 if all passed, 1 if one failed or a file's tests are malformed, 2 if a file cannot be read or no test
/// has the wanted name. `color` paints the text form.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run_test(args: TestArgs, color: bool, out: &mut dyn Write) -> io::Result<u8> {
    let TestArgs {
        files,
        format,
        filter,
        allow_empty,
        env,
        overriding,
    } = args;
    let mut overrides = overriding.overrides();
    if !env {
        overrides.env.clear();
    }
    let suites = collect(&files, filter.as_deref(), allow_empty);
    let count = suites.iter().map(Suite::count).sum();
    if let Some(filter) = &filter
        && count == 0
    {
        super::fail(&format_args!("no test has `{filter}` in its name"));
        return Ok(USAGE);
    }
    let mut reporter: Box<dyn Reporter + '_> = match format {
        Format::Tap => Box::new(tap::Tap::new(out, color)),
        Format::Junit => Box::new(junit::Junit::new(out)),
    };
    reporter.begin(count)?;
    let mut code = 0;
    for suite in &suites {
        code = code.max(suite.run(&overrides, reporter.as_mut())?);
    }
    reporter.end()?;
    Ok(code)
}

impl Suite {
    /// How many outcomes it will have.
    fn count(&self) -> usize {
        self.cases.as_ref().map_or(1, Vec::len)
    }

    fn run(&self, overrides: &Overrides, reporter: &mut dyn Reporter) -> io::Result<u8> {
        let cases = match &self.cases {
            Ok(cases) => cases,
            Err(broken) => {
                reporter.outcome(&Outcome {
                    suite: &self.name,
                    case: None,
                    result: Err(Trouble::Broken(broken)),
                    took: Duration::ZERO,
                })?;
                let unreadable = matches!(broken, Broken::Unreadable(_));
                return Ok(if unreadable { USAGE } else { 1 });
            }
        };
        let mut code = 0;
        for case in cases {
            let started = Instant::now();
            let result = trial::prepare(case, &self.pipeline, overrides)
                .and_then(|prepared| trial::run(case, &prepared))
                .map_err(Trouble::Failed);
            if result.is_err() {
                code = 1;
            }
            reporter.outcome(&Outcome {
                suite: &self.name,
                case: Some(case),
                result,
                took: started.elapsed(),
            })?;
        }
        Ok(code)
    }
}

/// Reads the tests of all files, each file's once.
fn collect(files: &[PathBuf], filter: Option<&str>, allow_empty: bool) -> Vec<Suite> {
    let mut read = BTreeSet::new();
    let mut suites = Vec::new();
    for file in files {
        let (pipeline, own) = match cases::pipeline_of(file) {
            Some(pipeline) => (pipeline, Vec::new()),
            None => (file.clone(), vec![file.clone()]),
        };
        let beside = cases::beside(&pipeline).filter(|beside| beside == file || beside.exists());
        let sources: Vec<PathBuf> = own
            .into_iter()
            .chain(beside)
            .filter(|source| read.insert(source.clone()))
            .collect();
        if sources.is_empty() {
            // Its tests were run with those of the pipeline that it stands beside.
            continue;
        }
        let mut cases = load_all(&pipeline, &sources);
        if let Ok(cases) = &mut cases {
            let empty = cases.is_empty();
            if let Some(filter) = filter {
                cases.retain(|case| case.name.contains(filter));
            }
            if empty && allow_empty || !empty && cases.is_empty() {
                continue;
            }
        }
        let cases = match cases {
            Ok(cases) if cases.is_empty() => Err(Broken::Empty),
            cases => cases,
        };
        if filter.is_some() && matches!(cases, Err(Broken::Empty)) {
            continue;
        }
        suites.push(Suite {
            name: file.display().to_string(),
            pipeline,
            cases,
        });
    }
    suites
}

fn load_all(pipeline: &Path, sources: &[PathBuf]) -> Result<Vec<Case>, Broken> {
    if !sources.iter().any(|source| source == pipeline) && !pipeline.exists() {
        let missing = pipeline.display();
        return Err(Broken::Unreadable(format!(
            "the pipeline file {missing} that the tests are about cannot be read: there is no such file"
        )));
    }
    let mut cases = Vec::new();
    let mut problems = Vec::new();
    for source in sources {
        match cases::load_cases(source) {
            Ok(found) => cases.extend(found),
            Err(LoadError::Invalid(found)) => problems.extend(found),
            Err(error) => return Err(Broken::Unreadable(error.to_string())),
        }
    }
    if problems.is_empty() {
        Ok(cases)
    } else {
        Err(Broken::Invalid(problems))
    }
}

impl Trouble<'_> {
    fn message(&self) -> String {
        match self {
            Self::Failed(failure) => failure.message.clone(),
            Self::Broken(Broken::Unreadable(reason)) => reason.clone(),
            Self::Broken(Broken::Invalid(_)) => "the file's tests are malformed".into(),
            Self::Broken(Broken::Empty) => {
                "the file has no tests; --allow-empty says that this is meant".into()
            }
        }
    }

    fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Failed(failure) => &failure.diagnostics,
            Self::Broken(Broken::Invalid(problems)) => problems,
            Self::Broken(_) => &[],
        }
    }
}
