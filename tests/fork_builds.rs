//! A cargo task in a fork: several worktrees, tasks and builds at once, edits and kills in the middle of a build.

mod fork_rig;
mod sandbox;

use fork_rig::Verdict::{Fresh, Ran, Restored};
use fork_rig::{BANNER, BASE, Built, CORE, Fork, expect, generate, run, second_worktree, with};

#[test]
fn a_second_worktree_gets_the_program_of_the_first_and_keeps_its_own_files() {
    let fork = Fork::built();
    let second = second_worktree(&fork);
    expect(second.build(), Restored, BASE);
    expect(second.build(), Fresh, BASE);
    // In no package: only the build of the first knows that it is read.
    second.file("assets/banner.txt", "other\n");
    expect(second.build(), Ran, &with(&[BANNER]));
    expect(fork.build(), Fresh, BASE);
    fork.file("assets/banner.txt", "other\n");
    expect(fork.build(), Restored, &with(&[BANNER]));
    generate(&second, "2");
    expect(second.build(), Ran, &with(&[BANNER, ("generated 1", "generated 2")]));
    fork.undo();
    expect(fork.build(), Restored, BASE);
    second.git("checkout -q -- assets");
    generate(&second, "1");
    expect(second.build(), Restored, BASE);
}

#[test]
fn a_second_worktree_with_another_banner_from_the_start_does_not_get_the_program_of_the_first() {
    let fork = Fork::built();
    let second = second_worktree(&fork);
    second.file("assets/banner.txt", "other\n");
    expect(second.build(), Ran, &with(&[BANNER]));
}

#[test]
fn an_edit_during_the_build_keeps_the_program_and_stores_nothing() {
    let fork = Fork::new();
    let sandbox = &fork.sandbox;
    let gate = sandbox.filled("{gate config}");
    let command =
        format!("fn main() {{\n    std::process::Command::new(\"sh\").args([\"-c\", {gate:?}]).status().unwrap();");
    fork.replace("crates/harbor-config/build.rs", "fn main() {", &command);
    let main = "crates/harbor-gateway/src/main.rs";
    let before = fork.mtime(main);
    let build = sandbox.start("path gateway");
    sandbox.reached("config");
    // The gateway is compiled last: it gets what the key does not know.
    fork.replace(main, "\"gateway {}\"", "\"gateweg {}\"");
    fork.file("assets/banner.txt", "other\n");
    sandbox.open("config");
    let outcome = build.wait();
    let said = outcome.said().to_owned();
    outcome.stdout("[ROOT]/work/.bcache/out/host/gateway/harbor-gateway\n").success();
    let warning = "main.rs was changed while gateway@host ran: its result is kept here, but not stored";
    assert!(said.contains(warning), "{said}");
    let program = sandbox.at(".bcache/out/host/gateway/harbor-gateway");
    assert_eq!(run(program.to_str().unwrap()), with(&[("gateway 0", "gateweg 0"), BANNER]));
    // As it was, down to the stamp: neither we nor cargo may take the other program for this one's.
    fork.replace(main, "\"gateweg {}\"", "\"gateway {}\"");
    fork.set_mtime(main, before);
    // The build script may run again.
    sandbox.open("config");
    expect(fork.build(), Ran, &with(&[BANNER]));
    fork.git("checkout -q -- assets");
    expect(fork.build(), Ran, BASE);
    expect(fork.build(), Fresh, BASE);
}

#[test]
fn the_program_that_path_names_is_whole_whatever_builds_meanwhile() {
    let fork = Fork::built();
    let sandbox = &fork.sandbox;
    let program = sandbox.at(".bcache/out/host/gateway/harbor-gateway");
    let other = with(&[("core 1", "core 3")]);
    let during = |words: &str, before: &str, after: &str| {
        let mut build = sandbox.start(words);
        let mut runs = 0;
        while build.is_running() {
            let prints = run(program.to_str().unwrap());
            assert!(prints == before || prints == after, "{prints}");
            runs += 1;
        }
        build.wait().success();
        assert!(runs > 0);
        assert_eq!(run(program.to_str().unwrap()), after);
    };
    let edit = || fork.replace(CORE, "core 1", "core 3");
    edit();
    during("build gateway", BASE, &other);
    during("build gateway --force", &other, &other);
    for _ in 0..10 {
        fork.undo();
        during("build gateway", &other, BASE);
        edit();
        during("build gateway", BASE, &other);
    }
    // What the cache has dropped is still here.
    sandbox.env("BCACHE_LIMIT", "1").run("cache gc").success();
    expect(fork.build(), Fresh, &other);
}

