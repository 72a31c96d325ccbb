//! Ends what runs: on Ctrl-C, SIGTERM and SIGHUP, on request, and when a time limit is over.
//!
//! Each running child is registered with its process group and, if it has one, its deadline. One watchdog
//! thread, started with the first child, serves them all: it sleeps until a signal, a request or the next
//! deadline. A group that is to end gets SIGTERM (and SIGCONT, should it be stopped), and SIGKILL when the
//! grace time is over. A second Ctrl-C kills all groups at once; where no group is left to be killed, it
//! ends this process as if we had not caught it.
//!
//! SIGTERM is what groups get for Ctrl-C too: a shell without a terminal starts its background jobs with
//! SIGINT ignored.
//!
//! **Signals are caught from just before the first child on.** Until then there is nothing to end: a process that is
//! only judging and restoring may be killed at any point, and dies as its caller expects.
//!
//! **Numbers are never reused under us.** A registered child is unregistered, under the lock that all
//! signals are sent under, before it is reaped: until then its number belongs to it, dead or alive.
//!
//! **Known limit.** A process that left the group (a daemon) is not reached; steps with a view end it with
//! their PID namespace.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Between SIGTERM and SIGKILL, where nothing else is said.
pub const GRACE: Duration = Duration::from_secs(3);

/// What signal-hook's handler writes into the pipe, and what we write to wake the watchdog.
const SIGNALLED: u8 = b'X';
const WAKE: u8 = b'w';

/// Whether signals to this process are caught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Signals {
    Caught,
    /// For tests and for callers who have handlers of their own.
    LeftAlone,
}

/// Why a group was told to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    Cancelled,
    TimedOut,
}

/// See the module's text. Shared by reference; dropping it ends the watchdog.
pub struct Cancel {
    shared: Arc<Shared>,
    signals: Signals,
    watchdog: OnceLock<()>,
}

struct Shared {
    grace: Duration,
    cancelled: AtomicBool,
    state: Mutex<State>,
    wake_reader: io::PipeReader,
    wake_writer: io::PipeWriter,
}

#[derive(Default)]
struct State {
    next: u64,
    groups: BTreeMap<u64, Group>,
    /// Signals and requests so far.
    asked: u32,
    /// Called once, when it is first asked.
    listeners: Vec<Box<dyn FnOnce() + Send>>,
    quit: bool,
}

struct Group {
    leader: Pid,
    deadline: Option<Instant>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Running,
    Asked { why: Why, kill_at: Instant },
    Killed { why: Why },
}

impl Cancel {
    pub fn new(signals: Signals, grace: Duration) -> io::Result<Self> {
        let (wake_reader, wake_writer) = io::pipe()?;
        // A handler must never wait for room in the pipe.
        rustix::io::ioctl_fionbio(&wake_writer, true)?;
        rustix::io::ioctl_fionbio(&wake_reader, true)?;
        let shared =
            Shared { grace, cancelled: AtomicBool::new(false), state: Mutex::default(), wake_reader, wake_writer };
        Ok(Self { shared: Arc::new(shared), signals, watchdog: OnceLock::new() })
    }

    /// True from the first signal or request on: nothing new is started.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::SeqCst)
    }

    /// As the first Ctrl-C would: what runs is asked to end; a second call kills.
    pub fn request(&self) {
        self.shared.ask();
    }

    /// Calls `f` when it is cancelled, once, on whatever thread notices; at once where it is already.
    pub fn when_cancelled(&self, f: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        if state.asked == 0 {
            state.listeners.push(Box::new(f));
        } else {
            drop(state);
            f();
        }
    }

    /// Catches signals and starts the watchdog, if that has not been done: [`Cancel::watch`] does it too.
    pub fn start(&self) -> io::Result<()> {
        if self.watchdog.get().is_some() {
            return Ok(());
        }
        // Under the lock, so that two first steps do not start two watchdogs.
        let _state = self.shared.lock();
        if self.watchdog.get().is_some() {
            return Ok(());
        }
        if self.signals == Signals::Caught {
            for signal in [SIGINT, SIGTERM, SIGHUP] {
                let pipe: OwnedFd = self.shared.wake_writer.try_clone()?.into();
                signal_hook::low_level::pipe::register(signal, pipe)?;
            }
        }
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(move || shared.watch())?;
        self.watchdog.get_or_init(|| ());
        Ok(())
    }

    /// Registers a child that leads its own process group, right after it was started. Until the guard is
    /// told that it ended, the child must not be reaped.
    pub fn watch(&self, leader: Pid, deadline: Option<Instant>) -> io::Result<Watched<'_>> {
        self.start()?;
        let mut state = self.shared.lock();
        let mut group = Group { leader, deadline, fate: Fate::Running };
        match state.asked {
            0 => {}
            1 => group.ask(Why::Cancelled, self.shared.grace),
            _ => group.kill(Why::Cancelled),
        }
        let wake = deadline.is_some() || group.fate != Fate::Running;
        let id = state.next;
        state.next += 1;
        state.groups.insert(id, group);
        drop(state);
        if wake {
            self.shared.wake();
        }
        Ok(Watched { shared: &self.shared, id })
    }
}

