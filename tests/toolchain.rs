//! Targets with `toolchain = "zig"`, where zig is a script that says what it was asked to do.

mod sandbox;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox::Sandbox;

const TASKS: &str = "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu.2.28'
toolchain = 'zig'
[targets.win]
triple = 'x86_64-pc-windows-gnu'
toolchain = 'zig'
[tasks.obj]
targets = ['arm', 'win', 'host']
inputs = ['a.c']
outputs = ['out/{{ target.name }}']
run = '{ran} obj; ${CC-no CC} -c a.c > out/{{ target.name }}'
";

/// It answers for its version, and writes down all else.
fn zig(version: &str) -> String {
    format!("case $1 in version) echo {version} ;; *) echo \"zig {version}:\" \"$@\" ;; esac")
}

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.tasks(&TASKS.replace("${CC-no CC}", "${CC-echo no CC:}")).file("a.c", "1").tool("zig", &zig("1.0"));
    sandbox
}

#[test]
fn steps_of_a_target_with_zig_compile_with_it_for_their_triple() {
    let sandbox = sandbox();
    sandbox.run("build obj").counts("0 fresh, 0 restored, 3 ran").success();
    assert_eq!(sandbox.read("out/arm"), "zig 1.0: cc -target aarch64-linux-gnu.2.28 -fno-sanitize=all -g0 -c a.c\n");
    assert_eq!(sandbox.read("out/win"), "zig 1.0: cc -target x86_64-windows-gnu -fno-sanitize=all -g0 -c a.c\n");
    assert_eq!(sandbox.read("out/host"), "no CC: -c a.c\n");
    sandbox.run("build obj").counts("3 fresh, 0 restored, 0 ran").success();
}

#[test]
fn another_version_of_zig_makes_the_steps_of_its_targets_stale_and_the_old_one_brings_the_results_back() {
    let sandbox = sandbox();
    sandbox.run("build obj").success();
    sandbox
        .tool("zig", &zig("2.0"))
        .run("build obj@arm obj@host")
        .stderr(
            "
       Stale obj@arm: tool zig changed: `1.0` -> `2.0`
     Running obj@arm (last time [TIME])
    Finished obj@arm, obj@host in [TIME]: 1 fresh, 0 restored, 1 ran
",
        )
        .success()
        .tool("zig", &zig("1.0"))
        .run("build obj")
        .counts("2 fresh, 1 restored, 0 ran")
        .success();
}

#[test]
fn a_missing_zig_ends_the_build_before_anything_runs_and_says_how_to_get_it() {
    let sandbox = sandbox();
    fs::remove_file(sandbox.root().join("bin/zig")).unwrap();
    // The machine's own Python may have it.
    sandbox.tool("python3", "exit 1").tool("python", "exit 1");
    sandbox
        .run("build obj")
        .stderr(
            "
error: a tool is missing: `zig`, wanted by obj@arm, obj@win
  help: to get them: pip install ziglang, or the zig of your distribution
",
        )
        .exit(4)
        .ran_times("obj", 0);
    sandbox.run("build obj@host").counts("0 fresh, 0 restored, 1 ran").success();
}

/// A Python that has the module in `lib/ziglang`, and looks into `first` before.
fn python(sandbox: &Sandbox) -> String {
    let root = sandbox.root().display();
    format!(
        "echo >>{root}/asked
for dir in {root}/first {root}/lib; do [ ! -e $dir/ziglang/zig ] || {{ echo $dir/ziglang; break; }}; done
[ -e {root}/first/ziglang/zig ] || [ -e {root}/lib/ziglang/zig ] || echo
echo {root}/first; echo {root}/lib"
    )
}

