//! Layers a file over the defaults, and what overrides the file over both.
//!
//! figment merges; its metadata says which layer each value of the result came from. Stands between the
//! expanded file and validation.

use std::collections::HashMap;

use figment::value::{Dict, Map, Tag, Value as Merged};
use figment::{Error, Figment, Metadata, Profile, Provider};

use super::document::{KeyPath, Node, Value};
use super::model::Config;
use super::overrides::Override;

const ROOT: &str = "snoke_ws";
const DEFAULTS: &str = "defaults";
const FILE: &str = "file";

/// Which layer a value came from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Layer<'a> {
    /// The built-in defaults.
    Defaults,
    /// The file.
    File,
    /// A variable or a flag.
    Override(&'a Override),
}

/// The merged layers, with the way back from each value to its layer.
#[derive(Debug)]
pub(super) struct Layers<'a> {
    file: &'a Node,
    overrides: &'a [Override],
    names: HashMap<Tag, String>,
    /// The merged settings; `stages` is a map by place, so that an override can reach into one.
    pub merged: Merged,
}

struct Tree {
    name: String,
    data: Dict,
}

impl Provider for Tree {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.data.clone()))
    }
}

impl<'a> Layers<'a> {
    /// Merges the defaults, `file` and `overrides`, in this order.
    ///
    /// # Errors
    ///
    /// Fails if figment does, which takes defaults that cannot be serialised.
    pub(super) fn merge(file: &'a Node, overrides: &'a [Override]) -> Result<Self, Box<Error>> {
        let mut defaults = Merged::serialize(Config::default()).map_err(Box::new)?;
        if let Merged::Dict(_, dict) = &mut defaults {
            // An empty list would replace nothing, but a map by place must not meet a list.
            dict.remove("stages");
        }
        let root = file.entry(ROOT).map_or_else(
            || Merged::from(Dict::new()),
            |entry| to_merged(&entry.node, &KeyPath::of([ROOT])),
        );
        let provider = |name: &str, value: Merged| Tree {
            name: name.to_owned(),
            data: Dict::from([(ROOT.to_owned(), value)]),
        };
        // A root that is no map is reported by validation, and must not hide the defaults from it.
        let mut figment = Figment::new()
            .merge(provider(DEFAULTS, defaults))
            .merge(provider(FILE, root));
        for (index, over) in overrides.iter().enumerate() {
            let mut value = to_merged(&over.node, &over.path);
            for (depth, segment) in over.path.segments().iter().enumerate().skip(1).rev() {
                let key = merged_key(&over.path, depth, segment);
                value = Merged::from(Dict::from([(key, value)]));
            }
            figment = figment.merge(provider(&index.to_string(), value));
        }
        let merged = figment.find_value(ROOT).map_err(Box::new)?;
        let mut names = HashMap::new();
        collect_names(&figment, &merged, &mut names);
        Ok(Self {
            file,
            overrides,
            names,
            merged,
        })
    }

    /// Tells which layer `value`, a part of [`Layers::merged`], came from.
    #[must_use]
    pub(super) fn layer(&self, value: &Merged) -> Layer<'a> {
        match self.names.get(&value.tag()).map(String::as_str) {
            Some(FILE) => Layer::File,
            Some(name) => match name
                .parse::<usize>()
                .ok()
                .and_then(|index| self.overrides.get(index))
            {
                Some(over) => Layer::Override(over),
                None => Layer::Defaults,
            },
            None => Layer::Defaults,
        }
    }

    /// Tells which layer gives the setting at `path`, and names the variable or flag it came from, if any.
    #[must_use]
    pub(super) fn trace(&self, path: &KeyPath) -> (Layer<'a>, String) {
        let mut value = &self.merged;
        for (depth, segment) in path.segments().iter().enumerate().skip(1) {
            let key = merged_key(path, depth, segment);
            match value {
                Merged::Dict(_, dict) => match dict.get(&key) {
                    Some(child) => value = child,
                    None => return (Layer::Defaults, String::new()),
                },
                _ => break,
            }
        }
        let layer = self.layer(value);
        let origin = self
            .node(layer, path)
            .map_or_else(String::new, |node| provenance_used(node, layer));
        (layer, origin)
    }

    /// Finds the value at `path` as its layer wrote it.
    #[must_use]
    pub(super) fn node(&self, layer: Layer<'a>, path: &KeyPath) -> Option<&'a Node> {
        match layer {
            Layer::Defaults => None,
            Layer::File => self.file.find(path).map(|(_, node)| node),
            Layer::Override(over) => {
                let rest = path.segments().strip_prefix(over.path.segments())?;
                over.node
                    .find(&KeyPath::of(rest.iter().cloned()))
                    .map(|(_, node)| node)
            }
        }
    }
}

/// Says where a value came from, if not plainly from the file: to be put after a message.
pub(super) fn provenance(node: &Node, layer: Layer<'_>) -> String {
    let origin = provenance_used(node, layer);
    match node.variables.last() {
        Some(variable) if origin.is_empty() => format!(" (the default of ${{{}}})", variable.name),
        _ => origin,
    }
}

/// Names the variables or the flag that a value really came from.
fn provenance_used(node: &Node, layer: Layer<'_>) -> String {
    if let Layer::Override(over) = layer {
        return format!(" (from {})", over.setter.describe());
    }
    let used: Vec<_> = node
        .variables
        .iter()
        .filter(|variable| variable.used)
        .map(|variable| variable.name.as_str())
        .collect();
    match used.as_slice() {
        [] => String::new(),
        [one] => format!(" (from environment variable {one})"),
        several => format!(" (from environment variables {})", several.join(", ")),
    }
}

/// Names the step of `path` at `depth` as the merged settings do.
fn merged_key(path: &KeyPath, depth: usize, segment: &str) -> String {
    match path.segments() {
        [_, list, ..] if depth == 2 && list == "stages" => place(segment),
        _ => segment.to_owned(),
    }
}

/// Names a stage's place so that places sort as numbers do.
pub(super) fn place(index: &str) -> String {
    format!("{index:0>6}")
}

/// Turns a value into figment's form. Only its structure matters: scalars are read from the tree again.
fn to_merged(node: &Node, path: &KeyPath) -> Merged {
    match &node.value {
        Value::Map(entries) => Merged::from(
            entries
                .iter()
                .map(|entry| {
                    (
                        entry.key.clone(),
                        to_merged(&entry.node, &path.child(&entry.key)),
                    )
                })
                .collect::<Dict>(),
        ),
        Value::List(items) if path.segments() == [ROOT, "stages"] => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let index = index.to_string();
                (place(&index), to_merged(item, &path.child(index)))
            });
            Merged::from(items.collect::<Dict>())
        }
        Value::List(_) => Merged::from(Vec::<Merged>::new()),
        _ => Merged::from(node.raw.as_str()),
    }
}

fn collect_names(figment: &Figment, value: &Merged, names: &mut HashMap<Tag, String>) {
    if let Some(metadata) = figment.get_metadata(value.tag()) {
        names
            .entry(value.tag())
            .or_insert_with(|| metadata.name.to_string());
    }
    if let Merged::Dict(_, dict) = value {
        for child in dict.values() {
            collect_names(figment, child, names);
        }
    }
}
