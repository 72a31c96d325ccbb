//! Files that a run was found to have read, by its depfile.

mod sandbox;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use sandbox::Sandbox;

/// A compiler in a line: it puts `a.c` and all that this includes together and says what it has read.
const CC: &str = "
[tasks.cc]
inputs = ['a.c']
outputs = ['out/a.o']
depfile = 'out.d'
run = '{ran} cc; cat a.c $(cat a.c) > out/a.o; echo \"out/a.o: a.c $(echo $(cat a.c))\" > out.d'
";

/// A directory beside the worktrees, with headers in it.
fn beside(sandbox: &Sandbox, name: &str, text: &str) -> PathBuf {
    let path = sandbox.root().join("include").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, text).unwrap();
    path
}

#[track_caller]
fn settled(sandbox: &Sandbox, task: &str) {
    for _ in 0..2 {
        sandbox.run(&format!("build {task}")).success();
    }
    sandbox.run(&format!("build {task}")).counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_header_outside_the_workspace_that_changes_is_seen_and_put_back_it_is_a_hit() {
    let sandbox = Sandbox::new();
    let header = beside(&sandbox, "x.h", "one\n");
    sandbox.tasks(CC).file("a.c", header.to_str().unwrap());
    settled(&sandbox, "cc");
    sandbox.ran_times("cc", 1);
    beside(&sandbox, "x.h", "two\n");
    sandbox
        .run("build cc")
        .stderr(
            "
       Stale cc@host: [ROOT]/include/x.h, which it read, changed
     Running cc@host (last time [TIME])
    Finished cc@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    assert!(sandbox.read("out/a.o").contains("two"));
    settled(&sandbox, "cc");
    beside(&sandbox, "x.h", "one\n");
    sandbox
        .run("build cc")
        .stderr(
            "
    Restored cc@host (1 file, [SIZE]) in [TIME]
    Finished cc@host in [TIME]: 0 fresh, 1 restored, 0 ran
"
            .replace("[SIZE]", &size_of(&sandbox, "out/a.o"))
            .as_str(),
        )
        .success();
    assert!(sandbox.read("out/a.o").contains("one"));
    sandbox.ran_times("cc", 2);
}

fn size_of(sandbox: &Sandbox, path: &str) -> String {
    format!("{} B", fs::metadata(sandbox.at(path)).unwrap().len())
}

#[test]
fn two_worktrees_whose_headers_differ_do_not_get_each_other_s_object() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for (tree, text) in [(&sandbox, "one\n"), (&other, "two\n")] {
        tree.tasks(CC).file("a.c", "../inc-of-this/x.h inner.h").file("inner.h", "same\n");
        // Beside the worktree, and each sees its own by the same words.
        let dir = tree.root().join(format!("inc-{}", text.trim()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("x.h"), text).unwrap();
    }
    let turn = |to: &str| {
        let link = sandbox.root().join("inc-of-this");
        let _ = fs::remove_file(&link);
        symlink(format!("inc-{to}"), link).unwrap();
    };
    turn("one");
    sandbox.run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    turn("two");
    other.run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert!(sandbox.read("out/a.o").contains("one") && other.read("out/a.o").contains("two"));
    sandbox.run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    turn("one");
    other.run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    assert!(sandbox.read("out/a.o").contains("two") && other.read("out/a.o").contains("one"));
    sandbox.ran_times("cc", 2);
}

#[test]
fn a_header_of_the_workspace_is_another_worktree_s_own_file() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    for tree in [&sandbox, &other] {
        tree.tasks(CC).file("a.c", "inc/x.h").file("inc/x.h", "one\n");
    }
    sandbox.run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    other.run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    other.file("inc/x.h", "two\n").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build cc").counts("1 fresh, 0 restored, 0 ran").success();
    assert!(sandbox.read("out/a.o").contains("one") && other.read("out/a.o").contains("two"));
}

#[test]
fn why_and_plan_name_the_discovered_file_that_changed_is_gone_or_appeared() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.cc]
outputs = ['o']
depfile = 'o.d'
run = 'cat h > o; echo o: h probe > o.d'
",
        )
        .file("h", "1");
    sandbox
        .run("build cc")
        .stderr(
            "
     Running cc@host
warning: cc@host: its depfile names probe, not there when looked for from the workspace
    Finished cc@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    let why = |text: &str| sandbox.run("why cc").stdout(&format!("cc@host would run now:\n  {text}\n")).success();
    sandbox.file("probe", "");
    why("discovered-changed: probe, which it looked for, is there now");
    sandbox.remove("probe").file("h", "2");
    why("discovered-changed: h, which it read, changed");
    sandbox.remove("h");
    why("discovered-changed: h, which it read, is gone");
    // Also where a proof would answer.
    sandbox.file("h", "1").run("build cc").counts("1 fresh, 0 restored, 0 ran").success();
    settled(&sandbox, "cc");
    sandbox.file("probe", "").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    settled(&sandbox, "cc");
    sandbox.remove("h");
    sandbox.run("plan cc").stdout("stale  cc@host  [TIME]  h, which it read, is gone\n0 fresh, 0 cached, 1 stale, 0 unknown; [TIME] of work\n").success();
}

