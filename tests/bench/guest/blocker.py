# SPDX-License-Identifier: GPL-2.0
"""A task that never leaves a function of the fix, beside upstream's livepatch: when are all others protected, can the next
fix go live, and what does a call cost meanwhile?"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from calls import call_cost
from machine import DIR, load, run, status, table, timed, unload

LIVEPATCH = Path("/sys/kernel/livepatch/blocker")
ROUNDS = 5


class Blocker:
    """A task in vfork(), whose child pauses."""

    def __enter__(self):
        self.task = subprocess.Popen([DIR / "straggle", "vfork"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        while "wait_for_completion_state" not in Path(f"/proc/{self.task.pid}/stack").read_text():
            time.sleep(0.01)
        return self

    def __exit__(self, *_):
        self.task.stdin.close()
        self.task.wait()


def unpatched():
    """Threads that are not in the livepatch's state."""
    states = []
    for path in Path("/proc").glob("[0-9]*/task/*/patch_state"):
        try:
            states.append(path.read_text().strip())
        except (FileNotFoundError, ProcessLookupError):
            pass
    return sum(state != "1" for state in states)


def livepatch(rounds):
    """Milliseconds until all others are protected; whether the next one is refused then."""
    times, refused = [], []
    for _ in range(rounds):
        with Blocker():
            start = time.monotonic_ns()
            run("insmod", DIR / "blocker.ko")
            while unpatched() > 1:
                time.sleep(0.01)
            times.append((time.monotonic_ns() - start) / 1e6)
            other = subprocess.run(["insmod", DIR / "livepatch.ko"], stderr=subprocess.DEVNULL)
            refused.append(other.returncode != 0)
            if other.returncode == 0:
                sys.exit("two livepatches are in transition")
        while (LIVEPATCH / "transition").read_text().strip() != "0":
            time.sleep(0.01)
        (LIVEPATCH / "enabled").write_text("0")
        while LIVEPATCH.exists():
            time.sleep(0.01)
        while subprocess.run(["rmmod", "blocker"], stderr=subprocess.DEVNULL).returncode:
            time.sleep(0.05)
    return statistics.median(times), all(refused)


def stragglers():
    return int(Path("/sys/class/misc/kcare/stragglers").read_text())


def kcare(rounds):
    """Milliseconds of the first and of the second level, the stops of the first in µs, and ns of a call."""
    first, second, sums = [], [], []
    load()
    for _ in range(rounds):
        with Blocker():
            first.append(timed("kcare-push", DIR / "blocker.kpatch"))
            sums.append(status("stop-sum-ns") / 1000)
            if stragglers() != 1:
                sys.exit("there is no straggler")
            meanwhile = call_cost(1)
            second.append(timed("kcare-push", DIR / "blocker-2.kpatch"))
            if stragglers() != 1:
                sys.exit("the straggler is gone")
        while stragglers():
            time.sleep(0.01)
        behind = call_cost(1)
        unload()
    run("rmmod", "kcare")
    return statistics.median(first), statistics.median(second), max(sums), meanwhile, behind


def measure():
    """Prints its tables."""
    plain = call_cost(0)
    first, second, sums, meanwhile, behind = kcare(ROUNDS)
    upstream, refused = livepatch(3)
    table("one task never leaves: all others protected", [("ms", ".0f"), ("ratio", ".3f")],
          [("kcare", (first, first / upstream)), ("upstream livepatch", (upstream, 1)),
           ("kcare, the next fix", (second, second / upstream))])
    print(f"  upstream livepatch, the next fix: {'refused' if refused else 'live'}")
    print(f"  kcare, worst sum of stops of one request: {sums:.0f} us")
    table("cost of one call", [("ns", ".2f"), ("ratio", ".2f")],
          [("unpatched", (plain, 1)), ("while the task is out", (meanwhile, meanwhile / plain)),
           ("when it has left", (behind, behind / plain))])
