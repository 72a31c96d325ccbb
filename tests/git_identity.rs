//! The identity of a working copy beside what git itself makes of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bcache::base::span::{FileId, Span};
use bcache::fingerprint::env::Outside;
use bcache::fingerprint::git::{Git, GitError, Identity, Scope, working_copy};
use bcache::graph::InputPattern;
use bcache::graph::pattern::Pattern;

/// A repository, and what is kept of it between looks.
struct Repo {
    dir: tempfile::TempDir,
    outside: Outside,
}

const EMPTY: &str = "4b825dc642cb6eb9a060e54bf8d69288fbee4904";

impl Repo {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("home")).unwrap();
        fs::create_dir(dir.path().join("r")).unwrap();
        let home = dir.path().join("home").into_os_string();
        let repo = Self { dir, outside: Outside::new([("HOME".into(), home)].into_iter()) };
        repo.git(&["init", "-q", "-b", "main"]);
        repo
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("r")
    }

    fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    fn command(&self, args: &[&str]) -> Command {
        self.command_in(&self.root(), args)
    }

    fn command_in(&self, dir: &Path, args: &[&str]) -> Command {
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
    fn try_git(&self, args: &[&str]) -> bool {
        self.command(args).output().unwrap().status.success()
    }

    fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.root(), args)
    }

    fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let output = self.command_in(dir, args).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// What `git add -A && git write-tree` says in an index of its own.
    fn write_tree(&self) -> String {
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

    fn scope(&self) -> Scope {
        Scope { dir: self.root(), paths: Vec::new(), head: false, without: Vec::new(), shown: "r".into() }
    }

    fn look(&self, scope: &Scope, memory: &str) -> Result<Arc<Identity>, GitError> {
        let git = Git::new(self.dir.path().join(memory), &self.outside, Vec::new());
        let identity = git.identity(scope);
        git.save().unwrap();
        identity
    }

    fn tree_by(&self, memory: &str) -> String {
        match self.look(&self.scope(), memory) {
            Ok(identity) => identity.tree.to_string(),
            Err(GitError::Empty { .. }) => EMPTY.to_owned(),
            Err(error) => panic!("{error}"),
        }
    }

    /// As a later process sees it that remembers all that earlier ones saw.
    fn tree(&self) -> String {
        self.tree_by("memory")
    }

    /// As one that sees it for the first time.
    fn tree_anew(&self) -> String {
        let _ = fs::remove_dir_all(self.dir.path().join("none"));
        self.tree_by("none")
    }

    fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
        let path = self.at(path);
        let _ = fs::create_dir_all(path.parent().unwrap());
        fs::write(path, text).unwrap();
    }

    fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
    }
}

/// Numbers that are the same for the same seed.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one<'t, T: ?Sized>(&mut self, of: &[&'t T]) -> &'t T {
        of[self.below(of.len())]
    }
}

const NAMES: &[&[u8]] = &[
    b"a",
    b"A",
    b"b",
    b"a.c",
    b"a-b",
    b"a0",
    b"lib",
    b"lib.rs",
    b"x.o",
    b"two words",
    b"new\nline",
    b"caf\xe9",
    b"tab\there",
    b"#h",
    b"!n",
    b"end ",
    b"back\\slash",
    b"[q]",
    b"{a,b}",
    b"\xc3\xbc",
    b"build",
    b"-r",
    b"*",
];

const LINES: &[&str] = &[
    "*.o",
    "/a",
    "a/",
    "build/",
    "!x.o",
    "lib/*",
    "!lib/lib.rs",
    "**/b",
    "a/**",
    "**",
    "!**/",
    "*",
    "!.gitignore",
    "/lib/**/a",
    "[a-b]",
    "[!a]*",
    "two\\ words",
    "two words  ",
    "end\\ ",
    "\\#h",
    "\\!n",
    "!a",
    "{a,b}",
    "caf?",
    "a?c",
    "a*",
    "*c",
    "lib",
    "/build",
    "lib/",
    "a/a",
    "**/lib/a",
    "a/**/b",
    "[[:upper:]]",
    "*[",
    "back\\\\slash",
    "!/lib/",
    "!build/a",
    "\\[q\\]",
    "",
    "# a",
    "new*",
    "a.c\r",
    "***",
    "a**",
    "/a**",
    "lib/a**",
    "!*/",
    "?",
    "/*",
];

fn some_path(random: &mut Random) -> PathBuf {
    let mut path = PathBuf::new();
    for _ in 0..=random.below(3) {
        path.push(OsStr::from_bytes(random.one(NAMES)));
    }
    path
}

fn some_existing(random: &mut Random, repo: &Repo) -> PathBuf {
    let mut at = repo.root();
    loop {
        let mut names: Vec<_> = fs::read_dir(&at).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.retain(|name| name != ".git");
        names.sort();
        if names.is_empty() {
            return at;
        }
        at.push(&names[random.below(names.len())]);
        if !at.is_dir() || at.is_symlink() || random.below(4) == 0 {
            return at;
        }
    }
}

