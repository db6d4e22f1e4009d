# SPDX-License-Identifier: GPL-2.0
"""What the parts of the benchmark share in the machine: programs, kcare, the kernel's log, tables."""

import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

DIR = Path(sys.argv[1])
ONE, MANY = DIR / "jiffies.kpatch", DIR / "many.kpatch"
KCARE = "/usr/lib/kcare/kcare.ko"
TRACING = Path("/sys/kernel/tracing")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def timed(*command):
    """Milliseconds."""
    start = time.monotonic_ns()
    run(*command)
    return (time.monotonic_ns() - start) / 1e6


def kernel_log():
    return subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout


def measured_by(module):
    """The kernel's log when a module has measured and, as it always does, refused to stay."""
    subprocess.run(["insmod", DIR / f"{module}.ko"], stderr=subprocess.DEVNULL)
    return kernel_log()


def stops():
    """Lengths of empty stops, of empty stops behind a search of all stacks, and of stops with that search: µs."""
    log = measured_by("stops")
    lists = [re.findall(rf"\] {name}_ns ([\d ]+)", log)[-1] for name in ["empty", "behind", "serial"]]
    return [[int(ns) / 1000 for ns in samples.split()] for samples in lists]


def load(strategy=0):
    run("insmod", KCARE, f"redirect={strategy}")


def unload():
    run("kcarectl", "--unload")


def status(field):
    """A number that /dev/kcare tells."""
    return int(re.search(rf"^{field}: (\d+)$", Path("/dev/kcare").read_text(), re.M)[1])


def stop():
    """Length of the last stop: µs."""
    return status("stop-last-ns") / 1000


def count_stops():
    """Has the kernel count from now on how often the machine is stopped."""
    (TRACING / "kprobe_events").write_text("p:bench/stops stop_machine")
    (TRACING / "events/bench/stops/enable").write_text("1")


def counts():
    """Stops of the machine, and context switches of all CPUs, so far."""
    return (int((TRACING / "kprobe_profile").read_text().split()[1]),
            int(re.search(r"^ctxt (\d+)$", Path("/proc/stat").read_text(), re.M)[1]))


class Requests:
    """Requests that switch: of each the length of its last stop and of all of them in µs, how many these were, and how
    many context switches there were meanwhile."""

    def __init__(self):
        self.stops, self.sums, self.counts, self.switches = [], [], [], []

    def make(self, *command):
        """Makes one; gives milliseconds."""
        before = counts()
        ms = timed(*command)
        stops, switches = (after - former for after, former in zip(counts(), before))
        self.stops.append(stop())
        self.sums.append(status("stop-sum-ns") / 1000)
        self.counts.append(stops)
        self.switches.append(switches)
        return ms


def table(title, columns, rows):
    """Prints a table. A column is a name and how its numbers are printed; a row a name and its numbers, or None."""
    print(f"{title:44}" + "".join(f"{name:>10}" for name, _ in columns))
    for name, numbers in rows:
        cells = ("" if number is None else f"{number:{form}}" for number, (_, form) in zip(numbers, columns))
        print(f"  {name:42}" + "".join(f"{cell:>10}" for cell in cells))


def compare_stops(title, groups):
    """Prints lengths of stops in µs: groups of names and samples, each beside the first of its group."""
    rows = []
    for group in groups:
        base = group[0][1]
        for name, us in group:
            fastest, median = min(us), statistics.median(us)
            rows.append((name, (fastest, fastest / min(base), median, median / statistics.median(base), max(us))))
    table(title, [("fastest", ".0f"), ("ratio", ".2f"), ("median", ".0f"), ("ratio", ".2f"), ("longest", ".0f")], rows)


def compare_sums(title, rows):
    """Prints the worst of some requests: rows of a name, requests, empty stops in µs, and the longest single stop in
    µs if that is known."""
    cells = [(name, (max(made.sums), max(made.sums) / statistics.median(empty), longest, max(made.counts),
                     len(made.sums), min(made.switches))) for name, made, empty, longest in rows]
    table(title, [("sum", ".0f"), ("ratio", ".2f"), ("longest", ".0f"), ("stops", "d"), ("requests", "d"),
                  ("switches", "d")], cells)
