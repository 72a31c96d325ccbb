//! Where cargo, or what was known of it, would be believed too easily: each of these once gave an old program.

mod cargo_rig;
mod sandbox;

use std::fs;
use std::process::Command;

use cargo_rig::{FRESH, RAN, TASK, edit_unseen, make_old, package, run, says, with_macro, workspace};
use sandbox::Sandbox;

fn by_hand(sandbox: &Sandbox, words: &[&str], env: &[(&str, &str)]) {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap());
    command.args(words).current_dir(sandbox.at("ws")).envs(env.iter().copied());
    assert!(command.status().unwrap().success());
}

#[test]
fn options_in_args_that_the_table_has_keys_for_are_refused() {
    let sandbox = workspace();
    for word in ["--release", "-r", "-vr", "--profile=x", "-Fx", "--all-features"] {
        let task = format!("[tasks.hello]\ncargo = {{ workspace = 'ws', package = 'hello', args = ['{word}'] }}\n");
        let name = word.split('=').next().unwrap();
        sandbox.tasks(&task).run("build hello").says(&format!("`{name}")).says("is set by bcache").exit(3);
    }
}

#[test]
fn an_input_that_cargo_knows_nothing_of_is_built_in() {
    let sandbox = workspace();
    with_macro(&sandbox);
    sandbox
        .tasks(&format!("{TASK}inputs = ['words/*']\n"))
        .file("words/a", "first")
        .file("ws/part/src/lib.rs", "pub const WORD: &str = macros::text_of!(\"../../words/a\");\n");
    assert_eq!(says(&sandbox, RAN), "hello first\n");
    sandbox.file("words/a", "second");
    assert_eq!(says(&sandbox, RAN), "hello second\n");
}

#[test]
fn a_package_of_another_workspace_inherits_from_that_one() {
    let sandbox = workspace();
    sandbox
        .file("libs/Cargo.toml", "[workspace]\nmembers = ['word']\n[workspace.package]\nversion = '1.0.0'\n")
        .file("libs/word/Cargo.toml", "[package]\nname = 'word'\nversion.workspace = true\nedition = '2024'\n")
        .file("libs/word/src/lib.rs", "pub const WORD: &str = env!(\"CARGO_PKG_VERSION\");\n")
        .file("ws/part/Cargo.toml", package("part", "[dependencies]\nword = { path = '../../libs/word' }\n"))
        .file("ws/part/src/lib.rs", "pub use word::WORD;\n");
    assert_eq!(says(&sandbox, RAN), "hello 1.0.0\n");
    sandbox.edit("libs/Cargo.toml", "1.0.0", "2.0.0");
    assert_eq!(says(&sandbox, RAN), "hello 2.0.0\n");
}

