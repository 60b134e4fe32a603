//! A string that never shows itself in logs, `explain` or error messages.
//!
//! Stands in the settings wherever a value must not be read by whoever may read the file.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// A secret setting: `Debug`, `Display` and `Serialize` print `***`, only [`Secret::reveal`] gives the text.
#[derive(Clone, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(transparent, extend("writeOnly" = true))]
pub struct Secret(String);

impl Secret {
    /// The secret's text.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether no secret is set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "\"\"" } else { "***" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { "***" })
    }
}
