//! Programs, as keys hold them: which file is meant, whether it can be started, and what its version rests on.

mod sandbox;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

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

#[test]
fn a_program_that_ends_with_any_code_instead_of_its_version_is_no_hindrance_to_a_proof() {
    let sandbox = scripted("tools = ['teller']", "echo made");
    sandbox.tool("teller", "exit 255");
    makes(&sandbox, RAN, "made\n");
    assert_eq!(fs::read_dir(sandbox.at(".bcache/proofs")).map_or(0, Iterator::count), 1);
}

/// Starts the program of the toolchain that is chosen, by the name that it was called with.
const RUSTUP: &str = r#"
home="${RUSTUP_HOME:-$HOME/.rustup}"
at="$PWD"
while [ "$at" ] && ! [ -e "$at/rust-toolchain" ]; do at="${at%/*}"; done
toolchain="${RUSTUP_TOOLCHAIN:-$(cat "$at/rust-toolchain" 2>/dev/null || cat "$home/settings.toml")}"
exec "$home/toolchains/$toolchain/bin/${0##*/}" "$@""#;

fn rustup() -> Sandbox {
    let sandbox = scripted("tools = ['rustc']", "rustc --version");
    sandbox.tool("rustup", RUSTUP).env("RUSTUP_HOME", sandbox.root().join("one"));
    for home in ["one", "two"] {
        fs::create_dir_all(sandbox.root().join(home).join("toolchains/dev/bin")).unwrap();
        fs::write(sandbox.root().join(home).join("settings.toml"), "dev").unwrap();
        compiler(&sandbox, &format!("{home}/toolchains/dev/bin/rustc"), home);
    }
    sandbox
}

fn compiler(sandbox: &Sandbox, path: &str, version: &str) {
    let path = format!("../{path}");
    sandbox.file(&path, format!("#!/bin/sh\necho rustc {version}\n")).chmod(&path, 0o755);
}

#[test]
fn the_compiler_behind_rustups_name_is_that_of_its_home_and_of_the_toolchain_as_it_is_now() {
    for link in [&["-s"][..], &[]] {
        let sandbox = rustup();
        let bin = sandbox.root().join("bin");
        assert!(Command::new("ln").args(link).args(["rustup", "rustc"]).current_dir(bin).status().unwrap().success());
        makes(&sandbox, RAN, "rustc one\n");
        sandbox.env("RUSTUP_HOME", sandbox.root().join("two"));
        makes(&sandbox, RAN, "rustc two\n");
        compiler(&sandbox, "two/toolchains/dev/bin/rustc", "three");
        makes(&sandbox, RAN, "rustc three\n");
        sandbox.env("RUSTUP_HOME", sandbox.root().join("one"));
        makes(&sandbox, RESTORED, "rustc one\n");
    }
}

#[test]
fn a_linked_toolchain_that_is_built_anew_or_turned_elsewhere_is_asked_again() {
    let sandbox = rustup();
    symlink("rustup", sandbox.root().join("bin/rustc")).unwrap();
    for name in ["stage1", "stage2"] {
        compiler(&sandbox, &format!("built/{name}/bin/rustc"), name);
    }
    let linked = sandbox.root().join("one/toolchains/own");
    symlink(sandbox.root().join("built/stage1"), &linked).unwrap();
    fs::write(sandbox.root().join("one/settings.toml"), "own").unwrap();
    makes(&sandbox, RAN, "rustc stage1\n");
    compiler(&sandbox, "built/stage1/bin/rustc", "stage1 again");
    makes(&sandbox, RAN, "rustc stage1 again\n");
    fs::remove_file(&linked).unwrap();
    symlink(sandbox.root().join("built/stage2"), &linked).unwrap();
    makes(&sandbox, RAN, "rustc stage2\n");
}

