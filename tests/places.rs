//! Where commands run and what their results say of it: links in a directory's place, paths that a result holds.

mod sandbox;

use std::process::Command;

use sandbox::Sandbox;

const FRESH: &str = "1 fresh, 0 restored, 0 ran";
const RESTORED: &str = "0 fresh, 1 restored, 0 ran";
const RAN: &str = "0 fresh, 0 restored, 1 ran";

#[track_caller]
fn makes(sandbox: &Sandbox, counts: &str, made: &str) {
    sandbox.run("build make").counts(counts).success();
    assert_eq!(sandbox.read("out"), made);
    for _ in 0..2 {
        sandbox.run("build make").counts(FRESH).success();
    }
}

#[test]
fn a_link_that_commands_run_behind_is_turned() {
    let sandbox = Sandbox::new();
    let tasks = |cwd: &str| {
        let inputs = "inputs = ['rel/1/x', 'rel/2/x', 'rel/2/sub/x', 'dir/x', 'x']";
        let run = format!("run = 'cat x ../x > {}/out'", sandbox.work().display());
        format!("[tasks.make]\ncwd = '{cwd}'\n{inputs}\noutputs = ['out']\n{run}\n")
    };
    for (path, text) in
        [("rel/1/x", "one "), ("rel/2/x", "two "), ("rel/2/sub/x", "inner "), ("rel/x", "near"), ("x", "top")]
    {
        sandbox.file(path, text);
    }
    sandbox.file("dir/x", "inner ").link("cur", "rel/1").tasks(&tasks("cur"));
    makes(&sandbox, RAN, "one near");
    sandbox.remove("cur").link("cur", "rel/2");
    sandbox.run("plan make").answers("cur").success();
    makes(&sandbox, RAN, "two near");
    sandbox.remove("cur").link("cur", "rel/1");
    makes(&sandbox, RESTORED, "one near");
    // A directory becomes a link to the same files with another directory above.
    sandbox.tasks(&tasks("dir"));
    makes(&sandbox, RAN, "inner top");
    sandbox.file("dir/else", "means nothing").run("build make").counts(FRESH).success();
    sandbox.remove("dir").link("dir", "rel/2/sub");
    makes(&sandbox, RAN, "inner two ");
}

#[test]
fn an_input_that_goes_up_again_is_no_input_any_more_once_a_link_leads_elsewhere() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.make]\ninputs = ['lib/../x']\noutputs = ['out']\nrun = 'cat lib/../x > out'\n")
        .file("x", "one")
        .file("far/x", "two")
        .dir("lib")
        .dir("far/lib");
    makes(&sandbox, RAN, "one");
    sandbox.file("lib/else", "means nothing").run("build make").counts(FRESH).success();
    sandbox.remove("lib").link("lib", "far/lib");
    sandbox.run("build make").says("lib").exit(1);
    sandbox.remove("lib").dir("lib");
    makes(&sandbox, FRESH, "one");
}

/// What a step makes of two directories, of which `cur` leads to the first; and once it is turned, to the second.
#[track_caller]
fn follows(sandbox: &Sandbox, made: [&str; 2]) {
    makes(sandbox, RAN, made[0]);
    sandbox.remove("cur").link("cur", "v2").run("plan make").answers("cur").success();
    makes(sandbox, RAN, made[1]);
    sandbox.remove("cur").link("cur", "v1");
    makes(sandbox, RESTORED, made[0]);
    // The same in another worktree is the same.
    sandbox.remove("out").remove(".bcache").run("build make").counts(RESTORED).success();
}

fn turning(task: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(&format!("[tasks.make]\noutputs = ['out']\n{task}\n")).link("cur", "v1");
    for (dir, says) in [("v1", "one"), ("v2", "two")] {
        sandbox.file(format!("{dir}/sub/main"), "the ").file(format!("{dir}/sub/inc"), says);
    }
    sandbox
}

#[test]
fn a_link_on_the_way_to_an_input_is_turned() {
    for input in ["cur/sub/main", "cur/sub", "cur/*/main", "c*/sub/main", "c*/**/ma*", "inner", "dir", "dir/*"] {
        let inputs = format!("inputs = ['{input}', '!**/inc']");
        let sandbox = turning(&format!("{inputs}\nrun = 'cat cur/sub/main cur/sub/inc > out'"));
        sandbox.link("inner", "cur/sub").link("dir/inner", "../cur/sub");
        follows(&sandbox, ["the one", "the two"]);
    }
}

