//! What the properties of hostile bytes share: a place with something beside it that must not be touched.
//!
//! Each room with a reader has a module of this name: functions that take any bytes and panic where something that
//! must hold does not. They are compiled for tests, which feed them the corpus of `tests/fuzz`, and for the fuzzer,
//! which looks for more; so they see what is private, and no user's program has them.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::sealed::Format;
use super::stat::Stat;

/// A directory for a property, in a neighbourhood that is watched.
pub struct Place {
    around: tempfile::TempDir,
    before: Vec<(PathBuf, Option<Stat>)>,
}

impl Place {
    pub fn make() -> Self {
        let around = tempfile::tempdir().expect("BUG: there is room for a directory");
        let place = Self { around, before: Vec::new() };
        fs::create_dir_all(place.path().join("deep")).expect("BUG: a directory can be made");
        for name in ["a", "b", "secret", "deep"] {
            fs::write(place.around.path().join(name), "theirs").expect("BUG: a file can be written");
        }
        Self { before: place.neighbours(), ..place }
    }

    /// What may be written in.
    pub fn path(&self) -> PathBuf {
        self.around.path().join("mine")
    }

    fn neighbours(&self) -> Vec<(PathBuf, Option<Stat>)> {
        let entries = fs::read_dir(self.around.path()).expect("BUG: it is there").flatten();
        let mut found: Vec<_> = entries.map(|entry| entry.path()).filter(|path| *path != self.path()).collect();
        found.sort();
        let stat = |path: PathBuf| (Stat::read(&path).ok().flatten(), path);
        found.into_iter().map(stat).map(|(stat, path)| (path, stat)).collect()
    }

    /// Nothing beside it was touched.
    pub fn assert_kept_to(&self) {
        assert_eq!(self.before, self.neighbours(), "something outside was touched");
    }
}

/// The body is one that a writer with a right checksum could have written: sealed, it is read, or it is no such thing. What is read is the same
/// when it was written again.
pub fn sealed<T: Serialize + DeserializeOwned>(format: &Format, body: &[u8]) -> Option<T> {
    // As it stands it is nothing, but for one in 2^256.
    let file = format.seal_bytes(body);
    let value = format.open::<T>(&file).ok()?;
    let again = format.seal(&value);
    let reread = format.open::<T>(&again).expect("what was written can be read");
    assert!(format.seal(&reread) == again, "what was read again is another thing");
    Some(value)
}

/// The envelope of any format, as it lies there.
pub fn envelope(bytes: &[u8]) {
    const FORMAT: Format = Format { magic: b"bc-test\n", version: 3 };
    match FORMAT.open_digested(bytes) {
        Ok((body, _)) => assert!(FORMAT.seal_bytes(body) == bytes, "two files of one body"),
        Err(_) => assert!(FORMAT.open::<Vec<String>>(bytes).is_err(), "a body without an envelope"),
    }
}

/// A file in a place, with the directories above it.
pub fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("BUG: a file lies in a directory")).expect("BUG: a directory can be made");
    fs::write(path, bytes).expect("BUG: a file can be written");
}