#[test]
fn the_compiler_that_counts_is_the_one_that_the_step_itself_chooses() {
    let sandbox = rustup();
    symlink("rustup", sandbox.root().join("bin/rustc")).unwrap();
    compiler(&sandbox, "one/toolchains/nightly/bin/rustc", "nightly");
    compiler(&sandbox, "two/toolchains/nightly/bin/rustc", "nightly of two");
    // No step sees it.
    sandbox.env("RUSTUP_TOOLCHAIN", "dev");
    sandbox.edit("tasks.toml", "run =", "env = { RUSTUP_TOOLCHAIN = 'nightly' }\nrun =");
    makes(&sandbox, RAN, "rustc nightly\n");
    compiler(&sandbox, "one/toolchains/nightly/bin/rustc", "nightly of today");
    makes(&sandbox, RAN, "rustc nightly of today\n");
    let two = sandbox.root().join("two").display().to_string();
    sandbox.edit("tasks.toml", "env = { ", &format!("env = {{ RUSTUP_HOME = '{two}', "));
    makes(&sandbox, RAN, "rustc nightly of two\n");
    compiler(&sandbox, "two/toolchains/nightly/bin/rustc", "nightly of today");
    makes(&sandbox, RAN, "rustc nightly of today\n");
}

#[test]
fn a_toolchain_file_above_a_directory_that_is_not_there_yet_chooses_the_compiler() {
    let sandbox = rustup();
    symlink("rustup", sandbox.root().join("bin/rustc")).unwrap();
    compiler(&sandbox, "one/toolchains/nightly/bin/rustc", "nightly");
    let to = sandbox.at("out").display().to_string();
    sandbox.edit("tasks.toml", "run =", "source = { path = 'src' }\nrun =");
    sandbox.edit("tasks.toml", "sh make.sh > out", &format!("rustc --version > {to}"));
    sandbox.file("src/a", "").file("rust-toolchain", "nightly");
    makes(&sandbox, RAN, "rustc nightly\n");
    compiler(&sandbox, "one/toolchains/nightly/bin/rustc", "nightly of today");
    makes(&sandbox, RAN, "rustc nightly of today\n");
    sandbox.file("rust-toolchain", "dev");
    makes(&sandbox, RAN, "rustc one\n");
}

/// The program with these words, where `from` lies over `over`: in a namespace of its own, so that the machine stays as it is.
#[track_caller]
fn mounted(sandbox: &Sandbox, from: &str, over: &str, words: &str) -> String {
    let plain = sandbox.command(words);
    let mount = "mount --bind \"$0\" \"$1\" && shift && exec \"$@\"";
    let output = Command::new("unshare")
        .args(["-m", "--propagation", "private", "sh", "-c", mount])
        .args([sandbox.root().join(from).as_os_str(), over.as_ref(), plain.get_program()])
        .args(plain.get_args())
        .env_clear()
        .envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(sandbox.work())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    said
}

fn script(sandbox: &Sandbox, path: &str, text: &str) {
    let path = format!("../{path}");
    let new = format!("{path}.new");
    sandbox.file(&new, text).chmod(&new, 0o755);
    fs::rename(sandbox.at(new), sandbox.at(path)).unwrap();
}

#[test]
fn a_tool_of_the_system_is_found_where_the_step_finds_it_though_the_persons_path_does_not_lead_there() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    for task in ["tools = ['mytool']", ""] {
        let sandbox = scripted(task, "");
        sandbox.edit("tasks.toml", "sh make.sh >", "mytool >");
        for says in ["one", "two"] {
            script(&sandbox, "sbin/mytool", &format!("#!/bin/sh\necho {says}\n"));
            for counts in [RAN, FRESH] {
                let said = mounted(&sandbox, "sbin", "/usr/sbin", "build make");
                assert!(said.contains(counts), "{said}");
                assert_eq!(sandbox.read("out"), format!("{says}\n"));
            }
        }
        // The person's own comes before it.
        sandbox.tool("mytool", "echo own");
        let said = mounted(&sandbox, "sbin", "/usr/sbin", "build make");
        assert!(said.contains(RAN), "{said}");
        assert_eq!(sandbox.read("out"), "own\n");
    }
}

