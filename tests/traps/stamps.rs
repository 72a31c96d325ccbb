//! Modification times, as those tools see them that go by nothing else: a real make and a real cargo, in a step of their
//! own beside what is restored.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cargo_rig;
use crate::sandbox::Sandbox;

const NOTHING: [&str; 0] = [];

/// Two generated files out of one step; make puts a program together of what it makes of each.
const MAKE: &str = "
[tasks.generate]
inputs = ['one.in', 'two.in']
outputs = ['gen/']
run = '{ran} generate; cat one.in > gen/one; cat two.in > gen/two'
[tasks.make]
needs = ['generate']
cache = false
run = 'make --no-print-directory > said; cat prog > seen'
";

const MAKEFILE: &str = "
prog: one.o two.o
\tcat one.o two.o > prog
%.o: gen/%
\tcp $< $@
";

fn stamp(path: &Path) -> (i64, i64) {
    let meta = fs::metadata(path).unwrap();
    (meta.mtime(), meta.mtime_nsec())
}

/// Goes on when a file that is written now has a later stamp than this one: two builds by hand are never nearer.
fn next_tick(sandbox: &Sandbox, after: &Path) {
    let probe = sandbox.root().join("tick");
    loop {
        fs::write(&probe, "").unwrap();
        if stamp(&probe) > stamp(after) {
            return;
        }
    }
}

/// Builds; gives what make has made anew.
#[track_caller]
fn made(sandbox: &Sandbox) -> Vec<String> {
    sandbox.run("build make").success();
    next_tick(sandbox, &sandbox.at("seen"));
    let said = sandbox.read("said");
    let word = |line: &str| line.split_whitespace().last().map(str::to_owned);
    said.lines().filter(|line| !line.contains("up to date")).filter_map(word).collect()
}

/// jdx/mr-boxington#300: what was put in place kept the stamp of its making, so a tool that goes by stamps never saw it, or
/// saw it as old for ever. kunobi-ninja/kache#677: it got a new one though nothing had changed, and all was built again.
/// ccache/ccache#1175: the object of another day is older than its source.
#[test]
fn a_make_in_a_step_sees_each_restored_file_that_changed_and_no_other() {
    let sandbox = Sandbox::new();
    sandbox.tasks(MAKE).file("Makefile", MAKEFILE).file("one.in", "1").file("two.in", "1");
    assert_eq!(made(&sandbox), ["one.o", "two.o", "prog"]);
    assert_eq!(made(&sandbox), NOTHING);
    sandbox.file("one.in", "2");
    assert_eq!(made(&sandbox), ["one.o", "two.o", "prog"], "the step has written both again");
    sandbox.file("one.in", "1");
    assert_eq!(made(&sandbox), ["one.o", "prog"], "one of both was restored");
    assert_eq!(sandbox.read("seen"), "11");
    assert_eq!(made(&sandbox), NOTHING);
    sandbox.file("one.in", "2");
    assert_eq!(made(&sandbox), ["one.o", "prog"]);
    assert_eq!(sandbox.read("seen"), "21");
    sandbox.remove("gen/two");
    assert_eq!(made(&sandbox), ["two.o", "prog"]);
    sandbox.touch("one.in").remove(".bcache");
    assert_eq!(made(&sandbox), NOTHING);
    sandbox.ran_times("generate", 2);
}

/// Two packages, each with a file that a step generates.
const CARGO: &str = r#"
[tasks.generate]
inputs = ['hello.in', 'part.in']
outputs = ['gen/']
run = '''
{ran} generate
for i in hello part; do echo "pub const WORD: &str = \"$(cat $i.in)\";" > gen/$i.rs; done
'''
[tasks.cargo]
needs = ['generate']
cache = false
run = 'cargo build --offline --manifest-path ws/Cargo.toml -p hello 2> said; ws/target/debug/hello > seen'
"#;

