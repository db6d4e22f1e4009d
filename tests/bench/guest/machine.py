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
