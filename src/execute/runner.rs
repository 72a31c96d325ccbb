//! Runs the commands of one step and says how they ended.
//!
//! | the step | is started | why |
//! |---|---|---|
//! | plain | each command by itself, by `posix_spawn` | a hundred small steps a second and more |
//! | with a jobserver of descriptors | each command by itself, by fork and exec | the descriptors are inherited by it alone |
//! | with a view, or to be measured | our own binary, which runs them ([`super::inside`]) | namespaces, and `wait4` |
//!
//! Captured (the usual case), a command has `/dev/null` as stdin, and what it writes goes to the log.
//! Attached, it has our stdin, stdout and stderr and the terminal, and nothing is logged or masked.
//!
//! When a command has ended, what is left of its process group is killed, so that nothing of it writes into
//! outputs that are being captured; an attached one may leave processes behind, as under make.
//!
//! **The environment** is exactly the one given; so `umask` is the only thing that comes from our own
//! process: `main` sets it to 022 once, and steps rely on it.
//!
//! **Known limits.** A captured step without a view that asks on `/dev/tty` is in the background of the
//! terminal, and is stopped there until its time limit or Ctrl-C.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use super::cancel::{Cancel, Why};
use super::cargo::{Built, Trust};
use super::inside::{self, Report, Spec, Told, is_filtered};
use super::jobserver::{Invitation, Invited, Jobserver, Style, tell};
use super::log::capture::Pipes;
use super::log::{Listen, Log, Translate, Written};
use super::process::{Running, Start, Stdio};
use super::program::{self, Env};
use super::terminal::{self, Terminal};
use super::view::View;
use crate::base::disk;
use crate::base::paths::escaped;
use crate::base::stat::set_mode;

/// One step's commands and all that they get.
pub struct Job<'a> {
    /// argv of each.
    pub commands: &'a [Vec<OsString>],
    /// Absolute.
    pub cwd: &'a Path,
    /// The complete environment. PATH in it is where programs are searched.
    pub env: &'a [(OsString, OsString)],
    pub view: Option<&'a View>,
    /// For all commands together.
    pub timeout: Option<Duration>,
    /// That of the step's tokens: [`super::jobserver::Tokens::jobserver`].
    pub jobserver: Option<(&'a Jobserver, Style)>,
    /// The terminal is its own.
    pub attached: bool,
    /// Record the peak memory (with a view it always is).
    pub measure: bool,
    /// Values that no log may show.
    pub secrets: &'a [Vec<u8>],
    /// The file that gets the output. Not made when there is none.
    pub log: &'a Path,
    pub on_output: Option<Listen<'a>>,
    /// What its messages mean to us and to people.
    pub translate: Option<Translate<'a>>,
    /// Our binary, where this process is another one (tests).
    pub helper: Option<&'a Path>,
}

/// How the commands ended. `command` counts from 0.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ending {
    Success,
    Code {
        command: usize,
        code: i32,
    },
    Signal {
        command: usize,
        signal: i32,
    },
    TimedOut,
    Cancelled,
    CannotStart {
        command: usize,
        error: String,
    },
    /// Somebody took the view away under the step: what it wrote went elsewhere.
    ViewLost {
        at: PathBuf,
    },
}

#[derive(Debug)]
pub struct Finished {
    pub ending: Ending,
    pub took: Duration,
    /// Bytes of the largest process, where it was measured.
    pub peak_memory: Option<u64>,
    /// What was written to stderr, bounded.
    pub stderr: Vec<u8>,
    /// The log file, if anything was written.
    pub log: Option<PathBuf>,
    /// Files of lower layers that the step removed and that its top could not say (a prefix, and a path below
    /// it); for [`super::view::layer::collect`].
    pub removed: Vec<(PathBuf, PathBuf)>,
    /// What cargo says that it built.
    pub built: Vec<Built>,
    /// What compilers said of what they have read for it.
    pub rules: Vec<PathBuf>,
    /// What its target directory is to remember.
    pub trust: Option<Trust>,
    /// What of that which its needs made was changed while it ran.
    pub astray: Option<PathBuf>,
}

/// What went wrong on our side.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("cannot write the log `{}`: {}", escaped(path), disk::said(error, path))]
    Log { path: PathBuf, error: io::Error },
    #[error("cannot open the jobserver `{}`: {}", escaped(path), disk::said(error, path))]
    Jobserver { path: PathBuf, error: io::Error },
    /// `is_refused` where the machine does not give what it needs, and will not another time.
    #[error("{what}")]
    Helper { what: String, is_refused: bool },
    #[error("{doing}: {source}")]
    Process { doing: &'static str, source: io::Error },
}

impl RunError {
    fn process(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Process { doing, source }
    }
}

