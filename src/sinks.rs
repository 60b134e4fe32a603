//! Where events go, one file a sink, and the delivery that stands in front of each.

pub mod dead_letter_file;
pub mod stdout;
pub mod webhook;
