//! A repository of git, and what is to be looked at in it.

#![allow(dead_code)] // Each test binary uses a part of it.

use bcache::base::span::{FileId, Span};
use bcache::fingerprint::env::Outside;
use bcache::fingerprint::git::{Git, GitError, Identity, Scope};
use bcache::graph::InputPattern;
use bcache::graph::pattern::Pattern;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

/// A repository, and what is kept of it between looks.
pub struct Repo {
    pub dir: tempfile::TempDir,
    pub outside: Outside,
}

pub const EMPTY: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

impl Repo {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::create_dir(dir.path().join("r")).unwrap();
        let home = dir.path().join("home").into_os_string();
        let repo = Self { dir, outside: Outside::new([("HOME".into(), home)].into_iter()) };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("r")
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    pub fn command(&self, args: &[&str]) -> Command {
        self.command_in(&self.root(), args)
    }

    pub fn command_in(&self, dir: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]);
        command.args([
            "-c",
            "commit.gpgsign=false",
            "-c",
            "gc.auto=0",
            "-c",
            "core.fsync=none",
            "-c",
            "advice.addEmbeddedRepo=false",
        ]);
        command.args(args).current_dir(dir);
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("HOME", self.dir.path().join("home"));
        command
    }

    /// Whatever comes of it.
    pub fn try_git(&self, args: &[&str]) -> bool {
        self.command(args).output().unwrap().status.success()
    }

    pub fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.root(), args)
    }

    pub fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let output = self.command_in(dir, args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What `git add -A && git write-tree` says in an index of its own.
    pub fn write_tree(&self) -> String {
        let scratch = self.dir.path().join("scratch");
        let _ = fs::remove_file(&scratch);
        if self.at(".git/index").exists() {
            fs::copy(self.at(".git/index"), &scratch).unwrap();
            // Git tells by it which entries are too young to be believed.
            let written = fs::metadata(self.at(".git/index")).unwrap().modified().unwrap();
            fs::File::options().write(true).open(&scratch).unwrap().set_modified(written).unwrap();
        }
        for args in [&["add", "-A"][..], &["write-tree"]] {
            let output = self.command(args).env("GIT_INDEX_FILE", &scratch).output().unwrap();
            assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
            if args[0] == "write-tree" {
                return String::from_utf8_lossy(&output.stdout).trim().to_owned();
            }
        }
        unreachable!()
    }

    pub fn scope(&self) -> Scope {
        Scope { dir: self.root(), paths: Vec::new(), head: false, without: Vec::new(), shown: "r".into() }
    }

    pub fn look(&self, scope: &Scope, memory: &str) -> Result<Arc<Identity>, GitError> {
        let git = Git::new(self.dir.path().join(memory), &self.outside, Vec::new());
        let identity = git.identity(scope);
        git.save().unwrap();
        identity
    }

    pub fn tree_by(&self, memory: &str) -> String {
        match self.look(&self.scope(), memory) {
            Ok(identity) => identity.tree.to_string(),
            Err(GitError::Empty { .. }) => EMPTY.to_owned(),
            Err(error) => panic!("{error}"),
        }
    }

    /// As a later process sees it that remembers all that earlier ones saw.
    pub fn tree(&self) -> String {
        self.tree_by("memory")
    }

    /// As one that sees it for the first time.
    pub fn tree_anew(&self) -> String {
        let _ = fs::remove_dir_all(self.dir.path().join("none"));
        self.tree_by("none")
    }

    pub fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.at(path);
        let _ = fs::create_dir_all(path.parent().unwrap());
        fs::write(path, text).unwrap();
    }

    pub fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    }
}

/// Both a first look and one that remembers the last see what git writes.
#[track_caller]
pub fn as_git(repo: &Repo) -> String {
    let expected = repo.write_tree();
    assert_eq!(repo.tree_anew(), expected, "first look");
    assert_eq!(repo.tree(), expected, "later look");
    expected
}

/// The tree of a part of the repository.
pub fn part(repo: &Repo, dir: &str, paths: &[&str]) -> Result<String, String> {
    part_by(repo, "memory", dir, paths, false)
}

pub fn part_by(repo: &Repo, memory: &str, dir: &str, paths: &[&str], optional: bool) -> Result<String, String> {
    let dir = repo.at(dir);
    let pattern = |text: &&str| {
        let (text, exclude) = text.strip_prefix('!').map_or((*text, false), |rest| (rest, true));
        let span = Span { file: FileId(0), start: 0, end: 0 };
        let pattern = Pattern::new(text, &dir, &dir, span).unwrap();
        InputPattern { pattern, exclude, optional }
    };
    let scope = Scope { paths: paths.iter().map(pattern).collect(), dir: dir.clone(), ..repo.scope() };
    repo.look(&scope, memory).map(|identity| identity.tree.to_string()).map_err(|error| error.to_string())
}

/// Lets git look at files that it can be sure of.
pub fn settle(repo: &Repo) {
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(10);
    for entry in fs::read_dir(repo.root()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() && !path.is_symlink() {
            fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }
    }
    std::thread::sleep(std::time::Duration::from_millis(60));
    repo.git(&["update-index", "-q", "--refresh"]);
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
