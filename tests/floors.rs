//! Who may know whom: a module imports only from lower floors (`DESIGN.md`, "the rooms"), and each foreign
//! crate that matters has one owner. Read from the sources, so that nothing can be forgotten.

use std::fs;
use std::path::{Path, PathBuf};

/// A room by its place below `src`; what it may name of the crate besides itself.
fn may_use(room: &str, other: &str) -> bool {
    let floor = |room: &str| match room {
        "base" => 0,
        "manifest" | "action" => 1,
        "graph" => 2,
        "fingerprint" | "store" => 3,
        "plan" => 4,
        "event" => 5,
        "report" | "execute" => 6,
        "command" => 7,
        _ => panic!("`{room}` is in no floor: give it one here and in DESIGN.md"),
    };
    match (room, other) {
        _ if room == other => true,
        ("exit", _) => false,
        ("cli", other) => other == "exit",
        ("lib" | "main" | "any_bytes", _) => true,
        // The table of what tests and a fuzzer read.
        (_, "any_bytes") => false,
        // What the user typed, and how the program ends, are for the top floor.
        (room, "cli" | "exit") => room == "command",
        (room, other) => floor(other) < floor(room),
    }
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            sources(&entry.path(), found);
        } else if entry.path().extension().is_some_and(|e| e == "rs") {
            found.push(entry.path());
        }
    }
}

/// All source files: path below `src`, and the text without comments.
fn texts() -> Vec<(String, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&src, &mut files);
    assert!(files.len() > 50, "the sources are not where they were");
    let text = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|l| l.split("//").next().unwrap_or("")).collect::<Vec<_>>().join("\n")
    };
    files.iter().map(|f| (f.strip_prefix(&src).unwrap().to_str().unwrap().to_owned(), text(f))).collect()
}

/// The rooms that `crate::room…` and `crate::{room…, room…}` name, wherever they stand.
fn named(text: &str) -> Vec<&str> {
    let word = |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let mut rooms = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        if text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let rest = &text[at + 7..];
        match rest.strip_prefix('{') {
            Some(group) => {
                let group = &group[..group.find('}').unwrap_or(group.len())];
                rooms.extend(group.split(',').map(str::trim).map(|r| &r[..word(r)]).filter(|r| !r.is_empty()));
            }
            None => rooms.push(&rest[..word(rest)]),
        }
    }
    rooms
}

#[test]
fn a_room_imports_only_from_lower_floors_and_never_sideways() {
    let mut wrong = Vec::new();
    for (path, text) in &texts() {
        let room = path.split('/').next().unwrap().trim_end_matches(".rs");
        let others = named(text);
        wrong.extend(others.iter().filter(|o| !may_use(room, o)).map(|o| format!("{path} names crate::{o}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_foreign_crate_has_one_owner() {
    let owners = [
        ("git2", &["fingerprint/git/repository.rs"][..]),
        ("duct", &["execute/"]),
        ("clap", &["cli.rs", "cli/"]),
        ("toml", &["manifest/"]),
    ];
    let mut wrong = Vec::new();
    for (path, text) in &texts() {
        for (name, places) in owners {
            let used = text.match_indices(name).any(|(at, _)| {
                let before = text[..at].trim_end_matches(' ');
                let starts =
                    !before.ends_with(|c: char| c.is_alphanumeric() || "_.:\"".contains(c)) || before.ends_with("use");
                starts && text[at + name.len()..].starts_with("::")
            });
            if used && !places.iter().any(|p| path.starts_with(p)) {
                wrong.push(format!("{path} uses {name}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reader_of_imports_sees_groups_and_paths() {
    assert_eq!(
        named("use crate::store::Store; x(crate::base::text::size); use crate::{plan, event::{Event}};"),
        ["store", "base", "plan", "event"]
    );
    assert!(!may_use("store", "fingerprint") && !may_use("report", "execute") && !may_use("manifest", "action"));
    assert!(may_use("command", "cli") && !may_use("execute", "exit") && !may_use("cli", "manifest"));
}
