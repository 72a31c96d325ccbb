//! What comes back is what was made, where it was made, and nothing else.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::sandbox::Sandbox;
use crate::{COPY, settled};

/// vercel/turborepo#156: all files came back executable. vercel/turborepo#13056: without the bits above the permissions.
/// vercel/turborepo#1453: links to directories came back as empty directories, and dangling ones not at all.
/// chrismatix/grog#155: a program came back that can't be executed.
#[test]
fn modes_links_and_empty_directories_of_outputs_are_restored_exactly() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['a']
outputs = ['out/']
run = '''
mkdir -p out/empty out/locked out/shared/x
echo 1 > out/locked/f; chmod 444 out/locked/f
ln -s locked/f out/link; ln -s nowhere out/dangling; ln -s locked out/dir
echo 2 > out/tool; chmod 755 out/tool
echo 3 > out/as-root; chmod 4755 out/as-root
echo 4 > out/as-group; chmod 2711 out/as-group
echo 5 > out/secret; chmod 600 out/secret
chmod 555 out/locked; chmod 700 out/empty; chmod 1777 out/shared; chmod 2775 out/shared/x
'''
",
        )
        .file("a", "1");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    let before = sandbox.tree("out");
    assert_eq!(before.len(), 13, "{before:?}");
    sandbox
        .chmod("out/locked", 0o755)
        .remove("out")
        .run("build gen")
        .stderr(
            "
    Restored gen@host (8 files, 10 B) in [TIME]
    Finished gen@host in [TIME]: 0 fresh, 1 restored, 0 ran
",
        )
        .success();
    assert_eq!(sandbox.tree("out"), before);
    sandbox.run("build gen").counts("1 fresh, 0 restored, 0 ran").success();
    // Bit by bit, each is missed where it is gone, and comes back.
    for (path, mode) in [("as-root", 0o755), ("as-group", 0o711), ("shared", 0o777), ("shared/x", 0o775)] {
        sandbox.chmod(&format!("out/{path}"), mode).run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
        assert_eq!(sandbox.tree("out"), before, "{path}");
    }
    sandbox.file("a", "2").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree("out"), before);
}

/// vercel/turborepo#13430: packages behind links were walked into and stored twice, under a path that can't be restored: a
/// miss for ever. pantsbuild/pants#2580: links became copies, and programs that find themselves by their path broke.
/// vercel/turborepo#13042: an output that is itself a link to a directory.
#[test]
fn links_to_directories_are_restored_as_links_and_what_they_lead_to_once() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.bundle]
inputs = ['a']
outputs = ['standalone/', 'dist']
run = '''
{ran} bundle
mkdir -p standalone/node_modules/.pnpm/p@1/node_modules/p standalone/node_modules/.pnpm/node_modules
cat a > standalone/node_modules/.pnpm/p@1/node_modules/p/index.js
ln -s .pnpm/p@1/node_modules/p standalone/node_modules/p
ln -s ../p@1/node_modules/p standalone/node_modules/.pnpm/node_modules/p
ln -s . standalone/self
ln -s ../standalone standalone/up
ln -s standalone/node_modules dist
'''
[tasks.use]
inputs = ['dist', 'standalone/node_modules/p/index.js']
outputs = ['o']
run = '{ran} use; cat dist/p/index.js standalone/node_modules/p/index.js > o'
",
        )
        .file("a", "1");
    settled(&sandbox, "use");
    let before = sandbox.tree("standalone");
    assert_eq!(before.iter().filter(|line| line.contains(" -> ")).count(), 4, "{before:?}");
    for _ in 0..2 {
        sandbox.remove("standalone").remove("dist").run("build use").counts("1 fresh, 1 restored, 0 ran").success();
        assert_eq!((sandbox.tree("standalone"), sandbox.read("o")), (before.clone(), "11".into()));
    }
    sandbox.file("a", "2").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("o"), "22");
    sandbox.ran_times("bundle", 2);
}

