//! Can this machine, and this user, make views at all? Found by making one.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::{Mounted, Top, View};
use crate::base::disk;
use crate::execute::cancel::{Cancel, GRACE, Signals};
use crate::execute::runner::{Ending, Job, RunError, run};

/// How steps are to get their views.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Wanted {
    /// By namespaces where there are any.
    #[default]
    Auto,
    Namespaces,
    /// Without, one step at a time.
    Exclusive,
}

/// What is wanted, and what was found when it was first needed.
pub struct Views {
    wanted: Wanted,
    dir: PathBuf,
    found: OnceLock<Availability>,
}

impl Views {
    /// `dir` is where it is tried: the answer depends on the file system.
    pub fn new(wanted: Wanted, dir: PathBuf) -> Self {
        Self { wanted, dir, found: OnceLock::new() }
    }

    /// Does a view take the prefix for itself here?
    pub fn is_exclusive(&self) -> bool {
        match self.wanted {
            Wanted::Exclusive => true,
            Wanted::Namespaces => false,
            Wanted::Auto => matches!(self.try_it(), Availability::Not(_)),
        }
    }

    /// Why it is not known whether there can be views: to go on without them would be to guess.
    pub fn trouble(&self) -> Option<&str> {
        match (self.wanted, self.found()) {
            (Wanted::Exclusive, _) | (_, None | Some(Availability::Available | Availability::Not(_))) => None,
            (_, Some(Availability::Unclear(why))) => Some(why),
        }
    }

    /// Why there can't be views as they were wanted.
    pub fn refusal(&self) -> Option<&str> {
        match self.wanted {
            Wanted::Exclusive | Wanted::Auto => None,
            Wanted::Namespaces => match self.try_it() {
                Availability::Available | Availability::Unclear(_) => None,
                Availability::Not(why) => Some(why),
            },
        }
    }

    /// What was found, if it was tried.
    pub fn found(&self) -> Option<&Availability> {
        self.found.get()
    }

    fn try_it(&self) -> &Availability {
        self.found.get_or_init(|| match Cancel::new(Signals::LeftAlone, GRACE) {
            Ok(cancel) => available(&self.dir, None, &cancel),
            Err(e) => Availability::Unclear(format!("cannot watch for signals: {e}")),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Availability {
    Available,
    /// And the reason, as a sentence without an end.
    Not(String),
    /// The trial itself failed (a full disk, no memory, somebody killed it), which says nothing of the machine.
    Unclear(String),
}

/// Makes a view in a temporary directory below `dir`, which should lie where real views will: the answer
/// depends on the file system. Costs some milliseconds: ask once.
pub fn available(dir: &Path, helper: Option<&Path>, cancel: &Cancel) -> Availability {
    if !cfg!(target_os = "linux") {
        return Availability::Not("only Linux has mount namespaces".to_owned());
    }
    match probe(dir, helper, cancel) {
        Ok(found) => found,
        Err(e) => Availability::Unclear(disk::at(dir)(e).to_string()),
    }
}

fn probe(dir: &Path, helper: Option<&Path>, cancel: &Cancel) -> io::Result<Availability> {
    std::fs::create_dir_all(dir)?;
    let dir = tempfile::Builder::new().prefix("view-").tempdir_in(dir)?;
    let below = |name: &str| -> io::Result<_> {
        let path = dir.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    let top = Top { upper: below("upper")?, work: below("work")? };
    let mounted = Mounted { at: below("prefix")?, layers: vec![below("layer")?], top: Some(top) };
    let view = View { prefixes: vec![mounted], run_dir: below("run")?, ..View::default() };
    let path: [(OsString, OsString); 0] = [];
    let job = Job {
        // The mounts are made and looked at without any command.
        commands: &[],
        cwd: dir.path(),
        env: &path,
        view: Some(&view),
        timeout: None,
        jobserver: None,
        attached: false,
        measure: false,
        secrets: &[],
        log: &dir.path().join("log"),
        on_output: None,
        translate: None,
        helper,
    };
    Ok(match run(&job, cancel) {
        Ok(finished) if finished.ending == Ending::Success => Availability::Available,
        Ok(finished) => Availability::Not(format!("the trial ended with {:?}", finished.ending)),
        Err(RunError::Helper { what, is_refused: true }) => Availability::Not(what),
        Err(e) => Availability::Unclear(e.to_string()),
    })
}
