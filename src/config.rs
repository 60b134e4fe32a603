//! From a pipeline file to typed settings: read, expand, layer, validate, extract.
//!
//! Stands first in the data path: what [`load`] gives is what `compile` builds the stack from. The steps, in
//! order, one module each:
//!
//! | module | does |
//! |---|---|
//! | [`yaml`] | text to a tree of values that know their places; `syntax` explains what is not YAML |
//! | [`expand`] | `${NAME}` in the tree's values |
//! | [`overrides`] | `WSGW__` variables and `--set` flags to paths into the tree |
//! | [`layers`] | defaults, file, environment, flags into one |
//! | [`validate`] | the result against the schema's shapes ([`shape`], [`coerce`]) |
//! | [`semantics`] | what the types cannot say |
//! | [`symfony`] | the settings against those of the Symfony bundle |
//! | [`diagnostic`] | every problem with its place, its code ([`codes`]) and a hint, secrets masked ([`excerpt`]) |

pub mod codes;
pub mod coerce;
pub mod diagnostic;
pub mod document;
pub mod excerpt;
pub mod expand;
pub mod layers;
mod load;
pub mod model;
pub mod origins;
pub mod overrides;
pub mod problem;
pub mod reference;
mod secret;
pub mod semantics;
pub mod shape;
pub mod suggest;
pub mod symfony;
mod syntax;
pub mod validate;
pub mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use load::{LoadError, Loaded, load, load_str};
pub use model::*;
pub use origins::{Origin, Origins, Setting};
pub use overrides::Overrides;
pub use secret::Secret;
pub use shape::document_schema;
pub use symfony::Symfony;
