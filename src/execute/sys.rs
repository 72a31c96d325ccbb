//! The unsafe calls of this room, each with the reason why it is sound. Nothing here decides anything.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};

use rustix::process::Pid;

/// Lets the child have these descriptors under their own numbers. All others are closed on exec, and
/// children that other threads start at the same moment do not get them: the flag is cleared in the
/// child, between fork and exec. (This costs the fast `posix_spawn`.)
pub fn keep_open(command: &mut Command, fds: Vec<RawFd>) {
    let clear = move || {
        for &fd in &fds {
            // SAFETY: fcntl is async-signal-safe, and a number that is not open only gives an error.
            if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } == -1 {
                return Err(io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: the closure only calls fcntl and allocates nothing.
    unsafe { command.pre_exec(clear) };
}

/// Makes the child's process group the foreground group of the terminal before the program begins, so
/// that it can't be stopped for reading too early.
pub fn take_terminal(command: &mut Command, terminal: RawFd) {
    let take = move || {
        // SAFETY: sigemptyset, sigaddset, sigprocmask, getpid and tcsetpgrp are async-signal-safe, and the
        // set is initialized by sigemptyset before it is used.
        unsafe {
            let mut only: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut only);
            libc::sigaddset(&raw mut only, libc::SIGTTOU);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const only, &raw mut before);
            // Without success the child runs in the background, as it does without a terminal.
            libc::tcsetpgrp(terminal, libc::getpid());
            libc::sigprocmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: see above; the closure allocates nothing.
    unsafe { command.pre_exec(take) };
}

/// A copy of a descriptor that we inherited under this number, closed on exec; the original is closed too,
/// unless it is one of the standard three.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the borrow ends with this function. A number that is not open only gives an error.
    let inherited = unsafe { BorrowedFd::borrow_raw(number) };
    let copy = rustix::io::fcntl_dupfd_cloexec(inherited, 3)?;
    if number > 2 && number != copy.as_raw_fd() {
        // SAFETY: it was handed to this process for this purpose, and nothing else knows its number.
        unsafe { libc::close(number) };
    }
    Ok(copy)
}

/// Runs `f` while this thread can't be stopped for using a terminal that is not its own.
pub fn without_sigttou<T>(f: impl FnOnce() -> T) -> T {
    // SAFETY: the sets are initialized by sigemptyset and pthread_sigmask; only this thread's mask changes.
    let before = unsafe {
        let mut only: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut only);
        libc::sigaddset(&raw mut only, libc::SIGTTOU);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const only, &raw mut before);
        before
    };
    let result = f();
    // SAFETY: `before` was filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut()) };
    result
}

/// Stops this process group as Ctrl-Z would, until somebody continues it.
pub fn stop_own_group() {
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(0, libc::SIGTSTP) };
}

/// A reaped child: who, how it ended, and the bytes of the largest process among it and those that it
/// had reaped itself.
pub struct Reaped {
    pub pid: Pid,
    pub status: ExitStatus,
    pub peak: u64,
}

/// Waits for any child. `None` where there is none left, or (with `block` false) none has ended yet.
pub fn wait_any(block: bool) -> io::Result<Option<Reaped>> {
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of the type.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let flags = if block { 0 } else { libc::WNOHANG };
    loop {
        // SAFETY: both pointers are to live values of the right types.
        let pid = unsafe { libc::wait4(-1, &raw mut status, flags, &raw mut usage) };
        if let Some(pid) = Pid::from_raw(pid.max(0)) {
            // Linux counts kilobytes, macOS bytes.
            let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
            let peak = u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit;
            return Ok(Some(Reaped { pid, status: ExitStatus::from_raw(status), peak }));
        }
        if pid == 0 {
            return Ok(None);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Ok(None),
            _ => return Err(error),
        }
    }
}

/// Forks. `None` in the child. Only for the helper, which has no threads: a child of a process with
/// threads may not even allocate.
#[cfg(target_os = "linux")]
pub fn fork() -> io::Result<Option<Pid>> {
    let threads = std::fs::read_dir("/proc/self/task")?.count();
    assert!(threads == 1, "BUG: fork in a process with {threads} threads");
    // SAFETY: this is the only thread, so no lock can be held by another one in the copy.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Pid::from_raw(pid)),
    }
}

/// Leaves namespaces. Only for the helper, before it has threads.
#[cfg(target_os = "linux")]
pub fn unshare(flags: rustix::thread::UnshareFlags) -> io::Result<()> {
    // SAFETY: descriptors and the file system context stay shared with nobody: there is one thread.
    Ok(unsafe { rustix::thread::unshare_unsafe(flags) }?)
}

/// Kills every process that this one may signal, itself excepted. Only for the first process of a PID
/// namespace, where these are the step's own.
#[cfg(target_os = "linux")]
pub fn kill_all_others() {
    assert!(rustix::process::getpid().is_init(), "BUG: not the first process of a namespace");
    // SAFETY: kill takes plain numbers.
    unsafe { libc::kill(-1, libc::SIGKILL) };
}

/// Closes every descriptor but the standard three. Only for the watcher, before it has opened anything itself.
pub fn close_all_but_standard() {
    #[cfg(target_os = "linux")]
    // SAFETY: nothing in this process owns a descriptor yet but the standard three.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3 as libc::c_uint, libc::c_uint::MAX, 0 as libc::c_uint);
    }
}
