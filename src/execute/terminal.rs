//! Lending the terminal to an attached step, as a shell does with a foreground job.
//!
//! The child's process group becomes the foreground group, so Ctrl-C and Ctrl-Z go to it alone, and it may
//! read. When it ends, the terminal comes back to us; when it was killed by a signal, with the modes that it
//! had before. When it is stopped (Ctrl-Z), we take the terminal back and stop ourselves, with whoever
//! started us in our group; continued, we lend it again.
//!
//! Without a controlling terminal, or in the background, there is nothing to lend: the child just inherits
//! stdin, stdout and stderr.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, getpgrp, kill_process_group};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetpgrp, tcsetattr, tcsetpgrp};

use super::process::Running;
use super::sys;
use crate::event::Stream;

/// Passes what a step has written on, to where it would have gone itself.
pub fn relay(stream: Stream, bytes: &[u8]) {
    // Nobody may be listening any more: no reason to end the step.
    let _ = match stream {
        Stream::Stdout => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Stderr => io::stderr().write_all(bytes),
    };
}

/// The controlling terminal, while our group is the one in its foreground.
pub struct Terminal {
    file: File,
    modes: Option<Termios>,
    ours: Pid,
}

impl Terminal {
    pub fn ours() -> Option<Self> {
        let file = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let ours = getpgrp();
        (tcgetpgrp(&file).ok()? == ours).then(|| Self { modes: tcgetattr(&file).ok(), file, ours })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    fn give(&self, group: Pid) {
        // Where it fails the child runs in the background: no reason to end it.
        let _ = sys::without_sigttou(|| tcsetpgrp(&self.file, group));
    }

    fn take_back(&self) {
        self.give(self.ours);
    }

    fn restore_modes(&self) {
        if let Some(modes) = &self.modes {
            let _ = sys::without_sigttou(|| tcsetattr(&self.file, OptionalActions::Drain, modes));
        }
    }
}

/// Waits until an attached child has ended (it is not reaped), stopping when it is stopped.
pub fn wait(child: &Running, terminal: Option<&Terminal>) -> io::Result<()> {
    while !child.wait_ended_or_stopped()? {
        let Some(terminal) = terminal else { continue };
        terminal.take_back();
        sys::stop_own_group();
        terminal.give(child.pid());
        let _ = kill_process_group(child.pid(), Signal::CONT);
    }
    if let Some(terminal) = terminal {
        terminal.take_back();
    }
    Ok(())
}

/// After the child was reaped.
pub fn tidy(terminal: Option<&Terminal>, status: ExitStatus) {
    if let Some(terminal) = terminal
        && status.signal().is_some()
    {
        terminal.restore_modes();
    }
}
