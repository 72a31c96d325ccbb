//! What was made by somebody hostile: archives, commits, patches, results of a store, what a step leaves. Refused, with
//! an error that names what it is; nothing written outside; memory bounded.

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod archives;
mod results;
mod sources;
mod tarball;