impl Drop for Cancel {
    fn drop(&mut self) {
        self.shared.lock().quit = true;
        self.shared.wake();
    }
}

/// A registered child. Dropped before the child is reaped.
pub struct Watched<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Watched<'_> {
    /// The child has ended and is not reaped yet: no signal goes to it from now on. Says whether it was told
    /// to end. With `rest`, what is left of its process group is killed.
    pub fn ended(self, rest: bool) -> Option<Why> {
        let mut state = self.shared.lock();
        let group = state.groups.remove(&self.id).expect("BUG: a watched group is registered");
        if rest {
            // Nobody may be left.
            let _ = kill_process_group(group.leader, Signal::KILL);
        }
        drop(state);
        match group.fate {
            Fate::Running => None,
            Fate::Asked { why, .. } | Fate::Killed { why } => Some(why),
        }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.shared.lock().groups.remove(&self.id);
    }
}

impl Group {
    fn ask(&mut self, why: Why, grace: Duration) {
        if self.fate == Fate::Running {
            self.fate = Fate::Asked { why, kill_at: Instant::now() + grace };
            // It may have ended already: that is what is wanted.
            let _ = kill_process_group(self.leader, Signal::TERM);
            let _ = kill_process_group(self.leader, Signal::CONT);
        }
    }

    fn kill(&mut self, why: Why) {
        let why = match self.fate {
            Fate::Running => why,
            Fate::Asked { why, .. } | Fate::Killed { why } => why,
        };
        self.fate = Fate::Killed { why };
        let _ = kill_process_group(self.leader, Signal::KILL);
    }

