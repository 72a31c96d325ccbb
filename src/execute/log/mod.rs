//! What a step's commands write: read from two pipes, masked, cut into lines, kept within bounds.
//!
//! stdout and stderr are read as they come, on the thread of the step (no reader threads). Secrets are
//! masked per stream. Then each stream is cut into lines, and whole lines go to three places in the order in
//! which they arrived: the log file, the separate memory of stderr, and the listener of `--verbose`. A line
//! without an end is passed on when it grows over [`LONGEST_LINE`], or at the end.
//!
//! **Bounds.** The log file keeps its first and last [`LOG_KEPT`] bytes, with a line between that says how
//! much was cut, so a command that writes a gigabyte fills neither memory nor disk; stderr the same with
//! [`STDERR_KEPT`] in all. The last part of a log that is cut is in memory until the step ends.
//!
//! **The file** comes into being with the first byte: a step that wrote nothing has no log file (the one of
//! an earlier run is removed). Where it can't be written, the step's output is still read to its end, and
//! the error is reported when the step has ended.

pub mod bounded;
pub mod capture;
pub mod mask;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::base::publish::open_in_place;
use crate::event::Stream;

use bounded::Bounded;
use mask::Mask;

/// Bytes kept of the beginning of a log, and again of its end.
pub const LOG_KEPT: usize = 8 << 20;
/// Bytes kept of what a step wrote to stderr.
pub const STDERR_KEPT: usize = 64 << 10;
/// A line that is longer is passed on in pieces.
const LONGEST_LINE: usize = 64 << 10;
/// The same for messages, which are of no use in pieces.
const LONGEST_MESSAGE: usize = 16 << 20;

/// Is called with whole lines.
pub type Listen<'a> = &'a (dyn Fn(Stream, &[u8]) + Sync);

/// Is given whole lines, and says what is to be kept in the place of one, and as which stream: `None` keeps it as it is.
pub type Translate<'a> = &'a (dyn Fn(Stream, &[u8]) -> Option<(Stream, Vec<u8>)> + Sync);

pub struct Log<'a> {
    streams: [Lines; 2],
    sinks: Sinks<'a>,
}

/// One stream on its way: masked, and what of it is no whole line yet.
struct Lines {
    stream: Stream,
    mask: Mask,
    partial: Vec<u8>,
}

struct Sinks<'a> {
    path: &'a Path,
    file: Option<File>,
    kept: Bounded,
    stderr: Bounded,
    listen: Option<Listen<'a>>,
    translate: Option<Translate<'a>>,
    failed: Option<io::Error>,
}

/// What is left of a log when the step has ended.
#[derive(Debug)]
pub struct Written {
    /// What went to stderr, bounded.
    pub stderr: Vec<u8>,
    /// The log file, if anything was written.
    pub file: Option<PathBuf>,
}

impl<'a> Log<'a> {
    pub fn new(path: &'a Path, secrets: &[Vec<u8>], listen: Option<Listen<'a>>) -> io::Result<Self> {
        Self::with_bounds(path, secrets, listen, LOG_KEPT, STDERR_KEPT)
    }

    fn with_bounds(
        path: &'a Path,
        secrets: &[Vec<u8>],
        listen: Option<Listen<'a>>,
        log: usize,
        stderr: usize,
    ) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let lines = |stream| Lines { stream, mask: Mask::new(secrets), partial: Vec::new() };
        Ok(Self {
            streams: [lines(Stream::Stdout), lines(Stream::Stderr)],
            sinks: Sinks {
                path,
                file: None,
                kept: Bounded::new(log, log),
                stderr: Bounded::new(stderr / 2, stderr / 2),
                listen,
                translate: None,
                failed: None,
            },
        })
    }

    /// The same, in other words.
    pub fn translated(mut self, translate: Option<Translate<'a>>) -> Self {
        self.sinks.translate = translate;
        self
    }

    /// A piece as it was read.
    pub fn take(&mut self, stream: Stream, bytes: &[u8]) {
        let lines = &mut self.streams[stream as usize];
        lines.mask.feed(bytes, &mut lines.partial);
        let whole = match lines.partial.iter().rposition(|&b| b == b'\n') {
            Some(at) => at + 1,
            None if lines.partial.len() > self.sinks.longest_line() => lines.partial.len(),
            None => return,
        };
        self.sinks.pass(lines.stream, &lines.partial[..whole]);
        lines.partial.drain(..whole);
    }

    /// The end of both streams: passes on what was held back and completes the file.
    pub fn finish(mut self) -> io::Result<Written> {
        for lines in &mut self.streams {
            lines.mask.finish(&mut lines.partial);
            if !lines.partial.is_empty() {
                self.sinks.pass(lines.stream, &lines.partial);
            }
        }
        self.sinks.finish()
    }
}

