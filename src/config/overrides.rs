//! What overrides a file: `WSGW__PATH__TO__KEY` variables and `--set path.to.key=value` flags.
//!
//! Stands between the callers, who hand in texts, and the layers, which want paths into the file's tree.

use super::EnvVars;
use super::document::{KeyPath, Node, Value};
use super::problem::Problem;
use super::shape::{Field, Kind, Shape};
use super::suggest::{nearest, quoted_list};
use super::yaml;

/// What overrides a file, as the process received it.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// The `--set` flags, `path.to.key=value` each.
    pub sets: Vec<String>,
    /// The environment: for `${NAME}` in the file, and for `WSGW__PATH__TO__KEY`.
    pub env: EnvVars,
}

impl Overrides {
    /// Takes the process's own environment, leaving out what is not UTF-8, and the given `--set` flags.
    #[must_use]
    pub fn from_process(sets: Vec<String>) -> Self {
        let env = std::env::vars_os().filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        Self {
            sets,
            env: env.collect(),
        }
    }
}

/// Who set a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Setter {
    /// The variable of this name.
    Env(String),
    /// The `--set` flag with this path.
    Flag(String),
}

impl Setter {
    /// Names the setter as in "(from …)".
    #[must_use]
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Env(name) => format!("environment variable {name}"),
            Self::Flag(path) => format!("--set {path}"),
        }
    }
}

/// One value that overrides the file.
#[derive(Debug, Clone)]
pub(super) struct Override {
    /// Who set it.
    pub setter: Setter,
    /// What it sets.
    pub path: KeyPath,
    /// The value.
    pub node: Node,
}

const PREFIX: &str = "wsgw__";

/// Turns the texts of `overrides` into values for `root`, the lowest precedence first.
pub(super) fn resolve(
    overrides: &Overrides,
    document: &Shape,
    root: &Node,
    problems: &mut Vec<Problem>,
) -> Vec<Override> {
    let mut resolver = Resolver {
        document,
        root,
        problems,
    };
    let mut found = Vec::new();
    for (name, value) in &overrides.env {
        let lower = name.to_lowercase();
        if let Some(path) = lower.strip_prefix(PREFIX) {
            let segments: Vec<&str> = path.split("__").collect();
            found.extend(resolver.resolve(Setter::Env(name.clone()), &segments, "__", value));
        }
    }
    for set in &overrides.sets {
        let Some((path, value)) = set.split_once('=') else {
            // What was meant to be a value may be a secret, so that the flag is not repeated.
            resolver.problems.push(
                Problem::at(
                    super::document::Mark::START,
                    "bad_override",
                    "a --set flag has no `=`",
                )
                .hint("write `--set path.to.key=value`"),
            );
            continue;
        };
        let segments: Vec<&str> = path.trim().split('.').collect();
        found.extend(resolver.resolve(Setter::Flag(path.trim().to_owned()), &segments, ".", value));
    }
    found
}

struct Resolver<'a> {
    document: &'a Shape,
    root: &'a Node,
    problems: &'a mut Vec<Problem>,
}

