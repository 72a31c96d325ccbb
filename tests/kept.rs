//! Steps that build on what their last run left: kept build directories, outputs that are not cleaned.

mod sandbox;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use sandbox::Sandbox;

/// A package of two files with a header of its own, one needed from a task, and make's idea of what is up to date.
const PACKAGE: &str = "
[tasks.below]
inputs = ['below.h']
outputs = ['gen/below.h']
run = 'cp below.h gen/below.h'

[tasks.pkg]
needs = ['below']
source = { path = 'pkg' }
build-dir = 'keep'
outputs = ['prog']
inputs = ['flags']
env = { OPT = '-O0' }
run = 'make -s -f {{ step.source }}/Makefile SRC={{ step.source }} GEN={{ step.build }}/../../../../../gen RAN={{ vars.log }}; cp prog ../../../../../prog'
vars.log = '[LOG]'
";

const MAKEFILE: &str = "
prog: a.o b.o
	@echo link >> $(RAN)
	cc -o $@ a.o b.o
%.o: $(SRC)/%.c
	@echo $* >> $(RAN)
	cc $(OPT) -I$(GEN) -I$(SRC)/inc -MMD -c -o $@ $<
-include a.d b.d
";

fn package() -> Sandbox {
    let sandbox = Sandbox::new();
    let log = sandbox.root().join("ran");
    sandbox
        .tasks(&PACKAGE.replace("[LOG]", log.to_str().unwrap()))
        .file("below.h", "#define BELOW 1\n")
        .file("flags", "")
        .file("pkg/Makefile", MAKEFILE)
        .file("pkg/inc/own.h", "#define OWN 1\n")
        .file("pkg/a.c", "#include <below.h>\nint b(void); int main(void) { return BELOW + b(); }\n")
        .file("pkg/b.c", "#include <own.h>\nint b(void) { return OWN; }\n");
    sandbox
}

/// What make did in the last build.
#[track_caller]
fn made(sandbox: &Sandbox, command: &str) -> String {
    let log = sandbox.root().join("ran");
    fs::write(&log, "").unwrap();
    sandbox.run(command).success();
    let mut words: Vec<String> = fs::read_to_string(&log).unwrap().lines().map(str::to_owned).collect();
    words.sort();
    words.join(" ")
}

#[track_caller]
fn exit_code(sandbox: &Sandbox) -> i32 {
    Command::new(sandbox.at("prog")).status().unwrap().code().unwrap()
}

fn results(sandbox: &Sandbox) -> String {
    let stats = sandbox.run("cache stats").answered().to_owned();
    stats.lines().find(|line| line.starts_with("results")).unwrap().to_owned()
}

