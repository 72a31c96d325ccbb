//! Everything that is read from disk, as targets for a fuzzer: a name, and a function that takes any bytes and panics
//! where something that must hold does not.
//!
//! `tests/fuzz` looks for bytes that do; what it found, and bytes to begin with, lie in `tests/fuzz/corpus` and go
//! through the same functions in every `cargo test`. So a target can't rot, and no crash comes back. The functions stand in the rooms
//! whose readers they are about, since these are private: all of it is compiled for tests and for the fuzzer alone.

use crate::{base, execute, fingerprint, graph, store};

pub type Property = fn(&[u8]);

/// By the names of their corpora.
pub const TARGETS: &[(&str, Property)] = &[
    ("manifest", graph::any_bytes::manifest),
    ("result", store::any_bytes::result),
    ("pack", store::any_bytes::pack),
    ("state", state),
    ("archive", execute::any_bytes::unpacking),
    ("apk", fingerprint::any_bytes::apk),
    ("depfile", fingerprint::any_bytes::depfile),
    ("dpkg", fingerprint::any_bytes::dpkg),
    ("envelope", base::any_bytes::envelope),
    ("index", fingerprint::git::any_bytes::index),
    ("messages", execute::any_bytes::messages),
    ("pacman", fingerprint::any_bytes::pacman),
    ("patterns", graph::any_bytes::patterns),
    ("rules", fingerprint::git::any_bytes::rules),
    ("shell", graph::any_bytes::shell),
];

/// What a worktree remembers; each under its own checksum. New ones go to the end, since a corpus knows them by number.
const OF_A_STATE: &[Property] = &[
    store::any_bytes::record,
    store::any_bytes::share,
    fingerprint::any_bytes::digests,
    fingerprint::any_bytes::versions,
    fingerprint::any_bytes::packages,
    fingerprint::any_bytes::host,
    fingerprint::any_bytes::proof,
    fingerprint::git::any_bytes::snapshot,
    fingerprint::git::any_bytes::patches,
    fingerprint::git::any_bytes::listing,
    store::any_bytes::header,
    store::any_bytes::kept,
    store::any_bytes::sight,
    store::any_bytes::moved,
    store::any_bytes::path_sets,
    execute::any_bytes::made,
    execute::any_bytes::hosts,
    execute::any_bytes::trusted,
    execute::any_bytes::units,
    execute::any_bytes::spec,
];

/// The first byte says which kind of file it is.
fn state(bytes: &[u8]) {
    if let Some((kind, body)) = bytes.split_first() {
        OF_A_STATE[usize::from(*kind) % OF_A_STATE.len()](body);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn whatever_was_found_by_a_fuzzer_is_read_without_harm() {
        let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
        for (name, property) in TARGETS {
            let files = fs::read_dir(corpora.join(name)).unwrap_or_else(|e| panic!("no corpus for {name}: {e}"));
            let mut count = 0;
            for file in files.map(|file| file.unwrap().path()) {
                let bytes = fs::read(&file).unwrap();
                if std::panic::catch_unwind(|| property(&bytes)).is_err() {
                    panic!("{} is read wrongly: see above", file.display());
                }
                count += 1;
            }
            assert!(count > 0, "{name} has nothing to begin with");
        }
        let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
        for corpus in fs::read_dir(corpora).unwrap() {
            let name = corpus.unwrap().file_name();
            assert!(known.contains(&name.to_str().unwrap()), "{} is for no target", name.display());
        }
    }

    #[test]
    fn a_corpus_has_every_kind_of_file_of_a_state() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/state");
        let first = |path: &Path| usize::from(fs::read(path).unwrap()[0]) % OF_A_STATE.len();
        let kinds: Vec<usize> = fs::read_dir(dir).unwrap().map(|file| first(&file.unwrap().path())).collect();
        let missing: Vec<usize> = (0..OF_A_STATE.len()).filter(|kind| !kinds.contains(kind)).collect();
        assert!(missing.is_empty(), "no file to begin with for {missing:?}");
    }
}
