//! Paths: joined and cleaned by their text alone, shown unambiguously.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
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

/// The path that [`escaped`] gave this text for; `None` for a text that it never gives.
pub fn unescaped(text: &str) -> Option<PathBuf> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = match (byte, after) {
            (b'\\', [b'\\', after @ ..]) => {
                bytes.push(b'\\');
                after
            }
            (b'\\', [b'x', high, low, after @ ..]) => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                after
            }
            (b'\\', _) => return None,
            _ => {
                bytes.push(byte);
                after
            }
        };
    }
    Some(OsString::from_vec(bytes).into())
}

/// `#[serde(with = "…")]` for a path that may be no UTF-8: serde's own way refuses those. In our formats
/// the bytes are the same as of a string.
pub mod bytes {
    use std::ffi::OsString;
    use std::fmt;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::path::{Path, PathBuf};

    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    pub fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(path.as_os_str().as_bytes())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PathBuf, D::Error> {
        deserializer.deserialize_byte_buf(Bytes)
    }

    struct Bytes;

    impl Visitor<'_> for Bytes {
        type Value = PathBuf;

        fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
            f.write_str("the bytes of a path")
        }

        fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<PathBuf, E> {
            self.visit_byte_buf(bytes.to_vec())
        }

        fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<PathBuf, E> {
            Ok(OsString::from_vec(bytes).into())
        }
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

    #[test]
    fn the_path_can_be_told_from_what_is_shown() {
        for bytes in [&b"a b"[..], b"a\nb\\", b"\\x0a", b"a\xff/\x80", "é\u{85}".as_bytes()] {
            let path = Path::new(OsStr::from_bytes(bytes));
            assert_eq!(unescaped(&escaped(path)).as_deref(), Some(path));
        }
        for text in ["\\", "\\x", "\\x1", "\\xzz", "\\n"] {
            assert_eq!(unescaped(text), None, "{text}");
        }
    }
}