fn remove(path: &Path) {
    if path.is_dir() && !path.is_symlink() {
        let _ = fs::remove_dir_all(path);
    } else {
        let _ = fs::remove_file(path);
    }
}

/// One change of the files, or of what git knows of them.
fn edit(random: &mut Random, repo: &Repo) {
    let path = repo.at(some_path(random));
    let existing = some_existing(random, repo);
    let text = random.one(&[&b"one"[..], b"two", b"", b"a longer text\n", b"crlf\r\n"]);
    match random.below(23) {
        0..=5 => {
            let _ = fs::create_dir_all(path.parent().unwrap());
            let _ = fs::write(&path, text);
        }
        6 | 7 if existing.is_file() && !existing.is_symlink() => fs::write(&existing, text).unwrap(),
        8 if existing != repo.root() => remove(&existing),
        9 if existing != repo.root() => {
            let _ = fs::create_dir_all(path.parent().unwrap());
            let _ = fs::rename(&existing, &path);
        }
        10 => {
            let _ = fs::create_dir_all(path.parent().unwrap());
            let _ = symlink(random.one(&["a", "../lib", "nowhere", "."]), &path);
        }
        11 if existing.is_file() && !existing.is_symlink() => {
            let mode = random.one(&[&0o755, &0o644, &0o654, &0o744]);
            fs::set_permissions(&existing, fs::Permissions::from_mode(*mode)).unwrap();
        }
        12 | 13 => {
            let lines: Vec<&str> = (0..random.below(4)).map(|_| random.one(LINES)).collect();
            let dir = if existing.is_dir() && !existing.is_symlink() { existing } else { repo.root() };
            let _ = fs::write(dir.join(".gitignore"), lines.join("\n"));
        }
        14 => {
            let _ = fs::create_dir_all(&path);
        }
        15 if existing != repo.root() => {
            // A file becomes a directory, a directory a file.
            let was_dir = existing.is_dir() && !existing.is_symlink();
            remove(&existing);
            if was_dir {
                fs::write(&existing, text).unwrap();
            } else {
                fs::create_dir(&existing).unwrap();
                fs::write(existing.join("in"), text).unwrap();
            }
        }
        16 => drop(repo.try_git(&["add", "-A"])),
        17 => {
            let name = existing.strip_prefix(repo.root()).unwrap().as_os_str();
            let force = random.one(&["-f", "-N"]);
            let _ = repo.command(&["add", force, "--"]).arg(Path::new(".").join(name)).output();
        }
        18 => {
            let name = existing.strip_prefix(repo.root()).unwrap().as_os_str();
            let _ = repo.command(&["rm", "-q", "--cached", "-r", "--"]).arg(Path::new(".").join(name)).output();
        }
        19 => drop(repo.try_git(&["commit", "-q", "-a", "-m", "x"])),
        20 => {
            let other = random.one(&["main", "other"]);
            if !repo.try_git(&["checkout", "-q", other]) {
                repo.try_git(&["checkout", "-q", "-b", other]);
            }
        }
        21 => {
            let args: &[&[&str]] = &[
                &["update-index", "--index-version", "4"],
                &["update-index", "--index-version", "2"],
                &["update-index", "--split-index"],
                &["update-index", "--no-split-index"],
                &["reset", "-q", "--hard"],
                &["stash", "-q", "-u"],
                &["stash", "pop", "-q"],
                &["merge", "-q", "other"],
            ];
            repo.try_git(args[random.below(args.len())]);
        }
        22 => {
            // From here on git can be sure of what it sees.
            std::thread::sleep(std::time::Duration::from_millis(25));
            repo.try_git(&["update-index", "-q", "--refresh"]);
            repo.try_git(&["update-index", "--force-write-index"]);
        }
        _ => {}
    }
}

