//! Reads what a child writes until it has ended.
//!
//! The end of the child is what counts, not the end of its pipes: a daemon that it left behind may hold them
//! open for ever. But what still writes when the main process has ended is often just late (a shell does not
//! wait for `>(tee log)`), so it gets [`LINGER`]; then what is in the pipes is read, and no more.

use std::io::{self, PipeReader, Read};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::super::process::Running;
use super::Log;
use crate::event::Stream;

/// How long the pipes may stay open after the main process has ended.
pub const LINGER: Duration = Duration::from_millis(300);
/// How often we look where the system can't wake us at the end of a child.
const LOOK: Duration = Duration::from_millis(10);
/// Reads of one pipe at the very end: a daemon that never stops writing must not hold us.
const LAST_READS: usize = 64;

/// The two pipes on our side.
pub struct Pipes {
    ends: [Option<PipeReader>; 2],
}

const STREAMS: [Stream; 2] = [Stream::Stdout, Stream::Stderr];

impl Pipes {
    /// Also the two ends for the child, which must be closed here once it has started.
    pub fn new() -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let (stdout, child_stdout) = io::pipe()?;
        let (stderr, child_stderr) = io::pipe()?;
        for end in [&stdout, &stderr] {
            rustix::io::ioctl_fionbio(end, true)?;
        }
        Ok((Self { ends: [Some(stdout), Some(stderr)] }, child_stdout.into(), child_stderr.into()))
    }

    /// Until the child has ended, which is not reaped.
    pub fn read_until_end(&mut self, child: &Running, log: &mut Log<'_>) -> io::Result<()> {
        let end = child.end();
        let mut buffer = vec![0; 64 << 10];
        let mut until: Option<Instant> = None;
        loop {
            if until.is_none() && child.has_ended()? {
                until = Some(Instant::now() + LINGER);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            let open = self.ends.iter().any(Option::is_some);
            if left.is_some_and(|left| left.is_zero() || !open) {
                break;
            }
            // An ended child would wake us for ever.
            let end = end.as_ref().filter(|_| left.is_none());
            let most = left.or_else(|| end.is_none().then_some(LOOK));
            self.wait(end, most)?;
            for which in 0..2 {
                self.read(which, 1, &mut buffer, log)?;
            }
        }
        for which in 0..2 {
            self.read(which, LAST_READS, &mut buffer, log)?;
        }
        Ok(())
    }

    fn wait(&self, end: Option<&OwnedFd>, most: Option<Duration>) -> io::Result<()> {
        let mut fds = Vec::with_capacity(3);
        fds.extend(self.ends.iter().flatten().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(end.map(|end| PollFd::new(end, PollFlags::IN)));
        let most =
            most.map(|most| Timespec { tv_sec: most.as_secs().cast_signed(), tv_nsec: most.subsec_nanos().into() });
        match poll(&mut fds, most.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }

    fn read(&mut self, which: usize, times: usize, buffer: &mut [u8], log: &mut Log<'_>) -> io::Result<()> {
        for _ in 0..times {
            let Some(pipe) = &mut self.ends[which] else { return Ok(()) };
            match pipe.read(buffer) {
                Ok(0) => self.ends[which] = None,
                Ok(n) => log.take(STREAMS[which], &buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}
