#!/usr/bin/env python3
"""Measures cargo-bcache beside make, ninja, a serial script and cp, interleaved, and prints medians and ratios.

    bench.py [small] [noop] [restore] [git] [fork] [chain] [limits [NAME…]]     the first five where none is named

small    300 steps of one `cp` each, cold: against `make -j2` with the same commands; the store is new, but for
         what it remembers of the machine's installed packages (reading them takes about 20 ms, once)
noop     the same with nothing changed: against ninja
restore  utm-core's prefix deleted: against `cp -r` of it (builds utm-core first)
git      a step whose input is a working copy of 100,000 tracked files, 200 untracked and 50 changed, with nothing new
         and after one more edit: against `git status --porcelain`; and one whose input is 3,000 of these files
fork     the path of an unchanged program out of a git tree of 3,000 files: against what a script does that hashes HEAD,
         `git diff` and the names of untracked files, and misses edits doing so
chain    utm-core cold at -j2: against serial.sh, three rounds (takes about ten minutes)
limits   sizes at which other tools break, each once, or the named ones: see limits.py (takes 15 minutes and 15 GB of disk)
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import limits
from measure import BCACHE, ROOT, report, run

STEPS = 300


def copies(dir):
    """The same 300 copies for bcache, make and ninja."""
    (dir / "in").mkdir()
    tasks = ['[bcache]\nversion = 1\ndefault = "all"\n']
    rules, ninja = [], ["rule cp\n  command = cp $in $out\n"]
    for i in range(STEPS):
        (dir / f"in/{i}").write_text(f"contents of {i}\n" * 20)
        tasks.append(f'[tasks.c{i}]\ninputs = ["in/{i}"]\noutputs = ["out/{i}"]\nrun = [["cp", "in/{i}", "out/{i}"]]\n')
        rules.append(f"out/{i}: in/{i}\n\tcp in/{i} out/{i}\n")
        ninja.append(f"build out/{i}: cp in/{i}\n")
    names = ", ".join(f'"c{i}"' for i in range(STEPS))
    tasks.append(f"[tasks.all]\nneeds = [{names}]\n")
    (dir / "tasks.toml").write_text("\n".join(tasks))
    (dir / "Makefile").write_text("all: " + " ".join(f"out/{i}" for i in range(STEPS)) + "\n" + "".join(rules))
    (dir / "build.ninja").write_text("".join(ninja))


def small(dir, rounds=11):
    # A new directory for every run: on ext4, files are dear to make for minutes after others were deleted.
    ours, theirs = [], []
    (dir / "one").mkdir()
    (dir / "one/tasks.toml").write_text('bcache.version = 1\n[tasks.a]\ninputs = ["tasks.toml"]\nrun = "true"\n')
    run([BCACHE, "build", "a"], dir / "one", BCACHE_HOME=str(dir / "known"))
    for i in range(rounds):
        for who in ["bcache", "make"]:
            (dir / f"{who}-{i}").mkdir()
            copies(dir / f"{who}-{i}")
        shutil.copytree(dir / "known/host", dir / f"store-{i}/host")
        ours.append(run([BCACHE, "build", "-j2"], dir / f"bcache-{i}", BCACHE_HOME=str(dir / f"store-{i}")))
        (dir / f"make-{i}/out").mkdir()
        theirs.append(run(["make", "-s", "-j2"], dir / f"make-{i}"))
    report(f"{STEPS} copies, cold", ours, theirs, "make -j2", "1.3x")


def noop(dir, rounds=41):
    if not (dir / "tasks.toml").exists():
        copies(dir)
    ninja = shutil.which("ninja") or str(ROOT / "fixtures/utm/.tools/bin/ninja")
    env = {"BCACHE_HOME": str(dir / "store")}
    shutil.rmtree(dir / "out", ignore_errors=True)
    (dir / "out").mkdir()
    run([ninja], dir)
    run([BCACHE, "build"], dir, **env)
    ours, theirs = [], []
    for _ in range(3):
        run([BCACHE, "build"], dir, **env)
    for _ in range(rounds):
        ours.append(run([BCACHE, "build"], dir, **env))
        theirs.append(run([ninja], dir))
    report(f"{STEPS} copies, nothing changed", ours, theirs, "ninja", "1.0x")


def restore(dir, rounds=7):
    # Both write to the place of a prefix that was deleted just before: on ext4 that alone makes files dear.
    env = {"BCACHE_HOME": str(dir / "home")}
    prefix = ROOT / "fixtures/utm/sysroot-host"
    # With records of an earlier build all would be fresh, and the new store empty.
    shutil.rmtree(ROOT / ".bcache", ignore_errors=True)
    run([BCACHE, "build", "utm-core", "-j2"], ROOT, **env)
    saved = dir / "saved"
    run(["cp", "-a", str(prefix), str(saved)], dir)
    ours, theirs, store = [], [], []
    for _ in range(rounds):
        shutil.rmtree(prefix)
        theirs.append(run(["cp", "-r", str(saved), str(prefix)], dir))
        shutil.rmtree(prefix)
        ours.append(run([BCACHE, "build", "utm-core"], ROOT, **env))
        run(["diff", "-r", "--no-dereference", str(prefix), str(saved)], dir)
        # The same with nothing unpacked: out of the store alone.
        shutil.rmtree(prefix)
        shutil.rmtree(ROOT / ".bcache/layers", ignore_errors=True)
        store.append(run([BCACHE, "build", "utm-core"], ROOT, **env))
        run(["diff", "-r", "--no-dereference", str(prefix), str(saved)], dir)
    report("prefix deleted, layers unpacked", ours, theirs, "cp -r", "1.0x")
    report("prefix and layers deleted", store, theirs, "cp -r", "1.0x")


def tree(dir):
    """100,000 tracked files in 5,000 directories, 200 untracked, 50 changed; ignored files beside them."""
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "core.fsync=none", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]
    for i in range(100_000):
        path = dir / f"fork/part{i // 5000}/crate{i // 200 % 25}/mod{i // 20 % 10}/file_number_{i % 20}.rs"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"// file {i}\n" * (1 + i % 40))
    (dir / "fork/.gitignore").write_text("target/\n*.o\n*.log\n/build\n")
    run([*git, "init", "-q"], dir / "fork")
    run([*git, "add", "-A"], dir / "fork")
    run([*git, "commit", "-q", "-m", "x"], dir / "fork")
    for i in range(200):
        (dir / f"fork/part{i % 20}/crate{i % 25}/mod{i % 10}/untracked_{i}.rs").write_text("new\n")
        (dir / f"fork/part{i % 20}/crate{i % 25}/ignored_{i}.o").write_text("object\n")
    for i in range(50):
        (dir / f"fork/part{i % 20}/crate{i % 25}/mod{i % 10}/file_number_0.rs").write_text(f"changed {i}\n")
    (dir / "tasks.toml").write_text("""
