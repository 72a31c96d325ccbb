//! `shell`: what a step sees, seen by hand.

mod sandbox;

use std::fs;

use sandbox::Sandbox;

/// A step in the middle of a sysroot, with a source, that fails in its configure script.
const CHAIN: &str = "
[sysroots.main]
path = 'prefix'
[tasks.base]
sysroot = 'main'
inputs = ['in']
run = '{ran} base; mkdir -p {{ sysroot.prefix }}/lib; echo base > {{ sysroot.prefix }}/lib/base'
[tasks.other]
sysroot = 'main'
inputs = ['in']
run = '{ran} other; echo other > {{ sysroot.prefix }}/other'
[tasks.lib]
needs = ['base']
sysroot = 'main'
source = { archive = 'lib.tar' }
env = { MODE = 'strict' }
run = ['{ran} lib; echo half > {{ sysroot.prefix }}/half; rm {{ sysroot.prefix }}/lib/base; echo log > config.log', '{{ step.source }}/configure']
";

fn chain(sandbox: &Sandbox) {
    let make = "mkdir -p lib-1 && printf '#!/bin/sh\\necho no compiler for $MODE\\nexit 7\\n' > lib-1/configure && chmod +x lib-1/configure && tar cf lib.tar lib-1 && rm -r lib-1";
    let made = std::process::Command::new("sh").args(["-c", make]).current_dir(sandbox.work()).status().unwrap();
    assert!(made.success());
    sandbox.tasks(CHAIN).file("in", "1");
}

fn as_both(test: impl Fn(&Sandbox)) {
    test(&Sandbox::new());
    if let Some(sandbox) = Sandbox::of_a_user() {
        test(&sandbox);
    }
}

#[test]
fn the_line_that_a_failure_prints_leads_to_the_same_failure_by_hand() {
    as_both(|sandbox| {
        chain(sandbox);
        sandbox
            .run("build lib")
            .stderr(
                "
     Running base@host
     Running lib@host
error: lib@host failed: the command ended with exit code 7
  command: [ROOT]/work/.bcache/work/host/lib/src/configure
  output of lib@host:
no compiler for strict
  log: [ROOT]/work/.bcache/logs/lib@host
  help: the whole log: cargo bcache log lib
  help: to look around: cargo bcache shell lib@host
      Failed lib@host in [TIME]: 0 fresh, 0 restored, 1 ran, 1 failed, 0 skipped
",
            )
            .exit(1);
        let note = "note: what is written into prefix here is thrown away at the end\n";
        let by_hand = "shell lib@host -- sh -c '../src/configure; code=$?; cat config.log; ls $0 $0/lib; exit $code'";
        let by_hand = by_hand.replace("$0", sandbox.at("prefix").to_str().unwrap());
        let prefix = "[ROOT]/work/prefix";
        for _ in 0..2 {
            // Build directory and view as the failed run left them, also after something was written there.
            sandbox
                .run(&by_hand)
                .stdout(&format!("no compiler for strict\nlog\n{prefix}:\nhalf\nlib\n\n{prefix}/lib:\n"))
                .stderr(note)
                .exit(7);
            let touch = format!("shell lib -- touch {}/mine", sandbox.at("prefix").display());
            sandbox.run(&touch).stderr(note).success();
        }
        sandbox.run("log lib").stdout("no compiler for strict\n").success();
        // The next run has nothing of it.
        sandbox
            .edit("tasks.toml", "; rm {{ sysroot.prefix }}/lib/base; echo log > config.log", "")
            .edit("tasks.toml", "{{ step.source }}/configure'", "test ! -e config.log'")
            .run("build lib")
            .counts("1 fresh, 0 restored, 1 ran")
            .success();
        assert_eq!(sandbox.tree("prefix"), ["/ 755", "half 644 half\\n", "lib/ 755", "lib/base 644 base\\n"]);
        assert!(!sandbox.exists(".bcache/work/host/lib"), "what ended well leaves no place");
    });
}

