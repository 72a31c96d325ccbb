//! Tasks that cargo builds: what their keys hold, where their programs go, and that cargo is never believed too much.

mod cargo_rig;
mod sandbox;

use std::fs;
use std::time::Duration;

use cargo_rig::*;
use sandbox::Sandbox;

#[test]
fn a_program_is_built_and_fresh_and_an_edit_of_a_package_that_it_needs_builds_it_again() {
    let sandbox = workspace();
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    assert_eq!(says(&sandbox, FRESH), "hello one\n");
    sandbox.edit("ws/part/src/lib.rs", "one", "two");
    sandbox.run("plan hello").answers("ws/part/src/lib.rs changed").success();
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    sandbox.edit("ws/part/src/lib.rs", "two", "one");
    assert_eq!(says(&sandbox, RESTORED), "hello one\n");
}

#[test]
fn what_the_program_does_not_need_may_change() {
    let sandbox = workspace();
    says(&sandbox, RAN);
    sandbox.file("ws/other/src/lib.rs", "pub fn new() {}\n").file("ws/README.md", "words").file("ws/docs/a.md", "more");
    assert_eq!(says(&sandbox, FRESH), "hello one\n");
}

#[test]
fn an_edit_that_cargo_would_not_notice_is_built_all_the_same() {
    let sandbox = workspace();
    says(&sandbox, RAN);
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    // And so is what comes from elsewhere with its old stamp.
    let old = sandbox.at("ws/old.rs");
    fs::write(&old, "pub const WORD: &str = \"old\";\n").unwrap();
    let long_ago = std::time::SystemTime::now() - Duration::from_secs(1_000_000);
    fs::File::options().write(true).open(&old).unwrap().set_modified(long_ago).unwrap();
    fs::rename(&old, sandbox.at("ws/part/src/lib.rs")).unwrap();
    assert_eq!(says(&sandbox, RAN), "hello old\n");
}

#[test]
fn in_a_target_directory_that_people_use_too_cargo_is_not_believed_at_first() {
    let sandbox = workspace();
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', target-dir = 'ws/target' }\n");
    let cargo = std::env::var_os("CARGO").unwrap();
    let by_hand = || {
        let mut command = std::process::Command::new(&cargo);
        let command = command.args(["build", "-q", "-p", "hello"]).current_dir(sandbox.at("ws"));
        assert!(command.status().unwrap().success());
    };
    by_hand();
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    // Built by hand between two runs, from a source that is put back with its stamp.
    sandbox.edit("ws/part/src/lib.rs", "two", "six");
    by_hand();
    let path = sandbox.at("ws/part/src/lib.rs");
    fs::write(&path, "pub const WORD: &str = \"ten\";\n").unwrap();
    let before = std::time::SystemTime::now() - Duration::from_secs(100);
    fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    assert_eq!(says(&sandbox, RAN), "hello ten\n");
}

