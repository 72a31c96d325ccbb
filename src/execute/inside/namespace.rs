//! The two processes of a step with a view: outer, which bcache started, and init.

use std::fs;
use std::io::{self, PipeReader};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, WaitStatus, getegid, geteuid, kill_process, kill_process_group, pidfd_open,
    waitpid,
};
use rustix::thread::UnshareFlags;

use super::sequence::{self, Sequence, Signals};
use super::{Report, Spec, Told, die_with_parent, is_filtered, send};
use crate::base::disk;
use crate::execute::sys;
use crate::execute::view::mount::{Made, mount_proc, mount_view};

/// `None` in outer when init has reported.
pub fn run(spec: Spec, socket: &UnixStream, signals: Signals) -> Option<Report> {
    let user = match leave_namespaces() {
        Ok(user) => user,
        Err((what, error)) => {
            // Where the limit of namespaces is none, there is no room for one.
            let is_refused = is_refusal(&error) || disk::is_full(&error);
            return Some(refused_if(is_refused, format_args!("{what}: {error}")));
        }
    };
    // Only now: a change of the user namespace forgets it.
    die_with_parent(spec.parent);
    let forked = io::pipe().and_then(|pipe| Ok((pipe, sys::fork()?)));
    match forked {
        Err(e) => Some(Report::broken(format_args!("cannot fork: {e}"))),
        Ok(((_, alive), Some(init))) => {
            let report = outer(init, &signals);
            drop(alive);
            report
        }
        Ok(((parent, alive), None)) => {
            drop(alive);
            let report = init(&spec, &signals, &parent, user);
            // The exit ends all that is left in the namespace.
            std::process::exit(i32::from(send(socket, &report).is_err()));
        }
    }
}

/// Says whether a user namespace was needed.
fn leave_namespaces() -> Result<bool, (String, io::Error)> {
    let ours = UnshareFlags::NEWNS | UnshareFlags::NEWPID;
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    match sys::unshare(ours) {
        Ok(()) => return Ok(false),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {}
        Err(e) => return Err(("mount and PID namespaces are refused".to_owned(), e)),
    }
    sys::unshare(ours | UnshareFlags::NEWUSER).map_err(|e| ("user namespaces are refused".to_owned(), e))?;
    let map = |file: &str, text: &str| {
        fs::write(format!("/proc/self/{file}"), text).map_err(|e| (format!("`{file}` of the user namespace"), e))
    };
    map("setgroups", "deny")?;
    map("uid_map", &format!("{uid} {uid} 1"))?;
    map("gid_map", &format!("{gid} {gid} 1"))?;
    Ok(true)
}

/// Waits for init and passes signals on to its group.
fn outer(init: Pid, signals: &Signals) -> Option<Report> {
    match wait_for(init, signals) {
        Ok(status) if status.exit_status() == Some(0) => None,
        Ok(status) => {
            let is_refused = status.terminating_signal().is_some_and(is_filtered);
            Some(refused_if(is_refused, "the first process of the namespace was killed"))
        }
        Err(e) => Some(Report::broken(format_args!("cannot wait for the namespace: {e}"))),
    }
}

fn refused_if(is_refused: bool, what: impl std::fmt::Display) -> Report {
    if is_refused { Report::refused(what) } else { Report::broken(what) }
}

fn wait_for(init: Pid, signals: &Signals) -> io::Result<WaitStatus> {
    let end = pidfd_open(init, PidfdFlags::empty())?;
    // After the fork: init has handlers of its own, and must not write into this pipe.
    let (came, writer) = io::pipe()?;
    rustix::io::ioctl_fionbio(&came, true)?;
    rustix::io::ioctl_fionbio(&writer, true)?;
    for signal in Signals::ALL {
        signal_hook::low_level::pipe::register(signal, OwnedFd::from(writer.try_clone()?))?;
    }
    if signals.have_come() {
        pass_on(init);
    }
    loop {
        let mut fds = [PollFd::new(&end, PollFlags::IN), PollFd::new(&came, PollFlags::IN)];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
        if rustix::io::read(&came, &mut [0u8; 64]).is_ok() {
            pass_on(init);
        }
        if let Some((_, status)) = waitpid(Some(init), WaitOptions::NOHANG)? {
            return Ok(status);
        }
    }
}

/// To the commands; before init leads a group, or where it stays in ours (which got the signal itself), to
/// init alone.
fn pass_on(init: Pid) {
    if kill_process_group(init, Signal::TERM).is_err() {
        let _ = kill_process(init, Signal::TERM);
    }
}

/// Does an error say what the machine does not give? Not what a disk has no room or no memory for, nor what is only too much
/// at this moment.
fn is_refusal(error: &io::Error) -> bool {
    let passing = [libc::ENOMEM, libc::EAGAIN, libc::EMFILE, libc::ENFILE, libc::EINTR];
    !disk::is_full(error)
        && !disk::is_broken(error)
        && !error.raw_os_error().is_some_and(|code| passing.contains(&code))
}

/// The life of the first process of the namespace.
fn init(spec: &Spec, signals: &Signals, parent: &PipeReader, user: bool) -> Report {
    if !spec.attached {
        // Cannot fail for a process that leads no group.
        let _ = rustix::process::setsid();
    }
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    if has_ended(parent) {
        return Report::broken("bcache has ended");
    }
    let plan = spec.view.as_ref().expect("BUG: a namespace is made for a view");
    let mut sequence = match Sequence::prepare(spec) {
        Ok(sequence) => sequence,
        Err(e) => return Report::broken(e),
    };
    let mounts = match mount_view(plan, user) {
        Ok(mounts) => mounts,
        Err(e) => return refused_if(is_refusal(e.source()), e),
    };
    mount_proc();
    let report = sequence.run(signals);
    sequence::linger();
    sys::kill_all_others();
    while let Ok(Some(_)) = sys::wait_any(true) {}
    judge(report, &mounts)
}

/// Outer died before we could ask to die with it.
fn has_ended(parent: &PipeReader) -> bool {
    let mut fds = [PollFd::new(parent, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(1..))
}

/// What the commands did counts only where the view was there to the end.
fn judge(mut report: Report, mounts: &[Made]) -> Report {
    if let Some(lost) = mounts.iter().find(|mount| !mount.is_there()) {
        report.told = Told::ViewLost { at: lost.at().as_os_str().to_owned() };
        return report;
    }
    for mount in mounts {
        match mount.save() {
            Ok(removed) => {
                let at = mount.at().as_os_str();
                report.removed.extend(removed.into_iter().map(|path| (at.to_owned(), path)));
            }
            Err(e) => {
                let at = String::from_utf8_lossy(mount.at().as_os_str().as_bytes()).into_owned();
                return Report { peak: report.peak, ..Report::broken(format_args!("saving the layer of `{at}`: {e}")) };
            }
        }
    }
    report
}
