//! When inputs are looked at: after what makes them, and again when the run has ended. And what a look goes by.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::sandbox::Sandbox;
use crate::{COPY, git, settled};

/// vercel/turborepo#8051: the generated file was hashed before the task that generates it, so every first build was
/// stored under a key that no second one asks for.
#[test]
fn a_generated_input_is_looked_at_after_it_is_generated() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "1").run("build after").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build after").counts("2 fresh, 0 restored, 0 ran").success();
    let other = sandbox.worktree("other");
    other.tasks(COPY).file("a", "1").run("build after").counts("0 fresh, 2 restored, 0 ran").success();
    // One that lies there from before is not what will be read.
    other.file("a", "2").run("build after").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(other.read("c"), "2");
    sandbox.file("a", "2").run("build after").counts("0 fresh, 2 restored, 0 ran").success();
}

/// vercel/turborepo#13918: a generated file that is committed too was taken from git's index as it was at the start.
#[test]
fn a_generated_input_that_git_tracks_is_not_known_by_git() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.codegen]
inputs = ['schema']
outputs = ['src/generated.txt']
run = '{ran} codegen; cat schema > src/generated.txt'
[tasks.use]
inputs = [{ git = '.', paths = ['src/'] }, 'src/generated.txt']
outputs = ['o']
run = '{ran} use; cat src/* > o'
[tasks.all]
needs = ['codegen']
inputs = [{ git = '.', paths = ['src/'] }]
outputs = ['p']
run = '{ran} all; cat src/* > p'
",
        )
        .file("schema", "1")
        .file("src/own.txt", "own ")
        .file("src/generated.txt", "1")
        .file(".gitignore", ".bcache\n/o\n/p\n");
    git(&sandbox, &["init", "-q", "-b", "main"]);
    git(&sandbox, &["add", "-A"]);
    git(&sandbox, &["commit", "-qm", "1"]);
    settled(&sandbox, "use all");
    for text in ["2", "3"] {
        sandbox.file("schema", text).run("build use all").counts("0 fresh, 0 restored, 3 ran").success();
        assert!(sandbox.read("o").contains(text) && sandbox.read("p").contains(text), "{}", sandbox.read("o"));
        git(&sandbox, &["commit", "-qam", text]);
        sandbox.run("build use all").counts("3 fresh, 0 restored, 0 ran").success();
    }
}

/// vercel/turborepo#13788: of a task without a cache the outputs were hashed as the last run had left them.
/// nrwl/nx#26258: a task before it changes the inputs of another, which was a hit of the inputs before.
#[test]
fn an_input_that_a_task_without_a_cache_changes_is_looked_at_after_it() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.fetch]
cache = false
outputs = ['fetched']
run = 'cat ../remote > fetched'
[tasks.format]
cache = false
run = 'tr a-z A-Z < draft > text'
[tasks.use]
needs = ['format']
inputs = ['fetched', 'text']
outputs = ['o']
run = '{ran} use; cat fetched text > o'
",
        )
        .file("../remote", "1")
        .file("draft", "x")
        .file("text", "x");
    sandbox.run("build use").success();
    assert_eq!(sandbox.read("o"), "1X");
    sandbox.run("build use").counts("1 fresh, 0 restored, 2 ran").success();
    sandbox.file("../remote", "2").run("build use").counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!(sandbox.read("o"), "2X");
    sandbox.file("draft", "y").run("build use").counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!(sandbox.read("o"), "2Y");
    sandbox.file("../remote", "1").file("draft", "x").run("build use").counts("0 fresh, 1 restored, 2 ran").success();
    assert_eq!(sandbox.read("o"), "1X");
}

/// bazelbuild/bazel#3360, below, and what is said of it.
#[test]
fn an_input_that_changes_during_the_run_keeps_the_outputs_and_stores_nothing() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['b']
run = '{ran} gen; cat a > b; {gate middle}'
",
        )
        .file("a", "1");
    let build = sandbox.start("build gen");
    sandbox.reached("middle").file("a", "2").open("middle");
    build
        .wait()
        .stderr(
            "
     Running gen@host
warning: a was changed while gen@host ran: its result is kept here, but not stored
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .run("cache list")
        .stdout("")
        .success();
    assert_eq!(sandbox.read("b"), "1");
    sandbox
        .open("middle")
        .run("build gen")
        .stderr(
            "
       Stale gen@host: its last run did not finish; a changed
     Running gen@host (last time [TIME])
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success()
        .ran_times("gen", 2);
    assert_eq!(sandbox.read("b"), "2");
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
}

/// bazelbuild/bazel#3360, where a branch with one file more was checked out meanwhile.
#[test]
fn a_file_that_appears_behind_a_glob_during_the_run_is_seen() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['in/*']
outputs = ['b']
run = 'cat in/* > b; {gate after}'
",
        )
        .file("in/1", "1");
    let build = sandbox.start("build gen");
    sandbox.reached("after").file("in/2", "2").open("after");
    build
        .wait()
        .stderr(
            "
     Running gen@host
warning: in/2 was changed while gen@host ran: its result is kept here, but not stored
    Finished gen@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    sandbox.open("after").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("b"), "12");
}