#[test]
fn a_step_with_only_a_depfile_is_cached() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.look]\ndepfile = 'd'\nrun = '{ran} look; cat h; echo x: h > d'\n")
        .file("h", "1")
        .run("build look")
        .counts("0 fresh, 0 restored, 1 ran")
        .success();
    settled(&sandbox, "look");
    sandbox.file("h", "2").run("build look").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("h", "1").run("build look").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.ran_times("look", 2);
}

#[test]
fn a_depfile_that_was_not_made_is_an_error_and_a_stale_one_is_not_read() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.cc]\ninputs = ['a']\ndepfile = 'o.d'\nrun = 'sh a'\n")
        .file("a", "echo x: h > o.d")
        .file("h", "");
    sandbox.run("build cc").success();
    sandbox
        .file("a", "true")
        .run("build cc")
        .stderr(
            "
       Stale cc@host: a changed
     Running cc@host (last time [TIME])
error: cc@host failed: declared depfile `o.d` was not made
  help: to look around: cargo bcache shell cc@host
      Failed cc@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    assert!(!sandbox.exists("o.d"));
    let said = sandbox.file("a", "echo no rule > o.d").run("build cc").said().to_owned();
    assert!(said.contains("`[ROOT]/work/o.d` is no depfile: line 1 has no colon"), "{said}");
}

#[test]
fn what_lies_where_a_depfile_goes_and_was_not_made_here_is_moved_aside() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.cc]\ninputs = ['a']\ndepfile = 'main.c'\nrun = 'echo x: a > main.c'\n").file("a", "");
    sandbox.file("main.c", "precious").run("build cc").success();
    assert_eq!(sandbox.read(".bcache/aside/1/main.c"), "precious");
    sandbox.file("a", "2").run("build cc").success();
    assert!(!sandbox.exists(".bcache/aside/2"));
}

#[test]
fn what_the_run_made_and_what_the_key_knows_is_left_out() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
outputs = ['gen/g.h']
run = 'echo 1 > gen/g.h'
[tasks.cc]
needs = ['gen']
inputs = ['a.c']
outputs = ['obj/']
depfile = 'obj/*.d'
run = 'echo x > obj/tmp.c; echo y > $TMPDIR/t.c; echo \"a: a.c obj/tmp.c gen/g.h $TMPDIR/t.c h\" > obj/a.d; echo b: h > obj/b.d'
",
        )
        .file("a.c", "")
        .file("h", "1");
    sandbox.run("build cc").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build cc").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.remove("obj").run("build cc").counts("1 fresh, 1 restored, 0 ran").success();
    sandbox.file("h", "2").run("plan cc").stdout("stale  cc@host  [TIME]  h, which it read, changed\n1 fresh, 0 cached, 1 stale, 0 unknown; [TIME] of work\n").success();
}