#[test]
fn a_restored_program_leaves_the_target_directory_as_it_is() {
    let sandbox = workspace();
    says(&sandbox, RAN);
    sandbox.edit("ws/part/src/lib.rs", "one", "two");
    says(&sandbox, RAN);
    let listing = || {
        let find = ["-c", "find .bcache/cargo -printf '%p %T@ %C@ %s\\n' | sort"];
        let output = std::process::Command::new("sh").args(find).current_dir(sandbox.work()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let before = listing();
    sandbox.edit("ws/part/src/lib.rs", "two", "one");
    assert_eq!(says(&sandbox, RESTORED), "hello one\n");
    assert_eq!(listing(), before);
    // It holds what "two" was made into, and cargo sees that this is not what the sources say.
    sandbox.run("build --force hello").success();
    assert_eq!(run(&sandbox.at(".bcache/out/host/hello/hello")), "hello one\n");
}

#[test]
fn a_file_outside_of_the_packages_is_found_by_dep_info() {
    let sandbox = workspace();
    sandbox
        .file("ws/word.txt", "outside")
        .file("ws/part/src/lib.rs", "pub const WORD: &str = include_str!(\"../../word.txt\");\n");
    assert_eq!(says(&sandbox, RAN), "hello outside\n");
    sandbox.run("build hello").counts(FRESH).success();
    sandbox.file("ws/word.txt", "changed");
    sandbox.run("plan hello").answers("ws/word.txt, which it read, changed").success();
    assert_eq!(says(&sandbox, RAN), "hello changed\n");
    sandbox.file("ws/word.txt", "outside");
    assert_eq!(says(&sandbox, RESTORED), "hello outside\n");
    edit_unseen(&sandbox.at("ws/word.txt"), "outside", "unknown");
    assert_eq!(says(&sandbox, RAN), "hello unknown\n");
}

#[test]
fn a_directory_that_a_build_script_watches_counts_with_all_that_lies_in_it() {
    let sandbox = workspace();
    let script = "
use std::fs;
fn main() {
    println!(\"cargo:rerun-if-changed=../words\");
    let mut words: Vec<String> = fs::read_dir(\"../words\").unwrap()
        .map(|e| fs::read_to_string(e.unwrap().path()).unwrap()).collect();
    words.sort();
    println!(\"cargo:rustc-env=WORDS={}\", words.join(\" \"));
}
";
    sandbox
        .file("ws/words/a", "first")
        .file("ws/part/build.rs", script)
        .file("ws/part/src/lib.rs", "pub const WORD: &str = env!(\"WORDS\");\n");
    assert_eq!(says(&sandbox, RAN), "hello first\n");
    assert_eq!(says(&sandbox, FRESH), "hello first\n");
    sandbox.file("ws/words/b", "second");
    assert_eq!(says(&sandbox, RAN), "hello first second\n");
    edit_unseen(&sandbox.at("ws/words/a"), "first", "third");
    assert_eq!(says(&sandbox, RAN), "hello second third\n");
    sandbox.remove("ws/words/b");
    assert_eq!(says(&sandbox, RAN), "hello third\n");
}

#[test]
fn another_worktree_with_another_file_outside_gets_no_stale_program() {
    let sandbox = workspace();
    let word = |sandbox: &Sandbox, text: &str| {
        sandbox
            .tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', profile = 'release' }\n")
            .file("ws/word.txt", text)
            .file("ws/part/src/lib.rs", "pub const WORD: &str = include_str!(\"../../word.txt\");\n");
    };
    word(&sandbox, "here");
    assert_eq!(says(&sandbox, RAN), "hello here\n");
    let other = sandbox.worktree("other");
    for path in ["ws/Cargo.toml", "ws/Cargo.lock", "ws/hello/Cargo.toml", "ws/hello/src/main.rs", "ws/part/Cargo.toml"]
    {
        other.file(path, sandbox.read(path));
    }
    other.file("ws/other/Cargo.toml", package("other", "")).file("ws/other/src/lib.rs", "");
    word(&other, "here");
    assert_eq!(says(&other, RESTORED), "hello here\n");
    word(&other, "gone");
    assert_eq!(says(&other, RAN), "hello gone\n");
    assert_eq!(says(&sandbox, FRESH), "hello here\n");
}

#[test]
fn variables_that_cargo_and_rustc_obey_are_passed_and_count() {
    let sandbox = workspace();
    sandbox.file("ws/part/src/lib.rs", "pub const WORD: &str = if cfg!(loud) { \"LOUD\" } else { \"quiet\" };\n");
    assert_eq!(says(&sandbox, RAN), "hello quiet\n");
    sandbox.env("RUSTFLAGS", "--cfg loud");
    sandbox.run("plan hello").answers("variable RUSTFLAGS changed").success();
    assert_eq!(says(&sandbox, RAN), "hello LOUD\n");
    assert_eq!(says(&sandbox, FRESH), "hello LOUD\n");
    sandbox.unset("RUSTFLAGS");
    assert_eq!(says(&sandbox, RESTORED), "hello quiet\n");
    // One that was not there at all when all was found fresh.
    assert_eq!(says(&sandbox, FRESH), "hello quiet\n");
    sandbox.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
    says(&sandbox, RAN);
}

#[test]
fn the_compiler_that_builds_is_the_one_that_is_asked() {
    let sandbox = workspace();
    sandbox.tool("my-rustc", "exec rustc --cfg mine \"$@\"");
    sandbox.file("ws/part/src/lib.rs", "pub const WORD: &str = if cfg!(mine) { \"mine\" } else { \"theirs\" };\n");
    assert_eq!(says(&sandbox, RAN), "hello theirs\n");
    let compiler = sandbox.root().join("bin/my-rustc");
    sandbox.env("RUSTC", &compiler);
    assert_eq!(says(&sandbox, RAN), "hello mine\n");
    assert_eq!(says(&sandbox, FRESH), "hello mine\n");
    sandbox.tool("my-rustc", "exec rustc --cfg other \"$@\"");
    assert_eq!(says(&sandbox, RAN), "hello theirs\n");
    // By a target's env in the manifest it is the same.
    sandbox.unset("RUSTC").tool("my-rustc", "exec rustc --cfg mine \"$@\"");
    sandbox.tasks(&format!("{TASK}env = {{ RUSTC = '{}' }}\n", compiler.display()));
    assert_eq!(says(&sandbox, RAN), "hello mine\n");
}

#[test]
fn a_compiler_that_another_program_starts_is_that_program_too() {
    let sandbox = workspace();
    sandbox.file("ws/part/src/lib.rs", "pub const WORD: &str = if cfg!(mine) { \"mine\" } else { \"theirs\" };\n");
    let program = sandbox.root().join("bin/starter");
    let make = |name: &str| {
        let source = format!(
            "#include <unistd.h>\nint main(int c, char **v) {{ char *a[c + 3]; a[0] = \"rustc\"; a[1] = \"--cfg\"; a[2] = \"{name}\";\n\
             for (int i = 1; i <= c; i++) a[i + 2] = v[i]; return execvp(a[0], a); }}\n"
        );
        let path = sandbox.root().join("starter.c");
        fs::write(&path, source).unwrap();
        let _ = fs::remove_file(&program);
        assert!(std::process::Command::new("cc").arg(&path).arg("-o").arg(&program).status().unwrap().success());
    };
    make("mine");
    sandbox.env("RUSTC", &program);
    assert_eq!(says(&sandbox, RAN), "hello mine\n");
    assert_eq!(says(&sandbox, FRESH), "hello mine\n");
    make("some");
    assert_eq!(says(&sandbox, RAN), "hello theirs\n");
}

#[test]
fn cargo_s_configuration_counts_wherever_it_lies() {
    let sandbox = workspace();
    sandbox.file("ws/part/src/lib.rs", "pub const WORD: &str = if cfg!(loud) { \"LOUD\" } else { \"quiet\" };\n");
    assert_eq!(says(&sandbox, RAN), "hello quiet\n");
    sandbox.file(".cargo/config.toml", "[build]\nrustflags = ['--cfg', 'loud']\n");
    assert_eq!(says(&sandbox, RAN), "hello LOUD\n");
    sandbox.remove(".cargo/config.toml");
    assert_eq!(says(&sandbox, RESTORED), "hello quiet\n");
    assert_eq!(says(&sandbox, FRESH), "hello quiet\n");
    sandbox.file("ws/.cargo/config.toml", "include = ['more.toml']\n").file("ws/.cargo/more.toml", "[env]\nX = '1'\n");
    sandbox.run("build hello").success();
    sandbox.file("ws/.cargo/more.toml", "[env]\nX = '2'\n");
    sandbox.run("plan hello").answers("ws/.cargo/more.toml changed").success();
}

#[test]
fn a_workspace_behind_a_link_is_the_one_that_it_leads_to() {
    let sandbox = workspace();
    fs::rename(sandbox.at("ws"), sandbox.at("fork1")).unwrap();
    let copied = std::process::Command::new("cp").args(["-a", "fork1", "fork2"]).current_dir(sandbox.work()).status();
    assert!(copied.unwrap().success());
    sandbox.edit("fork2/part/src/lib.rs", "one", "two").link("ws", "fork1");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    assert_eq!(says(&sandbox, FRESH), "hello one\n");
    assert_eq!(says(&sandbox, FRESH), "hello one\n");
    sandbox.remove("ws").link("ws", "fork2");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    assert_eq!(says(&sandbox, FRESH), "hello two\n");
    sandbox.remove("ws").link("ws", "fork1").remove(".bcache/proofs");
    assert_eq!(says(&sandbox, RESTORED), "hello one\n");
    // A directory where the link was.
    sandbox.remove("ws");
    fs::rename(sandbox.at("fork2"), sandbox.at("ws")).unwrap();
    assert_eq!(says(&sandbox, RAN), "hello two\n");
}

#[test]
fn what_lies_above_the_real_place_of_a_workspace_behind_a_link_counts() {
    let sandbox = workspace();
    fs::create_dir(sandbox.root().join("else")).unwrap();
    fs::rename(sandbox.at("ws"), sandbox.root().join("else/fork")).unwrap();
    let quiet = "pub const WORD: &str = if cfg!(loud) { \"LOUD\" } else { \"quiet\" };\n";
    sandbox.file("../else/fork/part/src/lib.rs", quiet).link("ws", "../else/fork");
    assert_eq!(says(&sandbox, RAN), "hello quiet\n");
    assert_eq!(says(&sandbox, FRESH), "hello quiet\n");
    sandbox.file("../else/.cargo/config.toml", "[build]\nrustflags = ['--cfg', 'loud']\n");
    assert_eq!(says(&sandbox, RAN), "hello LOUD\n");
    // Cargo looks for none above the link.
    sandbox.file(".cargo/config.toml", "[build]\nrustflags = []\n");
    assert_eq!(says(&sandbox, FRESH), "hello LOUD\n");
}

#[test]
fn a_file_outside_of_the_packages_is_reached_through_a_link_that_is_turned() {
    let sandbox = workspace();
    sandbox
        .file("ws/part/v1/word.txt", "one")
        .file("ws/part/v2/word.txt", "two")
        .link("ws/cur", "part/v1")
        .file("ws/part/src/lib.rs", "pub const WORD: &str = include_str!(\"../../cur/word.txt\");\n");
    make_old(&sandbox.at("ws/part/v2/word.txt"));
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    assert_eq!(says(&sandbox, FRESH), "hello one\n");
    sandbox.remove("ws/cur").link("ws/cur", "part/v2");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    assert_eq!(says(&sandbox, FRESH), "hello two\n");
    sandbox.remove("ws/cur").link("ws/cur", "part/v1");
    assert_eq!(says(&sandbox, RESTORED), "hello one\n");
}

#[test]
fn the_targets_of_a_task_are_built_side_by_side_and_forced_one_by_one() {
    let sandbox = workspace();
    let triple = triple();
    sandbox.tasks(&format!("[targets.same]\ntriple = '{triple}'\n{TASK}targets = ['host', 'same']\n"));
    sandbox.run("-j2 build hello").counts("0 fresh, 0 restored, 2 ran").success();
    for target in ["host", "same"] {
        assert_eq!(run(&sandbox.at(format!(".bcache/out/{target}/hello/hello"))), "hello one\n");
    }
    sandbox.run("-j2 build hello").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.run("-j2 build --force hello@same hello@host").counts("0 fresh, 0 restored, 2 ran").success();
    sandbox.run("build --force hello@same").counts(RAN).success();
}

fn triple() -> String {
    let output = std::process::Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

#[test]
fn what_the_compiler_says_is_shown_once_as_cargo_shows_it() {
    let sandbox = workspace();
    sandbox.append("ws/part/src/lib.rs", "fn unused() {}\n");
    sandbox
        .run("build hello")
        .stderr(
            "
     Running hello@host
  stderr of hello@host:
warning: function `unused` is never used
 --> part/src/lib.rs:2:4
  |
2 | fn unused() {}
  |    ^^^^^^
  |
  = note: `#[warn(dead_code)]` (part of `#[warn(unused)]`) on by default

    Finished hello@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    sandbox.run("build hello").counts(FRESH).success();
    sandbox.file("ws/part/src/lib.rs", "pub const WORD: i32 = \"one\";\n");
    let failed = sandbox.run("build hello");
    failed.says("error[E0308]: mismatched types").says("could not compile `part`").exit(1);
}

#[test]
fn a_killed_build_is_not_built_on() {
    let sandbox = workspace();
    sandbox.file(
        "ws/part/build.rs",
        "fn main() { assert!(std::process::Command::new(\"sh\").args([\"-c\", env!(\"GATE\")]).status().unwrap().success()); }\n",
    );
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello' }\nenv = { GATE = '{gate script}' }\n");
    let build = sandbox.start("build hello");
    sandbox.reached("script");
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    build.kill();
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello' }\nenv = { GATE = 'true' }\n");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
}

#[test]
fn an_edit_while_cargo_builds_keeps_the_program_and_stores_nothing() {
    let sandbox = workspace();
    sandbox.file(
        "ws/part/build.rs",
        "fn main() { assert!(std::process::Command::new(\"sh\").args([\"-c\", env!(\"GATE\")]).status().unwrap().success()); }\n",
    );
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello' }\nenv = { GATE = '{gate edit}' }\n");
    let build = sandbox.start("build hello");
    sandbox.reached("edit");
    sandbox.edit("ws/part/src/lib.rs", "one", "two");
    sandbox.open("edit");
    build.wait().says("was changed while hello@host ran: its result is kept here, but not stored").success();
    assert_eq!(run(&sandbox.at(".bcache/out/host/hello/hello")), "hello two\n");
    sandbox.open("edit");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    assert_eq!(says(&sandbox, FRESH), "hello two\n");
}

#[test]
fn an_output_of_a_need_that_is_edited_and_put_back_unseen_while_cargo_builds_is_in_no_result() {
    let sandbox = workspace();
    let script = |word: &str| {
        format!(
            "fn main() {{ assert!(std::process::Command::new(\"sh\").args([\"-c\", env!(\"{word}\")]).status().unwrap().success()); }}\n"
        )
    };
    sandbox
        .tasks(
            "
[tasks.gen]
inputs = ['in']
outputs = ['gen/word.txt']
run = 'cp in gen/word.txt'
[tasks.hello]
needs = ['gen']
cargo = { workspace = 'ws', package = 'hello' }
env = { BEFORE = '{gate before}', AFTER = '{gate after}' }
",
        )
        .file("in", "good")
        .file("ws/part/build.rs", script("BEFORE"))
        .file("ws/part/src/lib.rs", "pub const WORD: &str = include_str!(\"../../../gen/word.txt\");\n")
        .file("ws/hello/build.rs", script("AFTER"));
    let dependencies =
        "[dependencies]\npart = { path = '../part' }\n[build-dependencies]\npart = { path = '../part' }\n";
    sandbox.file("ws/hello/Cargo.toml", package("hello", dependencies));
    let build = sandbox.start("build hello");
    sandbox.reached("before");
    edit_unseen(&sandbox.at("gen/word.txt"), "good", "evil");
    sandbox.open("before").reached("after");
    edit_unseen(&sandbox.at("gen/word.txt"), "evil", "good");
    sandbox.open("after");
    build.wait().says("gen/word.txt was changed while hello@host ran: its result is kept here").success();
    assert_eq!(run(&sandbox.at(".bcache/out/host/hello/hello")), "hello evil\n");
    sandbox.open("before").open("after");
    assert_eq!(says(&sandbox, "1 fresh, 0 restored, 1 ran"), "hello good\n");
    assert_eq!(says(&sandbox, "2 fresh, 0 restored, 0 ran"), "hello good\n");
}

#[test]
fn the_cores_are_shared_with_other_steps() {
    let sandbox = workspace();
    let count = sandbox.root().join("compilers");
    fs::create_dir(&count).unwrap();
    sandbox.tool(
        "counting",
        &format!(
            "d={}; t=$(mktemp -p $d run.XXXXXX); ls $d | grep -c run >> $d/seen; sleep 0.05; \"$@\"; code=$?; rm -f $t; exit $code",
            count.display()
        ),
    );
    for i in 0..6 {
        sandbox
            .file(format!("ws/p{i}/Cargo.toml"), package(&format!("p{i}"), ""))
            .file(format!("ws/p{i}/src/main.rs"), "fn main() {}\n");
    }
    let members: String = (0..6).map(|i| format!("'p{i}', ")).collect();
    sandbox.file("ws/Cargo.toml", format!("[workspace]\nmembers = [{members}]\nresolver = '3'\n"));
    let triple = triple();
    let mut tasks = format!("[targets.same]\ntriple = '{triple}'\n");
    for i in 0..6 {
        tasks +=
            &format!("[tasks.p{i}]\ncargo = {{ workspace = 'ws', package = 'p{i}' }}\ntargets = ['host', 'same']\n");
    }
    sandbox.tasks(&tasks).env("RUSTC_WRAPPER", sandbox.root().join("bin/counting"));
    sandbox.run("-j2 build p0 p1 p2 p3 p4 p5").counts("0 fresh, 0 restored, 12 ran").success();
    let seen = fs::read_to_string(count.join("seen")).unwrap();
    let most = seen.lines().map(|line| line.parse::<u32>().unwrap()).max().unwrap();
    assert_eq!(most, 2, "compilers at once");
}

#[test]
fn libraries_for_other_languages_are_outputs_too() {
    let sandbox = workspace();
    sandbox
        .file("ws/hello/Cargo.toml", package("hello", "[lib]\ncrate-type = ['cdylib', 'staticlib', 'lib']\n"))
        .file("ws/hello/src/lib.rs", "#[unsafe(no_mangle)]\npub extern \"C\" fn answer() -> i32 { 42 }\n")
        .remove("ws/hello/src/main.rs");
    sandbox.run("build hello").counts(RAN).success();
    let mut names: Vec<_> = fs::read_dir(sandbox.at(".bcache/out/host/hello"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["libhello.a", "libhello.so"]);
}

#[test]
fn what_cannot_be_built_is_said_before_cargo_starts() {
    let sandbox = workspace();
    sandbox.tasks("[tasks.a]\ncargo = { workspace = 'ws', package = 'helo' }\n");
    sandbox.run("build a").says("the workspace `[ROOT]/work/ws` has no package `helo`: did you mean `hello`?").exit(1);
    sandbox.tasks("[tasks.a]\ncargo = { workspace = 'nothing', package = 'hello' }\n");
    sandbox.run("build a").says("there is no directory `[ROOT]/work/nothing` for cargo to build in").exit(1);
    sandbox.tasks("[targets.t]\ntriple = 'sparc64-unknown-linux-gnu'\n[tasks.a]\ncargo = { workspace = 'ws', package = 'hello' }\ntargets = ['t']\n");
    sandbox
        .run("build a")
        .says("the standard library of sparc64-unknown-linux-gnu is missing")
        .says("rustup target add sparc64-unknown-linux-gnu")
        .exit(1);
    sandbox.tasks("[tasks.a]\ncargo = { workspace = 'ws', package = 'hello' }\n");
    sandbox.file("ws/.cargo/config.toml", "[build]\ntarget = 'sparc64-unknown-linux-gnu'\n");
    sandbox.run("build a").says("the standard library of sparc64-unknown-linux-gnu is missing").exit(1);
    sandbox.remove("ws/.cargo/config.toml");
    sandbox.tasks("[tasks.a]\ncargo = { package = 'hello', args = ['--target-dir=x'] }\nrun = 'x'\n");
    sandbox.run("build a").says("`commands` does not go with `cargo`").exit(3);
}
