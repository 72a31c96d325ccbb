//! Floor 0: words that every room shares. Nothing here knows what a build is.

#[cfg(any(test, fuzzing))]
pub mod any_bytes;
pub mod digest;
pub mod disk;
pub mod ids;
pub mod paths;
pub mod publish;
pub mod sealed;
pub mod span;
pub mod stat;
pub mod text;
pub mod tree;
pub mod url;