fn put_module(sandbox: &Sandbox, dir: &str, version: &str) {
    let path = sandbox.root().join(dir).join("ziglang/zig");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{}\n", zig(version))).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn zig_is_found_in_the_module_of_python_which_is_asked_once() {
    let sandbox = sandbox();
    fs::remove_file(sandbox.root().join("bin/zig")).unwrap();
    sandbox.tool("python3", &python(&sandbox));
    put_module(&sandbox, "lib", "3.0");
    let asked = || fs::read_to_string(sandbox.root().join("asked")).unwrap().lines().count();
    sandbox.run("build obj@arm").counts("0 fresh, 0 restored, 1 ran").success();
    assert!(sandbox.read("out/arm").starts_with("zig 3.0: cc -target"));
    sandbox.file("a.c", "2").run("build obj@arm").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(asked(), 1);
    // In a directory that Python looks into first.
    put_module(&sandbox, "first", "4.0");
    sandbox
        .run("build obj@arm")
        .stderr(
            "
       Stale obj@arm: tool zig changed: `3.0` -> `4.0`
     Running obj@arm (last time [TIME])
    Finished obj@arm in [TIME]: 0 fresh, 0 restored, 1 ran
",
        )
        .success();
    assert_eq!(asked(), 2);
    fs::remove_dir_all(sandbox.root().join("first/ziglang")).unwrap();
    fs::remove_dir_all(sandbox.root().join("lib/ziglang")).unwrap();
    sandbox
        .run("build obj@arm")
        .stderr(
            "
error: a tool is missing: `zig`, wanted by obj@arm
  help: to get them: pip install ziglang, or the zig of your distribution
",
        )
        .exit(4);
}

#[test]
fn the_zig_of_path_comes_before_the_module_of_python() {
    let sandbox = sandbox();
    sandbox.tool("python3", &python(&sandbox));
    put_module(&sandbox, "lib", "3.0");
    sandbox.run("build obj@arm").success();
    assert!(sandbox.read("out/arm").starts_with("zig 1.0:"));
    assert!(!sandbox.root().join("asked").exists());
}

