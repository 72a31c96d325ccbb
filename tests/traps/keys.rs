//! What is in a key: all that can change the result. And what is not: all that differs every time.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::cargo_rig;
use crate::sandbox::Sandbox;
use crate::settled;

/// go-task/task#548: a variable that a command is filled with was in no checksum, nor was the command.
/// jdx/mise#3499: nor is the definition of a task.
#[test]
fn a_variable_that_reaches_a_command_by_any_way_runs_the_step() {
    let sandbox = Sandbox::new();
    let tasks = |global: &str, target: &str, template: &str, own: &str| {
        format!(
            "
[vars]
global = '{global}'
[targets.t]
triple = 'x86_64-unknown-linux-gnu'
vars.target = '{target}'
[templates.t]
vars.template = '{template}'
vars.whole = '{{{{ vars.global }}}}-{{{{ vars.target }}}}-{{{{ vars.template }}}}-{{{{ vars.own }}}}'
[tasks.say]
extends = 't'
targets = ['t']
vars.own = '{own}'
inputs = ['a']
outputs = ['o']
run = '{{ran}} say; cat a > o; echo {{{{ vars.whole }}}} >> o'
"
        )
    };
    sandbox.tasks(&tasks("1", "1", "1", "1")).file("a", "");
    settled(&sandbox, "say");
    for (global, target, template, own) in
        [("2", "1", "1", "1"), ("1", "2", "1", "1"), ("1", "1", "2", "1"), ("1", "1", "1", "2")]
    {
        sandbox.tasks(&tasks(global, target, template, own));
        sandbox.run("build say").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("o"), format!("{global}-{target}-{template}-{own}\n"));
        sandbox.tasks(&tasks("1", "1", "1", "1")).run("build say").counts("0 fresh, 1 restored, 0 ran").success();
        assert_eq!(sandbox.read("o"), "1-1-1-1\n");
    }
}

/// go-task/task#394: variables that are not in the key. Here those that come to the command from outside and by the
/// environment.
#[test]
fn a_variable_of_the_environment_runs_the_step_wherever_it_is_declared() {
    let sandbox = Sandbox::new();
    let tasks = |target: &str, template: &str, own: &str| {
        format!(
            "
[targets.t]
triple = 'x86_64-unknown-linux-gnu'
env = {{ OF_TARGET = '{target}' }}
[templates.t]
env = {{ OF_TEMPLATE = '{template}' }}
[tasks.say]
extends = 't'
targets = ['t']
env = {{ OWN = '{own}' }}
env-pass = ['OUTSIDE']
inputs = ['a']
outputs = ['o']
run = '{{ran}} say; cat a > o; echo $OF_TARGET-$OF_TEMPLATE-$OWN-${{OUTSIDE-none}} >> o'
"
        )
    };
    sandbox.tasks(&tasks("1", "1", "1")).file("a", "");
    settled(&sandbox, "say");
    for (target, template, own) in [("2", "1", "1"), ("1", "2", "1"), ("1", "1", "2"), ("", "1", "1")] {
        sandbox.tasks(&tasks(target, template, own)).run("build say").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("o"), format!("{target}-{template}-{own}-none\n"));
    }
    sandbox.tasks(&tasks("1", "1", "1")).run("build say").counts("0 fresh, 1 restored, 0 ran").success();
    sandbox.env("OUTSIDE", "1").run("build say").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "1-1-1-1\n");
    sandbox.unset("OUTSIDE").run("build say").counts("0 fresh, 1 restored, 0 ran").success();
}