/// vercel/turborepo#8476: one kind of run links `dist/runtime` to the sources, another fills it. What was restored of the
/// second went through the link of the first, into the sources.
#[test]
fn nothing_is_restored_through_a_link_that_another_run_has_left() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.build]
inputs = ['mode']
outputs = ['dist/']
run = '''
if [ \"$(cat mode)\" = stub ]; then ln -s ../src dist/runtime
else mkdir -p dist/runtime/deep; echo built > dist/runtime/deep/x; echo built > dist/runtime/y; fi
'''
",
        )
        .file("mode", "full")
        .file("src/own", "mine")
        .file("src/y", "mine");
    let sources = sandbox.tree("src");
    for (mode, counts) in [
        ("full", "0 fresh, 0 restored, 1 ran"),
        ("stub", "0 fresh, 0 restored, 1 ran"),
        ("full", "0 fresh, 1 restored, 0 ran"),
        ("stub", "0 fresh, 1 restored, 0 ran"),
        ("full", "0 fresh, 1 restored, 0 ran"),
    ] {
        sandbox.file("mode", mode).run("build build").counts(counts).success();
        let link = ["/ 755", "runtime -> ../src"].map(String::from).to_vec();
        let full =
            ["/ 755", "runtime/ 755", "runtime/deep/ 755", "runtime/deep/x 644 built\\n", "runtime/y 644 built\\n"];
        assert_eq!(sandbox.tree("dist"), if mode == "stub" { link } else { full.map(String::from).to_vec() });
        assert_eq!(sandbox.tree("src"), sources);
    }
}

/// vercel/turborepo#10951: what was made of a source that is gone stayed beside what the cache put there.
#[test]
fn files_of_a_former_output_list_are_removed_and_those_of_others_are_not() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['names']
outputs = ['out/*.x']
run = 'for name in $(cat names); do echo $name > out/$name.x; done'
",
        )
        .file("names", "a b")
        .file("out/mine", "mine");
    sandbox.run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree("out"), ["/ 755", "a.x 644 a\\n", "b.x 644 b\\n", "mine 644 mine"]);
    sandbox.file("names", "b c").run("build gen").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree("out"), ["/ 755", "b.x 644 b\\n", "c.x 644 c\\n", "mine 644 mine"]);
    sandbox.file("names", "a b").run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.tree("out"), ["/ 755", "a.x 644 a\\n", "b.x 644 b\\n", "mine 644 mine"]);
}

/// vercel/turborepo#10951 again, of an output that is not always made; and of one that must be made from now on, which an old
/// result without it does not answer (bazelbuild/bazel#27380).
#[test]
fn an_optional_output_goes_and_comes_with_the_result_and_is_missed_when_it_is_optional_no_more() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.gen]
inputs = ['a']
outputs = ['b', { path = 'map', optional = true }]
run = 'cat a > b; if grep -q debug a; then cat a > map; fi'
";
    sandbox.tasks(tasks).file("a", "debug").run("build gen").success();
    for (text, counts) in [
        ("release", "0 fresh, 0 restored, 1 ran"),
        ("debug", "0 fresh, 1 restored, 0 ran"),
        ("release", "0 fresh, 1 restored, 0 ran"),
    ] {
        sandbox.file("a", text).run("build gen").counts(counts).success();
        assert_eq!((sandbox.read("b"), sandbox.exists("map")), (text.to_owned(), text == "debug"));
    }
    sandbox.tasks(&tasks.replace("{ path = 'map', optional = true }", "'map'"));
    sandbox.run("build gen").says("declared output `map` was not made").exit(1);
    sandbox.tasks(tasks).run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
}

/// vercel/turborepo#4566: a test wrote to the database that the build had made; the cache put the database back, beside the
/// journal of the other one.
#[test]
fn what_others_leave_beside_a_restored_file_of_an_output_directory_goes() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.build]
inputs = ['a']
outputs = ['build/']
run = '{ran} build; cat a > build/.sqlite'
[tasks.test]
needs = ['build']
cache = false
run = 'cat build/.sqlite* > seen; echo used >> build/.sqlite; echo 1 > build/.sqlite-shm; echo 2 > build/.sqlite-wal'
",
        )
        .file("a", "1\n");
    for _ in 0..3 {
        sandbox.run("run test").success();
        assert_eq!(sandbox.read("seen"), "1\n");
    }
    sandbox.ran_times("build", 1);
}