#[test]
fn the_compiler_that_a_masked_one_starts_counts() {
    if !rustix::process::geteuid().is_root() || !Path::new("/usr/bin/cc").exists() {
        return;
    }
    for name in ["cc", "{root}/bin/cc"] {
        let sandbox = scripted("host = false", "");
        sandbox.tool("cc", "exec /usr/bin/cc \"$@\"");
        let name = name.replace("{root}", sandbox.root().to_str().unwrap());
        sandbox.edit("tasks.toml", "sh make.sh >", &format!("{name} x >"));
        for says in ["one", "two"] {
            script(&sandbox, "real", &format!("#!/bin/sh\ntest \"$1\" = --version || echo {says}\n"));
            for counts in [RAN, FRESH] {
                let said = mounted(&sandbox, "real", "/usr/bin/cc", "build make");
                assert!(said.contains(counts), "{said}");
                assert_eq!(sandbox.read("out"), format!("{says}\n"));
            }
        }
    }
}

#[test]
fn the_interpreter_of_a_tool_counts_whatever_version_the_tool_reports() {
    for first in ["#!", "#!/usr/bin/env ", "#!/usr/bin/env -S A=1 "] {
        let sandbox = scripted("tools = ['gen']", "gen");
        let interpreter = |says: &str| {
            script(&sandbox, "interp", &format!("#!/bin/sh\ntest \"$2\" = --version || echo {says}\n"));
        };
        script(&sandbox, "bin/gen", &format!("{first}{}/interp\n", sandbox.root().display()));
        interpreter("one");
        makes(&sandbox, RAN, "one\n");
        interpreter("two");
        makes(&sandbox, RAN, "two\n");
        interpreter("one");
        makes(&sandbox, RESTORED, "one\n");
    }
}

#[test]
fn the_interpreter_of_a_script_of_the_workspace_counts_where_no_package_brought_it() {
    let sandbox = scripted("", "");
    sandbox.edit("tasks.toml", "sh make.sh", "./make.sh");
    sandbox.file("make.sh", format!("#!{}/interp\n", sandbox.root().display())).chmod("make.sh", 0o755);
    for says in ["one", "two"] {
        script(&sandbox, "interp", &format!("#!/bin/sh\necho {says}\n"));
        makes(&sandbox, RAN, &format!("{says}\n"));
    }
}

#[test]
fn the_interpreter_of_a_script_is_an_input_where_it_lies_in_the_workspace() {
    // The kernel goes by the directory in which commands run, and by links.
    for first in ["tools/interp", "{ROOT}/tools/interp", "tools/link"] {
        let sandbox = scripted("", "");
        sandbox.edit("tasks.toml", "sh make.sh", "./make.sh");
        let first = first.replace("{ROOT}", sandbox.work().to_str().unwrap());
        sandbox.file("make.sh", format!("#!{first}\n")).chmod("make.sh", 0o755).link("tools/link", "interp");
        let interpreter = |says: &str| {
            sandbox.file("tools/interp", format!("#!/bin/sh\necho {says}\n")).chmod("tools/interp", 0o755);
        };
        interpreter("one");
        makes(&sandbox, RAN, "one\n");
        interpreter("two");
        sandbox.run("plan make").answers("tools/interp").success();
        makes(&sandbox, RAN, "two\n");
        interpreter("one");
        makes(&sandbox, RESTORED, "one\n");
    }
}

/// A program with a shared library of its own, both somewhere in a home. `None` without a compiler.
fn with_library() -> Option<Sandbox> {
    if !Path::new("/usr/bin/cc").exists() {
        return None;
    }
    let sandbox = scripted("tools = ['pt']", "pt");
    for dir in ["x/bin", "x/lib"] {
        fs::create_dir_all(sandbox.root().join(dir)).unwrap();
    }
    sandbox
        .file("../x/pt.c", "int puts(const char *);\nconst char *v(void);\nint main(void) { return puts(v()) < 0; }\n");
    library(&sandbox, "one");
    compile(&sandbox, "-o bin/pt pt.c -Llib -lpt -Wl,-rpath,$ORIGIN/../lib");
    sandbox.env("PATH", format!("{}/x/bin:/usr/bin:/bin", sandbox.root().display()));
    Some(sandbox)
}