/// jdx/mise#3499 again, in full: whatever of a task's definition can change what it makes.
#[test]
fn each_part_of_a_definition_that_can_change_the_result_runs_the_step() {
    let first = "
[tasks.say]
inputs = ['a', 'sub/a']
outputs = ['o', { path = 'p', optional = true }]
cwd = '.'
tools = ['say']
env = { X = 'x y', Y = 'z' }
run = [['sh', '-c', 'say \"$@\" > {{ here }}/o', 'sh', 'x y', 'z']]
"
    .replace("{{ here }}", "$HERE");
    let sandbox = Sandbox::new();
    let here = format!("HERE = '{}', X", sandbox.work().display());
    let first = first.replace("X = ", &format!("{here} = "));
    sandbox.tool("say", "cat a; printf '<%s>' \"$@\"; echo \"$X|$Y\"").tool("other", ":");
    sandbox.tasks(&first).file("a", "top ").file("sub/a", "sub ");
    settled(&sandbox, "say");
    let clean = sandbox.read("o");
    let others = [
        ("cwd = '.'", "cwd = 'sub'", "sub <x y><z>x y|z\n"),
        // The same words with another end of each.
        ("'x y', 'z'", "'x', 'y z'", "top <x><y z>x y|z\n"),
        ("'x y', 'z'", "'x y z'", "top <x y z>x y|z\n"),
        ("'x y', 'z'", "'x y', 'z', ''", "top <x y><z><>x y|z\n"),
        ("X = 'x y', Y = 'z'", "X = 'x', Y = 'y z'", "top <x y><z>x|y z\n"),
        ("inputs = ['a', 'sub/a']", "inputs = ['a', 'sub/a', 'tasks.toml']", "top <x y><z>x y|z\n"),
        ("optional = true }]", "optional = true }, { path = 'q', optional = true }]", "top <x y><z>x y|z\n"),
        ("tools = ['say']", "tools = ['say', 'other']", "top <x y><z>x y|z\n"),
        ("'z']]", "'z'], ['true']]", "top <x y><z>x y|z\n"),
    ];
    for (from, to, made) in others {
        sandbox.edit("tasks.toml", from, to).run("build say").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("o"), made, "{to}");
        sandbox.tasks(&first).run("build say").counts("0 fresh, 1 restored, 0 ran").success();
        assert_eq!(sandbox.read("o"), clean, "{to}");
    }
}

/// gradle/gradle#37265: the place of an output had changed, behind a remembered configuration, and the task was up to date.
#[test]
fn an_output_that_is_declared_elsewhere_is_made_there() {
    let sandbox = Sandbox::new();
    let tasks = |dir: &str| {
        format!(
            "[vars]\ndir = '{dir}'\n[tasks.copy]\ninputs = ['a']\noutputs = ['{{{{ vars.dir }}}}/b']\nrun = 'cat a > {{{{ vars.dir }}}}/b'\n"
        )
    };
    sandbox.tasks(&tasks("one")).file("a", "1");
    settled(&sandbox, "copy");
    sandbox.tasks(&tasks("two")).run("build copy").counts("0 fresh, 0 restored, 1 ran").success();
    assert!(!sandbox.exists("one/b"));
    assert_eq!(sandbox.read("two/b"), "1");
    sandbox.tasks(&tasks("one")).run("build copy").counts("0 fresh, 1 restored, 0 ran").success();
    assert!(!sandbox.exists("two/b"));
    assert_eq!(sandbox.read("one/b"), "1");
}

/// go-task/task#992: one checksum for a task, whatever it was called with, so that two calls undid each other's for ever.
#[test]
fn the_steps_of_one_task_have_each_a_record_of_their_own() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks(
            "
[targets.one]
triple = 'x86_64-unknown-linux-gnu'
[targets.two]
triple = 'x86_64-unknown-linux-gnu'
[tasks.copy]
targets = ['one', 'two']
inputs = ['a-{{ target.name }}']
outputs = ['b-{{ target.name }}']
run = '{ran} {{ target.name }}; cat a-{{ target.name }} > b-{{ target.name }}'
",
        )
        .file("a-one", "1")
        .file("a-two", "2");
    for target in ["one", "two", "one", "two"] {
        sandbox.run(&format!("build copy@{target}")).success();
    }
    sandbox.ran_times("one", 1).ran_times("two", 1);
    sandbox.file("a-one", "3").run("build copy").counts("1 fresh, 0 restored, 1 ran").success();
    assert_eq!((sandbox.read("b-one"), sandbox.read("b-two")), ("3".into(), "2".into()));
}

