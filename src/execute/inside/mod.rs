//! Our own binary as the parent of a step's commands: `cargo-bcache __inside FD`.
//!
//! It is started for a step with a view, and for one whose peak memory is to be measured. What to do comes
//! as a [`Spec`] through a socket (descriptor `FD`), never through arguments (they have limits) or a file
//! (secrets are in it); how it went goes back as a [`Report`].
//!
//! ```text
//! bcache ── socket ── outer ── fork ── init (PID 1 of the namespace) ── commands, one after another
//! ```
//!
//! * *outer* leaves the mount and PID namespace (as an ordinary user also the user namespace, where it stays
//!   who it is), forks init, and passes signals on to it. It leads the process group that bcache knows.
//! * *init* makes the mounts, runs the commands, reaps whatever is orphaned, kills what is left, checks that
//!   the mounts are still in place, and reports.
//!
//! **Nothing outlives bcache**: outer is killed when the thread that started it dies, init when outer dies,
//! and with init the kernel ends its whole namespace. A parent that died before it could be watched is found
//! by its number (outer) or by the end of a pipe (init).
//!
//! A step without a view has no namespace: outer runs the commands itself, and measures.
//!
//! Captured, init leads a session of its own, so that its processes see sensible numbers for their group;
//! attached, it stays in the group that has the terminal.

#[cfg(target_os = "linux")]
mod namespace;
mod sequence;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;

use serde::{Deserialize, Serialize};

use super::jobserver::Invitation;
use super::view::Plan;
use crate::base::sealed::Format;

/// The first argument that makes our binary the helper.
pub const WORD: &str = "__inside";

/// Makes the helper mount as before Linux 6.8, so that tests can see that it works.
pub const CLASSIC: &str = "classic";

pub const SPEC: Format = Format { magic: b"bc-spec\n", version: 2 };
pub const REPORT: Format = Format { magic: b"bc-told\n", version: 3 };

/// What the helper is to do. Paths are [`OsString`]s, since serde refuses paths that are not UTF-8.
#[derive(Debug, Serialize, Deserialize)]
pub struct Spec {
    /// Who started it.
    pub parent: i32,
    pub commands: Vec<Vec<OsString>>,
    pub cwd: OsString,
    pub env: Vec<(OsString, OsString)>,
    pub jobserver: Option<Invitation>,
    pub view: Option<Plan>,
    pub attached: bool,
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    pub told: Told,
    /// Bytes of the largest process.
    pub peak: u64,
    /// Files of lower layers that the step removed, by number of the mount, where the top could not say so.
    pub removed: Vec<(OsString, OsString)>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Told {
    Success,
    Code {
        command: usize,
        code: i32,
    },
    Signal {
        command: usize,
        signal: i32,
    },
    CannotStart {
        command: usize,
        error: String,
    },
    /// The mount over this prefix is gone.
    ViewLost {
        at: OsString,
    },
    /// The helper could not do its own part.
    Broken {
        what: String,
        /// Since the machine does not give what it needs, now or later.
        is_refused: bool,
    },
}

impl Report {
    fn of(told: Told) -> Self {
        Self { told, peak: 0, removed: Vec::new() }
    }

    /// By a disk, for want of memory, by who killed it: the next time it may go well.
    fn broken(what: impl std::fmt::Display) -> Self {
        Self::of(Told::Broken { what: what.to_string(), is_refused: false })
    }

    fn refused(what: impl std::fmt::Display) -> Self {
        Self::of(Told::Broken { what: what.to_string(), is_refused: true })
    }
}

/// Is it by this signal that a filter of system calls ends who makes a forbidden one?
pub fn is_filtered(signal: i32) -> bool {
    signal == libc::SIGSYS
}

/// The helper's whole life; called by `main`. The exit code says nothing: the report does.
pub fn inside_main() -> u8 {
    let Some(socket) = socket() else { return 2 };
    let socket = match socket {
        Ok(socket) => socket,
        Err(_) => return 5,
    };
    let report = match read_spec(&socket) {
        Err(e) => Some(Report::broken(e)),
        Ok(mut spec) => {
            // A third argument, which only tests give: mount as on older systems.
            let classic = std::env::args_os().nth(3).is_some_and(|word| word == CLASSIC);
            if let Some(view) = &mut spec.view {
                view.classic |= classic;
            }
            run(spec, &socket)
        }
    };
    match report {
        None => 0,
        Some(report) => u8::from(send(&socket, &report).is_err()) * 5,
    }
}

/// From the argument. As stdin it leaves `/dev/null` in its place: the commands inherit that.
fn socket() -> Option<io::Result<UnixStream>> {
    let number: i32 = std::env::args().nth(2)?.parse().ok()?;
    Some(take_over(number))
}

fn take_over(number: i32) -> io::Result<UnixStream> {
    let socket = super::sys::duplicate(number)?;
    if number == 0 {
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
    }
    Ok(UnixStream::from(socket))
}

fn read_spec(mut socket: &UnixStream) -> Result<Spec, String> {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).map_err(|e| format!("cannot read what to do: {e}"))?;
    SPEC.open(&bytes).map_err(|e| format!("cannot read what to do: {e}"))
}

fn send(mut socket: &UnixStream, report: &Report) -> io::Result<()> {
    socket.write_all(&REPORT.seal(report))
}

/// `None` where another process reports.
fn run(spec: Spec, socket: &UnixStream) -> Option<Report> {
    let signals = match sequence::Signals::catch() {
        Ok(signals) => signals,
        Err(e) => return Some(Report::broken(format_args!("cannot catch signals: {e}"))),
    };
    if spec.view.is_none() {
        die_with_parent(spec.parent);
        return Some(sequence::run(&spec, &signals));
    }
    #[cfg(target_os = "linux")]
    return namespace::run(spec, socket, signals);
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Some(Report::refused("views need Linux"))
    }
}

/// From now on; and at once where the parent died before.
fn die_with_parent(parent: i32) {
    #[cfg(target_os = "linux")]
    {
        // Cannot fail for a signal that exists.
        let _ = rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
    }
    if rustix::process::Pid::as_raw(rustix::process::getppid()) != parent {
        std::process::exit(0);
    }
}
