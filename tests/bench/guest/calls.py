# SPDX-License-Identifier: GPL-2.0
"""One function: what its calls cost, how long a push takes, and how large a payload is, beside upstream's livepatch."""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from machine import DIR, ONE, load, measured_by, run, table, timed, unload

LIVEPATCH = Path("/sys/kernel/livepatch/livepatch")
ROUNDS = 10


def call_cost(patched):
    """Nanoseconds of one call; checks that the right body runs."""
    found = re.findall(r"patched=(\d) call_ps=(\d+)", measured_by("call_cost"))[-1]
    if int(found[0]) != patched:
        sys.exit(f"the {'new' if patched else 'old'} body was expected to run")
    return int(found[1]) / 1000


def kcare(strategy):
    """Cost of a call, and a push in ms."""
    load(strategy)
    pushes = []
    for _ in range(ROUNDS):
        pushes.append(timed("kcare-push", ONE))
        unload()
    run("kcare-push", ONE)
    cost = call_cost(1)
    unload()
    run("rmmod", "kcare")
    return cost, statistics.median(pushes)


def insmod_livepatch():
    start = time.monotonic_ns()
    run("insmod", DIR / "livepatch.ko")
    while (LIVEPATCH / "transition").read_text().strip() != "0":
        time.sleep(0.001)
    return (time.monotonic_ns() - start) / 1e6


def remove_livepatch():
    (LIVEPATCH / "enabled").write_text("0")
    while LIVEPATCH.exists():
        time.sleep(0.01)
    for _ in range(100):
        if subprocess.run(["rmmod", "livepatch"], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)
    sys.exit("the livepatch module does not go")


def livepatch():
    times = []
    for _ in range(ROUNDS // 2):
        times.append(insmod_livepatch())
        remove_livepatch()
    insmod_livepatch()
    cost = call_cost(1)
    remove_livepatch()
    return cost, statistics.median(times)


def measure():
    """Prints its tables; gives the cost of an unpatched call in ns."""
    plain = call_cost(0)
    direct, push = kcare(1)
    ipmodify, push_ipmodify = kcare(2)
    upstream, insmod = livepatch()
    plain = min(plain, call_cost(0))
    payload, module = ONE.stat().st_size, (DIR / "livepatch.ko").stat().st_size

    costs = [("unpatched", plain), ("kcare, direct", direct), ("kcare, ipmodify", ipmodify),
             ("upstream livepatch", upstream)]
    table("cost of one call", [("ns", ".2f"), ("ratio", ".2f")], [(name, (ns, ns / plain)) for name, ns in costs])
    times = [("kcare, direct", push), ("kcare, ipmodify", push_ipmodify), ("livepatch: insmod to transition", insmod)]
    table("from push to patched", [("ms", ".1f"), ("ratio", ".3f")], [(name, (ms, ms / insmod)) for name, ms in times])
    sizes = [("kcare payload, signed", payload), ("livepatch module, stripped", module)]
    table("size", [("bytes", "d"), ("ratio", ".2f")], [(name, (size, size / module)) for name, size in sizes])
    return plain
