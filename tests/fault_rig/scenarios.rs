//! Builds among which every kind of file comes into being that the program makes.

use std::process::Command;

use crate::sandbox::Sandbox;

pub struct Scenario {
    pub name: &'static str,
    /// Everything up to the command.
    pub prepare: fn() -> Sandbox,
    /// Where the fault happens.
    pub command: &'static str,
    /// What makes everything right again.
    pub again: &'static str,
    /// What must be as a clean build has it.
    pub outputs: &'static [&'static str],
}

/// A chain that knows each kind of step: files in one frame and in several, a sysroot of two layers, a depfile.
pub const CHAIN: &str = "
[sysroots.root]
path = 'prefix'
[tasks.gen]
inputs = ['a']
outputs = ['out/small', 'out/big', 'out/dir/']
run = '{ran} gen; cat a > out/small; seq 1 200000 > out/big; ln -s ../small out/dir/link; echo x > out/dir/x; chmod 755 out/dir/x'
[tasks.lib]
sysroot = 'root'
inputs = ['out/small']
run = '{ran} lib; mkdir -p {{ sysroot.prefix }}/lib; cat out/small > {{ sysroot.prefix }}/lib/one; ln -s one {{ sysroot.prefix }}/lib/two'
[tasks.app]
sysroot = 'root'
needs = ['lib']
run = '{ran} app; mkdir -p {{ sysroot.prefix }}/bin; cat {{ sysroot.prefix }}/lib/two > {{ sysroot.prefix }}/bin/app; chmod 755 {{ sysroot.prefix }}/bin/app'
[tasks.found]
inputs = ['out/small']
needs = ['app']
outputs = ['found']
depfile = 'found.d'
run = '{ran} found; cat extra out/small > found; echo found: extra > found.d'
[tasks.all]
needs = ['gen', 'app', 'found']
";

const CHAIN_OUTPUTS: &[&str] = &["out", "prefix", "found"];
const ALL: &str = "build all";

fn chain() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(CHAIN).file("a", "1\n").file("extra", "e\n");
    sandbox
}

pub fn built() -> Sandbox {
    let sandbox = chain();
    sandbox.run(ALL).counts("0 fresh, 0 restored, 4 ran").success();
    sandbox
}

/// The outputs are gone, and so is all memory of them.
fn forgotten() -> Sandbox {
    let sandbox = built();
    sandbox.remove("out").remove("prefix").remove("found").remove(".bcache");
    sandbox
}

fn edited() -> Sandbox {
    let sandbox = built();
    sandbox.file("a", "2\n");
    sandbox
}

/// What nobody owns lies where outputs go.
fn in_the_way() -> Sandbox {
    let sandbox = built();
    sandbox.remove("out").remove(".bcache").file("out/small", "of the user").file("out/dir/link/x", "of the user");
    sandbox
}

/// A working copy, a directory that is kept and an archive, each read by a step of its own.
const SOURCES: &str = "
[tasks.seen]
inputs = [{ git = 'fork', paths = ['src/'] }]
outputs = ['seen']
run = '{ran} seen; cat fork/src/* > seen'
[tasks.kept]
source = { path = 'pkg' }
build-dir = 'keep'
outputs = ['kept']
run = '{ran} kept; cat {{ step.source }}/a > a; cp a ../../../../../kept'
[tasks.unpacked]
source = { archive = 'x.tar' }
outputs = ['unpacked']
run = '{ran} unpacked; cat {{ step.source }}/a {{ step.source }}/b > ../../../../../unpacked'
[tasks.all]
needs = ['seen', 'kept', 'unpacked']
";

fn sources() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(SOURCES).file("fork/src/a", "a\n").file("pkg/a", "p\n").file("top/x/a", "1\n").file("top/x/b", "2\n");
    git(&sandbox, "work/fork", "init -q -b main");
    git(&sandbox, "work/fork", "add -A");
    git(&sandbox, "work/fork", "-c user.name=a -c user.email=a@b commit -q -m x");
    let tar = Command::new("tar").args(["-cf", "../x.tar", "x"]).current_dir(sandbox.at("top")).status().unwrap();
    assert!(tar.success());
    sandbox
}

/// A commit of a repository beside the worktree.
fn commit() -> Sandbox {
    let sandbox = Sandbox::new();
    let theirs = sandbox.worktree("theirs");
    theirs.file("a", "1\n").file("b", "2\n");
    git(&sandbox, "theirs", "init -q -b main");
    git(&sandbox, "theirs", "add -A");
    git(&sandbox, "theirs", "-c user.name=a -c user.email=a@b commit -q -m x");
    let rev = git(&sandbox, "theirs", "rev-parse HEAD");
    let url = format!("file://{}", theirs.work().display());
    sandbox.tasks(&COMMIT.replace("URL", &url).replace("REV", rev.trim()));
    sandbox
}

const COMMIT: &str = "
[tasks.fetched]
source = { git = 'URL', rev = 'REV' }
outputs = ['fetched']
run = '{ran} fetched; cat {{ step.source }}/a {{ step.source }}/b > ../../../../../fetched'
";

