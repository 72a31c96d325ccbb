//! Searching for a path in what passes by.
//!
//! Bytes alone count, not where a name ends: Rust and Go keep literals one after another, so what follows
//! may be a letter. A path in compressed data is not found: a known limit.

use memchr::memmem::Finder;

/// A text that is searched for in files that come in pieces.
pub(super) struct Needle<'a> {
    finder: Finder<'a>,
    /// The last bytes of the file so far: less than the whole text.
    tail: Vec<u8>,
    pub found: bool,
}

impl<'a> Needle<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { finder: Finder::new(text), tail: Vec::new(), found: false }
    }

    /// A path as it is, and as JSON may have it: with `\/` for each slash.
    pub(super) fn of_path(path: &'a [u8]) -> [Self; 2] {
        let escaped = path.split(|byte| *byte == b'/').collect::<Vec<_>>().join(&b"\\/"[..]);
        let escaped = Finder::new(&escaped).into_owned();
        [Self::new(path), Self { finder: escaped, tail: Vec::new(), found: false }]
    }

    pub(super) fn begin_file(&mut self) {
        self.tail.clear();
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        let overlap = self.finder.needle().len().saturating_sub(1);
        if self.found {
            return;
        }
        if !self.tail.is_empty() {
            self.tail.extend_from_slice(&bytes[..overlap.min(bytes.len())]);
            self.found = self.finder.find(&self.tail).is_some();
        }
        self.found |= self.finder.find(bytes).is_some();
        if bytes.len() >= overlap {
            self.tail.clear();
            self.tail.extend_from_slice(&bytes[bytes.len() - overlap..]);
        } else {
            // All of the bytes are in it already, unless it was empty.
            if self.tail.is_empty() {
                self.tail.extend_from_slice(bytes);
            }
            self.tail.drain(..self.tail.len().saturating_sub(overlap));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(pieces: &[&[u8]]) -> bool {
        let mut needle = Needle::new(b"/home/tree");
        needle.begin_file();
        pieces.iter().for_each(|piece| needle.feed(piece));
        needle.found
    }

    #[test]
    fn a_path_is_found_wherever_the_pieces_of_a_file_end() {
        let text = b"prefix/home/treesuffix";
        for first in 0..text.len() {
            for second in first..text.len() {
                assert!(finds(&[&text[..first], &text[first..second], &text[second..]]), "{first} {second}");
            }
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert!(finds(&bytes));
    }

    #[test]
    fn a_path_is_found_with_plain_and_with_escaped_slashes() {
        for (text, found) in [
            (&br#"{"dir":"/home/tree"}"#[..], [true, false]),
            (br#"{"dir":"\/home\/tree"}"#, [false, true]),
            (br#"{"dir":"\/home/tree"}"#, [true, false]),
            (br#"{"dir":"\\/home\\/tree"}"#, [false, false]),
        ] {
            let needles = Needle::of_path(b"/home/tree").map(|mut needle| {
                needle.begin_file();
                text.chunks(5).for_each(|piece| needle.feed(piece));
                needle.found
            });
            assert_eq!(needles, found, "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_path_is_not_put_together_out_of_two_files() {
        let mut needle = Needle::new(b"/home/tree");
        for piece in [&b"/home"[..], b"/tree"] {
            needle.begin_file();
            needle.feed(piece);
        }
        assert!(!needle.found);
        assert!(!finds(&[b"/home/", b"/tree"]) && !finds(&[]));
    }
}
