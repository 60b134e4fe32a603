//! The JSON Schemas of a folder, compiled: one for each message type, by the names of the files.
//!
//! Stands behind the stage `validate`, which looks a message's type up here. All files are read when the pipeline is
//! compiled, and references are answered from what was read then: no `$ref` reaches another file or the network.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jsonschema::{PatternOptions, Retrieve, Uri, Validator};
use serde_json::Value;

/// Put before a file's path within the folder to make the URI that `$ref`s are relative to.
const BASE: &str = "schemas:///";

/// Depth of folders within the folder.
const MAX_DEPTH: usize = 8;

/// Files in the folder, beyond which something else was named by mistake.
const MAX_FILES: usize = 10_000;

/// Characters of a reason in an error text.
const MAX_REASON: usize = 300;

/// Why schemas cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum SchemaError {
    /// A file or folder cannot be read.
    #[error("{} cannot be read: {reason}", where_it_is(path))]
    Unreadable {
        path: PathBuf,
        reason: std::io::Error,
    },
    /// The folder is no place for schemas.
    #[error("`{}` has more than {MAX_FILES} files or nests deeper than {MAX_DEPTH}", path.display())]
    TooMany { path: PathBuf },
    /// A file is no JSON.
    #[error("`{}` is no JSON: {reason}", path.display())]
    Json {
        path: PathBuf,
        reason: serde_json::Error,
    },
    /// A file is no JSON Schema.
    #[error("`{}` is no JSON Schema: at `#{place}`: {reason}", path.display())]
    Schema {
        path: PathBuf,
        place: String,
        reason: String,
    },
}

/// A path as it is configured, and where that leads if it depends on where the gateway was started.
fn where_it_is(path: &Path) -> String {
    match std::path::absolute(path) {
        Ok(whole) if path.is_relative() => {
            format!("`{}`, which is `{}` here,", path.display(), whole.display())
        }
        _ => format!("`{}`", path.display()),
    }
}

/// The compiled schemas, by message type.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    by_type: HashMap<String, Validator>,
}

impl Schemas {
    /// Compiles the schemas of a folder.
    ///
    /// `<type>.json` directly in it is the schema of a type. What begins with `_`, and what lies in folders within it,
    /// is there to be referred to.
    pub(super) fn read(folder: &Path) -> Result<Self, SchemaError> {
        let mut files = Vec::new();
        collect(folder, "", 0, &mut files)?;
        let mut known = HashMap::new();
        for file in &files {
            if let Some(id) = file.schema.get("$id").and_then(Value::as_str) {
                known.insert(id.trim_end_matches('#').to_owned(), file.schema.clone());
            }
        }
        for file in &files {
            known.insert(file.uri(), file.schema.clone());
        }
        let known = Known(Arc::new(known));
        let mut by_type = HashMap::new();
        for file in &files {
            let Some(name) = file.message_type() else {
                continue;
            };
            let validator = jsonschema::options()
                .with_base_uri(file.uri())
                .with_retriever(known.clone())
                // Linear in the text, whatever a client sends; look-around and back-references are refused.
                .with_pattern_options(PatternOptions::regex())
                .build(&file.schema)
                .map_err(|error| SchemaError::Schema {
                    path: folder.join(&file.name),
                    place: error.instance_path().to_string(),
                    reason: super::cut(&error.to_string(), MAX_REASON),
                })?;
            by_type.insert(name.to_owned(), validator);
        }
        Ok(Self { by_type })
    }

    /// The schema of a message type.
    pub(super) fn of(&self, message_type: &str) -> Option<&Validator> {
        self.by_type.get(message_type)
    }
}

/// A file of the folder.
struct File {
    /// Its path within the folder, by slashes.
    name: String,
    schema: Value,
}

impl File {
    fn uri(&self) -> String {
        let encoded = percent_encoding::utf8_percent_encode(&self.name, PATH);
        format!("{BASE}{encoded}")
    }

    fn message_type(&self) -> Option<&str> {
        let stem = self.name.strip_suffix(".json")?;
        (!stem.contains('/') && !stem.starts_with('_')).then_some(stem)
    }
}

/// What stands for itself in a URI's path, beside letters and digits.
const PATH: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Reads the folder's JSON files; hidden ones are left out, as those by which Kubernetes switches a volume.
fn collect(
    folder: &Path,
    within: &str,
    depth: usize,
    files: &mut Vec<File>,
) -> Result<(), SchemaError> {
    // Joining nothing would add a slash to the path that errors name.
    let here = if within.is_empty() {
        folder.to_owned()
    } else {
        folder.join(within)
    };
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |reason| SchemaError::Unreadable { path, reason }
    };
    let entries = fs::read_dir(&here).map_err(unreadable(&here))?;
    for entry in entries {
        let path = entry.map_err(unreadable(&here))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if name.starts_with('.') {
            continue;
        }
        let name = if within.is_empty() {
            name.to_owned()
        } else {
            format!("{within}/{name}")
        };
        let kind = fs::metadata(&path).map_err(unreadable(&path))?;
        if files.len() >= MAX_FILES || depth > MAX_DEPTH {
            return Err(SchemaError::TooMany {
                path: folder.to_owned(),
            });
        }
        if kind.is_dir() {
            collect(folder, &name, depth + 1, files)?;
        } else if kind.is_file() && path.extension().is_some_and(|end| end == "json") {
            let text = fs::read(&path).map_err(unreadable(&path))?;
            let schema = serde_json::from_slice(&text)
                .map_err(|reason| SchemaError::Json { path, reason })?;
            files.push(File { name, schema });
        }
    }
    Ok(())
}

