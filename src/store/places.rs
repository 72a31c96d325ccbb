//! Finding placeholders in what a step made: whole, and in pieces.
//!
//! Compilers lay a literal down in pieces: constants of 16 or 32 bytes, or 8 bytes in the code itself, of which the
//! last may overlap the one before. So in a program every run of [`SEED`] bytes or more of a placeholder is a place, and says by
//! its own bytes which part it is: of a placeholder every [`SEED`] bytes in a row are unlike all others. In text, which is a
//! file without a NUL, only the whole counts.
//!
//! One smaller piece is common: of `PREFIX "/lib/a.pc"` the last constant holds the end of the placeholder, as much as the
//! rest leaves room for. In a program that holds a placeholder, [`LEAST`] bytes of its end and a slash are a place as well.
//!
//! **Known limits.** What is compressed, or written in 2 or 4 bytes a letter, is not found; nor are other pieces of fewer bytes. A
//! piece that is missing where the others of its literal are is noticed, though ([`Found::has_gap`]).

use std::collections::{BTreeSet, HashMap};

use crate::action::Place;

/// So many bytes in a row say which part of a placeholder they are.
const SEED: usize = 8;

/// So many bytes of a placeholder's end say so with a slash behind them. One fewer does where constants lie.
const LEAST: usize = 4;

/// What vectors lie at multiples of.
const VECTOR: u64 = 16;

/// What is searched for. The first byte of a placeholder is of no other's inside.
#[derive(Debug, Default)]
pub(super) struct Finder<'a> {
    placeholders: &'a [String],
    seeds: HashMap<[u8; SEED], (usize, usize)>,
    /// Bytes that can come first in a seed, and those that can follow.
    first: Option<Box<[bool; 256]>>,
    later: Option<Box<[bool; 256]>>,
}

/// What one file holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    pub is_text: bool,
    /// By their offsets. `of` counts the placeholders that were searched for.
    pub places: Vec<Place>,
    /// Pieces that do not add up to a whole placeholder.
    pub has_gap: bool,
}

impl<'a> Finder<'a> {
    pub(super) fn new(placeholders: &'a [String]) -> Option<Self> {
        if placeholders.is_empty() {
            return None;
        }
        let mut finder = Self { placeholders, ..Self::default() };
        let (mut first, mut later) = (Box::new([false; 256]), Box::new([false; 256]));
        for (of, text) in placeholders.iter().enumerate() {
            for (start, seed) in text.as_bytes().windows(SEED).enumerate() {
                finder.seeds.insert(seed.try_into().expect("BUG: a window has its size"), (of, start));
                first[usize::from(seed[0])] = true;
                seed[1..].iter().for_each(|byte| later[usize::from(*byte)] = true);
            }
        }
        (finder.first, finder.later) = (Some(first), Some(later));
        Some(finder)
    }

    /// The first seed in `bytes`, from `at` on.
    fn seed(&self, bytes: &[u8], mut at: usize) -> Option<(usize, (usize, usize))> {
        let (Some(first), Some(later)) = (&self.first, &self.later) else { return None };
        while let Some(window) = bytes.get(at..at + SEED) {
            // From the back: one byte that can't be in a seed lets us skip all that hold it.
            match (1..SEED).rev().find(|i| !later[usize::from(window[*i])]) {
                Some(i) => at += if first[usize::from(window[i])] { i } else { i + 1 },
                None => {
                    let window: [u8; SEED] = window.try_into().expect("BUG: a window has its size");
                    if let Some(found) = self.seeds.get(&window) {
                        return Some((at, *found));
                    }
                    at += 1;
                }
            }
        }
        None
    }
}