/// The same with cargo: jdx/mr-boxington#300, kunobi-ninja/kache#677 (179 crates at every build).
#[test]
fn a_cargo_in_a_step_sees_each_restored_file_that_changed_and_no_other() {
    let sandbox = cargo_rig::workspace();
    let main = "include!(\"../../../gen/hello.rs\");\nfn main() { println!(\"{WORD}{}\", part::WORD) }\n";
    sandbox.tasks(CARGO).file("hello.in", "1").file("part.in", "1").file("ws/hello/src/main.rs", main);
    sandbox.file("ws/part/src/lib.rs", "include!(\"../../../gen/part.rs\");\n");
    let compiled = || {
        sandbox.run("build cargo").success();
        next_tick(&sandbox, &sandbox.at("seen"));
        let said = sandbox.read("said");
        let lines = said.lines().filter_map(|line| line.trim().strip_prefix("Compiling "));
        lines.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(compiled(), ["part", "hello"]);
    sandbox.file("hello.in", "2");
    assert_eq!(compiled(), ["part", "hello"], "the step has written both again");
    sandbox.file("hello.in", "1");
    assert_eq!(compiled(), ["hello"], "one of both was restored");
    assert_eq!(sandbox.read("seen"), "11\n");
    assert_eq!(compiled(), NOTHING);
    sandbox.file("hello.in", "2").remove("gen/part.rs");
    assert_eq!(compiled(), ["part", "hello"]);
    assert_eq!((sandbox.read("seen").as_str(), compiled()), ("21\n", Vec::new()));
    sandbox.ran_times("generate", 2);
}

const BOOTSTRAP: &str = "
[tasks.bootstrap]
inputs = ['configure.ac']
outputs = ['dist/']
run = '''
{ran} bootstrap
cp configure.ac dist/
for i in 1 2 3 4 5 6 7 8 9; do head -c 700000 /dev/urandom > dist/configure-$i; done
{ echo generated; cat configure.ac; } > dist/configure
'''
[tasks.make]
needs = ['bootstrap']
cache = false
run = 'make -s -C dist -f ../Makefile > said'
[sysroots.s]
path = 'sys'
[tasks.install]
needs = ['bootstrap']
sysroot = 's'
inputs = ['configure.ac']
run = 'cp -r dist/. {{ sysroot.prefix }}/'
";

/// r-lib/fs#474, tessus/apachetop#4, amusecode/amuse#1024: `configure` came out of a checkout or an archive with an older stamp
/// than `configure.ac`, and make wanted the autoconf of its author. A restore writes in an order of its own, too.
#[test]
fn of_files_that_are_restored_together_none_is_newer_than_another() {
    let sandbox = Sandbox::new();
    let makefile = "all: configure\n\t@:\nconfigure: configure.ac\n\tautoconf-of-its-author\n";
    sandbox.tasks(BOOTSTRAP).file("configure.ac", "1").file("Makefile", makefile);
    sandbox.run("build make install").success();
    let stamps = |dir: &str| {
        let entries = fs::read_dir(sandbox.at(dir)).unwrap();
        let mut stamps: Vec<_> = entries.map(|entry| stamp(&entry.unwrap().path())).collect();
        stamps.sort_unstable();
        stamps.dedup();
        stamps.len()
    };
    for _ in 0..3 {
        sandbox.remove("dist").remove("sys").run("build make install").success();
        assert_eq!((stamps("dist"), stamps("sys")), (1, 1));
    }
    sandbox.ran_times("bootstrap", 1);
}

/// kunobi-ninja/kache#679: restored files were stamped by a finer clock than files that are written, so what cargo wrote a
/// moment later looked older than what it was made from.
#[test]
fn what_is_made_of_a_restored_file_is_not_older_than_it() {
    let sandbox = Sandbox::new();
    let tasks = MAKE.replace("run = 'make", "run = ': > first; make");
    sandbox.tasks(&tasks).file("Makefile", MAKEFILE).file("one.in", "1").file("two.in", "1");
    sandbox.run("build make").success();
    for _ in 0..4 {
        sandbox.remove("gen").remove("prog").remove("first").run("build make").success();
        assert!(stamp(&sandbox.at("first")) >= stamp(&sandbox.at("gen/one")));
        sandbox.run("build make").success();
        assert!(sandbox.read("said").contains("up to date"), "{}", sandbox.read("said"));
    }
}
