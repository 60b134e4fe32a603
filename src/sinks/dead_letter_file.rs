//! Keeps dead letters in a file of JSON lines, rotated by size.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the dead-letter file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterFileConfig {
    /// The file; empty: dead letters are only counted and logged.
    pub path: String,
    /// Bytes after which the file is renamed to `<path>.1` and a new one begun.
    #[schemars(range(min = 1024, max = 1_099_511_627_776_u64))]
    pub max_bytes: u64,
    /// Renamed files kept; the oldest beyond that is deleted.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_files: u32,
}

impl Default for DeadLetterFileConfig {
    fn default() -> Self {
        Self {
            path: "wsgw-dead-letters.jsonl".into(),
            max_bytes: 67_108_864,
            max_files: 5,
        }
    }
}