#[test]
fn one_edited_file_compiles_one_file_and_the_result_is_not_stored() {
    let sandbox = package();
    sandbox.run("build below").success();
    let before = results(&sandbox);
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    assert_eq!(exit_code(&sandbox), 2);
    sandbox.file("pkg/b.c", "#include <own.h>\nint b(void) { return OWN + 5; }\n");
    assert_eq!(made(&sandbox, "build pkg"), "b link");
    assert_eq!(exit_code(&sandbox), 7);
    sandbox.file("pkg/inc/own.h", "#define OWN 2\n");
    assert_eq!(made(&sandbox, "build pkg"), "b link");
    assert_eq!(exit_code(&sandbox), 8);
    assert_eq!(results(&sandbox), before);
    sandbox.run("build pkg").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_need_a_variable_a_command_or_an_input_that_changed_begins_from_nothing() {
    let sandbox = package();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    sandbox.file("below.h", "#define BELOW 3\n");
    sandbox
        .run("build pkg")
        .stderr(
            "
       Stale below@host: below.h changed
     Running below@host (last time [TIME])
       Stale pkg@host: below@host's output changed (gen/below.h)
note: pkg@host begins from nothing: below@host's output changed
     Running pkg@host (last time [TIME])
    Finished pkg@host in [TIME]: 0 fresh, 0 restored, 2 ran
",
        )
        .success();
    assert_eq!(exit_code(&sandbox), 4);
    for (file, from, to) in [("tasks.toml", "'-O0'", "'-O1'"), ("tasks.toml", "make -s", "true; make -s")] {
        sandbox.edit(file, from, to);
        assert_eq!(made(&sandbox, "build pkg"), "a b link", "{to}");
    }
    sandbox.file("flags", "x");
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    // The next edit is one again.
    sandbox.append("pkg/a.c", "/* */\n");
    assert_eq!(made(&sandbox, "build pkg"), "a link");
}

#[test]
fn an_edit_that_is_not_newer_than_the_last_run_begins_from_nothing() {
    let sandbox = package();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    let path = sandbox.at("pkg/b.c");
    let stamp = fs::metadata(&path).unwrap().modified().unwrap();
    sandbox.file("pkg/b.c", "#include <own.h>\nint b(void) { return OWN + 7; }\n");
    fs::File::open(&path).unwrap().set_modified(stamp).unwrap();
    let said = sandbox.run("build pkg").said().to_owned();
    assert!(
        said.contains("pkg@host begins from nothing: pkg/b.c changed, and is not newer than the last run\n"),
        "{said}"
    );
    assert_eq!(exit_code(&sandbox), 9);
}

#[test]
fn a_restored_backup_is_seen_whatever_its_stamp() {
    let sandbox = package();
    sandbox.file("pkg/b.c.backup-of-yesterday", "#include <own.h>\nint b(void) { return OWN + 9; }\n");
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    fs::rename(sandbox.at("pkg/b.c.backup-of-yesterday"), sandbox.at("pkg/b.c")).unwrap();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    assert_eq!(exit_code(&sandbox), 11);
}

#[test]
fn a_source_file_that_is_gone_or_new_begins_from_nothing_unless_an_editor_left_it() {
    let sandbox = package();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    sandbox.file("pkg/inc/below.h", "#define BELOW 9\n");
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    sandbox.remove("pkg/inc/below.h");
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    sandbox.file("pkg/.a.c.swp", "").file("pkg/a.c~", "");
    assert_eq!(made(&sandbox, "build pkg"), "");
    sandbox.remove("pkg/.a.c.swp").remove("pkg/a.c~");
    assert_eq!(made(&sandbox, "build pkg"), "");
}

#[test]
fn a_run_that_failed_is_built_on_and_one_that_was_killed_is_not() {
    let sandbox = package();
    let good = sandbox.read("pkg/b.c");
    sandbox.file("pkg/b.c", "error\n").run("build pkg").exit(1);
    sandbox.file("pkg/b.c", &good);
    assert_eq!(made(&sandbox, "build pkg"), "b link");
    // A failure keeps what it was used with: another need since is no edit.
    sandbox.file("pkg/b.c", "error\n").run("build pkg").exit(1);
    sandbox.file("pkg/b.c", &good).file("below.h", "#define BELOW 2\n");
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    // What waits there stays until the test ends.
    sandbox.edit("pkg/Makefile", "@echo link", "{gate linking}; echo link");
    let running = sandbox.append("pkg/b.c", "/* */\n").start("build pkg");
    sandbox.reached("linking");
    running.kill();
    sandbox.file("pkg/Makefile", MAKEFILE);
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    // A make that was killed has not taken its half-made file away.
    sandbox.edit("pkg/Makefile", "@echo link", "kill -9 $$PPID");
    sandbox.append("pkg/b.c", "/* */\n").run("build pkg").exit(1);
    sandbox.file("pkg/Makefile", MAKEFILE);
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
}

#[test]
fn an_edit_while_it_runs_is_not_built_on() {
    let sandbox = package();
    sandbox.edit("pkg/Makefile", "@echo link", "{gate linking}; echo link");
    let running = sandbox.start("build pkg");
    sandbox.reached("linking").file("pkg/b.c", "#include <own.h>\nint b(void) { return OWN + 4; }\n").open("linking");
    running.wait().success();
    sandbox.open("linking");
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    assert_eq!(exit_code(&sandbox), 6);
    sandbox.run("build pkg").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_need_that_is_edited_and_put_back_unseen_while_it_runs_is_not_built_on() {
    let sandbox = package();
    sandbox.edit("pkg/Makefile", "cc $(OPT)", "{gate compiling}; cc $(OPT)").run("build below").success();
    let stamp = fs::metadata(sandbox.at("gen/below.h")).unwrap().modified().unwrap();
    let running = sandbox.start("build pkg");
    sandbox.reached("compiling").file("gen/below.h", "#define BELOW 7\n").open("compiling");
    sandbox.reached("compiling").file("gen/below.h", "#define BELOW 1\n");
    fs::File::options().write(true).open(sandbox.at("gen/below.h")).unwrap().set_modified(stamp).unwrap();
    sandbox.open("compiling");
    running.wait().says("gen/below.h was changed while pkg@host ran").success();
    sandbox.file("pkg/Makefile", MAKEFILE);
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    assert_eq!(exit_code(&sandbox), 2);
}

#[test]
fn force_and_clean_begin_from_nothing() {
    let sandbox = package();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    assert_eq!(made(&sandbox, "build pkg --force"), "a b link");
    sandbox.run("clean pkg").success();
    assert!(!sandbox.exists(".bcache/work/host/pkg"));
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
}

#[test]
fn headers_elsewhere_that_a_depfile_names_begin_from_nothing() {
    let sandbox = package();
    let header = sandbox.root().join("outside.h");
    fs::write(&header, "#define OUT 1\n").unwrap();
    sandbox
        .edit("tasks.toml", "build-dir = 'keep'", "build-dir = 'keep'\ndepfile = '{{ step.build }}/*.d'")
        .file("pkg/b.c", format!("#include \"{}\"\nint b(void) {{ return OUT; }}\n", header.display()));
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    fs::write(&header, "#define OUT 2\n").unwrap();
    let said = sandbox.run("build pkg").said().to_owned();
    assert!(said.contains("begins from nothing: [ROOT]/outside.h, which it read, changed\n"), "{said}");
    sandbox.append("pkg/a.c", "/* */\n");
    assert_eq!(made(&sandbox, "build pkg"), "a link");
}

#[test]
fn keep_needs_a_working_copy_and_patches_of_one_are_said_each_time() {
    let sandbox = Sandbox::new();
    sandbox.file("dl/x.tar", "").tasks(
        "
[tasks.unpacked]
source = { archive = 'dl/x.tar' }
build-dir = 'keep'
run = 'true'
[tasks.none]
inputs = ['dl/x.tar']
build-dir = 'keep'
run = 'true'
",
    );
    let said = sandbox.run("build unpacked").said().to_owned();
    for task in ["unpacked", "none"] {
        assert!(
            said.contains(&format!("`{task}` can't keep its build directory: its source is no working copy")),
            "{said}"
        );
    }
    sandbox
        .tasks("[tasks.copy]\nsource = { path = 'pkg', patches = ['fix/*.patch'] }\nrun = 'true'\n")
        .file("pkg/a", "");
    sandbox.file("fix/1.patch", "");
    for counts in ["0 fresh, 0 restored, 1 ran", "1 fresh, 0 restored, 0 ran", "1 fresh, 0 restored, 0 ran"] {
        let outcome = sandbox.run("build copy").counts(counts);
        let warning = "tasks.toml:4:10: the source of `copy` is a working copy: not applied to it: fix/*.patch";
        assert!(outcome.said().contains(warning), "{}", outcome.said());
        outcome.success();
    }
}

#[test]
fn outputs_that_are_not_cleaned_are_built_on_after_edits_only() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.tool]
inputs = ['in/*']
outputs = ['out/']
clean = false
env = { MODE = 'a' }
run = 'cat in/a > out/a; echo run >> out/log'
",
        )
        .file("in/a", "1");
    let runs = |sandbox: &Sandbox| sandbox.read("out/log").lines().count();
    // Of somebody, not of a run.
    sandbox.file("out/log", "foreign\n").run("build tool").success();
    assert_eq!((runs(&sandbox), sandbox.read(".bcache/aside/1/out/log")), (1, "foreign\n".into()));
    sandbox.file("in/a", "2").run("build tool").success();
    assert_eq!(runs(&sandbox), 2);
    sandbox.edit("tasks.toml", "'a' }", "'b' }").run("build tool").success();
    assert_eq!(runs(&sandbox), 1);
    sandbox.file("in/a", "3").run("build tool").success();
    sandbox.file("in/b", "").run("build tool").success();
    assert_eq!(runs(&sandbox), 1);
    let stamp = fs::metadata(sandbox.at("in/a")).unwrap().modified().unwrap();
    sandbox.file("in/a", "4");
    fs::File::open(sandbox.at("in/a")).unwrap().set_modified(stamp).unwrap();
    sandbox.run("build tool").success();
    assert_eq!(runs(&sandbox), 1);
    assert!(results(&sandbox).ends_with(" 0"));
}

