//! Floor 3: what is on disk and in the environment, by digest: how a step's [`Action`](crate::action::Action)
//! is put together.
//!
//! Everything that is looked at goes through [`files::Files`], which remembers digests by stat record and
//! keeps account of what this process has seen: the account of a run that ended with all steps fresh is
//! the proof ([`proof`]) that the next run checks instead of thinking again.

#[cfg(any(test, fuzzing))]
pub mod any_bytes;
pub mod assemble;
pub mod cargo;
pub mod depfile;
pub mod discovered;
pub mod env;
pub mod files;
pub mod git;
mod hashbang;
pub mod host;
pub mod inputs;
pub mod links;
pub mod looker;
mod marks;
pub mod proof;
mod proxies;
pub mod source;
pub mod tools;
pub mod zig;