#[test]
fn a_discovered_file_that_changes_while_the_step_runs_is_not_believed() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.cc]\noutputs = ['o']\ndepfile = 'o.d'\nrun = 'cat h > o; {gate on}; echo o: h > o.d'\n")
        .file("h", "1");
    let running = sandbox.start("build cc");
    sandbox.reached("on").file("h", "2").open("on");
    running
        .wait()
        .stderr(
            "
     Running cc@host
warning: h was changed while cc@host ran: its result is kept here, but not stored
    Finished cc@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    sandbox.open("on").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "2");
    sandbox.run("build cc").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn an_output_of_a_task_that_is_no_need_draws_a_warning() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.cc]
outputs = ['o']
depfile = 'o.d'
run = 'cat $(echo g).h > o; echo o: $(echo g).h > o.d'
[tasks.gen]
outputs = ['g.h']
run = 'echo 1 > g.h'
",
        )
        .run("build gen")
        .success();
    sandbox
        .run("build cc")
        .stderr(
            "
     Running cc@host
warning: cc@host read g.h, which gen@host makes and which may change behind its back: put gen into its `needs`
    Finished cc@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    sandbox.file("g.h", "2").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn names_with_spaces_and_of_any_bytes_are_found_again() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.cc]\noutputs = ['o']\ndepfile = 'o.d'\nrun = [['sh', 'build.sh']]\n")
        .file("build.sh", b"cat 'a b' n\xff > o\nprintf 'o: a\\\\ b n\\377\\n' > o.d\n")
        .file("a b", "1");
    let odd = sandbox.work().join(odd_name());
    fs::write(&odd, "1").unwrap();
    settled(&sandbox, "cc");
    fs::write(&odd, "2").unwrap();
    sandbox.run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.file("a b", "2").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "22");
    fs::write(&odd, "1").unwrap();
    sandbox.file("a b", "1").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
}

fn odd_name() -> &'static std::ffi::OsStr {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(b"n\xff")
}

#[test]
fn what_a_real_compiler_writes_is_read() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.cc]
inputs = ['src/main.c']
outputs = ['build/main.o']
depfile = 'build/main.d'
run = 'cc -MMD -MP -MF build/main.d -I\"inc dir\" -c src/main.c -o build/main.o'
",
        )
        .file("src/main.c", "#include \"odd #1 $.h\"\nint main(void) { return X; }\n")
        .file("inc dir/odd #1 $.h", "#include \"in.h\"\n")
        .file("inc dir/in.h", "#define X 1\n");
    settled(&sandbox, "cc");
    sandbox
        .file("inc dir/in.h", "#define X 2\n")
        .run("why cc")
        .stdout("cc@host would run now:\n  discovered-changed: inc dir/in.h, which it read, changed\n")
        .success();
    sandbox.run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.append("inc dir/odd #1 $.h", "/* */\n").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox
        .file("inc dir/odd #1 $.h", "#include \"in.h\"\n")
        .run("build cc")
        .counts("0 fresh, 1 restored, 0 ran")
        .success();
}

#[test]
fn a_depfile_in_the_build_directory_of_an_unpacked_source_is_read_before_that_goes() {
    let sandbox = Sandbox::new();
    let header = beside(&sandbox, "x.h", "one");
    sandbox
        .tasks(&format!(
            "
[tasks.pkg]
source = {{ path = 'pkg' }}
outputs = ['o']
depfile = '{{{{ step.build }}}}/**/*.d'
run = 'mkdir sub; cat {0} > ../../../../../o; echo \"o: {0} {{{{ step.source }}}}/a.c made.c\" > sub/o.d'
",
            header.display()
        ))
        .file("pkg/a.c", "");
    sandbox.run("build pkg").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build pkg").counts("1 fresh, 0 restored, 0 ran").success();
    beside(&sandbox, "x.h", "two");
    sandbox.run("build pkg").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "two");
}