#[test]
fn a_directory_on_the_way_to_an_input_becomes_a_link() {
    let sandbox = turning("inputs = ['v1/sub/main', 'v2/**']\nrun = 'cat v1/sub/main v1/sub/inc > out'");
    makes(&sandbox, RAN, "the one");
    sandbox.file("v1/sub/else", "means nothing").run("build make").counts(FRESH).success();
    sandbox.remove("v1").link("v1", "v2");
    makes(&sandbox, RAN, "the two");
    let sandbox = turning("inputs = ['v1/sub/main', 'v2/**']\nrun = 'cat v1/sub/main v1/../inc > out'");
    sandbox.file("inc", "top").file("far/inc", "far");
    makes(&sandbox, RAN, "the top");
    // The file itself stays the same one.
    sandbox.rename("v1", "far/v1").link("v1", "far/v1");
    makes(&sandbox, RAN, "the far");
    let sandbox = turning("inputs = ['v1/sub/main']\nrun = 'cat v1/sub/main v1/sub/../inc > out'");
    sandbox.file("v1/inc", "near").file("far/inc", "far");
    makes(&sandbox, RAN, "the near");
    sandbox.rename("v1/sub", "far/sub").link("v1/sub", "../far/sub");
    makes(&sandbox, RAN, "the far");
}

#[test]
fn a_link_on_the_way_to_a_script_is_turned() {
    let sandbox = turning("inputs = ['v1/**', 'v2/**']\nrun = './cur/gen > out'");
    for dir in ["v1", "v2"] {
        let gen_ = format!("{dir}/gen");
        sandbox.file(&gen_, "#!/bin/sh\ncat $(dirname \"$0\")/sub/inc\n").chmod(&gen_, 0o755);
    }
    follows(&sandbox, ["one", "two"]);
}

/// Says no version, and what lies where it does.
const SAY: &str = r#"#!/bin/sh
test "$1" = --version || cat "$(dirname "$(readlink -f "$0")")/../sub/inc"
"#;

#[test]
fn a_link_on_the_way_to_a_directory_of_path_or_to_a_program_in_it_is_turned() {
    for path in ["cur/bin", "bin"] {
        let sandbox = turning(&format!("inputs = ['v1/**', 'v2/**']\npath = ['{path}']\nrun = 'say > out'"));
        for dir in ["v1", "v2"] {
            let say = format!("{dir}/bin/say");
            sandbox.file(&say, SAY).chmod(&say, 0o755);
        }
        sandbox.link("bin/say", "../cur/bin/say");
        makes(&sandbox, RAN, "one");
        sandbox.remove("cur").link("cur", "v2");
        sandbox.run("plan make").answers("programs").success();
        makes(&sandbox, RAN, "two");
        sandbox.remove("cur").link("cur", "v1");
        makes(&sandbox, RESTORED, "one");
    }
}

#[test]
fn a_link_that_is_turned_and_put_back_while_a_step_runs_is_in_no_result() {
    let cases = [
        ("inputs = ['cur/sub/inc']", "cat cur/sub/inc"),
        ("inputs = ['c*/sub/inc']", "cat cur/sub/inc"),
        ("inputs = ['inner']", "cat inner/inc"),
        ("inputs = ['x']", "./cur/say"),
        ("inputs = ['x']\npath = ['cur']", "say"),
        ("inputs = ['x']\npath = ['bin']", "say"),
        ("inputs = ['x']\ntools = ['tool']", "tool"),
    ];
    for (task, command) in cases {
        let run = format!("run = '{{gate before}}; {command} > out; {{gate after}}'");
        let sandbox = turning(&format!("{task}\n{run}"));
        sandbox
            .file("x", "")
            .link("inner", "cur/sub")
            .link("bin/say", "../cur/say")
            .link("../bin/tool", "../work/cur/say");
        for (path, says) in [("v1/say", "one"), ("v2/say", "two")] {
            sandbox.file(path, format!("#!/bin/sh\nprintf {says}\n")).chmod(path, 0o755);
        }
        let build = sandbox.start("build make");
        sandbox.reached("before").remove("cur").link("cur", "v2").open("before");
        sandbox.reached("after").remove("cur").link("cur", "v1").open("after");
        build.wait().says("was changed while make@host ran").success();
        assert_eq!(sandbox.read("out"), "two", "{task}");
        sandbox.open("before").open("after");
        makes(&sandbox, RAN, "one");
    }
}

