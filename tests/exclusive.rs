//! All that `sysroots.rs` says of sysroots holds without namespaces too; and what is different there.

// The sandbox asks for it by the name of this crate.
#[path = "sysroots.rs"]
mod sysroots;

use sysroots::sandbox::Sandbox;

const TASKS: &str = "
[sysroots.s]
path = 'prefix'
[tasks.a]
sysroot = 's'
inputs = ['in']
run = '{ran} a; mkdir -p {{ sysroot.prefix }}/lib; cp in {{ sysroot.prefix }}/lib/a; {gate a}'
[tasks.b]
sysroot = 's'
needs = ['a']
inputs = ['in']
run = '{ran} b; {gate b}; ln {{ sysroot.prefix }}/lib/a {{ sysroot.prefix }}/lib/b'
[tasks.other]
sysroot = 's'
inputs = ['in']
run = '{ran} other; {gate other}; ls -A {{ sysroot.prefix }} > {{ sysroot.prefix }}/other'
[tasks.all]
needs = ['b', 'other']
";

fn with_tasks() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("in", "1\n").env("BCACHE_JOBS", "4");
    sandbox
}

#[test]
fn one_step_has_the_sysroot_at_a_time() {
    let sandbox = with_tasks();
    sandbox.file("prefix/mine", "of the user");
    let build = sandbox.start("build all");
    for gate in ["a", "other", "b"] {
        // Whichever comes first is alone: the others have not begun.
        sandbox.open(gate);
    }
    build.wait().counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!((sandbox.read("prefix/other"), sandbox.read("prefix/mine")), ("other\n".into(), "of the user".into()));
    assert_eq!(sandbox.tree("prefix").len(), 6);
}

#[test]
fn a_hard_link_to_a_file_of_a_need_does_not_tie_the_layers_together() {
    let sandbox = with_tasks();
    for gate in ["a", "other", "b"] {
        sandbox.open(gate);
    }
    sandbox.run("build b").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.append(
        "tasks.toml",
        "[tasks.c]\nsysroot = 's'\nneeds = ['b']\ninputs = ['in']\nrun = 'echo more >> {{ sysroot.prefix }}/lib/a'\n",
    );
    let changed = "`c@host` changed `lib/a`, which belongs to `a@host`";
    assert!(sandbox.run("build c").said().contains(changed));
    sandbox.remove("prefix").run("build b").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!((sandbox.read("prefix/lib/a"), sandbox.read("prefix/lib/b")), ("1\n".to_owned(), "1\n".to_owned()));
}

#[test]
fn a_link_that_a_step_puts_in_the_place_of_its_view_is_not_followed() {
    let sandbox = with_tasks();
    sandbox.file("elsewhere/mine", "of the user").file("prefix/mine", "of the user too").open("a");
    let run = "run = 'rm -rf {{ sysroot.prefix }}; ln -s {{ task.name }} {{ sysroot.prefix }}'";
    sandbox.append("tasks.toml", &format!("[tasks.elsewhere]\nsysroot = 's'\ninputs = ['in']\nneeds = ['a']\n{run}\n"));
    let elsewhere = sandbox.tree("elsewhere");
    let lost = sandbox.run("build elsewhere");
    assert!(lost.said().contains("was taken away while it ran"), "{}", lost.said());
    assert_eq!(sandbox.tree("elsewhere"), elsewhere);
    // The next step with a view begins with what was left there.
    sandbox.open("b").run("build b").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree("elsewhere"), elsewhere);
    assert_eq!((sandbox.read("prefix/lib/b"), sandbox.read("prefix/mine")), ("1\n".into(), "of the user too".into()));
}

#[test]
fn what_somebody_makes_where_a_killed_build_took_the_sysroot_away_moves_aside() {
    let sandbox = with_tasks();
    sandbox.file("prefix/mine", "of the user").open("a").run("build a").success();
    // As a kill between the two renames leaves it.
    let (prefix, whole) = (sandbox.at("prefix"), sandbox.at(".bcache/exclusive/s@host/whole"));
    std::fs::rename(prefix, whole).unwrap();
    sandbox.file("prefix/new", "of somebody").run("build a").counts("1 fresh, 0 restored, 0 ran").success();
    assert_eq!(sandbox.read("prefix/mine"), "of the user");
    assert_eq!(sandbox.read(".bcache/aside/1/prefix/new"), "of somebody");
}