#[test]
fn a_depfile_that_goes_or_comes_is_said_without_a_line_for_each_file() {
    let sandbox = Sandbox::new();
    sandbox.tasks(CC).file("a.c", "h").file("h", "1").run("build cc").success();
    sandbox
        .edit("tasks.toml", "depfile = 'out.d'\n", "")
        .run("why cc")
        .stdout("cc@host would run now:\n  setting-removed: depfile is gone\n")
        .success();
}

#[test]
fn sixteen_sets_of_files_are_remembered_and_the_oldest_goes() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.cc]\noutputs = ['o']\ndepfile = 'o.d'\nrun = '{ran} cc; cat h > o; echo o: h $(cat h) > o.d'\n");
    for n in 1..=17 {
        sandbox.file(format!("h{n}"), "").file("h", format!("h{n}")).run("build cc").success();
    }
    sandbox.ran_times("cc", 17);
    sandbox.file("h", "h2").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.file("h", "h1").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn a_damaged_path_set_is_a_miss_and_verify_and_clean_know_it() {
    let sandbox = Sandbox::new();
    sandbox.tasks(CC).file("a.c", "h").file("h", "1").run("build cc").success();
    let sets = || {
        let dirs = fs::read_dir(sandbox.store().join("v1/paths")).unwrap();
        dirs.flat_map(|dir| fs::read_dir(dir.unwrap().path()).unwrap()).map(|e| e.unwrap().path()).collect::<Vec<_>>()
    };
    fs::write(&sets()[0], "damage").unwrap();
    let said = sandbox.run("cache verify").answered().to_owned();
    assert!(said.contains("v1/paths/") && said.contains("1 damaged"), "{said}");
    assert_eq!(sets().len(), 0);
    sandbox.remove("out").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sets().len(), 1);
    sandbox.remove("out").run("build cc").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.run("cache clean --yes").success();
    assert!(!sandbox.store().join("v1/paths").exists() || sets().is_empty());
}

#[test]
fn depfiles_have_one_owner_and_are_no_inputs() {
    let sandbox = Sandbox::new();
    sandbox.file("i", "").tasks(
        "
[tasks.a]
inputs = ['i']
depfile = 'x.d'
run = 'true'
[tasks.b]
inputs = ['i']
depfile = 'x.d'
run = 'true'
[tasks.c]
inputs = ['i']
depfile = 'i'
run = 'true'
[tasks.d]
inputs = ['i']
depfile = '../up.d'
run = 'true'
",
    );
    let said = sandbox.run("build a").said().to_owned();
    for text in [
        "`a@host` and `b@host` both make `x.d`",
        "`i` is an input and a depfile of `c@host`",
        "a depfile must lie inside the workspace",
    ] {
        assert!(said.contains(text), "{text}: {said}");
    }
}

