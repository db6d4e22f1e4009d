#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Makes a patch that changes many functions: many.py KERNEL COUNT, with the directory of a prepared kernel.

Takes functions of fs/proc, where no task sleeps, and gives each one instruction more; units with many come first, so
that few have to be built. A function counts if it has a symbol of its own, which no other has, and no part in what
runs at boot only.
"""

import collections
import difflib
import re
import sys
from pathlib import Path

FOLDER = "fs/proc"
CHANGE = '\tasm volatile("nop");\n'
# Of these there is no copy that could be redirected.
UNFIT = re.compile(r"\b(inline|__always_inline|__ref|noinstr|notrace)\b")
INIT = re.compile(r"\b(__init|__exit)\b")


def symbols(kernel):
    """Names of exactly one function each."""
    lines = (line.split() for line in (kernel / "System.map").read_text().splitlines())
    count = collections.Counter(name for _, kind, name in lines if kind in "tT")
    return {name for name, times in count.items() if times == 1}


def functions(lines):
    """Of each function the line where its body opens, its name, its head, and the words of its body."""
    for index, line in enumerate(lines):
        if line != "{\n":
            continue
        start = index
        while start > 0 and re.match(r"\w|[ \t]+\w", lines[start - 1]):
            start -= 1
        head = " ".join(line.strip() for line in lines[start:index])
        name = re.search(r"(\w+)\(", head)
        if name and head.endswith(")"):
            end = lines.index("}\n", index)
            yield index, name[1], head, set(re.findall(r"\w+", "".join(lines[index:end])))


def fit(lines, names):
    """The lines where the bodies of functions open that can be changed."""
    found = list(functions(lines))
    # What runs at boot only may have these inlined.
    boot = {name for _, name, head, _ in found if INIT.search(head)}
    while True:
        called = boot.union(*(words for _, name, _, words in found if name in boot))
        if called == boot:
            break
        boot = called
    return [index for index, name, head, _ in found if name in names - boot and not UNFIT.search(head)]


def main():
    kernel, wanted = Path(sys.argv[1]), int(sys.argv[2])
    names = symbols(kernel)
    units = {path: path.read_text().splitlines(keepends=True) for path in (kernel / "source" / FOLDER).glob("*.c")}
    fits = {path: fit(lines, names) for path, lines in units.items()}
    for path in sorted(units, key=lambda path: (-len(fits[path]), path)):
        take = set(fits[path][:wanted])
        wanted -= len(take)
        old = units[path]
        new = [part for index, line in enumerate(old) for part in ([line, CHANGE] if index in take else [line])]
        name = f"{FOLDER}/{path.name}"
        sys.stdout.writelines(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", n=1))
    if wanted:
        sys.exit(f"{FOLDER} has {wanted} functions too few")


main()
