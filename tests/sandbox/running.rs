//! The program while it runs, and the gates at which its steps wait for the test.

use std::cell::RefCell;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};

use super::{Outcome, Sandbox};

/// A test that waits longer than this has failed.
const PATIENCE: Duration = Duration::from_secs(400);

pub struct Running<'a> {
    sandbox: &'a Sandbox,
    /// `None` once it was waited for.
    child: Option<Child>,
    /// What was read of stderr before it was waited for.
    said: RefCell<Vec<u8>>,
}

impl<'a> Running<'a> {
    pub(super) fn new(sandbox: &'a Sandbox, mut command: Command) -> Self {
        // A group of its own: a Ctrl-C is for the test runner or for it, never for both.
        command.process_group(0);
        let child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Self { sandbox, child: Some(child), said: RefCell::default() }
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it is running").id()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    pub fn signal(&self, signal: Signal) -> &Self {
        let pid = Pid::from_raw(self.pid() as i32).unwrap();
        kill_process(pid, signal).unwrap();
        self
    }

    /// Returns when it has said this on stderr.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Self {
        let stderr = self.child.as_ref().and_then(|child| child.stderr.as_ref()).expect("it is running");
        let mut said = self.said.borrow_mut();
        while !said.windows(text.len()).any(|w| w == text.as_bytes()) {
            let mut byte = [0];
            assert_eq!(
                rustix::io::read(stderr, &mut byte).unwrap(),
                1,
                "it said only: {}",
                String::from_utf8_lossy(&said)
            );
            said.extend(byte);
        }
        self
    }

    /// `kill -9`, and the end of it is awaited.
    #[track_caller]
    pub fn kill(self) -> &'a Sandbox {
        self.signal(Signal::KILL);
        self.wait().killed_by(9)
    }

    /// The end of it.
    #[track_caller]
    pub fn wait(mut self) -> Outcome<'a> {
        let mut child = self.child.take().expect("it is running");
        let pid = Pid::from_raw(child.id() as i32).unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (ended, end) = mpsc::channel();
        let (out, err) = (reader(stdout), reader(stderr));
        thread::spawn(move || ended.send(child.wait()));
        let Ok(status) = end.recv_timeout(PATIENCE) else {
            // It may have ended just now.
            let _ = kill_process(pid, Signal::KILL);
            panic!("it did not end; it said: {}", String::from_utf8_lossy(&err.recv().unwrap_or_default()));
        };
        // What it left behind may hold the pipes open after `kill -9`.
        let said = |from: mpsc::Receiver<Vec<u8>>| from.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
        let all_said = [self.said.take(), said(err)].concat();
        Outcome::new(self.sandbox, status.unwrap(), &said(out), &all_said)
    }
}

fn reader(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (read, bytes) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        // The test may have given up.
        let _ = read.send(all);
    });
    bytes
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // A test that failed leaves it behind.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Two FIFOs: in one a step says that it is there, from the other it reads a line to go on. Both are open
/// here all the time, so neither side's open blocks; when the test ends, a waiting step reads an end and fails.
pub struct Gate {
    arrivals: PathBuf,
    departures: PathBuf,
    arrived: File,
    opened: File,
}

impl Gate {
    pub(super) fn new(dir: &Path, name: &str) -> Self {
        let (arrivals, departures) = (dir.join(format!("{name}.in")), dir.join(format!("{name}.out")));
        let fifo = |path: &Path| {
            rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o666)).unwrap();
            let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).unwrap()
        };
        let (arrived, opened) = (fifo(&arrivals), fifo(&departures));
        Self { arrivals, departures, arrived, opened }
    }

    pub(super) fn paths(&self) -> [&Path; 2] {
        [&self.arrivals, &self.departures]
    }

    pub(super) fn command(&self) -> String {
        format!("echo >>{}; read -r _ <{}", self.arrivals.display(), self.departures.display())
    }

    #[track_caller]
    pub(super) fn wait(&self) {
        let mut fds = [PollFd::from_borrowed_fd(self.arrived.as_fd(), PollFlags::IN)];
        let patience = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        let came = poll(&mut fds, Some(&patience)).unwrap() > 0;
        assert!(came, "nobody came to the gate {}", self.arrivals.display());
        (&self.arrived).read_exact(&mut [0]).unwrap();
    }

    pub(super) fn open(&self) {
        (&self.opened).write_all(b"\n").unwrap();
    }
}