/// Trees that are compared. `BCACHE_TEST_TREES` says another number.
fn trees() -> usize {
    std::env::var("BCACHE_TEST_TREES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

fn compare(seed: u64, count: usize) -> usize {
    let mut random = Random(seed);
    let mut compared = 0;
    while compared < count {
        let repo = Repo::new();
        let info = repo.at(".git/info");
        let _ = fs::create_dir_all(&info);
        fs::write(info.join("exclude"), random.one(&["", "*.o\n", "/build\n", "A\n"])).unwrap();
        for step in 0..40 {
            for _ in 0..=random.below(4) {
                edit(&mut random, &repo);
            }
            let (expected, seen, anew) = (repo.write_tree(), repo.tree(), repo.tree_anew());
            let places = || format!("seed {seed}, step {step}, {}", repo.root().display());
            if seen != expected || anew != expected {
                let kept = repo.root();
                let at = places();
                std::mem::forget(repo);
                panic!("{at}: git {expected}, ours {seen}, ours anew {anew}; kept in {}", kept.display());
            }
            compared += 1;
        }
    }
    compared
}

#[test]
fn random_trees_and_edits_have_the_trees_that_git_writes() {
    let seed = std::env::var("BCACHE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("BCACHE_TEST_SEED={seed}");
    let half = trees().div_ceil(2);
    let compared: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = [seed, !seed].into_iter().map(|seed| scope.spawn(move || compare(seed, half))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    println!("{compared} trees compared");
    assert!(compared >= trees());
}

/// Changes of which git has another opinion than we.
fn odd_edit(random: &mut Random, repo: &Repo) {
    let existing = some_existing(random, repo);
    let inside = existing.strip_prefix(repo.root()).unwrap().to_owned();
    let is_dir = existing.is_dir() && !existing.is_symlink();
    match random.below(7) {
        0 if is_dir && existing != repo.root() => {
            repo.git_in(&existing, &["init", "-q", "-b", "main"]);
        }
        1 if is_dir => {
            // In whatever repository the directory is.
            let _ = repo.command_in(&existing, &["add", "-A"]).output();
            let _ = repo.command_in(&existing, &["commit", "-q", "-m", "inner"]).output();
        }
        2 if existing != repo.root() => remove(&existing.join(".git")),
        3 => {
            let how = random.one(&["--assume-unchanged", "--skip-worktree", "--no-assume-unchanged"]);
            let _ = repo.command(&["update-index", how, "--"]).arg(inside).output();
        }
        4 => {
            let line = random.one(&["* text=auto\n", "*.c eol=crlf\n", "lib/* ident\n", "[attr]x text\n*.o x\n", ""]);
            let dir = if is_dir { existing } else { repo.root() };
            let _ = fs::write(dir.join(".gitattributes"), line);
        }
        5 => {
            // Another edit may have put something else in the place of its directory.
            let _ = fs::write(repo.at(".git/info/exclude"), random.one(&["", "*.o\n", "lib\n"]));
        }
        _ => edit(random, repo),
    }
}

fn consistent(seed: u64, count: usize) -> usize {
    let mut random = Random(seed);
    let mut compared = 0;
    while compared < count {
        let repo = Repo::new();
        fs::create_dir_all(repo.at("lib")).unwrap();
        for step in 0..30 {
            for _ in 0..=random.below(3) {
                if random.below(2) == 0 { odd_edit(&mut random, &repo) } else { edit(&mut random, &repo) }
            }
            for (dir, paths) in
                [(".", &[][..]), (".", &["lib/", "a*", "!**/x.o"]), ("lib", &[]), (".", &["**/*.c", "b"])]
            {
                let scope = |memory| {
                    part_by(&repo, memory, dir, paths, true).map_err(|error| error.split('`').next().map(str::to_owned))
                };
                let _ = fs::remove_dir_all(repo.dir.path().join("none"));
                let (later, first) = (scope("memory"), scope("none"));
                if later != first {
                    let kept = repo.root();
                    std::mem::forget(repo);
                    panic!("seed {seed}, step {step}, {dir} {paths:?}: {later:?}, anew {first:?}; {}", kept.display());
                }
                compared += 1;
            }
        }
    }
    compared
}

#[test]
fn random_edits_look_the_same_to_who_remembers_and_to_who_does_not() {
    let seed = std::env::var("BCACHE_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64);
    println!("BCACHE_TEST_SEED={seed}");
    println!("{} trees compared", consistent(seed, trees()));
}

/// Both a first look and one that remembers the last see what git writes.
#[track_caller]
fn as_git(repo: &Repo) -> String {
    let expected = repo.write_tree();
    assert_eq!(repo.tree_anew(), expected, "first look");
    assert_eq!(repo.tree(), expected, "later look");
    expected
}

/// The tree of a part of the repository.
fn part(repo: &Repo, dir: &str, paths: &[&str]) -> Result<String, String> {
    part_by(repo, "memory", dir, paths, false)
}

fn part_by(repo: &Repo, memory: &str, dir: &str, paths: &[&str], optional: bool) -> Result<String, String> {
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

#[test]
fn commits_branches_and_stashes_of_the_same_content_change_nothing() {
    let repo = Repo::new();
    repo.write("a/b", "1");
    let first = as_git(&repo);
    repo.commit();
    assert_eq!(as_git(&repo), first);
    repo.git(&["commit", "-q", "--amend", "-m", "y"]);
    assert_eq!(as_git(&repo), first);
    repo.git(&["checkout", "-q", "-b", "other"]);
    repo.write("a/b", "2");
    repo.write("c", "2");
    let second = as_git(&repo);
    assert_ne!(second, first);
    repo.git(&["stash", "-q", "-u"]);
    assert_eq!(as_git(&repo), first);
    repo.git(&["stash", "pop", "-q"]);
    assert_eq!(as_git(&repo), second);
    repo.commit();
    repo.git(&["checkout", "-q", "main"]);
    assert_eq!(as_git(&repo), first);
}

#[test]
fn modes_links_renames_and_case_count() {
    let repo = Repo::new();
    repo.write("a", "1");
    symlink("a", repo.at("l")).unwrap();
    repo.commit();
    let mut seen = vec![as_git(&repo)];
    fs::set_permissions(repo.at("a"), fs::Permissions::from_mode(0o755)).unwrap();
    seen.push(as_git(&repo));
    fs::remove_file(repo.at("l")).unwrap();
    symlink("b", repo.at("l")).unwrap();
    seen.push(as_git(&repo));
    fs::rename(repo.at("a"), repo.at("A")).unwrap();
    seen.push(as_git(&repo));
    fs::create_dir(repo.at("empty")).unwrap();
    assert_eq!(as_git(&repo), seen[3]);
    fs::remove_file(repo.at("l")).unwrap();
    repo.write("l/in", "1");
    seen.push(as_git(&repo));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 5);
}

#[test]
fn an_edit_of_the_same_size_within_one_time_stamp_is_seen() {
    let repo = Repo::new();
    for round in 0..50 {
        repo.write("a", format!("{round:04}"));
        if round % 5 == 0 {
            repo.git(&["add", "a"]);
        }
        as_git(&repo);
        let before = fs::metadata(repo.at("a")).unwrap().modified().unwrap();
        repo.write("a", format!("{:04}", round + 1000));
        fs::File::options().write(true).open(repo.at("a")).unwrap().set_modified(before).unwrap();
        as_git(&repo);
    }
}

#[test]
fn ignore_rules_are_those_of_directories_the_repository_and_the_user() {
    let repo = Repo::new();
    for path in ["a.o", "b.log", "c.tmp", "d/a.o", "d/keep.o", "d/e/x.log", "out/x", "d/out/x"] {
        repo.write(path, path);
    }
    let mut seen = vec![as_git(&repo)];
    repo.write(".gitignore", "*.o\n/out/\n");
    seen.push(as_git(&repo));
    repo.write("d/.gitignore", "!keep.o\n");
    seen.push(as_git(&repo));
    fs::write(repo.at(".git/info/exclude"), "*.log\n").unwrap();
    seen.push(as_git(&repo));
    let home = repo.dir.path().join("home");
    fs::create_dir_all(home.join(".config/git")).unwrap();
    fs::write(home.join(".config/git/ignore"), "*.tmp\n").unwrap();
    seen.push(as_git(&repo));
    // What is tracked counts, ignored or not.
    repo.git(&["add", "-f", "a.o", "out/x"]);
    seen.push(as_git(&repo));
    repo.git(&["rm", "-q", "--cached", "a.o"]);
    seen.push(as_git(&repo));
    fs::remove_file(repo.at("d/.gitignore")).unwrap();
    seen.push(as_git(&repo));
    let count = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), count);
    fs::write(home.join(".config/git/ignore"), "").unwrap();
    assert!(!seen.contains(&as_git(&repo)));
}

#[test]
fn a_rule_file_that_is_ignored_itself_has_its_say() {
    let repo = Repo::new();
    repo.write("d/.gitignore", "*\n");
    repo.write("d/a", "1");
    repo.write("b", "1");
    let before = as_git(&repo);
    repo.write("d/.gitignore", ".gitignore\n");
    assert_ne!(as_git(&repo), before);
}

#[test]
fn a_subdirectory_is_its_own_tree_and_rules_above_it_hold() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.o\nd/skip\n");
    repo.write("d/a", "1");
    repo.write("d/a.o", "1");
    repo.write("d/skip/b", "1");
    repo.commit();
    let tree = repo.git(&["rev-parse", "HEAD:d"]);
    assert_eq!(part(&repo, "d", &[]).unwrap(), tree);
    repo.write("other", "1");
    assert_eq!(part(&repo, "d", &[]).unwrap(), tree);
    repo.write(".gitignore", "d/skip\n");
    assert_ne!(part(&repo, "d", &[]).unwrap(), tree);
}

#[test]
fn paths_choose_files_directories_and_globs_and_take_away() {
    let repo = Repo::new();
    for path in ["src/a.rs", "src/b.c", "src/gen/c.rs", "docs/x.md", "top.rs"] {
        repo.write(path, path);
    }
    repo.commit();
    let seen = part(&repo, ".", &["src/**/*.rs", "!src/gen/**"]).unwrap();
    assert_eq!(part(&repo, ".", &["src/a.rs"]).unwrap(), seen);
    assert_eq!(part(&repo, ".", &["src/", "!src/gen", "!**/*.c"]).unwrap(), seen);
    repo.write("docs/x.md", "edited");
    repo.write("src/gen/c.rs", "edited");
    assert_eq!(part(&repo, ".", &["src/**/*.rs", "!src/gen/**"]).unwrap(), seen);
    repo.write("src/new.rs", "untracked");
    assert_ne!(part(&repo, ".", &["src/**/*.rs", "!src/gen/**"]).unwrap(), seen);
    let error = part(&repo, ".", &["src/", "none/*.rs"]).unwrap_err();
    assert_eq!(error, "git input `r`: `none/*.rs` matches no file that git tracks or would add");
}

#[test]
fn a_directory_that_is_ignored_is_an_error_and_not_an_identity() {
    let repo = Repo::new();
    repo.write(".gitignore", "fork\n");
    repo.write("fork/a", "1");
    repo.commit();
    let error = part(&repo, "fork", &[]).unwrap_err();
    assert_eq!(error, "git input `r` holds no file that git tracks or would add: is it ignored?");
    // What is tracked there counts all the same, and nothing else does.
    repo.git(&["add", "-f", "fork/a"]);
    let tree = part(&repo, "fork", &[]).unwrap();
    repo.write("fork/b", "1");
    assert_eq!(part(&repo, "fork", &[]).unwrap(), tree);
    repo.write("fork/a", "2");
    assert_ne!(part(&repo, "fork", &[]).unwrap(), tree);
}

#[test]
fn a_directory_in_no_repository_is_an_error() {
    let repo = Repo::new();
    fs::rename(repo.at(".git"), repo.dir.path().join("away")).unwrap();
    repo.write("a", "1");
    let error = part(&repo, ".", &[]).unwrap_err();
    assert!(error.ends_with("/r/.` is not in a working copy of a git repository"), "{error}");
    assert!(working_copy(&repo.root()).unwrap().is_none());
    fs::rename(repo.dir.path().join("away"), repo.at(".git")).unwrap();
    assert_eq!(working_copy(&repo.root()).unwrap(), Some(repo.root().canonicalize().unwrap()));
}

#[test]
fn an_index_of_any_version_split_sparse_or_deleted_says_the_same() {
    let repo = Repo::new();
    for path in ["a", "d/b", "d/e/c", "f/g"] {
        repo.write(path, path);
    }
    repo.commit();
    let tree = as_git(&repo);
    for args in [
        &["update-index", "--index-version", "3"][..],
        &["update-index", "--index-version", "4"],
        &["update-index", "--split-index"],
        &["update-index", "--no-split-index"],
    ] {
        repo.git(args);
        assert_eq!(as_git(&repo), tree, "{args:?}");
    }
    repo.git(&["sparse-checkout", "set", "--cone", "--sparse-index", "d"]);
    let sparse = repo.tree_anew();
    assert_eq!(repo.tree(), sparse);
    assert_eq!(sparse, part(&repo, ".", &["!f"]).unwrap());
    repo.git(&["sparse-checkout", "disable"]);
    fs::remove_file(repo.at(".git/index")).unwrap();
    assert_eq!(as_git(&repo), tree);
}

#[test]
fn what_lies_there_counts_whatever_the_index_pretends() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.write("b", "1");
    repo.commit();
    let before = as_git(&repo);
    repo.git(&["update-index", "--assume-unchanged", "a"]);
    repo.git(&["update-index", "--skip-worktree", "b"]);
    repo.write("a", "22");
    let assumed = repo.tree();
    assert_ne!(assumed, before);
    assert_eq!(repo.tree_anew(), assumed);
    repo.write("b", "22");
    assert_ne!(repo.tree(), assumed);
    repo.write("c", "");
    repo.git(&["add", "-N", "c"]);
    repo.write("c", "intended");
    assert_eq!(repo.tree(), repo.tree_anew());
}

#[test]
fn a_repository_in_the_middle_of_a_merge_or_rebase_is_what_lies_there() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    repo.git(&["checkout", "-q", "-b", "other"]);
    repo.write("a", "2");
    repo.commit();
    repo.git(&["checkout", "-q", "main"]);
    repo.write("a", "3");
    repo.commit();
    assert!(!repo.try_git(&["merge", "-q", "other"]));
    as_git(&repo);
    repo.git(&["merge", "--abort"]);
    assert!(!repo.try_git(&["rebase", "-q", "other"]));
    as_git(&repo);
}

