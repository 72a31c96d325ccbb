//! The clock that file stamps come from. It moves in ticks of some milliseconds, so a file that was changed just
//! before a moment can carry the stamp of it; and it may not be the one that [`std::time`] reads.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::fstat;

use crate::base::stat::{Instant, Stat};

const NAP: Duration = Duration::from_micros(500);
/// A clock that does not move within this many naps stands still: then stamps of the moment are suspects.
const NAPS: usize = 200;

/// A file without a name, to be stamped again and again.
pub struct Clock {
    file: File,
}

impl Clock {
    /// Of the file system that `dir` lies on. `dir` is made where it is not there.
    pub fn of(dir: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        Ok(Self { file: tempfile::tempfile_in(dir)? })
    }

    /// What a file that is changed now is stamped with.
    pub fn now(&mut self) -> io::Result<Instant> {
        self.file.write_all(b".")?;
        Ok(Instant(Stat::from_raw(&fstat(&self.file)?).ctime))
    }

    /// Returns when what is changed from now on gets a later stamp than `moment`, and gives that one.
    pub fn pass(&mut self, moment: Instant) -> io::Result<Instant> {
        for _ in 0..NAPS {
            let now = self.now()?;
            if now > moment {
                return Ok(now);
            }
            std::thread::sleep(NAP);
        }
        self.now()
    }

    /// A moment such that what was changed before this call has an earlier stamp, and what is changed after it
    /// has not.
    pub fn begin(&mut self) -> io::Result<Instant> {
        let now = self.now()?;
        self.pass(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_before_a_moment_is_older_and_what_is_written_after_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let mut clock = Clock::of(dir.path()).unwrap();
        let stamp = |name: &str| {
            std::fs::write(dir.path().join(name), "").unwrap();
            Stat::read(&dir.path().join(name)).unwrap().unwrap().ctime
        };
        for _ in 0..5 {
            let before = stamp("before");
            let moment = clock.begin().unwrap();
            assert!(before < moment.0 && moment.0 <= stamp("after"));
        }
    }
}
