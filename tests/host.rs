//! The machine behind the tools: installed packages in the key, and hidden from views where they do not count.
//!
//! The package database is a copy of this machine's, which the tests edit; without one they have nothing to do.

mod sandbox;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use sandbox::Sandbox;

const REAL: &str = "/var/lib/dpkg";

/// `c` compiles, `text` only sorts, `package` installs into a sysroot and looks around.
const TASKS: &str = "
[sysroots.s]
path = 'prefix'
[tasks.c]
inputs = ['a.c']
outputs = ['a.o']
run = '{ran} c; cc -c a.c -o a.o'
[tasks.text]
inputs = ['a.c']
outputs = ['sorted']
run = '{ran} text; sort a.c > sorted'
[tasks.package]
sysroot = 's'
inputs = ['a.c']
env = { P = '{{ sysroot.prefix }}' }
run = '{ran} package; mkdir $P/share; cp a.c $P/share'
[tasks.all]
needs = ['c', 'text', 'package']
";

/// A copy of the database, which the sandbox's program reads. `None` where this machine has no dpkg and compiler.
fn with_database(sandbox: &Sandbox) -> Option<()> {
    if !Path::new(REAL).join("status").exists() || !Path::new("/usr/bin/cc").exists() {
        return None;
    }
    let copy = database(sandbox);
    fs::create_dir_all(copy.join("info")).unwrap();
    fs::create_dir(copy.join("updates")).unwrap();
    for name in ["status", "diversions"] {
        fs::copy(Path::new(REAL).join(name), copy.join(name)).unwrap();
    }
    for entry in fs::read_dir(Path::new(REAL).join("info")).unwrap().map(Result::unwrap) {
        if entry.path().extension().is_some_and(|e| e == "list") {
            symlink(entry.path(), copy.join("info").join(entry.file_name())).unwrap();
        }
    }
    sandbox.env("DPKG_ADMINDIR", copy);
    Some(())
}

fn database(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("dpkg")
}

fn status(sandbox: &Sandbox) -> String {
    fs::read_to_string(database(sandbox).join("status")).unwrap()
}

fn set_status(sandbox: &Sandbox, status: &str) {
    // As dpkg does it.
    let new = database(sandbox).join("status-new");
    fs::write(&new, status).unwrap();
    fs::rename(new, database(sandbox).join("status")).unwrap();
}

fn install(sandbox: &Sandbox, name: &str, files: &str) {
    let info = database(sandbox).join("info");
    fs::write(info.join(format!("{name}.list")), files).unwrap();
    let stanza = format!("Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1.0-1\n\n");
    set_status(sandbox, &format!("{}\n{stanza}", status(sandbox).trim_end_matches('\n').to_owned() + "\n"));
}

fn remove(sandbox: &Sandbox, name: &str) {
    fs::remove_file(database(sandbox).join("info").join(format!("{name}.list"))).unwrap();
    let without = status(sandbox);
    let kept = without.split("\n\n").filter(|stanza| !stanza.trim_start().starts_with(&format!("Package: {name}\n")));
    set_status(sandbox, &kept.collect::<Vec<_>>().join("\n\n"));
}

/// Name and version of the package that owns the real compiler.
fn compiler() -> (String, String) {
    let real = fs::canonicalize("/usr/bin/cc").unwrap();
    let line = format!("{}\n", real.display());
    let lists = fs::read_dir(Path::new(REAL).join("info")).unwrap().map(|e| e.unwrap().path());
    let mut owners = lists.filter(|p| p.extension().is_some_and(|e| e == "list"));
    let owner = owners.find(|p| fs::read_to_string(p).unwrap().contains(&line)).unwrap();
    let name = owner.file_stem().unwrap().to_str().unwrap().split(':').next().unwrap().to_owned();
    let status = fs::read_to_string(Path::new(REAL).join("status")).unwrap();
    let stanza = status.split("\n\n").find(|s| s.starts_with(&format!("Package: {name}\n"))).unwrap();
    let version = stanza.lines().find_map(|l| l.strip_prefix("Version: ")).unwrap().to_owned();
    (name, version)
}

