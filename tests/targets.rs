//! Platforms: tasks at several targets, steps named by them, tools of the host for the others.

mod sandbox;

use sandbox::Sandbox;

/// A generator that is built once for the host, and a program that needs what it makes at each target.
const TASKS: &str = "
[bcache]
version = 1
default = 'app'
[vars]
opt = 'O2'
[targets.arm]
triple = 'aarch64-unknown-linux-gnu.2.28'
env = { FOR = '{{ target.arch }} {{ vars.opt }}' }
vars.opt = 'Os'
[targets.win]
triple = 'x86_64-pc-windows-gnu'
[tasks.protoc]
inputs = ['protoc.c']
outputs = ['bin/protoc']
run = '{ran} protoc; (echo \"#!/bin/sh\"; echo \"tr a-z A-Z\") > bin/protoc; chmod +x bin/protoc'
[tasks.lib]
targets = ['host', 'arm', 'win']
needs = ['protoc@host']
inputs = ['lib.proto']
outputs = ['out/{{ target.name }}/lib']
run = '{ran} lib; (bin/protoc < lib.proto; echo {{ target.triple }} {{ target.os }} ${FOR-none}) > out/{{ target.name }}/lib'
[tasks.app]
targets = ['host', 'arm', 'win']
needs = ['lib']
inputs = ['app.c']
outputs = ['out/{{ target.name }}/app']
run = '{ran} app; cat out/{{ target.name }}/lib app.c > out/{{ target.name }}/app'
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(TASKS).file("protoc.c", "1").file("lib.proto", "lib\n").file("app.c", "app\n");
    sandbox
}

#[test]
fn a_task_is_a_step_at_each_target_with_its_variables_and_a_tool_of_the_host_is_built_once() {
    let sandbox = sandbox();
    sandbox
        .run("build")
        .stderr(
            "
     Running protoc@host
     Running lib@host
     Running lib@arm
     Running lib@win
     Running app@host
     Running app@arm
     Running app@win
    Finished app@host, app@arm, app@win in [TIME]: 0 fresh, 0 restored, 7 ran
",
        )
        .success()
        .run("build")
        .counts("7 fresh, 0 restored, 0 ran")
        .success()
        .ran_times("protoc", 1)
        .ran_times("lib", 3);
    assert_eq!(sandbox.read("out/arm/app"), "LIB\naarch64-unknown-linux-gnu.2.28 linux aarch64 Os\napp\n");
    assert_eq!(sandbox.read("out/win/app"), "LIB\nx86_64-pc-windows-gnu windows none\napp\n");
    assert!(sandbox.read("out/host/app").starts_with("LIB\n"));
}

#[test]
fn each_target_has_its_own_record_and_only_what_it_needs_is_built_for_it() {
    let sandbox = sandbox();
    sandbox
        .run("build --target arm")
        .stderr(
            "
     Running protoc@host
     Running lib@arm
     Running app@arm
    Finished app@arm in [TIME]: 0 fresh, 0 restored, 3 ran
",
        )
        .success()
        .run("build app@win lib@arm")
        .counts("2 fresh, 0 restored, 2 ran")
        .success()
        .edit("tasks.toml", "vars.opt = 'Os'", "vars.opt = 'O3'")
        .run("build app@win app@arm")
        .stderr(
            "
       Stale lib@arm: variable FOR changed: `aarch64 Os` -> `aarch64 O3`
     Running lib@arm (last time [TIME])
       Stale app@arm: variable FOR changed: `aarch64 Os` -> `aarch64 O3`; lib@arm's output changed (out/arm/lib)
     Running app@arm (last time [TIME])
    Finished app@win, app@arm in [TIME]: 3 fresh, 0 restored, 2 ran
",
        )
        .success()
        .run("path app@win")
        .stdout("[ROOT]/work/out/win/app\n")
        .success()
        .run("path app --target arm -q")
        .stdout("[ROOT]/work/out/arm/app\n")
        .success();
}

#[test]
fn forcing_a_step_at_one_target_leaves_the_others() {
    let sandbox = sandbox();
    sandbox.run("build").success();
    sandbox.run("build app@arm --force").counts("2 fresh, 0 restored, 1 ran").success();
    sandbox.run("build app --target win --force").counts("2 fresh, 0 restored, 1 ran").success();
    sandbox.ran_times("app", 5).run("build").counts("7 fresh, 0 restored, 0 ran").success();
}

#[test]
fn cleaning_one_target_leaves_the_outputs_of_the_others() {
    let sandbox = sandbox();
    sandbox.run("build").success();
    sandbox.run("clean app@arm").success();
    assert!(!sandbox.exists("out/arm/app") && sandbox.exists("out/win/app") && sandbox.exists("out/arm/lib"));
    sandbox.run("build").counts("6 fresh, 1 restored, 0 ran").success();
}