/// One file, as it passes by.
pub(super) struct Scan<'a> {
    finder: &'a Finder<'a>,
    /// Of all that was fed before.
    offset: u64,
    /// The last bytes, fewer than a seed, that are in no place.
    tail: Vec<u8>,
    /// A place that may go on.
    open: Option<Place>,
    places: Vec<Place>,
    has_nul: bool,
    /// The last bytes, as many as a seed has: with all of them there, an end is none that is too small for one.
    before: Vec<u8>,
    /// Ends of placeholders that are too small for a seed, each before a slash.
    ends: Vec<Place>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(finder: &'a Finder<'a>) -> Self {
        Self {
            finder,
            offset: 0,
            tail: Vec::new(),
            open: None,
            places: Vec::new(),
            has_nul: false,
            before: Vec::new(),
            ends: Vec::new(),
        }
    }

    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.has_nul |= memchr::memchr(0, bytes).is_some();
        self.find_ends(bytes);
        let mut at = self.grow(bytes, 0);
        if self.open.is_none() && at == 0 && !self.tail.is_empty() {
            at = self.across(bytes);
        }
        while self.open.is_none() {
            let Some((begin, (of, start))) = self.finder.seed(bytes, at) else { break };
            self.begin(self.offset + begin as u64, of, start);
            at = self.grow(bytes, begin + SEED);
        }
        if self.open.is_some() {
            self.tail.clear();
        } else {
            self.tail.extend_from_slice(&bytes[at.max(bytes.len().saturating_sub(SEED - 1))..]);
            self.tail.drain(..self.tail.len().saturating_sub(SEED - 1));
        }
        self.offset += bytes.len() as u64;
    }

    fn find_ends(&mut self, bytes: &[u8]) {
        for slash in memchr::memchr_iter(b'/', bytes) {
            let before = bytes[..slash].iter().rev().chain(self.before.iter().rev());
            for (of, text) in self.finder.placeholders.iter().enumerate() {
                let same = before.clone().zip(text.as_bytes().iter().rev()).take(SEED).take_while(|(a, b)| a == b);
                let len = same.count();
                if (LEAST - 1..SEED).contains(&len) {
                    let offset = self.offset + slash as u64 - len as u64;
                    let start = (text.len() - len) as u32;
                    self.ends.push(Place { offset, of: of as u32, start, len: len as u32 });
                }
            }
        }
        self.before.extend_from_slice(&bytes[bytes.len().saturating_sub(SEED)..]);
        self.before.drain(..self.before.len().saturating_sub(SEED));
    }

    fn begin(&mut self, offset: u64, of: usize, start: usize) {
        self.open = Some(Place { offset, of: of as u32, start: start as u32, len: SEED as u32 });
        self.tail.clear();
    }

    /// Lets the open place take what belongs to it from `at` on. Returns where it ends; it is closed unless that is
    /// the end of the bytes.
    fn grow(&mut self, bytes: &[u8], at: usize) -> usize {
        let Some(mut place) = self.open.take() else { return at };
        let text = self.finder.placeholders[place.of as usize].as_bytes();
        let rest = &text[(place.start + place.len) as usize..];
        let more = rest.iter().zip(&bytes[at.min(bytes.len())..]).take_while(|(a, b)| a == b).count();
        place.len += more as u32;
        let end = at + more;
        if end == bytes.len() && more < rest.len() {
            self.open = Some(place);
        } else {
            self.places.push(place);
        }
        end
    }

    /// Looks for a seed that begins in the tail. Returns where in `bytes` to go on.
    fn across(&mut self, bytes: &[u8]) -> usize {
        let head = &bytes[..bytes.len().min(SEED - 1)];
        let before = self.tail.len();
        let joined = [&self.tail, head].concat();
        match self.finder.seed(&joined, 0) {
            Some((begin, (of, start))) => {
                self.begin(self.offset - (before - begin) as u64, of, start);
                self.grow(bytes, begin + SEED - before)
            }
            None => 0,
        }
    }

    /// `None`: there is nothing of a placeholder in it.
    pub(super) fn finish(mut self) -> Option<Found> {
        self.places.extend(self.open.take());
        let whole = |place: &Place| place.len as usize == self.finder.placeholders[place.of as usize].len();
        let is_text = !self.has_nul;
        if is_text {
            self.places.retain(whole);
        }
        let holds = |of: u32| self.places.iter().any(|place| place.of == of);
        let ends: Vec<Place> = self.ends.drain(..).filter(|end| !is_text && holds(end.of)).collect();
        let (ends, too_small): (Vec<_>, Vec<_>) = ends.into_iter().partition(|end| end.len as usize >= LEAST);
        let has_gap = (0..self.finder.placeholders.len()).any(|of| {
            let pieces = self.places.iter().filter(|place| place.of as usize == of && !whole(place));
            let ends = ends.iter().filter(|end| end.of as usize == of);
            let length = self.finder.placeholders[of].len();
            // An end may belong to a whole one, or to pieces.
            has_gap(pieces.clone(), length) && has_gap(pieces.chain(ends), length)
        }) || too_small.iter().any(|end| end.offset % VECTOR == 0);
        self.places.extend(ends);
        self.places.sort_by_key(|place| place.offset);
        (!self.places.is_empty()).then_some(Found { is_text, places: self.places, has_gap })
    }
}

