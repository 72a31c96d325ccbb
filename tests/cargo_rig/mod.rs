//! A small Rust workspace in a sandbox, and what the program says that is built of it.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::sandbox::Sandbox;

pub const TASK: &str = "
[tasks.hello]
cargo = { workspace = 'ws', package = 'hello' }
";

pub const RAN: &str = "0 fresh, 0 restored, 1 ran";
pub const FRESH: &str = "1 fresh, 0 restored, 0 ran";
pub const RESTORED: &str = "0 fresh, 1 restored, 0 ran";

/// A sandbox that has this machine's Rust, and a workspace of two packages.
pub fn workspace() -> Sandbox {
    let sandbox = Sandbox::new();
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    for (name, dir) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        sandbox.env(name, std::env::var_os(name).map_or_else(|| home.join(dir), PathBuf::from));
    }
    let cargo = PathBuf::from(std::env::var_os("CARGO").unwrap());
    let programs = cargo.parent().unwrap().to_owned();
    sandbox.env("PATH", format!("{}/bin:{}:/usr/bin:/bin", sandbox.root().display(), programs.display()));
    sandbox
        .tasks(TASK)
        .file("ws/Cargo.toml", "[workspace]\nmembers = ['hello', 'part', 'other']\nresolver = '3'\n")
        .file("ws/hello/Cargo.toml", package("hello", "[dependencies]\npart = { path = '../part' }\n"))
        .file("ws/hello/src/main.rs", "fn main() { println!(\"hello {}\", part::WORD) }\n")
        .file("ws/part/Cargo.toml", package("part", ""))
        .file("ws/part/src/lib.rs", "pub const WORD: &str = \"one\";\n")
        .file("ws/other/Cargo.toml", package("other", ""))
        .file("ws/other/src/lib.rs", "");
    sandbox
}

pub fn package(name: &str, rest: &str) -> String {
    format!("[package]\nname = '{name}'\nversion = '0.1.0'\nedition = '2024'\n{rest}")
}

/// Builds, and gives what the program says.
#[track_caller]
pub fn says(sandbox: &Sandbox, counts: &str) -> String {
    sandbox.run("build hello").counts(counts).success();
    run(&sandbox.at(".bcache/out/host/hello/hello"))
}

pub fn run(program: &Path) -> String {
    let output = std::process::Command::new(program).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Other bytes of the same length, and the stamps as they were.
pub fn edit_unseen(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let before = fs::metadata(path).unwrap().modified().unwrap();
    fs::write(path, fs::read_to_string(path).unwrap().replace(from, to)).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(before).unwrap();
}

/// As if it came out of an archive.
pub fn make_old(path: &Path) {
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

/// A package with a macro that gives the text of a file, and tells nobody that it has read it.
pub fn with_macro(sandbox: &Sandbox) {
    let source = "
extern crate proc_macro;
use proc_macro::TokenStream;
#[proc_macro]
pub fn text_of(path: TokenStream) -> TokenStream {
    let path = path.to_string();
    let dir = std::env::var(\"CARGO_MANIFEST_DIR\").unwrap();
    let text = std::fs::read_to_string(format!(\"{dir}/{}\", path.trim_matches('\"'))).unwrap();
    format!(\"{:?}\", text.trim()).parse().unwrap()
}
";
    sandbox
        .file("ws/Cargo.toml", "[workspace]\nmembers = ['hello', 'part', 'other', 'macros']\nresolver = '3'\n")
        .file("ws/macros/Cargo.toml", package("macros", "[lib]\nproc-macro = true\n"))
        .file("ws/macros/src/lib.rs", source)
        .file("ws/part/Cargo.toml", package("part", "[dependencies]\nmacros = { path = '../macros' }\n"));
}
