//! Sysroots: layers, the prefix that is their union, and what a step sees of it.

pub(crate) mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox::Sandbox;

/// `a` and `b` are on their own, `c` is built on `a`, `all` groups them. Each looks for a file of the others, as
/// configure scripts do, and says in what it installs what it found.
const CHAIN: &str = "
[sysroots.s]
path = 'prefix'
[templates.package]
sysroot = 's'
env = { P = '{{ sysroot.prefix }}' }
run = '''
{ran} {{ task.name }}
mkdir -p $P/share $P/bin
(cd $P/share && ls) > found
head -n 1 src/{{ task.name }} > $P/share/{{ task.name }}
cat found >> $P/share/{{ task.name }}
rm found
'''
[tasks.a]
extends = 'package'
inputs = ['src/a']
after = 'printf \"#!/bin/sh\\necho tool of a\\n\" > $P/bin/a-tool; chmod 755 $P/bin/a-tool; ln -s a-tool $P/bin/a-link; chmod 444 $P/share/a'
[tasks.b]
extends = 'package'
inputs = ['src/b']
[tasks.c]
extends = 'package'
needs = ['a']
inputs = ['src/c']
after = 'a-tool >> $P/share/c; a-link >> $P/share/c'
[tasks.all]
needs = ['a', 'b', 'c']
";

/// Is this the file of tests in which nothing has namespaces?
const IS_EXCLUSIVE: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"exclusive");

fn sandboxes() -> impl Iterator<Item = Sandbox> {
    [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten()
}

fn with_chain(sandbox: &Sandbox) {
    sandbox.tasks(CHAIN).file("src/a", "a 1\n").file("src/b", "b 1\n").file("src/c", "c 1\n");
}

fn whole_prefix() -> Vec<String> {
    [
        "/ 755",
        "bin/ 755",
        "bin/a-link -> a-tool",
        r"bin/a-tool 755 #!/bin/sh\necho tool of a\n",
        "share/ 755",
        r"share/a 444 a 1\n",
        r"share/b 644 b 1\n",
        r"share/c 644 c 1\na\ntool of a\ntool of a\n",
    ]
    .map(String::from)
    .to_vec()
}

#[test]
fn the_prefix_is_the_union_of_layers_that_saw_only_their_needs() {
    for sandbox in sandboxes() {
        with_chain(&sandbox);
        sandbox
            .run("build all")
            .stderr(
                "
     Running a@host
     Running b@host
     Running c@host
    Finished all@host in [TIME]: 0 fresh, 0 restored, 3 ran
",
            )
            .success()
            .run("build all")
            .stderr(
                "
    Finished all@host in [TIME]: 3 fresh, 0 restored, 0 ran
",
            )
            .success();
        assert_eq!(sandbox.tree("prefix"), whole_prefix());
    }
}

#[test]
fn a_package_that_looks_around_finds_the_same_whatever_was_built_before() {
    for order in [["a", "b", "c"], ["b", "c", "a"], ["c", "b", "a"]] {
        let sandbox = Sandbox::new();
        with_chain(&sandbox);
        for task in order {
            sandbox.run(&format!("build {task}")).success();
        }
        assert_eq!(sandbox.tree("prefix"), whole_prefix(), "{order:?}");
        sandbox.ran_times("a", 1).ran_times("b", 1).ran_times("c", 1);
        sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn a_deleted_prefix_comes_back_byte_for_byte() {
    for sandbox in sandboxes() {
        with_chain(&sandbox);
        sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
        sandbox.remove("prefix").run("build all").counts("0 fresh, 3 restored, 0 ran").success();
        assert_eq!(sandbox.tree("prefix"), whole_prefix());
        sandbox.remove("prefix").remove(".bcache").run("build all").counts("0 fresh, 3 restored, 0 ran").success();
        assert_eq!(sandbox.tree("prefix"), whole_prefix());
        sandbox.ran_times("a", 1).ran_times("b", 1).ran_times("c", 1);
    }
}

#[test]
fn a_damaged_file_of_the_prefix_is_made_good() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox
        .append("prefix/share/b", "more")
        .run("build all")
        .stderr(
            "
    Restored b@host (1 file, 4 B) in [TIME]
    Finished all@host in [TIME]: 2 fresh, 1 restored, 0 ran
",
        )
        .success();
    sandbox
        .remove("prefix/bin/a-link")
        .run("build all")
        .stderr(
            "
    Restored a@host (1 file, 29 B) in [TIME]
    Finished all@host in [TIME]: 2 fresh, 1 restored, 0 ran
",
        )
        .success();
    sandbox.chmod("prefix/bin/a-tool", 0o700).run("build all").counts("2 fresh, 1 restored, 0 ran").success();
    assert_eq!(sandbox.tree("prefix"), whole_prefix());
}

#[test]
fn what_somebody_else_put_into_the_prefix_stays_and_is_seen_by_no_step() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.file("prefix/share/0-mine", "mine");
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!(sandbox.read("prefix/share/a"), "a 1\n");
    assert_eq!(sandbox.read("prefix/share/0-mine"), "mine");
}

#[test]
fn a_changed_layer_runs_exactly_its_dependents() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox
        .file("src/a", "a 2\n")
        .run("build all")
        .stderr(
            "
       Stale a@host: src/a changed
     Running a@host (last time [TIME])
       Stale c@host: a@host's output changed (share/a)
     Running c@host (last time [TIME])
    Finished all@host in [TIME]: 1 fresh, 0 restored, 2 ran
",
        )
        .success()
        .ran_times("a", 2)
        .ran_times("b", 1)
        .ran_times("c", 2)
        .file("src/a", "a 1\n")
        .run("build all")
        .counts("1 fresh, 2 restored, 0 ran")
        .success();
    assert_eq!(sandbox.tree("prefix"), whole_prefix());
}