/// Is a piece without the one before or after it? Equal pieces of several literals may be there once, and the last of a
/// literal may overlap the one before, so: each piece goes on where another ends, but for the first, and for a last one
/// that begins inside of another. For each that nothing goes on from there is such a last one.
fn has_gap<'p>(pieces: impl Iterator<Item = &'p Place>, length: usize) -> bool {
    let spans: BTreeSet<(u32, u32)> = pieces.map(|p| (p.start, p.start + p.len)).collect();
    let begins = |at: u32| spans.range((at, 0)..(at + 1, 0)).next().is_some();
    let ends: BTreeSet<u32> = spans.iter().map(|span| span.1).collect();
    let length = length as u32;
    let overlapping: Vec<(u32, u32)> =
        spans.iter().copied().filter(|(from, to)| *to == length && *from > 0 && !ends.contains(from)).collect();
    let is_led_to = |from: u32, to: u32| {
        let inside = |other: &(u32, u32)| other.0 < from && from < other.1 && other.1 < length;
        from == 0 || ends.contains(&from) || to == length && spans.iter().any(inside)
    };
    let open: Vec<u32> = ends.iter().copied().filter(|to| *to < length && !begins(*to)).collect();
    let is_closed = |to: &u32| overlapping.iter().any(|last| last.0 < *to);
    spans.iter().any(|(from, to)| !is_led_to(*from, *to))
        || !open.iter().all(is_closed)
        || open.len() > overlapping.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &[u8] = b"ghijklmnopqrstuvwxyz";

    /// Like the real ones, of this length.
    fn placeholder(seed: u64, length: usize) -> String {
        let mut state = seed;
        let mut letter = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(LETTERS[(state >> 33) as usize % LETTERS.len()])
        };
        std::iter::once('/').chain(std::iter::from_fn(|| Some(letter()))).take(length).collect()
    }

    fn scan(placeholders: &[String], pieces: &[&[u8]]) -> Option<Found> {
        let finder = Finder::new(placeholders).unwrap();
        let mut scan = Scan::new(&finder);
        pieces.iter().for_each(|piece| scan.feed(piece));
        scan.finish()
    }

    fn place(offset: u64, of: u32, start: u32, len: u32) -> Place {
        Place { offset, of, start, len }
    }

    #[test]
    fn whole_ones_and_pieces_are_found_wherever_the_parts_of_a_file_end() {
        let all = [placeholder(1, 40), placeholder(2, 40)];
        let (a, b) = (all[0].as_bytes(), all[1].as_bytes());
        let mut bytes = b"\0/ghgh".to_vec();
        bytes.extend_from_slice(a);
        bytes.extend_from_slice(b"/lib:");
        bytes.extend_from_slice(b);
        bytes.extend_from_slice(a);
        bytes.extend_from_slice(b"xx");
        bytes.extend_from_slice(&b[5..13]);
        bytes.extend_from_slice(&a[33..]);
        bytes.extend_from_slice(&b[24..]);
        let expected = vec![
            place(6, 0, 0, 40),
            place(51, 1, 0, 40),
            place(91, 0, 0, 40),
            place(133, 1, 5, 8),
            // Seven bytes are no seed.
            place(148, 1, 24, 16),
        ];
        for size in 1..=bytes.len() {
            let parts: Vec<&[u8]> = bytes.chunks(size).collect();
            let found = scan(&all, &parts).unwrap();
            assert_eq!((found.places, found.is_text, found.has_gap), (expected.clone(), false, true), "{size}");
        }
        for first in 0..bytes.len() {
            let (one, two) = bytes.split_at(first);
            assert_eq!(scan(&all, &[one, two]).unwrap().places, expected, "{first}");
        }
    }

    #[test]
    fn the_small_end_of_a_placeholder_before_a_slash_is_found_wherever_the_parts_of_a_file_end() {
        let all = [placeholder(1, 48)];
        let a = all[0].as_bytes();
        // A vector for each part of the literal, the last over the end of the one before.
        let literal = |small: usize, room: usize| {
            let mut bytes = vec![0; 16];
            bytes.extend_from_slice(a);
            bytes.resize(64 + room, 1);
            bytes.extend_from_slice(&a[48 - small..]);
            bytes.extend_from_slice(b"/lib/a.pc\0");
            bytes
        };
        for small in 4..8 {
            let bytes = literal(small, 3);
            let expected = vec![place(16, 0, 0, 48), place(67, 0, 48 - small as u32, small as u32)];
            for size in 1..=bytes.len() {
                let found = scan(&all, &bytes.chunks(size).collect::<Vec<_>>()).unwrap();
                assert_eq!((found.places, found.has_gap), (expected.clone(), false), "{small} {size}");
            }
        }
        // The vectors may lie apart.
        let apart =
            [&a[16..32], &[0; 16], &a[..16], &[0; 16], &a[32..], &[0; 16], &a[43..], &b"/lib/a.pc\0"[..]].concat();
        let found = scan(&all, &[&apart]).unwrap();
        assert_eq!((found.places.last(), found.has_gap), (Some(&place(96, 0, 43, 5)), false));
        // Too small to be sure of, but at the place of a constant.
        assert!(scan(&all, &[&literal(3, 0)]).unwrap().has_gap);
        assert!(!scan(&all, &[&literal(3, 1)]).unwrap().has_gap);
        // In text, and where no placeholder is, it is something else.
        assert_eq!(scan(&all, &[&literal(6, 0)[64..]]), None);
        let text = [a, b"\n", &a[42..], b"/lib"].concat();
        assert_eq!(scan(&all, &[&text]).unwrap().places.len(), 1);
    }

    #[test]
    fn in_text_only_whole_ones_count() {
        let all = [placeholder(1, 40)];
        let text = format!("prefix={0}\nlibs=-L{0}/lib -L{0}/lib64\nodd={1}\n", all[0], &all[0][3..30]);
        let found = scan(&all, &[text.as_bytes()]).unwrap();
        assert!(found.is_text && !found.has_gap);
        assert_eq!(found.places.iter().map(|p| p.len).collect::<Vec<_>>(), [40, 40, 40]);
        assert_eq!(scan(&all, &[&all[0].as_bytes()[..39]]), None);
        assert_eq!(scan(&all, &[]), None);
    }

    #[test]
    fn pieces_that_overlap_add_up_and_one_that_is_missing_is_a_gap() {
        let all = [placeholder(3, 40)];
        let a = all[0].as_bytes();
        let join = |spans: &[(usize, usize)]| {
            let mut bytes = vec![0];
            for (from, to) in spans {
                bytes.extend_from_slice(&a[*from..*to]);
                bytes.push(0);
            }
            bytes
        };
        for (spans, gap) in [
            (&[(0, 16), (16, 32), (24, 40)][..], false),
            (&[(24, 40), (0, 16), (16, 32)], false),
            (&[(0, 40)], false),
            (&[(0, 16), (24, 40)], true),
            (&[(7, 40)], true),
            (&[(0, 16), (16, 32)], true),
            // One literal is whole, of another the first or the last piece is too small.
            (&[(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (0, 16), (16, 35)], true),
            (&[(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (3, 11), (11, 19), (19, 40)], true),
            (&[(0, 8), (8, 16), (16, 24), (24, 32), (32, 40), (0, 16), (16, 35), (31, 40)], false),
            // One last piece for two literals.
            (&[(0, 11), (11, 27), (27, 35), (0, 16), (16, 37), (31, 40)], true),
            (&[(0, 11), (11, 27), (27, 35), (0, 16), (16, 37), (31, 40), (32, 40)], false),
        ] {
            assert_eq!(scan(&all, &[&join(spans)]).unwrap().has_gap, gap, "{spans:?}");
        }
    }
}
