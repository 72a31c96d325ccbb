"""Running commands and saying medians, for all measurements."""
import os
import pathlib
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BCACHE = os.environ.get("BCACHE", str(ROOT / "target/release/cargo-bcache"))


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
