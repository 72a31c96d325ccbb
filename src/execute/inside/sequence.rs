//! The commands of a step, one after another, as children of this process, which has no threads.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::io::FdFlags;
use rustix::process::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

use super::{Report, Spec, Told};
use crate::execute::log::capture::LINGER;
use crate::execute::{jobserver, program, sys};

/// Signals that ask the step to end. They reach the commands without us; here they only keep the next
/// command from starting. (Caught, not ignored: what is ignored stays so in the commands.)
pub struct Signals {
    pub came: Arc<AtomicBool>,
}

impl Signals {
    pub const ALL: [i32; 4] = [SIGINT, SIGTERM, SIGHUP, SIGQUIT];

    pub fn catch() -> io::Result<Self> {
        let came = Arc::new(AtomicBool::new(false));
        for signal in Self::ALL {
            signal_hook::flag::register(signal, Arc::clone(&came))?;
        }
        Ok(Self { came })
    }

    pub fn have_come(&self) -> bool {
        self.came.load(Ordering::SeqCst)
    }
}

/// Commands with all that must be had before the view hides anything.
pub struct Sequence<'a> {
    spec: &'a Spec,
    env: Vec<(OsString, OsString)>,
    peak: u64,
}

/// Without a view.
pub fn run(spec: &Spec, signals: &Signals) -> Report {
    match Sequence::prepare(spec) {
        Ok(mut sequence) => sequence.run(signals),
        Err(e) => Report::broken(e),
    }
}

impl<'a> Sequence<'a> {
    /// Opens the jobserver. Its descriptors are inherited by all that is started from here on.
    pub fn prepare(spec: &'a Spec) -> Result<Self, String> {
        let mut env = spec.env.clone();
        if let Some(invitation) = &spec.jobserver {
            let invited = invitation
                .open(program::value(&env, "MAKEFLAGS"))
                .map_err(|e| format!("cannot open the jobserver: {e}"))?;
            jobserver::tell(&mut env, &invited.makeflags);
            for fd in invited.inherit {
                rustix::io::fcntl_setfd(&fd, FdFlags::empty()).map_err(|e| format!("the jobserver: {e}"))?;
                // Open for the rest of our life, under the number that the variables tell.
                std::mem::forget(fd);
            }
        }
        Ok(Self { spec, env, peak: 0 })
    }

    pub fn run(&mut self, signals: &Signals) -> Report {
        let mut told = Told::Success;
        for (command, argv) in self.spec.commands.iter().enumerate() {
            if signals.have_come() {
                told = Told::Signal { command, signal: SIGTERM };
                break;
            }
            let ended = self.run_one(argv);
            told = match ended {
                Ok(status) => ending(command, status),
                Err(error) => Told::CannotStart { command, error },
            };
            if told != Told::Success {
                break;
            }
        }
        Report { peak: self.peak, ..Report::of(told) }
    }

    fn run_one(&mut self, argv: &[OsString]) -> Result<ExitStatus, String> {
        let cwd = Path::new(&self.spec.cwd);
        let (word, args) = argv.split_first().ok_or("the command is empty")?;
        let explain = |e: io::Error| program::explain(word, cwd, &e);
        let file = program::resolve(word, &self.env, cwd).map_err(explain)?;
        let mut command = Command::new(file);
        command.arg0(word).args(args).current_dir(cwd).env_clear().envs(self.env.iter().map(|(n, v)| (n, v)));
        let child = command.spawn().map_err(explain)?;
        let pid = Pid::from_child(&child);
        loop {
            match sys::wait_any(true).map_err(|e| e.to_string())? {
                None => return Err("its process was lost".to_owned()),
                Some(reaped) => {
                    self.peak = self.peak.max(reaped.peak);
                    if reaped.pid == pid {
                        return Ok(reaped.status);
                    }
                }
            }
        }
    }
}

fn ending(command: usize, status: ExitStatus) -> Told {
    match (status.code(), status.signal()) {
        (Some(0), _) => Told::Success,
        (Some(code), _) => Told::Code { command, code },
        (None, signal) => Told::Signal { command, signal: signal.unwrap_or(0) },
    }
}

/// Waits a moment for processes that the commands left behind and that are just about to end.
pub fn linger() {
    let until = Instant::now() + LINGER;
    let mut pause = Duration::from_micros(250);
    loop {
        match sys::wait_any(false) {
            Ok(Some(_)) => continue,
            // None ended: either there are none, or they still run.
            Ok(None) if has_children() && Instant::now() < until => {}
            Ok(None) | Err(_) => return,
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
}

fn has_children() -> bool {
    use rustix::process::{WaitId, WaitIdOptions, waitid};
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
    !matches!(waitid(WaitId::All, options), Err(rustix::io::Errno::CHILD))
}
