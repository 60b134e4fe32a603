//! The JSON Schema of a pipeline file, read back as the few shapes that our structs produce.
//!
//! Validation, overrides, the reference page and `explain` all walk these shapes, so that the config structs
//! stay the only place that says which keys exist.

use serde_json::{Map, Value as Json};

use super::cases;
use super::excerpt::KeyNames;
use super::model::Document;

/// What a value may be.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The kind of value.
    pub kind: Kind,
    /// Whether null is a value of its own.
    pub nullable: bool,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Whether a list's only item may stand for it.
    pub lone: bool,
    /// Name of the type that stands in several places, such as `Condition`; else empty.
    pub name: String,
    /// What the value means: the doc comment of its field.
    pub description: String,
    /// The value of a key that is not written.
    pub default: Option<Json>,
}

/// The kinds of values.
#[derive(Debug, Clone)]
pub enum Kind {
    /// A map of known keys.
    Object(Vec<Field>),
    /// A map with exactly one of these keys: an item of `stages`.
    OneKey(Vec<Field>),
    /// A map of free keys.
    Map(Box<Shape>),
    /// A list.
    List(Box<Shape>),
    /// One of some words.
    Choice(Vec<Word>),
    /// A text, perhaps of a certain format.
    Text(Option<String>),
    /// A whole number within bounds.
    Integer {
        /// The least value.
        min: i128,
        /// The greatest value.
        max: i128,
    },
    /// A number within bounds.
    Number {
        /// The least value.
        min: f64,
        /// The greatest value.
        max: f64,
    },
    /// `true` or `false`.
    Bool,
    /// A text, a number, a truth value or null.
    Scalar,
    /// Any value, lists and maps among them.
    Free,
    /// Anything: a schema outside of our subset, which a test forbids.
    Any,
}

/// A key and what its value may be.
#[derive(Debug, Clone)]
pub struct Field {
    /// The key.
    pub name: String,
    /// Its value.
    pub shape: Shape,
}

/// One word of a choice.
#[derive(Debug, Clone)]
pub struct Word {
    /// The word.
    pub name: String,
    /// What it means.
    pub description: String,
}

impl Shape {
    /// Gives the shape of a whole pipeline file.
    #[must_use]
    pub fn of_document() -> Self {
        let root = settings_schema();
        compile(&root, &root, 0)
    }

    /// Finds the field `name` of a map.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields().iter().find(|field| field.name == name)
    }

    /// Gives the fields of a map, none for anything else.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        match &self.kind {
            Kind::Object(fields) | Kind::OneKey(fields) => fields,
            _ => &[],
        }
    }

    /// Gives the names of all keys below, by whether their values may be shown.
    #[must_use]
    pub fn key_names(&self) -> KeyNames {
        let mut names = KeyNames::default();
        self.collect_names(&mut names);
        names
    }

    fn collect_names(&self, names: &mut KeyNames) {
        for field in self.fields() {
            let set = if field.shape.secret {
                &mut names.secret
            } else {
                &mut names.public
            };
            set.insert(field.name.clone());
            field.shape.collect_names(names);
        }
        if let Kind::List(item) | Kind::Map(item) = &self.kind {
            item.collect_names(names);
        }
    }

    /// Says what a value must be, as in "expects …".
    #[must_use]
    pub fn expectation(&self) -> String {
        let kind = match &self.kind {
            Kind::Object(_) | Kind::Map(_) => "a map of keys",
            Kind::OneKey(_) => "a map with one key, the stage's name",
            Kind::List(_) => "a list",
            Kind::Choice(words) => {
                return words
                    .iter()
                    .map(|word| format!("`{}`", word.name))
                    .collect::<Vec<_>>()
                    .join(" or ");
            }
            Kind::Text(_) => "a text",
            Kind::Integer { .. } => "a whole number",
            Kind::Number { .. } => "a number",
            Kind::Bool => "`true` or `false`",
            Kind::Scalar => "a text, a number, `true`, `false` or `null`",
            Kind::Free | Kind::Any => "a value",
        };
        kind.to_owned()
    }
}