#[test]
fn an_unborn_branch_a_shallow_clone_and_a_lock_that_was_left_are_harmless() {
    let repo = Repo::new();
    repo.write("a", "1");
    as_git(&repo);
    fs::write(repo.at(".git/index.lock"), "").unwrap();
    let tree = repo.tree();
    assert_eq!(repo.tree_anew(), tree);
    fs::remove_file(repo.at(".git/index.lock")).unwrap();
    repo.commit();
    repo.write("a", "2");
    repo.commit();
    let (root, clone) = (repo.root(), repo.dir.path().join("clone"));
    let url = format!("file://{}", root.display());
    repo.git_in(repo.dir.path(), &["clone", "-q", "--depth", "1", &url, "clone"]);
    assert_eq!(elsewhere(&repo, &clone), repo.git(&["rev-parse", "HEAD^{tree}"]));
    // Objects that are missing matter to nobody.
    fs::remove_dir_all(clone.join(".git/objects")).unwrap();
    fs::create_dir_all(clone.join(".git/objects/pack")).unwrap();
    assert_eq!(elsewhere(&repo, &clone), repo.git(&["rev-parse", "HEAD^{tree}"]));
}

/// The tree of another directory.
#[track_caller]
fn elsewhere(repo: &Repo, dir: &Path) -> String {
    let scope = Scope { dir: dir.to_owned(), ..repo.scope() };
    repo.look(&scope, "memory").unwrap_or_else(|error| panic!("{error}")).tree.to_string()
}

