//! Paths: joined and cleaned by their text alone, shown unambiguously.

use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// `base` joined with `path`, `.` and `..` resolved by text (links are not looked at).
/// `None` where `..` climbs above the root.
pub fn join_clean(base: &Path, path: &Path) -> Option<PathBuf> {
    let mut clean = PathBuf::new();
    for component in base.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            other => clean.push(other),
        }
    }
    Some(clean)
}

/// A path as text from which its bytes can be told: UTF-8 as it is, `\` doubled, control characters
/// and other bytes as `\xNN`. Two different paths never give the same text.
pub fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                c if c.is_control() => {
                    let mut utf8 = [0; 4];
                    for byte in c.encode_utf8(&mut utf8).bytes() {
                        text.push_str(&format!("\\x{byte:02x}"));
                    }
                }
                c => text.push(c),
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// For serde's `with`: a path whatever its bytes are (serde itself refuses what is not UTF-8).
pub mod as_os_string {
    use std::ffi::{OsStr, OsString};
    use std::path::{Path, PathBuf};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        let text: &OsStr = path.as_os_str();
        text.serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        OsString::deserialize(deserializer).map(PathBuf::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::OsStr;

    #[test]
    fn dots_are_resolved_and_climbing_out_of_the_root_is_not() {
        assert_eq!(join_clean(Path::new("/a/b"), Path::new("../c/./d")), Some("/a/c/d".into()));
        assert_eq!(join_clean(Path::new("/a"), Path::new("/x")), Some("/x".into()));
        assert_eq!(join_clean(Path::new("/a"), Path::new("../../..")), None);
    }

    #[test]
    fn different_paths_are_shown_differently() {
        let shown = |bytes: &[u8]| escaped(Path::new(OsStr::from_bytes(bytes)));
        assert_eq!(shown(b"a b"), "a b");
        assert_eq!(shown(b"a\nb"), "a\\x0ab");
        assert_eq!(shown(b"a\\x0ab"), "a\\\\x0ab");
        assert_eq!(shown(b"a\xff"), "a\\xff");
        assert_eq!(shown("é".as_bytes()), "é");
    }
}