#[test]
fn a_change_that_leaves_the_layer_as_it_is_stops_there() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.append("src/a", "# a comment\n").run("build all").counts("2 fresh, 0 restored, 1 ran").success();
    sandbox.ran_times("a", 2).ran_times("c", 1);
}

#[test]
fn a_removed_task_takes_its_files_out_of_the_prefix() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.edit("tasks.toml", "[tasks.b]\nextends = 'package'\ninputs = ['src/b']\n", "");
    sandbox.edit("tasks.toml", "'a', 'b', 'c'", "'a', 'c'");
    sandbox
        .run("build all")
        .stderr(
            "
note: 1 file of steps that are no more left s@host
    Finished all@host in [TIME]: 2 fresh, 0 restored, 0 ran
",
        )
        .success();
    let mut without = whole_prefix();
    without.retain(|line| !line.starts_with("share/b"));
    assert_eq!(sandbox.tree("prefix"), without);
}

#[test]
fn files_that_a_new_layer_no_longer_has_leave_the_prefix() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.edit("tasks.toml", "ln -s a-tool $P/bin/a-link; ", "").edit("tasks.toml", "; a-link >> $P/share/c", "");
    sandbox.run("build all").counts("1 fresh, 0 restored, 2 ran").success();
    assert!(!sandbox.exists("prefix/bin/a-link") && sandbox.exists("prefix/bin/a-tool"));
}

#[test]
fn two_owners_of_an_installed_file_are_both_named() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.edit("tasks.toml", "inputs = ['src/b']", "inputs = ['src/b']\nafter = 'echo b > $P/bin/a-tool'");
    sandbox
        .run("build all")
        .stderr(
            "
     Running a@host
     Running b@host
error: b@host failed: `a@host` and `b@host` both installed `bin/a-tool`: they differ
     Skipped c@host
      Failed all@host in [TIME]: 0 fresh, 0 restored, 1 ran, 1 failed, 1 skipped
",
        )
        .exit(1);
    assert_eq!(sandbox.read("prefix/bin/a-tool"), "#!/bin/sh\necho tool of a\n");
}