/// A step that is held before it reads its input, and after.
const READ: &str = "
[tasks.gen]
inputs = ['in/*', 'a']
outputs = ['b']
run = '{ran} gen; {gate before}; sh ./part.sh > b; cat in/* a 2>/dev/null >> b || true; {gate after}'
";

/// bazelbuild/bazel#3360: an edit after the inputs were hashed and before they were read made an entry whose key is of the
/// old text and whose bytes are of the new one, and everybody got it: the next look finds the file as it was, and with it
/// the key. ccache/ccache#1378: the same of one source.
/// ninja-build/ninja#1753, rust-lang/cargo#2426: the output came out newer than the edit, and so was clean.
#[test]
fn what_was_made_while_an_input_was_edited_answers_to_nobody() {
    type Edit = for<'a> fn(&'a Sandbox) -> &'a Sandbox;
    let edits: [(&str, Edit, Edit); 4] = [
        ("a", |s| s.file("a", "2"), |s| s.file("a", "1")),
        ("in/x", |s| s.remove("in/x"), |s| s.file("in/x", "1")),
        ("part.sh", |s| s.file("part.sh", "echo 2"), |s| s.file("part.sh", "echo 1")),
        ("a", |s| s.chmod("a", 0o755), |s| s.chmod("a", 0o644)),
    ];
    for (path, edit, undo) in edits {
        let sandbox = Sandbox::new();
        let other = sandbox.worktree("other");
        for tree in [&sandbox, &other] {
            tree.tasks(READ).file("a", "1").file("in/x", "1").file("part.sh", "echo 1");
        }
        let build = sandbox.start("build gen");
        sandbox.reached("before");
        edit(&sandbox);
        sandbox.open("before").reached("after");
        undo(&sandbox);
        sandbox.open("after");
        let ended = build.wait();
        let warning =
            format!("warning: {path} was changed while gen@host ran: its result is kept here, but not stored");
        assert!(ended.said().contains(&warning), "{}", ended.said());
        ended.success().run("cache list").stdout("").success();
        for tree in [&other, &sandbox] {
            tree.open("before").open("after").run("build gen").success();
            assert_eq!(tree.read("b"), "1\n11", "{path}");
        }
        sandbox.ran_times("gen", 2);
    }
}

fn set_modified(path: &Path, time: SystemTime) {
    fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

fn years(years: u64) -> Duration {
    Duration::from_secs(years * 31_556_952)
}

/// jdx/mise#11455: a file out of an archive has the size of the one that it replaces and an older stamp, and was fresh.
#[test]
fn another_file_of_the_same_size_with_an_older_stamp_is_seen() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "1.2.4");
    settled(&sandbox, "after");
    let long_ago = SystemTime::now() - years(3);
    let replaced: [&dyn Fn(&str); 3] = [
        // `tar x`: written at its place.
        &|text| {
            sandbox.file("a", text);
            set_modified(&sandbox.at("a"), long_ago);
        },
        // `rsync`, `mv backup a`: renamed over it.
        &|text| {
            sandbox.file("beside", text);
            set_modified(&sandbox.at("beside"), long_ago);
            fs::rename(sandbox.at("beside"), sandbox.at("a")).unwrap();
        },
        // `touch -r`: the very stamp that was there.
        &|text| {
            let before = fs::metadata(sandbox.at("a")).unwrap().modified().unwrap();
            sandbox.file("a", text);
            set_modified(&sandbox.at("a"), before);
        },
    ];
    for (i, replace) in replaced.iter().enumerate() {
        let text = format!("1.2.{i}");
        replace(&text);
        sandbox.run("build after").counts("0 fresh, 0 restored, 2 ran").success();
        assert_eq!(sandbox.read("c"), text);
        sandbox.run("build after").counts("2 fresh, 0 restored, 0 ran").success();
    }
}

/// ninja-build/ninja#2473, and every `Clock skew detected`: what has a stamp out of the future is dirty for ever, or clean.
#[test]
fn an_input_with_a_stamp_out_of_the_future_is_fresh_until_it_changes() {
    let sandbox = Sandbox::new();
    sandbox.tasks(COPY).file("a", "1");
    let to_come = SystemTime::now() + years(50);
    set_modified(&sandbox.at("a"), to_come);
    settled(&sandbox, "after");
    sandbox.run("build after").counts("2 fresh, 0 restored, 0 ran").success();
    for text in ["2", "3"] {
        sandbox.file("a", text);
        set_modified(&sandbox.at("a"), to_come);
        sandbox.run("build after").counts("0 fresh, 0 restored, 2 ran").success();
        assert_eq!(sandbox.read("c"), text);
    }
    set_modified(&sandbox.at("b"), to_come);
    sandbox.run("build after").counts("2 fresh, 0 restored, 0 ran").success();
}

