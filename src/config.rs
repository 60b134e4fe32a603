//! From a pipeline file to typed settings: read, expand, layer, validate, extract.
//!
//! Stands first in the data path: what [`load`] gives is what `compile` builds the stack from. The steps, in
//! order, one module each:
//!
//! | module | does |
//! |---|---|
//! | `yaml` | text to a tree of values that know their places; `syntax` explains what is not YAML |
//! | `expand` | `${NAME}` in the tree's values |
//! | `overrides` | `WSGW__` variables and `--set` flags to paths into the tree |
//! | `layers` | defaults, file, environment, flags into one |
//! | `validate` | the result against the schema's shapes ([`shape`], `coerce`) |
//! | `semantics` | what the types cannot say |
//! | [`cases`] | the tests that stand in a pipeline file, or beside it |
//! | [`changes`] | what differs between two files, and what a running gateway does with it |
//! | `symfony` | the settings against those of the Symfony bundle |
//! | `diagnostic` | every problem with its place, its code ([`codes`]) and a hint, secrets masked (`excerpt`) |

pub mod cases;
pub mod changes;
pub mod codes;
mod coerce;
mod diagnostic;
mod document;
mod env_files;
mod excerpt;
mod expand;
mod layers;
mod load;
mod model;
mod origins;
mod overrides;
mod problem;
pub mod reference;
mod secret;
mod semantics;
pub mod shape;
mod suggest;
mod symfony;
mod syntax;
mod validate;
mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub(crate) use load::read_bounded;
pub use load::{LoadError, Loaded, load, load_str};
pub use model::*;
pub use origins::{Origin, Origins, Setting};
pub use overrides::Overrides;
pub use secret::Secret;
pub use shape::document_schema;
pub use symfony::Symfony;
