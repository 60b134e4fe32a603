//! Compares a gateway's settings with the Symfony bundle's file, `config/packages/snoke_ws.yaml`.
//!
//! Stands beside loading: `check --symfony` reads the bundle's file once and holds every pipeline file against
//! it. The file belongs to Symfony, so that only what contradicts the gateway is reported, never what Symfony
//! itself would refuse. A value that is not known here (`%env(NAME)%` of an unset variable, a parameter) is not
//! compared, and neither are the sections below `when@…`.
//!
//! | module | does |
//! |---|---|
//! | `value` | a YAML value with `%env(…)%` to what is known of it |
//! | `rows` | the table of keys that must agree, one row each |
//! | `kinds` | transport, events and base URL, where the kinds must fit rather than the values |

use std::path::Path;

use super::codes;
use super::document::{KeyPath, Mark, Node, Value};
use super::excerpt::KeyNames;
use super::load::{self, LoadError, Loaded};
use super::origins::Origin;
use super::problem::Problem;
use super::{Diagnostic, EnvVars, yaml};
use value::Reading;

mod kinds;
mod rows;
mod value;

/// Keys of the bundle's file whose values are never shown.
const SECRET: [&str; 3] = ["api_key", "dsn", "secret"];

/// Keys of the bundle's file that only sound secret.
const PUBLIC: [&str; 4] = [
    "base_url",
    "routing_key",
    "trace_id_field",
    "traceparent_field",
];

/// The bundle's file, read and ready to be compared.
pub struct Symfony {
    name: String,
    text: String,
    root: Node,
    env: EnvVars,
}

impl Symfony {
    /// Reads the bundle's file at `path`, with `env` for its `%env(…)%`.
    ///
    /// # Errors
    ///
    /// [`LoadError::Unreadable`] if there is no such file or it is not UTF-8, [`LoadError::Invalid`] if it is not
    /// YAML or has no `snoke_ws`.
    pub fn load(path: &Path, env: &EnvVars) -> Result<Self, LoadError> {
        let text = load::read(path)?;
        Self::parse(&path.display().to_string(), text, env)
    }

    /// Takes `text` as the content of the bundle's file called `name`.
    ///
    /// # Errors
    ///
    /// [`LoadError::Invalid`] if it is not YAML or has no `snoke_ws`.
    pub fn parse(name: &str, text: String, env: &EnvVars) -> Result<Self, LoadError> {
        let parsed = yaml::parse(&text);
        let mut problems = parsed.problems;
        // Symfony has tags of its own; what they stand for is unknown here, which is no mistake.
        problems.retain(|problem| problem.code != "unsupported_tag");
        match parsed.root {
            Some(root) if problems.is_empty() && has_root_key(&root, &mut problems) => Ok(Self {
                name: name.to_owned(),
                text,
                root,
                env: env.clone(),
            }),
            root => {
                if root.is_none() && problems.is_empty() {
                    problems.push(no_root(Mark::START, "the file holds no settings"));
                }
                Err(LoadError::Invalid(locate(name, &text, problems)))
            }
        }
    }

    /// The file as the caller named it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Gives everything in which the bundle's file contradicts the pipeline file called `pipeline`.
    #[must_use]
    pub fn compare(&self, pipeline: &str, gateway: &Loaded) -> Vec<Diagnostic> {
        let mut comparison = Comparison {
            symfony: self,
            pipeline,
            gateway,
            problems: Vec::new(),
        };
        rows::check(&mut comparison);
        kinds::check(&mut comparison);
        locate(&self.name, &self.text, comparison.problems)
    }
}

fn locate(name: &str, text: &str, problems: Vec<Problem>) -> Vec<Diagnostic> {
    let names = KeyNames {
        secret: SECRET.map(String::from).into(),
        public: PUBLIC.map(String::from).into(),
    };
    load::locate(name, text, &names, problems)
}

fn no_root(at: Mark, message: &str) -> Problem {
    Problem::at(at, "symfony_no_root", message)
        .hint("name the bundle's `config/packages/snoke_ws.yaml`")
}

fn has_root_key(root: &Node, problems: &mut Vec<Problem>) -> bool {
    if let Some(entry) = root.entry("snoke_ws") {
        let usable = matches!(entry.node.value, Value::Map(_) | Value::Null);
        if !usable {
            problems.push(
                Problem::at(entry.key_start, "not_a_map", "`snoke_ws` must be a map")
                    .hint("write `mode`, `transport`, `events`, … below it"),
            );
        }
        return usable;
    }
    let conditional = match &root.value {
        Value::Map(entries) => entries
            .iter()
            .find(|entry| entry.key.starts_with("when@") && entry.node.entry("snoke_ws").is_some()),
        _ => None,
    };
    problems.push(match conditional {
        Some(entry) => no_root(
            entry.key_start,
            "`snoke_ws` stands only below `when@…`, which is not compared",
        )
        .hint("write the settings that meet the gateway at the top level of the file"),
        None => no_root(Mark::START, "the file has no key `snoke_ws`"),
    });
    false
}

/// What the checks share: both sides, and what is found.
struct Comparison<'a> {
    symfony: &'a Symfony,
    /// The pipeline file as the caller named it.
    pipeline: &'a str,
    gateway: &'a Loaded,
    problems: Vec<Problem>,
}

impl Comparison<'_> {
    /// Gives what is known of the bundle's setting at `path`, such as `events.webhook.path`.
    fn read(&self, path: &str) -> Reading {
        match self.symfony.root.find(&KeyPath::setting(path)) {
            Some((_, node)) => value::read(node, &self.symfony.env),
            None => Reading::Unset,
        }
    }

    /// Tells whether the bundle's setting at `path` is `word`.
    fn is(&self, path: &str, word: &str) -> bool {
        self.read(path).text() == Some(word)
    }

    /// Reports a contradiction at the bundle's key `path`, or its nearest parent that the file has.
    fn say(&mut self, code: &'static str, path: &str, message: String, hint: String) {
        debug_assert!(codes::TABLE.iter().any(|row| row.name == code), "{code}");
        let at = self.symfony.root.nearest_key(&KeyPath::setting(path));
        self.problems
            .push(Problem::at(at, code, message).hint(hint));
    }

    /// Names the gateway's setting `key` and where it is set.
    fn place(&self, key: &str) -> String {
        let pipeline = self.pipeline;
        match self.gateway.origins.get(key) {
            Some(Origin::File { line, .. }) => format!("`{key}` ({pipeline}:{line})"),
            Some(Origin::Expanded {
                line, variables, ..
            }) => {
                let names: Vec<_> = variables
                    .iter()
                    .map(|name| format!("${{{name}}}"))
                    .collect();
                format!("`{key}` ({pipeline}:{line}, {})", names.join(" "))
            }
            Some(Origin::Env(name)) => format!("`{key}` (set by environment variable {name})"),
            Some(Origin::Flag) => format!("`{key}` (set by --set)"),
            Some(Origin::Default) | None => format!("`{key}` (not set in {pipeline})"),
        }
    }
}

/// Quotes a value for a message.
fn quoted(text: &str) -> String {
    if text.is_empty() {
        "empty".to_owned()
    } else {
        format!("`{}`", text.escape_debug())
    }
}