#[test]
fn worktrees_and_repositories_elsewhere_are_found() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.write(".gitignore", "*.o\n");
    repo.commit();
    let tree = as_git(&repo);
    let other = repo.dir.path().join("other worktree");
    repo.git(&["worktree", "add", "-q", other.to_str().unwrap(), "-b", "w"]);
    assert_eq!(elsewhere(&repo, &other), tree);
    fs::write(other.join("x.o"), "ignored").unwrap();
    assert_eq!(elsewhere(&repo, &other), tree);
    fs::write(other.join("a"), "2").unwrap();
    assert_ne!(elsewhere(&repo, &other), tree);
    assert_eq!(as_git(&repo), tree);
    // The repository lies beside, and says where the working copy is.
    let bare = repo.dir.path().join("bare.git");
    fs::rename(repo.at(".git"), &bare).unwrap();
    repo.git_in(&bare, &["config", "core.worktree", repo.root().to_str().unwrap()]);
    fs::write(repo.at(".git"), format!("gitdir: {}\n", bare.display())).unwrap();
    assert_eq!(repo.tree(), tree);
}

#[test]
fn raw_bytes_count_where_attributes_let_git_keep_others() {
    for (attributes, before, after) in [
        ("*.txt text\n", "a\nb\n", "a\r\nb\r\n"),
        ("* text=auto\n", "a\nb\n", "a\r\nb\r\n"),
        ("*.txt ident\n", "$Id$\n", "$Id: 0123$\n"),
        ("*.txt working-tree-encoding=UTF-16LE\n", "ab", "a\0b\0"),
    ] {
        let repo = Repo::new();
        repo.write(".gitattributes", attributes);
        repo.write("f.txt", before);
        repo.try_git(&["add", "-A"]);
        repo.try_git(&["commit", "-q", "-m", "x"]);
        let seen = repo.tree();
        repo.write("f.txt", after);
        repo.try_git(&["add", "-A"]);
        settle(&repo);
        assert_ne!(repo.tree(), seen, "{attributes}");
        assert_eq!(repo.tree_anew(), repo.tree(), "{attributes}");
        repo.write("f.txt", before);
        assert_eq!(repo.tree(), seen, "{attributes}");
    }
}