#[test]
fn what_a_failed_run_left_is_not_entered_for_another_command_than_it_ran() {
    let sandbox = Sandbox::new();
    chain(&sandbox);
    sandbox.run("build lib").exit(1);
    sandbox.edit("tasks.toml", "strict", "lax");
    let prefix = sandbox.at("prefix").to_str().unwrap().to_owned();
    sandbox
        .run(&format!("shell lib -- sh -c 'echo $MODE; ls; ls {prefix} {prefix}/lib'"))
        .stdout("lax\n[ROOT]/work/prefix:\nlib\n\n[ROOT]/work/prefix/lib:\nbase\n")
        .success();
}

#[test]
fn a_shell_builds_what_the_step_needs_and_shows_just_its_layers() {
    as_both(|sandbox| {
        chain(sandbox);
        sandbox.run("build other").counts("0 fresh, 0 restored, 1 ran").success();
        let prefix = sandbox.at("prefix").to_str().unwrap().to_owned();
        sandbox
            .run(&format!("shell lib -- sh -c 'ls {prefix}; pwd; ls ../src; echo new > {prefix}/new; exit 3'"))
            .stdout("lib\n[ROOT]/work/.bcache/work/host/lib/build\nconfigure\n")
            .stderr(
                "
     Running base@host
    Finished base@host in [TIME]: 0 fresh, 0 restored, 1 ran
note: what is written into prefix here is thrown away at the end
",
            )
            .exit(3)
            .ran_times("lib", 0);
        assert_eq!(
            sandbox.tree("prefix"),
            ["/ 755", "lib/ 755", "lib/base 644 base\\n", "other 644 other\\n"],
            "nothing of it is in the prefix"
        );
        assert!(!sandbox.exists(".bcache/work/host/lib"));
    });
}

#[test]
fn a_command_in_the_shell_has_the_environment_of_the_step() {
    as_both(|sandbox| {
        sandbox.env("OUTSIDE", "1").env("PASSED", "2").env("CFLAGS", "-O9").env("https_proxy", "http://p");
        let common = "inputs = ['in']\nenv = { SET = 'it is' }\nenv-pass = ['PASSED']\n";
        let step = |name: &str, more: &str| format!("[tasks.{name}]\n{common}{more}\n");
        let tasks = [
            "[sysroots.main]\npath = 'prefix'\n".to_owned(),
            step("plain", "outputs = ['plain.env']\nrun = [['sh', '-c', 'env > plain.env']]"),
            step("make", "outputs = ['make.env']\ntools = ['make']\njobs = 2\nrun = [['sh', '-c', 'env > make.env']]"),
            step("view", "sysroot = 'main'\nrun = [['sh', '-c', 'env > {{ sysroot.prefix }}/env']]"),
            step("always", "cache = false\noutputs = ['always.env']\nrun = [['sh', '-c', 'env > always.env']]"),
        ];
        sandbox.tasks(&tasks.concat()).file("in", "1");
        let outs = [("plain", "plain.env"), ("make", "make.env"), ("view", "prefix/env"), ("always", "always.env")];
        for (name, out) in outs {
            sandbox.run(&format!("build {name} -j2")).success();
            let wanted = lines(&sandbox.read(out));
            fs::remove_file(sandbox.at(out)).unwrap();
            let shell = sandbox.run(&format!("shell {name} -j2 -- sh -c env"));
            let got = lines(shell.answered());
            let wanted: Vec<String> =
                wanted.iter().map(|l| l.replace(sandbox.root().to_str().unwrap(), "[ROOT]")).collect();
            // The pool of jobs is another at each start.
            let pool = |lines: &[String]| -> Vec<String> {
                lines
                    .iter()
                    .filter(|l| !l.starts_with("MAKEFLAGS=") && !l.starts_with("CARGO_MAKEFLAGS="))
                    .cloned()
                    .collect()
            };
            assert_eq!(pool(&got), pool(&wanted), "{name}");
            assert_eq!(got.len(), wanted.len(), "{name}");
            let text = shell.answered().to_owned();
            shell.stdout(&text).success();
        }
    });
}

