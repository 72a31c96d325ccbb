//! Our binary as a build's watcher: `cargo-bcache __watch MARK FILE`. It lives as long as the build, and where the
//! build is killed it ends what the build has started.
//!
//! It is started with the first process of a build, in a session of its own, so that no Ctrl-C reaches it. Its
//! stdin is a pipe whose other end only the build has: a byte says that all is well, an end without one that
//! the build was killed. Then every process with the build's mark ([`super::orphans`]) is ended, and the build's file
//! in `.bcache/builds/` is removed. Where the watcher was killed too, that file tells the next build, which does
//! the same before it judges anything.

use std::ffi::OsString;
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::event::{Event, Listener};
use crate::store::{BuildNote, Mark, State};

use super::orphans::{self, Marking, PATIENCE};
use super::sys;

/// The first argument that makes our binary the watcher.
pub const WORD: &str = "__watch";

/// What it is started from: as a program's name that `killall cargo-bcache` passes over.
const PROGRAM: &str = "/proc/self/exe";

/// A build's care for its own processes, and for those of builds that were killed before. Dropped, the build has
/// come to its end, good or bad, but not by a panic.
pub struct Watch<'a> {
    state: &'a State,
    starting: Mutex<()>,
    begun: OnceLock<Begun>,
}

struct Begun {
    _marking: Marking,
    note: BuildNote,
    /// `None` where no watcher could be started: the note is there for the next build.
    watcher: Option<PipeWriter>,
}

impl<'a> Watch<'a> {
    pub fn new(state: &'a State) -> Self {
        Self { state, starting: Mutex::new(()), begun: OnceLock::new() }
    }

    /// To be called before each process that could outlive us; all but the first time it does nothing.
    pub fn begin(&self) -> io::Result<()> {
        if self.begun.get().is_some() {
            return Ok(());
        }
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.begun.get().is_none() {
            let note = self.state.note_build()?;
            let watcher = start(&note).ok();
            let begun = Begun { _marking: Marking::set(note.mark), note, watcher };
            self.begun.get_or_init(|| begun);
        }
        Ok(())
    }

    /// Ends what killed builds of this worktree left: it must not write into what is made from here on.
    pub fn end_orphans(&self, listener: &dyn Listener) -> io::Result<()> {
        for build in self.state.killed_builds()? {
            for pid in orphans::end(build.mark, PATIENCE)? {
                let text = format!("process {} of a build that was killed can't be ended", pid.as_raw_nonzero());
                listener.on(Event::Warning { text });
            }
        }
        Ok(())
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let Some(begun) = self.begun.take() else { return };
        if std::thread::panicking() {
            // What runs was given up: it is the watcher's, and after it the next build's.
            std::mem::forget(begun.note);
        } else if let Some(mut watcher) = begun.watcher {
            // Killed by somebody, it needs not be told.
            let _ = watcher.write_all(b".");
        }
    }
}

fn start(note: &BuildNote) -> io::Result<PipeWriter> {
    let (told, tell) = io::pipe()?;
    let mut command = Command::new(PROGRAM);
    command.arg0("bcache").args([WORD, &note.mark.to_string()]).arg(note.path());
    command.env_clear().current_dir("/").stdin(told).stdout(Stdio::null()).stderr(Stdio::null());
    // It ends when we do, or is told to: nobody waits for it.
    command.spawn()?;
    Ok(tell)
}

/// The watcher's whole life; called by `main`.
pub fn watch_main() -> u8 {
    let mut args = std::env::args_os().skip(2);
    let mark: Option<Mark> = args.next().and_then(|mark| mark.to_str()?.parse().ok());
    let (Some(mark), Some(note)) = (mark, args.next()) else { return 2 };
    // What our caller's caller had open is no business of ours.
    sys::close_all_but_standard();
    // Cannot fail for a process that leads no group.
    let _ = rustix::process::setsid();
    if !was_killed() {
        return 0;
    }
    clear_up(mark, note)
}

fn was_killed() -> bool {
    let mut stdin = io::stdin().lock();
    loop {
        match stdin.read(&mut [0]) {
            Ok(0) => return true,
            Ok(_) => return false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}

fn clear_up(mark: Mark, note: OsString) -> u8 {
    match orphans::end(mark, PATIENCE) {
        Ok(_) => {
            // The next build may have done it all before.
            let _ = std::fs::remove_file(note);
            0
        }
        Err(_) => 5,
    }
}