fn upgrade(sandbox: &Sandbox, name: &str, from: &str, to: &str) {
    let status = status(sandbox);
    let at = status.find(&format!("Package: {name}\n")).unwrap();
    let upgraded = status[at..].replacen(&format!("Version: {from}\n"), &format!("Version: {to}\n"), 1);
    set_status(sandbox, &format!("{}{upgraded}", &status[..at]));
}

fn built() -> Option<Sandbox> {
    let sandbox = Sandbox::new();
    with_database(&sandbox)?;
    sandbox.tasks(TASKS).file("a.c", "int a;\n");
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
    Some(sandbox)
}

#[test]
fn an_upgraded_compiler_makes_what_compiles_stale_and_nothing_else() {
    let Some(sandbox) = built() else { return };
    let (name, version) = compiler();
    upgrade(&sandbox, &name, &version, "99");
    sandbox
        .run("build all")
        .stderr(&format!(
            "
       Stale c@host: installed packages changed: {name} {version} -> 99
     Running c@host (last time [TIME])
    Finished all@host in [TIME]: 2 fresh, 0 restored, 1 ran
"
        ))
        .success()
        .ran_times("c", 2)
        .ran_times("text", 1);
    sandbox
        .run("why c")
        .stdout(&format!(
            "c@host is fresh; it last ran:\n  because: installed packages changed: {name} {version} -> 99\n"
        ))
        .success();
    upgrade(&sandbox, &name, "99", &version);
    sandbox.run("build all").counts("2 fresh, 1 restored, 0 ran").success();
}

