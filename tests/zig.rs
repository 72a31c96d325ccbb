//! Real cross builds: zig itself, and its output looked at and run.
//!
//! They need zig (on PATH, or in the `python3` there) and `qemu-aarch64-static` with Debian's `libc6-arm64-cross`; those of
//! Rust `cargo-zigbuild` too, and one of them a compiler with the standard library of aarch64, which the variable
//! `BCACHE_TEST_RUSTC` names (`fixtures/cross/rustc-web` has one). What is missing is said and its tests are passed over;
//! under CI that is a failure.
//!
//! What zig makes of its own sources takes it minutes, so all tests share it, and make it before they measure patience.

mod sandbox;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use bcache::base::digest::Digest;
use sandbox::Sandbox;

/// One at a time: each is several compilers at once already.
static ALONE: Mutex<()> = Mutex::new(());

/// A program's first line of output, where it succeeds.
fn said(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}

fn on_path(name: &str) -> Option<PathBuf> {
    said("sh", &["-c", &format!("command -v {name}")]).map(PathBuf::from)
}

/// Tells that a test is passed over for want of `what`.
fn missing(what: &str) {
    eprintln!("SKIPPED: {what} is missing");
    assert!(std::env::var_os("CI").is_none(), "{what} is missing, and CI has it");
}

struct Zig {
    program: PathBuf,
    /// What has to be on PATH for it to be found.
    dir: PathBuf,
}

fn zig() -> Option<Zig> {
    let of_python = || {
        let module = said("python3", &["-c", "import ziglang, os; print(os.path.dirname(ziglang.__file__))"])?;
        let dir = said("python3", &["-c", "import sys; print(sys.prefix)"])?;
        Some(Zig { program: Path::new(&module).join("zig"), dir: Path::new(&dir).join("bin") })
    };
    let of_path = || {
        let program = on_path("zig")?;
        Some(Zig { dir: program.parent()?.to_owned(), program })
    };
    let found = of_path().or_else(of_python);
    if found.is_none() {
        missing("zig");
    }
    found
}

fn qemu() -> Option<PathBuf> {
    let qemu = on_path("qemu-aarch64-static").filter(|_| Path::new("/usr/aarch64-linux-gnu/lib").is_dir());
    if qemu.is_none() {
        missing("qemu-aarch64-static, or libc6-arm64-cross");
    }
    qemu
}

/// Runs a program of aarch64 with the libraries of Debian's cross packages.
fn run_on_arm(qemu: &Path, program: &Path, args: &[&str]) -> String {
    let output = Command::new(qemu).args(["-L", "/usr/aarch64-linux-gnu"]).arg(program).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A sandbox that finds this zig, with its own libraries for these triples made already, as compilers with these flags
/// want them: other flags may want others.
fn sandbox(zig: &Zig, wanted: &[(&str, &[&str])]) -> Sandbox {
    let sandbox = Sandbox::new();
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("zig");
    let real = zig.program.canonicalize().unwrap();
    let cache = shared.join(Digest::of_file(&real).unwrap().short());
    fs::create_dir_all(&cache).unwrap();
    std::os::unix::fs::symlink(&shared, sandbox.store().join("zig")).unwrap();
    let source = sandbox.root().join("warm.c");
    fs::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"\"); }\n").unwrap();
    for (triple, flags) in wanted {
        let done = Command::new(&real)
            .args(["cc", "-target", triple, "-fno-sanitize=all"])
            // As the programs do that start it for steps: what it keeps is to name no directory.
            .env("PWD", "/proc/self/cwd")
            .args(*flags)
            .arg(&source)
            .arg("-o")
            .arg(sandbox.root().join("warm"))
            .env("ZIG_GLOBAL_CACHE_DIR", &cache)
            .env("ZIG_LOCAL_CACHE_DIR", sandbox.root().join("tmp/zig"))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let path = format!("{}/bin:{}:/usr/bin:/bin", sandbox.root().display(), zig.dir.display());
    sandbox.env("PATH", path);
    sandbox
}

const HELLO: &str = "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n";

#[test]
fn c_for_linux_on_arm_with_musl_and_for_windows_is_what_those_start() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let Some(zig) = zig() else { return };
    let flags: &[&str] = &["-g0", "-O2", "-s"];
    let sandbox = sandbox(&zig, &[("aarch64-linux-musl", flags), ("x86_64-windows-gnu", flags)]);
    sandbox.file("src/hello.c", HELLO).tasks(
        "
[targets.arm]
triple = 'aarch64-linux-musl'
toolchain = 'zig'
[targets.win]
triple = 'x86_64-pc-windows-gnu'
toolchain = 'zig'
[tasks.hello]
targets = ['arm', 'win']
inputs = ['src/hello.c']
outputs = ['out/{{ target.name }}/']
run = '$CC -O2 -s src/hello.c -o out/{{ target.name }}/hello'
",
    );
    sandbox.run("build hello -j2").counts("0 fresh, 0 restored, 2 ran").success();
    let elf = fs::read(sandbox.at("out/arm/hello")).unwrap();
    // The magic number, 64 bits, little; a program for aarch64.
    assert_eq!((&elf[..6], &elf[16..20]), (&b"\x7fELF\x02\x01"[..], &[2, 0, 183, 0][..]));
    let exe = fs::read(sandbox.at("out/win/hello")).unwrap();
    let header = u32::from_le_bytes(exe[0x3c..0x40].try_into().unwrap()) as usize;
    assert_eq!((&exe[..2], &exe[header..header + 6]), (&b"MZ"[..], &b"PE\0\0\x64\x86"[..]));
    if let Some(qemu) = qemu() {
        assert_eq!(run_on_arm(&qemu, &sandbox.at("out/arm/hello"), &[]), "hello\n");
    }
    // Nothing of this place is in them, so another worktree has the same.
    let other = sandbox.worktree("other");
    other.file("tasks.toml", sandbox.read("tasks.toml")).file("src/hello.c", HELLO);
    other.run("build hello").counts("0 fresh, 2 restored, 0 ran").success();
    sandbox.run("build hello").counts("2 fresh, 0 restored, 0 ran").success();
    // And what is made again is the same again.
    let before = sandbox.tree("out");
    sandbox.run("build hello --force -j2").counts("0 fresh, 0 restored, 2 ran").success();
    assert_eq!(sandbox.tree("out"), before);
}

