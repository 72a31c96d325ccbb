//! A sandbox with the fork in it that `fixtures/fork/make` makes.

#![allow(dead_code)] // Each test binary uses a part of it.

pub mod table;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use crate::sandbox::Sandbox;

const MAKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/fork/make");

pub const TASKS: &str = r#"
[bcache]
version = 1
default = "gateway"
rebuild-env = ["HARBOR_REBUILD"]
[tasks.gateway]
cargo = { workspace = "fork", package = "harbor-gateway", bin = "harbor-gateway", features = ["bundled"] }
[tasks.sandbox]
cargo = { workspace = "fork", package = "harbor-sandbox" }
"#;

/// What the unedited gateway prints.
pub const BASE: &str = r"gateway 0.3.0
banner harbor, from the fork\n
generated 1
macros 1 Gateway
core 1
level low
config limit=10,zip=on
proto open,close,ping
auth 1 lax
store 1 macros 1 Store
[wire 1]
bundled 1
telemetry none
flag none
channel fork
profile debug
";

pub const CORE: &str = "crates/harbor-core/src/lib.rs";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    Fresh,
    Restored,
    Ran,
}
use Verdict::{Fresh, Ran, Restored};

pub struct Built {
    pub verdict: Verdict,
    /// What stands behind `Stale gateway@host: `.
    pub why: String,
    pub prints: String,
}

/// A sandbox with the fork in it.
pub struct Fork {
    pub sandbox: Sandbox,
}

impl Fork {
    /// Unbuilt.
    pub fn new() -> Self {
        let fork = Self { sandbox: Sandbox::new() };
        fork.set_environment();
        fork.sandbox.tasks(TASKS);
        fork.sh(&format!("exec {MAKE} fork"));
        fork
    }

    pub fn set_environment(&self) {
        let sandbox = &self.sandbox;
        let outside = |name: &str| std::env::var_os(name).map(PathBuf::from);
        let path = outside("PATH").unwrap().into_os_string();
        let cargo = std::env::split_paths(&path).find(|dir| dir.join("cargo").is_file()).expect("cargo is on PATH");
        let path = format!("{}/bin:{}:/usr/bin:/bin", sandbox.root().display(), cargo.display());
        sandbox.env("PATH", path).env("BCACHE_JOBS", "2");
        // The toolchain is the machine's; what else cargo keeps is not.
        sandbox.env("CARGO_HOME", sandbox.root().join("cargo-home")).env("GIT_CONFIG_NOSYSTEM", "1");
        let rustup = outside("RUSTUP_HOME").or_else(|| Some(outside("HOME")?.join(".rustup")));
        if let Some(rustup) = rustup {
            sandbox.env("RUSTUP_HOME", rustup);
        }
        if let Some(toolchain) = outside("RUSTUP_TOOLCHAIN") {
            sandbox.env("RUSTUP_TOOLCHAIN", toolchain);
        }
    }

    /// The fork as every table begins with it.
    pub fn built() -> Self {
        let fork = Self::new();
        let first = fork.build();
        assert_eq!((first.verdict, &*first.prints), (Ran, BASE));
        fork.git("tag base");
        assert_eq!(fork.sh("git -C fork status --porcelain"), "", "a build leaves the tree as it is");
        fork
    }

    pub fn at(&self, path: &str) -> PathBuf {
        self.sandbox.at("fork").join(path)
    }

    pub fn file(&self, path: &str, text: &str) {
        self.sandbox.file(Path::new("fork").join(path), text);
    }

    pub fn replace(&self, path: &str, from: &str, to: &str) {
        self.sandbox.edit(&format!("fork/{path}"), from, to);
    }

    pub fn append(&self, path: &str, text: &str) {
        self.sandbox.append(&format!("fork/{path}"), text);
    }

    pub fn remove(&self, path: &str) {
        self.sandbox.remove(&format!("fork/{path}"));
    }

    pub fn mtime(&self, path: &str) -> SystemTime {
        self.at(path).metadata().unwrap().modified().unwrap()
    }

    pub fn set_mtime(&self, path: &str, time: SystemTime) {
        fs::File::options().write(true).open(self.at(path)).unwrap().set_modified(time).unwrap();
    }

    /// A command of the worktree's, with nobody's git configuration.
    pub fn sh(&self, command: &str) -> String {
        let mut shell = Command::new("sh");
        shell.args(["-euc", command]).current_dir(self.sandbox.work());
        shell.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
        for who in ["GIT_AUTHOR", "GIT_COMMITTER"] {
            shell.env(format!("{who}_NAME"), "somebody").env(format!("{who}_EMAIL"), "somebody@harbor.invalid");
        }
        let done = shell.output().unwrap();
        assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }

