//! Places at which files are changed, by who does it, which call it is, and what kind of path it is about.

use std::fmt;
use std::path::Path;

use super::supervisor::{Call, Who};

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Site {
    pub who: Who,
    pub call: &'static str,
    /// With what differs from run to run left out.
    pub kind: String,
}

impl Site {
    /// `None` for what is outside of the sandbox: pipes, devices, what the machine has.
    pub fn of(call: &Call, root: &Path) -> Option<Self> {
        let kind = kind_of(call.path.strip_prefix(root).ok()?)?;
        Some(Self { who: call.who, call: call.name, kind })
    }
}

/// What a path below the sandbox is, with what differs from run to run left out. `None` where it is no text.
pub fn kind_of(below: &Path) -> Option<String> {
    let below = below.to_str()?;
    let below = below.strip_suffix(" (deleted)").unwrap_or(below);
    let mut kind = Vec::new();
    for name in below.split('/') {
        // What is below is the user's, or the step's.
        if kind.len() > 3 && (kind[2] == "aside" || kind.ends_with(&["top".to_owned(), "upper".to_owned()])) {
            kind.push("*".to_owned());
            break;
        }
        let plain = match (kind.last().map(String::as_str), kind.len()) {
            // What the machine has, and steps by their names.
            (Some(".tmp-#"), _) if kind.iter().any(|part| part == "covers") => "*".to_owned(),
            (Some("host" | "arm"), 4) if kind[2] == "work" => "@".to_owned(),
            (Some("zig"), 3) => "#".to_owned(),
            _ if kind.len() == 4 && kind[2] == "zig" => "*".to_owned(),
            _ => plain(name),
        };
        kind.push(plain);
    }
    Some(kind.join("/"))
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?} {} {}", self.who, self.call, self.kind)
    }
}

/// A name without numbers of processes, digests, and what is drawn by lot.
fn plain(name: &str) -> String {
    for (begin, stands_for) in [(".tmp-", ".tmp-#"), ("view-", "view-#"), ("jobserver-", "jobserver-#"), ("#", "#")] {
        if name.starts_with(begin) {
            return stands_for.to_owned();
        }
    }
    if name.starts_with("bcache-") && name.len() == 13 {
        return "bcache-#".to_owned();
    }
    if name.contains('@') && !name.contains("root@") {
        return "@".to_owned();
    }
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let is_digest = |word: &str| word.bytes().all(|b| b.is_ascii_hexdigit()) && (word.len() == 1 || word.len() >= 12);
    let plain = |word: &str| if is_number(word) || is_digest(word) { "#".to_owned() } else { word.to_owned() };
    let parts = |part: &str| part.split('-').map(plain).collect::<Vec<_>>().join("-");
    name.split('.').map(parts).collect::<Vec<_>>().join(".")
}