fn git(sandbox: &Sandbox, dir: &str, words: &str) -> String {
    let mut command = Command::new("git");
    command.args(words.split(' ')).current_dir(sandbox.root().join(dir)).env("HOME", sandbox.root().join("home"));
    let output = command.env("GIT_CONFIG_NOSYSTEM", "1").output().unwrap();
    assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn sources_edited() -> Sandbox {
    let sandbox = sources();
    sandbox.run(ALL).counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.file("fork/src/b", "b\n").file("pkg/a", "q\n");
    sandbox
}

/// A placeholder in text, in a link and, so that it has to be looked for, in what a step reads of another.
const MOVED: &str = "
[sysroots.root]
path = 'prefix'
relocatable = true
[tasks.lib]
sysroot = 'root'
inputs = ['a']
run = '{ran} lib; mkdir -p {{ sysroot.prefix }}/lib; echo {{ sysroot.prefix }}/lib > {{ sysroot.prefix }}/lib/pc; ln -s {{ sysroot.prefix }}/lib/pc {{ sysroot.prefix }}/link'
[tasks.app]
sysroot = 'root'
needs = ['lib']
run = '{ran} app; cat {{ sysroot.prefix }}/link > {{ sysroot.prefix }}/app'
";

fn moved() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(MOVED).file("a", "1\n");
    sandbox
}

/// zig is a script; its target's compiler is a directory of files.
const ZIG: &str = "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu.2.28'
toolchain = 'zig'
[tasks.obj]
targets = ['arm']
inputs = ['a']
outputs = ['obj']
run = '{ran} obj; $CC -c a > obj'
";

fn zig() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(ZIG).file("a", "1\n");
    sandbox.tool("zig", "case $1 in version) echo 1.0 ;; *) echo \"zig:\" \"$@\" ;; esac");
    sandbox
}

fn exclusive() -> Sandbox {
    let sandbox = chain();
    sandbox.env("BCACHE_VIEWS", "exclusive").file("prefix/mine", "of the user");
    sandbox
}

/// A state that another version wrote.
fn of_another_version() -> Sandbox {
    let sandbox = built();
    let mut format = std::fs::read(sandbox.at(".bcache/format")).unwrap();
    format[8] = 99;
    sandbox.file(".bcache/format", format);
    if sandbox.exists(".bcache/proofs") {
        // A proof is of one program only: another version has no say in it.
        sandbox.remove(".bcache/proofs");
    }
    sandbox
}

/// Nothing is known of the machine's packages.
fn strange_host() -> Sandbox {
    let sandbox = chain();
    std::fs::remove_file(sandbox.store().join("host")).unwrap();
    sandbox
}

/// Too much in the store.
fn too_much() -> Sandbox {
    let sandbox = edited();
    sandbox.env("BCACHE_LIMIT", "100KB");
    sandbox
}

/// A small Rust program.
const CARGO: &str = "[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello' }\n";

fn cargo() -> Sandbox {
    let sandbox = Sandbox::new();
    let home = std::path::PathBuf::from(std::env::var_os("HOME").unwrap());
    for (name, dir) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        sandbox.env(name, std::env::var_os(name).map_or_else(|| home.join(dir), std::path::PathBuf::from));
    }
    let cargo = std::path::PathBuf::from(std::env::var_os("CARGO").unwrap());
    let programs = cargo.parent().unwrap().display();
    sandbox.env("PATH", format!("{}/bin:{programs}:/usr/bin:/bin", sandbox.root().display()));
    sandbox
        .tasks(CARGO)
        .file("ws/Cargo.toml", "[workspace]\nmembers = ['hello']\nresolver = '3'\n")
        .file("ws/hello/Cargo.toml", "[package]\nname = 'hello'\nversion = '0.1.0'\nedition = '2024'\n")
        .file("ws/hello/src/main.rs", "fn main() {}\n");
    sandbox
}

pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "cold", prepare: chain, command: ALL, again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "edited", prepare: edited, command: ALL, again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "restored", prepare: forgotten, command: ALL, again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "in the way", prepare: in_the_way, command: ALL, again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "sources", prepare: sources, command: ALL, again: ALL, outputs: &["seen", "kept", "unpacked"] },
    Scenario {
        name: "sources edited",
        prepare: sources_edited,
        command: ALL,
        again: ALL,
        outputs: &["seen", "kept", "unpacked"],
    },
    Scenario {
        name: "commit",
        prepare: commit,
        command: "build fetched",
        again: "build fetched",
        outputs: &["fetched"],
    },
    Scenario { name: "moved", prepare: moved, command: "build app", again: "build app", outputs: &["prefix"] },
    Scenario { name: "zig", prepare: zig, command: "build obj", again: "build obj", outputs: &["obj"] },
    Scenario { name: "exclusive", prepare: exclusive, command: ALL, again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "other version", prepare: of_another_version, command: ALL, again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "collected", prepare: too_much, command: "cache gc", again: ALL, outputs: CHAIN_OUTPUTS },
    Scenario { name: "host", prepare: strange_host, command: "build gen", again: "build gen", outputs: &["out"] },
    Scenario { name: "cargo", prepare: cargo, command: "build hello", again: "build hello", outputs: &[] },
];