/// The sources of `fixtures/cross`, and its manifest.
fn put_chain(sandbox: &Sandbox) {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cross");
    for dir in ["", "words", "count", "tally"] {
        for entry in fs::read_dir(from.join(dir)).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_file() {
                sandbox.file(Path::new(dir).join(entry.file_name()), fs::read(entry.path()).unwrap());
            }
        }
    }
}

/// What the chain wants of zig.
const CHAIN: &[(&str, &[&str])] = &[
    ("aarch64-linux-gnu.2.28", &["-g0", "-O2"]),
    ("aarch64-linux-gnu.2.28", &["-g0", "-O3", "-shared", "-fPIC"]),
    ("aarch64-linux-gnu.2.28", &["-g0", "-O3"]),
    ("x86_64-linux-gnu.2.17", &["-g0", "-O2"]),
    ("x86_64-linux-gnu.2.17", &["-g0", "-O3", "-shared", "-fPIC"]),
    ("x86_64-linux-gnu.2.17", &["-g0", "-O3"]),
];

#[test]
fn a_chain_of_make_cmake_and_meson_is_built_for_two_targets_at_once_and_its_program_runs() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (Some(zig), Some(qemu)) = (zig(), qemu()) else { return };
    let sandbox = sandbox(&zig, CHAIN);
    put_chain(&sandbox);
    sandbox.run("build -j2").counts("0 fresh, 0 restored, 6 ran").success();
    let tally =
        |sandbox: &Sandbox| run_on_arm(&qemu, &sandbox.at("sysroot-arm64/bin/tally"), &["three little", "words"]);
    assert_eq!(tally(&sandbox), "3 words on aarch64, the first is `three`\n");
    if cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        let words = said(sandbox.at("sysroot-x86_64/bin/tally").to_str().unwrap(), &["one"]);
        assert_eq!(words.unwrap(), "1 words on x86_64, the first is `one`");
    }
    sandbox.run("build").counts("6 fresh, 0 restored, 0 ran").success();
    sandbox.run("build tally@x86_64 --force").counts("2 fresh, 0 restored, 1 ran").success();
    // The library comes out the same, so the program stays.
    sandbox.append("count/count.c", "\n").run("build tally@arm64").counts("2 fresh, 0 restored, 1 ran").success();
    sandbox.edit("count/count.c", "count++", "count += 2");
    sandbox.run("build tally@arm64").counts("1 fresh, 0 restored, 2 ran").success();
    assert_eq!(tally(&sandbox), "6 words on aarch64, the first is `three`\n");
}

#[test]
fn a_relocatable_chain_serves_another_worktree_at_its_own_path() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (Some(zig), Some(qemu)) = (zig(), qemu()) else { return };
    let sandbox = sandbox(&zig, &CHAIN[..3]);
    put_chain(&sandbox);
    sandbox.edit("tasks.toml", "path = \"sysroot-", "relocatable = true\npath = \"sysroot-");
    sandbox.run("build tally@arm64").counts("0 fresh, 0 restored, 3 ran").success();
    let other = sandbox.worktree("another place");
    put_chain(&other);
    other.file("tasks.toml", sandbox.read("tasks.toml"));
    other.run("build tally@arm64").counts("0 fresh, 3 restored, 0 ran").success();
    fs::remove_dir_all(sandbox.at("sysroot-arm64")).unwrap();
    let said = run_on_arm(&qemu, &other.at("sysroot-arm64/bin/tally"), &["a b"]);
    assert_eq!(said, "2 words on aarch64, the first is `a`\n");
}

