//! What is wrong before anything runs: the manifest, the graph, the command line, tools, places.

#[path = "../sandbox/mod.rs"]
mod sandbox;

mod manifest;
mod outputs;
mod surroundings;
