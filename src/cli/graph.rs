//! `wsgw graph`: prints a pipeline as a picture.
//!
//! Stands beside the data path: `crate::graph` gathers what is to be seen and draws it.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, LoadError, Overrides};
use crate::graph::{Graph, Theme};

/// The form of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// A flowchart that Markdown pages show, between lines of three backticks.
    #[default]
    Mermaid,
    /// For Graphviz: `wsgw graph --format dot FILE | dot -Tpng > pipeline.png`.
    Dot,
    /// An image that needs nothing else, for light and dark pages.
    Svg,
}

/// What the help ends with.
pub(super) const EXAMPLES: &str = "\
Examples:
  wsgw graph pipelines/terminator.yaml                       a Mermaid flowchart
  wsgw graph --format svg pipelines/core.yaml > core.svg     an image
  wsgw graph --set ordering_key.strategy=topic FILE          with one value changed";

/// Draws the pipeline in `file` to `out` and gives the exit code: 0, or 1 with the problems on standard error.
///
/// # Errors
///
/// Fails if `out` does.
pub fn run_graph(
    file: &Path,
    format: Format,
    overrides: &Overrides,
    out: &mut dyn Write,
) -> io::Result<u8> {
    let loaded = match config::load(file, overrides) {
        Ok(loaded) => loaded,
        Err(LoadError::Invalid(problems)) => {
            for problem in &problems {
                super::complain(&problem.render(false));
            }
            return Ok(1);
        }
        Err(error) => {
            super::complain(&format!("wsgw: {error}"));
            return Ok(1);
        }
    };
    let graph = Graph::new(file.display().to_string(), &loaded.config);
    let picture = match format {
        Format::Mermaid => graph.mermaid(),
        Format::Dot => graph.dot(),
        Format::Svg => graph.svg(Theme::Browser),
    };
    out.write_all(picture.as_bytes())?;
    Ok(0)
}
