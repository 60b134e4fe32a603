//! `wsgw schema`: prints the JSON Schema of a pipeline file.
//!
//! Stands beside the data path: the schema is derived from the structs that `config` fills.

use std::io::{self, Write};

use crate::config;

/// Renders the schema as `schemas/pipeline.schema.json` holds it, with a trailing newline.
#[must_use]
pub fn render() -> String {
    // A tree of JSON values always serialises; the alternate form is the pretty one.
    format!("{:#}\n", config::document_schema())
}

/// Writes the schema to `out` and gives the exit code.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run(out: &mut dyn Write) -> io::Result<u8> {
    out.write_all(render().as_bytes())?;
    Ok(0)
}