/// Answers references from the files that were read.
#[derive(Debug, Clone)]
struct Known(Arc<HashMap<String, Value>>);

impl Retrieve for Known {
    fn retrieve(
        &self,
        uri: &Uri<String>,
    ) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        self.0
            .get(uri.as_str().trim_end_matches('#'))
            .cloned()
            .ok_or_else(|| "no file of the folder has it".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn refused(files: &[(&str, &str)]) -> String {
        let folder = folder(files);
        let error = Schemas::read(folder.path()).unwrap_err().to_string();
        error.replace(folder.path().to_str().unwrap(), "FOLDER")
    }

    #[test]
    fn types_are_the_names_of_files_and_nothing_else() {
        let folder = folder(&[
            ("chat.json", r#"{"type":"object"}"#),
            ("chat.message v2.json", "{}"),
            ("_shared.json", "{}"),
            (".hidden.json", "not json"),
            ("parts/text.json", "{}"),
            ("README.md", "not json"),
        ]);
        let schemas = Schemas::read(folder.path()).unwrap();
        for known in ["chat", "chat.message v2"] {
            assert!(schemas.of(known).is_some(), "{known}");
        }
        for unknown in [
            "",
            "Chat",
            "_shared",
            ".hidden",
            "parts/text",
            "./chat",
            "../chat",
            "chat.json",
            "chat\0",
        ] {
            assert!(schemas.of(unknown).is_none(), "{unknown:?}");
        }
    }

    #[test]
    fn references_lead_to_files_of_the_folder() {
        let folder = folder(&[
            (
                "a.json",
                r#"{"properties":{"x":{"$ref":"parts/text.json#/$defs/short"}}}"#,
            ),
            (
                "parts/text.json",
                r#"{"$defs":{"short":{"$ref":"../_shared.json"}}}"#,
            ),
            ("_shared.json", r#"{"type":"string","maxLength":3}"#),
            (
                "b.json",
                r#"{"$id":"https://app.example/b.json","properties":{"x":{"$ref":"c.json"}}}"#,
            ),
            (
                "_c.json",
                r#"{"$id":"https://app.example/c.json","type":"integer"}"#,
            ),
        ]);
        let schemas = Schemas::read(folder.path()).unwrap();
        let a = schemas.of("a").unwrap();
        assert!(a.is_valid(&json!({"x": "abc"})) && !a.is_valid(&json!({"x": "abcd"})));
        let b = schemas.of("b").unwrap();
        assert!(b.is_valid(&json!({"x": 1})) && !b.is_valid(&json!({"x": "1"})));
    }

    #[test]
    fn references_out_of_the_folder_are_refused() {
        for reference in [
            "../../../../etc/passwd",
            "file:///etc/passwd",
            "http://127.0.0.1:9/schema.json",
            "other.json",
        ] {
            let text = format!(r#"{{"$ref":"{reference}"}}"#);
            let error = refused(&[("a.json", &text)]);
            assert!(error.contains("FOLDER/a.json"), "{error}");
            assert!(error.contains("no file of the folder has it"), "{error}");
        }
    }

    #[test]
    fn the_draft_is_what_the_schema_says() {
        let draft_4 = r#"{"$schema":"http://json-schema.org/draft-04/schema#","maximum":5,"exclusiveMaximum":true}"#;
        let folder = folder(&[
            ("old.json", draft_4),
            ("new.json", r#"{"prefixItems":[{"type":"null"}]}"#),
        ]);
        let schemas = Schemas::read(folder.path()).unwrap();
        assert!(!schemas.of("old").unwrap().is_valid(&json!(5)));
        assert!(!schemas.of("new").unwrap().is_valid(&json!([1])));
        let unknown = refused(&[("a.json", r#"{"$schema":"https://a.example/own"}"#)]);
        assert!(unknown.contains("a.json"), "{unknown}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let json = refused(&[("a.json", "{\n  \"type\": ]")]);
        assert_eq!(
            json,
            "`FOLDER/a.json` is no JSON: expected value at line 2 column 11"
        );
        let schema = refused(&[("a.json", r#"{"properties":{"n":{"type":"nombre"}}}"#)]);
        let expected = "`FOLDER/a.json` is no JSON Schema: at `#/properties/n/type`: \"nombre\"";
        assert!(schema.starts_with(expected), "{schema}");
        let pattern = refused(&[("a.json", r#"{"pattern":"(?<=a)b"}"#)]);
        assert!(pattern.contains("#/pattern"), "{pattern}");
        let missing = Schemas::read(Path::new("/nowhere/schemas")).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("`/nowhere/schemas` cannot be read")
        );
    }
}
