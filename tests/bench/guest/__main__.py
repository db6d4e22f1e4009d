# SPDX-License-Identifier: GPL-2.0
"""The part of the benchmark that runs in the machine: `python3 guest DIR [PART]...` measures in one boot."""

import os
import sys

import blocker
import calls
import functions
import latency
import threads
from machine import count_stops, run

sys.stdout.reconfigure(line_buffering=True)
# A slow console is in nobody's way.
run("dmesg", "--console-level", "emerg")
count_stops()
print(f"kernel {os.uname().release}, {os.cpu_count()} CPUs")
print()
for part in [calls, threads, functions, blocker, latency]:
    if part.__name__ in sys.argv[2:] or not sys.argv[2:]:
        part.measure()