/// gradle/gradle#668: a task whose sources were all deleted was up to date, and its classes stayed.
#[test]
fn a_step_whose_sources_are_all_gone_is_not_fresh() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.strict]
inputs = ['src/*.x']
outputs = ['o']
run = '{ran} strict; cat src/*.x > o'
[tasks.lenient]
inputs = [{ glob = 'src/*.x', optional = true }, 'tasks.toml']
outputs = ['made/']
run = '{ran} lenient; for f in src/*.x; do test ! -e $f || cp $f made/; done'
",
        )
        .file("src/a.x", "1");
    settled(&sandbox, "strict lenient");
    sandbox.remove("src/a.x").run("build strict").exit(1);
    sandbox.run("build lenient").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree("made"), ["/ 755"]);
    sandbox.file("src/a.x", "1").run("build strict lenient").counts("1 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.tree("made"), ["/ 755", "a.x 644 1"]);
}

/// A compiler in a few lines, with a search path: `near` before `far`.
const SEARCH: &str = r#"
[tasks.cc]
inputs = ['main']
outputs = ['o']
depfile = 'o.d'
run = '''
{ran} cc
: > o; deps=''
for name in $(cat main); do
  for dir in near far; do
    if [ -e $dir/$name ]; then cat $dir/$name >> o; deps="$deps $dir/$name"; break; fi
  done
done
echo "o:$deps" > o.d
'''
"#;

/// ccache/ccache#599: a header and the line that includes it went together, and the object of before was handed out.
#[test]
fn a_header_that_goes_with_its_include_is_no_hit() {
    let sandbox = Sandbox::new();
    sandbox.tasks(SEARCH).file("main", "a.h b.h").file("near/a.h", "a").file("far/b.h", "b");
    settled(&sandbox, "cc");
    sandbox.file("main", "a.h").remove("far/b.h").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "a");
    sandbox.file("main", "a.h b.h").file("far/b.h", "b").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.read("o"), "ab");
    sandbox.remove("far/b.h").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "a");
}

/// ccache/ccache#1443: a header was away for one compilation, in which another was found in its place; when it was back, the
/// newest entry still fitted all files that *it* names.
#[test]
fn a_header_that_comes_back_to_where_it_hid_another_is_seen() {
    let sandbox = Sandbox::new();
    sandbox.tasks(SEARCH).file("main", "x.h").file("near/x.h", "near").file("far/x.h", "far");
    settled(&sandbox, "cc");
    sandbox.remove("near/x.h").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "far");
    settled(&sandbox, "cc");
    sandbox.file("near/x.h", "near").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.read("o"), "near");
    sandbox.remove("near/x.h").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.read("o"), "far");
    // Nor does an edit between the two make it forget.
    sandbox.file("main", "x.h x.h").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("near/x.h", "near").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "nearnear");
}

/// The same between worktrees: the one without the header stored the newest entry.
#[test]
fn a_worktree_with_a_header_does_not_get_the_object_of_one_without() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for tree in [&sandbox, &other] {
        tree.tasks(SEARCH).file("main", "x.h").file("far/x.h", "far");
    }
    sandbox.file("near/x.h", "near").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    other.run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.remove("o").remove(".bcache").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!((sandbox.read("o"), other.read("o")), ("near".into(), "far".into()));
    other.remove("o").remove(".bcache").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(other.read("o"), "far");
}

/// actions/runner#2071: a file with other line ends on the other machine has another hash. That is as it must be: what reads
/// it gets other bytes. Here the trap would be to believe git, for which both are one.
#[test]
fn a_checkout_with_other_line_ends_is_another_input() {
    let tasks = "
[tasks.file]
inputs = ['text']
outputs = ['o']
run = '{ran} file; wc -c < text > o'
[tasks.tree]
inputs = [{ git = '.', paths = ['text'] }]
outputs = ['p']
run = '{ran} tree; wc -c < text > p'
";
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("text", "one\ntwo\n").file(".gitattributes", "text text=auto\n");
    git(&sandbox, &["init", "-q", "-b", "main"]);
    git(&sandbox, &["add", "-A"]);
    git(&sandbox, &["commit", "-qm", "1"]);
    sandbox.run("build file tree").counts("0 fresh, 0 restored, 2 ran").success();
    let clone = |name: &str, crlf: &str| {
        let tree = sandbox.worktree(name);
        git(&tree, &["clone", "-q", "-c", &format!("core.autocrlf={crlf}"), "../work", "."]);
        tree
    };
    let windows = clone("windows", "true");
    assert_eq!(windows.read("text"), "one\r\ntwo\r\n");
    git(&windows, &["diff", "--exit-code"]);
    windows.run("build file tree").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!((windows.read("o"), windows.read("p")), ("10\n".into(), "10\n".into()));
    clone("unix", "false").run("build file tree").counts("0 fresh, 2 restored, 0 ran").success();
    windows.file("text", "one\ntwo\n").run("build file tree").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!((windows.read("o"), windows.read("p")), ("8\n".into(), "8\n".into()));
}