#[test]
fn two_programs_of_one_fork_are_built_in_one_run_and_judged_apart() {
    let fork = Fork::new();
    let sandbox = &fork.sandbox;
    sandbox.run("build gateway sandbox").counts("0 fresh, 0 restored, 2 ran").success();
    // Without it cargo cleans nothing, from some version on.
    assert_eq!(fork.sh("find .bcache/cargo -name CACHEDIR.TAG | wc -l").trim(), "1");
    sandbox.run("build gateway sandbox").counts("2 fresh, 0 restored, 0 ran").success();
    fork.append("crates/harbor-sandbox/src/main.rs", "// more\n");
    sandbox.run("build gateway sandbox").counts("1 fresh, 0 restored, 1 ran").success();
    sandbox.run("build gateway sandbox").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.run("build gateway --force").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build gateway sandbox").counts("2 fresh, 0 restored, 0 ran").success();
    fork.env("HARBOR_REBUILD", "1");
    let forced = fork.build();
    assert_eq!((forced.verdict, &*forced.why), (Ran, "forced by HARBOR_REBUILD"));
}

#[test]
fn what_one_task_left_in_the_target_directory_is_not_taken_for_what_another_one_saw() {
    let fork = Fork::built();
    fork.build_of("sandbox");
    let before = fork.mtime(CORE);
    fork.replace(CORE, "core 1", "core 3");
    assert!(fork.build_of("sandbox").prints.contains("core 3\n"));
    fork.replace(CORE, "core 3", "core 1");
    fork.set_mtime(CORE, before);
    fork.append("crates/harbor-gateway/src/main.rs", "// more\n");
    expect(fork.build(), Ran, BASE);
}

#[test]
fn a_program_that_does_not_compile_has_no_path_and_the_last_one_stays_good_for_its_source() {
    let fork = Fork::built();
    let is_as_before = |built: Built| assert!(built.verdict != Ran && built.prints == BASE, "{}", built.prints);
    fork.sandbox.remove("fork/crates/harbor-gateway/src/generated.rs");
    fork.sandbox.run("-q path gateway").exit(1);
    generate(&fork, "1");
    is_as_before(fork.build());
    fork.append(CORE, "fn\n");
    for _ in 0..2 {
        fork.sandbox.run("-q path gateway").exit(1);
    }
    fork.undo();
    is_as_before(fork.build());
}

#[test]
fn of_several_programs_path_wants_to_know_which() {
    let fork = Fork::new();
    fork.file("crates/harbor-sandbox/src/bin/harbor-probe.rs", "fn main() {\n    println!(\"probe\");\n}\n");
    for _ in 0..2 {
        fork.sandbox
            .run("-q path sandbox")
            .stderr(
                "
error: `sandbox@host` has 2 outputs
  help: name one: --output .bcache/out/host/sandbox/harbor-probe, --output .bcache/out/host/sandbox/harbor-sandbox
",
            )
            .exit(2);
        let probe = "[ROOT]/work/.bcache/out/host/sandbox/harbor-probe\n";
        fork.sandbox.run("-q path sandbox --output harbor-probe").stdout(probe).success();
    }
    fork.sandbox.run("build sandbox").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_build_that_was_killed_is_done_again() {
    let fork = Fork::built();
    fork.replace(CORE, "core 1", "core 3");
    let build = fork.sandbox.start("path gateway");
    build.says("Running");
    build.kill();
    let again = fork.build();
    assert_eq!(again.prints, with(&[("core 1", "core 3")]));
    fork.undo();
    expect(fork.build(), Restored, BASE);
}