#[test]
fn the_package_of_the_compiler_behind_a_wrapper_of_its_name_counts() {
    let sandbox = Sandbox::new();
    let Some(()) = with_database(&sandbox) else { return };
    sandbox.tool("cc", "exec /usr/bin/cc \"$@\"").tasks(TASKS).file("a.c", "int a;\n");
    sandbox.run("build c").counts("0 fresh, 0 restored, 1 ran").success();
    sandbox.run("build c").counts("1 fresh, 0 restored, 0 ran").success();
    let (name, version) = compiler();
    upgrade(&sandbox, &name, &version, "99.0-1");
    sandbox.run("build c").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn a_package_that_nothing_could_notice_changes_nothing() {
    let Some(sandbox) = built() else { return };
    install(&sandbox, "made-up", "/usr/games/made-up\n/usr/share/made-up/include/x.h\n");
    sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
    remove(&sandbox, "made-up");
    sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
    sandbox.ran_times("c", 1).ran_times("text", 1).ran_times("package", 1);
}

#[test]
fn headers_that_are_installed_make_stale_who_could_find_them_and_removed_they_are_forgotten() {
    let Some(sandbox) = built() else { return };
    install(&sandbox, "libmade-up-dev", "/usr/include/made-up.h\n");
    sandbox
        .run("plan all")
        .stdout(
            "
stale  c@host  [TIME]  installed packages changed: libmade-up-dev 1.0-1 (new)
stale  package@host  [TIME]  installed packages changed: libmade-up-dev 1.0-1 (new)
1 fresh, 0 cached, 2 stale, 0 unknown; [TIME] of work
",
        )
        .success();
    sandbox.run("build all").counts("1 fresh, 0 restored, 2 ran").success();
    remove(&sandbox, "libmade-up-dev");
    sandbox.run("build all").counts("1 fresh, 2 restored, 0 ran").success();
    sandbox.ran_times("c", 2).ran_times("text", 1).ran_times("package", 2);
}

#[test]
fn host_false_and_named_packages_narrow_what_counts() {
    let Some(sandbox) = built() else { return };
    let (name, version) = compiler();
    sandbox.edit("tasks.toml", "[tasks.c]", "[tasks.c]\nhost = false");
    sandbox.edit("tasks.toml", "[tasks.text]", &format!("[tasks.text]\nhost = ['{name}']"));
    sandbox.edit("tasks.toml", "path = 'prefix'", "path = 'prefix'\nhost = 'not-there'");
    sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran").success();
    install(&sandbox, "libmade-up-dev", "/usr/include/made-up.h\n");
    sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
    upgrade(&sandbox, &name, &version, "99");
    sandbox.run("build all").counts("2 fresh, 0 restored, 1 ran").success().ran_times("text", 3);
    install(&sandbox, "not-there", "");
    sandbox
        .run("build package")
        .stderr(
            "
       Stale package@host: installed packages changed: not-there (not installed) -> 1.0-1
     Running package@host (last time [TIME])
    Finished package@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
}

#[test]
fn where_no_database_can_be_read_the_tools_count_alone() {
    let Some(sandbox) = built() else { return };
    sandbox.env("DPKG_ADMINDIR", sandbox.root().join("none"));
    let note = "no package database that can be read here: steps are judged by their tools alone";
    let first = sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran");
    assert!(first.said().contains(note));
    first.success();
    sandbox.run("build all").counts("3 fresh, 0 restored, 0 ran").success();
    sandbox.append("a.c", "int b;\n");
    let again = sandbox.run("build all").counts("0 fresh, 0 restored, 3 ran");
    assert!(!again.said().contains(note));
    again.success();
}

/// What it sees of programs and of installations by hand.
const LOOK: &str = "
[sysroots.s]
path = 'prefix'
[tasks.look]
sysroot = 's'
inputs = ['a.c']
run = '''
mkdir -p {{ sysroot.prefix }}/share
cd {{ sysroot.prefix }}/share
ls /usr/bin | grep -x -e gcc -e sed -e sh > seen || true
ls -A /usr/local /opt >> seen
'''
";

#[test]
fn what_does_not_count_is_hidden_from_views() {
    for sandbox in [Some(Sandbox::new()), Sandbox::of_a_user()].into_iter().flatten() {
        let Some(()) = with_database(&sandbox) else { return };
        sandbox.tasks(LOOK).file("a.c", "");
        sandbox.run("build look").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("prefix/share/seen"), "sed\nsh\n/opt:\n\n/usr/local:\n");
        sandbox.edit("tasks.toml", "[tasks.look]", "[tasks.look]\ntools = ['gcc']");
        sandbox.run("build look").counts("0 fresh, 0 restored, 1 ran").success();
        assert_eq!(sandbox.read("prefix/share/seen"), "gcc\nsed\nsh\n/opt:\n\n/usr/local:\n");
        sandbox.edit("tasks.toml", "tools = ['gcc']", "host = false");
        sandbox.run("build look").counts("0 fresh, 0 restored, 1 ran").success();
        assert!(sandbox.read("prefix/share/seen").starts_with("gcc\nsed\nsh\n/opt:\n"));
        assert_ne!(sandbox.read("prefix/share/seen"), "gcc\nsed\nsh\n/opt:\n\n/usr/local:\n");
    }
}

#[test]
fn a_step_that_fails_over_a_hidden_program_is_told_to_declare_it() {
    let sandbox = Sandbox::new();
    let Some(()) = with_database(&sandbox) else { return };
    sandbox
        .tasks("[sysroots.s]\npath = 'p'\n[tasks.t]\nsysroot = 's'\ninputs = ['a.c']\nrun = 'g=gcc; $g --version'\n")
        .file("a.c", "")
        .run("build t")
        .stderr(
            "
     Running t@host
error: t@host failed: the command ended with exit code 127
  command: g=gcc; $g --version
  output of t@host:
sh: 1: gcc: not found
  log: [ROOT]/work/.bcache/logs/t@host
  help: gcc is installed but not declared: add it to tools
  help: the whole log: cargo bcache log t
  help: to look around: cargo bcache shell t@host
      Failed t@host in [TIME]: 0 fresh, 0 restored, 0 ran, 1 failed, 0 skipped
",
        )
        .exit(1);
}

#[test]
fn the_interpreter_of_a_script_is_seen_and_counts() {
    let sandbox = Sandbox::new();
    let Some(()) = with_database(&sandbox) else { return };
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let script = "#!/usr/bin/env python3\nimport sys\nopen(sys.argv[1], 'w').write('made')\n";
    sandbox
        .tasks("[sysroots.s]\npath = 'p'\n[tasks.t]\nsysroot = 's'\ninputs = ['a']\nrun = './gen {{ sysroot.prefix }}/x'\n")
        .file("a", "")
        .file("gen", script)
        .chmod("gen", 0o755)
        .run("build t")
        .counts("0 fresh, 0 restored, 1 ran")
        .success();
    assert_eq!(sandbox.read("p/x"), "made");
}

#[test]
fn a_package_that_is_installed_while_a_step_runs_keeps_its_result_from_the_store() {
    let sandbox = Sandbox::new();
    let Some(()) = with_database(&sandbox) else { return };
    sandbox.tasks("[tasks.t]\ninputs = ['a']\noutputs = ['b']\nrun = '{gate g}; cp a b'\n").file("a", "");
    let running = sandbox.start("build t");
    sandbox.reached("g");
    install(&sandbox, "made-up", "/usr/games/made-up\n");
    sandbox.open("g");
    running
        .wait()
        .stderr(
            "
     Running t@host
warning: [ROOT]/dpkg/status was changed while t@host ran: its result is kept here, but not stored
    Finished t@host in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
}

/// Made in a mount namespace of its own, so that the machine's `/opt` stays as it is.
const IN_OPT: &str = r#"
set -eu
mount -t tmpfs tmpfs /opt
mkdir -p /opt/tool/bin /opt/tool/include /opt/other /opt/ws /opt/home
printf '#!/bin/sh\necho version 1\n' > /opt/tool/bin/mytool
cp /opt/tool/bin/mytool /opt/tool/bin/undeclared
chmod 755 /opt/tool/bin/*
cat > /opt/ws/tasks.toml
chown -R "$USER_ID" /opt/ws /opt/home
cd /opt/ws
export PATH=/opt/tool/bin:/usr/bin:/bin HOME=/opt/home BCACHE_HOME=/opt/home/store
setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups "$1" build || exit 1
cat prefix/seen made
"#;

#[test]
fn a_workspace_in_opt_stays_and_a_tool_there_is_seen_without_what_configure_looks_for() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    if !rustix::process::geteuid().is_root() || !Path::new(REAL).join("status").exists() {
        return;
    }
    let manifest = "
[bcache]
version = 1
default = 't'
[sysroots.s]
path = 'prefix'
[tasks.t]
sysroot = 's'
tools = ['mytool']
outputs = ['made']
run = 'mytool > made; cd /opt; ls . tool tool/bin > {{ sysroot.prefix }}/seen'
";
    let (dir, bin) = (tempfile::tempdir().unwrap(), env!("CARGO_BIN_EXE_cargo-bcache"));
    let copy = dir.path().join("cargo-bcache");
    sandbox::copy_program(Path::new(bin), &copy);
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for user in ["0", "54321"] {
        let mut shell = Command::new("unshare")
            .args(["-m", "--propagation", "private", "sh", "-c", IN_OPT, "sh"])
            .arg(&copy)
            .env("USER_ID", user)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        shell.stdin.take().unwrap().write_all(manifest.as_bytes()).unwrap();
        let output = shell.wait_with_output().unwrap();
        let seen = ".:\nhome\ntool\nws\n\ntool:\nbin\n\ntool/bin:\nmytool\nversion 1\n";
        assert_eq!(String::from_utf8_lossy(&output.stdout), seen, "user {user}");
    }
}
