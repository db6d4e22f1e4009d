#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""The part of tests/corpus --load that happens in the machine: corpus_load.py DIR.

Applies and takes back each payload of DIR/list in turn, and says in DIR/load.jsonl what came of it: a line before and
a line after each. With DIR/combined.kpatch, that one follows, while clients and servers are busy. Every line of the
kernel's log that is not kcare's own is a complaint.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

DIR = Path(sys.argv[1])
LOAD = Path(__file__).resolve().parent.parent / "demo/load.py"
STAT = Path("/run/corpus.stat")
# Lines of the kernel that come with every live patch, or whenever they like.
HARMLESS = re.compile(r"kcare: |livepatch: |random: crng|systemd|clocksource: |hrtimer: interrupt took|"
                      r"perf: interrupt took")
# A thread of the kernel's own that never leaves its function, and that its administrator can end.
DAMON = Path("/sys/module/damon_stat/parameters/enabled")
# Seconds of work under the combined level, and seconds that may pass until the workload has moved.
BUSY, PATIENCE = 10, 60


class Log:
    """The kernel's log from now on."""

    def __init__(self):
        self.file = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(self.file, 0, os.SEEK_END)

    def complaints(self):
        """What was said by others than kcare; it has to say something itself."""
        found, own = [], 0
        while True:
            try:
                record = os.read(self.file, 8192).decode(errors="replace")
            except BlockingIOError:
                return found if own else [*found, "kcare has said nothing"]
            except BrokenPipeError:
                found.append("lines of the log were lost")
                continue
            text = record.split(";", 1)[1].split("\n")[0]
            own += text.startswith("kcare: ")
            if not HARMLESS.match(text):
                found.append(text)


def note(**what):
    with (DIR / "load.jsonl").open("a") as out:
        out.write(json.dumps(what) + "\n")
        out.flush()
        os.fsync(out.fileno())


def run(*command):
    """What went wrong, if anything."""
    return finish(command)[0]


def push(payload):
    """What went wrong, if anything, and the kernel's reason for that, if it has one."""
    wrong, output = finish(["kcare-push", "--json", payload])
    return wrong, (json.loads(output)["error"]["refusal"] or {}).get("name") if wrong else None


def finish(command):
    """What went wrong, if anything, and the standard output."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    wrong = f"{command[0]}: {done.stderr.strip() or done.stdout.strip()}" if done.returncode else ""
    return wrong, done.stdout


def state():
    return Path("/sys/class/misc/kcare/state").read_text().strip()


def cycle(log, payload, work=lambda: ""):
    """Applies a payload, does some work, and takes it back; gives what went wrong, if anything, and the
    milliseconds to apply. A level that is blocked, by a task that does not leave what changes, has changed nothing."""
    start = time.monotonic()
    wrong, reason = push(payload)
    ms = round(1000 * (time.monotonic() - start))
    if not wrong:
        wrong = work() or run("kcarectl", "--unload")
    if not wrong and state() == "applied":
        wrong = "it is still applied"
    complaints = log.complaints()
    return {"wrong": wrong, "blocked": reason == "blocked", "log": complaints[:20], "ms": ms}


def requests():
    counts = STAT.read_text().split()
    return int(counts[0]), int(counts[1])


def advance(count):
    """Waits until the workload has done so much more; what went wrong, if anything."""
    start, _ = requests()
    deadline = time.monotonic() + PATIENCE
    while requests()[0] < start + count:
        if time.monotonic() > deadline:
            return f"the workload stands still after {requests()[0]} requests"
        time.sleep(0.1)
    return f"{requests()[1]} requests failed" if requests()[1] else ""


def combined(log):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    load = subprocess.Popen([LOAD, STAT])
    deadline = time.monotonic() + PATIENCE
    while not (STAT.exists() and STAT.read_text().split()) and time.monotonic() < deadline:
        time.sleep(0.1)

    def work():
        until, wrong = time.monotonic() + BUSY, ""
        while not wrong and time.monotonic() < until:
            wrong = advance(10)
        return wrong

    try:
        before = work()
        result = cycle(log, DIR / "combined.kpatch", work)
        result["wrong"] = before or result["wrong"] or work()
    finally:
        load.send_signal(signal.SIGTERM)
        load.wait()
    return result


def main():
    wrong = run("modprobe", "kcare")
    if wrong:
        sys.exit(wrong)
    if DAMON.exists():
        DAMON.write_text("N")
    log = Log()
    for name in (DIR / "list").read_text().splitlines():
        note(file=name, begins=True)
        note(file=name, **cycle(log, DIR / "payloads" / f"{name}.kpatch"))
    if (DIR / "combined.kpatch").exists():
        note(file="combined", begins=True)
        note(file="combined", **combined(log))
    wrong = run("rmmod", "kcare")
    if wrong:
        sys.exit(wrong)


if __name__ == "__main__":
    main()