/// Runs a job on this thread until it has ended.
pub fn run(job: &Job<'_>, cancel: &Cancel) -> Result<Finished, RunError> {
    let begun = Instant::now();
    let log = Log::new(job.log, job.secrets, job.on_output)
        .map_err(|error| RunError::Log { path: job.log.to_owned(), error })?
        .translated(job.translate);
    let deadline = job.timeout.and_then(|timeout| begun.checked_add(timeout));
    let mut run = Run { job, cancel, deadline, log };
    let (ending, report) = if job.view.is_some() || job.measure { run.by_helper()? } else { (run.plain()?, None) };
    let written = run.log.finish().map_err(|error| RunError::Log { path: job.log.to_owned(), error })?;
    Ok(finished(ending, begun.elapsed(), report, written))
}

fn finished(ending: Ending, took: Duration, report: Option<Report>, written: Written) -> Finished {
    let removed = report.as_ref().map(|report| report.removed.clone()).unwrap_or_default();
    Finished {
        ending,
        took,
        peak_memory: report.map(|report| report.peak).filter(|&peak| peak > 0),
        stderr: written.stderr,
        log: written.file,
        removed: removed.into_iter().map(|(at, path)| (at.into(), path.into())).collect(),
        built: Vec::new(),
        rules: Vec::new(),
        trust: None,
        astray: None,
    }
}

struct Run<'a> {
    job: &'a Job<'a>,
    cancel: &'a Cancel,
    deadline: Option<Instant>,
    log: Log<'a>,
}

/// How one child ended, and whether we told it to.
struct Ended {
    status: ExitStatus,
    why: Option<Why>,
}

impl Run<'_> {
    /// Each command is our own child.
    fn plain(&mut self) -> Result<Ending, RunError> {
        let (env, invited) = self.environment()?;
        let inherit = invited.map(|invited| invited.inherit).unwrap_or_default();
        for (command, argv) in self.job.commands.iter().enumerate() {
            if self.cancel.is_cancelled() {
                return Ok(Ending::Cancelled);
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(Ending::TimedOut);
            }
            let Some((word, args)) = argv.split_first() else {
                return Ok(Ending::CannotStart { command, error: "the command is empty".to_owned() });
            };
            let cwd = self.job.cwd;
            let cannot_start = |e: io::Error| Ending::CannotStart { command, error: program::explain(word, cwd, &e) };
            let file = match program::resolve(word, &env, cwd) {
                Ok(file) => file,
                Err(e) => return Ok(cannot_start(e)),
            };
            let child =
                Child { program: file, name: word, args, env: env.clone(), cwd, stdin: None, inherit: &inherit };
            let ended = match self.child(child, |_| Ok(()))? {
                Ok(ended) => ended,
                Err(e) => return Ok(cannot_start(e)),
            };
            let ending = ended.ending(command);
            if ending != Ending::Success {
                return Ok(ending);
            }
        }
        Ok(Ending::Success)
    }

    fn environment(&self) -> Result<(Env, Option<Invited>), RunError> {
        let mut env = self.job.env.to_vec();
        let Some((server, style)) = self.job.jobserver else { return Ok((env, None)) };
        let invited = Invitation::new(server, style)
            .open(program::value(&env, "MAKEFLAGS"))
            .map_err(|error| RunError::Jobserver { path: server.path().to_owned(), error })?;
        tell(&mut env, &invited.makeflags);
        Ok((env, Some(invited)))
    }

    /// Our binary is the child, and the commands are its children.
    fn by_helper(&mut self) -> Result<(Ending, Option<Report>), RunError> {
        if self.cancel.is_cancelled() {
            return Ok((Ending::Cancelled, None));
        }
        let (ours, theirs) = UnixStream::pair().map_err(RunError::process("cannot make a socket"))?;
        let spec = inside::SPEC.seal(&self.spec());
        let theirs = OwnedFd::from(theirs);
        // Attached, stdin is the terminal: the socket is inherited under its own number.
        let (stdin, inherit, number) = if self.job.attached {
            let number = theirs.as_raw_fd();
            (None, vec![theirs], number)
        } else {
            (Some(theirs), Vec::new(), 0)
        };
        let child = Child {
            program: self.job.helper.unwrap_or(Path::new("/proc/self/exe")).to_owned(),
            name: &OsString::from("cargo-bcache"),
            args: &[inside::WORD.into(), number.to_string().into()],
            env: Vec::new(),
            // The step's may exist in the view only.
            cwd: Path::new("/"),
            stdin,
            inherit: &inherit,
        };
        // A helper that died early is found by its missing report.
        let tell = |_: &Running| {
            let _ = (&ours).write_all(&spec);
            ours.shutdown(Shutdown::Write)
        };
        let ended = self.child(child, tell)?.map_err(RunError::process("cannot start our own binary"))?;
        drop(inherit);
        let report = read_report(&ours);
        self.tidy_tops();
        match (ended.why, report) {
            (Some(why), report) => Ok((ending_of(why), report.ok())),
            (None, Ok(Report { told: Told::Broken { what, is_refused }, .. })) => {
                Err(RunError::Helper { what, is_refused })
            }
            (None, Ok(report)) => Ok((ending_told(&report.told), Some(report))),
            (None, Err(e)) => {
                let what = format!("our helper ended without a report ({}): {e}", ended.status);
                Err(RunError::Helper { what, is_refused: ended.status.signal().is_some_and(is_filtered) })
            }
        }
    }

    fn spec(&self) -> Spec {
        Spec {
            parent: rustix::process::getpid().as_raw_nonzero().get(),
            commands: self.job.commands.to_vec(),
            cwd: self.job.cwd.into(),
            env: self.job.env.to_vec(),
            jobserver: self.job.jobserver.map(|(server, style)| Invitation::new(server, style)),
            view: self.job.view.map(View::plan),
            attached: self.job.attached,
        }
    }

    /// overlayfs leaves directories without any permission in its work directory, over which an ordinary user's
    /// removal of the tree would stumble. Best effort: they only take room.
    fn tidy_tops(&self) {
        for top in self.job.view.iter().flat_map(|view| &view.prefixes).filter_map(|prefix| prefix.top.as_ref()) {
            let left = top.work.join("work");
            for dir in [&left, &left.join("incompat"), &left.join("incompat/volatile")] {
                let _ = set_mode(dir, 0o700);
            }
            let _ = std::fs::remove_dir_all(left);
        }
    }

    /// Starts a child, calls `started`, and waits for it. The inner error is that of starting it.
    fn child(
        &mut self,
        child: Child<'_>,
        started: impl FnOnce(&Running) -> io::Result<()>,
    ) -> Result<io::Result<Ended>, RunError> {
        let terminal = if self.job.attached { Terminal::ours() } else { None };
        let (mut pipes, stdio) = if self.job.attached {
            (None, Stdio::Inherited { terminal: terminal.as_ref().map(Terminal::file) })
        } else {
            let (pipes, stdout, stderr) = Pipes::new().map_err(RunError::process("cannot make a pipe"))?;
            (Some(pipes), Stdio::Given { stdin: child.stdin, stdout, stderr })
        };
        let start = Start {
            program: child.program,
            name: child.name.clone(),
            args: child.args,
            cwd: child.cwd,
            env: child.env,
            stdio,
            inherit: child.inherit,
        };
        // Before there is a child: a Ctrl-C that kills us would leave it behind.
        self.cancel.start().map_err(RunError::process("cannot start the watchdog"))?;
        let running = match start.start() {
            Ok(running) => running,
            Err(e) => return Ok(Err(e)),
        };
        let watched =
            self.cancel.watch(running.pid(), self.deadline).map_err(RunError::process("cannot start the watchdog"))?;
        let waited = started(&running).and_then(|()| match &mut pipes {
            Some(pipes) => pipes.read_until_end(&running, &mut self.log),
            None => terminal::wait(&running, terminal.as_ref()),
        });
        waited.map_err(RunError::process("cannot wait for a command"))?;
        let why = watched.ended(!self.job.attached);
        let status = running.reap().map_err(RunError::process("cannot wait for a command"))?;
        terminal::tidy(terminal.as_ref(), status);
        Ok(Ok(Ended { status, why }))
    }
}