#[test]
fn a_step_that_changes_or_removes_a_file_of_a_need_fails_and_names_both() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.edit("tasks.toml", "a-link >> $P/share/c'", "echo >> $P/bin/a-tool'");
    sandbox
        .run("build c")
        .stderr(
            "
     Running a@host
     Running c@host
error: c@host failed: `c@host` changed `bin/a-tool`, which belongs to `a@host`
  help: to look around: cargo bcache shell c@host
      Failed c@host in [TIME]: 0 fresh, 0 restored, 1 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.edit("tasks.toml", "echo >> $P/bin/a-tool'", "rm $P/bin/a-link'");
    sandbox.run("build c").stderr("
       Stale c@host: its last run did not finish; command 2 changed: `a-tool >> $P/share/c; echo >> $P/bin/a-tool` -> `a-tool >> $P/share/c; rm $P/bin/a-link`
     Running c@host
error: c@host failed: `c@host` removed `bin/a-link`, which belongs to `a@host`
  help: to look around: cargo bcache shell c@host
      Failed c@host in [TIME]: 1 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
").exit(1);
    sandbox.edit("tasks.toml", "rm $P/bin/a-link'", "chmod 755 $P/bin/a-tool; touch $P/bin/a-tool'");
    sandbox.run("build c").counts("1 fresh, 0 restored, 1 ran").success();
}

#[test]
fn what_others_install_is_in_no_path_of_a_step() {
    for sandbox in sandboxes() {
        sandbox
            .tasks(
                "
[sysroots.s]
path = 'p'
[templates.program]
sysroot = 's'
path = ['p/bin']
run = 'mkdir -p {{ sysroot.prefix }}/bin; cp tool {{ sysroot.prefix }}/bin/{{ task.name }}; chmod 755 {{ sysroot.prefix }}/bin/*'
[tasks.one]
extends = 'program'
inputs = ['tool']
[tasks.two]
extends = 'program'
inputs = ['tool']
",
            )
            .file("tool", "#!/bin/sh\n");
        for (build, counts) in [
            ("build one", "0 fresh, 0 restored, 1 ran"),
            ("build one", "1 fresh, 0 restored, 0 ran"),
            ("build two", "0 fresh, 0 restored, 1 ran"),
            ("build one two", "2 fresh, 0 restored, 0 ran"),
        ] {
            sandbox.run(build).counts(counts).success();
        }
    }
}

#[test]
fn shared_files_may_have_several_writers_and_count_for_nobody() {
    for path in ["share/dir", "./share//dir"] {
        let sandbox = Sandbox::new();
        with_chain(&sandbox);
        sandbox.edit("tasks.toml", "path = 'prefix'", &format!("path = 'prefix'\nshared-files = ['{path}']"));
        sandbox.edit("tasks.toml", "rm found\n", "rm found\necho {{ task.name }} > $P/share/dir\n");
        sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
        let first = sandbox.read("prefix/share/dir");
        assert_eq!(sandbox.read("prefix/share/c"), "c 1\na\ntool of a\ntool of a\n");
        sandbox.remove("prefix").remove(".bcache").run("build all").counts("0 fresh, 3 restored, 0 ran").success();
        assert_eq!(sandbox.read("prefix/share/dir"), first);
    }
}

#[test]
fn a_step_without_the_sysroot_sees_its_needs_in_it_and_cannot_write() {
    for sandbox in sandboxes() {
        with_chain(&sandbox);
        sandbox.append("tasks.toml", &sandbox.filled("
[tasks.use]
needs = ['a']
outputs = ['seen']
run = '{ran} use; ls prefix/share > seen; a-tool >> seen; echo x 2>/dev/null > prefix/share/new || echo read-only >> seen'
"));
        if IS_EXCLUSIVE {
            // Only found after it was done.
            sandbox
                .run("build b use")
                .stderr(
                    "
     Running a@host
     Running b@host
     Running use@host
error: use@host failed: `use@host` changed `[ROOT]/work/prefix/share/new`, in a sysroot that is not its own
      Failed b@host, use@host in [TIME]: 0 fresh, 0 restored, 2 ran, 1 failed, 0 skipped
",
                )
                .exit(1);
            assert!(!sandbox.exists("prefix/share/new") && sandbox.exists("prefix/share/b"));
            continue;
        }
        sandbox.run("build b use").success();
        assert_eq!(sandbox.read("seen"), "a\ntool of a\nread-only\n");
        sandbox.file("src/b", "b 2\n").run("build b use").counts("2 fresh, 0 restored, 1 ran").success();
        sandbox.file("src/a", "a 2\n").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    }
}

#[test]
fn targets_have_prefixes_of_their_own_and_see_only_their_own_needs() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[sysroots.s]
path = 'prefix-{{ target.name }}'
[tasks.lib]
sysroot = 's'
inputs = ['a']
run = '{ran} lib; echo {{ target.arch }} > {{ sysroot.prefix }}/lib'
[tasks.app]
sysroot = 's'
needs = ['lib']
inputs = ['a']
run = 'echo prefix-*/* > $TMPDIR/seen; cp $TMPDIR/seen {{ sysroot.prefix }}/app'
",
        )
        .file("a", "1");
    sandbox
        .run("build app@host app@arm")
        .counts("0 fresh, 0 restored, 4 ran")
        .success()
        .ran_times("lib", 2)
        .run("build app --target arm")
        .counts("2 fresh, 0 restored, 0 ran")
        .success()
        .run("path lib@arm -q")
        .stdout("[ROOT]/work/prefix-arm\n")
        .success();
    assert_eq!(sandbox.read("prefix-arm/lib"), "aarch64\n");
    assert_eq!(sandbox.read("prefix-arm/app"), "prefix-arm/lib\n");
    assert_eq!(sandbox.read("prefix-host/app"), "prefix-host/lib\n");
}

const SOURCE: &str = "
[sysroots.s]
path = 'prefix'
[tasks.pack]
inputs = ['hello/**']
outputs = ['dl/hello.tar']
run = 'tar -cf dl/hello.tar hello'
[tasks.hello]
sysroot = 's'
source = { archive = 'dl/hello.tar', patches = ['patches/*.patch'] }
run = '{ran} hello; mkdir {{ sysroot.prefix }}/share; cp {{ step.source }}/text {{ sysroot.prefix }}/share/hello; pwd; ls'
";

const PATCH: &str = "--- a/text\n+++ b/text\n@@ -1 +1 @@\n-hello\n+goodbye\n";

#[test]
fn a_changed_patch_runs_the_step_and_going_back_restores_it() {
    for sandbox in sandboxes() {
        sandbox.tasks(SOURCE).file("hello/text", "hello\n").file("patches/1.patch", PATCH);
        sandbox.run("build hello").counts("0 fresh, 0 restored, 2 ran").success();
        assert_eq!(sandbox.read("prefix/share/hello"), "goodbye\n");
        sandbox
            .edit("patches/1.patch", "goodbye", "farewell")
            .run("build hello")
            .stderr(
                "
       Stale hello@host: patches/1.patch changed
     Running hello@host (last time [TIME])
    Finished hello@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
            )
            .success()
            .edit("patches/1.patch", "farewell", "goodbye")
            .run("build hello")
            .counts("1 fresh, 1 restored, 0 ran")
            .success();
        assert_eq!(sandbox.read("prefix/share/hello"), "goodbye\n");
        sandbox.file("patches/2.patch", PATCH.replace("goodbye", "x").replace("hello", "goodbye"));
        sandbox.run("build hello").counts("1 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("prefix/share/hello"), "x\n");
    }
}

#[test]
fn a_patch_that_is_a_link_is_applied_once_and_counts_by_what_it_leads_to() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(SOURCE)
        .file("hello/text", "hello\n")
        .file("others/it", PATCH)
        .link("patches/1.patch", "../others/it");
    sandbox.run("build hello").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("prefix/share/hello"), "goodbye\n");
    sandbox.run("build hello").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.edit("others/it", "goodbye", "farewell").run("why hello").answers("patches/1.patch changed").success();
    sandbox.run("build hello").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("prefix/share/hello"), "farewell\n");
}

