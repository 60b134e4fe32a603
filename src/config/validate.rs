//! Checks the merged tree against the schema's shapes and turns it into plain JSON, with every problem found.
//!
//! Stands between the layers and typed extraction. What is wrong is left out of the JSON, so that its default
//! stands in and the checks of meaning can still run on the rest.

use figment::value::Value as Merged;
use serde_json::{Map, Value as Json};

use super::coerce::{Complaint, coerce, literal};
use super::document::{Entry, KeyPath, Mark, Node, Value};
use super::layers::{Layer, Layers, provenance};
use super::problem::Problem;
use super::shape::{Field, Kind, Shape};
use super::suggest::{nearest, quoted_list};

/// What validation found.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// The document, with what is wrong left out.
    pub document: Json,
    /// Paths whose values are wrong; checks of meaning keep silent about them.
    pub poisoned: Vec<KeyPath>,
    /// The name of each item of `stages` in the file's order; none for one that is wrong.
    pub stages: Vec<Option<String>>,
}

/// Checks `layers` over the file `root` against `document`, the shape of a whole file.
pub(super) fn check(
    document: &Shape,
    root: &Node,
    layers: &Layers<'_>,
    problems: &mut Vec<Problem>,
) -> Checked {
    let mut checker = Checker {
        document,
        root,
        layers,
        problems,
        checked: Checked::default(),
    };
    checker.root_keys();
    let mut settings = Json::Object(Map::new());
    if let Some(field) = document.fields().first() {
        let path = KeyPath::of([field.name.as_str()]);
        if let Some(json) = checker.merged(&field.shape, &layers.merged, &path) {
            settings = json;
        }
        checker.checked.document = serde_json::json!({ field.name.as_str(): settings });
    }
    checker.checked
}

struct Checker<'a, 'p> {
    document: &'a Shape,
    root: &'a Node,
    layers: &'a Layers<'a>,
    problems: &'p mut Vec<Problem>,
    checked: Checked,
}

