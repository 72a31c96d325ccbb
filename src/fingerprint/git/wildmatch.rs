//! Patterns of `.gitignore` and `.gitattributes`, with git's own meaning of them: `{a,b}` is no choice, `**` counts
//! only between slashes, an unclosed `[` matches nothing. Other glob libraries mean other things, and a file that
//! git would take and we would not is an edit that nobody sees.

/// A part of a pattern.
enum Token {
    Byte(u8),
    /// `?`, and `[…]`: one byte of a set.
    Set(Box<[bool; 256]>),
    /// `*`: anything in one directory.
    Star,
    /// `**`: anything.
    Stars,
    /// `**/`: nothing, or anything up to a slash.
    Dirs,
    /// What can't be matched by anything.
    Never,
}

/// A glob, compiled.
pub struct Wild {
    tokens: Vec<Token>,
}

impl Wild {
    /// `by_path`: a slash is matched by `**` and itself alone.
    pub fn new(pattern: &[u8], by_path: bool) -> Self {
        let mut tokens = Vec::new();
        let mut at = 0;
        while at < pattern.len() {
            match pattern[at] {
                b'\\' => {
                    tokens.push(pattern.get(at + 1).map_or(Token::Never, |byte| Token::Byte(*byte)));
                    at += 2;
                }
                b'?' => {
                    tokens.push(set(|byte| !by_path || byte != b'/'));
                    at += 1;
                }
                b'*' => {
                    let stars = pattern[at..].iter().take_while(|byte| **byte == b'*').count();
                    let (token, taken) = star(pattern, at, stars, by_path);
                    tokens.push(token);
                    at += taken;
                }
                b'[' => match class(&pattern[at + 1..]) {
                    Some((members, is_negated, length)) => {
                        tokens.push(set(|byte| members[usize::from(byte)] != is_negated && !(by_path && byte == b'/')));
                        at += 1 + length;
                    }
                    None => {
                        tokens.push(Token::Never);
                        break;
                    }
                },
                byte => {
                    tokens.push(Token::Byte(byte));
                    at += 1;
                }
            }
        }
        Self { tokens }
    }

    /// Walks all ways through the pattern at once, so that no pattern takes long.
    pub fn matches(&self, text: &[u8]) -> bool {
        let end = self.tokens.len();
        let (mut now, mut next) = (vec![false; end + 1], vec![false; end + 1]);
        self.enter(&mut now, 0);
        for byte in text {
            next.fill(false);
            for at in (0..end).filter(|at| now[*at]) {
                match &self.tokens[at] {
                    Token::Byte(wanted) if wanted == byte => self.enter(&mut next, at + 1),
                    Token::Set(set) if set[usize::from(*byte)] => self.enter(&mut next, at + 1),
                    Token::Star if *byte != b'/' => self.enter(&mut next, at),
                    Token::Stars => self.enter(&mut next, at),
                    Token::Dirs if *byte == b'/' => self.enter(&mut next, at),
                    // It ends after a slash only.
                    Token::Dirs => next[at] = true,
                    Token::Byte(_) | Token::Set(_) | Token::Star | Token::Never => {}
                }
            }
            std::mem::swap(&mut now, &mut next);
        }
        now[end]
    }

    /// Marks a place in the pattern, and those that are reached from there without a byte.
    fn enter(&self, places: &mut [bool], at: usize) {
        let may_be_nothing = |token: &&Token| matches!(token, Token::Star | Token::Stars | Token::Dirs);
        let more = self.tokens[at..].iter().take_while(may_be_nothing).count();
        places[at..=at + more].fill(true);
    }
}

/// What a run of stars means, and how many bytes of the pattern that takes.
fn star(pattern: &[u8], at: usize, stars: usize, by_path: bool) -> (Token, usize) {
    if !by_path {
        return (Token::Stars, stars);
    }
    let after = &pattern[at + stars..];
    let begins = at == 0 || pattern[at - 1] == b'/';
    match after {
        _ if stars == 1 || !begins => (Token::Star, stars),
        [] | [b'\\', b'/', ..] => (Token::Stars, stars),
        [b'/', ..] => (Token::Dirs, stars + 1),
        _ => (Token::Star, stars),
    }
}