#[test]
fn a_vendored_package_is_a_source_too() {
    let sandbox = workspace();
    sandbox
        .file("ws/.cargo/config.toml", "[source.crates-io]\nreplace-with = 'v'\n[source.v]\ndirectory = 'vendor'\n")
        .file("ws/vendor/word/Cargo.toml", package("word", ""))
        .file("ws/vendor/word/.cargo-checksum.json", "{\"files\":{}}")
        .file("ws/vendor/word/src/lib.rs", "pub const WORD: &str = \"one\";\n")
        .file("ws/part/Cargo.toml", package("part", "[dependencies]\nword = '0.1'\n"))
        .file("ws/part/src/lib.rs", "pub use word::WORD;\n");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.edit("ws/vendor/word/src/lib.rs", "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
}

#[test]
fn a_source_behind_a_link_counts_by_what_it_leads_to() {
    let sandbox = workspace();
    Command::new("git").args(["init", "-q"]).current_dir(sandbox.work()).status().unwrap();
    sandbox.file("shared/word.rs", "pub const WORD: &str = \"one\";\n").remove("ws/part/src/lib.rs");
    sandbox.link("ws/part/src/lib.rs", "../../../shared/word.rs");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.edit("shared/word.rs", "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    edit_unseen(&sandbox.at("shared/word.rs"), "two", "six");
    assert_eq!(says(&sandbox, RAN), "hello six\n");
}

#[test]
fn a_directory_of_sources_behind_a_link_counts_by_what_it_leads_to() {
    let sandbox = workspace();
    Command::new("git").args(["init", "-q"]).current_dir(sandbox.work()).status().unwrap();
    sandbox.file("shared/mod.rs", "pub const WORD: &str = \"one\";\n");
    sandbox
        .file("ws/part/src/lib.rs", "mod words;\npub use words::WORD;\n")
        .link("ws/part/src/words", "../../../shared");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.edit("shared/mod.rs", "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    edit_unseen(&sandbox.at("shared/mod.rs"), "two", "six");
    assert_eq!(says(&sandbox, RAN), "hello six\n");
}

#[test]
fn a_package_behind_a_link_counts_with_its_manifest() {
    let sandbox = workspace();
    Command::new("git").args(["init", "-q"]).current_dir(sandbox.work()).status().unwrap();
    sandbox
        .file("ws/Cargo.toml", "[workspace]\nmembers = ['hello', 'other']\nresolver = '3'\n")
        .remove("ws/part")
        .file("far/part/Cargo.toml", package("part", "[features]\ndefault = []\nloud = []\n"))
        .file(
            "far/part/src/lib.rs",
            "pub const WORD: &str = if cfg!(feature = \"loud\") { \"LOUD\" } else { \"quiet\" };\n",
        );
    sandbox.link("ws/part", "../far/part");
    assert_eq!(says(&sandbox, RAN), "hello quiet\n");
    sandbox.edit("far/part/Cargo.toml", "default = []", "default = ['loud']");
    assert_eq!(says(&sandbox, RAN), "hello LOUD\n");
    sandbox.edit("far/part/src/lib.rs", "LOUD", "ROAR");
    assert_eq!(says(&sandbox, RAN), "hello ROAR\n");
    edit_unseen(&sandbox.at("far/part/src/lib.rs"), "ROAR", "LOUD");
    assert_eq!(says(&sandbox, "0 fresh, 1 restored, 0 ran"), "hello LOUD\n");
    edit_unseen(&sandbox.at("far/part/src/lib.rs"), "LOUD", "HOWL");
    assert_eq!(says(&sandbox, RAN), "hello HOWL\n");
}

#[test]
fn what_another_task_built_of_a_package_inside_this_one_is_not_forgotten() {
    let sandbox = workspace();
    sandbox
        .file("ws/Cargo.toml", format!("{}[workspace]\nmembers = ['part', 'other', 'tool']\n", package("root", "")))
        .file("ws/src/main.rs", "fn main() {}\n")
        .remove("ws/hello")
        .file("ws/tool/Cargo.toml", package("hello", "[dependencies]\npart = { path = '../part' }\n"))
        .file("ws/tool/src/main.rs", "fn main() { println!(\"hello {}\", part::WORD) }\n")
        .tasks(&format!("{TASK}[tasks.root]\ncargo = {{ workspace = 'ws', package = 'root' }}\n"));
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.run("build root").counts(RAN).success();
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
}

#[test]
fn prose_that_a_macro_reads_is_built_in() {
    let sandbox = workspace();
    with_macro(&sandbox);
    sandbox
        .file("ws/part/templates/page.md", "first")
        .file("ws/part/src/lib.rs", "pub const WORD: &str = macros::text_of!(\"templates/page.md\");\n");
    assert_eq!(says(&sandbox, RAN), "hello first\n");
    sandbox.file("ws/part/templates/page.md", "second");
    assert_eq!(says(&sandbox, RAN), "hello second\n");
}

const FLAVOR: &str = "
fn main() {
    println!(\"cargo:rerun-if-changed=build.rs\");
    println!(\"cargo:rustc-env=WORD={}\", std::env::var(\"FLAVOR\").unwrap_or(\"plain\".into()));
}
";

fn with_flavor(sandbox: &Sandbox) {
    sandbox.file("ws/part/build.rs", FLAVOR).file("ws/part/src/lib.rs", "pub const WORD: &str = env!(\"WORD\");\n");
}

#[test]
fn what_was_built_by_hand_with_another_environment_is_not_built_on() {
    let sandbox = workspace();
    with_flavor(&sandbox);
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', target-dir = 'ws/target' }\n");
    assert_eq!(says(&sandbox, RAN), "hello plain\n");
    sandbox.file("ws/part/build.rs", FLAVOR);
    by_hand(&sandbox, &["build", "-q", "-p", "hello"], &[("FLAVOR", "odd")]);
    sandbox.append("ws/hello/src/main.rs", "// new\n");
    assert_eq!(says(&sandbox, RAN), "hello plain\n");
}

#[test]
fn a_run_with_arguments_and_all_variables_is_not_built_on() {
    let sandbox = workspace();
    with_flavor(&sandbox);
    assert_eq!(says(&sandbox, RAN), "hello plain\n");
    sandbox.file("ws/part/build.rs", FLAVOR).env("FLAVOR", "odd");
    let ran = sandbox.run("run hello -- --quiet");
    println!("{}", ran.said());
    ran.success();
    sandbox.append("ws/hello/src/main.rs", "// new\n");
    assert_eq!(says(&sandbox, RAN), "hello plain\n");
}

#[test]
fn a_task_that_always_runs_is_not_built_on() {
    let sandbox = workspace();
    with_flavor(&sandbox);
    sandbox.tasks(&format!("{TASK}[tasks.dev]\ncache = false\ncargo = {{ workspace = 'ws', package = 'hello' }}\n"));
    sandbox.env("FLAVOR", "odd");
    sandbox.run("build dev").success();
    assert_eq!(says(&sandbox, RAN), "hello plain\n");
}

#[test]
fn what_dep_info_names_is_found_wherever_dep_info_basedir_is() {
    let sandbox = workspace();
    sandbox
        .file("ws/.cargo/config.toml", "[build]\ndep-info-basedir = '..'\n")
        .file("ws/word.txt", "outside")
        .file("ws/part/src/lib.rs", "pub const WORD: &str = include_str!(\"../../word.txt\");\n");
    assert_eq!(says(&sandbox, RAN), "hello outside\n");
    sandbox.file("ws/word.txt", "changed");
    assert_eq!(says(&sandbox, RAN), "hello changed\n");
}

#[test]
fn a_build_directory_elsewhere_is_not_believed_without_its_memory() {
    let sandbox = workspace();
    sandbox.file("ws/.cargo/config.toml", format!("[build]\nbuild-dir = '{}/builds'\n", sandbox.root().display()));
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.run("clean").success();
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
}

#[test]
fn a_file_of_configuration_that_args_name_counts() {
    let sandbox = workspace();
    sandbox
        .tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', args = ['--config', 'more.toml'] }\n")
        .file("ws/more.toml", "[build]\nrustflags = ['--cfg', 'loud']\n")
        .file("ws/part/src/lib.rs", "pub const WORD: &str = if cfg!(loud) { \"LOUD\" } else { \"quiet\" };\n");
    assert_eq!(says(&sandbox, RAN), "hello LOUD\n");
    sandbox.file("ws/more.toml", "[build]\nrustflags = []\n");
    assert_eq!(says(&sandbox, RAN), "hello quiet\n");
}

#[test]
fn a_file_that_a_build_script_waits_for_is_noticed_when_it_comes() {
    let sandbox = workspace();
    let script = "fn main() {
    println!(\"cargo:rerun-if-changed=../words.txt\");
    println!(\"cargo:rustc-env=WORD={}\", std::fs::read_to_string(\"../words.txt\").unwrap_or(\"none\".into()));
}\n";
    sandbox.file("ws/part/build.rs", script).file("ws/part/src/lib.rs", "pub const WORD: &str = env!(\"WORD\");\n");
    assert_eq!(says(&sandbox, RAN), "hello none\n");
    assert_eq!(says(&sandbox, FRESH), "hello none\n");
    sandbox.file("ws/words.txt", "come");
    make_old(&sandbox.at("ws/words.txt"));
    assert_eq!(says(&sandbox, RAN), "hello come\n");
    sandbox.remove("ws/words.txt");
    assert_eq!(says(&sandbox, "0 fresh, 1 restored, 0 ran"), "hello none\n");
    sandbox.append("ws/hello/src/main.rs", "// new\n");
    assert_eq!(says(&sandbox, RAN), "hello none\n");
}

#[test]
fn a_program_stays_where_it_is_while_its_next_build_fails() {
    let sandbox = workspace();
    let program = sandbox.at(".bcache/out/host/hello/hello");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.file("ws/part/src/lib.rs", "pub const WORD: i32 = \"one\";\n");
    sandbox.run("build hello").exit(1);
    assert_eq!(run(&program), "hello one\n");
    sandbox.run("build hello").exit(1);
    assert_eq!(run(&program), "hello one\n");
}

#[test]
fn a_manifest_edited_while_cargo_is_asked_is_asked_about_again() {
    let sandbox = workspace();
    let cargo = std::env::var("CARGO").unwrap();
    sandbox.tool(
        "cargo",
        &format!("if [ \"$1\" = metadata ] && [ -e {0}/ask ]; then {cargo} \"$@\"; code=$?; {{gate asked}}; exit $code; fi\nexec {cargo} \"$@\"", sandbox.root().display()),
    );
    fs::write(sandbox.root().join("ask"), "").unwrap();
    sandbox
        .file("ws/second/Cargo.toml", package("second", "[features]\ndefault = []\nloud = []\n"))
        .file(
            "ws/second/src/lib.rs",
            "pub const WORD: &str = if cfg!(feature = \"loud\") { \"LOUD\" } else { \"quiet\" };\n",
        )
        .edit("ws/Cargo.toml", "'other'", "'other', 'second'");
    let build = sandbox.start("build hello");
    sandbox.reached("asked");
    sandbox.file("ws/part/Cargo.toml", package("part", "[dependencies]\nsecond = { path = '../second' }\n"));
    sandbox.file("ws/part/src/lib.rs", "pub use second::WORD;\n");
    fs::remove_file(sandbox.root().join("ask")).unwrap();
    sandbox.open("asked");
    build.wait().success();
    sandbox.run("build hello").success();
    assert_eq!(run(&sandbox.at(".bcache/out/host/hello/hello")), "hello quiet\n");
    sandbox.edit("ws/second/Cargo.toml", "default = []", "default = ['loud']");
    assert_eq!(says(&sandbox, RAN), "hello LOUD\n");
}

#[test]
fn a_killed_run_of_a_package_that_has_another_name_now_fails_nobody() {
    let sandbox = workspace();
    let gate = "fn main() { assert!(std::process::Command::new(\"sh\").args([\"-c\", env!(\"GATE\")]).status().unwrap().success()); }\n";
    let task = |gate: &str| {
        let text = format!(
            "{TASK}env = {{ GATE = '{gate}' }}\n[tasks.other]\ncargo = {{ workspace = 'ws', package = 'other' }}\n"
        );
        sandbox.tasks(&text);
    };
    sandbox.file("ws/part/build.rs", gate);
    task("true");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    task("{gate script}");
    let build = sandbox.start("build hello");
    sandbox.reached("script");
    build.kill();
    task("true");
    // Under its new name it is another package, and the old one can't be named to cargo any more.
    sandbox.edit("ws/part/Cargo.toml", "'part'", "'piece'");
    sandbox.edit("ws/hello/Cargo.toml", "part = {", "part = { package = 'piece',");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "two", "one");
    sandbox.edit("ws/part/Cargo.toml", "'piece'", "'part'");
    sandbox.edit("ws/hello/Cargo.toml", "package = 'piece',", "");
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "six");
    assert_eq!(says(&sandbox, RAN), "hello six\n");
}

#[test]
fn an_edit_that_was_made_while_the_last_run_went_on_is_not_left_to_cargo() {
    let sandbox = workspace();
    let gate = "fn main() { assert!(std::process::Command::new(\"sh\").args([\"-c\", env!(\"GATE\")]).status().unwrap().success()); }\n";
    sandbox.file("ws/hello/build.rs", gate);
    sandbox.tasks(&format!("{TASK}env = {{ GATE = '{{gate late}}' }}\n"));
    let build = sandbox.start("build hello");
    sandbox.reached("late");
    // Written to another file while the old one is compiled, and renamed after.
    sandbox.file("ws/part/src/new.rs", "pub const WORD: &str = \"two\";\n");
    fs::rename(sandbox.at("ws/part/src/new.rs"), sandbox.at("ws/part/src/lib.rs")).unwrap();
    sandbox.open("late");
    build.wait().says("was changed while hello@host ran").success();
    sandbox.open("late");
    let again = sandbox.run("build hello");
    again.says("built anew, since cargo can't tell what changed there: part").counts(RAN).success();
    assert_eq!(run(&sandbox.at(".bcache/out/host/hello/hello")), "hello two\n");
}

#[test]
fn a_target_directory_that_a_link_leads_out_of_the_workspace_is_an_error() {
    let sandbox = workspace();
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', target-dir = 'built/target' }\n");
    sandbox.link("built", "inner/dir").dir("inner/dir");
    for counts in [RAN, FRESH, FRESH] {
        sandbox.run("build hello").counts(counts).success();
    }
    fs::create_dir(sandbox.root().join("shared")).unwrap();
    let leads_out = || {
        for words in ["build hello", "build --force hello", "shell hello -- true"] {
            sandbox.run(words).says("a target directory must lie inside the workspace").exit(3);
        }
        sandbox.run("plan hello").says("a link that leads out of it, or nowhere").exit(3);
    };
    // Behind a link that itself stays, of which the proof knows too.
    sandbox.remove("inner/dir").link("inner/dir", "../../shared");
    leads_out();
    sandbox.remove("inner/dir").link("inner/dir", "none");
    leads_out();
    sandbox.remove("inner").remove("built").run("build hello").counts(FRESH).success();
    sandbox.run("build hello").counts(FRESH).success();
    sandbox.link("built", "../shared");
    leads_out();
    sandbox.remove("built").dir("built").link("built/target", "../../shared");
    leads_out();
}

#[test]
fn two_tasks_in_one_target_directory_take_nothing_from_each_other() {
    let sandbox = workspace();
    let count = sandbox.root().join("compiled");
    sandbox.tool("counting", &format!("echo \"$@\" >>{}; exec \"$@\"", count.display()));
    sandbox.env("RUSTC_WRAPPER", sandbox.root().join("bin/counting"));
    sandbox
        .file("ws/hello/src/bin/second.rs", "fn main() { println!(\"second {}\", part::WORD) }\n")
        .tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', bin = 'hello', target-dir = 'ws/target' }\n[tasks.second]\ncargo = { workspace = 'ws', package = 'hello', bin = 'second', target-dir = 'ws/target' }\n");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.run("build second").counts(RAN).success();
    let compiled = || {
        let text = fs::read_to_string(&count).unwrap();
        text.lines().filter(|line| line.contains("--crate-name part ")).count()
    };
    assert_eq!(compiled(), 1);
    sandbox.append("ws/hello/src/main.rs", "// new\n").append("ws/hello/src/bin/second.rs", "// new\n");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    sandbox.run("build second").counts(RAN).success();
    assert_eq!(compiled(), 1);
    sandbox.edit("ws/part/src/lib.rs", "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
    sandbox.run("build second").counts(RAN).success();
    assert_eq!(compiled(), 2);
}

#[test]
fn what_an_interrupted_run_has_built_is_built_on() {
    let sandbox = workspace();
    let count = sandbox.root().join("compiled");
    sandbox.tool("counting", &format!("echo \"$@\" >>{}; exec \"$@\"", count.display()));
    sandbox.env("RUSTC_WRAPPER", sandbox.root().join("bin/counting"));
    let script = "fn main() { part::WORD; assert!(std::process::Command::new(\"sh\").args([\"-c\", env!(\"GATE\")]).status().unwrap().success()); }\n";
    sandbox.file("ws/hello/build.rs", script);
    sandbox.file(
        "ws/hello/Cargo.toml",
        package(
            "hello",
            "[dependencies]\npart = { path = '../part' }\n[build-dependencies]\npart = { path = '../part' }\n",
        ),
    );
    sandbox.file("gate", "wait");
    let gate = format!("test -e {0} || exit 0; {{gate late}}", sandbox.at("gate").display());
    sandbox.tasks(&format!("{TASK}env = {{ GATE = '{gate}' }}\n"));
    let build = sandbox.start("build hello");
    sandbox.reached("late");
    build.signal(rustix::process::Signal::INT);
    build.wait().exit(130);
    sandbox.remove("gate");
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    let text = fs::read_to_string(&count).unwrap();
    assert_eq!(text.lines().filter(|line| line.contains("--crate-name part ")).count(), 1);
}

#[test]
fn a_task_that_always_runs_does_not_build_beside_a_cached_one() {
    let sandbox = workspace();
    with_flavor(&sandbox);
    let script = FLAVOR.replace("fn main() {", "fn main() { assert!(std::process::Command::new(\"sh\").args([\"-c\", &std::env::var(\"GATE\").unwrap_or(\"true\".into())]).status().unwrap().success());");
    sandbox.file("ws/part/build.rs", script);
    let dev = "[tasks.dev]\ncache = false\ncargo = { workspace = 'ws', package = 'hello' }\n";
    sandbox.tasks(&format!("{TASK}{dev}"));
    sandbox.env("FLAVOR", "odd").env("GATE", sandbox.filled("{gate odd}"));
    let odd = sandbox.start("build dev");
    sandbox.reached("odd");
    let cached = sandbox.start("build hello");
    sandbox.open("odd");
    odd.wait().success();
    cached.wait().counts(RAN).success();
    assert_eq!(run(&sandbox.at(".bcache/out/host/hello/hello")), "hello plain\n");
}

#[test]
fn a_manifest_behind_a_link_counts_by_what_it_leads_to() {
    let sandbox = workspace();
    Command::new("git").args(["init", "-q"]).current_dir(sandbox.work()).status().unwrap();
    let text = "pub const WORD: &str = if cfg!(debug_assertions) { \"debug\" } else { env!(\"CARGO_PKG_VERSION\") };\n";
    sandbox.file("ws/part/src/lib.rs", text);
    for (from, to) in [("ws/Cargo.toml", "far/ws.toml"), ("ws/part/Cargo.toml", "far/part.toml")] {
        sandbox.file(to, sandbox.read(from)).remove(from).link(from, sandbox.at(to));
    }
    assert_eq!(says(&sandbox, RAN), "hello debug\n");
    sandbox.append("far/ws.toml", "[profile.dev]\ndebug-assertions = false\n");
    assert_eq!(says(&sandbox, RAN), "hello 0.1.0\n");
    sandbox.edit("far/part.toml", "0.1.0", "0.2.0");
    assert_eq!(says(&sandbox, RAN), "hello 0.2.0\n");
    assert_eq!(says(&sandbox, FRESH), "hello 0.2.0\n");
}

#[test]
fn a_lock_file_that_must_not_change_does_not_change() {
    let sandbox = workspace();
    sandbox.tasks("[tasks.hello]\ncargo = { workspace = 'ws', package = 'hello', args = ['--locked'] }\n");
    sandbox.run("build hello").says("--locked was passed").exit(1);
    assert!(!sandbox.exists("ws/Cargo.lock"));
}

#[test]
fn a_platform_that_configuration_chooses_is_cleaned_too() {
    let sandbox = workspace();
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let triple = text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    sandbox.file("ws/.cargo/config.toml", format!("[build]\ntarget = '{triple}'\n"));
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    edit_unseen(&sandbox.at("ws/part/src/lib.rs"), "one", "two");
    assert_eq!(says(&sandbox, RAN), "hello two\n");
}

#[test]
fn what_another_task_generates_into_a_package_is_built_in() {
    let sandbox = workspace();
    Command::new("git").args(["init", "-q"]).current_dir(sandbox.work()).status().unwrap();
    sandbox
        .file("word", "one")
        .file(".gitignore", "words.rs\n")
        .file("ws/part/src/lib.rs", "include!(\"words.rs\");\n")
        .tasks(&format!("{TASK}needs = ['gen']\n[tasks.gen]\ninputs = ['word']\noutputs = ['ws/part/src/words.rs']\nrun = 'echo \"pub const WORD: &str = \\\"$(cat word)\\\";\" >ws/part/src/words.rs'\n"));
    assert_eq!(says(&sandbox, "0 fresh, 0 restored, 2 ran"), "hello one\n");
    sandbox.file("word", "two");
    assert_eq!(says(&sandbox, "0 fresh, 0 restored, 2 ran"), "hello two\n");
    sandbox.file("word", "one");
    assert_eq!(says(&sandbox, "0 fresh, 2 restored, 0 ran"), "hello one\n");
    sandbox.append("ws/hello/src/main.rs", "// new\n");
    assert_eq!(says(&sandbox, "1 fresh, 0 restored, 1 ran"), "hello one\n");
}

#[test]
fn a_copied_worktree_builds_what_lies_in_it() {
    let sandbox = workspace();
    assert_eq!(says(&sandbox, RAN), "hello one\n");
    let copy = sandbox.worktree("copy");
    Command::new("cp").arg("-a").arg(format!("{}/.", sandbox.work().display())).arg(copy.work()).status().unwrap();
    edit_unseen(&copy.at("ws/part/src/lib.rs"), "one", "two");
    assert_eq!(says(&copy, RAN), "hello two\n");
    assert_eq!(says(&sandbox, FRESH), "hello one\n");
}