/// bazelbuild/bazel#4558: a compiler of the system is in no key, so machines with different ones shared their hits.
/// tensorflow/build#73: a test that can't pass in one image was answered by another's.
#[test]
fn a_compiler_outside_of_the_tree_counts_by_what_it_is() {
    let sandbox = Sandbox::new();
    let tasks = "
[tasks.direct]
inputs = ['a']
outputs = ['o']
run = 'compiler a > o'
[tasks.called]
inputs = ['a']
outputs = ['p']
tools = ['compiler']
run = 'sh ./build.sh > p'
";
    let install = |version: &str| sandbox.tool("compiler", &format!("echo {version}; cat $1"));
    install("1").tasks(tasks).file("a", "").file("build.sh", "compiler a");
    settled(&sandbox, "direct called");
    let program = sandbox.root().join("bin/compiler");
    let stamp = fs::metadata(&program).unwrap().modified().unwrap();
    // Another one of the same size, with the stamp of its package.
    install("2");
    fs::File::options().write(true).open(&program).unwrap().set_modified(stamp).unwrap();
    sandbox.run("build direct called").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!((sandbox.read("o"), sandbox.read("p")), ("2\n".into(), "2\n".into()));
    // Another machine has another compiler at another place, and shares what is the same.
    let machine = |name: &str, version: &str| {
        let tree = sandbox.worktree(name);
        let bin = sandbox.root().join(format!("bin-of-{name}"));
        fs::create_dir(&bin).unwrap();
        fs::write(bin.join("compiler"), format!("#!/bin/sh\necho {version}; cat $1\n")).unwrap();
        fs::set_permissions(bin.join("compiler"), fs::Permissions::from_mode(0o755)).unwrap();
        tree.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
        tree.tasks(tasks).file("a", "").file("build.sh", "compiler a");
        tree
    };
    machine("new", "3").run("build direct called").counts("0 fresh, 0 restored, 2 ran").success();
    let same = machine("same", "1");
    same.run("build direct called").counts("0 fresh, 2 restored, 0 ran").success();
    assert_eq!((same.read("o"), same.read("p")), ("1\n".into(), "1\n".into()));
}

/// What differs from build to build, and from job to job.
const NOISE: &[(&str, [&str; 2])] = &[
    ("CI_PIPELINE_CREATED_AT", ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z"]),
    ("GITHUB_RUN_ID", ["1", "2"]),
    ("BUILD_NUMBER", ["7", "8"]),
    ("CARGO_MAKEFLAGS", ["--jobserver-auth=3,4 -j", "--jobserver-auth=7,8 -j"]),
    ("CARGO_TERM_COLOR", ["always", "never"]),
    ("CARGO_BUILD_JOBS", ["3", "4"]),
    ("MAKELEVEL", ["0", "1"]),
    ("SHLVL", ["1", "2"]),
    ("PWD", ["/one", "/two"]),
    ("OLDPWD", ["/one", "/two"]),
    ("_", ["/bin/one", "/bin/two"]),
    ("USER", ["one", "two"]),
    ("LOGNAME", ["one", "two"]),
    ("HOSTNAME", ["one", "two"]),
    ("TERM", ["dumb", "xterm-256color"]),
    ("COLUMNS", ["80", "211"]),
    ("SSH_AUTH_SOCK", ["/tmp/one", "/tmp/two"]),
    ("XDG_RUNTIME_DIR", ["/run/one", "/run/two"]),
    ("https_proxy", ["", "http://proxy:3128"]),
    ("PIP_INDEX_URL", ["", "http://index"]),
    ("BCACHE_JOBS", ["1", "3"]),
];

/// What is passed and in no key must not choose what is made.
#[test]
fn a_variable_that_only_sounds_like_the_network_is_not_passed() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[tasks.t]
outputs = ['out']
run = 'echo ${PIP_NO_BINARY-unset} ${PIP_CONSTRAINT-unset} ${USE_PROXY-unset} ${no_proxy-unset} ${PIP_INDEX_URL-unset} > out'
",
    );
    for name in ["PIP_NO_BINARY", "PIP_CONSTRAINT", "USE_PROXY", "no_proxy", "PIP_INDEX_URL"] {
        sandbox.env(name, "set");
    }
    sandbox.run("build t").success();
    assert_eq!(sandbox.read("out"), "unset unset unset set set\n");
}