/// Versions of glibc that a program asks for.
fn newest_glibc(program: &Path) -> Vec<u32> {
    let output = Command::new("readelf").arg("-V").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let versions = text.split("GLIBC_").skip(1).map(|rest| {
        let end = rest.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].split('.').map(|number| number.parse().unwrap()).collect::<Vec<u32>>()
    });
    versions.max().expect("it uses glibc")
}

fn put_crate(sandbox: &Sandbox) {
    sandbox
        .file("hello/Cargo.toml", "[package]\nname = 'hello'\nversion = '0.1.0'\nedition = '2021'\n")
        .file("hello/Cargo.lock", "version = 3\n\n[[package]]\nname = \"hello\"\nversion = \"0.1.0\"\n")
        .file("hello/src/main.rs", "fn main() { println!(\"hello from {}\", std::env::consts::ARCH); }\n");
}

/// Where cargo and rustc are, with all that their proxies need.
fn let_cargo_run(sandbox: &Sandbox, zig: &Zig) -> bool {
    let Some(zigbuild) = on_path("cargo-zigbuild") else {
        missing("cargo-zigbuild");
        return false;
    };
    let cargo = on_path("cargo").expect("cargo runs these tests");
    let dirs = [&sandbox.root().join("bin"), &zig.dir, zigbuild.parent().unwrap(), cargo.parent().unwrap()]
        .map(|dir: &Path| dir.display().to_string());
    sandbox.env("PATH", format!("{}:/usr/bin:/bin", dirs.join(":")));
    let home = std::env::var("HOME").unwrap_or_default();
    for (name, usual) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
        let value = std::env::var(name).unwrap_or_else(|_| format!("{home}/{usual}"));
        sandbox.env(name, value);
    }
    true
}

#[test]
fn rust_for_an_old_glibc_asks_for_no_newer_one() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    if !cfg!(all(target_arch = "x86_64", target_os = "linux")) {
        return missing("x86_64 with Linux");
    }
    let Some(zig) = zig() else { return };
    let sandbox = sandbox(&zig, &[("x86_64-linux-gnu.2.17", &["-g"])]);
    if !let_cargo_run(&sandbox, &zig) {
        return;
    }
    put_crate(&sandbox);
    sandbox.tasks(
        "
[targets.old]
triple = 'x86_64-unknown-linux-gnu.2.17'
toolchain = 'zig'
[tasks.hello]
targets = ['host', 'old']
cargo = { workspace = 'hello', package = 'hello', profile = 'release' }
",
    );
    sandbox.run("build hello").counts("0 fresh, 0 restored, 2 ran").success();
    let program = sandbox.at(".bcache/out/old/hello/hello");
    assert!(newest_glibc(&program) <= vec![2, 17], "{:?}", newest_glibc(&program));
    assert_eq!(said(program.to_str().unwrap(), &[]).unwrap(), "hello from x86_64");
    sandbox.run("build hello").counts("2 fresh, 0 restored, 0 ran").success();
    sandbox.run("build hello@old --force").counts("0 fresh, 0 restored, 1 ran").success();
}

#[test]
fn rust_for_arm_is_built_by_the_compiler_of_the_target_and_runs() {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let (Some(zig), Some(qemu)) = (zig(), qemu()) else { return };
    let Some(rustc) = std::env::var_os("BCACHE_TEST_RUSTC") else {
        return missing("BCACHE_TEST_RUSTC, a compiler with the standard library of aarch64-unknown-linux-gnu,");
    };
    let sandbox = sandbox(&zig, &[("aarch64-linux-gnu.2.28", &["-g"])]);
    if !let_cargo_run(&sandbox, &zig) {
        return;
    }
    put_crate(&sandbox);
    sandbox.tasks(&format!(
        "
[targets.arm]
triple = 'aarch64-unknown-linux-gnu.2.28'
toolchain = 'zig'
env.RUSTC = '{}'
[tasks.hello]
targets = ['arm']
cargo = {{ workspace = 'hello', package = 'hello', profile = 'release' }}
",
        rustc.to_str().unwrap()
    ));
    sandbox.run("build hello").counts("0 fresh, 0 restored, 1 ran").success();
    let program = sandbox.at(".bcache/out/arm/hello/hello");
    assert_eq!(run_on_arm(&qemu, &program, &[]), "hello from aarch64\n");
    assert!(newest_glibc(&program) <= vec![2, 28], "{:?}", newest_glibc(&program));
    sandbox.run("build hello").counts("1 fresh, 0 restored, 0 ran").success();
}
