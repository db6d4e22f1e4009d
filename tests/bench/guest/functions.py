# SPDX-License-Identifier: GPL-2.0
"""A level of hundreds of functions beside a level of one: stops, pushes, relocations, memory."""

import re
import statistics

from calls import call_cost
from machine import MANY, ONE, Requests, compare_stops, compare_sums, kernel_log, load, run, status, stops, table, timed

ROUNDS = 20


class Level:
    """What was measured of a level."""

    def __init__(self, payload):
        self.payload = payload
        self.requests = Requests()
        self.pushes, self.dry_runs, self.held = [], [], []

    def round(self):
        """Tries it, applies it, and takes it back."""
        self.dry_runs.append(timed("kcare-push", "--dry-run", self.payload))
        before = used()
        self.pushes.append(self.requests.make("kcare-push", self.payload))
        self.held.append(used() - before)
        self.functions, self.memory = status("functions"), status("memory")
        self.requests.make("kcarectl", "--unload")

    def relocations(self):
        """How many, and the fastest time for all of them in µs, of the last rounds."""
        line = r"\[ *([\d.]+)\] kcare: (\d+) relocations to fixup.*\n\[ *([\d.]+)\] kcare: fixed"
        found = [(int(count), float(end) - float(start)) for start, count, end in re.findall(line, kernel_log())]
        count = max(count for count, _ in found)
        return count, min(seconds for each, seconds in found if each == count) * 1e6


def used():
    """Bytes that vmalloc and the slab caches hold; those that can be given back left out."""
    with open("/proc/meminfo") as file:
        numbers = dict(re.findall(r"(\w+): +(\d+) kB", file.read()))
    return 1024 * (int(numbers["VmallocUsed"]) + int(numbers["SUnreclaim"]))


def measure():
    one, many = Level(ONE), Level(MANY)
    call_ns = call_cost(0)
    empty = stops()[0]
    load()
    # In turn, so that a host that gets busy is busy for both.
    for _ in range(ROUNDS):
        one.round()
        many.round()
    run("rmmod", "kcare")
    empty += stops()[0]
    levels = [(f"{level.functions} functions", level) for level in (one, many)]

    compare_stops("machine stopped, us", [[(name, level.requests.stops) for name, level in levels] +
                                          [("empty stop_machine()", empty)]])
    compare_sums("worst request, us of stops", [(name, level.requests, empty, None) for name, level in levels])
    rows = [(name + what, times) for name, level in levels
            for what, times in [("", level.pushes), (": dry run, all taken back", level.dry_runs)]]
    table("from push to patched", [("ms", ".1f"), ("ratio", ".2f")],
          [(name, (statistics.median(ms), statistics.median(ms) / statistics.median(one.pushes))) for name, ms in rows])
    count, us = many.relocations()
    table("relocations", [("ns", ".1f"), ("ratio", ".2f")],
          [("an unpatched call", (call_ns, 1)), (f"one of {count} ({count / us:.1f} M/s)",
                                                 (us * 1000 / count, us * 1000 / count / call_ns))])
    rows = [(name + what, size) for name, level in levels
            for what, size in [(": payload", level.payload.stat().st_size), (": kcare's own account", level.memory),
                               (": vmalloc and slabs", statistics.median(level.held))]]
    table("memory held by a level", [("bytes", ".0f"), ("ratio", ".2f")],
          [(name, (size, size / one.memory)) for name, size in rows])
