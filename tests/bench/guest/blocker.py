# SPDX-License-Identifier: GPL-2.0
"""A task that never leaves a function of the fix, beside upstream's livepatch: when are all others protected, can the
next fix go live, and what does a call cost meanwhile?"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

from calls import call_cost
from machine import DIR, Requests, compare_sums, load, run, status, stops, table, unload

LIVEPATCH = Path("/sys/kernel/livepatch/blocker")


class Blocker:
    """A task in vfork(), whose child pauses. Where it sleeps in the scheduler, /proc does not tell."""

    def __enter__(self):
        self.task = subprocess.Popen([DIR / "straggle", "vfork"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
        while "kernel_clone+" not in Path(f"/proc/{self.task.pid}/stack").read_text():
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
    """Milliseconds until all others are protected, and ns of a call meanwhile and behind it."""
    times = []
    for _ in range(rounds):
        with Blocker():
            start = time.monotonic_ns()
            run("insmod", DIR / "blocker.ko")
            while unpatched() > 1:
                time.sleep(0.01)
            times.append((time.monotonic_ns() - start) / 1e6)
            meanwhile = call_cost(1)
            if subprocess.run(["insmod", DIR / "livepatch.ko"], stderr=subprocess.DEVNULL).returncode == 0:
                sys.exit("two livepatches are in transition")
        while (LIVEPATCH / "transition").read_text().strip() != "0":
            time.sleep(0.01)
        behind = call_cost(1)
        (LIVEPATCH / "enabled").write_text("0")
        while LIVEPATCH.exists():
            time.sleep(0.01)
        while subprocess.run(["rmmod", "blocker"], stderr=subprocess.DEVNULL).returncode:
            time.sleep(0.05)
    return statistics.median(times), meanwhile, behind


def straggles():
    """The task is out, and nobody else."""
    if status("stragglers") != 1:
        sys.exit("there is not one straggler")


def kcare(rounds):
    """Milliseconds of the first and of the next level, all requests, and ns of a call without the task, meanwhile and
    behind it."""
    requests, first, second = Requests(), [], []
    load()
    run("kcare-push", DIR / "blocker.kpatch")
    alone = call_cost(1)
    unload()
    for _ in range(rounds):
        with Blocker():
            first.append(requests.make("kcare-push", DIR / "blocker.kpatch"))
            straggles()
            meanwhile = call_cost(1)
            second.append(requests.make("kcare-push", DIR / "blocker-2.kpatch"))
            straggles()
        while "transition: open" in Path("/dev/kcare").read_text():
            time.sleep(0.01)
        behind = call_cost(1)
        unload()
    run("rmmod", "kcare")
    return statistics.median(first), statistics.median(second), requests, alone, meanwhile, behind


def measure():
    """Prints its tables."""
    plain, empty = call_cost(0), stops()[0]
    first, second, requests, alone, meanwhile, behind = kcare(5)
    upstream, upstream_meanwhile, upstream_behind = livepatch(3)
    table("one task never leaves: all others protected", [("ms", ".0f"), ("ratio", ".3f")],
          [("upstream livepatch", (upstream, 1)), ("kcare", (first, first / upstream)),
           ("kcare, the next fix", (second, second / upstream))])
    print("  upstream livepatch, the next fix            refused")
    compare_sums("worst request beside it, us of stops", [("kcare", requests, empty, None)])
    table("cost of one call", [("ns", ".2f"), ("ratio", ".2f")],
          [(name, (ns, ns / plain)) for name, ns in
           [("unpatched", plain), ("kcare, without such a task", alone), ("kcare, while it is out", meanwhile),
            ("kcare, when it has left", behind), ("upstream livepatch, while it is out", upstream_meanwhile),
            ("upstream livepatch, when it has left", upstream_behind)]])
