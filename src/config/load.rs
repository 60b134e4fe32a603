//! Loads a pipeline file: read, parse, expand, layer, validate, extract, check.
//!
//! The one entry from a path to [`Loaded`] settings, for `run`, `check`, `explain` and a reload alike.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde_json::Value as Json;

use super::cases;
use super::changes::Effective;
use super::diagnostic::{Diagnostic, Severity};
use super::document::{KeyPath, Mark, Node, Value};
use super::excerpt::KeyNames;
use super::layers::Layers;
use super::model::{Config, Document};
use super::origins::Origins;
use super::overrides::{self, Overrides};
use super::problem::Problem;
use super::shape::Shape;
use super::validate::{self, Checked};
use super::{env_files, expand, semantics, yaml};

/// Bytes beyond which a file is no pipeline, and would only be held in memory.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A file that can be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// What works, but perhaps not as meant.
    pub warnings: Vec<Diagnostic>,
    /// Where each setting came from.
    pub origins: Origins,
    /// The files that gave variables their values, by `NAME_FILE`.
    pub env_files: Vec<PathBuf>,
    /// Digest of the effective settings, secrets included: equal if and only if nothing changed.
    pub hash: String,
    /// The effective settings, to be compared with others.
    pub effective: Effective,
}

/// Why a file cannot be used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read at all.
    #[error("{path}: cannot be read: {reason}")]
    Unreadable {
        /// The file as the caller named it.
        path: String,
        /// Why.
        reason: String,
    },
    /// The file has errors; its warnings are listed with them.
    #[error("{}", list(.0))]
    Invalid(Vec<Diagnostic>),
}

fn list(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// Loads the file at `path`.
///
/// # Errors
///
/// [`LoadError::Unreadable`] if there is no such file or it is not UTF-8, [`LoadError::Invalid`] with every
/// problem found if it has errors.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, LoadError> {
    let text = read(path)?;
    load_str(&path.display().to_string(), &text, overrides)
}

/// Reads the text of the file at `path`, or says why it cannot be read.
pub(super) fn read(path: &Path) -> Result<String, LoadError> {
    let unreadable = |reason: String| LoadError::Unreadable {
        path: path.display().to_string(),
        reason,
    };
    if path.is_dir() {
        return Err(unreadable("it is a directory".into()));
    }
    let bytes = read_bounded(path).map_err(|error| {
        unreadable(match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".into(),
            std::io::ErrorKind::PermissionDenied => "permission denied".into(),
            _ => error.to_string(),
        })
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.split(|byte| *byte == b'\n').count();
        unreadable(format!("it is not UTF-8 text (line {line})"))
    })
}

/// Loads `text` as the content of a file called `name`.
///
/// # Errors
///
/// [`LoadError::Invalid`] with every problem found if it has errors.
pub fn load_str(name: &str, text: &str, overrides: &Overrides) -> Result<Loaded, LoadError> {
    let shape = Shape::of_document();
    let parsed = yaml::parse(text);
    let mut problems = parsed.problems;
    let mut root = parsed.root;
    let mut outcome = None;
    let mut env_files = Vec::new();
    if let Some(root) = &mut root {
        cases::take(name, root, &mut problems);
        let (env, files) = env_files::complete(root, &overrides.env, &mut problems);
        env_files = files;
        expand::expand(root, &env, &mut problems);
        if is_usable(root, &mut problems) {
            outcome = evaluate(&shape, root, overrides, &mut problems);
        }
    } else if problems.is_empty() {
        problems.push(empty());
    }
    let diagnostics = locate(name, text, &shape.key_names(), problems);
    match outcome {
        Some((config, origins, effective))
            if diagnostics
                .iter()
                .all(|diagnostic| diagnostic.severity == Severity::Warning) =>
        {
            Ok(Loaded {
                config,
                warnings: diagnostics,
                env_files,
                origins,
                hash: effective.hash(),
                effective,
            })
        }
        _ => Err(LoadError::Invalid(diagnostics)),
    }
}

/// Reads a file that an operator named, be it a pipe or a device: of these the length is not known before, nor that they end.
pub(crate) fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(std::io::Error::other("it is larger than 16 MiB"));
    }
    Ok(bytes)
}

fn empty() -> Problem {
    Problem::at(Mark::START, "empty_file", "the file holds no settings")
        .hint("begin with `snoke_ws:` and its `stages`; the shipped pipelines show how")
}

