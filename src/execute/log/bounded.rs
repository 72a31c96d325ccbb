//! The beginning and the end of a text that may be far too long, and a line that says what is missing.

use std::collections::VecDeque;

/// Bytes that are given up so that the tail begins with a line.
const LONGEST_LOSS: usize = 4096;

/// Bytes go to the head until it is full (cut at the end of a line), then through the tail, which keeps the
/// last ones. The head belongs to the caller, who writes it where it is to be, or keeps it here.
#[derive(Debug)]
pub struct Bounded {
    head: Vec<u8>,
    /// Room left in the head.
    room: usize,
    tail: VecDeque<u8>,
    tail_limit: usize,
    /// Bytes that left the tail at its front.
    cut: u64,
}

impl Bounded {
    pub fn new(head: usize, tail: usize) -> Self {
        Self { head: Vec::new(), room: head, tail: VecDeque::new(), tail_limit: tail, cut: 0 }
    }

    /// Takes bytes and returns those of them that belong to the head.
    pub fn push<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        if bytes.len() < self.room {
            self.room -= bytes.len();
            return bytes;
        }
        let (head, tail) = bytes.split_at(self.end_of_head(bytes));
        self.room = 0;
        self.push_tail(tail);
        head
    }

    /// Adds what [`Bounded::push`] returned to the head that is kept here.
    pub fn keep_head(&mut self, bytes: &[u8]) {
        self.head.extend_from_slice(bytes);
    }

    /// Where the head ends in the bytes that fill it: after the line that crosses the limit if that is
    /// short, so that the cut does not fall into a line.
    fn end_of_head(&self, bytes: &[u8]) -> usize {
        if self.room == 0 {
            return 0;
        }
        let within = bytes.iter().skip(self.room - 1).take(256).position(|&b| b == b'\n');
        within.map_or(self.room, |more| self.room + more)
    }

    fn push_tail(&mut self, bytes: &[u8]) {
        let over = (self.tail.len() + bytes.len()).saturating_sub(self.tail_limit);
        self.cut += over as u64;
        let from_tail = over.min(self.tail.len());
        self.tail.drain(..from_tail);
        self.tail.extend(&bytes[over - from_tail..]);
    }

    /// What comes after the head: the line that says what was cut, and the end.
    pub fn take_tail(&mut self) -> Vec<u8> {
        let mut tail = Vec::from(std::mem::take(&mut self.tail));
        if self.cut == 0 {
            return tail;
        }
        // The first line is most likely the end of one; of one that is very long its end is worth more than a clean cut.
        let start = tail.iter().take(LONGEST_LOSS).position(|&b| b == b'\n').map_or(0, |at| at + 1);
        let start = if start == tail.len() { 0 } else { start };
        let mut text = format!("[… {} bytes cut …]\n", self.cut + start as u64).into_bytes();
        text.extend(tail.drain(start..));
        self.cut = 0;
        text
    }

    /// The head that was kept here, and the rest.
    pub fn into_bytes(mut self) -> Vec<u8> {
        let tail = self.take_tail();
        let mut bytes = self.head;
        bytes.extend(tail);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(head: usize, tail: usize, pieces: &[&[u8]]) -> String {
        let mut bounded = Bounded::new(head, tail);
        for piece in pieces {
            let kept = bounded.push(piece);
            bounded.keep_head(kept);
        }
        String::from_utf8(bounded.into_bytes()).unwrap()
    }

    #[test]
    fn a_text_within_the_bounds_comes_out_as_it_was() {
        assert_eq!(through(4, 4, &[b"", b"ab", b"cd", b"e", b"fgh"]), "abcdefgh");
        assert_eq!(through(4, 4, &[b"abcdefgh"]), "abcdefgh");
    }

    #[test]
    fn one_piece_that_is_larger_than_everything_is_cut_as_many_small_ones_are() {
        assert_eq!(through(4, 4, &[b"abcdefghijklmnop"]), "abcd[… 8 bytes cut …]\nmnop");
        assert_eq!(through(4, 4, &[b"abc", b"def", b"ghi", b"jklm", b"nop"]), "abcd[… 8 bytes cut …]\nmnop");
    }

    #[test]
    fn the_end_of_a_line_that_fills_the_tail_is_kept() {
        let line = "x".repeat(30_000);
        let text = through(4, 20_000, &[line.as_bytes(), b"end\n", b"last\n"]);
        assert_eq!(text, format!("xxxx[… 10005 bytes cut …]\n{}end\nlast\n", "x".repeat(19_991)));
    }

    #[test]
    fn the_cut_falls_between_lines() {
        assert_eq!(through(2, 6, &[b"abc\n", b"defg\n", b"hij\n", b"kl\n"]), "abc\n[… 9 bytes cut …]\nkl\n");
    }
}
