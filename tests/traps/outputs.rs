//! A hit looks at what lies on the disk.

use std::fs;
use std::os::unix::fs::symlink;

use crate::sandbox::Sandbox;
use crate::{COPY, git, settled};

const TREE: &str = "
[tasks.tree]
inputs = ['a']
outputs = ['out/', 'single', 'way']
run = '''
{ran} tree
mkdir out/sub out/empty
cat a > out/one; cat a > out/sub/two; cat a > single
echo '#!/bin/sh' > out/tool; chmod 755 out/tool
ln -s one out/link; ln -s out/sub way
'''
[tasks.use]
inputs = ['out/one', 'out/sub/two', 'single']
outputs = ['used']
run = '{ran} use; cat out/one out/sub/two single > used'
";

type Damage = fn(&Sandbox);

/// The same size and the same stamp of the last change, as `cp -p` leaves it.
fn overwrite_unseen(sandbox: &Sandbox, path: &str, text: &str) {
    let before = fs::metadata(sandbox.at(path)).unwrap();
    assert_eq!(before.len(), text.len() as u64);
    sandbox.file(path, text);
    fs::File::options().write(true).open(sandbox.at(path)).unwrap().set_modified(before.modified().unwrap()).unwrap();
}

const DAMAGES: &[(&str, Damage)] = &[
    ("all is deleted", |s| {
        s.remove("out").remove("single").remove("way");
    }),
    ("one of several is deleted", |s| {
        s.remove("out/sub/two");
    }),
    ("a file is cut off", |s| {
        s.file("out/one", "");
    }),
    ("a file is longer", |s| {
        s.append("single", "more");
    }),
    ("other bytes, the same size and stamp", |s| overwrite_unseen(s, "out/one", "9")),
    ("another file has been renamed over it", |s| {
        s.file("beside", "9");
        fs::rename(s.at("beside"), s.at("single")).unwrap();
    }),
    ("it can't be executed", |s| {
        s.chmod("out/tool", 0o644);
    }),
    ("it can be executed", |s| {
        s.chmod("out/one", 0o755);
    }),
    ("it can't be read by others", |s| {
        s.chmod("single", 0o600);
    }),
    ("a link leads elsewhere", |s| {
        s.remove("out/link").link("out/link", "tool");
    }),
    ("a link is the file that it led to", |s| {
        s.remove("out/link").file("out/link", "1");
    }),
    ("a link is the directory that it led to", |s| {
        s.remove("way").file("way/two", "1");
    }),
    ("a file is a link to its like", |s| {
        s.remove("single").link("single", "out/one");
    }),
    ("a file is a directory", |s| {
        s.remove("out/one").dir("out/one");
    }),
    ("a file is a directory with something in it", |s| {
        s.remove("single").file("single/mine", "");
    }),
    ("a directory is a file", |s| {
        s.remove("out/sub").file("out/sub", "");
    }),
    ("a directory is a link to its like", |s| {
        let _ = fs::remove_dir_all(s.at("beside"));
        fs::rename(s.at("out/sub"), s.at("beside")).unwrap();
        s.link("out/sub", "../beside");
    }),
    ("the whole of it is a link to its like", |s| {
        let _ = fs::remove_dir_all(s.at("beside"));
        fs::rename(s.at("out"), s.at("beside")).unwrap();
        s.link("out", "beside");
    }),
    ("a directory has another mode", |s| {
        s.chmod("out/sub", 0o700);
    }),
    ("an empty directory is gone", |s| {
        s.remove("out/empty");
    }),
    ("an empty directory is not", |s| {
        s.file("out/empty/stray", "");
    }),
    ("there is more than was made", |s| {
        s.file("out/stray", "");
    }),
    ("a file has moved", |s| fs::rename(s.at("out/one"), s.at("out/two")).unwrap()),
    ("two files have changed places", |s| {
        let name = |name: &str| s.at("out").join(name);
        fs::rename(name("one"), name("x")).unwrap();
        fs::rename(name("tool"), name("one")).unwrap();
        fs::rename(name("x"), name("tool")).unwrap();
    }),
];

