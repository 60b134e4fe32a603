//! The stages of a pipeline, one file each, and the table that names them.
//!
//! Stands between the connection, which reads messages, and the sinks, which deliver events. Adding a stage
//! touches two places: its file in this folder and its row here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::Stage;

pub mod auth;
pub mod authorize;
pub mod dedupe;
pub mod fan_out;
pub mod ordering_key;
pub mod ping_filter;
pub mod rate_limit;
pub mod set;
pub mod trace;
pub mod validate;

#[cfg(test)]
pub(crate) mod testing;

macro_rules! stages {
    ($( $(#[$doc:meta])* $variant:ident = $name:literal : $config:ty ),+ $(,)?) => {
        /// One item of `stages`: a map with one key, the stage's name.
        #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
        pub enum StageConfig {
            $( $(#[$doc])* #[serde(rename = $name)] $variant($config), )+
        }

        impl StageConfig {
            /// The names of all stages, in the order in which they are usually written.
            pub const NAMES: &[&str] = &[$($name),+];

            /// The stage's name as the pipeline file writes it.
            #[must_use]
            pub fn name(&self) -> &'static str {
                match self { $( Self::$variant(_) => $name, )+ }
            }

            /// The stage's settings, to be compiled.
            #[must_use]
            pub fn settings(&self) -> &dyn Stage {
                match self { $( Self::$variant(settings) => settings, )+ }
            }
        }
    };
}

stages! {
    /// Admits connections by their token, and lets a client renew it in-band.
    Auth = "auth": auth::AuthConfig,
    /// Answers `ping` and `heartbeat` messages, so that they are never published.
    PingFilter = "ping_filter": ping_filter::PingFilterConfig,
    /// Refuses messages that come faster than the limit.
    RateLimit = "rate_limit": rate_limit::RateLimitConfig,
    /// Refuses messages that do not fit the JSON Schema of their type.
    Validate = "validate": validate::ValidateConfig,
    /// Refuses messages that name what their user may not.
    Authorize = "authorize": authorize::AuthorizeConfig,
    /// Lets a message that a client sends again pass once, by the message's id.
    Dedupe = "dedupe": dedupe::DedupeConfig,
    /// Names the key within which a message keeps its order.
    OrderingKey = "ordering_key": ordering_key::OrderingKeyConfig,
    /// Copies or starts the message's trace context.
    Trace = "trace": trace::TraceConfig,
    /// Adds fields to the event: from claims, headers of the upgrade request, or constants.
    Set = "set": set::SetConfig,
    /// Makes the event and hands it to the sinks; always the last stage.
    FanOut = "fan_out": fan_out::FanOutConfig,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::shape::{Kind, Shape};

    /// A file of the repository.
    fn read(path: impl AsRef<Path>) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn shipped_pipelines() -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("pipelines");
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        files.push("src/dev/pipeline.yaml".into());
        files.iter().map(read).collect()
    }

    /// The shape of one item of `stages`.
    fn item(document: &Shape) -> &Shape {
        let root = document.field("snoke_ws").unwrap();
        match &root.shape.field("stages").unwrap().shape.kind {
            Kind::List(item) => item,
            other => panic!("`stages` is no list: {other:?}"),
        }
    }

    #[test]
    fn every_stage_is_explained_documented_and_shown() {
        let (document, reference) = (Shape::of_document(), read("docs/configuration.md"));
        let pipelines = shipped_pipelines();
        for name in StageConfig::NAMES {
            let stage = item(&document).field(name).unwrap();
            let explained = !stage.shape.description.trim().is_empty();
            assert!(explained, "`{name}` has no doc comment in src/stages.rs");
            assert!(
                reference.contains(&format!("### `stages.{name}`")),
                "docs/configuration.md lacks `{name}`: UPDATE_DOCS=1 cargo test --test config"
            );
            let shown = pipelines.iter().any(|text| {
                text.lines()
                    .any(|line| line.trim_start().starts_with(&format!("- {name}:")))
            });
            assert!(shown, "no shipped pipeline shows `{name}`");
            let settings = serde_json::json!({ (*name): { "when": { "type": ["a"] } } });
            let when = serde_json::from_value::<StageConfig>(settings)
                .is_ok_and(|stage| stage.settings().when().is_some());
            let unconditional = matches!(*name, "auth" | "fan_out");
            assert_eq!(
                when, !unconditional,
                "`{name}`: a field and a method `when`"
            );
        }
        let names: Vec<_> = item(&document).fields().iter().map(|f| &f.name).collect();
        assert_eq!(names, StageConfig::NAMES, "the schema's names");
    }
}
