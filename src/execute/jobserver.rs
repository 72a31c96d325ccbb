//! One pool of tokens for everything that compiles at the same time: bcache as a GNU make jobserver
//! *server*.
//!
//! **The pool.** `--jobs` tokens, each a byte in a fifo of our own. We hold the fifo open for reading and
//! writing, so it never reports an end and a client may open either side without waiting.
//!
//! **Who holds what.** A step takes tokens from the pool before it starts and gives them back when it has
//! ended. With one token (the usual case) that is the *implicit* token of its make or cargo, which then
//! takes the rest of what it can use from the same pool, and gives it back job by job. So ten makes at
//! once still use just `--jobs` cores.
//!
//! **Steps with `jobs = n`.** Such a step *reserves* n cores: `{{ jobs }}` says n to programs that know no
//! jobserver. Its makes must be able to use all n and no more, so they are told a private fifo with the
//! n - 1 tokens beside the implicit one, and never see the pool. ([`Tokens::jobserver`] hands out the right one.)
//!
//! **Two styles.** Descriptors (`--jobserver-auth=R,W`: any make since 4.2, cargo) are opened anew for each
//! step, since make sets `O_NONBLOCK` on them, which belongs to the open file and would be seen by all.
//! `fifo:PATH` is for make ≥ 4.4 and ninja ≥ 1.13.
//!
//! **Lost tokens.** A make that is killed never gives back what it took. [`Jobserver::refill`] sets the pool
//! right when no step runs. Until then a build runs with fewer jobs, never with more.
//!
//! **Known limit.** A program that is still alive after its step (in a session of its own) may give tokens
//! back late, so that there are too many until the next refill.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::base::disk;

/// What lies in the fifo. make gives the same byte back that it took.
const TOKEN: u8 = b'+';

/// How a step's programs are told of the jobserver.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Style {
    /// `R,W`: two descriptors.
    Pipe,
    /// `fifo:PATH`.
    Fifo,
}

#[derive(Debug)]
pub struct Jobserver {
    path: PathBuf,
    fifo: OwnedFd,
    jobs: usize,
    /// Tokens held by steps. Locked while tokens move between us and the fifo.
    held: Mutex<usize>,
}

/// Names of fifos that this process made.
static COUNTER: AtomicU64 = AtomicU64::new(0);

impl Jobserver {
    /// A pool of `jobs` tokens (at least one), with its fifo in `dir`, which is private to this process.
    pub fn new(jobs: usize, dir: &Path) -> io::Result<Self> {
        Self::with_free(jobs.max(1), jobs.max(1), dir)
    }

