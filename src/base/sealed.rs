//! Files that say of themselves what they are: a magic word, a format version, a checksum, a body.
//!
//! Layout: 8 bytes magic, 4 bytes version (little endian), 32 bytes BLAKE3 of the body, the body.
//! Whatever does not fit is *another* file, never half understood.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// What a kind of file is called, and the version that we write and read.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    pub magic: &'static [u8; 8],
    pub version: u32,
}

/// Why a file can't be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unreadable {
    #[error("not such a file")]
    Foreign,
    #[error("format version {0}")]
    Version(u32),
    #[error("damaged")]
    Damaged,
}

const HEADER: usize = 8 + 4 + 32;

impl Format {
    pub fn seal<T: Serialize>(&self, value: &T) -> Vec<u8> {
        self.seal_bytes(&postcard::to_stdvec(value).expect("BUG: plain data serializes"))
    }

    /// The same for a body that has a form of its own.
    pub fn seal_bytes(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + body.len());
        bytes.extend_from_slice(self.magic);
        bytes.extend_from_slice(&self.version.to_le_bytes());
        bytes.extend_from_slice(Digest::of(body).as_bytes());
        bytes.extend_from_slice(body);
        bytes
    }

    pub fn open<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Unreadable> {
        self.open_borrowed(bytes)
    }

    /// The same for values that borrow from `bytes`.
    pub fn open_borrowed<'a, T: Deserialize<'a>>(&self, bytes: &'a [u8]) -> Result<T, Unreadable> {
        postcard::from_bytes(self.open_bytes(bytes)?).map_err(|_| Unreadable::Damaged)
    }

    /// The body alone.
    pub fn open_bytes<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Unreadable> {
        self.open_digested(bytes).map(|(body, _)| body)
    }

    /// The body and its digest.
    pub fn open_digested<'a>(&self, bytes: &'a [u8]) -> Result<(&'a [u8], Digest), Unreadable> {
        if bytes.len() < HEADER || &bytes[..8] != self.magic {
            return Err(Unreadable::Foreign);
        }
        let version = u32::from_le_bytes(bytes[8..12].try_into().expect("BUG: four bytes"));
        if version != self.version {
            return Err(Unreadable::Version(version));
        }
        let body = &bytes[HEADER..];
        let digest = Digest::of(body);
        if digest.as_bytes()[..] != bytes[12..HEADER] {
            return Err(Unreadable::Damaged);
        }
        Ok((body, digest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMAT: Format = Format { magic: b"bc-test\n", version: 3 };

    #[test]
    fn every_single_damaged_byte_is_noticed() {
        let good = FORMAT.seal(&("text", 7u32));
        assert_eq!(FORMAT.open::<(String, u32)>(&good), Ok(("text".to_owned(), 7)));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(FORMAT.open::<(String, u32)>(&bad).is_err(), "byte {at}");
            assert!(FORMAT.open::<(String, u32)>(&good[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn another_version_is_said_and_not_read() {
        let newer = Format { version: 4, ..FORMAT }.seal(&1u8);
        assert_eq!(FORMAT.open::<u8>(&newer), Err(Unreadable::Version(4)));
    }
}