#[test]
fn a_changed_layer_below_begins_from_nothing_and_an_edit_does_not() {
    for sandbox in [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten() {
        sandbox
            .tasks(
                "
[sysroots.s]
path = 'prefix'
[tasks.lib]
sysroot = 's'
inputs = ['lib.h']
run = 'cp lib.h {{ sysroot.prefix }}/lib.h'
[tasks.pkg]
sysroot = 's'
needs = ['lib']
source = { path = 'pkg' }
build-dir = 'keep'
run = 'echo run >> runs; cp runs {{ sysroot.prefix }}/runs; cat {{ step.source }}/a {{ sysroot.prefix }}/lib.h'
",
            )
            .file("lib.h", "1")
            .file("pkg/a", "1");
        let runs = || sandbox.read("prefix/runs").lines().count();
        sandbox.run("build lib").success();
        let before = results(&sandbox);
        sandbox.run("build pkg").success();
        sandbox.file("pkg/a", "2").run("build pkg").success();
        assert_eq!(runs(), 2);
        assert_eq!(results(&sandbox), before);
        sandbox
            .file("lib.h", "2")
            .run("build pkg")
            .stderr(
                "
       Stale lib@host: lib.h changed
     Running lib@host (last time [TIME])
       Stale pkg@host: lib@host's output changed (lib.h)
note: pkg@host begins from nothing: lib@host's output changed
     Running pkg@host (last time [TIME])
    Finished pkg@host in [TIME]: 0 fresh, 0 restored, 2 ran
",
            )
            .success();
        assert_eq!(runs(), 1);
        sandbox.remove("prefix").run("build pkg").counts("0 fresh, 1 restored, 1 ran").success();
    }
}

#[test]
fn a_moved_worktree_drops_what_holds_its_path_and_says_so_once() {
    let sandbox = package();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    let moved = sandbox.worktree("moved");
    fs::remove_dir(moved.work()).unwrap();
    fs::rename(sandbox.work(), moved.work()).unwrap();
    moved.append("pkg/a.c", "/* */\n");
    let note = "this worktree was moved or copied from [ROOT]/work: what holds its path is made again\n";
    let said = moved.run("plan pkg").said().to_owned();
    assert!(said.contains(note), "{said}");
    assert!(!moved.exists(".bcache/work/host/pkg/build"));
    let outcome = moved.run("build pkg");
    assert!(!outcome.said().contains("was moved"));
    outcome.success();
}

#[test]
fn what_the_disk_may_have_lost_with_the_power_is_not_built_on() {
    let sandbox = package();
    assert_eq!(made(&sandbox, "build pkg"), "a b link");
    let kept = sandbox.at(".bcache/kept/pkg@host");
    let good = fs::read(&kept).unwrap();
    for damaged in [&good[..good.len() - 1], b""] {
        fs::write(&kept, damaged).unwrap();
        sandbox.append("pkg/a.c", "/* */\n");
        assert_eq!(made(&sandbox, "build pkg"), "a b link");
    }
}

/// Every path with all that a change of it would move.
fn listing(dir: &Path, into: &mut Vec<String>) {
    let meta = fs::symlink_metadata(dir).unwrap();
    let stamps = (meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec());
    into.push(format!("{} {} {} {stamps:?}", dir.display(), meta.ino(), meta.size()));
    if meta.is_dir() {
        let mut names: Vec<_> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        names.iter().for_each(|path| listing(path, into));
    }
}

#[test]
fn a_build_in_a_copied_worktree_touches_nothing_of_the_original() {
    let sandbox = package();
    let configured = "
[tasks.configured]
inputs = ['below.h']
outputs = ['conf/']
run = 'echo $PWD > conf/place; echo $PWD/conf/log > conf/log-place; echo x >> $(cat conf/log-place)'
[tasks.grown]
inputs = ['below.h']
outputs = ['grown/']
clean = false
run = 'test -f grown/place || echo $PWD > grown/place; echo x >> $(cat grown/place)/grown/log'
";
    let manifest = sandbox.read("tasks.toml");
    sandbox.file("tasks.toml", format!("{manifest}{configured}"));
    made(&sandbox, "build pkg configured grown");
    let copy = sandbox.worktree("copy");
    fs::remove_dir(copy.work()).unwrap();
    assert!(Command::new("cp").arg("-a").arg(sandbox.work()).arg(copy.work()).status().unwrap().success());
    let (mut before, mut after) = (Vec::new(), Vec::new());
    listing(&sandbox.work(), &mut before);
    copy.append("pkg/a.c", "/* */\n").append("below.h", "/* */\n");
    assert_eq!(made(&copy, "build pkg configured grown"), "a b link");
    listing(&sandbox.work(), &mut after);
    assert_eq!(before, after);
    for path in ["conf/place", "grown/place"] {
        assert_eq!(copy.read(path).trim(), copy.work().to_str().unwrap());
    }
    copy.run("build pkg configured grown").counts("4 fresh, 0 restored, 0 ran").success();
}

#[test]
fn results_that_hold_the_path_of_the_workspace_are_shown_as_such() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.conf]\ninputs = ['i']\noutputs = ['o']\nrun = 'pwd > o'\n")
        .file("i", "")
        .run("build conf")
        .success();
    let listed = sandbox.run("cache list").answered().to_owned();
    assert!(listed.ends_with(", only in [ROOT]/work\n"), "{listed}");
    sandbox
        .run("why conf")
        .stdout(
            "
conf@host is fresh; it last ran:
  because: it never ran here
  place: what it made holds the path of the workspace: it answers only here
",
        )
        .success();
}