fn all(sandbox: &Sandbox) -> [Vec<String>; 3] {
    ["out", "single", "way"].map(|path| sandbox.tree(path))
}

/// moonrepo/moon#2484: a generated file that somebody had edited stayed so, since only inputs were compared.
/// go-task/task#2181: of what a task generates it was looked whether there is any.
/// jdx/mise#11786: one output that was there stood for another that was not. ninja-build/ninja#1946: an edited output is clean.
#[test]
fn whatever_happens_to_an_output_it_is_restored_before_anybody_uses_it() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TREE).file("a", "1");
    settled(&sandbox, "use");
    let whole = all(&sandbox);
    for (what, damage) in DAMAGES {
        damage(&sandbox);
        assert_ne!(all(&sandbox), whole, "{what}");
        let build = sandbox.run("build use");
        assert!(build.said().contains(": 1 fresh, 1 restored, 0 ran"), "{what}: {}", build.said());
        build.success();
        assert_eq!(all(&sandbox), whole, "{what}");
        sandbox.run("build use").counts("2 fresh, 0 restored, 0 ran").success();
    }
    sandbox.ran_times("tree", 1).ran_times("use", 1);
}

/// The same where there is nothing to restore from: google/wireit#280, and whoever has cleared the cache.
#[test]
fn whatever_happens_to_an_output_that_is_not_stored_it_is_made_again() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TREE).file("a", "1");
    settled(&sandbox, "use");
    let whole = all(&sandbox);
    for (i, (what, damage)) in DAMAGES.iter().enumerate() {
        sandbox.run("cache clean --yes").success();
        damage(&sandbox);
        let build = sandbox.run("build use");
        assert!(build.said().contains(": 1 fresh, 0 restored, 1 ran"), "{what}: {}", build.said());
        build.success().ran_times("tree", i + 2);
        assert_eq!(all(&sandbox), whole, "{what}");
    }
    sandbox.ran_times("use", 1);
}

/// The same of what can't be read without waiting for somebody who writes.
#[test]
fn an_output_that_is_a_pipe_now_is_restored() {
    let sandbox = Sandbox::new();
    sandbox.tasks(TREE).file("a", "1");
    settled(&sandbox, "use");
    let whole = all(&sandbox);
    for path in ["single", "out/one", "out/stray"] {
        if path != "out/stray" {
            sandbox.remove(path);
        }
        rustix::fs::mkfifoat(rustix::fs::CWD, sandbox.at(path), rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
        sandbox.run("build use").counts("1 fresh, 1 restored, 0 ran").success();
        assert_eq!(all(&sandbox), whole, "{path}");
    }
    sandbox.ran_times("tree", 1);
}

/// moonrepo/moon#2484 and its kin again, where one may not even look: ccache/ccache#1007 had such files in its cache.
#[test]
fn an_output_that_its_owner_may_not_read_any_more_is_restored() {
    let Some(sandbox) = Sandbox::of_a_user() else { return };
    sandbox.tasks(TREE).file("a", "1");
    settled(&sandbox, "use");
    let whole = all(&sandbox);
    for path in ["single", "out/one", "out/sub/two", "out/sub", "out"] {
        for mode in [0, 0o111, 0o444] {
            sandbox.chmod(path, mode).run("build use").counts("1 fresh, 1 restored, 0 ran").success();
            assert_eq!(all(&sandbox), whole, "{path} {mode:o}");
        }
    }
    sandbox.ran_times("tree", 1).ran_times("use", 1);
}

/// google/wireit#280: a branch on which an output is tracked takes it away when one leaves it, and the step was fresh
/// all the same.
#[test]
fn an_output_that_git_takes_away_with_a_branch_comes_back() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "1").file(".gitignore", ".bcache\nc\n");
    git(&sandbox, &["init", "-q", "-b", "main"]);
    git(&sandbox, &["add", "a", "tasks.toml", ".gitignore"]);
    git(&sandbox, &["commit", "-qm", "1"]);
    git(&sandbox, &["switch", "-qc", "published"]);
    sandbox.file("b", "of the branch");
    git(&sandbox, &["add", "-f", "b"]);
    git(&sandbox, &["commit", "-qm", "2"]);
    git(&sandbox, &["switch", "-q", "main"]);
    settled(&sandbox, "after");
    sandbox.remove("b");
    git(&sandbox, &["switch", "-q", "published"]);
    git(&sandbox, &["switch", "-q", "main"]);
    sandbox.run("build after").counts("1 fresh, 1 restored, 0 ran").success();
    assert_eq!((sandbox.read("b"), sandbox.read("c")), ("1".into(), "1".into()));
    git(&sandbox, &["switch", "-qf", "published"]);
    sandbox.run("build after").counts("1 fresh, 1 restored, 0 ran").success();
    assert_eq!((sandbox.read("b"), sandbox.read("c")), ("1".into(), "1".into()));
}

