#!/usr/bin/env python3
"""Measures cargo-bcache beside make, ninja, a serial script and cp, interleaved, and prints medians and ratios.

    bench.py [small] [noop] [restore] [chain]      all but chain where none is named

small    300 steps of one `cp` each, cold: against `make -j2` with the same commands; the store is new, but for
         what it remembers of the machine's installed packages (reading them takes about 20 ms, once)
noop     the same with nothing changed: against ninja
restore  utm-core's prefix deleted: against `cp -r` of it (builds utm-core first)
chain    utm-core cold at -j2: against serial.sh, three rounds (takes about ten minutes)
"""
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BCACHE = os.environ.get("BCACHE", str(ROOT / "target/release/cargo-bcache"))
STEPS = 300


def run(argv, cwd, **env):
    """Wall time in seconds of a command that must end well."""
    begun = time.perf_counter()
    done = subprocess.run(argv, cwd=cwd, env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    took = time.perf_counter() - begun
    if done.returncode:
        sys.exit(f"{argv} ended with {done.returncode}:\n{done.stdout.decode(errors='replace')[-2000:]}")
    return took


def report(name, ours, theirs, other, aim):
    a, b = statistics.median(ours), statistics.median(theirs)
    low = min(x / y for x, y in zip(ours, theirs))
    high = max(x / y for x, y in zip(ours, theirs))
    print(f"{name}: bcache {a * 1000:.1f} ms, {other} {b * 1000:.1f} ms (medians of {len(ours)}): "
          f"{a / b:.2f}x (pairs {low:.2f} to {high:.2f}); aim {aim}", flush=True)


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
    names = sys.argv[1:] or ["small", "noop", "restore"]
    known = {"small": small, "noop": noop, "restore": restore, "chain": chain}
    for name in names:
        if name not in known:
            sys.exit(__doc__)
        with tempfile.TemporaryDirectory(prefix="bcache-bench-", dir=os.environ.get("BENCH_DIR")) as dir:
            known[name](pathlib.Path(dir))


main()