#[test]
fn an_output_that_somebody_edited_is_not_built_on() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.o]
inputs = ['src/*']
outputs = ['k/']
clean = false
run = 'for f in a b; do [ k/$f -nt src/$f ] || cp src/$f k/$f; done'
",
        )
        .file("src/a", "1")
        .file("src/b", "1");
    sandbox.run("build o").success();
    for name in ["a", "b"] {
        sandbox.append(&format!("k/{name}"), "by hand").run("build o").success();
        assert_eq!((sandbox.read("k/a"), sandbox.read("k/b")), ("1".to_owned(), "1".to_owned()));
    }
    sandbox.file("k/mine", "x").run("build o").success();
    assert_eq!(sandbox.tree("k"), ["/ 755", "a 644 1", "b 644 1"]);
    sandbox.run("build o").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_stamp_in_the_future_that_make_copies_hides_no_edit() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.pkg]
source = { path = 'pkg' }
build-dir = 'keep'
outputs = ['out']
run = 'make -s -f {{ step.source }}/Makefile SRC={{ step.source }}; cp out ../../../../../out'
",
        )
        .file("pkg/Makefile", "out: $(SRC)/h\n\tcp -p $(SRC)/h out\n")
        .file("pkg/h", "one\n");
    let in_hours = |hours: u64| {
        let stamp = std::time::SystemTime::now() + std::time::Duration::from_secs(hours * 3600);
        fs::File::open(sandbox.at("pkg/h")).unwrap().set_modified(stamp).unwrap();
    };
    in_hours(2);
    sandbox.run("build pkg").success();
    sandbox.file("pkg/h", "two\n");
    in_hours(1);
    sandbox.run("build pkg").success();
    assert_eq!(sandbox.read("out"), "two\n");
}

#[test]
fn a_stamp_in_the_future_that_make_takes_from_a_need_hides_no_edit() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[tasks.gen]
outputs = ['gen/g']
run = 'echo g > gen/g; touch -d \"+2 hours\" gen/g'
[tasks.pkg]
needs = ['gen']
source = { path = 'pkg' }
build-dir = 'keep'
outputs = ['out']
run = 'make -s -f {{ step.source }}/Makefile SRC={{ step.source }}; cp out ../../../../../out'
",
        )
        .file("pkg/Makefile", "out: $(SRC)/h\n\tcp $(SRC)/h out; touch -r ../../../../../gen/g out\n")
        .file("pkg/h", "one\n")
        .run("build pkg")
        .success();
    sandbox.file("pkg/h", "two\n").run("build pkg").success();
    assert_eq!(sandbox.read("out"), "two\n");
}
