//! The door to duct: one child process that leads a process group of its own.
//!
//! A captured child without descriptors to inherit is started by `posix_spawn` (std's fast path), so nothing
//! here adds a `pre_exec` hook without need. A child is reaped by [`Running::reap`] alone, so that its number
//! stays its own until whoever sends signals to it knows that it has ended.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use super::sys;

/// How often a program is tried that somebody is still writing: a child that another thread forked a
/// moment ago may hold the descriptor through which we wrote it.
const BUSY_TRIES: u32 = 20;

/// A program to start.
pub struct Start<'a> {
    /// Absolute.
    pub program: PathBuf,
    /// What it sees as its name.
    pub name: OsString,
    pub args: &'a [OsString],
    pub cwd: &'a Path,
    /// All of its environment.
    pub env: Vec<(OsString, OsString)>,
    pub stdio: Stdio<'a>,
    /// Stay open in the child under their own numbers.
    pub inherit: &'a [OwnedFd],
}

pub enum Stdio<'a> {
    /// stdin (`/dev/null` where there is none), stdout, stderr.
    Given { stdin: Option<OwnedFd>, stdout: OwnedFd, stderr: OwnedFd },
    /// Ours, and the terminal that becomes the child's.
    Inherited { terminal: Option<&'a File> },
}

/// A child that has not been reaped. Dropped, it is killed with its group and reaped.
pub struct Running {
    handle: duct::Handle,
    pid: Pid,
    reaped: bool,
}

impl Start<'_> {
    pub fn start(self) -> io::Result<Running> {
        let name = self.name;
        let inherit: Vec<RawFd> = self.inherit.iter().map(AsRawFd::as_raw_fd).collect();
        let terminal = match &self.stdio {
            Stdio::Inherited { terminal } => terminal.map(AsRawFd::as_raw_fd),
            Stdio::Given { .. } => None,
        };
        let expression = duct::cmd(self.program, self.args)
            .before_spawn(move |command| {
                command.arg0(&name).process_group(0);
                if !inherit.is_empty() {
                    sys::keep_open(command, inherit.clone());
                }
                if let Some(terminal) = terminal {
                    sys::take_terminal(command, terminal);
                }
                Ok(())
            })
            .dir(self.cwd)
            .full_env(self.env)
            .unchecked();
        let expression = match self.stdio {
            Stdio::Inherited { .. } => expression,
            Stdio::Given { stdin, stdout, stderr } => {
                let expression = expression.stdout_file(stdout).stderr_file(stderr);
                match stdin {
                    Some(stdin) => expression.stdin_file(stdin),
                    None => expression.stdin_null(),
                }
            }
        };
        let handle = start_when_not_busy(&expression)?;
        let pid = handle.pids().first().and_then(|&pid| Pid::from_raw(pid.cast_signed()));
        Ok(Running { handle, pid: pid.expect("BUG: one command is one process"), reaped: false })
    }
}

fn start_when_not_busy(expression: &duct::Expression) -> io::Result<duct::Handle> {
    let mut tries = 0;
    loop {
        match expression.start() {
            Err(e) if e.kind() == io::ErrorKind::ExecutableFileBusy && tries < BUSY_TRIES => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(u64::from(tries)));
            }
            other => return other,
        }
    }
}

impl Running {
    /// Also the number of its process group.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// A descriptor that can be read from once the child has ended. `None` where the system has none.
    pub fn end(&self) -> Option<OwnedFd> {
        #[cfg(target_os = "linux")]
        return rustix::process::pidfd_open(self.pid, rustix::process::PidfdFlags::empty()).ok();
        #[cfg(not(target_os = "linux"))]
        None
    }

    pub fn has_ended(&self) -> io::Result<bool> {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        Ok(waitid(WaitId::Pid(self.pid), options)?.is_some())
    }

    /// Waits until the child has ended, without reaping it, or has been stopped (false; a stop is told once).
    pub fn wait_ended_or_stopped(&self) -> io::Result<bool> {
        loop {
            let both = WaitIdOptions::EXITED | WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(self.pid), both) {
                Ok(Some(status)) if status.stopped() => {
                    waitid(WaitId::Pid(self.pid), WaitIdOptions::STOPPED | WaitIdOptions::NOHANG)?;
                    return Ok(false);
                }
                Ok(Some(_)) => return Ok(true),
                Ok(None) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Waits for the end and frees the number.
    pub fn reap(mut self) -> io::Result<ExitStatus> {
        let status = self.handle.wait()?.status;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.handle.wait();
        }
    }
}