/// nrwl/nx#30857: a directory was deleted and restored while others were compiling against it.
#[test]
fn nothing_that_a_running_step_reads_is_restored_under_it() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.lib]
inputs = ['a']
outputs = ['lib/']
run = '{ran} lib; cat a > lib/x; cat a > lib/y'
[tasks.use]
inputs = ['lib/x', 'lib/y']
outputs = ['o']
run = '{ran} use; cat lib/x > o; {gate reading}; cat lib/y >> o'
";
    sandbox.tasks(tasks).file("a", "1").run("build lib").success();
    sandbox.file("a", "2").run("build lib").success();
    let build = sandbox.start("build use");
    sandbox.reached("reading").file("a", "1");
    let restoring = sandbox.start("build lib");
    // It can't say that it waits; a build that needs nothing of this one's comes after it all the same.
    sandbox.worktree("other").tasks(COPY).file("a", "1").run("build after").success();
    assert_eq!((sandbox.read("lib/x"), sandbox.read("lib/y")), ("2".into(), "2".into()));
    sandbox.open("reading");
    build.wait().success();
    restoring.wait().counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!((sandbox.read("o"), sandbox.read("lib/x")), ("22".into(), "1".into()));
}

/// gradle/gradle#9100, gradle/gradle#9041: the directory of one task holds a file of another, and each takes the other's away.
/// Here that is no build at all.
#[test]
fn a_path_with_two_owners_is_refused_however_they_are_written() {
    let owners = [
        ("out/", "out/x"),
        ("out", "out/deep/x"),
        ("out/*.x", "out/a.x"),
        ("out/*.x", "out/*.x"),
        ("out/**", "out/deep/x"),
        ("x", "./x"),
        ("out/x", "out/../out/x"),
    ];
    for (one, two) in owners {
        let sandbox = Sandbox::new();
        sandbox.file("a", "").tasks(&format!(
            "[tasks.one]\ninputs = ['a']\noutputs = ['{one}']\nrun = '{{ran}} one'\n[tasks.two]\ninputs = ['a']\noutputs = ['{two}']\nrun = '{{ran}} two'\n"
        ));
        let build = sandbox.run("build one");
        let is_said = build.said().contains("both make `out") || build.said().contains("both make `x`");
        assert!(is_said, "{one} {two}: {}", build.said());
        build.exit(3).ran_times("one", 0);
    }
}

/// The same where only the files tell: two globs meet in one of them, and each step restored its own for ever.
#[test]
fn a_file_that_two_globs_match_fails_its_steps_run_or_restored() {
    let one = "[tasks.one]\ninputs = ['a']\noutputs = ['out/*.x']\nrun = 'echo one > out/a.x; echo one > out/b.x'\n";
    let two = "[tasks.two]\ninputs = ['a']\noutputs = ['out/a.*']\nrun = 'echo two > out/a.y'\n";
    let sandbox = Sandbox::new();
    let says = |task: &str, text: &str| {
        sandbox.run(&format!("build {task}")).says(text).exit(1);
    };
    sandbox.tasks(&format!("{one}{two}")).file("a", "");
    says("one", "error: one@host failed: `out/a.x` is an output of `one@host` and of `two@host`");
    sandbox.tasks(&format!("{one}{two}").replace("echo one > out/a.x; ", ""));
    sandbox.run("build one two").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build one two").counts("2 fresh, 0 restored, 0 ran").success();
    // Each was stored by itself before they came together.
    sandbox.tasks(one).run("build one").success();
    sandbox.run("clean").success();
    sandbox.tasks(&two.replace("out/a.y", "out/a.x")).run("build two").success();
    sandbox.run("clean").success();
    sandbox.tasks(&format!("{one}{}", two.replace("out/a.y", "out/a.x")));
    says("one", "`out/a.x` is an output of `one@host` and of `two@host`");
    assert!(!sandbox.exists("out/a.x"));
}