    fn with_free(jobs: usize, free: usize, dir: &Path) -> io::Result<Self> {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let path = dir.join(format!("jobserver-{}-{number}", std::process::id()));
        rustix::fs::mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).map_err(|e| disk::at(&path)(e.into()))?;
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let opened = rustix::fs::open(&path, flags, Mode::empty());
        if opened.is_err() {
            // Best effort: the failure that is reported is the first one.
            let _ = std::fs::remove_file(&path);
        }
        let fifo = opened.map_err(|e| disk::at(&path)(e.into()))?;
        let server = Self { path, fifo, jobs, held: Mutex::new(0) };
        server.put(free).map_err(disk::at(&server.path))?;
        Ok(server)
    }

    /// Where a client of the fifo style opens it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of tokens in all.
    pub fn jobs(&self) -> usize {
        self.jobs
    }

    /// Takes `n` tokens (at least one, at most all there are), or none and `None` where fewer are free. The
    /// tokens of a step that waits for many may be gone for a moment: nobody else is refused for good.
    pub fn try_acquire(&self, n: usize) -> io::Result<Option<Tokens<'_>>> {
        let n = n.clamp(1, self.jobs);
        let mut held = self.lock();
        let got = self.take(n)?;
        if got < n {
            self.put(got)?;
            return Ok(None);
        }
        let private = if n == 1 {
            None
        } else {
            let dir = self.path.parent().expect("BUG: a fifo lies in a directory");
            match Self::with_free(n, n - 1, dir) {
                Ok(private) => Some(private),
                Err(e) => {
                    self.put(n)?;
                    return Err(e);
                }
            }
        };
        *held += n;
        Ok(Some(Tokens { pool: self, count: n, private }))
    }

    /// Waits until a token lies in the pool, at most so long. True if one does. (Who waits for more than one
    /// token is woken by the first.)
    pub fn wait_readable(&self, timeout: Duration) -> io::Result<bool> {
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 });
        let mut fds = [PollFd::new(&self.fifo, PollFlags::IN)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(n) => Ok(n > 0),
            Err(Errno::INTR) => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Tokens that nobody holds at this moment.
    pub fn free(&self) -> io::Result<usize> {
        Ok(usize::try_from(rustix::io::ioctl_fionread(&self.fifo)?).unwrap_or(usize::MAX))
    }

    /// Makes the pool whole again after a killed step took tokens with it. Does nothing, and says so by
    /// `false`, while a step holds tokens, since its programs may rightly hold others.
    pub fn refill(&self) -> io::Result<bool> {
        let held = self.lock();
        if *held > 0 {
            return Ok(false);
        }
        while self.take(1024)? > 0 {}
        self.put(self.jobs)?;
        Ok(true)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        self.held.lock().expect("BUG: a thread panicked while it moved tokens")
    }

    fn take(&self, most: usize) -> io::Result<usize> {
        let mut buffer = [0u8; 1024];
        let mut got = 0;
        while got < most {
            let wanted = (most - got).min(buffer.len());
            match rustix::io::read(&self.fifo, &mut buffer[..wanted]) {
                Ok(0) | Err(Errno::AGAIN) => break,
                Ok(n) => got += n,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(got)
    }

    fn put(&self, tokens: usize) -> io::Result<()> {
        let bytes = vec![TOKEN; tokens];
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.fifo, rest) {
                Ok(n) => rest = &rest[n..],
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }
}

impl Drop for Jobserver {
    fn drop(&mut self) {
        // Best effort: it lies in a temporary directory.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Tokens that a step holds; dropping gives them back.
#[derive(Debug)]
pub struct Tokens<'a> {
    pool: &'a Jobserver,
    count: usize,
    private: Option<Jobserver>,
}

impl Tokens<'_> {
    /// How many: what `{{ jobs }}` says.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The jobserver that the programs of the step are told of (see the module's text).
    pub fn jobserver(&self) -> &Jobserver {
        self.private.as_ref().unwrap_or(self.pool)
    }
}

impl Drop for Tokens<'_> {
    fn drop(&mut self) {
        let mut held = self.pool.lock();
        *held -= self.count;
        // A fifo of `jobs` bytes takes them; should it fail, `refill` mends it.
        let _ = self.pool.put(self.count);
    }
}

/// What a process needs to open a jobserver for a step: plain data, so that our helper can do it too.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Invitation {
    fifo: OsString,
    jobs: usize,
    style: Style,
}

/// A jobserver as a step's programs see it: the variables, and descriptors that must stay open until the
/// programs have started, and be inherited by them.
#[derive(Debug)]
pub struct Invited {
    pub makeflags: OsString,
    pub inherit: Vec<OwnedFd>,
}

impl Invitation {
    pub fn new(server: &Jobserver, style: Style) -> Self {
        Self { fifo: server.path.clone().into(), jobs: server.jobs, style }
    }

    /// Opens the descriptors (closed on exec; the caller passes them on). `declared` is the MAKEFLAGS of the
    /// step itself, which is kept but for what it says of jobs.
    pub fn open(&self, declared: Option<&OsStr>) -> io::Result<Invited> {
        let mut inherit = Vec::new();
        let mut auth = OsString::new();
        match self.style {
            Style::Fifo => {
                auth.push("fifo:");
                auth.push(&self.fifo);
            }
            Style::Pipe => {
                let open = |flags| rustix::fs::open(&self.fifo, flags | OFlags::CLOEXEC, Mode::empty());
                let (read, write) = (open(OFlags::RDONLY)?, open(OFlags::WRONLY)?);
                auth.push(format!("{},{}", read.as_fd().as_raw_fd(), write.as_fd().as_raw_fd()));
                inherit.extend([read, write]);
            }
        }
        Ok(Invited { makeflags: makeflags(self.jobs, &auth, declared.unwrap_or_default()), inherit })
    }
}

/// The variables that make, cargo and ninja read, put in place of those that are there. (MFLAGS is what make
/// itself would say of its own flags: one from outside speaks of another make.)
pub fn tell(env: &mut Vec<(OsString, OsString)>, makeflags: &OsStr) {
    env.retain(|(name, _)| name != "MAKEFLAGS" && name != "CARGO_MAKEFLAGS" && name != "MFLAGS");
    env.push(("MAKEFLAGS".into(), makeflags.into()));
    env.push(("CARGO_MAKEFLAGS".into(), makeflags.into()));
}

