# SPDX-License-Identifier: GPL-2.0
"""How long the machine stops while many threads sleep: an empty stop, one like it behind a search of all stacks, as
kcare makes before its stop, kcare's, and one with that search in it."""

import statistics
import subprocess
from contextlib import contextmanager
from pathlib import Path

from machine import DIR, ONE, compare_stops, load, run, stop, stops, table, timed, unload

COUNTS = [50, 500, 5000, 20000]
ROUNDS = 20


@contextmanager
def sleepers(count):
    process = subprocess.Popen([DIR / "sleepers", str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               start_new_session=True)
    if not process.stdout.readline():
        raise SystemExit(f"{count} threads cannot be made")
    try:
        yield
    finally:
        process.communicate()


def switches():
    """Lengths of kcare's stops in µs, and of pushes in ms."""
    lengths, pushes = [], []
    load()
    for _ in range(ROUNDS):
        pushes.append(timed("kcare-push", ONE))
        lengths.append(stop())
        unload()
        lengths.append(stop())
    run("rmmod", "kcare")
    return lengths, pushes


def measure():
    Path("/proc/sys/kernel/pid_max").write_text("100000")
    Path("/proc/sys/kernel/threads-max").write_text("50000")
    groups, pushes = [], []
    for count in COUNTS:
        with sleepers(count):
            # Before and behind, so that a host that gets busy is busy for all.
            first = stops()
            kcare, push = switches()
            empty, behind, serial = [old + new for old, new in zip(first, stops())]
        groups.append([(f"{count} threads: {name}", samples) for name, samples in
                       [("empty stop_machine()", empty), ("the same behind a search", behind), ("kcare", kcare),
                        ("all stacks searched in it", serial)]])
        pushes.append((f"{count} threads", statistics.median(push)))
    compare_stops("machine stopped while threads sleep, us", groups)
    table("from push to patched", [("ms", ".1f"), ("ratio", ".2f")],
          [(name, (ms, ms / pushes[0][1])) for name, ms in pushes])