/// vercel/turborepo#13430: what lay behind the links in an output was seen by the one side and not by the other.
/// Here a link is kept as one, and who reads through it depends on what is behind.
#[test]
fn an_output_that_is_a_link_counts_for_its_readers_by_what_it_leads_to() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.current]
inputs = ['version']
outputs = ['current', 'latest']
run = '{ran} current; ln -s releases/$(cat version) current; ln -s releases/$(cat version)/text latest'
[tasks.read]
inputs = ['latest']
outputs = ['o']
run = '{ran} read; cat latest > o'
[tasks.below]
inputs = ['current/text']
outputs = ['p']
run = '{ran} below; cat current/text > p'
[tasks.glob]
inputs = ['current/*']
outputs = ['q']
run = '{ran} glob; cat current/* > q'
",
        )
        .file("version", "1")
        .file("releases/1/text", "one")
        .file("releases/2/text", "two");
    settled(&sandbox, "read below glob");
    let texts = || ["o", "p", "q"].map(|path| sandbox.read(path));
    assert_eq!(texts(), ["one"; 3]);
    sandbox.file("releases/1/text", "ONE").run("build read below glob").counts("1 fresh, 0 restored, 3 ran").success();
    assert_eq!(texts(), ["ONE"; 3]);
    sandbox.file("version", "2").run("build read below glob").counts("0 fresh, 0 restored, 4 ran").success();
    assert_eq!(texts(), ["two"; 3]);
    let _ = fs::remove_file(sandbox.at("current"));
    symlink("releases/1", sandbox.at("current")).unwrap();
    sandbox.run("build read below glob").counts("3 fresh, 1 restored, 0 ran").success();
    assert_eq!(texts(), ["two"; 3]);
}

#[test]
fn a_directory_with_the_set_group_id_bit_hands_nothing_on_to_outputs() {
    const TASKS: &str = "
[tasks.t]
inputs = ['in']
outputs = ['g/a/**', 'g/**', 'gen/', 'far/gen/', 'own*/**']
run = '{ran} t; mkdir -p g/s gen/sub own1; mkdir -m 700 g/p; for d in g/a g/s g/p gen gen/sub far/gen own1; do cp in $d/x; done'
[tasks.use]
inputs = ['g/**', 'gen/**', 'own1/*']
outputs = ['o']
run = '{ran} use; cat gen/x > o'
";
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for worktree in [&sandbox, &other] {
        worktree.tasks(TASKS).file("in", "1");
    }
    sandbox.chmod(".", 0o2755);
    for text in ["1", "2"] {
        sandbox.file("in", text).run("build t").counts("0 fresh, 0 restored, 1 ran").success();
        sandbox.run("build t").counts("1 fresh, 0 restored, 0 ran").success();
        sandbox.run("build use").counts("1 fresh, 0 restored, 1 ran").success();
        for _ in 0..2 {
            sandbox.run("build use").counts("2 fresh, 0 restored, 0 ran").success();
        }
    }
    let lies = |at: &Sandbox| ["g", "gen", "far"].map(|dir| crate::sandbox::tree_of(&at.at(dir)));
    let ran = lies(&sandbox);
    other.file("in", "2").run("build use").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!(lies(&other), ran);
    assert!(ran.iter().flatten().all(|line| !line.contains("2755")), "{ran:?}");
}