impl<'a> Checker<'a, '_> {
    fn root_keys(&mut self) {
        let Value::Map(entries) = &self.root.value else {
            return;
        };
        for entry in entries
            .iter()
            .filter(|entry| self.document.field(&entry.key).is_none())
        {
            self.unknown_key(&KeyPath::default(), entry, self.document.fields(), None);
        }
    }

    /// Checks a value that several layers may have contributed to.
    fn merged(&mut self, shape: &'a Shape, value: &Merged, path: &KeyPath) -> Option<Json> {
        let layer = self.layers.layer(value);
        let dict = match (value, &shape.kind) {
            (Merged::Dict(_, dict), Kind::Object(_) | Kind::OneKey(_)) => dict,
            (Merged::Dict(_, places), Kind::List(item)) if matches!(item.kind, Kind::OneKey(_)) => {
                let is_list = |node: &Node| matches!(node.value, Value::List(_));
                if self.root.find(path).is_none_or(|(_, node)| is_list(node)) {
                    let items: Vec<_> = places
                        .iter()
                        .map(|(place, value)| {
                            let index: usize = place.parse().unwrap_or_default();
                            let path = path.child(index.to_string());
                            let name = self.stage_name(item, &path);
                            self.checked.stages.push(name.clone());
                            // What is wrong with the item itself is already reported.
                            name.and_then(|name| self.stage(item, &name, value, &path))
                        })
                        .collect();
                    return Some(Json::Array(items.into_iter().flatten().collect()));
                }
                let (mark, _) = self.root.find(path)?;
                self.report(
                    path,
                    Problem::at(
                        mark,
                        "wrong_type",
                        format!("`{path}` expects a list, found a map of keys"),
                    )
                    .hint("begin each stage with `- `, as in `- ping_filter: {}`"),
                );
                return None;
            }
            _ => {
                if let Layer::Defaults = layer {
                    // Defaults come from our own structs, and figment's form of them is JSON's.
                    return serde_json::to_value(value).ok();
                }
                let node = self.layers.node(layer, path)?;
                return self.node(shape, node, layer, path);
            }
        };
        let mut json = Map::new();
        for (key, value) in dict {
            let child = path.child(key);
            if let Some(field) = shape.field(key) {
                if let Some(value) = self.merged(&field.shape, value, &child) {
                    json.insert(key.clone(), value);
                }
            } else if let Some((key_start, node)) = self.root.find(&child) {
                let entry = Entry {
                    key: key.clone(),
                    key_start,
                    node: node.clone(),
                };
                self.unknown_key(path, &entry, shape.fields(), None);
            } else if let Layer::Override(_) = self.layers.layer(value) {
                let entry = Entry {
                    key: key.clone(),
                    key_start: self.root.nearest_key(path),
                    node: Node::bare_text(""),
                };
                self.unknown_key(path, &entry, shape.fields(), Some(self.layers.layer(value)));
            }
        }
        Some(Json::Object(json))
    }

    /// Checks the settings of one stage whose name is known.
    fn stage(
        &mut self,
        item: &'a Shape,
        name: &str,
        value: &Merged,
        path: &KeyPath,
    ) -> Option<Json> {
        let Merged::Dict(_, dict) = value else {
            return None;
        };
        let settings = self.merged(&item.field(name)?.shape, dict.get(name)?, &path.child(name))?;
        Some(serde_json::json!({ name: settings }))
    }

    /// Gives the name of the stage at `path` if the item is one, and says what is wrong if it is not.
    fn stage_name(&mut self, item: &Shape, path: &KeyPath) -> Option<String> {
        let (_, node) = self.root.find(path)?;
        let known = |name: &str| item.field(name).is_some();
        let bad = |at: Mark, message: String, hint: String| {
            Problem::at(at, "bad_stage_item", message).hint(hint)
        };
        let problem = match &node.value {
            Value::Broken => {
                self.checked.poisoned.push(path.clone());
                return None;
            }
            Value::Map(entries) => match entries.as_slice() {
                [entry] if known(&entry.key) => return Some(entry.key.clone()),
                [entry] => unknown_stage(item, &entry.key, entry.key_start),
                [] => bad(
                    node.start,
                    "a stage needs a name".into(),
                    "write `- name: { … }`".into(),
                ),
                [first, second, ..]
                    if known(&first.key)
                        && !known(&second.key)
                        && matches!(first.node.value, Value::Null) =>
                {
                    bad(
                        second.key_start,
                        format!(
                            "`{}` stands beside the stage `{}`, not below it",
                            second.key, first.key
                        ),
                        format!(
                            "indent `{}` two spaces deeper than `{}`",
                            second.key, first.key
                        ),
                    )
                }
                [_, second, ..] => bad(
                    second.key_start,
                    format!(
                        "one item of `stages` holds {} keys, and may hold only the stage's name",
                        entries.len()
                    ),
                    if known(&second.key) {
                        format!("begin each stage with its own `- `: `- {}: …`", second.key)
                    } else {
                        "indent the stage's settings below its name".into()
                    },
                ),
            },
            Value::Text(name) if known(name) => bad(
                node.start,
                format!("the stage `{name}` is written as a text"),
                format!("write `- {name}: {{}}`"),
            ),
            Value::Text(name) => unknown_stage(item, name, node.start),
            Value::Null => bad(
                node.start,
                "an item of `stages` is empty".into(),
                "write `- name: { … }`, or remove the `- `".into(),
            ),
            _ => bad(
                node.start,
                "an item of `stages` must be a map with one key, the stage's name".into(),
                "write `- name: { … }`".into(),
            ),
        };
        self.report(path, problem);
        None
    }

    /// Checks a value that one layer wrote in full.
    fn node(
        &mut self,
        shape: &'a Shape,
        node: &Node,
        layer: Layer<'a>,
        path: &KeyPath,
    ) -> Option<Json> {
        match (&shape.kind, &node.value) {
            (_, Value::Broken) => {
                self.checked.poisoned.push(path.clone());
                None
            }
            (Kind::Object(fields), Value::Map(entries)) => {
                let mut json = Map::new();
                for entry in entries {
                    match shape.field(&entry.key) {
                        Some(field) => {
                            if let Some(value) =
                                self.node(&field.shape, &entry.node, layer, &path.child(&entry.key))
                            {
                                json.insert(entry.key.clone(), value);
                            }
                        }
                        None => self.unknown_key(path, entry, fields, Some(layer)),
                    }
                }
                Some(Json::Object(json))
            }
            (Kind::Map(inner), Value::Map(entries)) => {
                let values = entries.iter().filter_map(|entry| {
                    self.node(inner, &entry.node, layer, &path.child(&entry.key))
                        .map(|value| (entry.key.clone(), value))
                });
                Some(Json::Object(values.collect()))
            }
            (Kind::List(item), value)
                if shape.lone && node.variables.is_empty() && stands_alone(item, value) =>
            {
                let value = self.node(item, node, layer, path)?;
                Some(Json::Array(vec![value]))
            }
            (Kind::List(item), Value::List(nodes)) => {
                let values = nodes.iter().enumerate().filter_map(|(index, node)| {
                    self.node(item, node, layer, &path.child(index.to_string()))
                });
                Some(Json::Array(values.collect()))
            }
            _ => {
                // Whatever came through the environment or a command line is text and takes the key's type.
                let from_outside =
                    matches!(layer, Layer::Override(_)) || !node.variables.is_empty();
                let result = match &node.value {
                    Value::Text(text) if from_outside => coerce(shape, text),
                    Value::Null | Value::List(_) | Value::Map(_) => literal(shape, node),
                    _ if from_outside => coerce(shape, &node.raw),
                    _ => literal(shape, node),
                };
                match result {
                    Ok(value) => Some(value),
                    Err(complaint) => {
                        self.complain(complaint, node, layer, path);
                        None
                    }
                }
            }
        }
    }

    fn complain(&mut self, complaint: Complaint, node: &Node, layer: Layer<'_>, path: &KeyPath) {
        let at = match layer {
            Layer::Override(_) => self.root.nearest_key(path),
            // An empty value ends where the next line begins; its key is the better place.
            _ if matches!(node.value, Value::Null) => self.root.nearest_key(path),
            _ => node.start,
        };
        let message = format!(
            "`{path}`{} {}{}",
            separator(&complaint.message),
            complaint.message,
            provenance(node, layer)
        );
        self.report(
            path,
            Problem {
                at,
                code: complaint.code,
                message,
                hint: complaint.hint,
            },
        );
    }

    fn unknown_key(
        &mut self,
        parent: &KeyPath,
        entry: &Entry,
        known: &[Field],
        layer: Option<Layer<'_>>,
    ) {
        let names = known.iter().map(|field| field.name.as_str());
        let place = if parent.segments().is_empty() {
            "at the root of the file".to_owned()
        } else {
            format!("in `{parent}`")
        };
        let hint = if known.is_empty() {
            Some("it has no settings; write `{}`".into())
        } else if let Some(near) = nearest(&entry.key, names.clone()) {
            Some(format!("did you mean `{near}`?"))
        } else if parent.segments().is_empty() {
            Some("everything stands below the one root key `snoke_ws`".into())
        } else if let Some(home) = home_of(self.document, &entry.key) {
            Some(format!("`{}` belongs to `{home}`", entry.key))
        } else {
            Some(format!("known here: {}", quoted_list(names)))
        };
        let (at, from) = match layer {
            Some(layer @ Layer::Override(_)) => (
                self.root.nearest_key(parent),
                provenance(&entry.node, layer),
            ),
            _ => (entry.key_start, String::new()),
        };
        let path = parent.child(&entry.key);
        self.report(
            &path,
            Problem {
                at,
                code: "unknown_key",
                message: format!("there is no key `{}` {place}{from}", entry.key),
                hint,
            },
        );
    }

    fn report(&mut self, path: &KeyPath, problem: Problem) {
        self.checked.poisoned.push(path.clone());
        self.problems.push(problem);
    }
}