    /// Does what is due, and says when to look again.
    fn tick(&mut self, now: Instant, grace: Duration) -> Option<Instant> {
        if self.fate == Fate::Running && self.deadline.is_some_and(|deadline| deadline <= now) {
            self.ask(Why::TimedOut, grace);
        }
        if let Fate::Asked { why, kill_at } = self.fate
            && kill_at <= now
        {
            self.kill(why);
        }
        match self.fate {
            Fate::Running => self.deadline,
            Fate::Asked { kill_at, .. } => Some(kill_at),
            Fate::Killed { .. } => None,
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("BUG: a thread panicked while it held the list of running groups")
    }

    fn wake(&self) {
        // A full pipe wakes as well.
        let _ = (&self.wake_writer).write(&[WAKE]);
    }

    fn ask(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        let mut state = self.lock();
        state.asked = state.asked.saturating_add(1);
        let first = state.asked == 1;
        for group in state.groups.values_mut() {
            if first { group.ask(Why::Cancelled, self.grace) } else { group.kill(Why::Cancelled) }
        }
        let listeners = std::mem::take(&mut state.listeners);
        drop(state);
        self.wake();
        for listener in listeners {
            listener();
        }
    }

    /// A signal that came although all has been done that can be: the process ends by it.
    fn has_nothing_left_to_kill(&self) -> bool {
        let state = self.lock();
        let dying = |group: &Group| matches!(group.fate, Fate::Killed { .. });
        state.asked >= 1 && state.groups.values().all(dying)
    }

    /// The life of the watchdog.
    fn watch(&self) {
        loop {
            let next = {
                let mut state = self.lock();
                if state.quit {
                    return;
                }
                let now = Instant::now();
                state.groups.values_mut().filter_map(|group| group.tick(now, self.grace)).min()
            };
            self.sleep(next);
            let mut bytes = [0u8; 64];
            while let Ok(n @ 1..) = (&self.wake_reader).read(&mut bytes) {
                for _ in bytes[..n].iter().filter(|&&byte| byte == SIGNALLED) {
                    if self.has_nothing_left_to_kill() {
                        // Cannot fail for a signal whose default is to end the process.
                        let _ = signal_hook::low_level::emulate_default_handler(SIGINT);
                    }
                    self.ask();
                }
            }
        }
    }

    fn sleep(&self, until: Option<Instant>) {
        let timeout = until.map(|until| {
            let left = until.saturating_duration_since(Instant::now());
            Timespec::try_from(left).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
        });
        let mut fds = [PollFd::new(&self.wake_reader, PollFlags::IN)];
        // An interrupted wait is a short one.
        let _ = poll(&mut fds, timeout.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    /// Returns when the shell has begun with the script; its traps are set by then if they are its first line.
    fn group(script: &str) -> (Child, Pid) {
        let script = script.replacen('\n', "\necho ready\n", 1);
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", &script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let pid = Pid::from_child(&child);
        if script.contains("ready") {
            child.stdout.as_mut().unwrap().read_exact(&mut [0; 6]).unwrap();
        }
        (child, pid)
    }

    /// Until it has ended, without reaping.
    fn ended(pid: Pid) {
        use rustix::process::{WaitId, WaitIdOptions, waitid};
        waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
    }

    #[test]
    fn a_group_over_its_deadline_is_asked_to_end() {
        let cancel = Cancel::new(Signals::LeftAlone, GRACE).unwrap();
        let (mut child, pid) = group("sleep 100");
        let watched = cancel.watch(pid, Some(Instant::now() + Duration::from_millis(20))).unwrap();
        ended(pid);
        assert_eq!(watched.ended(true), Some(Why::TimedOut));
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGTERM));
        assert!(!cancel.is_cancelled());
    }

    #[test]
    fn a_group_that_ignores_the_request_is_killed_after_the_grace_time() {
        let cancel = Cancel::new(Signals::LeftAlone, Duration::from_millis(20)).unwrap();
        let (mut child, pid) = group("trap '' TERM\nwhile :; do sleep 100; done");
        let watched = cancel.watch(pid, None).unwrap();
        cancel.request();
        ended(pid);
        assert_eq!(watched.ended(true), Some(Why::Cancelled));
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn a_second_request_kills_at_once() {
        let cancel = Cancel::new(Signals::LeftAlone, Duration::from_secs(1000)).unwrap();
        let (mut child, pid) = group("trap '' TERM\nwhile :; do sleep 100; done");
        let watched = cancel.watch(pid, None).unwrap();
        cancel.request();
        cancel.request();
        ended(pid);
        assert_eq!(watched.ended(true), Some(Why::Cancelled));
        assert!(child.wait().unwrap().signal().is_some());
    }

    #[test]
    fn what_starts_after_the_request_is_asked_as_well() {
        let cancel = Cancel::new(Signals::LeftAlone, GRACE).unwrap();
        cancel.request();
        let (mut child, pid) = group("sleep 100");
        let watched = cancel.watch(pid, None).unwrap();
        ended(pid);
        assert_eq!(watched.ended(true), Some(Why::Cancelled));
        child.wait().unwrap();
    }

    #[test]
    fn a_group_that_ends_by_itself_was_not_told_to() {
        let cancel = Cancel::new(Signals::LeftAlone, GRACE).unwrap();
        let (mut child, pid) = group("exit 3");
        let watched = cancel.watch(pid, Some(Instant::now() + Duration::from_secs(1000))).unwrap();
        ended(pid);
        assert_eq!(watched.ended(true), None);
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn listeners_hear_of_it_once_early_or_late() {
        let cancel = Cancel::new(Signals::LeftAlone, GRACE).unwrap();
        let heard = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let listener = || {
            let heard = Arc::clone(&heard);
            move || {
                heard.fetch_add(1, Ordering::SeqCst);
            }
        };
        cancel.when_cancelled(listener());
        cancel.request();
        cancel.request();
        cancel.when_cancelled(listener());
        assert_eq!(heard.load(Ordering::SeqCst), 2);
    }
}
