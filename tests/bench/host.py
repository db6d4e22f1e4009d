#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The part of the benchmark that runs on the host: what it takes to build a payload, how large that is, how fast its
relocations are applied, and how long kcare-build takes to answer what becomes of a change."""

import contextlib
import ctypes
import hashlib
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent.parent
BUILDER = REPO / "target/release/kcare-build"
ROUNDS = 3
FIXES = [("a line of fs/proc/cmdline.c", "cmdline"), ("a header, fs/proc/internal.h", "header")]

# What the kernel's own scripts/livepatch/klp-build took for a line of fs/proc/cmdline.c, measured once for 7.2 in
# Debian's cloud configuration without debug information, on 2 processors: seconds, and bytes of the stripped module.
KLP_SECONDS = 33 * 60 + 19
KLP_BYTES = 12144

# Changes, and in how many seconds kcare-build should answer what becomes of each, on 2 processors with nothing else to do.
ANSWERS = [
    ("a line of fs/proc/cmdline.c", "patches/cmdline", 3),
    ("a prototype in fs/proc/internal.h", "bench/prototype", 20),
    ("linux/sched.h, an inline function", "bench/sched-body", 240),
    ("linux/sched.h, a declaration", "bench/sched-declaration", 240),
]
# Of linux/prctl.h.
PR_SET_CHILD_SUBREAPER = 36
# Exit statuses of kcare-build that are answers.
SAYS = {0: "built", 3: "nothing changed", 4: "refused"}


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


@contextlib.contextmanager
def without_caches(kernel):
    """Sets aside what kcare-build keeps of a kernel, and brings it back in the end."""
    folder = Path(os.environ.get("KCARE_KERNELS", REPO / "target/kernels")) / kernel
    aside = folder / "set-aside"
    kept = [] if aside.exists() else list(folder.glob("kcare-*"))
    # It is there if an earlier run was killed, and then holds the right ones.
    aside.mkdir(exist_ok=True)
    for cache in kept:
        cache.rename(aside / cache.name)
    try:
        yield lambda: remove(folder.glob("kcare-*"))
    finally:
        remove(folder.glob("kcare-*"))
        for cache in aside.iterdir():
            cache.rename(folder / cache.name)
        aside.rmdir()


def remove(caches):
    for cache in caches:
        if cache.is_dir():
            shutil.rmtree(cache)
        else:
            cache.unlink()


def processor_seconds():
    """Of all processes that were started here and have ended."""
    # Those in a build root are left behind by the program that entered it.
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def answer(kernel, name, out):
    """Seconds, processor seconds, and what kcare-build says."""
    start, before = time.monotonic(), processor_seconds()
    done = subprocess.run([BUILDER, "build", "--json", "--quiet", "--kernel", kernel, "-o", out / "answer.kpatch",
                           REPO / f"tests/{name}.patch"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    seconds, busy = time.monotonic() - start, processor_seconds() - before
    if done.returncode not in SAYS:
        sys.exit(f"kcare-build says nothing about {name} (status {done.returncode}):\n{done.stderr}")
    return seconds, busy, SAYS[done.returncode]


def answers(kernel, out):
    """The table of answers, a line as soon as it is there; a multiple is of the first change's time with caches."""
    print(f"{'time to the first answer':42}{'s':>10}{'CPU s':>10}{'multiple':>10}{'limit':>7}{'of it':>8}")
    if ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        sys.exit("the kernel does not let a process wait for what its children leave behind")
    first = None
    with without_caches(kernel) as forget:
        for title, name, limit in ANSWERS:
            forget()
            cold = answer(kernel, name, out)
            # A long one tells enough once.
            warm = min(answer(kernel, name, out) for _ in range(ROUNDS if cold[0] < 60 else 1))
            first = first or warm[0]
            for form, (seconds, busy, says) in [("no caches", cold), ("caches", warm)]:
                print(f"  {f'{title}, {form}':50}{seconds:8.1f}{busy:8.1f}{seconds / first:8.1f}{limit:7}{seconds / limit:8.2f}"
                      f"  {says}", flush=True)


def main():
    kernel, out = sys.argv[1], Path(sys.argv[2])
    if sys.argv[3:] == ["answers"]:
        print(f"kernel {kernel}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
        answers(kernel, out)
        return
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
    answers(kernel, out)
    print()


main()
