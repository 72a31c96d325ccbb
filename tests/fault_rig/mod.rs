//! What a fault may do to a build, and what it may not. See `faults.rs`.

#![allow(dead_code)] // Each test binary uses a part of it.

pub mod full;
pub mod kills;
pub mod kinds;
pub mod scenarios;
pub mod site;
mod supervisor;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::{Arc, Mutex};

use crate::sandbox::{Outcome, Sandbox};
use scenarios::Scenario;
pub use site::Site;
pub use supervisor::{Answer, Who, supervise};

/// What happens at a site.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Fault {
    /// The disk is full.
    Full,
    /// The disk is broken.
    Io,
    Killed,
}

pub const FAULTS: [Fault; 3] = [Fault::Full, Fault::Io, Fault::Killed];

impl Fault {
    fn answer(self) -> Answer {
        match self {
            Self::Full => Answer::Fail(libc::ENOSPC),
            Self::Io => Answer::Fail(libc::EIO),
            Self::Killed => Answer::Kill,
        }
    }
}

/// What is right: how the scenario goes where nothing fails.
pub struct Clean {
    pub outputs: Vec<String>,
    /// How often commands ran, those of the preparation too.
    runs: usize,
    /// How often each site is passed.
    pub sites: BTreeMap<Site, usize>,
}

/// One fault at one place.
#[derive(Clone, Debug)]
pub struct Drive {
    pub site: Site,
    /// Which of its passes; the first is 0.
    pub pass: usize,
    pub fault: Fault,
}

impl fmt::Display for Drive {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?} at pass {} of {}", self.fault, self.pass, self.site)
    }
}

/// How a drive ended.
#[derive(PartialEq, Eq, Debug)]
pub enum Ended {
    /// Nothing came there this time: threads take turns.
    Missed,
    /// The build went on and ended well.
    Unharmed,
    /// It said this, and ended with this code.
    Failed(i32, String),
    Killed,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Missed => f.write_str("missed"),
            Self::Unharmed => f.write_str("went on"),
            Self::Failed(code, text) => write!(f, "exit code {code}: {text}"),
            Self::Killed => f.write_str("killed"),
        }
    }
}

impl Scenario {
    pub fn clean(&self) -> Clean {
        let sandbox = (self.prepare)();
        let sites = Arc::new(Mutex::new(BTreeMap::new()));
        let seen = sites.clone();
        let root = sandbox.root().to_owned();
        let output = supervise(sandbox.command(self.command), move |call| {
            if let Some(site) = Site::of(call, &root) {
                *seen.lock().unwrap().entry(site).or_default() += 1;
            }
            Answer::Go
        });
        assert!(output.status.success(), "{}: {}", self.name, said(&output));
        let again = raw(&sandbox, self.again);
        assert!(again.said().contains("Finished"), "{}: {}", self.name, again.said());
        let sites = sites.lock().unwrap().clone();
        Clean { outputs: self.outputs_of(&sandbox), runs: runs(&sandbox), sites }
    }

    pub fn outputs_of(&self, sandbox: &Sandbox) -> Vec<String> {
        let mut all = Vec::new();
        for path in self.outputs {
            all.push(format!("== {path}"));
            // Files of a relocatable sysroot say where they lie.
            let root = sandbox.root().to_str().unwrap();
            all.extend(sandbox.tree(path).into_iter().map(|entry| entry.replace(root, "[ROOT]")));
        }
        all
    }

    /// Lets the fault happen, and looks at everything that it may not have harmed.
    pub fn drive(&self, clean: &Clean, drive: &Drive) -> Result<Ended, String> {
        let sandbox = (self.prepare)();
        let hit = Arc::new(Mutex::new(None));
        let output = supervise(sandbox.command(self.command), self.fault_at(&sandbox, drive, hit.clone()));
        let Some(at) = hit.lock().unwrap().take() else { return Ok(Ended::Missed) };
        let ended = self.judge(&sandbox, clean, drive, &at, &output)?;
        self.recover(&sandbox, clean).map_err(|e| format!("{e}\n-- after --\n{}", said(&output)))?;
        Ok(ended)
    }