fn compile(sandbox: &Sandbox, words: &str) {
    let done = Command::new("/usr/bin/cc").args(words.split(' ')).current_dir(sandbox.root().join("x")).status();
    assert!(done.unwrap().success());
}

fn library(sandbox: &Sandbox, says: &str) {
    sandbox.file("../x/v.c", format!("const char *v(void) {{ return \"{says}\"; }}\n"));
    compile(sandbox, "-shared -fPIC -o libpt.so v.c");
    fs::rename(sandbox.root().join("x/libpt.so"), sandbox.root().join("x/lib/libpt.so")).unwrap();
}

#[test]
fn a_program_of_no_package_that_is_installed_anew_is_another_by_its_version() {
    let Some(sandbox) = with_library() else { return };
    makes(&sandbox, RAN, "one\n");
    library(&sandbox, "two");
    let bin = sandbox.root().join("x/bin");
    sandbox::copy_program(&bin.join("pt"), &bin.join("new"));
    fs::rename(bin.join("new"), bin.join("pt")).unwrap();
    makes(&sandbox, RAN, "two\n");
}

#[test]
fn a_program_of_no_package_is_asked_again_when_a_library_beside_it_is_another() {
    let Some(sandbox) = with_library() else { return };
    makes(&sandbox, RAN, "one\n");
    library(&sandbox, "two");
    makes(&sandbox, RAN, "two\n");
    // Written into, so that the directory stays as it is.
    let written = fs::read(sandbox.root().join("x/lib/libpt.so")).unwrap();
    library(&sandbox, "three");
    makes(&sandbox, RAN, "three\n");
    fs::write(sandbox.root().join("x/lib/libpt.so"), written).unwrap();
    makes(&sandbox, RESTORED, "two\n");
}

#[test]
fn a_program_of_the_workspace_is_known_by_its_bytes_and_not_started() {
    let sandbox = scripted("path = ['bin']", "teller");
    fs::create_dir(sandbox.at("bin")).unwrap();
    sandbox::copy_program(Path::new("/bin/true"), &sandbox.at("bin/teller"));
    makes(&sandbox, RAN, "");
    assert!(!sandbox.exists(".bcache/versions") || sandbox.files_with(b"teller --version").is_empty());
}

#[test]
fn a_script_that_an_interpreter_is_given_is_an_input_however_the_interpreter_is_called() {
    let shells = ["sh", "/bin/sh", "/bin/sh -e", "sh +e", "sh -o errexit", "sh -eo nounset --"];
    for (shell, name) in shells.into_iter().flat_map(|shell| [(shell, "mk"), (shell, "mk.sh")]) {
        let sandbox = Sandbox::new();
        sandbox
            .tasks(&format!("[tasks.make]\ninputs = ['a']\noutputs = ['out']\nrun = '{shell} {name} > out'\n"))
            .file("a", "")
            .file(name, "echo one");
        makes(&sandbox, RAN, "one\n");
        sandbox.file(name, "echo two");
        makes(&sandbox, RAN, "two\n");
    }
}

#[test]
fn a_variable_that_is_passed_unjudged_is_in_the_key_by_its_name() {
    for declared in ["env-pass = [{ name = 'FOO', key = false }]", "secrets = ['FOO']"] {
        let sandbox = scripted("", "echo ${FOO-unset}");
        sandbox.env("FOO", "bar");
        makes(&sandbox, RAN, "unset\n");
        sandbox.edit("tasks.toml", "run =", &format!("{declared}\nrun ="));
        makes(&sandbox, RAN, "bar\n");
        sandbox.env("FOO", "other");
        sandbox.run("build make").counts(FRESH).success();
        sandbox.edit("tasks.toml", &format!("{declared}\n"), "");
        makes(&sandbox, RESTORED, "unset\n");
    }
}