#[test]
fn a_link_on_the_way_to_a_source_or_a_working_copy_is_turned() {
    let sandbox = turning("source = { path = 'cur/sub' }\nrun = 'cd HERE; cat cur/sub/main cur/near > out'");
    sandbox.edit("tasks.toml", "HERE", sandbox.work().to_str().unwrap()).remove("v1/sub/inc").remove("v2/sub/inc");
    sandbox.file("v1/near", "one").file("v2/near", "two");
    follows(&sandbox, ["the one", "the two"]);
    let sandbox =
        turning("inputs = [{ git = 'cur/sub', paths = ['main'] }]\nrun = 'cat cur/sub/main cur/sub/inc > out'");
    for dir in ["v1/sub", "v2/sub"] {
        assert!(Command::new("git").args(["init", "-q"]).arg(sandbox.at(dir)).status().unwrap().success());
    }
    follows(&sandbox, ["the one", "the two"]);
}

#[test]
fn a_link_in_the_place_of_the_state_or_above_the_workspace_is_in_no_key() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    let make = "[tasks.make]\ninputs = ['in/x']\noutputs = ['out']\nrun = 'cp in/x out'\n";
    for (place, state) in [(&sandbox, "../fast/a"), (&other, "../fast/b")] {
        place.tasks(make).file("in/x", "one").dir(state).link(".bcache", state);
    }
    makes(&sandbox, RAN, "one");
    makes(&other, RESTORED, "one");
    sandbox.link("../by", "work").run("-C ../by build make").counts(FRESH).success();
}

#[test]
fn a_link_that_a_need_made_on_the_way_to_an_input_makes_nothing_run_again() {
    let need = "[tasks.turn]\ninputs = ['which']\noutputs = ['gen/cur']\nrun = 'ln -sfn ../$(cat which) gen/cur'\n";
    let sandbox = Sandbox::new();
    let task =
        "[tasks.make]\nneeds = ['turn']\ninputs = ['gen/cur/x']\noutputs = ['out']\nrun = 'cat gen/cur/x > out'\n";
    let other = sandbox.worktree("other");
    for place in [&sandbox, &other] {
        place.tasks(&format!("{need}{task}")).file("which", "v1").file("v1/x", "one").file("v2/x", "two");
    }
    sandbox.run("build make").counts("0 fresh, 0 restored, 2 ran").success();
    for _ in 0..2 {
        sandbox.run("build make").counts("2 fresh, 0 restored, 0 ran").success();
    }
    other.run("build make").counts("0 fresh, 2 restored, 0 ran").success();
    sandbox.file("which", "v2").run("build make").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.read("out"), "two");
    sandbox.file("which", "v1").run("build make").counts("0 fresh, 2 restored, 0 ran").success();
    sandbox.run("build make").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_task_that_is_renamed_does_not_get_a_result_that_holds_a_directory_of_its_old_name() {
    let sandbox = Sandbox::new();
    let tasks = |name: &str| {
        sandbox.tasks(&format!("[tasks.{name}]\noutputs = ['out']\nrun = '{{ran}} it; echo \"$TMPDIR\" > out'\n"));
        sandbox.run(&format!("build {name}")).success();
        sandbox.read("out")
    };
    let [first, second, again] = ["one", "another", "one"].map(tasks);
    assert!(first.contains("one@host") && second.contains("another@host"), "{first}{second}");
    assert_eq!(again, first);
    sandbox.ran_times("it", 2);
}

#[test]
fn what_a_glob_of_outputs_matches_is_kept_whatever_its_name() {
    let sandbox = Sandbox::new();
    let run = "run = 'mkdir -p gen/.git; echo ref > gen/.git/HEAD; echo x > gen/x; echo made > out'";
    sandbox.tasks(&format!("[tasks.make]\noutputs = ['gen/**', 'out']\n{run}\n"));
    makes(&sandbox, RAN, "made\n");
    sandbox.remove("gen");
    makes(&sandbox, RESTORED, "made\n");
    assert_eq!(sandbox.read("gen/.git/HEAD"), "ref\n");
    sandbox.file("gen/.git/HEAD", "another");
    makes(&sandbox, RESTORED, "made\n");
}