/// What differs between a command and our helper.
struct Child<'a> {
    program: PathBuf,
    name: &'a OsString,
    args: &'a [OsString],
    env: Env,
    cwd: &'a Path,
    stdin: Option<OwnedFd>,
    inherit: &'a [OwnedFd],
}

impl Ended {
    /// A command that was told to end did not succeed, whatever it says.
    fn ending(&self, command: usize) -> Ending {
        if let Some(why) = self.why {
            return ending_of(why);
        }
        match (self.status.code(), self.status.signal()) {
            (Some(0), _) => Ending::Success,
            (Some(code), _) => Ending::Code { command, code },
            (None, signal) => Ending::Signal { command, signal: signal.unwrap_or(0) },
        }
    }
}

fn ending_of(why: Why) -> Ending {
    match why {
        Why::Cancelled => Ending::Cancelled,
        Why::TimedOut => Ending::TimedOut,
    }
}

fn ending_told(told: &Told) -> Ending {
    match told {
        Told::Success => Ending::Success,
        &Told::Code { command, code } => Ending::Code { command, code },
        &Told::Signal { command, signal } => Ending::Signal { command, signal },
        Told::CannotStart { command, error } => Ending::CannotStart { command: *command, error: error.clone() },
        Told::ViewLost { at } => Ending::ViewLost { at: at.into() },
        Told::Broken { .. } => unreachable!("BUG: a broken helper is an error"),
    }
}

/// All that the helper wrote. It has ended, so nothing can be waited for; and should a process have kept its
/// end of the socket, that is no reason to wait either.
fn read_report(mut ours: &UnixStream) -> io::Result<Report> {
    ours.set_nonblocking(true)?;
    let mut bytes = Vec::new();
    match ours.read_to_end(&mut bytes) {
        Err(e) if e.kind() != io::ErrorKind::WouldBlock => return Err(e),
        _ => {}
    }
    inside::REPORT.open(&bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
