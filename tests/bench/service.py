#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""What the service costs: a check, the server of 100 000 agents, and a publication.

A real nginx on loopback, the real agent, and a load generator that sends what the agent does. The ratios are within this
run: processor time beside that of curl, which asks for the same file.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from machine import KCARECTL, REPO, TARGET, Machine, Nginx, certificates, install, kernel_of  # noqa: E402

CHECKS, REQUESTS, KERNELS = 50, 5000, 200
AGENTS, PERIOD = 100_000, 4 * 3600


def cost(command):
    """Processor milliseconds and the largest memory in MiB of a run."""
    before = os.times()
    # A child of ours begins with our own memory, one of time(1) with that of time.
    done = subprocess.run(["/usr/bin/time", "-q", "-f", "%M", *command], env={"PATH": os.environ["PATH"]}, check=False,
                          stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    after = os.times()
    assert done.returncode in (0, 2), (command, done.stderr)
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return used * 1000, int(done.stderr.splitlines()[-1]) / 1024


def costs(command):
    runs = [cost([str(word) for word in command]) for _ in range(CHECKS)]
    return sum(ms for ms, _ in runs) / CHECKS, max(memory for _, memory in runs)


def ticks(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def traffic(port, request):
    """Bytes on the wire of a request and its answer, without the headers of TCP."""
    with socket.create_connection(("127.0.0.1", port)) as s:
        s.sendall(request)
        return len(request), len(s.recv(65536))


def line(name, value, unit, ratio=None):
    print(f"  {name:58}{value:>12} {unit:8}{'' if ratio is None else f'{ratio:8.4f}'}")


def main():
    kernel = sys.argv[1]
    trees = TARGET / "payloads" / kernel / "tree"
    subprocess.run([REPO / "tests/run", "--kernel", kernel, "--build", "update"], check=True)
    install()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        certificates(work)
        (work / "machine").mkdir()
        nginx = Nginx(work, trees / "two")
        try:
            machine = Machine(work / "machine", trees, kernel)
            machine.settings(nginx.address("plain"))
            machine.run("--check")
            etag = subprocess.run(["curl", "-sI", f"{nginx.address('plain')}/{kernel_of(trees)}/timestamp.json"], check=True,
                                  stdout=subprocess.PIPE, text=True).stdout
            etag = re.search(r"(?i)etag: (\S+)", etag)[1]
            url = f"{nginx.address('plain')}/{kernel_of(trees)}/timestamp.json"
            request = (f"GET /{kernel_of(trees)}/timestamp.json HTTP/1.1\r\naccept: */*\r\naccept-encoding: identity\r\n"
                       f"host: 127.0.0.1:{nginx.ports['plain']}\r\nif-none-match: {etag}\r\nuser-agent: kcare/0.1.0\r\n\r\n").encode()
            sent, received = traffic(nginx.ports["plain"], request)
            print(f"kernel {kernel}, {os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}\n")
            print(f"{'a check that finds nothing new':60}{'':>12} {'':8}{'ratio':>8}")
            check, memory = costs(machine.command("--check"))
            curl, _ = costs([shutil.which("curl"), "-s", "-o", "/dev/null", "-H", f"If-None-Match: {etag}", url])
            line("bytes sent and received (304)", f"{sent} + {received}", "bytes")
            line("processor time, mean; beside curl", f"{check:.1f}", "ms", check / curl)
            line("largest memory; beside 10 MiB", f"{memory:.1f}", "MiB", memory / 10)
            line("kcarectl on disk", f"{KCARECTL.stat().st_size / 2**20:.1f}", "MiB")
            status, memory = costs(machine.command("--status"))
            line("--status for comparison, processor time; beside curl", f"{status:.1f}", "ms", status / curl)

            print(f"\n{f'{AGENTS} agents in {PERIOD // 3600} hours: {AGENTS / PERIOD:.1f} a second':60}{'':>12} {'':8}{'share':>8}")
            pid = nginx.process.pid
            before = ticks(pid)
            for _ in range(REQUESTS):
                traffic(nginx.ports["plain"], request)
            each = (ticks(pid) - before) / REQUESTS
            line("nginx, processor time of a 304; share of a core", f"{each:.3f}", "ms", each / 1000 * AGENTS / PERIOD)
            for name, settings in (("plain", {}), ("tls", {"CA_BUNDLE": work / "ca.pem"})):
                machine.settings(nginx.address(name), **settings)
                machine.run("--check")
                before = ticks(pid)
                for _ in range(4 * CHECKS):
                    machine.run("--check")
                each = (ticks(pid) - before) / (4 * CHECKS)
                line(f"nginx, the real agent by {'HTTPS' if name == 'tls' else 'HTTP'}; share of a core", f"{each:.3f}", "ms",
                     each / 1000 * AGENTS / PERIOD)
        finally:
            nginx.process.kill()
            nginx.process.wait()

        print(f"\n{f'publishing one level for {KERNELS} kernels':60}")
        tree, level = trees / "keys", trees / "1.kpatch"
        begin = time.monotonic()
        for number in range(KERNELS):
            subprocess.run([TARGET / "release/kcare-build", "publish", "add", "--keys", tree, "--kernel", kernel,
                            work / f"trees/{number}", level], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - begin
        line("each into a tree of its own, all", f"{seconds:.1f}", "s")
        line("for one kernel", f"{seconds / KERNELS * 1000:.0f}", "ms")


if __name__ == "__main__":
    main()
