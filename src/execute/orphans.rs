//! Processes of builds that were killed: found by a mark that they can't lose, and ended.
//!
//! **The mark** is a number that our own process sets as its soft limit of file locks (`RLIMIT_LOCKS`) before it
//! starts the first child. The kernel gave this limit up in 2.4.25, but keeps it, shows it in `/proc/PID/limits`,
//! and hands it on at each fork and exec: to what runs with an emptied environment, in a session of its own, or as
//! a daemon, and from the very moment of the fork. A variable in the environment would do less, and steps could
//! see it: what they make would hold it, and differ from build to build.
//!
//! **Numbers are never reused under us.** A process is opened before its mark is looked at for good, and it is the
//! opened one that gets the signal.
//!
//! **Known limits.** What another program starts on behalf of a step (a container's daemon) and what runs as
//! somebody else (`sudo`) is not reached. Where the system refuses the limit or is not Linux, nothing is marked.

use std::io;
use std::time::Duration;

use rustix::process::Pid;

use crate::store::Mark;

/// How long what was sent SIGKILL may take to be gone.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// Ends all processes with the mark but this one; gives those that could not be ended in time.
#[cfg(target_os = "linux")]
pub fn end(mark: Mark, patience: Duration) -> io::Result<Vec<Pid>> {
    use rustix::process::{Signal, pidfd_send_signal};
    use std::time::Instant;

    let until = Instant::now() + patience;
    let mut clean_passes = 0;
    loop {
        let found = linux::marked(mark)?;
        // One that was forked behind our back while we read the list is found when we read it again.
        clean_passes = if found.is_empty() { clean_passes + 1 } else { 0 };
        if clean_passes == 2 {
            return Ok(Vec::new());
        }
        for (_, process) in &found {
            // It may have ended by itself, or may be somebody else's by now.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        if found.iter().any(|(_, process)| !linux::ends_until(process, until)) && Instant::now() >= until {
            return Ok(found.into_iter().map(|(pid, _)| pid).collect());
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub fn end(_: Mark, _: Duration) -> io::Result<Vec<Pid>> {
    Ok(Vec::new())
}

/// While it lives, what this process starts bears the mark.
pub struct Marking {
    #[cfg(target_os = "linux")]
    before: rustix::process::Rlimit,
}

#[cfg(target_os = "linux")]
impl Marking {
    /// Has no effect where the system refuses it.
    pub fn set(mark: Mark) -> Self {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let before = getrlimit(Resource::Locks);
        let _ = setrlimit(Resource::Locks, Rlimit { current: Some(mark.number()), maximum: before.maximum });
        Self { before }
    }
}

#[cfg(target_os = "linux")]
impl Drop for Marking {
    fn drop(&mut self) {
        let _ = rustix::process::setrlimit(rustix::process::Resource::Locks, self.before);
    }
}

#[cfg(not(target_os = "linux"))]
impl Marking {
    pub fn set(_: Mark) -> Self {
        Self {}
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs;
    use std::io;
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

    use crate::store::Mark;

    /// The living processes with the mark, opened.
    pub fn marked(mark: Mark) -> io::Result<Vec<(Pid, OwnedFd)>> {
        let number = mark.number().to_string();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw) else { continue };
            if pid == getpid() || !bears(pid, &number) {
                continue;
            }
            // Ended since: it is not looked for any more.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if bears(pid, &number) && !has_ended(&process) {
                found.push((pid, process));
            }
        }
        Ok(found)
    }

    fn bears(pid: Pid, number: &str) -> bool {
        let limits = fs::read_to_string(format!("/proc/{}/limits", pid.as_raw_nonzero())).unwrap_or_default();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"));
        line.and_then(|line| line.split_whitespace().next()) == Some(number)
    }

    /// A dead process that nobody has asked about yet has ended too.
    fn has_ended(process: &OwnedFd) -> bool {
        ends_until(process, Instant::now())
    }

    pub fn ends_until(process: &OwnedFd, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        let left = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&left)), Ok(1..))
    }
}
