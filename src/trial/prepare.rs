//! Loads the pipeline for one test: its variables, its overrides, and a key pair of its own.
//!
//! Stands before the compiling. The overrides go the way that `--set` goes, so that a mistake in them is told as there.

use std::path::Path;

use super::Failure;
use super::tokens::Keys;
use crate::config::cases::Case;
use crate::config::{self, Config, Diagnostic, LoadError, Overrides};

/// A pipeline, ready for one test.
#[derive(Debug)]
pub struct Prepared {
    pub(super) config: Config,
    pub(super) keys: Keys,
}

pub(super) fn prepare(
    case: &Case,
    pipeline: &Path,
    overrides: &Overrides,
) -> Result<Prepared, Box<Failure>> {
    let failed = |message: String| Failure::new(case, case.place, message);
    let keys = Keys::make().map_err(|error| failed(format!("no key could be made: {error}")))?;
    let mut own = overrides.clone();
    own.sets.extend(case.sets.iter().cloned());
    own.env.extend(
        case.env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone())),
    );
    let mut with_keys = own.clone();
    with_keys.sets.extend([
        "stages.auth.jwt.algorithm=ES256".to_owned(),
        format!("stages.auth.jwt.public_key={}", keys.public_pem()),
        "stages.auth.jwt.public_key_file=".to_owned(),
        "stages.auth.jwt.jwks_url=".to_owned(),
    ]);
    let loaded = match config::load(pipeline, &with_keys) {
        // A pipeline that admits anyone needs no key.
        Err(LoadError::Invalid(problems)) if problems.iter().any(lacks_auth) => {
            config::load(pipeline, &own)
        }
        loaded => loaded,
    };
    match loaded {
        Ok(loaded) => Ok(Prepared {
            config: loaded.config,
            keys,
        }),
        Err(LoadError::Invalid(problems)) => {
            let errors = problems
                .into_iter()
                .filter(|problem| problem.severity == config::Severity::Error)
                .collect();
            let mut failure = failed(format!(
                "{} is not valid with the variables of this test",
                pipeline.display()
            ));
            failure.diagnostics = errors;
            Err(failure)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

fn lacks_auth(problem: &Diagnostic) -> bool {
    problem.code == "override_missing_stage" && problem.message.contains("`auth`")
}
