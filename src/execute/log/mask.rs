//! Replaces the values of secrets by `***` in a stream that comes in pieces.
//!
//! A secret of several lines (a key in PEM form) is masked line by line too, since programs print it so, and
//! the end of a value is trimmed of white space. Values shorter than [`SHORTEST`] are not masked: `***`
//! wherever a `1` stands would make the log worthless and still tell where each `1` was.
//!
//! As a string of JSON and in a URL a value looks otherwise, and is masked too.
//!
//! **Known limit.** A value that a program prints in another form (base64, in pieces) is not known.

use std::collections::BTreeSet;

/// Bytes that a value must have to be masked.
pub const SHORTEST: usize = 3;
/// The same for one line of a secret of several lines.
const SHORTEST_LINE: usize = 8;

const STARS: &[u8] = b"***";

#[derive(Clone, Debug)]
pub struct Mask {
    /// Longest first.
    secrets: Vec<Vec<u8>>,
    /// Is there a secret that begins with this byte?
    begins: [bool; 256],
    /// What may be the beginning of a secret.
    held: Vec<u8>,
    /// How many bytes from the front of `held` on are part of a secret that began before.
    covered: usize,
}

impl Mask {
    pub fn new(secrets: &[Vec<u8>]) -> Self {
        let mut values = BTreeSet::new();
        for secret in secrets {
            let value = secret.trim_ascii_end();
            if value.len() < SHORTEST {
                continue;
            }
            values.extend([value.to_vec(), in_json(value), in_url(value)]);
            let lines = value.split(|&b| b == b'\n').map(<[u8]>::trim_ascii);
            values.extend(lines.filter(|line| line.len() >= SHORTEST_LINE).map(<[u8]>::to_vec));
        }
        let mut secrets: Vec<Vec<u8>> = values.into_iter().collect();
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut begins = [false; 256];
        for secret in &secrets {
            begins[usize::from(secret[0])] = true;
        }
        Self { secrets, begins, held: Vec::new(), covered: 0 }
    }

    /// Appends the masked form of what is certain now to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.secrets.is_empty() {
            out.extend_from_slice(bytes);
            return;
        }
        self.held.extend_from_slice(bytes);
        self.pass(false, out);
    }

    /// The stream has ended: what was held back is no secret any more.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        self.pass(true, out);
    }

    fn pass(&mut self, last: bool, out: &mut Vec<u8>) {
        let held = std::mem::take(&mut self.held);
        let mut at = 0;
        let mut covered = self.covered;
        while at < held.len() {
            let rest = &held[at..];
            if self.begins[usize::from(rest[0])] {
                if !last && self.secrets.iter().any(|secret| secret.len() > rest.len() && secret.starts_with(rest)) {
                    break;
                }
                if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret)) {
                    // One that begins inside another is covered by the same stars.
                    if covered <= at {
                        out.extend_from_slice(STARS);
                    }
                    covered = covered.max(at + secret.len());
                }
            }
            if covered <= at {
                out.push(rest[0]);
            }
            at += 1;
        }
        self.held = held[at..].to_vec();
        self.covered = covered.saturating_sub(at);
    }
}

/// As a string of JSON has it, between its quotes.
fn in_json(value: &[u8]) -> Vec<u8> {
    let text = serde_json::to_string(&String::from_utf8_lossy(value)).expect("BUG: a text is JSON");
    text.as_bytes()[1..text.len() - 1].to_vec()
}

/// As a URL has it.
fn in_url(value: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
    let encode = |byte: &u8| if plain(byte) { vec![*byte] } else { format!("%{byte:02X}").into_bytes() };
    value.iter().flat_map(encode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(secrets: &[&str], pieces: &[&str]) -> String {
        let secrets: Vec<Vec<u8>> = secrets.iter().map(|s| s.as_bytes().to_vec()).collect();
        let mut mask = Mask::new(&secrets);
        let mut out = Vec::new();
        for piece in pieces {
            mask.feed(piece.as_bytes(), &mut out);
        }
        mask.finish(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_secret_is_masked_wherever_the_stream_is_cut() {
        let text = "xtokentokexytoken";
        for a in 0..=text.len() {
            for b in a..=text.len() {
                assert_eq!(masked(&["token"], &[&text[..a], &text[a..b], &text[b..]]), "x***tokexy***", "{a} {b}");
            }
        }
    }

    #[test]
    fn the_longest_of_secrets_that_begin_alike_is_masked() {
        for cut in 0..=8 {
            let text = "abcdabc!";
            assert_eq!(masked(&["abc", "abcd"], &[&text[..cut], &text[cut..]]), "******!", "{cut}");
        }
        assert_eq!(masked(&["abc", "abcdef"], &["abcde", "!"]), "***de!");
    }

    #[test]
    fn secrets_that_overlap_leave_nothing_of_either() {
        for cut in 0..=7 {
            let text = "<abcde>";
            assert_eq!(masked(&["abcd", "cde"], &[&text[..cut], &text[cut..]]), "<***>", "{cut}");
            assert_eq!(masked(&["aXa"], &["aXa", "Xa."]), "***.");
        }
    }

    #[test]
    fn empty_and_very_short_values_are_not_masked() {
        assert_eq!(masked(&["", "1", "ab"], &["ab1"]), "ab1");
    }

    #[test]
    fn a_secret_is_masked_as_json_and_urls_write_it() {
        let secret = "p@ss \"w\\rd\".*";
        assert_eq!(masked(&[secret], &["{\"k\":\"p@ss \\\"w\\\\rd\\\".*\"}"]), "{\"k\":\"***\"}");
        assert_eq!(masked(&[secret], &["https://u:p%40ss%20%22w%5Crd%22.%2A@host/"]), "https://u:***@host/");
        assert_eq!(masked(&["two\nlines"], &["two\\nlines!"]), "***!");
    }

    #[test]
    fn the_lines_of_a_key_are_masked_one_by_one() {
        let key = "-----BEGIN KEY-----\nMIIEvgIBADAN\nab\n-----END KEY-----\n";
        assert_eq!(masked(&[key], &["  MIIEvgIBADAN\n  ab\n"]), "  ***\n  ab\n");
        assert_eq!(masked(&[key], &[key]), "***\n");
    }
}