fn lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn a_shell_says_what_it_can_not_do() {
    let sandbox = Sandbox::new();
    sandbox.tasks(
        "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu'
[tasks.one]
inputs = ['in']
targets = ['host', 'arm']
run = 'echo {{ target.name }}'
[tasks.bad]
inputs = ['in']
outputs = ['bad']
run = 'exit 4'
[tasks.after]
needs = ['bad']
inputs = ['in']
run = 'true'
[tasks.all]
needs = ['one@arm', 'bad']
",
    );
    sandbox.file("in", "1");
    sandbox
        .run("shell one -- true")
        .stderr(
            "
error: `one` has 2 targets
  help: name one of: one@host, one@arm
",
        )
        .exit(2);
    sandbox.run("shell one --target arm -- sh -c 'exit 6'").stderr("").exit(6);
    sandbox.run("shell one@arm -- sh -c 'kill -TERM $$'").stderr("").exit(143);
    sandbox
        .run("shell all -- true")
        .stderr(
            "
error: `all` is a group: it has no commands, and no place of its own
  help: name one of: one@arm, bad@host
",
        )
        .exit(2);
    sandbox.run("shell nothing").exit(2);
    sandbox
        .run("shell one@host -- no-such-program")
        .stderr(
            "
error: one@host failed: `no-such-program` was not found, or the interpreter that it names was not
",
        )
        .exit(1);
    sandbox
        .run("shell after -- echo never")
        .stderr(
            "
     Running bad@host
error: bad@host failed: the command ended with exit code 4
  command: exit 4
  help: to look around: cargo bcache shell bad@host
      Failed bad@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
}

#[test]
fn the_line_that_a_failure_prints_names_the_directory_and_manifest_that_were_given() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.bad]\ninputs = ['in']\nrun = 'exit 4'").file("in", "1");
    sandbox.dir("be low");
    sandbox
        .below("be low")
        .run("build bad -C .. --manifest 'tasks.toml'")
        .stderr(
            "
     Running bad@host
error: bad@host failed: the command ended with exit code 4
  command: exit 4
  help: to look around: cargo bcache -C .. --manifest tasks.toml shell bad@host
      Failed bad@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
    sandbox.below("").run("-C 'be low' build bad").exit(1);
    let said = sandbox.run("-C 'be low' build bad").said().to_owned();
    assert!(said.contains("cargo bcache -C 'be low' shell bad@host\n"), "{said}");
}

#[test]
fn a_shell_and_a_build_wait_for_each_other() {
    let sandbox = Sandbox::new();
    sandbox
        .tasks("[tasks.one]\ninputs = ['in']\noutputs = ['o']\nrun = '{ran} one; {gate one}; cat in > o'")
        .file("in", "1");
    let build = sandbox.start("build one");
    sandbox.reached("one");
    let shell = sandbox.start(&format!("shell one -- sh -c '{}; cat o'", sandbox.filled("{gate shell}")));
    shell.says("waiting for another build");
    sandbox.open("one");
    build.wait().success();
    sandbox.reached("shell");
    let again = sandbox.file("in", "2").start("build one");
    sandbox.open("shell");
    shell.wait().stdout("1").stderr("note: waiting for another build, which has one@host or what it needs\n").success();
    sandbox.reached("one").open("one");
    again.wait().counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("o"), "2");
}

#[test]
fn a_shell_without_a_command_is_the_persons_own() {
    let sandbox = Sandbox::new();
    sandbox.tasks("[tasks.one]\ninputs = ['in']\nenv = { A = 'b' }\nrun = 'true'").file("in", "1");
    sandbox.tool("mysh", "echo mine $A $TERM; exit 9");
    sandbox.env("SHELL", sandbox.root().join("bin/mysh")).run("shell one").stdout("mine b dumb\n").exit(9);
    sandbox.env("SHELL", "/gone/sh").run("shell one").success();
}