#[test]
fn damaged_files_of_a_toolchain_are_made_right_before_a_step_uses_them() {
    let sandbox = sandbox();
    sandbox.run("build obj@arm").success();
    let dir = fs::read_dir(sandbox.at(".bcache/zig")).unwrap().next().unwrap().unwrap().path();
    let whole = sandbox.tree(dir.to_str().unwrap());
    fs::write(dir.join("cc"), "exit 1").unwrap();
    fs::remove_file(dir.join("meson.ini")).unwrap();
    fs::set_permissions(dir.join("ar"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_file(dir.join("ranlib")).unwrap();
    std::os::unix::fs::symlink(sandbox.at("a.c"), dir.join("ranlib")).unwrap();
    fs::remove_file(dir.join("strip")).unwrap();
    fs::create_dir(dir.join("strip")).unwrap();
    sandbox.run("build obj@arm --force").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.tree(dir.to_str().unwrap()), whole);
    // A link in the place of the whole directory is not followed.
    let elsewhere = sandbox.root().join("elsewhere");
    fs::rename(&dir, &elsewhere).unwrap();
    fs::write(elsewhere.join("cc"), "mine").unwrap();
    std::os::unix::fs::symlink(&elsewhere, &dir).unwrap();
    sandbox.run("build obj@arm --force").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(fs::read_to_string(elsewhere.join("cc")).unwrap(), "mine");
    assert_eq!(sandbox.tree(dir.to_str().unwrap()), whole);
}

#[test]
fn a_worktree_at_another_path_uses_the_results_and_a_moved_one_keeps_its_own() {
    let sandbox = sandbox();
    sandbox.run("build obj@arm").success();
    let other = sandbox.worktree("a b");
    other.file("tasks.toml", sandbox.read("tasks.toml")).file("a.c", "1");
    other.run("build obj@arm").counts("0 fresh, 1 restored, 0 ran").success();
    fs::rename(sandbox.work(), sandbox.root().join("moved")).unwrap();
    let moved = sandbox.worktree("moved");
    moved.run("build obj@arm").counts("1 fresh, 0 restored, 0 ran").success();
    moved.file("a.c", "2").run("build obj@arm").counts("0 fresh, 0 restored, 1 ran").success();
    let dir = fs::read_dir(moved.at(".bcache/zig")).unwrap().next().unwrap().unwrap().path();
    let ini = fs::read_to_string(dir.join("meson.ini")).unwrap();
    assert!(ini.contains(&format!("c = '{}/cc'", dir.display())), "{ini}");
}

#[test]
fn build_systems_are_told_of_a_toolchain_where_there_is_one_and_of_nothing_else() {
    let sandbox = sandbox();
    sandbox.tasks(
        "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu.2.28'
toolchain = 'zig'
env = { AR = 'my-ar', CHOST = '{{ target.arch }}' }
[targets.plain]
triple = 'aarch64-unknown-linux-gnu'
[tasks.told]
targets = ['arm', 'plain', 'host']
inputs = ['a.c']
outputs = ['out/{{ target.name }}']
env = { RANLIB = 'our-ranlib' }
run = '''
set -- {{ toolchain.configure }} {{ toolchain.meson }} {{ toolchain.cmake }}
echo $# \"$@\" ${CC+CC} ${AR-} ${RANLIB-} > out/{{ target.name }}'''
",
    );
    sandbox.run("build told").counts("0 fresh, 0 restored, 3 ran").success();
    let dir = fs::read_dir(sandbox.at(".bcache/zig")).unwrap().next().unwrap().unwrap().path();
    let dir = dir.display();
    assert_eq!(
        sandbox.read("out/arm"),
        format!(
            "4 --host=aarch64-linux-gnu --cross-file {dir}/meson.ini -DCMAKE_TOOLCHAIN_FILE={dir}/toolchain.cmake CC my-ar our-ranlib\n"
        )
    );
    assert_eq!(sandbox.read("out/plain"), "0 our-ranlib\n");
    assert_eq!(sandbox.read("out/host"), "0 our-ranlib\n");
}

#[test]
fn zig_keeps_what_it_makes_of_its_own_for_all_and_what_it_makes_of_a_step_for_one_run() {
    let sandbox = sandbox();
    sandbox.tasks(
        "
[targets.arm]
triple = 'aarch64-linux-musl'
toolchain = 'zig'
[tasks.a]
targets = ['arm']
inputs = ['a.c']
outputs = ['out']
run = '''
mkdir -p $ZIG_LOCAL_CACHE_DIR
ls $ZIG_GLOBAL_CACHE_DIR $ZIG_LOCAL_CACHE_DIR | grep -c kept > $TMPDIR/count || true
touch $ZIG_GLOBAL_CACHE_DIR/kept $ZIG_LOCAL_CACHE_DIR/kept
(cat $TMPDIR/count; echo ${ZIG_GLOBAL_CACHE_DIR%/*}) > out'''
",
    );
    sandbox.run("build a").success();
    let caches = sandbox.store().join("zig");
    assert_eq!(sandbox.read("out"), format!("0\n{}\n", caches.display()));
    sandbox.run("build a --force").success();
    assert_eq!(sandbox.read("out"), format!("1\n{}\n", caches.display()));
    // Another zig makes other things.
    sandbox.tool("zig", &zig("2.0")).run("build a").counts("0 fresh, 0 restored, 1 ran").success();
    assert_eq!(sandbox.read("out"), format!("0\n{}\n", caches.display()));
}

#[test]
fn a_step_with_a_sysroot_sees_zig_and_all_that_belongs_to_it() {
    for user in [Some(Sandbox::new()), Sandbox::of_a_user()] {
        let Some(sandbox) = user else { continue };
        sandbox.file("a.c", "1").tool("zig", &zig("1.0")).tasks(
            "
[targets.arm]
triple = 'aarch64-linux-musl'
toolchain = 'zig'
[sysroots.s]
path = 'prefix-{{ target.name }}'
[sysroots.moved]
path = 'moved-{{ target.name }}'
relocatable = true
[tasks.lib]
sysroot = 's'
targets = ['arm']
inputs = ['a.c']
run = '$CC a.c > {{ sysroot.prefix }}/lib; touch $ZIG_GLOBAL_CACHE_DIR/x'
[tasks.moved]
sysroot = 'moved'
targets = ['arm']
needs = ['lib']
inputs = ['a.c']
run = '''
$CC a.c > {{ sysroot.prefix }}/lib; touch $ZIG_GLOBAL_CACHE_DIR/x
echo $CC {{ toolchain.meson }} > {{ sysroot.prefix }}/names
cat {{ toolchain.meson | last }} >> {{ sysroot.prefix }}/names'''
",
        );
        sandbox.run("build moved").counts("0 fresh, 0 restored, 2 ran").success();
        let said = "zig 1.0: cc -target aarch64-linux-musl -fno-sanitize=all -g0 a.c\n";
        assert_eq!(sandbox.read("prefix-arm/lib"), said);
        assert_eq!(sandbox.read("moved-arm/lib"), said);
        // Nothing of the path of this worktree.
        let names = sandbox.read("moved-arm/names");
        assert!(!names.contains(sandbox.work().to_str().unwrap()), "{names}");
        assert!(names.starts_with("/bcache-work/.zig/aarch64-linux-musl-"), "{names}");
        sandbox.run("build moved").counts("2 fresh, 0 restored, 0 ran").success();
    }
}

#[test]
fn a_task_that_always_runs_has_the_compiler_too_and_does_without_where_it_is_missing() {
    let sandbox = sandbox();
    sandbox.tool("python3", "exit 1").tool("python", "exit 1").tasks(
        "
[targets.arm]
triple = 'aarch64-linux-musl'
toolchain = 'zig'
[tasks.always]
targets = ['arm']
run = '$CC --version || echo none'
",
    );
    let said = sandbox.run("run always@arm");
    assert_eq!(said.answered(), "zig 1.0: cc -target aarch64-linux-musl -fno-sanitize=all -g0 --version\n");
    let text = said.answered().to_owned();
    said.stdout(&text).success();
    fs::remove_file(sandbox.root().join("bin/zig")).unwrap();
    sandbox.run("run always@arm").stdout("none\n").success();
}

#[test]
fn the_compiler_is_told_what_zig_would_do_unlike_others() {
    let sandbox = sandbox();
    sandbox.tasks(
        "
[targets.arm]
triple = 'armv7-unknown-linux-gnueabihf.2.28'
toolchain = 'zig'
[tasks.asked]
targets = ['arm']
inputs = ['a.c']
outputs = ['out']
run = [
    '($CC -g -c a.c; $CXX -E -dM -; $CC -E -dM -x c -; $CC -E a.c -o -) > out',
    '($CC -Wl,--version; $CC --print-search-dirs; $CC -dumpmachine; $LD -r a.o; $AR rcs a; echo ${PWD##*/}) >> out',
]
",
    );
    sandbox.run("build asked").success();
    let cc = "-target arm-linux-gnueabihf.2.28 -mcpu=generic+v7a+vfp3_d32+thumb2-neon -fno-sanitize=all";
    let work = sandbox.work();
    assert_eq!(
        sandbox.read("out").lines().map(|line| line.trim_start_matches("zig 1.0: ")).collect::<Vec<_>>(),
        [
            &*format!("cc {cc} -fdebug-compilation-dir={} -g -c a.c", work.display()),
            &format!("c++ {cc} -g0 -x c++ -E -dM -"),
            &format!("cc {cc} -g0 -E -dM -x c -"),
            &format!("cc {cc} -g0 -E a.c -o -"),
            "ld.lld --version",
            "programs: =",
            "libraries: =",
            &format!("cc {} -g0 -dumpmachine", cc.replace(".2.28", "")),
            "ld.lld -r a.o",
            "ar rcs a",
            "work",
        ]
    );
}
