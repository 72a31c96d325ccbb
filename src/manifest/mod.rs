//! Floor 1: `tasks.toml`, from text with spans to a checked model.
pub mod model;