    fn fault_at(
        &self,
        sandbox: &Sandbox,
        drive: &Drive,
        hit: Arc<Mutex<Option<PathBuf>>>,
    ) -> impl FnMut(&supervisor::Call) -> Answer + Send + 'static {
        let (root, drive) = (sandbox.root().to_owned(), drive.clone());
        let mut passes = 0;
        move |call| {
            if Site::of(call, &root).as_ref() != Some(&drive.site) {
                return Answer::Go;
            }
            passes += 1;
            if passes != drive.pass + 1 {
                return Answer::Go;
            }
            *hit.lock().unwrap() = Some(call.path.clone());
            drive.fault.answer()
        }
    }

    /// Was the end of the build honest?
    fn judge(
        &self,
        sandbox: &Sandbox,
        clean: &Clean,
        drive: &Drive,
        at: &Path,
        output: &Output,
    ) -> Result<Ended, String> {
        use std::os::unix::process::ExitStatusExt;
        let text = said(output);
        if drive.fault == Fault::Killed && drive.site.who == Who::Build {
            return if output.status.signal() == Some(9) {
                Ok(Ended::Killed)
            } else {
                Err(format!("not killed: {text}"))
            };
        }
        if text.contains("panicked") || text.contains("BUG:") {
            return Err(text);
        }
        match output.status.code() {
            Some(0) if self.command == self.again && self.outputs_of(sandbox) != clean.outputs => {
                Err(format!("it lies about outputs: {text}"))
            }
            Some(0) => Ok(Ended::Unharmed),
            Some(1 | 5) => {
                if drive.fault != Fault::Killed {
                    is_clear(drive, at, &text)?;
                }
                Ok(Ended::Failed(output.status.code().unwrap_or(0), first_error(&text)))
            }
            _ => Err(format!("{}: {text}", output.status)),
        }
    }

    /// Without faults all must be well again, at the price of one run.
    pub fn recover(&self, sandbox: &Sandbox, clean: &Clean) -> Result<(), String> {
        // As if it had been long ago: what is half done is swept when nobody can be at work at it any more.
        litter(sandbox).iter().for_each(|path| age(&sandbox.root().join(path)));
        let verified = raw(sandbox, "cache verify");
        if !verified.answered().ends_with(": 0 damaged\n") {
            return Err(format!("torn: {}{}", verified.answered(), verified.said()));
        }
        let again = raw(sandbox, self.again);
        if !again.said().contains("Finished") || self.outputs_of(sandbox) != clean.outputs {
            let outputs = self.outputs_of(sandbox).join("\n");
            return Err(format!(
                "the next build is wrong: {}\n{outputs}\n-- wanted --\n{}",
                again.said(),
                clean.outputs.join("\n")
            ));
        }
        let runs = runs(sandbox);
        if runs > clean.runs + 1 {
            return Err(format!("{runs} runs instead of {}: {}", clean.runs, again.said()));
        }
        let fresh = raw(sandbox, self.again);
        if !fresh.said().contains("0 restored, 0 ran") {
            return Err(format!("not fresh in the end: {}\n{}", again.said(), fresh.said()));
        }
        self.is_tidy(sandbox).map_err(|e| format!("{e}\n{}", again.said()))
    }

    fn is_tidy(&self, sandbox: &Sandbox) -> Result<(), String> {
        if litter(sandbox).is_empty() {
            return Ok(());
        }
        // A build that has nothing to do does not sweep.
        let swept = raw(sandbox, &format!("{} --force=all", self.again));
        let _ = raw(sandbox, "cache gc");
        let litter = litter(sandbox);
        if litter.is_empty() { Ok(()) } else { Err(format!("left behind: {litter:?}\n{}", swept.said())) }
    }
}

fn age(path: &Path) {
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 3600);
    if let Ok(file) = fs::File::open(path) {
        file.set_modified(long_ago).unwrap();
    }
}

/// With the end looked at by who calls.
fn raw<'a>(sandbox: &'a Sandbox, words: &str) -> Outcome<'a> {
    sandbox.run(words)
}

pub fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Does the error say where, and how much room there is?
fn is_clear(drive: &Drive, at: &Path, text: &str) -> Result<(), String> {
    if !first_error(text).contains('/') {
        return Err(format!("no path, though it was at {}: {text}", at.display()));
    }
    if drive.fault == Fault::Full && drive.site.who == Who::Build && !text.contains(" free)") {
        return Err(format!("no free space in: {text}"));
    }
    Ok(())
}

fn first_error(text: &str) -> String {
    text.lines().find(|line| line.starts_with("error")).unwrap_or(text).to_owned()
}

fn runs(sandbox: &Sandbox) -> usize {
    fs::read_to_string(sandbox.root().join("ran")).unwrap().lines().count()
}

/// What killed builds left in the state.
pub fn litter_of_state(sandbox: &Sandbox) -> BTreeSet<PathBuf> {
    litter(sandbox).into_iter().filter(|path| path.starts_with("work")).collect()
}

/// What nobody needs: halves of files, and what was ours and is put aside.
fn litter(sandbox: &Sandbox) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut open = vec![sandbox.work(), sandbox.store()];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let scratch = dir.ends_with(".bcache/tmp") || dir.ends_with("incoming") || dir.ends_with("layers/tmp");
            if name.contains(".tmp-") || scratch {
                found.insert(path.strip_prefix(sandbox.root()).unwrap().to_owned());
            } else if entry.file_type().unwrap().is_dir() {
                open.push(path);
            }
        }
    }
    found
}
