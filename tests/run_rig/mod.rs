//! A job in a directory of its own, for the tests of running.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use bcache::execute::cancel::{Cancel, GRACE, Signals};
use bcache::execute::jobserver::{Jobserver, Style};
use bcache::execute::runner::{Ending, Finished, Job, RunError, run};
use bcache::execute::view::{Mounted, Top, View};

pub const BIN: &str = env!("CARGO_BIN_EXE_cargo-bcache");

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub cancel: Cancel,
    pub helper: PathBuf,
    pub env: Vec<(OsString, OsString)>,
    pub secrets: Vec<Vec<u8>>,
    pub timeout: Option<Duration>,
    pub measure: bool,
    pub attached: bool,
    pub view: Option<View>,
}

impl Rig {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("bcache rig ").tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        Self {
            dir,
            cancel: Cancel::new(Signals::LeftAlone, GRACE).unwrap(),
            helper: BIN.into(),
            env: vec![("PATH".into(), "/usr/bin:/bin".into())],
            secrets: Vec::new(),
            timeout: None,
            measure: false,
            attached: false,
            view: None,
        }
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    pub fn file(&self, path: &str, text: &str) -> PathBuf {
        let file = self.at(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    pub fn make_dir(&self, path: &str) -> PathBuf {
        let dir = self.at(path);
        fs::create_dir_all(&dir).unwrap();
        dir
    }

    pub fn script(&self, path: &str, text: &str) -> PathBuf {
        let file = self.file(path, text);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();
        file
    }

    /// `prefix` over these layers; with `top`, writable.
    pub fn over(&mut self, prefix: &str, layers: &[&str], top: bool) -> &mut Self {
        let top = top.then(|| Top { upper: self.make_dir("top/upper"), work: self.make_dir("top/work") });
        let mounted = Mounted {
            at: self.make_dir(prefix),
            layers: layers.iter().map(|layer| self.make_dir(layer)).collect(),
            top,
        };
        let run_dir = self.make_dir("run");
        let view = self.view.get_or_insert_with(View::default);
        view.run_dir = run_dir;
        view.prefixes.push(mounted);
        self
    }

    pub fn shell(&self, script: &str) -> Finished {
        self.commands(&[&["sh", "-eu", "-c", script]])
    }

    pub fn commands(&self, commands: &[&[&str]]) -> Finished {
        self.try_commands(commands, None).unwrap()
    }

    pub fn with_jobserver(&self, script: &str, server: &Jobserver, style: Style) -> Finished {
        self.try_commands(&[&["sh", "-eu", "-c", script]], Some((server, style))).unwrap()
    }

    pub fn try_commands(
        &self,
        commands: &[&[&str]],
        jobserver: Option<(&Jobserver, Style)>,
    ) -> Result<Finished, RunError> {
        let commands: Vec<Vec<OsString>> =
            commands.iter().map(|argv| argv.iter().map(OsString::from).collect()).collect();
        let log = self.log_path();
        let job = Job {
            commands: &commands,
            cwd: self.dir.path(),
            env: &self.env,
            view: self.view.as_ref(),
            timeout: self.timeout,
            jobserver,
            attached: self.attached,
            measure: self.measure,
            secrets: &self.secrets,
            log: &log,
            on_output: None,
            translate: None,
            helper: Some(&self.helper),
        };
        run(&job, &self.cancel)
    }

    fn log_path(&self) -> PathBuf {
        let thread = std::thread::current();
        self.at(&format!("log-{:?}", thread.id()))
    }

    /// What the last job of this thread wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Runs a script that must succeed and gives what it wrote.
    pub fn says(&self, script: &str) -> String {
        let finished = self.shell(script);
        assert_eq!(finished.ending, Ending::Success, "{}", self.log());
        self.log()
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Until a condition that another process brings about is true.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(std::time::Instant::now() < until, "still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Is there a process with this word in its arguments?
pub fn is_running(word: &str) -> bool {
    let Ok(processes) = fs::read_dir("/proc") else { panic!("no /proc") };
    processes.flatten().any(|process| {
        let status = fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        let zombie = status.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z'));
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        !zombie && line.split(|&b| b == 0).any(|argument| argument == word.as_bytes())
    })
}