impl Resolver<'_> {
    fn resolve(
        &mut self,
        setter: Setter,
        segments: &[&str],
        separator: &str,
        value: &str,
    ) -> Option<Override> {
        let document = self.document;
        let root = document.fields().first()?;
        let stages = root.shape.field("stages")?;
        let Kind::List(item) = &stages.shape.kind else {
            return None;
        };
        let (first, after) = segments.split_first()?;
        // A path that begins with a stage's name is short for one below `stages`.
        let is_stage = item.field(first).is_some() && root.shape.field(first).is_none();
        let path = KeyPath::of([root.name.as_str()]);
        let (mut path, mut field, rest) = if *first == "stages" {
            self.stage(&setter, &path, item, after, separator)?
        } else if is_stage {
            self.stage(&setter, &path, item, segments, separator)?
        } else {
            (path, root, segments)
        };
        let mut walked = path
            .segments()
            .last()
            .map(|last| vec![last.clone()])
            .unwrap_or_default();
        for segment in rest {
            let Some(next) = field.shape.field(segment) else {
                let below = if walked.len() == 1 && walked[0] == "snoke_ws" {
                    String::new()
                } else {
                    walked.join(".")
                };
                self.unknown(
                    &setter,
                    &path,
                    segment,
                    field.shape.fields(),
                    &below,
                    separator,
                );
                return None;
            };
            path = path.child(*segment);
            if walked.first().is_some_and(|first| first == "snoke_ws") {
                walked.clear();
            }
            walked.push((*segment).to_owned());
            field = next;
        }
        let node = self.value(&setter, &path, &field.shape, value)?;
        Some(Override { setter, path, node })
    }

    /// Follows a path that begins with a stage's name into the file's list of stages.
    fn stage<'b, 'c>(
        &mut self,
        setter: &Setter,
        parent: &KeyPath,
        item: &'b Shape,
        segments: &'c [&'c str],
        separator: &str,
    ) -> Option<(KeyPath, &'b Field, &'c [&'c str])> {
        let path = parent.child("stages");
        let Some((name, rest)) = segments.split_first() else {
            self.refuse(
                setter,
                &path,
                "bad_override",
                "the list of stages cannot be overridden as a whole",
                Some("set one key: `stages.<name>.<key>`".into()),
            );
            return None;
        };
        let Some(stage) = item.field(name) else {
            self.unknown(setter, &path, name, item.fields(), "stages", separator);
            return None;
        };
        let items = match self.root.find(&path) {
            Some((_, list)) => match &list.value {
                Value::List(items) => items.as_slice(),
                _ => &[],
            },
            None => &[],
        };
        let mut places = items
            .iter()
            .enumerate()
            .filter(|(_, item)| item.entry(name).is_some());
        let (index, another) = (places.next(), places.next());
        if let Some((another, _)) = another {
            self.refuse(
                setter,
                &path.child(another.to_string()),
                "bad_override",
                format!("the file has several stages `{name}`, and this names none of them"),
                Some("write the value, or a `${NAME}`, into the file".into()),
            );
            return None;
        }
        let Some((index, _)) = index else {
            self.refuse(
                setter,
                &path,
                "override_missing_stage",
                format!("the file has no stage `{name}`"),
                Some(format!(
                    "add `- {name}: {{}}` to `stages`, or drop the override"
                )),
            );
            return None;
        };
        Some((path.child(index.to_string()).child(*name), stage, rest))
    }

    fn value(
        &mut self,
        setter: &Setter,
        path: &KeyPath,
        shape: &Shape,
        text: &str,
    ) -> Option<Node> {
        let trimmed = text.trim();
        let is_flag = matches!(setter, Setter::Flag(_));
        let is_quoted = ['"', '\''].into_iter().any(|quote| {
            trimmed.len() > 1 && trimmed.starts_with(quote) && trimmed.ends_with(quote)
        });
        let nested = matches!(shape.kind, Kind::List(_) | Kind::Object(_) | Kind::Map(_))
            && trimmed.starts_with(['[', '{']);
        if shape.nullable && is_flag && matches!(trimmed, "null" | "~") {
            return Some(Node {
                value: Value::Null,
                ..Node::bare_text("")
            });
        }
        if nested || is_flag && is_quoted {
            let parsed = yaml::parse(trimmed);
            match (parsed.root, parsed.problems.first()) {
                (Some(root), None) => return Some(root),
                // A lone quote may be part of the value; a broken list is a mistake.
                _ if !nested => {}
                (_, problem) => {
                    let reason = problem
                        .map_or_else(String::new, |problem| format!(": {}", problem.message));
                    self.refuse(
                        setter,
                        path,
                        "bad_override",
                        format!("the value of `{path}` is not valid YAML{reason}"),
                        None,
                    );
                    return None;
                }
            }
        }
        if let (Kind::List(_), false) = (&shape.kind, nested) {
            let items = trimmed
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(Node::bare_text)
                .collect();
            return Some(Node {
                value: Value::List(items),
                ..Node::bare_text(text)
            });
        }
        Some(Node::bare_text(text))
    }

    fn unknown(
        &mut self,
        setter: &Setter,
        parent: &KeyPath,
        segment: &str,
        known: &[Field],
        below: &str,
        separator: &str,
    ) {
        let names = known.iter().map(|field| field.name.as_str());
        let place = if below.is_empty() {
            String::new()
        } else {
            format!(" in `{below}`")
        };
        let hint = if segment == "snoke_ws" {
            Some("paths begin below `snoke_ws`: leave it out".to_owned())
        } else if let Some(near) = nearest(segment, names.clone()) {
            Some(format!("did you mean `{near}`?"))
        } else if known.is_empty() {
            None
        } else {
            Some(format!("known here: {}", quoted_list(names)))
        };
        let shown = if segment.is_empty() {
            format!("an empty name between two `{separator}`")
        } else {
            format!("there is no key `{segment}`{place}")
        };
        self.refuse(setter, parent, "unknown_override", shown, hint);
    }

    fn refuse(
        &mut self,
        setter: &Setter,
        path: &KeyPath,
        code: &'static str,
        message: impl std::fmt::Display,
        hint: Option<String>,
    ) {
        let at = self.root.nearest_key(path);
        self.problems.push(Problem {
            at,
            code,
            message: format!("{message} (from {})", setter.describe()),
            hint,
        });
    }
}