impl Sinks<'_> {
    /// What is to be understood must be whole.
    fn longest_line(&self) -> usize {
        if self.translate.is_some() { LONGEST_MESSAGE } else { LONGEST_LINE }
    }

    fn pass(&mut self, stream: Stream, bytes: &[u8]) {
        let Some(translate) = self.translate else { return self.keep(stream, bytes) };
        for line in bytes.split_inclusive(|&b| b == b'\n') {
            match translate(stream, line) {
                None => self.keep(stream, line),
                Some((_, text)) if text.is_empty() => {}
                Some((stream, text)) => self.keep(stream, &text),
            }
        }
    }

    fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        if let Some(listen) = self.listen {
            listen(stream, bytes);
        }
        if stream == Stream::Stderr {
            let head = self.stderr.push(bytes);
            self.stderr.keep_head(head);
        }
        let head = self.kept.push(bytes);
        self.write(head);
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.failed.is_some() || bytes.is_empty() {
            return;
        }
        if let Err(e) = self.try_write(bytes) {
            self.failed = Some(e);
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = match self.file.take() {
            Some(file) => file,
            None => create(self.path)?,
        };
        file.write_all(bytes)?;
        self.file = Some(file);
        Ok(())
    }

    fn finish(mut self) -> io::Result<Written> {
        let tail = self.kept.take_tail();
        self.write(&tail);
        match self.failed {
            Some(e) => Err(e),
            None => Ok(Written { stderr: self.stderr.into_bytes(), file: self.file.map(|_| self.path.to_owned()) }),
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    let file = open_in_place(path)?;
    file.set_len(0)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn lines_stay_whole_when_the_streams_alternate() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/step");
        let heard = Mutex::new(Vec::new());
        let listen = |stream: Stream, bytes: &[u8]| heard.lock().unwrap().push((stream, bytes.to_vec()));
        let mut log = Log::new(&path, &[], Some(&listen)).unwrap();
        log.take(Stream::Stdout, b"checking for x... ");
        log.take(Stream::Stderr, b"warning\n");
        log.take(Stream::Stdout, b"no\nend");
        let written = log.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"warning\nchecking for x... no\nend");
        assert_eq!(written.stderr, b"warning\n");
        assert_eq!(heard.lock().unwrap().len(), 3);
    }

    #[test]
    fn a_secret_is_masked_in_the_file_in_stderr_and_for_the_listener_across_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let heard = Mutex::new(Vec::new());
        let listen = |_: Stream, bytes: &[u8]| heard.lock().unwrap().extend_from_slice(bytes);
        let mut log = Log::new(&path, &[b"hunter2".to_vec()], Some(&listen)).unwrap();
        log.take(Stream::Stderr, b"password hun");
        log.take(Stream::Stderr, b"ter2 is wrong\n");
        let written = log.finish().unwrap();
        let expected = b"password *** is wrong\n";
        assert_eq!(std::fs::read(&path).unwrap(), expected);
        assert_eq!(written.stderr, expected);
        assert_eq!(*heard.lock().unwrap(), expected);
    }

    #[test]
    fn a_step_that_writes_nothing_has_no_log_file_and_loses_its_old_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "old").unwrap();
        let written = Log::new(&path, &[], None).unwrap().finish().unwrap();
        assert_eq!(written.file, None);
        assert!(!path.exists());
    }

    #[test]
    fn a_long_log_keeps_its_beginning_and_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut log = Log::with_bounds(&path, &[], None, 20, 40).unwrap();
        for i in 0..1000 {
            log.take(Stream::Stderr, format!("line {i}\n").as_bytes());
        }
        let written = log.finish().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "line 0\nline 1\nline 2\n[… 8851 bytes cut …]\nline 998\nline 999\n");
        assert_eq!(String::from_utf8(written.stderr).unwrap(), text);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_an_error_at_the_end_and_no_earlier() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let path = dir.path().join("file/log");
        let mut log = match Log::new(&path, &[], None) {
            Ok(log) => log,
            Err(e) => return assert_eq!(e.kind(), io::ErrorKind::NotADirectory),
        };
        log.take(Stream::Stdout, b"x\n");
        assert!(log.finish().is_err());
    }
}