/// Lets git look at files that it can be sure of.
fn settle(repo: &Repo) {
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

#[test]
fn a_file_from_before_the_attributes_changed_is_read_and_not_believed() {
    let repo = Repo::new();
    repo.write(".gitattributes", "*.txt text eol=crlf\n");
    repo.write("f.txt", "1\r\n2\r\n");
    repo.commit();
    settle(&repo);
    let raw = repo.tree_anew();
    repo.write(".gitattributes", "*.md text\n");
    let kept = repo.tree_anew();
    assert_ne!(kept, raw);
    assert_eq!(repo.tree(), kept);
    repo.write("f.txt", "1\n2\n");
    assert_ne!(repo.tree_anew(), kept);
    assert_ne!(repo.tree(), kept);
    // The same by a setting.
    let repo = Repo::new();
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.write("f.txt", "1\r\n2\r\n");
    repo.commit();
    settle(&repo);
    let kept = repo.tree_anew();
    repo.git(&["config", "core.autocrlf", "false"]);
    assert_eq!(repo.tree_anew(), kept);
    repo.write("f.txt", "1\n2\n");
    assert_ne!(repo.tree_anew(), kept);
}

#[test]
fn autocrlf_makes_nothing_of_the_index_believed() {
    let repo = Repo::new();
    repo.git(&["config", "core.autocrlf", "true"]);
    repo.write("a", "1\r\n");
    repo.commit();
    settle(&repo);
    let crlf = repo.tree_anew();
    repo.write("a", "1\n");
    assert_ne!(repo.tree_anew(), crlf);
}

#[test]
fn an_id_of_the_index_is_believed_only_of_a_file_that_looks_as_git_saw_it() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    settle(&repo);
    let tree = as_git(&repo);
    // Were the file read, its id would be right: so an index that lies shows who was asked.
    let index = repo.at(".git/index");
    let mut bytes = fs::read(&index).unwrap();
    let oid = bytes.windows(20).position(|w| w == hex(&repo.git(&["hash-object", "a"]))).unwrap();
    bytes[oid] ^= 1;
    let modified = fs::metadata(&index).unwrap().modified().unwrap();
    fs::write(&index, &bytes).unwrap();
    fs::File::options().write(true).open(&index).unwrap().set_modified(modified).unwrap();
    assert_ne!(repo.tree_anew(), tree, "a clean entry is not read");
    assert_eq!(repo.tree(), tree, "nor is what we know ourselves");
    let mtime = fs::metadata(repo.at("a")).unwrap().modified().unwrap();
    repo.write("a", "1");
    fs::File::options().write(true).open(repo.at("a")).unwrap().set_modified(mtime).unwrap();
    assert_eq!(repo.tree_anew(), tree, "the change time is another");
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn submodules_count_by_their_commit_and_by_what_is_dirty_in_them() {
    let repo = Repo::new();
    let sub = repo.dir.path().join("lib");
    fs::create_dir(&sub).unwrap();
    repo.git_in(&sub, &["init", "-q", "-b", "main"]);
    fs::write(sub.join("f"), "1").unwrap();
    fs::write(sub.join(".gitignore"), "*.o\n").unwrap();
    repo.git_in(&sub, &["add", "-A"]);
    repo.git_in(&sub, &["commit", "-q", "-m", "x"]);
    repo.git(&["submodule", "--quiet", "add", sub.to_str().unwrap(), "vendor/lib"]);
    repo.commit();
    let clean = as_git(&repo);
    repo.write("vendor/lib/f", "2");
    let dirty = repo.tree();
    assert_ne!(dirty, clean);
    assert_eq!(repo.tree_anew(), dirty);
    repo.write("vendor/lib/g", "untracked");
    assert_ne!(repo.tree(), dirty);
    fs::remove_file(repo.at("vendor/lib/g")).unwrap();
    repo.write("vendor/lib/x.o", "ignored");
    assert_eq!(repo.tree(), dirty);
    repo.write("vendor/lib/f", "1");
    assert_eq!(as_git(&repo), clean);
    repo.write("vendor/lib/f", "3");
    repo.git_in(&repo.at("vendor/lib"), &["-c", "user.name=a", "commit", "-q", "-a", "-m", "y"]);
    let committed = as_git(&repo);
    assert_ne!(committed, clean);
    // Not fetched: its commit.
    repo.git(&["checkout", "-q", "--", "vendor"]);
    repo.git(&["submodule", "--quiet", "update"]);
    assert_eq!(as_git(&repo), clean);
    repo.git(&["submodule", "--quiet", "deinit", "-f", "vendor/lib"]);
    assert_eq!(as_git(&repo), clean);
}

#[test]
fn a_repository_inside_that_is_no_submodule_counts_as_one() {
    let repo = Repo::new();
    repo.write("a", "1");
    let inner = repo.at("inner");
    fs::create_dir(&inner).unwrap();
    repo.git_in(&inner, &["init", "-q", "-b", "main"]);
    fs::write(inner.join("f"), "1").unwrap();
    repo.git_in(&inner, &["add", "-A"]);
    let unborn = repo.tree();
    repo.git_in(&inner, &["commit", "-q", "-m", "x"]);
    let clean = as_git(&repo);
    assert_ne!(clean, unborn);
    fs::write(inner.join("f"), "2").unwrap();
    assert_ne!(repo.tree(), clean);
    fs::remove_dir_all(inner.join(".git")).unwrap();
    as_git(&repo);
}

#[test]
fn a_repository_that_comes_to_be_nearer_is_the_one_that_is_asked() {
    let repo = Repo::new();
    repo.write(".gitignore", "*.log\n");
    repo.write("a/b/c/f", "1");
    repo.write("a/b/c/d/x.log", "1");
    let first = part(&repo, "a/b/c", &[]).unwrap();
    for nearer in ["a", "a/b", "a/b/c"] {
        repo.git_in(&repo.at(nearer), &["init", "-q"]);
        let second = part(&repo, "a/b/c", &[]).unwrap();
        assert_ne!(second, first, "{nearer}: its rules are no more");
        fs::remove_dir_all(repo.at(nearer).join(".git")).unwrap();
        assert_eq!(part(&repo, "a/b/c", &[]).unwrap(), first, "{nearer}");
    }
}

#[test]
fn another_home_has_other_ignore_rules() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.write("b.log", "1");
    let all = repo.tree();
    let home = repo.dir.path().join("other home");
    fs::create_dir_all(home.join("git")).unwrap();
    fs::write(home.join("git/ignore"), "*.log\n").unwrap();
    let vars = [("HOME", repo.dir.path().join("home")), ("XDG_CONFIG_HOME", home)];
    let outside = Outside::new(vars.into_iter().map(|(name, path)| (name.into(), path.into_os_string())));
    let git = Git::new(repo.dir.path().join("memory"), &outside, Vec::new());
    assert_ne!(git.identity(&repo.scope()).unwrap().tree.to_string(), all);
    assert_eq!(repo.tree(), all);
}

