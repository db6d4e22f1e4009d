#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The part of the benchmark that runs on the host: what it takes to build a payload, how large that is, and how fast
its relocations are applied."""

import hashlib
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
BUILDER = REPO / "target/release/kcare-build"
ROUNDS = 3
FIXES = [("a line of fs/proc/cmdline.c", "cmdline"), ("a header, fs/proc/internal.h", "header")]

# What the kernel's own scripts/livepatch/klp-build took for a line of fs/proc/cmdline.c, measured once for 7.2 in
# Debian's cloud configuration without debug information, on 2 processors: seconds, and bytes of the stripped module.
KLP_SECONDS = 33 * 60 + 19
KLP_BYTES = 12144


def builder(*args):
    done = subprocess.run([BUILDER, *args], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"kcare-build {args[0]} failed (status {done.returncode})")
    return json.loads(done.stdout)


def build(kernel, name, out):
    """Reports of several builds, the quickest first, and the payload's size without its signature."""
    payload, plain = out / f"{name}.kpatch", out / f"{name}.unsigned"
    args = ["build", "--quiet", "--json", "--kernel", kernel, "-o"]
    patch = REPO / f"tests/patches/{name}.patch"
    reports = [builder(*args, payload, patch) for _ in range(ROUNDS)]
    return sorted(reports, key=lambda report: report["seconds"]), builder(*args, plain, "--unsigned", patch)["size"]


def corpora():
    """Whole corpus levels that this very kcare-build has built (`tests/corpus --load`): name, seconds, bytes."""
    program = hashlib.sha256(BUILDER.read_bytes()).hexdigest()
    for path in sorted((REPO / "target/corpus").glob("*/corpus.json")):
        corpus = json.loads(path.read_text())
        level = corpus.get("combined") or {}
        if corpus["builder"] == program and "seconds" in level:
            old, new = (name.split("+")[0] for name in (corpus["old"], corpus["new"]))
            name = f"{old}..{new}: {level['fixes']} fixes, {level['functions']} functions"
            yield name, level["seconds"], level["bytes"]


def relocations():
    """Lines of the shared code's own benchmark."""
    done = subprocess.run(["cargo", "bench", "--quiet", "--locked", "-p", "kcare-payload"], cwd=REPO, check=True,
                          stdout=subprocess.PIPE, text=True)
    return [line for line in done.stdout.splitlines() if line.startswith("relocate")]


def main():
    kernel, out = sys.argv[1], Path(sys.argv[2])
    results = [(title, *build(kernel, name, out)) for title, name in FIXES]
    print(f"kernel {kernel}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    print()
    print(f"{'building a payload':42}{'s':>10}{'ratio':>10}")
    for title, reports, _ in results:
        seconds = [report["seconds"] for report in reports]
        print(f"  {title + ', fastest':40}{seconds[0]:10.1f}{seconds[0] / KLP_SECONDS:10.4f}")
        for step in reports[0]["steps"]:
            print(f"    {step['name'][:38]:38}{step['seconds']:10.2f}")
        print(f"  {title + ', median':40}{statistics.median(seconds):10.1f}{statistics.median(seconds) / KLP_SECONDS:10.4f}")
    print(f"  {'klp-build, a line of the same file (*)':40}{KLP_SECONDS:10.1f}{1:10.4f}")
    levels = list(corpora())
    for name, seconds, _ in levels:
        print(f"  {name:40}{seconds:10.1f}{seconds / KLP_SECONDS:10.4f}")
    if not levels:
        print("  (the whole corpus level: this kcare-build has not made it, see `tests/corpus 7.2.9 7.2.11 --load`)")
    print(f"{'size':42}{'bytes':>10}{'ratio':>10}")
    for title, reports, plain in results:
        for form, size in [("", plain), (", signed", reports[0]["size"])]:
            print(f"  {title + form:40}{size:10d}{size / KLP_BYTES:10.2f}")
    for name, _, size in levels:
        print(f"  {name:40}{size:10d}{size / KLP_BYTES:10.2f}")
    print(f"  {'klp-build, stripped module (*)':40}{KLP_BYTES:10d}{1:10.2f}")
    print("  (*) measured once elsewhere, on 2 processors, not in this run")
    print("relocations, natively")
    for line in relocations():
        print(f"  {line}")
    print()


main()