    pub fn git(&self, words: &str) {
        self.sh(&format!("git -C fork -c protocol.file.allow=always {words}"));
    }

    /// Edits `tasks.toml`.
    pub fn task(&self, from: &str, to: &str) {
        self.sandbox.edit("tasks.toml", from, to);
    }

    pub fn env(&self, name: &str, value: impl AsRef<OsStr>) {
        self.sandbox.env(name, value);
    }

    /// Removes what lies beside the fork.
    pub fn remove_beside(&self, path: &str) {
        self.sandbox.remove(path);
    }

    /// The gateway, as scripts get it.
    pub fn build(&self) -> Built {
        self.build_of("gateway")
    }

    #[track_caller]
    pub fn build_of(&self, task: &str) -> Built {
        let words = format!("path {task}");
        let outcome = self.sandbox.run(&words);
        let (said, answered) = (outcome.said().to_owned(), outcome.answered().to_owned());
        outcome.stdout(&answered).success();
        let verdict = match said.lines().last().and_then(|line| line.rsplit_once("]: ")).map(|(_, counts)| counts) {
            Some("1 fresh, 0 restored, 0 ran") => Fresh,
            Some("0 fresh, 1 restored, 0 ran") => Restored,
            Some("0 fresh, 0 restored, 1 ran") => Ran,
            _ => panic!("{said}"),
        };
        let stale = format!("Stale {task}@host: ");
        let why = said.lines().find_map(|line| line.trim_start().strip_prefix(&stale)).unwrap_or_default().to_owned();
        let path = answered.trim_end().replace("[ROOT]", self.sandbox.root().to_str().unwrap());
        Built { verdict, why, prints: run(&path) }
    }

    /// Everything as it was when the table began.
    pub fn undo(&self) {
        self.git("reset -q --hard");
        self.git("switch -q -f -C main base");
        self.git("clean -q -fd");
        self.sh("rm -rf fork/crates/harbor-core/notes.log fork/target");
        self.git("submodule --quiet update --force");
        self.git("-C vendor/wire clean -q -fdx");
        let generated = "crates/harbor-gateway/src/generated.rs";
        if fs::read_to_string(self.at(generated)).unwrap_or_default() != "\"generated 1\"\n" {
            generate(self, "1");
        }
        for name in SET {
            self.sandbox.unset(name);
        }
        self.sandbox.tasks(TASKS);
    }
}

/// Variables that rows set.
pub const SET: [&str; 5] =
    ["RUSTFLAGS", "RUSTC", "RUSTC_WRAPPER", "CARGO_PROFILE_DEV_DEBUG_ASSERTIONS", "CARGO_ENCODED_RUSTFLAGS"];

pub fn run(program: &str) -> String {
    let done = Command::new(program).env_clear().output().unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(done.status.success(), "{program}: {}", done.status);
    String::from_utf8(done.stdout).unwrap()
}

pub fn relink(at: &Path, text: &str) {
    fs::remove_file(at).unwrap();
    symlink(text, at).unwrap();
}

/// What the gateway includes and git ignores.
pub fn generate(fork: &Fork, text: &str) {
    fork.sh(&format!("fork/scripts/generate {text}"));
}

/// A script in the place of the compiler, or around it.
pub fn compiler(fork: &Fork, variable: &str, script: &str) {
    fork.sandbox.tool("our-rustc", script).env(variable, fork.sandbox.root().join("bin/our-rustc"));
}

pub const BANNER: (&str, &str) = (r"banner harbor, from the fork\n", r"banner other\n");

pub fn with(lines: &[(&str, &str)]) -> String {
    lines.iter().fold(BASE.to_owned(), |text, (old, new)| text.replace(old, new))
}

#[track_caller]
pub fn expect(built: Built, verdict: Verdict, prints: &str) {
    assert_eq!((built.verdict, &*built.prints), (verdict, prints), "{}", built.why);
}

/// Another `git worktree`, with a workspace of its own.
pub fn second_worktree(fork: &Fork) -> Fork {
    let second = Fork { sandbox: fork.sandbox.worktree("the second") };
    second.sandbox.tasks(TASKS);
    fork.git(&format!("worktree add -q --detach '{}'", second.at("").display()));
    second.git("submodule --quiet update --init");
    generate(&second, "1");
    second
}
