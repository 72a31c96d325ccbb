//! Programs, as keys hold them: which file is meant, whether it can be started, and what its version rests on.

mod sandbox;

use std::fs;

use sandbox::Sandbox;

const FRESH: &str = "1 fresh, 0 restored, 0 ran";
const RESTORED: &str = "0 fresh, 1 restored, 0 ran";
const RAN: &str = "0 fresh, 0 restored, 1 ran";

/// Made by a script, of which the key knows only its own bytes.
fn scripted(task: &str, script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let task = format!("[tasks.make]\n{task}\ninputs = ['make.sh']\noutputs = ['out']\nrun = 'sh make.sh > out'\n");
    sandbox.tasks(&task).file("make.sh", script);
    sandbox
}

#[track_caller]
fn makes(sandbox: &Sandbox, counts: &str, made: &str) {
    sandbox.run("build make").counts(counts).success();
    assert_eq!(sandbox.read("out"), made);
    for _ in 0..2 {
        sandbox.run("build make").counts(FRESH).success();
    }
}

#[test]
fn a_tool_that_is_named_with_a_slash_is_that_of_the_steps_directory_wherever_the_person_is() {
    let sandbox = scripted("tools = ['./bin/tool']", "./bin/tool");
    let program = |path: &str, says: &str| {
        sandbox.file(path, format!("#!/bin/sh\necho {says}\n")).chmod(path, 0o755);
    };
    program("bin/tool", "one");
    program("sub/bin/tool", "another");
    sandbox.below("sub");
    makes(&sandbox, RAN, "one\n");
    program("bin/tool", "two");
    makes(&sandbox, RAN, "two\n");
    program("sub/bin/tool", "different");
    sandbox.below("").run("build make").counts(FRESH).success();
    sandbox.remove("sub/bin").below("sub");
    program("bin/tool", "one");
    makes(&sandbox, RESTORED, "one\n");
    sandbox.remove("bin/tool").run("build make").says("a tool is missing: `./bin/tool`").exit(4);
    sandbox.edit("tasks.toml", "run =", "cwd = 'sub'\nrun =");
    sandbox.edit("tasks.toml", "sh make.sh > out", "sh ../make.sh > ../out");
    program("sub/bin/tool", "another");
    sandbox.below("").run("build make").success();
    assert_eq!(sandbox.read("out"), "another\n");
}

#[test]
fn a_program_in_path_that_may_not_be_executed_is_none() {
    let sandbox = scripted("path = ['bin']", "helper 2>/dev/null || echo none");
    sandbox.file("bin/helper", "#!/bin/sh\necho helped\n").chmod("bin/helper", 0o755);
    makes(&sandbox, RAN, "helped\n");
    sandbox.chmod("bin/helper", 0o644);
    makes(&sandbox, RAN, "none\n");
    sandbox.chmod("bin/helper", 0o755);
    makes(&sandbox, RESTORED, "helped\n");
    sandbox.link("bin/other", "helper").run("build make").counts(RAN).success();
    sandbox.chmod("bin/helper", 0o644);
    makes(&sandbox, RAN, "none\n");
}

#[test]
fn a_file_in_path_that_shells_read_counts_though_it_is_no_program() {
    let sandbox = scripted("path = ['bin']", ". settings; echo $WORD");
    sandbox.file("bin/settings", "WORD=one\n");
    makes(&sandbox, RAN, "one\n");
    sandbox.file("bin/settings", "WORD=two\n");
    makes(&sandbox, RAN, "two\n");
}

#[test]
fn a_version_command_that_failed_is_asked_again() {
    let sandbox = scripted("tools = [{ name = 'teller', version = 'teller --version' }]", "teller");
    let answer = sandbox.root().join("answer");
    sandbox.tool("teller", &format!("cat {}", answer.display()));
    for _ in 0..2 {
        sandbox.run("build make").says("the version command of tool `teller`, failed").exit(1);
    }
    fs::write(&answer, "one\n").unwrap();
    makes(&sandbox, RAN, "one\n");
}

#[test]
fn no_proof_rests_on_a_version_command_that_was_killed() {
    let sandbox = scripted("tools = ['teller']", "teller");
    let answer = sandbox.root().join("answer");
    sandbox.tool("teller", &format!("cat {} || kill -9 $$", answer.display()));
    sandbox.edit("make.sh", "teller", "teller 2>&1 || true");
    for counts in [RAN, FRESH, FRESH] {
        sandbox.run("build make").counts(counts).success();
    }
    fs::write(&answer, "one\n").unwrap();
    makes(&sandbox, RAN, "one\n");
}