/// The form that make itself writes: single-letter flags in the first word, which may be empty, then options,
/// then variables.
fn makeflags(jobs: usize, auth: &OsStr, declared: &OsStr) -> OsString {
    let mut words = declared.as_bytes().split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).peekable();
    let letters = |word: &[u8]| word.iter().all(u8::is_ascii_alphabetic);
    let mut flags = words.next_if(|word| letters(word)).unwrap_or_default().to_vec();
    flags.extend_from_slice(format!(" -j{jobs} --jobserver-auth=").as_bytes());
    flags.extend_from_slice(auth.as_bytes());
    let ours = |word: &[u8]| word.starts_with(b"-j") || word.starts_with(b"--jobserver") || word.starts_with(b"--jobs");
    for word in words.filter(|word| !ours(word)) {
        flags.push(b' ');
        flags.extend_from_slice(word);
    }
    OsString::from_vec(flags)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(jobs: usize) -> (tempfile::TempDir, Jobserver) {
        let dir = tempfile::tempdir().unwrap();
        let server = Jobserver::new(jobs, dir.path()).unwrap();
        (dir, server)
    }

    #[test]
    fn tokens_are_taken_all_or_none_and_come_back_when_dropped() {
        let (_dir, server) = pool(3);
        let two = server.try_acquire(2).unwrap().unwrap();
        assert_eq!((two.count(), server.free().unwrap()), (2, 1));
        assert!(server.try_acquire(2).unwrap().is_none());
        assert_eq!(server.free().unwrap(), 1);
        let one = server.try_acquire(1).unwrap().unwrap();
        assert!(!server.wait_readable(Duration::ZERO).unwrap());
        drop(two);
        assert!(server.wait_readable(Duration::ZERO).unwrap());
        drop(one);
        assert_eq!(server.free().unwrap(), 3);
    }

    #[test]
    fn more_than_all_means_all() {
        let (_dir, server) = pool(2);
        assert_eq!(server.try_acquire(9).unwrap().unwrap().count(), 2);
    }

    #[test]
    fn refill_waits_for_running_steps_and_then_mends_what_was_lost_or_added() {
        let (_dir, server) = pool(4);
        let held = server.try_acquire(1).unwrap().unwrap();
        assert_eq!(server.take(2).unwrap(), 2);
        assert!(!server.refill().unwrap());
        assert_eq!(server.free().unwrap(), 1);
        drop(held);
        assert!(server.refill().unwrap());
        assert_eq!(server.free().unwrap(), 4);
        server.put(3).unwrap();
        server.refill().unwrap();
        assert_eq!(server.free().unwrap(), 4);
    }

    #[test]
    fn a_step_that_reserves_three_gives_its_makes_two_beside_the_implicit_one() {
        let (dir, server) = pool(4);
        let three = server.try_acquire(3).unwrap().unwrap();
        assert_eq!(three.jobserver().free().unwrap(), 2);
        assert_ne!(three.jobserver().path(), server.path());
        assert_eq!(server.free().unwrap(), 1);
        drop(three);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let one = server.try_acquire(1).unwrap().unwrap();
        assert_eq!(one.jobserver().path(), server.path());
    }

    #[test]
    fn descriptors_are_opened_anew_for_each_step_and_block() {
        let (_dir, server) = pool(2);
        let invitation = Invitation::new(&server, Style::Pipe);
        let (a, b) = (invitation.open(None).unwrap(), invitation.open(None).unwrap());
        assert_ne!(a.makeflags, b.makeflags);
        let flags = rustix::fs::fcntl_getfl(&a.inherit[0]).unwrap();
        assert!(!flags.contains(OFlags::NONBLOCK));
        rustix::fs::fcntl_setfl(&a.inherit[0], flags | OFlags::NONBLOCK).unwrap();
        assert!(!rustix::fs::fcntl_getfl(&b.inherit[0]).unwrap().contains(OFlags::NONBLOCK));
    }

    #[test]
    fn declared_makeflags_survive_but_for_what_they_say_of_jobs() {
        let flags = |declared: &str| {
            makeflags(4, OsStr::new("fifo:/x"), OsStr::new(declared)).into_string().expect("the test is text")
        };
        assert_eq!(flags(""), " -j4 --jobserver-auth=fifo:/x");
        assert_eq!(flags("ks -j9 --jobserver-auth=3,4 -- V=1"), "ks -j4 --jobserver-auth=fifo:/x -- V=1");
        assert_eq!(flags("V=1"), " -j4 --jobserver-auth=fifo:/x V=1");
    }

    #[test]
    fn variables_of_an_outer_make_are_replaced() {
        let mut env: Vec<(OsString, OsString)> =
            vec![("MFLAGS".into(), "-j9".into()), ("MAKEFLAGS".into(), "x".into()), ("A".into(), "1".into())];
        tell(&mut env, OsStr::new("y"));
        let names: Vec<_> = env.iter().map(|(n, v)| format!("{}={}", n.display(), v.display())).collect();
        assert_eq!(names, ["A=1", "MAKEFLAGS=y", "CARGO_MAKEFLAGS=y"]);
    }
}