/// Gives the JSON Schema of a pipeline file, as `wsgw schema` prints it: its settings, and the tests beside them.
#[must_use]
pub fn document_schema() -> Json {
    let mut schema = settings_schema();
    let mut tests = cases::schema();
    schema["properties"][cases::KEY] = tests["tests"].take();
    if let Json::Object(definitions) = tests["$defs"].take() {
        for (name, definition) in definitions {
            schema["$defs"][name] = definition;
        }
    }
    schema
}

fn settings_schema() -> Json {
    let mut schema = schemars::generate::SchemaSettings::draft2020_12()
        .into_generator()
        .into_root_schema_for::<Document>();
    schema.insert("title".into(), "wsgw pipeline file".into());
    schema.to_value()
}

fn compile(root: &Json, schema: &Json, depth: usize) -> Shape {
    let mut shape = Shape {
        kind: Kind::Any,
        nullable: false,
        secret: false,
        lone: false,
        name: String::new(),
        description: String::new(),
        default: None,
    };
    let (Some(object), true) = (schema.as_object(), depth < 64) else {
        return shape;
    };
    let target = object
        .get("$ref")
        .and_then(Json::as_str)
        .and_then(|reference| root.pointer(reference.trim_start_matches('#')));
    if let Some(target) = target {
        shape = compile(root, target, depth + 1);
        if let Some(reference) = object.get("$ref").and_then(Json::as_str) {
            let name = reference.rsplit('/').next().unwrap_or_default();
            name.clone_into(&mut shape.name);
        }
    } else if let Some(variants) = object.get("anyOf").and_then(Json::as_array) {
        let is_null = |variant: &Json| variant.get("type").and_then(Json::as_str) == Some("null");
        if let Some(inner) = variants.iter().find(|variant| !is_null(variant)) {
            shape = compile(root, inner, depth + 1);
        }
        shape.nullable = variants.iter().any(is_null);
        // What else there is beside a list is its only item.
        let others = variants.iter().filter(|variant| !is_null(variant)).count();
        shape.lone = others > 1 && matches!(shape.kind, Kind::List(_));
    } else {
        shape.kind = kind(root, object, depth);
        // Where any value may stand, null is one of them.
        shape.nullable = !matches!(shape.kind, Kind::Scalar | Kind::Free)
            && object
                .get("type")
                .and_then(Json::as_array)
                .is_some_and(|types| types.iter().any(|name| name == "null"));
    }
    if object.get("writeOnly") == Some(&Json::Bool(true)) {
        shape.secret = true;
    }
    if let Some(text) = object.get("description").and_then(Json::as_str) {
        text.clone_into(&mut shape.description);
    }
    if let Some(default) = object.get("default") {
        shape.default = Some(default.clone());
    }
    shape
}

