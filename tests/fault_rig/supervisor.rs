//! A program whose system calls that change files are put before the test, one at a time, which lets them happen,
//! fails them, or kills the program at just that place.
//!
//! The program's Rust code makes raw system calls, so nothing can be put between it and the C library. The kernel can stop
//! a process at a system call and ask a supervisor (`seccomp` with user notification): no tracing, all threads and
//! children, and an ordinary user may.

use std::ffi::{CStr, OsStr};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Which program of ours it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Who {
    Build,
    /// The parent of a step's commands.
    Inside,
    /// Who ends what a killed build left, and syncs.
    Watch,
}

/// A call that is about to be made.
#[derive(Clone, Debug)]
pub struct Call {
    pub who: Who,
    pub name: &'static str,
    /// What it would change.
    pub path: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer {
    Go,
    /// It fails with this error number, and does nothing.
    Fail(i32),
    /// The whole process is killed before it does anything.
    Kill,
}

/// Where the arguments of a call say what it changes.
#[derive(Clone, Copy)]
enum Target {
    /// A path in this argument.
    Path(usize),
    /// A directory's descriptor, and a path that starts there.
    At(usize, usize),
    /// A descriptor.
    Fd(usize),
}

/// Only some values of an argument are asked about.
#[derive(Clone, Copy)]
enum Only {
    All,
    /// One of these bits is set.
    Bits(usize, u32),
    Value(usize, u32),
}

const WRITING: u32 = (libc::O_WRONLY | libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u32;

#[rustfmt::skip]
const CALLS: &[(&str, libc::c_long, Target, Only)] = &[
    ("open", libc::SYS_openat, Target::At(0, 1), Only::Bits(2, WRITING)),
    ("write", libc::SYS_write, Target::Fd(0), Only::All),
    ("write", libc::SYS_writev, Target::Fd(0), Only::All),
    ("write", libc::SYS_pwrite64, Target::Fd(0), Only::All),
    ("copy", libc::SYS_copy_file_range, Target::Fd(2), Only::All),
    ("copy", libc::SYS_sendfile, Target::Fd(0), Only::All),
    ("clone", libc::SYS_ioctl, Target::Fd(0), Only::Value(1, libc::FICLONE as u32)),
    ("truncate", libc::SYS_ftruncate, Target::Fd(0), Only::All),
    ("sync", libc::SYS_fsync, Target::Fd(0), Only::All),
    ("sync", libc::SYS_fdatasync, Target::Fd(0), Only::All),
    ("sync", libc::SYS_syncfs, Target::Fd(0), Only::All),
    ("rename", libc::SYS_renameat, Target::At(2, 3), Only::All),
    ("rename", libc::SYS_renameat2, Target::At(2, 3), Only::All),
    ("link", libc::SYS_linkat, Target::At(2, 3), Only::All),
    ("symlink", libc::SYS_symlinkat, Target::At(1, 2), Only::All),
    ("mkdir", libc::SYS_mkdirat, Target::At(0, 1), Only::All),
    ("mknod", libc::SYS_mknodat, Target::At(0, 1), Only::All),
    ("unlink", libc::SYS_unlinkat, Target::At(0, 1), Only::All),
    ("chmod", libc::SYS_fchmod, Target::Fd(0), Only::All),
    ("chmod", libc::SYS_fchmodat, Target::At(0, 1), Only::All),
    ("chmod", libc::SYS_fchmodat2, Target::At(0, 1), Only::All),
    ("utime", libc::SYS_utimensat, Target::At(0, 1), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("open", libc::SYS_open, Target::Path(0), Only::Bits(1, WRITING)),
    #[cfg(target_arch = "x86_64")]
    ("rename", libc::SYS_rename, Target::Path(1), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("link", libc::SYS_link, Target::Path(1), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("symlink", libc::SYS_symlink, Target::Path(1), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("mkdir", libc::SYS_mkdir, Target::Path(0), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("mknod", libc::SYS_mknod, Target::Path(0), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("unlink", libc::SYS_unlink, Target::Path(0), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("unlink", libc::SYS_rmdir, Target::Path(0), Only::All),
    #[cfg(target_arch = "x86_64")]
    ("chmod", libc::SYS_chmod, Target::Path(0), Only::All),
];

/// The filter: a call of the table is put before the supervisor, all others happen.
fn filter() -> Vec<libc::sock_filter> {
    // SAFETY: these only put numbers together.
    let load = |at: usize| unsafe { libc::BPF_STMT((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, at as u32) };
    let jump = |code: u32, value: u32, yes: u8, no: u8| unsafe {
        libc::BPF_JUMP((libc::BPF_JMP | code | libc::BPF_K) as u16, value, yes, no)
    };
    let give = |verdict: u32| unsafe { libc::BPF_STMT((libc::BPF_RET | libc::BPF_K) as u16, verdict) };
    // The lower half of an argument, as little endian machines have it.
    let argument = |at: usize| load(std::mem::offset_of!(libc::seccomp_data, args) + 8 * at);
    let mut program = Vec::new();
    for (_, number, _, only) in CALLS {
        let test = match *only {
            Only::All => vec![],
            Only::Bits(at, bits) => vec![argument(at), jump(libc::BPF_JSET, bits, 1, 0), give(libc::SECCOMP_RET_ALLOW)],
            Only::Value(at, value) => {
                vec![argument(at), jump(libc::BPF_JEQ, value, 1, 0), give(libc::SECCOMP_RET_ALLOW)]
            }
        };
        program.push(load(std::mem::offset_of!(libc::seccomp_data, nr)));
        program.push(jump(libc::BPF_JEQ, *number as u32, 0, test.len() as u8 + 1));
        program.extend(test);
        program.push(give(libc::SECCOMP_RET_USER_NOTIF));
    }
    program.push(give(libc::SECCOMP_RET_ALLOW));
    program
}

/// Puts the filter on this thread, and all that it starts from now on.
fn listen() -> io::Result<OwnedFd> {
    let program = filter();
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program is there for the time of the call; a descriptor that is handed out is ours.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        match libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) {
            fd if fd >= 0 => Ok(OwnedFd::from_raw_fd(fd as RawFd)),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// Runs `command` to its end. `decide` is asked about each call that the program itself makes, not about those of the
/// commands that it starts.
pub fn supervise(mut command: Command, decide: impl FnMut(&Call) -> Answer + Send + 'static) -> Output {
    let bin = PathBuf::from(command.get_program());
    let (listening, listener) = mpsc::channel();
    let child = thread::spawn(move || {
        let fd = listen().expect("the kernel lets us watch system calls");
        listening.send(fd).expect("somebody waits for it");
        command.spawn().expect("it starts")
    });
    let listener = listener.recv().expect("the thread listens");
    // It stays until the last process is gone, which may be after the end of the program itself.
    thread::spawn(move || Supervisor { listener, bin, decide }.serve());
    let mut child = child.join().expect("the thread that starts it ends");
    let read = |from: Option<_>| reader(from);
    let out = read(child.stdout.take().map(|out| Box::new(out) as Box<dyn io::Read + Send>));
    let err = read(child.stderr.take().map(|err| Box::new(err) as Box<dyn io::Read + Send>));
    let status: ExitStatus = child.wait().expect("it ends");
    let said = |from: mpsc::Receiver<Vec<u8>>| from.recv_timeout(Duration::from_secs(60)).unwrap_or_default();
    Output { status, stdout: said(out), stderr: said(err) }
}

fn reader(from: Option<Box<dyn io::Read + Send>>) -> mpsc::Receiver<Vec<u8>> {
    let (read, bytes) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        if let Some(mut from) = from {
            let _ = from.read_to_end(&mut all);
        }
        let _ = read.send(all);
    });
    bytes
}

struct Supervisor<D> {
    listener: OwnedFd,
    bin: PathBuf,
    decide: D,
}

impl<D: FnMut(&Call) -> Answer> Supervisor<D> {
    fn serve(mut self) {
        while let Some(asked) = self.next() {
            let answer = self.call(&asked).map_or(Answer::Go, |call| (self.decide)(&call));
            self.answer(&asked, answer);
        }
    }

    /// `None` when nobody is left who could ask.
    fn next(&self) -> Option<libc::seccomp_notif> {
        loop {
            let mut poll = libc::pollfd { fd: self.listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one entry, and the kernel fills what is given as zeros.
            unsafe {
                libc::poll(&raw mut poll, 1, -1);
                if poll.revents & libc::POLLIN == 0 {
                    return None;
                }
                let mut asked: libc::seccomp_notif = std::mem::zeroed();
                let fd = self.listener.as_raw_fd();
                if libc::ioctl(fd, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) == 0 {
                    return Some(asked);
                }
                // It was killed meanwhile.
            }
        }
    }

    fn answer(&self, asked: &libc::seccomp_notif, answer: Answer) {
        if answer == Answer::Kill {
            if let Some(process) = process_of(asked.pid) {
                // SAFETY: it is stopped in a call, so that the number is still its own.
                unsafe { libc::kill(process, libc::SIGKILL) };
            }
            return;
        }
        let (error, flags) = match answer {
            Answer::Fail(number) => (-number, 0),
            _ => (0, libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32),
        };
        let mut response = libc::seccomp_notif_resp { id: asked.id, val: 0, error, flags };
        // SAFETY: the response is there for the time of the call. One who was killed meanwhile gets none.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response) };
    }

    /// `None` where it is not the program's own, or not about a file.
    fn call(&self, asked: &libc::seccomp_notif) -> Option<Call> {
        let (name, _, target, _) = CALLS.iter().find(|call| call.1 == libc::c_long::from(asked.data.nr))?;
        let proc = PathBuf::from(format!("/proc/{}", asked.pid));
        if fs::read_link(proc.join("exe")).ok()? != self.bin {
            return None;
        }
        let who = match fs::read(proc.join("cmdline")).ok()?.split(|b| *b == 0).nth(1)? {
            b"__inside" => Who::Inside,
            b"__watch" => Who::Watch,
            _ => Who::Build,
        };
        let path = target_of(&proc, *target, &asked.data.args)?;
        path.is_absolute().then_some(Call { who, name, path })
    }
}

fn target_of(proc: &Path, target: Target, args: &[u64; 6]) -> Option<PathBuf> {
    let open = |fd: u64| {
        let fd = fd as i32;
        let link = if fd == libc::AT_FDCWD { proc.join("cwd") } else { proc.join("fd").join(fd.to_string()) };
        fs::read_link(link).ok()
    };
    match target {
        Target::Path(at) => Some(open(libc::AT_FDCWD as u64)?.join(string_at(proc, args[at])?)),
        Target::At(dir, at) => match string_at(proc, args[at]) {
            Some(path) if path.is_absolute() => Some(path),
            // Without a path the descriptor itself is meant.
            Some(path) if path.as_os_str().is_empty() => open(args[dir]),
            Some(path) => Some(open(args[dir])?.join(path)),
            None => open(args[dir]),
        },
        Target::Fd(at) => open(args[at]),
    }
}

fn string_at(proc: &Path, address: u64) -> Option<PathBuf> {
    let memory = File::open(proc.join("mem")).ok()?;
    let mut bytes = vec![0; 4096];
    let got = memory.read_at(&mut bytes, address).ok()?;
    let text = CStr::from_bytes_until_nul(&bytes[..got]).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.to_bytes())))
}

fn process_of(thread: u32) -> Option<i32> {
    let status = fs::read_to_string(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}
