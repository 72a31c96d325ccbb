//! What went wrong in other tools: each test is a story that one of them has in its tracker (`repository#number`), told
//! again with this one.

#[path = "../cargo_rig/mod.rs"]
mod cargo_rig;
#[path = "../sandbox/mod.rs"]
mod sandbox;

mod collecting;
mod endings;
mod keys;
mod moments;
mod outputs;
mod restoring;
mod stamps;

use sandbox::Sandbox;

/// A copy of `a`, with one other that is made from it.
const COPY: &str = "
[tasks.copy]
inputs = ['a']
outputs = ['b']
run = '{ran} copy; cat a > b'
[tasks.after]
inputs = ['b']
outputs = ['c']
run = '{ran} after; cat b > c'
";

/// Built, and then answered by the proof of that.
#[track_caller]
fn settled(sandbox: &Sandbox, tasks: &str) {
    for _ in 0..2 {
        sandbox.run(&format!("build {tasks}")).success();
    }
}

/// Git, with nothing of this machine's configuration.
#[track_caller]
fn git(sandbox: &Sandbox, args: &[&str]) {
    let output = std::process::Command::new("git")
        .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"])
        .args(args)
        .current_dir(sandbox.work())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("HOME", sandbox.root().join("home"))
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