fn kind(root: &Json, object: &Map<String, Json>, depth: usize) -> Kind {
    let text = |schema: &Json, key: &str| {
        schema
            .get(key)
            .and_then(Json::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    if let Some(variants) = object.get("oneOf").and_then(Json::as_array) {
        // schemars gathers words without a description of their own into one `enum`.
        let words: Vec<Word> = variants
            .iter()
            .flat_map(|variant| words(variant, &text(variant, "description")))
            .collect();
        if words.len() >= variants.len() {
            return Kind::Choice(words);
        }
        let fields = variants.iter().filter_map(|variant| {
            let (name, schema) = variant.get("properties")?.as_object()?.iter().next()?;
            let mut shape = compile(root, schema, depth + 1);
            shape.description = text(variant, "description");
            Some(Field {
                name: name.clone(),
                shape,
            })
        });
        return Kind::OneKey(fields.collect());
    }
    if object.contains_key("enum") || object.contains_key("const") {
        return Kind::Choice(words(&Json::Object(object.clone()), ""));
    }
    let name = match object.get("type") {
        Some(Json::String(name)) => name.as_str(),
        Some(Json::Array(names)) if names.len() > 2 => {
            let nested = names.iter().any(|name| name == "object");
            return if nested { Kind::Free } else { Kind::Scalar };
        }
        Some(Json::Array(names)) => names
            .iter()
            .filter_map(Json::as_str)
            .find(|name| *name != "null")
            .unwrap_or_default(),
        _ => "",
    };
    match name {
        "object" => match (
            object.get("properties").and_then(Json::as_object),
            object.get("additionalProperties"),
        ) {
            (None, Some(free @ Json::Object(_))) => {
                Kind::Map(Box::new(compile(root, free, depth + 1)))
            }
            (properties, _) => Kind::Object(
                properties
                    .into_iter()
                    .flatten()
                    .map(|(name, schema)| Field {
                        name: name.clone(),
                        shape: compile(root, schema, depth + 1),
                    })
                    .collect(),
            ),
        },
        "array" => Kind::List(Box::new(compile(
            root,
            object.get("items").unwrap_or(&Json::Null),
            depth + 1,
        ))),
        "string" => Kind::Text(
            object
                .get("format")
                .and_then(Json::as_str)
                .map(str::to_owned),
        ),
        "boolean" => Kind::Bool,
        "integer" => integer(object),
        "number" => {
            let bound =
                |key: &str, otherwise| object.get(key).and_then(Json::as_f64).unwrap_or(otherwise);
            Kind::Number {
                min: bound("minimum", f64::MIN),
                max: bound("maximum", f64::MAX),
            }
        }
        _ => Kind::Any,
    }
}

fn integer(object: &Map<String, Json>) -> Kind {
    let bound = |key: &str| {
        object.get(key).and_then(|bound| {
            bound
                .as_i64()
                .map(i128::from)
                .or_else(|| bound.as_u64().map(i128::from))
        })
    };
    let (least, most) = match object.get("format").and_then(Json::as_str) {
        Some("uint8") => (0, i128::from(u8::MAX)),
        Some("uint16") => (0, i128::from(u16::MAX)),
        Some("uint32") => (0, i128::from(u32::MAX)),
        Some("uint" | "uint64") => (0, i128::from(u64::MAX)),
        Some("int32") => (i128::from(i32::MIN), i128::from(i32::MAX)),
        _ => (i128::from(i64::MIN), i128::from(i64::MAX)),
    };
    Kind::Integer {
        min: bound("minimum").unwrap_or(least),
        max: bound("maximum").unwrap_or(most),
    }
}

fn words(schema: &Json, description: &str) -> Vec<Word> {
    let listed = schema
        .get("enum")
        .and_then(Json::as_array)
        .cloned()
        .unwrap_or_default();
    let single = schema.get("const").cloned();
    listed
        .iter()
        .chain(&single)
        .filter_map(Json::as_str)
        .map(|name| Word {
            name: name.to_owned(),
            description: description.to_owned(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(path: &str, shape: &Shape, see: &mut impl FnMut(&str, &Shape)) {
        see(path, shape);
        for field in shape.fields() {
            walk(&format!("{path}.{}", field.name), &field.shape, see);
        }
        if let Kind::List(item) | Kind::Map(item) = &shape.kind {
            walk(&format!("{path}[]"), item, see);
        }
    }

    #[test]
    fn the_whole_schema_is_understood_and_described() {
        let mut seen = 0;
        walk("", &Shape::of_document(), &mut |path, shape| {
            seen += 1;
            assert!(
                !matches!(shape.kind, Kind::Any),
                "{path} has a schema the validator does not know"
            );
            assert!(
                !shape.description.is_empty() || path.ends_with("[]"),
                "{path} has no doc comment"
            );
        });
        assert!(seen > 70, "only {seen} shapes");
    }

    #[test]
    fn secrets_are_known() {
        let names = Shape::of_document().key_names();
        assert_eq!(
            names.secret.iter().map(String::as_str).collect::<Vec<_>>(),
            [
                "api_key",
                "dsn",
                "headers",
                "public_key",
                "redis_dsn",
                "secret",
                "user_hash_key"
            ]
        );
    }
}