#[test]
fn directories_as_deep_as_half_a_path_can_be_are_walked() {
    let repo = Repo::new();
    repo.write("d/".repeat(1000) + "f", "1");
    as_git(&repo);
}

#[test]
fn the_commit_counts_where_it_is_asked_for() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let scope = Scope { head: true, ..repo.scope() };
    let look = || repo.look(&scope, "memory").unwrap();
    let first = look();
    assert_eq!(first.head.unwrap().to_string(), repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(look().digest(), first.digest());
    repo.git(&["commit", "-q", "--allow-empty", "-m", "y"]);
    let second = look();
    assert_eq!(second.head.unwrap().to_string(), repo.git(&["rev-parse", "HEAD"]));
    assert_eq!(second.tree, first.tree);
    assert_ne!(second.digest(), first.digest());
    repo.git(&["pack-refs", "--all"]);
    assert_eq!(look().digest(), second.digest());
    repo.git(&["checkout", "-q", "--detach", "HEAD~1"]);
    assert_eq!(look().digest(), first.digest());
}

#[test]
fn an_edit_that_is_taken_back_moves_the_stamps_and_not_the_tree() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let before = repo.look(&repo.scope(), "memory").unwrap();
    repo.write("a", "2");
    repo.write("a", "1");
    let after = repo.look(&repo.scope(), "memory").unwrap();
    assert_eq!(before.tree, after.tree);
    assert_ne!(before.stamps(), after.stamps());
    assert_eq!(before.first_moved(&after), Some(repo.at("a")));
}

