"""What bcache does at its limits, at their real sizes: wall time, peak memory of bcache itself (not of what it starts) and bytes on
disk, beside a yardstick. Fails where something is wrong: an answer, an end, memory beyond a bound. Never because it is slow.

    steps    5,000 steps of one `cp` each: against make and ninja
    chain    5,000 steps, each of which needs the one before; a cycle of as many
    edges    5,000 steps, each of which needs a group of 5,000 others; 500 steps that each name 500
    targets  5 tasks at 1,000 targets
    manifest 50 MB of tasks; one command of 50 MB; 5,000 mistakes
    files    200,000 files: as an output directory, as inputs of a glob and one by one
    layer    200,000 files installed into a sysroot
    big      a file of 4 GiB: as an input, an output, in a layer, restored; the same with holes
    log      1 GiB of output: in lines, in one line, with a secret in it, as JSON

BENCH_SCALE=10 makes all of them ten times smaller, to try this file itself.
"""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

from measure import BCACHE

SCALE = int(os.environ.get("BENCH_SCALE", "1"))
STEPS = 5000 // SCALE
FILES = 200_000 // SCALE
BIG = (4 << 30) // SCALE
LOG = (1 << 30) // SCALE
MB = 1 << 20


class Ran:
    """A command that has ended: seconds, exit code, output, and the peak of its own memory in bytes."""

    def __init__(self, argv, cwd, env=None, stdout=subprocess.PIPE):
        begun = time.perf_counter()
        env = {**os.environ, "TERM": "dumb", "BCACHE_HOME": str(cwd) + "-store", **(env or {})}
        child = subprocess.Popen(argv, cwd=cwd, env=env, stdout=stdout, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.peak = 0
        watcher = threading.Thread(target=self.watch, args=(child,))
        watcher.start()
        out, err = child.communicate()
        self.took = time.perf_counter() - begun
        watcher.join()
        self.code, self.out, self.err = child.returncode, out or b"", err

    def watch(self, child):
        # `ru_maxrss` would be the largest of its children too. The mark is gone once it has ended.
        while child.poll() is None:
            try:
                status = pathlib.Path(f"/proc/{child.pid}/status").read_text()
            except OSError:
                return
            marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
            self.peak = max([self.peak] + [int(mark) * 1024 for mark in marks])
            time.sleep(0.005)


def fail(what, ran):
    sys.exit(f"{what}\n{ran.out.decode(errors='replace')[-2000:]}{ran.err.decode(errors='replace')[-2000:]}")


def bcache(dir, *args, code=0, counts=None, most=None, **env):
    """Ran with these arguments, as it must: this exit code, these counts in the last line, at most so many MB."""
    ran = Ran([BCACHE, *args], dir, env)
    if ran.code != code:
        fail(f"bcache {' '.join(args)} ended with {ran.code}", ran)
    if counts and not ran.err.decode().rstrip().endswith(counts):
        fail(f"bcache {' '.join(args)} should have said `{counts}`", ran)
    if most and ran.peak > most * MB:
        fail(f"bcache {' '.join(args)} took {ran.peak // MB} MB of memory, and may take {most}", ran)
    return ran


def other(dir, *argv):
    ran = Ran(list(argv), dir)
    if ran.code:
        fail(f"{argv} ended with {ran.code}", ran)
    return ran


def say(what, ran, yardstick=None, name="", disk=None):
    line = f"{what}: {ran.took:.2f} s, {ran.peak / MB:.0f} MB of memory"
    if yardstick:
        line += f"; {name} {yardstick.took:.2f} s: {ran.took / yardstick.took:.2f}x"
    if disk is not None:
        line += f"; {disk / MB:.1f} MB on disk"
    print(line, flush=True)


def disk(path):
    """Bytes that a tree takes."""
    return int(subprocess.run(["du", "-s", "-B1", str(path)], stdout=subprocess.PIPE, check=True).stdout.split()[0])


def manifest(dir, *parts):
    dir.mkdir(parents=True, exist_ok=True)
    with open(dir / "tasks.toml", "w") as file:
        file.write("bcache = { version = 1 }\n")
        for part in parts:
            file.write(part)


def steps(dir):
    work = dir / "work"
    names = ", ".join(f'"c{i}"' for i in range(STEPS))
    task = '[tasks.c{0}]\ninputs = ["in/{0}"]\noutputs = ["out/{0}"]\nrun = [["cp", "in/{0}", "out/{0}"]]\n'
    manifest(work, *(task.format(i) for i in range(STEPS)), f"[tasks.all]\nneeds = [{names}]\n")
    (work / "in").mkdir()
    for i in range(STEPS):
        (work / f"in/{i}").write_text(f"contents of {i}\n")
    (work / "Makefile").write_text(
        "all: " + " ".join(f"made/{i}" for i in range(STEPS)) + "\n"
        + "".join(f"made/{i}: in/{i}\n\tcp in/{i} made/{i}\n" for i in range(STEPS)))
    (work / "build.ninja").write_text(
        "rule cp\n  command = cp $in $out\n" + "".join(f"build done/{i}: cp in/{i}\n" for i in range(STEPS)))
    (work / "made").mkdir()
    say(f"{STEPS} steps, plan", bcache(work, "plan", "all", most=200))
    cold = bcache(work, "build", "all", "-j2", counts=f"0 fresh, 0 restored, {STEPS} ran", most=300)
    say(f"{STEPS} steps, cold", cold, other(work, "make", "-s", "-j2"), "make -j2", disk(work / ".bcache"))
    other(work, "ninja")
    time.sleep(0.1)
    bcache(work, "build", "all")
    fresh = f"{STEPS} fresh, 0 restored, 0 ran"
    say(f"{STEPS} steps, nothing changed", bcache(work, "build", "all", counts=fresh, most=200), other(work, "ninja"), "ninja")
    (work / "in/7").write_text("other\n")
    one = bcache(work, "build", "all", counts=f"{STEPS - 1} fresh, 0 restored, 1 ran", most=300)
    say(f"{STEPS} steps, one changed", one, other(work, "ninja"), "ninja")
    shutil.rmtree(work / "out")
    many = bcache(work, "build", "all", "-j1000", counts=f"0 fresh, {STEPS} restored, 0 ran", most=1000)
    say(f"{STEPS} steps restored, -j1000", many, disk=disk(str(work) + "-store"))


def chain(dir):
    work = dir / "work"
    task = '[tasks.t{0}]\ninputs = ["tasks.toml"]\n{1}run = "true"\n'
    manifest(work, *(task.format(i, f'needs = ["t{i - 1}"]\n' if i else "") for i in range(STEPS)))
    say(f"a chain of {STEPS}, plan", bcache(work, "plan", f"t{STEPS - 1}", most=200))
    ran = bcache(work, "build", f"t{STEPS - 1}", counts=f"0 fresh, 0 restored, {STEPS} ran", most=300)
    say(f"a chain of {STEPS}, cold", ran)
    say(f"a chain of {STEPS}, nothing changed", bcache(work, "build", f"t{STEPS - 1}", counts="0 ran", most=200))
    manifest(work, *(task.format(i, f'needs = ["t{(i - 1) % STEPS}"]\n') for i in range(STEPS)))
    cycle = bcache(work, "plan", "t0", code=3, most=200)
    say(f"a cycle of {STEPS}, {len(cycle.err)} bytes said", cycle)


def edges(dir):
    quoted = lambda kind, count: ", ".join(f'"{kind}{i}"' for i in range(count))
    task = '[tasks.a{0}]\ninputs = ["tasks.toml"]\nrun = "true"\n[tasks.b{0}]\nextends = "b"\n'
    for count, needs in [(STEPS, '"g"'), (STEPS // 10, quoted("a", STEPS // 10))]:
        work = dir / f"work-{count}"
        manifest(work, *(task.format(i) for i in range(count)), f'[templates.b]\nneeds = [{needs}]\ninputs = ["tasks.toml"]\nrun = "true"\n',
                 f"[tasks.g]\nneeds = [{quoted('a', count)}]\n[tasks.all]\nneeds = [{quoted('b', count)}]\n")
        how = "of a group" if needs == '"g"' else "one by one"
        say(f"{count} steps that need {count} {how}, plan", bcache(work, "plan", "all", most=1000))
        say(f"{count} steps that need {count} {how}, graph", bcache(work, "graph", most=1000))


def targets(dir):
    work = dir / "work"
    count = 1000 // SCALE
    names = ", ".join(f'"x{i}"' for i in range(count))
    task = '[tasks.t{0}]\ntargets = [{1}]\ninputs = ["tasks.toml"]\noutputs = ["{{{{ target.name }}}}/{0}"]\n{2}run = "echo {{{{ target.name }}}} >{{{{ target.name }}}}/{0}"\n'
    manifest(work, *(f'[targets.x{i}]\ntriple = "x86_64-unknown-linux-gnu"\n' for i in range(count)),
             *(task.format(i, names, f'needs = ["t{i - 1}"]\n' if i else "") for i in range(5)))
    say(f"5 tasks at {count} targets, cold", bcache(work, "build", "t4", counts=f" {5 * count} ran", most=300))
    say(f"5 tasks at {count} targets, nothing changed", bcache(work, "build", "t4", counts=" 0 ran", most=200))


def big_manifest(dir):
    size, task = 50_000_000 // SCALE, '[tasks.t{0}]\ndesc = "' + "d" * 900 + '"\ninputs = ["a{0}"]\noutputs = ["o{0}"]\nrun = "cp a{0} o{0}"\n'
    manifest(dir / "many", *(task.format(i) for i in range(size // 1000)))
    say(f"a manifest of {size // 1_000_000} MB, {size // 1000} tasks", bcache(dir / "many", "list", most=1500))
    manifest(dir / "one", f"[tasks.t]\nrun = '''{'x' * size}'''\n")
    say(f"a command of {size // 1_000_000} MB", bcache(dir / "one", "list", most=1500))
    manifest(dir / "wrong", *(f'[tasks.t{i}]\nneeds = ["u{i}"]\nrunn = "true"\n' for i in range(STEPS)))
    wrong = bcache(dir / "wrong", "list", code=3, most=1000)
    say(f"{2 * STEPS} mistakes, {len(wrong.err)} bytes said", wrong)


def spread(path):
    """The files of `files` and `layer`, as a command that makes them."""
    return f"""python3 -c "
import os
for i in range({FILES}):
    dir = '{path}/%d' % (i // 500)
    if i % 500 == 0: os.makedirs(dir, exist_ok=True)
    with open('%s/file%d' % (dir, i), 'w') as file: file.write('contents of %d' % i)
" """


def files(dir):
    work = dir / "work"
    manifest(work, f"""
[tasks.make]
inputs = ["tasks.toml"]
outputs = ["made/"]
run = '''{spread("made")}'''
[tasks.glob]
inputs = ["made/**"]
outputs = ["glob"]
run = "touch glob"
[tasks.literal]
inputs = [""", *(f'"made/{i // 500}/file{i}",' for i in range(FILES)), """]
outputs = ["literal"]
run = "touch literal"
""")
    ran = bcache(work, "build", "make", counts="1 ran", most=700)
    copy = other(work, "cp", "-r", "made", "copy")
    say(f"{FILES} files made and captured", ran, copy, "cp -r", disk(str(work) + "-store"))
    for task in ["glob", "literal"]:
        say(f"{FILES} files as inputs ({task})", bcache(work, "build", task, counts="1 ran", most=900))
        bcache(work, "build", task)
        say(f"{FILES} files as inputs ({task}), nothing changed", bcache(work, "build", task, counts="0 ran", most=900),
            other(work, "find", "made", "-newer", "tasks.toml", "-name", "none"), "find -newer")
    shutil.rmtree(work / "made")
    shutil.rmtree(work / "copy")
    restored = bcache(work, "build", "make", counts="1 restored, 0 ran", most=700)
    say(f"{FILES} files restored", restored, other(work, "cp", "-r", "made", "copy"), "cp -r", disk(work / ".bcache"))
    other(work, "diff", "-r", "made", "copy")


def layer(dir):
    work = dir / "work"
    manifest(work, f"""
[sysroots.root]
path = "root"
[tasks.install]
sysroot = "root"
inputs = ["tasks.toml"]
run = '''{spread("{{ sysroot.prefix }}/share")}'''
[tasks.user]
sysroot = "root"
needs = ["install"]
inputs = ["tasks.toml"]
run = "ls {{{{ sysroot.prefix }}}}/share >{{{{ sysroot.prefix }}}}/list"
""")
    ran = bcache(work, "build", "install", counts="1 ran", most=900)
    say(f"{FILES} files installed", ran, other(work, "cp", "-r", "root", "copy"), "cp -r", disk(str(work) + "-store"))
    say(f"a step that sees {FILES} files", bcache(work, "build", "user", counts="1 ran", most=900))
    bcache(work, "build", "user")
    say(f"{FILES} installed files, nothing changed", bcache(work, "build", "user", counts="0 ran", most=900))
    shutil.rmtree(work / "root")
    back = bcache(work, "build", "user", counts="0 ran", most=900)
    say(f"{FILES} installed files restored", back, disk=disk(work / ".bcache"))
    other(work, "diff", "-r", "--exclude=list", "root", "copy")


def big(dir):
    for kind in ["dense", "holes"]:
        work = dir / kind
        manifest(work, """
[sysroots.root]
path = "root"
[tasks.copy]
inputs = ["in"]
outputs = ["out"]
run = "cp --sparse=auto in out"
[tasks.install]
sysroot = "root"
inputs = ["in"]
run = "cp --sparse=auto in {{ sysroot.prefix }}/out"
""")
        with open(work / "in", "wb") as file:
            if kind == "dense":
                for i in range(BIG // MB):
                    file.write((b"%8d block" % i).ljust(64) * (MB // 64))
            file.truncate(BIG)
        sum = other(work, "sha256sum", "in")
        ran = bcache(work, "build", "copy", counts="1 ran", most=300)
        say(f"a file of {BIG // MB} MB ({kind}) read, copied, captured", ran, sum, "sha256sum", disk(str(work) + "-store"))
        os.remove(work / "out")
        back = bcache(work, "build", "copy", counts="1 restored, 0 ran", most=300)
        say(f"a file of {BIG // MB} MB ({kind}) restored", back, other(work, "cmp", "in", "out"), "cmp", disk(work / "out"))
        os.remove(work / "out")
        ran = bcache(work, "build", "install", counts="1 ran", most=300)
        say(f"a file of {BIG // MB} MB ({kind}) in a layer", ran, disk=disk(work / ".bcache"))
        shutil.rmtree(work / ".bcache/layers")
        os.remove(work / "root/out")
        say(f"a file of {BIG // MB} MB ({kind}), layer restored", bcache(work, "build", "install", counts="0 ran", most=300))
        other(work, "cmp", "in", "root/out")
        shutil.rmtree(work)
        shutil.rmtree(str(work) + "-store")


def log(dir):
    kinds = {
        "lines": f"echo first; yes 'a line with correct-horse in it' | head -c {LOG}; echo; echo last",
        "one line": f"printf first; head -c {LOG} /dev/zero | tr '\\0' x; printf last",
        "secrets": f"echo first; yes correct-horse | head -c {LOG} | tr -d '\\n'; echo; echo last",
        "zeros": f"echo first; head -c {LOG} /dev/zero; printf '\\033[31m\\n'; echo last",
    }
    for kind, script in kinds.items():
        work = dir / kind
        manifest(work, f"[tasks.loud]\ninputs = ['tasks.toml']\nsecrets = ['WORD']\nrun = '''{script}'''\n[tasks.bad]\nextends = 'bad'\n"
                 f"[templates.bad]\ninputs = ['tasks.toml']\nrun = '''({script}) >&2; exit 1'''\n")
        ran = bcache(work, "build", "loud", counts="1 ran", most=150, WORD="correct-horse")
        yardstick = other(work, "sh", "-c", f"({script}) | cat >/dev/null")
        kept = disk(work / ".bcache") + disk(str(work) + "-store")
        say(f"{LOG // MB} MB of output ({kind})", ran, yardstick, "cat", kept)
        if kept > 64 * MB:
            fail(f"{kept} bytes are kept of it", ran)
        text = bcache(work, "log", "loud").out
        if not text.startswith(b"first") or not text.rstrip().endswith(b"last") or b"bytes cut" not in text:
            fail("its two ends are not in the log", ran)
        if b"correct-horse" in text:
            fail("a secret is in the log", ran)
        for more in [["-v"], ["--message-format", "json", "-v"]]:
            with open(os.devnull, "wb") as null:
                ran = Ran([BCACHE, "build", "bad", *more], work, {"WORD": "correct-horse"}, stdout=null)
            if ran.code != 1 or ran.peak > 250 * MB:
                fail(f"{more}: ended with {ran.code}, took {ran.peak // MB} MB", ran)
            say(f"{LOG // MB} MB of output of a failure ({kind}), {' '.join(more)}", ran)
        ran = bcache(work, "build", "bad", "--message-format", "json", code=1, most=250)
        for line in ran.out.splitlines():
            json.loads(line)
        say(f"{LOG // MB} MB of output of a failure ({kind}), JSON of {len(ran.out) / MB:.1f} MB", ran)
        shutil.rmtree(work)


ALL = {"steps": steps, "chain": chain, "edges": edges, "targets": targets, "manifest": big_manifest, "files": files, "layer": layer, "big": big, "log": log}


def run(dir, names):
    for name in names or ALL:
        if name not in ALL:
            sys.exit(__doc__)
        (dir / name).mkdir()
        ALL[name](dir / name)
        shutil.rmtree(dir / name)
