//! Links that steps make: what they lead to counts for those that need them.

mod sandbox;

use sandbox::Sandbox;

const TASKS: &str = "
[tasks.link]
inputs = ['src/']
outputs = ['gen/data']
run = '{ran} link; ln -sfn ../src/data gen/data'
[tasks.use]
needs = ['link']
inputs = ['in']
outputs = ['out']
run = '{ran} use; cat gen/data > out 2>/dev/null || cat gen/data/* > out'
";

fn linked(tasks: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(tasks).file("src/data", "one\n").file("in", "");
    sandbox.run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox
}

/// After each edit `use` makes what a clean build makes, and another worktree gets its own.
#[track_caller]
fn follows(sandbox: &Sandbox, made: impl Fn(&Sandbox) -> String) {
    assert_eq!(made(sandbox), "one\n");
    sandbox.run("build use").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.file("src/data", "two\n").run("build use").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(made(sandbox), "two\n");
    sandbox.run("why use").answers("src/data changed").success();
    sandbox.remove(".bcache").file("src/data", "one\n");
    sandbox.run("build use").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!(made(sandbox), "one\n");
    let other = sandbox.worktree("elsewhere");
    other.file("tasks.toml", sandbox.read("tasks.toml")).file("in", "").file("src/data", "three\n");
    other.run("build use").success();
    assert_eq!(made(&other), "three\n");
}

#[test]
fn what_a_link_leads_to_that_a_need_has_made_is_an_input() {
    follows(&linked(TASKS), |sandbox| sandbox.read("out"));
}

#[test]
fn what_a_link_leads_to_that_lies_in_a_directory_of_outputs_is_an_input() {
    follows(&linked(&TASKS.replace("['gen/data']", "['gen/']")), |sandbox| sandbox.read("out"));
}

#[test]
fn what_a_link_in_a_layer_leads_to_is_an_input_of_those_that_see_the_layer() {
    let tasks = "
[sysroots.main]
path = 'prefix'
[tasks.link]
sysroot = 'main'
inputs = ['src/']
run = '{ran} link; mkdir -p {{ sysroot.prefix }}/share; ln -sfn ../../src/data {{ sysroot.prefix }}/share/data'
[tasks.use]
sysroot = 'main'
needs = ['link']
inputs = ['in']
run = '{ran} use; mkdir -p {{ sysroot.prefix }}/share; cat {{ sysroot.prefix }}/share/data > {{ sysroot.prefix }}/share/out'
";
    follows(&linked(tasks), |sandbox| sandbox.read("prefix/share/out"));
}

#[test]
fn a_directory_that_a_link_leads_to_counts_with_all_in_it_but_what_steps_make_there() {
    let tasks = TASKS.replace("ln -sfn ../src/data gen/data", "ln -sfn ../src gen/data")
        + "[tasks.other]\noutputs = ['src/made']\ninputs = ['in']\nrun = '{ran} other; echo $$ > src/made'\n";
    let sandbox = linked(&tasks.replace("inputs = ['src/']", "inputs = ['in']"));
    assert_eq!(sandbox.read("out"), "one\n");
    sandbox.file("src/more", "more\n").run("build use").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("out"), "one\nmore\n");
    sandbox.run("build other").success().run("build use").counts("2 fresh, 0 restored, 0 ran").success();
}

#[test]
fn what_a_link_leads_to_that_a_need_of_the_need_has_made_is_an_input() {
    for (to, read) in [("../first/x", "gen/data"), ("../first", "gen/data/x")] {
        let tasks = format!(
            "
[tasks.first]
inputs = ['src/data']
outputs = ['first/']
run = 'cp src/data first/x'
[tasks.link]
needs = ['first']
inputs = ['in']
outputs = ['gen/']
run = 'ln -sfn {to} gen/data'
[tasks.use]
needs = ['link']
inputs = ['in']
outputs = ['out']
run = 'cat {read} > out'
"
        );
        let sandbox = Sandbox::new();
        sandbox.tasks(&tasks).file("src/data", "one\n").file("in", "");
        sandbox.run("build use").counts("0 fresh, 0 restored, 3 ran").success();
        sandbox.run("build use").counts("3 fresh, 0 restored, 0 ran").success();
        sandbox.file("src/data", "two\n").run("build use").success();
        assert_eq!(sandbox.read("out"), "two\n", "{to}");
    }
}

#[test]
fn what_a_link_leads_to_that_is_edited_while_a_step_runs_is_in_no_result() {
    let sandbox = Sandbox::new();
    let tasks = TASKS.replace("{ran} use; ", "{gate before}; ").replace("data/* > out'", "data/* > out; {gate after}'");
    sandbox.tasks(&tasks).file("src/data", "one\n").file("in", "");
    let build = sandbox.start("build use");
    sandbox.reached("before").file("src/data", "evil\n").open("before").reached("after");
    sandbox.file("src/data", "one\n").open("after");
    build.wait().says("src/data was changed while use@host ran").success();
    let again = sandbox.start("build use");
    sandbox.open("before").open("after");
    again.wait().counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("out"), "one\n");
}

#[test]
fn links_among_what_steps_make_and_to_what_never_stays_the_same_add_nothing() {
    let links = "ln -sfn x gen/own; ln -sfn ../other/x gen/theirs; ln -sfn /proc/self/stat gen/fleeting; \
                 ln -sfn /usr/bin/env gen/packaged; ln -sfn .. gen/above; ln -sfn gone gen/gone; echo x > gen/x";
    let tasks = format!(
        "
[tasks.other]
inputs = ['in']
outputs = ['other/']
run = 'echo $$ > other/x'
[tasks.link]
needs = ['other']
inputs = ['in']
outputs = ['gen/']
run = '{links}'
[tasks.use]
needs = ['link']
inputs = ['in']
outputs = ['out']
run = 'ls gen > out'
"
    );
    let sandbox = Sandbox::new();
    sandbox.tasks(&tasks).file("in", "");
    sandbox.run("build use").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.remove(".bcache/proofs").run("build use").counts("3 fresh, 0 restored, 0 ran").success();
    sandbox.file("new", "").remove(".bcache/proofs").run("build use").counts("3 fresh, 0 restored, 0 ran").success();
}
