//! Floor 1: `tasks.toml`, from text with spans to a checked model.
//!
//! ```text
//! load      finds the files and follows `include`
//! document  TOML text -> values with spans            (several syntax errors at once)
//! read/     values -> raw: keys, types, single values  (what one value shows by itself)
//! merge     raw -> tasks with their templates in them
//! check     names that refer to each other; tasks as a whole
//! check_text, template   the syntax and the names of every `{{ … }}`
//! expand    `{{ … }}` -> values, for one step; called by the graph
//! keys      the table of keys that `read` checks against and `schema` is made from
//! error     problems with their places, all at once
//! ```
//!
//! A problem never stops the reading: each stage adds its own to one list, and only an empty list makes a
//! [`model::Manifest`]. Where a syntax error may have hidden part of a file, nothing is said to be missing.
//!
//! Known limits: the place of a mistake inside a string is exact only where the string has no escapes in
//! that `{{ … }}`; of a key that TOML itself rejects as defined twice, the first place is found by its text
//! and so only where both are written alike.

pub mod cargo_config;
mod check;
mod check_text;
mod document;
pub mod error;
mod excerpt;
pub mod expand;
mod keys;
pub mod load;
mod merge;
pub mod model;
mod raw;
mod read;
pub mod schema;
mod template;
#[cfg(test)]
mod tests;
pub mod zig;
