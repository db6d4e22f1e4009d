#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The part of the benchmark that runs in the machine: measures everything in one boot and prints a table."""

import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

DIR = Path(sys.argv[1])
KCARE = "/usr/lib/kcare/kcare.ko"
PAYLOAD = DIR / "jiffies.kpatch"
LIVEPATCH = Path("/sys/kernel/livepatch/livepatch")
ROUNDS = 10


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def timed(action):
    start = time.monotonic_ns()
    action()
    return (time.monotonic_ns() - start) / 1e6


def kernel_log():
    return subprocess.run(["dmesg"], check=True, capture_output=True, text=True).stdout


def call_cost(patched):
    """Fastest call in ns, fastest and median empty stop in µs; checks that the right body runs."""
    subprocess.run(["insmod", DIR / "call_cost.ko"], stderr=subprocess.DEVNULL)
    line = r"patched=(\d) call_ps=(\d+) stop_ns=(\d+) median_ns=(\d+)"
    found = [int(number) for number in re.findall(line, kernel_log())[-1]]
    if found[0] != patched:
        sys.exit(f"the {'new' if patched else 'old'} body was expected to run")
    return tuple(number / 1000 for number in found[1:])


def wait_for_transition():
    while (LIVEPATCH / "transition").read_text().strip() != "0":
        time.sleep(0.001)


def insmod_livepatch():
    run("insmod", DIR / "livepatch.ko")
    wait_for_transition()


def remove_livepatch():
    (LIVEPATCH / "enabled").write_text("0")
    while LIVEPATCH.exists():
        time.sleep(0.01)
    for _ in range(100):
        if subprocess.run(["rmmod", "livepatch"], stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.05)
    sys.exit("the livepatch module does not go")


def kcare(strategy):
    """One round of kcare: cost of a call, push in ms, stops in µs."""
    run("insmod", KCARE, f"redirect={strategy}")
    push = statistics.median([timed_push() for _ in range(ROUNDS)])
    run("kcare-push", PAYLOAD)
    cost = call_cost(1)[0]
    run("kcarectl", "--unload")
    stops = [int(us) for us in re.findall(r"switched .*stopped for (\d+) us", kernel_log())]
    run("rmmod", "kcare")
    return cost, push, stops[-2 * ROUNDS:]


def timed_push():
    push = timed(lambda: run("kcare-push", PAYLOAD))
    run("kcarectl", "--unload")
    return push


def livepatch():
    times = []
    for _ in range(ROUNDS // 2):
        times.append(timed(insmod_livepatch))
        remove_livepatch()
    insmod_livepatch()
    cost = call_cost(1)[0]
    remove_livepatch()
    return cost, statistics.median(times)


def main():
    plain, empty, empty_median = call_cost(0)
    direct, push, stops = kcare(1)
    ipmodify, push_ipmodify, _ = kcare(2)
    upstream, insmod = livepatch()
    plain = min(plain, call_cost(0)[0])
    payload, module = PAYLOAD.stat().st_size, (DIR / "livepatch.ko").stat().st_size
    threads = sum(len(os.listdir(f"/proc/{p}/task")) for p in os.listdir("/proc") if p.isdigit())

    print(f"kernel {os.uname().release}, {os.cpu_count()} CPUs, {threads} threads")
    print()
    print(f"{'cost of one call':34}{'ns':>10}{'ratio':>10}")
    for name, cost in [("unpatched", plain), ("kcare, direct", direct),
                       ("kcare, ipmodify", ipmodify), ("upstream livepatch", upstream)]:
        print(f"  {name:32}{cost:10.2f}{cost / plain:10.2f}")
    print(f"{'machine stopped':34}{'us':>10}{'ratio':>10}")
    for name, us in [("empty stop_machine(), fastest", empty), ("kcare, fastest", min(stops)),
                     ("empty stop_machine(), median", empty_median),
                     ("kcare, median", statistics.median(stops)), ("kcare, longest", max(stops))]:
        print(f"  {name:32}{us:10.0f}{us / empty:10.2f}")
    print(f"{'from push to patched':34}{'ms':>10}{'ratio':>10}")
    for name, ms in [("kcare, direct", push), ("kcare, ipmodify", push_ipmodify),
                     ("livepatch: insmod to transition", insmod)]:
        print(f"  {name:32}{ms:10.1f}{ms / insmod:10.3f}")
    print(f"{'size':34}{'bytes':>10}{'ratio':>10}")
    print(f"  {'kcare payload, signed':32}{payload:10d}{payload / module:10.2f}")
    print(f"  {'livepatch module, stripped':32}{module:10d}{1:10.2f}")


main()
