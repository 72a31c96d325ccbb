//! What a run of the program said, and what it should have said.

use std::process::ExitStatus;

use super::Sandbox;

#[must_use = "say how it should have ended"]
pub struct Outcome<'a> {
    sandbox: &'a Sandbox,
    status: ExitStatus,
    stdout: String,
    stderr: String,
    wanted_stdout: String,
    wanted_stderr: Stderr,
}

enum Stderr {
    Any,
    Whole(String),
    /// Only the counts in the last line.
    Counts(String),
}

impl<'a> Outcome<'a> {
    pub(super) fn new(sandbox: &'a Sandbox, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> Self {
        let (stdout, stderr) = (sandbox.redacted(stdout), sandbox.redacted(stderr));
        Self { sandbox, status, stdout, stderr, wanted_stdout: String::new(), wanted_stderr: Stderr::Any }
    }

    /// The whole of it; a first empty line is left out. Without this it must be empty.
    #[track_caller]
    pub fn stdout(mut self, text: &str) -> Self {
        self.wanted_stdout = text.strip_prefix('\n').unwrap_or(text).to_owned();
        self
    }

    /// The whole of it; a first empty line is left out.
    #[track_caller]
    pub fn stderr(mut self, text: &str) -> Self {
        self.wanted_stderr = Stderr::Whole(text.strip_prefix('\n').unwrap_or(text).to_owned());
        self
    }

    /// How the last line of stderr ends, where the lines before it are another test's business.
    #[track_caller]
    pub fn counts(mut self, counts: &str) -> Self {
        self.wanted_stderr = Stderr::Counts(counts.to_owned());
        self
    }

    /// As redacted.
    #[track_caller]
    pub fn says(self, text: &str) -> Self {
        assert!(self.said().contains(text), "no `{text}` in:\n{}", self.said());
        self
    }

    #[track_caller]
    pub fn answers(mut self, text: &str) -> Self {
        assert!(self.answered().contains(text), "no `{text}` in:\n{}\n{}", self.answered(), self.said());
        self.wanted_stdout.clone_from(&self.stdout);
        self
    }

    pub fn said(&self) -> &str {
        &self.stderr
    }

    pub fn answered(&self) -> &str {
        &self.stdout
    }

    #[track_caller]
    pub fn success(self) -> &'a Sandbox {
        self.exit(0)
    }

    #[track_caller]
    pub fn exit(self, code: i32) -> &'a Sandbox {
        let stderr_fits = match &self.wanted_stderr {
            Stderr::Any => true,
            Stderr::Whole(wanted) => self.stderr == *wanted,
            Stderr::Counts(wanted) => self.stderr.lines().last().is_some_and(|l| l.ends_with(&format!(": {wanted}"))),
        };
        if self.status.code() != Some(code) || !stderr_fits || self.stdout != self.wanted_stdout {
            let wanted = match &self.wanted_stderr {
                Stderr::Any => "(anything)",
                Stderr::Whole(wanted) | Stderr::Counts(wanted) => wanted,
            };
            panic!(
                "wanted exit code {code}\n-- stdout --\n{}-- stderr --\n{wanted}\ngot {}\n-- stdout --\n{}-- stderr --\n{}",
                self.wanted_stdout, self.status, self.stdout, self.stderr
            );
        }
        self.sandbox
    }

    /// It was killed by this signal.
    #[track_caller]
    pub fn killed_by(self, signal: i32) -> &'a Sandbox {
        use std::os::unix::process::ExitStatusExt;
        assert_eq!(self.status.signal(), Some(signal), "{}: {}", self.status, self.stderr);
        self.sandbox
    }
}

/// `12 ms`, `3.2 s`, `14m 06s`, `2h 05m`, `14 min` as `[TIME]`, with at most two spaces before it.
pub fn without_times(text: &str) -> String {
    let mut redacted = String::with_capacity(text.len());
    let mut rest = text;
    let mut inside_word = false;
    while let Some(c) = rest.chars().next() {
        let len = if inside_word { 0 } else { time_at(rest) };
        if len > 0 {
            // In a table it is padded to the widest, which differs too.
            let text = redacted.trim_end_matches(' ').len();
            redacted.truncate(redacted.len().min(text + 2));
            redacted.push_str("[TIME]");
        } else {
            redacted.push(c);
        }
        let (passed, after) = rest.split_at(len.max(c.len_utf8()));
        inside_word = passed.ends_with(|c: char| c.is_alphanumeric() || "._-/".contains(c));
        rest = after;
    }
    redacted
}

/// Length of the duration that the text begins with, or 0.
fn time_at(text: &str) -> usize {
    let number = text.bytes().take_while(|b| b.is_ascii_digit() || *b == b'.').count();
    if number == 0 {
        return 0;
    }
    let after = &text[number..];
    let ends = |len: usize| !after[len..].starts_with(|c: char| c.is_alphanumeric());
    for unit in [" ms", " min", " s"] {
        if after.starts_with(unit) && ends(unit.len()) {
            return number + unit.len();
        }
    }
    let two = |a: u8, b: u8| {
        let bytes = after.as_bytes();
        bytes.len() >= 5
            && bytes[0] == a
            && bytes[1] == b' '
            && bytes[2..4].iter().all(u8::is_ascii_digit)
            && bytes[4] == b
    };
    if (two(b'm', b's') || two(b'h', b'm')) && ends(5) { number + 5 } else { 0 }
}