/// Whether a value is the only item of a list, and stands for it.
fn stands_alone(item: &Shape, value: &Value) -> bool {
    match value {
        Value::Map(_) => matches!(item.kind, Kind::Object(_)),
        Value::Text(_) | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
            !matches!(item.kind, Kind::Object(_))
        }
        _ => false,
    }
}

/// A colon where the message begins with the value, nothing where it goes on with a verb.
fn separator(message: &str) -> &'static str {
    if message.starts_with('`') || message.starts_with("a value") {
        ":"
    } else {
        ""
    }
}

fn unknown_stage(item: &Shape, name: &str, at: Mark) -> Problem {
    let names = item.fields().iter().map(|field| field.name.as_str());
    let hint = match nearest(name, names.clone()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the stages are {}", quoted_list(names)),
    };
    Problem::at(at, "unknown_stage", format!("there is no stage `{name}`")).hint(hint)
}

/// Finds the only section that has the key `name`, for a key that was put into the wrong one.
fn home_of(document: &Shape, name: &str) -> Option<String> {
    fn search(shape: &Shape, path: &str, name: &str, homes: &mut Vec<String>) {
        for field in shape.fields() {
            if field.name == name {
                homes.push(if path.is_empty() {
                    "snoke_ws".into()
                } else {
                    path.to_owned()
                });
            }
            let below = if path.is_empty() {
                field.name.clone()
            } else {
                format!("{path}.{}", field.name)
            };
            search(&field.shape, &below, name, homes);
        }
        if let Kind::List(item) = &shape.kind {
            search(item, path, name, homes);
        }
    }
    let mut homes = Vec::new();
    search(&document.fields().first()?.shape, "", name, &mut homes);
    match homes.as_slice() {
        [home] => Some(home.clone()),
        _ => None,
    }
}