#[test]
fn steps_of_several_targets_run_at_the_same_time() {
    let sandbox = Sandbox::new();
    sandbox.file("in", "1").tasks(
        "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[tasks.a]
targets = ['host', 'arm']
inputs = ['in']
outputs = ['out-{{ target.name }}']
run = '''{ran} {{ target.name }}
if [ {{ target.name }} = arm ]; then {gate arm}; else {gate host}; fi
cp in out-{{ target.name }}'''
",
    );
    let running = sandbox.start("build a -j2");
    sandbox.reached("arm").reached("host").open("arm").open("host");
    running.wait().counts("0 fresh, 0 restored, 2 ran").success();
}

#[test]
fn targets_and_needs_that_do_not_exist_are_named_with_what_was_meant() {
    Sandbox::new()
        .tasks(
            "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[tasks.gen]
targets = ['amr']
outputs = ['gen']
run = 'true'
[tasks.use]
needs = ['gen@hots', 'tool']
targets = ['arm', 'hots']
run = 'true'
[tasks.tool]
outputs = ['tool']
run = 'true'
",
        )
        .run("build use")
        .stderr(
            "
bcache::manifest::unknown_name

  × there is no target `amr`
   ╭─[tasks.toml:6:12]
 5 │ [tasks.gen]
 6 │ targets = ['amr']
   ·            ─────
 7 │ outputs = ['gen']
   ╰────
  help: did you mean `arm`?

bcache::manifest::unknown_name

  × there is no target `hots`
    ╭─[tasks.toml:10:10]
  9 │ [tasks.use]
 10 │ needs = ['gen@hots', 'tool']
    ·          ──────────
 11 │ targets = ['arm', 'hots']
    ╰────
  help: did you mean `host`?

bcache::manifest::unknown_name

  × there is no target `hots`
    ╭─[tasks.toml:11:19]
 10 │ needs = ['gen@hots', 'tool']
 11 │ targets = ['arm', 'hots']
    ·                   ──────
 12 │ run = 'true'
    ╰────
  help: did you mean `host`?

error: 3 problems in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn a_need_that_is_not_built_for_a_target_is_an_error_that_says_what_to_write() {
    Sandbox::new()
        .tasks(
            "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[tasks.gen]
targets = ['host']
inputs = ['in']
outputs = ['gen']
run = 'true'
[tasks.use]
needs = ['gen']
targets = ['arm']
run = 'true'
",
        )
        .run("build use")
        .stderr(
            "
bcache::graph::target

  × `gen` is not built for target `arm`
    ╭─[tasks.toml:11:10]
  4 │ triple = 'aarch64-unknown-linux-gnu'
  5 │ [tasks.gen]
    ·        ─┬─
    ·         ╰── `gen` is declared here
  6 │ targets = ['host']
  7 │ inputs = ['in']
  8 │ outputs = ['gen']
  9 │ run = 'true'
 10 │ [tasks.use]
 11 │ needs = ['gen']
    ·          ──┬──
    ·            ╰── needed by `use@arm`
 12 │ targets = ['arm']
    ╰────
  help: write `gen@host`, or give `gen` this target

error: 1 problem in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn one_output_path_for_two_targets_is_an_error_that_says_to_name_the_target() {
    Sandbox::new()
        .tasks(
            "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[tasks.gen]
targets = ['host', 'arm']
inputs = ['in']
outputs = ['out/gen']
run = 'true'
",
        )
        .run("build gen@arm")
        .stderr(
            "
bcache::graph::two_owners

  × `gen@host` and `gen@arm` both make `out/gen`
   ╭─[tasks.toml:8:12]
 7 │ inputs = ['in']
 8 │ outputs = ['out/gen']
   ·            ────┬────
   ·                ╰── made by `gen@arm`
 9 │ run = 'true'
   ╰────
  help: let the path hold `{{ target.name }}`

error: 1 problem in tasks.toml
",
        )
        .exit(3);
}

#[test]
fn a_target_that_a_request_names_and_that_does_not_exist_is_a_slip_of_usage() {
    let sandbox = sandbox();
    sandbox.run("build app@amr").stderr("error: no target `amr`\n  help: did you mean `arm`?\n").exit(2);
    sandbox.run("build app --target amr").stderr("error: no target `amr`\n  help: did you mean `arm`?\n").exit(2);
    sandbox
        .run("build protoc@arm")
        .stderr("error: `protoc` is not built for target `arm`\n  help: it is built for `host`: give it `targets` for more\n")
        .exit(2);
}