#[test]
fn a_patch_that_does_not_apply_or_matches_no_file_fails_the_step() {
    let sandbox = Sandbox::new();
    sandbox.tasks(SOURCE).file("hello/text", "other\n").file("patches/1.patch", PATCH);
    sandbox
        .run("build hello")
        .stderr(
            "
     Running pack@host
     Running hello@host
error: hello@host failed: patch `patches/1.patch` does not apply
  command: patch -p1 -i [ROOT]/work/patches/1.patch
  output of hello@host:
patching file text
Hunk #1 FAILED at 1.
1 out of 1 hunk FAILED -- saving rejects to file text.rej
  log: [ROOT]/work/.bcache/logs/hello@host
      Failed hello@host in [TIME]: 0 fresh, 0 restored, 1 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox
        .remove("patches/1.patch")
        .run("build hello")
        .stderr(
            "
error: hello@host failed: input `patches/*.patch` matches nothing
      Failed hello@host in [TIME]: 1 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.ran_times("hello", 0);
}

#[test]
fn a_tool_that_a_needed_layer_could_bring_is_missing_only_when_the_step_runs() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.append(
        "tasks.toml",
        "[tasks.use]\nneeds = ['a']\ntools = ['a-tool', 'b-tool']\noutputs = ['o']\nrun = 'b-tool > o'\n",
    );
    sandbox
        .run("build use")
        .stderr(
            "
     Running a@host
error: use@host failed: tool `b-tool` is missing
      Failed use@host in [TIME]: 0 fresh, 0 restored, 1 ran, 1 failed, 0 skipped
",
        )
        .exit(1)
        .ran_times("a", 1);
}

#[test]
fn clean_takes_the_layers_away_and_the_store_brings_them_back() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox
        .run("clean b")
        .stderr(
            "
note: removed 1 file; the cache keeps its copies
",
        )
        .success();
    assert!(!sandbox.exists("prefix/share/b") && sandbox.exists("prefix/share/a"));
    sandbox.run("build all").counts("2 fresh, 1 restored, 0 ran").success();
    sandbox
        .run("clean")
        .stderr(
            "
note: removed 5 files; the cache keeps its copies
",
        )
        .success();
    assert_eq!(sandbox.tree("prefix"), ["/ 755"]);
    sandbox.run("build all").counts("0 fresh, 3 restored, 0 ran").success();
    assert_eq!(sandbox.tree("prefix"), whole_prefix());
}

