//! From a pipeline file to typed settings: read, expand, layer, validate, extract.

pub mod model;
mod secret;

pub use model::*;
pub use secret::Secret;
