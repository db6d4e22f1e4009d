# SPDX-License-Identifier: GPL-2.0
"""The tests of a script in Python: a line for each, and the closing line that `scripts/test` counts."""

results = []


def check(name, good, why=""):
    results.append(bool(good))
    print(f"{'ok' if good else 'not ok'} {len(results)} - {name}", flush=True)
    if not good and why:
        print("\n".join(f"    # {line}" for line in str(why).splitlines()[-12:]), flush=True)


def end():
    """Prints the closing line; returns the exit status."""
    failed = results.count(False)
    print(f"{len(results) - failed} passed, {failed} failed")
    return int(failed > 0)