fn is_usable(root: &Node, problems: &mut Vec<Problem>) -> bool {
    match &root.value {
        Value::Map(_) => true,
        Value::Null => {
            problems.push(empty());
            false
        }
        Value::Broken => false,
        other => {
            let found = if matches!(other, Value::List(_)) {
                "a list"
            } else {
                "a single value"
            };
            problems.push(
                Problem::at(
                    root.start,
                    "not_a_map",
                    format!("the file must be a map with the key `snoke_ws`, and is {found}"),
                )
                .hint("write everything below `snoke_ws:`"),
            );
            false
        }
    }
}

fn evaluate(
    shape: &Shape,
    root: &Node,
    overrides: &Overrides,
    problems: &mut Vec<Problem>,
) -> Option<(Config, Origins, Effective)> {
    let overriding = overrides::resolve(overrides, shape, root, problems);
    let layers = match Layers::merge(root, &overriding) {
        Ok(layers) => layers,
        Err(error) => {
            problems.push(Problem::at(Mark::START, "invalid_value", error.to_string()));
            return None;
        }
    };
    let checked = validate::check(shape, root, &layers, problems);
    let config = extract(root, &checked, problems)?;
    // What stands under a misspelt root key would only raise false alarms.
    if root.entry("snoke_ws").is_some() {
        semantics::check(&config, root, &layers, &checked, problems);
    } else if problems.is_empty() {
        problems.push(empty());
    }
    let effective = serde_json::to_value(&config).unwrap_or_default();
    let origins = Origins::trace(shape, &effective, &layers);
    let effective = revealed(shape, effective, &checked);
    Some((config, origins, effective))
}

fn extract(root: &Node, checked: &Checked, problems: &mut Vec<Problem>) -> Option<Config> {
    let error = match serde_path_to_error::deserialize::<_, Document>(&checked.document) {
        Ok(document) => return Some(document.snoke_ws),
        Err(error) => error,
    };
    let path = KeyPath::of(
        error
            .path()
            .iter()
            .map(|segment| segment.to_string().trim_matches(['[', ']']).to_owned()),
    );
    // The message may quote the value, which may be a secret; the schema's formats catch all that is not.
    problems.push(Problem::at(
        root.nearest_key(&path),
        "invalid_value",
        format!("`{path}` has a value of the wrong form"),
    ));
    None
}

/// The effective settings with secrets as they are rather than masked.
fn revealed(shape: &Shape, mut effective: Json, checked: &Checked) -> Effective {
    if let Some(field) = shape.fields().first() {
        reveal(
            &field.shape,
            &mut effective,
            &checked.document[field.name.as_str()],
        );
    }
    Effective::new(effective)
}

fn reveal(shape: &Shape, masked: &mut Json, plain: &Json) {
    use super::shape::Kind;
    if shape.secret {
        if plain.is_string() {
            *masked = plain.clone();
        }
        return;
    }
    match &shape.kind {
        Kind::List(item) => {
            for (masked, plain) in masked
                .as_array_mut()
                .into_iter()
                .flatten()
                .zip(plain.as_array().into_iter().flatten())
            {
                reveal(item, masked, plain);
            }
        }
        _ => {
            for field in shape.fields() {
                if let (Some(masked), Some(plain)) =
                    (masked.get_mut(&field.name), plain.get(&field.name))
                {
                    reveal(&field.shape, masked, plain);
                }
            }
        }
    }
}

/// Ties problems to the file's name and lines, in the file's order.
pub(super) fn locate(
    name: &str,
    text: &str,
    names: &KeyNames,
    mut problems: Vec<Problem>,
) -> Vec<Diagnostic> {
    if problems.is_empty() {
        return Vec::new();
    }
    // Nobody looks for a mistake in what is too large to be read, and to mask it would take long.
    let lines = match text.len() {
        0..=yaml::MAX_BYTES => names.mask(text.strip_prefix('\u{feff}').unwrap_or(text)),
        _ => Vec::new(),
    };
    problems.sort_by_key(|problem| problem.at);
    problems.dedup();
    problems
        .into_iter()
        .map(|problem| Diagnostic {
            file: name.to_owned(),
            line: problem.at.line,
            column: problem.at.column,
            severity: problem.severity(),
            code: problem.code,
            excerpt: lines
                .get(problem.at.line - 1)
                .filter(|line| !line.trim().is_empty())
                .cloned(),
            message: problem.message,
            hint: problem.hint,
        })
        .collect()
}
