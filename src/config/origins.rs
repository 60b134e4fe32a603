//! Remembers where each effective setting came from.
//!
//! Filled once validation is through; `explain` prints it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use figment::value::Value as Merged;
use serde_json::Value as Json;

use super::document::KeyPath;
use super::layers::{Layer, Layers};
use super::overrides::Setter;
use super::shape::{Kind, Shape};

/// Where a setting came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in default.
    Default,
    /// The file, written out.
    File {
        /// The line of the value.
        line: usize,
        /// Its column.
        column: usize,
    },
    /// A `WSGW__` variable.
    Env(String),
    /// The file, by `${NAME}`.
    Expanded {
        /// The line of the value.
        line: usize,
        /// Its column.
        column: usize,
        /// The variables named there.
        variables: Vec<String>,
    },
    /// A `--set` flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { line, .. } => write!(f, "file:{line}"),
            Self::Env(name) => write!(f, "env {name}"),
            Self::Expanded {
                line, variables, ..
            } => {
                let names: Vec<_> = variables
                    .iter()
                    .map(|name| format!("${{{name}}}"))
                    .collect();
                write!(f, "file:{line} via {}", names.join(" "))
            }
            Self::Flag => f.write_str("--set"),
        }
    }
}

/// A setting as `explain` shows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    /// The path, as `--set` takes it.
    pub path: String,
    /// The value; `***` for a secret.
    pub value: Json,
    /// Where it came from.
    pub origin: Origin,
}

/// Every effective setting with its origin, in the order of the reference.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    settings: Vec<Setting>,
    by_path: BTreeMap<String, usize>,
    /// Names of stages that stand several times.
    repeated: BTreeSet<String>,
}

impl Origins {
    /// Gives the settings in the order of the reference.
    #[must_use]
    pub fn settings(&self) -> &[Setting] {
        &self.settings
    }

    /// Gives the origin of the setting `path`, such as `stages.rate_limit.burst`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Origin> {
        self.by_path
            .get(path)
            .and_then(|index| self.settings.get(*index))
            .map(|setting| &setting.origin)
    }

    pub(super) fn trace(document: &Shape, effective: &Json, layers: &Layers<'_>) -> Self {
        let mut origins = Self::default();
        let mut seen = BTreeSet::new();
        let stages = effective.get("stages").and_then(Json::as_array);
        for name in stages
            .into_iter()
            .flatten()
            .filter_map(|stage| stage.as_object()?.keys().next())
        {
            if !seen.insert(name) {
                origins.repeated.insert(name.clone());
            }
        }
        if let Some(root) = document.fields().first() {
            origins.collect(
                &root.shape,
                effective,
                Some(&layers.merged),
                &KeyPath::of([root.name.as_str()]),
                layers,
            );
        }
        origins
    }

    /// The path as `--set` takes it; a stage that stands several times has its place in the list instead.
    fn shown(&self, path: &KeyPath) -> String {
        match path.segments() {
            [_, list, index, name, rest @ ..]
                if list == "stages" && self.repeated.contains(name) =>
            {
                let rest = rest.join(".");
                format!("stages[{index}].{name}.{rest}")
            }
            _ => path.to_string(),
        }
    }

    fn collect(
        &mut self,
        shape: &Shape,
        value: &Json,
        merged: Option<&Merged>,
        path: &KeyPath,
        layers: &Layers<'_>,
    ) {
        let child = |key: &str| match merged {
            Some(Merged::Dict(_, dict)) => dict.get(key),
            _ => None,
        };
        match &shape.kind {
            Kind::Object(fields) | Kind::OneKey(fields) => {
                for field in fields {
                    if let Some(value) = value.get(&field.name) {
                        self.collect(
                            &field.shape,
                            value,
                            child(&field.name),
                            &path.child(&field.name),
                            layers,
                        );
                    }
                }
            }
            Kind::List(item) if matches!(item.kind, Kind::OneKey(_)) => {
                for (index, value) in value.as_array().into_iter().flatten().enumerate() {
                    self.collect(
                        item,
                        value,
                        child(&super::layers::place(&index.to_string())),
                        &path.child(index.to_string()),
                        layers,
                    );
                }
            }
            _ => {
                let layer = merged.map_or(Layer::Defaults, |merged| layers.layer(merged));
                let origin = match layer {
                    Layer::Defaults => Origin::Default,
                    Layer::File => layers.node(layer, path).map_or(Origin::Default, |node| {
                        let (line, column) = (node.start.line, node.start.column);
                        if node.variables.is_empty() {
                            return Origin::File { line, column };
                        }
                        let variables = node
                            .variables
                            .iter()
                            .map(|variable| variable.name.clone())
                            .collect();
                        Origin::Expanded {
                            line,
                            column,
                            variables,
                        }
                    }),
                    Layer::Override(over) => match &over.setter {
                        Setter::Env(name) => Origin::Env(name.clone()),
                        Setter::Flag(_) => Origin::Flag,
                    },
                };
                let path = self.shown(path);
                self.by_path.insert(path.clone(), self.settings.len());
                self.settings.push(Setting {
                    path,
                    value: value.clone(),
                    origin,
                });
            }
        }
    }
}