/// mozilla/sccache#193: `CARGO_MAKEFLAGS` was in the key, with the numbers of descriptors in it: nothing hit any more.
/// mozilla/sccache#1828, mozilla/sccache#2494: nor where a job puts the time of its start into a variable.
#[test]
fn what_differs_from_job_to_job_is_in_no_key() {
    let sandbox = Sandbox::new();
    let other = sandbox.worktree("other");
    let tasks = "
[tasks.plain]
inputs = ['a']
outputs = ['o']
run = '{ran} plain; cat a > o'
[tasks.make]
inputs = ['Makefile']
outputs = ['p']
run = '{ran} make; make -s'
[tasks.installed]
sysroot = 's'
inputs = ['a']
run = '{ran} installed; cat a > {{ sysroot.prefix }}/a'
[sysroots.s]
path = 'sys'
relocatable = true
";
    for (tree, nth) in [(&sandbox, 0), (&other, 1)] {
        for (name, values) in NOISE {
            tree.env(name, values[nth]);
        }
        tree.env("TMPDIR", tree.root().join(if nth == 0 { "tmp" } else { "bin" }));
        tree.tasks(tasks).file("a", "1").file("Makefile", "p:\n\techo 1 > p\n");
    }
    sandbox.run("build plain make installed").counts("0 fresh, 0 restored, 3 ran").success();
    other.run("build plain make installed").counts("0 fresh, 3 restored, 0 ran").success();
    for (name, values) in NOISE {
        sandbox.env(name, values[1]);
        sandbox.run("build plain make installed").counts("3 fresh, 0 restored, 0 ran").success();
    }
    sandbox.ran_times("plain", 1).ran_times("make", 1).ran_times("installed", 1);
}

/// mozilla/sccache#193 itself: a cargo task knows cargo's variables, and not all of them change what is built.
#[test]
fn what_cargo_tells_its_children_is_in_no_key_of_a_cargo_task() {
    let sandbox = cargo_rig::workspace();
    cargo_rig::says(&sandbox, cargo_rig::RAN);
    for (name, values) in NOISE {
        sandbox.env(name, values[1]);
    }
    for (name, value) in [("CARGO_NET_RETRY", "7"), ("CARGO_TERM_PROGRESS_WHEN", "never"), ("CARGO_INCREMENTAL", "0")] {
        sandbox.env(name, value).run("build hello").counts(cargo_rig::FRESH).success();
    }
    sandbox.remove(".bcache/proofs").run("build hello").counts(cargo_rig::FRESH).success();
}

/// A key has a marker in the place of the workspace's path and of the number of jobs. Its own text is another command.
#[test]
fn text_that_looks_like_a_marker_of_the_key_is_not_what_the_marker_stands_for() {
    let sandbox = Sandbox::new();
    let work = sandbox.work().display().to_string();
    let tasks = |word: &str| {
        let say = format!("echo \"$WORD\" '{word}' > o");
        format!(
            "[tasks.say]\nenv = {{ WORD = \"{word}\" }}\ninputs = ['a']\noutputs = ['o']\nrun = \"\"\"{say}\"\"\"\n"
        )
    };
    sandbox.file("a", "");
    for (marked, literal) in [("{{ jobs }}", "{jobs}"), (work.as_str(), "{workspace}")] {
        for word in [marked, literal] {
            sandbox.tasks(&tasks(word)).run("build say").counts("0 fresh, 0 restored, 1 ran").success();
        }
        assert_eq!(sandbox.read("o"), format!("{literal} {literal}\n"));
    }
}