[bcache]
version = 1
[tasks.whole]
inputs = [{ git = "fork" }]
outputs = ["whole"]
run = "touch whole"
[tasks.part]
inputs = [{ git = "fork", paths = ["part3/crate1*/", "part4/crate2*/"] }]
outputs = ["part"]
run = "touch part"
""")


def git(dir, rounds=21):
    tree(dir)
    status = ["git", "status", "--porcelain"]
    home = str(dir / "store")
    took = run([BCACHE, "plan", "whole"], dir, BCACHE_HOME=home)
    print(f"the first look at 100,000 files: {took * 1000:.0f} ms", flush=True)
    for task in ["whole", "part"] * 2:
        run([BCACHE, "build", task], dir, BCACHE_HOME=home)
        time.sleep(0.1)
    run(status, dir / "fork")
    ours, theirs, part = [], [], []
    for _ in range(rounds):
        ours.append(run([BCACHE, "build", "whole"], dir, BCACHE_HOME=home))
        theirs.append(run(status, dir / "fork"))
        part.append(run([BCACHE, "build", "part"], dir, BCACHE_HOME=home))
    report("git input of 100,000 files, nothing changed", ours, theirs, "git status", "0.6x")
    print(f"git input of 3,000 files, nothing changed: {statistics.median(part) * 1000:.1f} ms", flush=True)
    ours, theirs = [], []
    for i in range(rounds):
        for took, argv, at in [(ours, [BCACHE, "plan", "whole"], dir), (theirs, status, dir / "fork")]:
            with open(dir / f"fork/part{i % 20}/crate7/mod2/file_number_3.rs", "a") as file:
                file.write("edit\n")
            took.append(run(argv, at, BCACHE_HOME=home))
    report("git input of 100,000 files, plan after an edit", ours, theirs, "git status", "0.6x")


FORK = """
[bcache]
version = 1
[tasks.gateway]
cargo = { workspace = "fork", package = "harbor-gateway", bin = "harbor-gateway", features = ["bundled"] }
"""

SCRIPT = """
git rev-parse HEAD
git diff | sha256sum
git ls-files -o --exclude-standard | sha256sum
"""


def fork(dir, rounds=41):
    env = {"BCACHE_HOME": str(dir / "store")}
    run([str(ROOT / "fixtures/fork/make"), "fork", "--files", "2930"], dir)
    (dir / "tasks.toml").write_text(FORK)
    ours, theirs = [], []
    for _ in range(3):
        run([BCACHE, "-q", "path", "gateway"], dir, **env)
        run(["sh", "-c", SCRIPT], dir / "fork")
    for _ in range(rounds):
        ours.append(run([BCACHE, "-q", "path", "gateway"], dir, **env))
        theirs.append(run(["sh", "-c", SCRIPT], dir / "fork"))
    files = subprocess.run(["git", "ls-files"], cwd=dir / "fork", stdout=subprocess.PIPE, check=True).stdout.count(b"\n")
    report(f"path of a program out of {files} files, nothing changed", ours, theirs, "hashing by git", "10 ms")


def chain(dir, rounds=3):
    ours, theirs = [], []
    state = ROOT / ".bcache"
    run([BCACHE, "build", "utm-core", "-j2"], ROOT, BCACHE_HOME=str(dir / "warm"))
    for i in range(rounds):
        for path in [state, ROOT / "fixtures/utm/sysroot-host"]:
            shutil.rmtree(path, ignore_errors=True)
        ours.append(run([BCACHE, "build", "utm-core", "-j2"], ROOT, BCACHE_HOME=str(dir / f"home-{i}")))
        theirs.append(run([str(ROOT / "fixtures/utm/serial.sh"), str(dir / f"p{i}"), str(dir / f"w{i}")], ROOT))
        shutil.rmtree(dir / f"w{i}")
    report("utm-core, cold, -j2", ours, theirs, "serial.sh", "1.0x")


def main():
    names = sys.argv[1:] or ["small", "noop", "restore", "git", "fork"]
    if names[0] == "limits":
        with tempfile.TemporaryDirectory(prefix="bcache-bench-", dir=os.environ.get("BENCH_DIR")) as dir:
            return limits.run(pathlib.Path(dir), names[1:])
    known = {"small": small, "noop": noop, "restore": restore, "git": git, "fork": fork, "chain": chain}
    for name in names:
        if name not in known:
            sys.exit(__doc__)
        with tempfile.TemporaryDirectory(prefix="bcache-bench-", dir=os.environ.get("BENCH_DIR")) as dir:
            known[name](pathlib.Path(dir))


main()
