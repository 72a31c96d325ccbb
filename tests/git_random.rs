//! Random working copies and edits: what the identity says beside git, and with a memory beside without one.

mod git_rig;
mod random;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use git_rig::*;
use random::Random;

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
        let name = *random.pick(NAMES);
        path.push(OsStr::from_bytes(name));
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
    let text = *random.pick(&[&b"one"[..], b"two", b"", b"a longer text\n", b"crlf\r\n"]);
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
            let _ = symlink(random.pick(&["a", "../lib", "nowhere", "."]), &path);
        }
        11 if existing.is_file() && !existing.is_symlink() => {
            let mode = random.pick(&[0o755, 0o644, 0o654, 0o744]);
            fs::set_permissions(&existing, fs::Permissions::from_mode(*mode)).unwrap();
        }
        12 | 13 => {
            let lines: Vec<&str> = (0..random.below(4)).map(|_| *random.pick(LINES)).collect();
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
            let force = random.pick(&["-f", "-N"]);
            let _ = repo.command(&["add", force, "--"]).arg(Path::new(".").join(name)).output();
        }
        18 => {
            let name = existing.strip_prefix(repo.root()).unwrap().as_os_str();
            let _ = repo.command(&["rm", "-q", "--cached", "-r", "--"]).arg(Path::new(".").join(name)).output();
        }
        19 => drop(repo.try_git(&["commit", "-q", "-a", "-m", "x"])),
        20 => {
            let other = random.pick(&["main", "other"]);
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
    let mut random = Random::new(seed);
    let mut compared = 0;
    while compared < count {
        let repo = Repo::new();
        let info = repo.at(".git/info");
        let _ = fs::create_dir_all(&info);
        fs::write(info.join("exclude"), random.pick(&["", "*.o\n", "/build\n", "A\n"])).unwrap();
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
    let seed = random::seed();
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
            let how = random.pick(&["--assume-unchanged", "--skip-worktree", "--no-assume-unchanged"]);
            let _ = repo.command(&["update-index", how, "--"]).arg(inside).output();
        }
        4 => {
            let line = random.pick(&["* text=auto\n", "*.c eol=crlf\n", "lib/* ident\n", "[attr]x text\n*.o x\n", ""]);
            let dir = if is_dir { existing } else { repo.root() };
            let _ = fs::write(dir.join(".gitattributes"), line);
        }
        5 => {
            // Another edit may have put something else in the place of its directory.
            let _ = fs::write(repo.at(".git/info/exclude"), random.pick(&["", "*.o\n", "lib\n"]));
        }
        _ => edit(random, repo),
    }
}

fn consistent(seed: u64, count: usize) -> usize {
    let mut random = Random::new(seed);
    let mut compared = 0;
    while compared < count {
        let repo = Repo::new();
        fs::create_dir_all(repo.at("lib")).unwrap();
        for step in 0..30 {
            for _ in 0..=random.below(3) {
                if random.below(2) == 0 {
                    odd_edit(&mut random, &repo)
                } else {
                    edit(&mut random, &repo)
                }
                if random.one_in(8) {
                    // What was looked at is old enough to be believed, by git and by us.
                    std::thread::sleep(std::time::Duration::from_millis(25));
                }
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
    let seed = random::seed();
    println!("{} trees compared", consistent(seed, trees()));
}