#[test]
fn a_killed_build_leaves_the_prefix_as_it_was() {
    let sandbox = Sandbox::new();
    with_chain(&sandbox);
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.edit("tasks.toml", "inputs = ['src/b']", "inputs = ['src/b']\nafter = '{gate b}'").file("src/b", "b 2\n");
    let build = sandbox.start("build all");
    sandbox.reached("b");
    build.kill();
    if !IS_EXCLUSIVE {
        // Else it comes back with the next build.
        assert_eq!(sandbox.tree("prefix"), whole_prefix());
    }
    let build = sandbox.start("build all");
    sandbox.reached("b").open("b");
    build.wait().counts("2 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("prefix/share/b"), "b 2\n");
}

#[test]
fn a_directory_with_a_mode_of_its_own_may_get_files_of_another_step() {
    let sandbox = Sandbox::new();
    sandbox.file("in", "1").tasks(
        "
[sysroots.s]
path = 'prefix'
[tasks.a]
sysroot = 's'
inputs = ['in']
run = 'mkdir prefix/private; cp in prefix/private/a; chmod 700 prefix/private'
[tasks.b]
sysroot = 's'
needs = ['a']
inputs = ['in']
run = 'cp in prefix/private/b'
[tasks.c]
sysroot = 's'
inputs = ['in']
run = 'cp in prefix/c'
",
    );
    sandbox.run("build b").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build c").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("in", "2").run("build b c").counts("0 fresh, 0 restored, 3 ran").success();
    let whole = sandbox.tree("prefix");
    sandbox.remove("prefix").run("build b c").counts("0 fresh, 3 restored, 0 ran").success();
    assert_eq!(sandbox.tree("prefix"), whole);
    assert_eq!(fs::metadata(sandbox.at("prefix/private")).unwrap().permissions().mode() & 0o7777, 0o700);
}