#[test]
fn a_sysroot_that_a_killed_build_left_elsewhere_comes_back_for_a_build_that_had_begun_before() {
    let sandbox = Sandbox::new();
    let free = "[tasks.free]\ninputs = ['in']\nrun = '{gate free}'\n[tasks.both]\nneeds = ['free', 'other']\n";
    sandbox
        .tasks(&format!("{TASKS}{free}"))
        .file("in", "1\n")
        .file("prefix/mine", "of the user")
        .env("BCACHE_JOBS", "4");
    let killed = sandbox.start("build a");
    sandbox.reached("a");
    let waiting = sandbox.start("build both");
    sandbox.reached("free");
    killed.kill();
    sandbox.open("free").open("other");
    waiting.wait().counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!((sandbox.read("prefix/other"), sandbox.read("prefix/mine")), ("other\n".into(), "of the user".into()));
}

#[test]
fn what_was_made_without_namespaces_answers_only_without_them() {
    let sandbox = with_tasks();
    for gate in ["a", "other", "b"] {
        sandbox.open(gate);
    }
    sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.open("a").env("BCACHE_VIEWS", "namespaces");
    sandbox.run("build a").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build a").counts("1 fresh, 0 restored, 0 ran").success();
    // What was made with them is as good here.
    sandbox.env("BCACHE_VIEWS", "exclusive").run("build a").counts("1 fresh, 0 restored, 0 ran").success();
}

#[test]
fn a_link_that_a_step_puts_in_the_place_of_the_sysroot_is_followed_nowhere() {
    let sandbox = with_tasks();
    sandbox.file("elsewhere/precious", "of the user").file("prefix/mine", "of the user");
    sandbox.append(
        "tasks.toml",
        "[tasks.link]\nsysroot = 's'\ninputs = ['in']\nrun = 'rm -r prefix; ln -s elsewhere prefix'\n\
         [tasks.none]\nsysroot = 's'\ninputs = ['in']\nrun = 'rm -r prefix'\n\
         [tasks.anew]\nsysroot = 's'\ninputs = ['in']\nrun = 'rm -r prefix; mkdir prefix; cp in prefix/anew'\n",
    );
    for task in ["link", "none"] {
        let outcome = sandbox.run(&format!("build {task}"));
        assert!(outcome.said().contains("its view of `[ROOT]/work/prefix` was taken away"), "{}", outcome.said());
        outcome.exit(1);
        assert_eq!(sandbox.tree("prefix"), ["/ 755", "mine 644 of the user"]);
        assert_eq!(sandbox.tree("elsewhere"), ["/ 755", "precious 644 of the user"]);
    }
    sandbox.run("build anew").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree("prefix"), ["/ 755", "anew 644 1\\n", "mine 644 of the user"]);
    // Killed while the link is there: the next build puts it right.
    sandbox.edit("tasks.toml", "ln -s elsewhere prefix", "ln -s elsewhere prefix; {gate link}");
    let build = sandbox.start("build link");
    sandbox.reached("link");
    build.kill();
    sandbox.run("build anew").counts("1 fresh, 0 restored, 0 ran").success();
    assert_eq!(sandbox.tree("prefix"), ["/ 755", "anew 644 1\\n", "mine 644 of the user"]);
    assert_eq!(sandbox.tree("elsewhere"), ["/ 755", "precious 644 of the user"]);
}

#[test]
fn a_way_to_keep_steps_apart_that_does_not_exist_is_a_usage_error() {
    let sandbox = with_tasks();
    sandbox
        .env("BCACHE_VIEWS", "magic")
        .run("build a")
        .stderr(
            "
error: BCACHE_VIEWS is `magic`, which is no way to keep steps apart
  help: write auto, namespaces or exclusive
",
        )
        .exit(2);
}

#[test]
fn a_file_of_a_layer_that_is_changed_and_put_back_while_a_step_runs_is_in_no_result() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[sysroots.s]
path = 'prefix'
[tasks.a]
sysroot = 's'
inputs = ['in']
run = 'cp in {{ sysroot.prefix }}/a'
[tasks.b]
sysroot = 's'
needs = ['a']
inputs = ['in']
run = '{ran} b; {gate before}; cat {{ sysroot.prefix }}/a > {{ sysroot.prefix }}/b; {gate after}'
",
        )
        .file("in", "good\n");
    let build = sandbox.start("build b");
    sandbox.reached("before").file("prefix/a", "evil\n").open("before");
    sandbox.reached("after").file("prefix/a", "good\n").open("after");
    let outcome = build.wait();
    let said = outcome.said().to_owned();
    outcome.counts("0 fresh, 0 restored, 2 ran").success();
    assert!(said.contains("prefix/a was changed while b@host ran: its result is kept here, but not stored"), "{said}");
    sandbox.open("before").open("after").run("build b").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("prefix/b"), "good\n");
    sandbox.run("build b").counts("2 fresh, 0 restored, 0 ran").success().ran_times("b", 2);
}
