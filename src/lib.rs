//! `cargo bcache` builds dependency chains and caches every step of them.
//!
//! The rooms are stacked in floors; a module imports only from lower ones (`DESIGN.md`, held by
//! `tests/floors.rs`):
//!
//! | floor | rooms |
//! |---|---|
//! | 7 | [`command`] |
//! | 6 | [`report`], [`execute`] |
//! | 5 | [`event`] |
//! | 4 | [`plan`] |
//! | 3 | [`fingerprint`], [`store`] |
//! | 2 | [`graph`] |
//! | 1 | [`manifest`], [`action`] |
//! | 0 | [`base`] |
//!
//! The library never prints: it returns data and sends [`event::Event`]s.

#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod action;
#[cfg(any(test, fuzzing))]
pub mod any_bytes;
pub mod base;
pub mod cli;
pub mod command;
pub mod event;
pub mod execute;
pub mod exit;
pub mod fingerprint;
pub mod graph;
pub mod manifest;
pub mod plan;
pub mod report;
pub mod store;
