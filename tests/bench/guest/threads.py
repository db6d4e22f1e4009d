# SPDX-License-Identifier: GPL-2.0
"""How long the machine stops while many threads sleep, or run one after the other: an empty stop, one like it behind a
search of all stacks, as kcare makes before its stop, kcare's, and one with that search in it."""

import statistics
import subprocess
from contextlib import contextmanager
from pathlib import Path

from machine import DIR, ONE, Requests, compare_stops, compare_sums, load, run, status, stops, table

# Threads, how many of them run at a time, and how often a level is applied and taken back.
LOADS = [(50, 0, 20), (500, 0, 20), (5000, 0, 20), (20000, 0, 20), (100000, 0, 20), (20000, 4, 5), (100000, 4, 5)]


@contextmanager
def sleepers(count, moving):
    process = subprocess.Popen([DIR / "sleepers", str(count), str(moving)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, start_new_session=True)
    if not process.stdout.readline():
        raise SystemExit(f"{count} threads cannot be made")
    try:
        yield
    finally:
        process.communicate()


def switches(rounds):
    """Requests, their longest stop in µs, and pushes in ms."""
    requests, pushes = Requests(), []
    load()
    for _ in range(rounds):
        pushes.append(requests.make("kcare-push", ONE))
        requests.make("kcarectl", "--unload")
    longest = status("stop-max-ns") / 1000
    run("rmmod", "kcare")
    return requests, longest, pushes


def measure():
    Path("/proc/sys/kernel/pid_max").write_text("200000")
    Path("/proc/sys/kernel/threads-max").write_text("200000")
    groups, sums, pushes = [], [], []
    for count, moving, rounds in LOADS:
        with sleepers(count, moving):
            # Before and behind, so that a host that gets busy is busy for all.
            first = stops()
            kcare, longest, push = switches(rounds)
            empty, behind, serial = [old + new for old, new in zip(first, stops())]
        name = f"{count} " + ("in turn" if moving else "asleep")
        groups.append([(f"{name}: {what}", samples) for what, samples in
                       [("empty stop_machine()", empty), ("the same behind a search", behind), ("kcare", kcare.stops),
                        ("all stacks searched in it", serial)]])
        sums.append((name, kcare, empty, longest))
        pushes.append((name, statistics.median(push)))
    compare_stops("machine stopped beside threads, us", groups)
    compare_sums("worst request beside threads, us of stops", sums)
    table("from push to patched beside threads", [("ms", ".1f"), ("ratio", ".2f")],
          [(name, (ms, ms / pushes[0][1])) for name, ms in pushes])