/// moonrepo/moon#2698: what was there was deleted before the bytes of the hit were read; they could not be, and a run that
/// had gone well was reported as failed for the outputs that were missing.
#[test]
fn a_hit_that_cannot_be_read_is_a_run_and_counts_as_one() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.bundle]
inputs = ['a']
outputs = ['one', 'two']
run = '{ran} bundle; cat a > one; seq 100000 > two; cat a >> two'
",
        )
        .file("a", "1")
        .run("build bundle")
        .success();
    sandbox.file("a", "2").run("build bundle").counts("0 fresh, 0 restored, 1 ran").success();
    fs::remove_dir_all(sandbox.store().join("v1/frames")).unwrap();
    sandbox.file("a", "1").run("build bundle").counts("0 fresh, 0 restored, 1 ran").success().ran_times("bundle", 3);
    assert_eq!((sandbox.read("one"), sandbox.read("two").lines().last()), ("1".into(), Some("1")));
    sandbox.run("build bundle").counts("1 fresh, 0 restored, 0 ran").success();
}

/// moonrepo/moon#2723: the key of the one who reads differed between outputs that lay there and the same outputs restored.
#[test]
fn who_reads_a_restored_output_has_the_key_of_who_reads_one_that_was_there() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.produce]
inputs = ['a']
outputs = ['dist/']
run = '{ran} produce; mkdir -p dist/d dist/empty; cat a > dist/d/x; cp dist/d/x dist/d/tool; chmod 700 dist/d/tool; ln -s d dist/l'
[tasks.consume]
inputs = ['dist/**', 'dist/l']
outputs = ['o']
run = '{ran} consume; cat dist/d/x > o'
";
    sandbox.tasks(tasks).file("a", "1");
    settled(&sandbox, "consume");
    let other = sandbox.worktree("other");
    other.tasks(tasks).file("a", "1").run("build consume").counts("0 fresh, 2 restored, 0 ran").success();
    for gone in [&["dist"][..], &["o"], &["dist", "o"], &["dist", ".bcache"], &["dist", "o", ".bcache"]] {
        for path in gone {
            sandbox.remove(path);
        }
        sandbox.run("build consume").success().ran_times("produce", 1).ran_times("consume", 1);
        sandbox.run("build consume").counts("2 fresh, 0 restored, 0 ran").success();
    }
}

/// ccache/ccache#331, frerich/clcache#282: an object was a hard link to the cache's own file; a tool that writes in place
/// wrote into the cache.
#[test]
fn who_writes_into_a_restored_file_does_not_write_into_the_cache() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.gen]
inputs = ['a']
outputs = ['small', 'big']
run = '{ran} gen; cat a > small; seq 120000 > big'
[tasks.installed]
sysroot = 's'
inputs = ['a']
run = '{ran} installed; seq 120000 > {{ sysroot.prefix }}/big; cat a > {{ sysroot.prefix }}/small'
[sysroots.s]
path = 'sys'
";
    sandbox.tasks(tasks).file("a", "1").run("build gen installed").success();
    let other = sandbox.worktree("other");
    other.tasks(tasks).file("a", "1").run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    let clean = ["small", "big", "sys"].map(|path| sandbox.tree(path));
    for path in ["small", "big", "sys/big", "sys/small"] {
        assert_eq!(fs::metadata(sandbox.at(path)).unwrap().nlink(), 1, "{path}");
        sandbox.append(path, "strip --in-place\n");
    }
    assert_eq!(["small", "big"].map(|path| other.tree(path)), clean[..2]);
    other.remove("big").remove("small").run("build gen").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!(["small", "big"].map(|path| other.tree(path)), clean[..2]);
    sandbox.run("build gen installed").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!(["small", "big", "sys"].map(|path| sandbox.tree(path)), clean);
    sandbox.run("cache verify").answers("0 damaged").success();
}

/// ccache/ccache#378: names that are one file for the step are not one for the cache, and the other way round.
#[test]
fn outputs_that_the_step_has_linked_together_are_files_of_their_own_when_they_come_back() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.link]
inputs = ['a']
outputs = ['b', 'c']
run = '{ran} link; cat a > b; ln b c'
",
        )
        .file("a", "1");
    settled(&sandbox, "link");
    // Who writes to the one has written to the other.
    sandbox.file("b", "mine");
    assert_eq!(sandbox.read("c"), "mine");
    sandbox.run("build link").counts("0 fresh, 1 restored, 0 ran").success();
    assert_eq!((sandbox.read("b"), sandbox.read("c")), ("1".into(), "1".into()));
    sandbox.file("b", "mine");
    assert_eq!(sandbox.read("c"), "1");
    sandbox.run("build link").counts("0 fresh, 1 restored, 0 ran").success().ran_times("link", 1);
}
