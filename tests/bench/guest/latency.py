# SPDX-License-Identifier: GPL-2.0
"""How long other programs are kept waiting while a level is applied and replaced; beside it, while ftrace alone is
given as many functions, and while a livepatch comes."""

import json
import statistics
import subprocess
import time
from pathlib import Path

from calls import insmod_livepatch, remove_livepatch
from machine import DIR, MANY, ONE, TRACING, load, run, stop, table, unload

ROUNDS = 50
# Until a thread that was kept waiting has run again: seconds.
SETTLE = 0.005


class Probe:
    """The program that times its own gaps, and the answers to its requests."""

    def __init__(self):
        run("ip", "link", "set", "lo", "up")
        self.process = subprocess.Popen([DIR / "latency"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def longest(self):
        """The longest of both since the last call: µs."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return [int(ns) / 1000 for ns in self.process.stdout.readline().split()]

    def during(self, action):
        """The longest of both while something is done."""
        self.longest()
        action()
        time.sleep(SETTLE)
        return self.longest()

    def end(self):
        self.process.communicate()


def refused():
    """A payload like MANY whose signature is wrong."""
    content = bytearray(MANY.read_bytes())
    content[len(content) // 2] ^= 1
    path = Path("/tmp/refused.kpatch")
    path.write_bytes(content)
    return path


def push(payload):
    return lambda: subprocess.run(["kcare-push", payload], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def trace():
    """Has ftrace look at as many functions as MANY changes, and at none."""
    (TRACING / "current_tracer").write_text("function")
    (TRACING / "current_tracer").write_text("nop")


def measure():
    """Dry runs do all but the switch; of what is refused only the signature is checked."""
    functions = json.loads(MANY.with_suffix(".json").read_text())["functions"]
    (TRACING / "set_ftrace_filter").write_text("\n".join(functions))
    took = 0.1
    windows = [("nothing", lambda: time.sleep(took), []),
               (f"{len(functions)} functions traced", trace, []),
               ("upstream livepatch, insmod", insmod_livepatch, []),
               ("replace, signature refused", push(refused()), []),
               ("apply, dry run", lambda: run("kcare-push", "--dry-run", ONE), []),
               ("apply", lambda: run("kcare-push", ONE), []),
               ("replace, dry run", lambda: run("kcare-push", "--dry-run", MANY), []),
               ("replace", lambda: run("kcare-push", MANY), [])]
    lengths = []
    load()
    probe = Probe()
    for _ in range(ROUNDS):
        for name, action, samples in windows:
            start = time.monotonic()
            samples.append(probe.during(action))
            took = time.monotonic() - start
            if name in ["apply", "replace"]:
                lengths.append(stop())
            elif action == insmod_livepatch:
                remove_livepatch()
        unload()
    probe.end()
    run("rmmod", "kcare")

    rows = []
    for name, _, samples in windows:
        gaps, answers = zip(*samples)
        rows.append((name, (statistics.median(gaps), max(gaps), statistics.median(answers), max(answers))))
    rows.append(("kcare's stop", (statistics.median(lengths), max(lengths), None, None)))
    table(f"longest of a window, {ROUNDS} windows, us", [("gap", ".0f"), ("longest", ".0f"), ("answer", ".0f"),
                                                        ("longest", ".0f")], rows)
