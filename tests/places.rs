//! Where commands run and what their results say of it: links in a directory's place, paths that a result holds.

mod sandbox;

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