#[test]
fn devices_directories_and_files_that_nobody_may_read_are_named_without_harm() {
    for sandbox in [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten() {
        sandbox
            .tasks("[tasks.cc]\noutputs = ['o']\ndepfile = 'o.d'\nrun = 'echo 1 > o; echo o: /dev/null dir /etc/shadow loop > o.d'\n")
            .dir("dir")
            .link("loop", "loop");
        settled(&sandbox, "cc");
        sandbox.file("dir/new", "").run("build cc").counts("1 fresh, 0 restored, 0 ran").success();
        sandbox.remove("dir").file("dir", "").run("build cc").counts("0 fresh, 0 restored, 1 ran").success();
    }
}

#[test]
fn a_pipe_where_a_depfile_goes_is_none_and_nobody_waits_for_it() {
    for (depfile, made) in [("o.d", "mkfifo o.d"), ("d/*.d", "mkfifo d/o.d"), ("o.d", "rm -f p; mkfifo p; ln -s p o.d")]
    {
        let sandbox = Sandbox::new();
        let tasks = format!("[tasks.cc]\noutputs = ['o']\ndepfile = '{depfile}'\nrun = 'echo 1 > o; {made}'\n");
        sandbox.tasks(&tasks);
        sandbox.run("build cc").says("o.d`: it is not a file").exit(1);
        // What the run before has left there is out of the way.
        sandbox.run("build cc").says("o.d`: it is not a file").exit(1);
    }
}

#[test]
fn what_a_view_holds_is_known_by_its_layers_and_all_else_is_discovered() {
    for sandbox in [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten() {
        let header = beside(&sandbox, "x.h", "one");
        sandbox
            .tasks(&format!(
                "
[sysroots.s]
path = 'prefix'
[tasks.lib]
sysroot = 's'
inputs = ['lib.h']
run = 'cp lib.h {{{{ sysroot.prefix }}}}/lib.h'
[tasks.cc]
needs = ['lib']
outputs = ['o']
depfile = 'o.d'
run = '{{ran}} cc; cat prefix/lib.h {0} > o; echo o: prefix/lib.h {0} > o.d'
",
                header.display()
            ))
            .file("lib.h", "1");
        sandbox.run("build cc").counts("0 fresh, 0 restored, 2 ran").success();
        sandbox.run("build cc").counts("2 fresh, 0 restored, 0 ran").success();
        beside(&sandbox, "x.h", "two");
        sandbox
            .run("build cc")
            .stderr(
                "
       Stale cc@host: [ROOT]/include/x.h, which it read, changed
     Running cc@host (last time [TIME])
    Finished cc@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
            )
            .success();
        assert_eq!(sandbox.read("o"), "1two");
        beside(&sandbox, "x.h", "one");
        sandbox.run("build cc").counts("1 fresh, 1 restored, 0 ran").success();
        sandbox.ran_times("cc", 2);
    }
}

#[test]
fn a_relocatable_step_names_things_where_it_saw_them() {
    for sandbox in [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten() {
        let header = beside(&sandbox, "x.h", "one");
        let other = sandbox.worktree("another/place");
        for tree in [&sandbox, &other] {
            tree.tasks(&format!(
                "
[sysroots.s]
path = 'prefix'
relocatable = true
[tasks.lib]
sysroot = 's'
inputs = ['lib.h']
run = 'cp lib.h {{{{ sysroot.prefix }}}}/lib.h'
[tasks.pkg]
sysroot = 's'
needs = ['lib']
source = {{ path = 'pkg' }}
depfile = '{{{{ step.build }}}}/*.d'
run = '''
{{ran}} pkg
cat {{{{ step.source }}}}/a {0} > made
cp made {{{{ sysroot.prefix }}}}/o
echo o: {{{{ step.source }}}}/a made $PWD/made {{{{ sysroot.prefix }}}}/lib.h {0} > x.d
'''
",
                header.display()
            ))
            .file("lib.h", "1")
            .file("pkg/a", "1");
        }
        sandbox
            .run("build pkg")
            .stderr(
                "
     Running lib@host
     Running pkg@host
    Finished pkg@host in [TIME]: 0 fresh, 0 restored, 2 ran
",
            )
            .success();
        sandbox.run("build pkg").counts("2 fresh, 0 restored, 0 ran").success();
        other.run("build pkg").counts("0 fresh, 2 restored, 0 ran").success();
        beside(&sandbox, "x.h", "two");
        other.run("build pkg").counts("1 fresh, 0 restored, 1 ran").success();
        assert_eq!(other.read("prefix/o"), "1two");
        sandbox.run("build pkg").counts("1 fresh, 1 restored, 0 ran").success();
        beside(&sandbox, "x.h", "one");
        other.run("build pkg").counts("1 fresh, 1 restored, 0 ran").success();
        sandbox.ran_times("pkg", 2);
    }
}
