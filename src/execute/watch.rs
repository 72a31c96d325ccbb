//! Our binary as a build's watcher: `cargo-bcache __watch MARK FILE DIR…`. It lives as long as the build, and where the
//! build is killed it ends what the build has started.
//!
//! It is started with the first process of a build, in a session of its own, so that no Ctrl-C reaches it. Its
//! stdin is a pipe whose other end only the build has: a byte says that all is well (and whether it has to bring the
//! disks of the directories up to date, so that nobody waits for that), an end without one that the build was
//! killed. Then every process with the build's mark ([`super::orphans`]) is ended, and the build's file
//! in `.bcache/builds/` is removed. Where the watcher was killed too, that file tells the next build, which does
//! the same before it judges anything.

use std::ffi::OsString;
use std::io::{self, PipeWriter, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::event::{Event, Listener};
use crate::store::{BuildNote, Durable, Mark, State};

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
    /// Where the store is.
    store: &'a Path,
    /// Does the watcher sync the disks at the end?
    syncs: AtomicBool,
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
    pub fn new(state: &'a State, store: &'a Path) -> Self {
        Self { state, store, syncs: AtomicBool::new(false), starting: Mutex::new(()), begun: OnceLock::new() }
    }

    /// Leaves the last sync of the disks to the watcher. `false` where there is none.
    pub fn takes_last_sync(&self) -> bool {
        let has_watcher = self.begun.get().is_some_and(|begun| begun.watcher.is_some());
        self.syncs.store(has_watcher, Ordering::SeqCst);
        has_watcher
    }

    /// To be called before each process that could outlive us; all but the first time it does nothing.
    pub fn begin(&self) -> io::Result<()> {
        if self.begun.get().is_some() {
            return Ok(());
        }
        let _starting = self.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.begun.get().is_none() {
            let note = self.state.note_build()?;
            let watcher = start(&note, &[self.state.dir(), self.store]).ok();
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
            let _ = watcher.write_all(if self.syncs.load(Ordering::SeqCst) { SYNC } else { WELL });
        }
    }
}

fn start(note: &BuildNote, disks: &[&Path]) -> io::Result<PipeWriter> {
    let (told, tell) = io::pipe()?;
    let mut command = Command::new(PROGRAM);
    command.arg0("bcache").args([WORD, &note.mark.to_string()]).arg(note.path()).args(disks);
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
    match told() {
        Told::Well => 0,
        Told::Sync => sync(args.map(PathBuf::from)),
        Told::Nothing => clear_up(mark, note),
    }
}

const WELL: &[u8] = b".";
const SYNC: &[u8] = b"s";

/// How the build came to its end.
enum Told {
    Well,
    Sync,
    /// It was killed.
    Nothing,
}

fn told() -> Told {
    let mut stdin = io::stdin().lock();
    let mut byte = [0];
    loop {
        match stdin.read(&mut byte) {
            Ok(0) => return Told::Nothing,
            Ok(_) if byte == *SYNC => return Told::Sync,
            Ok(_) => return Told::Well,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Told::Well,
        }
    }
}

/// Nobody is there to be told of a failure; what is not on the disk after a loss of power is found missing.
fn sync(dirs: impl Iterator<Item = PathBuf>) -> u8 {
    let dirs: Vec<PathBuf> = dirs.collect();
    let synced = Durable::of(&dirs.iter().map(PathBuf::as_path).collect::<Vec<_>>()).and_then(|disks| disks.sync());
    u8::from(synced.is_err())
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