fn set(is_member: impl Fn(u8) -> bool) -> Token {
    let mut set = Box::new([false; 256]);
    for byte in 0..=255 {
        set[usize::from(byte)] = is_member(byte);
    }
    Token::Set(set)
}

/// The members of a set whose `[` was read, whether all others are meant, and its length. `None` where it is not
/// closed, or names a class that there is not.
fn class(text: &[u8]) -> Option<([bool; 256], bool, usize)> {
    let mut members = [false; 256];
    let is_negated = matches!(text.first(), Some(b'!' | b'^'));
    let mut at = usize::from(is_negated);
    let mut previous = None;
    let start = at;
    loop {
        let byte = *text.get(at)?;
        match byte {
            b']' if at > start => return Some((members, is_negated, at + 1)),
            b'\\' => {
                at += 1;
                let byte = *text.get(at)?;
                members[usize::from(byte)] = true;
                previous = Some(byte);
            }
            b'-' if previous.is_some() && text.get(at + 1).is_some_and(|next| *next != b']') => {
                at += 1;
                if text[at] == b'\\' {
                    at += 1;
                }
                let (low, high) = (previous?, *text.get(at)?);
                (low..=high).for_each(|byte| members[usize::from(byte)] = true);
                previous = None;
            }
            b'[' if text.get(at + 1) == Some(&b':') => {
                let inner = &text[at + 2..];
                let length = inner.iter().position(|byte| *byte == b']')?;
                match inner[..length].strip_suffix(b":") {
                    Some(name) => {
                        let is_member = named_class(name)?;
                        (0..=127u8).filter(is_member).for_each(|byte| members[usize::from(byte)] = true);
                        at += 2 + length;
                        previous = None;
                    }
                    None => {
                        members[usize::from(b'[')] = true;
                        previous = Some(b'[');
                    }
                }
            }
            byte => {
                members[usize::from(byte)] = true;
                previous = Some(byte);
            }
        }
        at += 1;
    }
}

fn named_class(name: &[u8]) -> Option<fn(&u8) -> bool> {
    Some(match name {
        b"alnum" => u8::is_ascii_alphanumeric,
        b"alpha" => u8::is_ascii_alphabetic,
        b"blank" => |byte| matches!(byte, b' ' | b'\t'),
        b"cntrl" => u8::is_ascii_control,
        b"digit" => u8::is_ascii_digit,
        b"graph" => u8::is_ascii_graphic,
        b"lower" => u8::is_ascii_lowercase,
        b"print" => |byte| byte.is_ascii_graphic() || *byte == b' ',
        b"punct" => u8::is_ascii_punctuation,
        b"space" => |byte| byte.is_ascii_whitespace() || *byte == 0x0b,
        b"upper" => u8::is_ascii_uppercase,
        b"xdigit" => u8::is_ascii_hexdigit,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_path(pattern: &str, text: &str) -> bool {
        Wild::new(pattern.as_bytes(), true).matches(text.as_bytes())
    }

    #[test]
    fn stars_stop_at_slashes_and_double_stars_do_not() {
        assert!(by_path("*.c", "a.c") && !by_path("*.c", "b/a.c"));
        assert!(by_path("**/a", "a") && by_path("**/a", "x/y/a") && !by_path("**/a", "xa"));
        assert!(by_path("a/**", "a/b/c") && !by_path("a/**", "a"));
        assert!(by_path("a/**/b", "a/b") && by_path("a/**/b", "a/x/y/b"));
        assert!(by_path("a**b", "axxb") && !by_path("a**b", "ax/b"));
        assert!(Wild::new(b"a*b", false).matches(b"ax/b"));
    }

    #[test]
    fn sets_have_ranges_classes_and_negations() {
        assert!(by_path("[a-c]x", "bx") && !by_path("[a-c]x", "dx"));
        assert!(by_path("[!a]", "b") && by_path("[^a]", "b") && !by_path("[!a]", "a") && !by_path("[!a]", "/"));
        assert!(by_path("[]]", "]") && by_path("[a-]", "-") && by_path("[[:digit:]]", "7"));
        assert!(!by_path("[a", "[a") && !by_path("[[:none:]]", "n"));
        assert!(by_path("\\*", "*") && !by_path("\\*", "a") && !by_path("a\\", "a"));
        assert!(by_path("{a,b}", "{a,b}") && !by_path("{a,b}", "a"));
    }
}
