//! What comes into the store and goes, as the kernel tells it: in order, and nothing is missed.

use std::collections::HashSet;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};

#[derive(Default)]
pub struct Stored {
    pub came: usize,
    pub went: usize,
    /// Keys whose results came while they were there.
    pub twice: Vec<String>,
    there: HashSet<String>,
}

pub struct Watch {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Stored>,
}

impl Watch {
    /// Of directories that are empty yet.
    pub fn of(dirs: &[impl AsRef<Path>]) -> Self {
        let inotify = inotify::init(CreateFlags::NONBLOCK).unwrap();
        for dir in dirs {
            inotify::add_watch(&inotify, dir.as_ref(), WatchFlags::MOVED_TO | WatchFlags::DELETE).unwrap();
        }
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        Self { is_over, thread: std::thread::spawn(move || listen(&inotify, &over)) }
    }

    /// All that has come until now.
    pub fn end(self) -> Stored {
        self.is_over.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

fn listen(inotify: &OwnedFd, is_over: &AtomicBool) -> Stored {
    let mut stored = Stored::default();
    let mut buffer = vec![MaybeUninit::uninit(); 64 << 10];
    let mut reader = Reader::new(inotify, &mut buffer);
    loop {
        // Asked before it is looked for more: what came before the end is read.
        let was_over = is_over.load(Ordering::SeqCst);
        match reader.next() {
            Ok(event) => stored.take(event.events(), event.file_name()),
            Err(rustix::io::Errno::AGAIN) if was_over => return stored,
            Err(rustix::io::Errno::AGAIN) => std::thread::sleep(Duration::from_millis(2)),
            Err(e) => panic!("the kernel tells nothing: {e}"),
        }
    }
}

impl Stored {
    fn take(&mut self, what: ReadFlags, name: Option<&CStr>) {
        assert!(!what.contains(ReadFlags::QUEUE_OVERFLOW), "the kernel has told more than was heard");
        let Some(name) = name.and_then(|name| name.to_str().ok()).filter(|name| name.len() == 64) else { return };
        if what.contains(ReadFlags::MOVED_TO) {
            self.came += 1;
            if !self.there.insert(name.to_owned()) {
                self.twice.push(name.to_owned());
            }
        } else if self.there.remove(name) {
            self.went += 1;
        }
    }
}