#[test]
fn changes_are_named_with_what_happened_to_them() {
    let repo = Repo::new();
    for path in ["a", "d/b", "c", "odd\nname"] {
        repo.write(path, "1");
    }
    repo.commit();
    let before = repo.look(&repo.scope(), "memory").unwrap();
    assert!(before.holds(&repo.at("d/b")) && !before.holds(&repo.at("d")) && !before.holds(&repo.at("d/x")));
    assert_eq!(before.files().count(), 4);
    let listing = before.listing();
    repo.write("a", "2");
    fs::remove_file(repo.at("d/b")).unwrap();
    repo.write("new", "1");
    repo.write("staged", "1");
    repo.git(&["add", "staged"]);
    repo.write("odd\nname", "2");
    let after = repo.look(&repo.scope(), "memory").unwrap();
    let expected = ["a modified", "d/b deleted", "new untracked", "odd\\x0aname modified", "staged added"];
    assert_eq!(after.changes(&listing).unwrap(), expected);
    assert_eq!(before.changes(&listing).unwrap(), [""; 0]);
    assert!(before.changes(b"junk").is_none());
}

#[test]
fn settings_and_variables_of_the_user_have_no_effect() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    let tree = as_git(&repo);
    for (name, value) in [
        ("diff.external", "false"),
        ("core.fsmonitor", "false"),
        ("core.hooksPath", "/nonexistent"),
        ("core.fileMode", "false"),
        ("core.untrackedCache", "true"),
        ("diff.x.textconv", "false"),
    ] {
        repo.git(&["config", name, value]);
        assert_eq!(repo.tree(), tree, "{name}");
        assert_eq!(repo.tree_anew(), tree, "{name}");
    }
    fs::set_permissions(repo.at("a"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_ne!(repo.tree(), tree, "the bit on disk counts");
}

#[test]
fn a_repository_of_sha_256_is_an_error_that_says_so() {
    let repo = Repo::new();
    fs::remove_dir_all(repo.at(".git")).unwrap();
    repo.git(&["init", "-q", "--object-format=sha256"]);
    repo.write("a", "1");
    let error = part(&repo, ".", &[]).unwrap_err();
    assert!(error.ends_with("names its objects by SHA-256, which is not supported"), "{error}");
}

#[test]
fn a_partial_clone_is_like_others() {
    let repo = Repo::new();
    repo.write("a", "1");
    repo.commit();
    repo.git(&["config", "core.repositoryFormatVersion", "1"]);
    repo.git(&["config", "extensions.partialClone", "origin"]);
    as_git(&repo);
}

#[test]
fn a_memory_that_is_damaged_is_none() {
    let repo = Repo::new();
    repo.write("a", "1");
    let tree = as_git(&repo);
    for entry in fs::read_dir(repo.dir.path().join("memory")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(repo.tree(), tree);
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    if rustix::process::geteuid().is_root() {
        return;
    }
    let repo = Repo::new();
    repo.write("a", "1");
    fs::set_permissions(repo.at("a"), fs::Permissions::from_mode(0o000)).unwrap();
    let error = part(&repo, ".", &[]).unwrap_err();
    assert!(error.starts_with("cannot read `") && error.contains("/a`"), "{error}");
}
