# SPDX-License-Identifier: GPL-2.0
"""A machine for the agent, and a web server for it: a folder that stands for /, and a real nginx.

The machine's kernel is named as that of a vendor's tree (`tests/run --build update` makes one), with level 1 live. The
agent works on it short of the kernel.
"""

import hashlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("KCARE_TARGET", REPO / "target"))
KCARECTL = TARGET / "release/kcarectl"
PACKAGES = "faketime nginx-light openssl strace time"
# For this long an answer may take; the agent gives up sooner.
PATIENCE = 200


def install():
    """With the function of scripts/lib.sh, as all do."""
    words = f". {REPO}/scripts/lib.sh; need_packages {PACKAGES}"
    subprocess.run(["bash", "-c", words], check=True, stdout=sys.stderr)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def proc_version(trees, release):
    """What the kernel says in /proc/version: the text of its vmlinux that the tree is named after."""
    name = kernel_of(trees)
    image = (TARGET / "kernels" / release / "vmlinux").read_bytes()
    for found in re.finditer(rb"Linux version [^\n\0]*\n", image):
        if hashlib.sha1(found[0]).hexdigest() == name:
            return found[0]
    raise SystemExit(f"vmlinux of {release} says nothing whose SHA-1 is {name}")


def kernel_of(trees):
    return next(path.name for path in (trees / "two").iterdir() if not path.name.startswith("."))


class Machine:
    """A folder that stands for / of a machine, and the agent on it."""

    def __init__(self, folder, tree, release):
        self.folder = folder
        for place in ("etc/sysconfig/kcare", "usr/share/kcare", "proc/kcare", "proc/sys/kernel/random", "dev"):
            (folder / place).mkdir(parents=True)
        shutil.copy(tree / "keys/1.root.json", folder / "usr/share/kcare/root.json")
        (folder / "proc/version").write_bytes(proc_version(tree, release))
        (folder / "proc/cmdline").write_text("quiet\n")
        (folder / "proc/sys/kernel/random/boot_id").write_text("one\n")
        # Level 1 is live, as the module tells it. What would push finds this in place of a device.
        (folder / "proc/kcare/status").write_text(
            f"state: applied\nkernel-build-id: 00\nlevel: 1\nprevious-level: \nrelease: {release}\ndescription: 1;1\n"
            "build-time: 1\napplied-time: 2\nfunctions: 1\nmemory: 4096\nstop-last-ns: 1\nstop-max-ns: 1\nfailures: 0\n")
        (folder / "dev/kcare").touch()

    def settings(self, server, **more):
        lines = [f"PATCH_SERVER={server}"] + [f"{name}={value}" for name, value in more.items()]
        (self.folder / "etc/sysconfig/kcare/kcare.conf").write_text("\n".join(lines) + "\n")

    def command(self, *words):
        return [KCARECTL, *words, "--root", self.folder, "--device", self.folder / "dev/kcare"]

    def run(self, *words, clock=None, variables=None):
        command = self.command(*words)
        if clock:
            command = ["faketime", clock, *command]
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")} | (variables or {})
        begin = time.monotonic()
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=env,
                              timeout=PATIENCE)
        done.seconds = time.monotonic() - begin
        return done

    def state(self):
        """What is in its files, but for what says when and how the server was asked."""
        found = {}
        for path in sorted(self.folder.rglob("*")):
            if path.is_file() and path.name not in ("lock", "kcare.conf", "poll.json", "backoff.json"):
                found[str(path.relative_to(self.folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found


def certificates(work):
    """An authority of our own, and certificates: a good one, one of another name, one that has expired."""
    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=work)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test CA",
            "-days", "30")
    for name, host, clock in (("good", "localhost", None), ("other", "elsewhere.example", None),
                              ("expired", "localhost", "2020-01-01")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={host}")
        (work / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\n")
        command = ["openssl", "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                   "-days", "10", "-extfile", f"{name}.ext", "-out", f"{name}.pem"]
        subprocess.run((["faketime", clock] if clock else []) + command, check=True, cwd=work, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)


class Nginx:
    def __init__(self, work, www):
        names = ("plain", "403", "404", "500", "loop", "tls", "tls-other", "tls-expired")
        self.ports = {name: free_port() for name in names}
        certificate = {"tls": "good", "tls-other": "other", "tls-expired": "expired"}
        blocks = []
        for name, port in self.ports.items():
            if name.startswith("tls"):
                key = certificate[name]
                blocks.append(f"server {{ listen 127.0.0.1:{port} ssl; root {www}; "
                              f"ssl_certificate {work}/{key}.pem; ssl_certificate_key {work}/{key}.key; }}")
            elif name == "loop":
                blocks.append(f"server {{ listen 127.0.0.1:{port}; return 302 http://127.0.0.1:{port}/again$request_uri; }}")
            elif name == "plain":
                blocks.append(f"server {{ listen 127.0.0.1:{port}; root {www}; }}")
            else:
                blocks.append(f"server {{ listen 127.0.0.1:{port}; return {name}; }}")
        self.log = work / "access"
        config = work / "nginx.conf"
        config.write_text("daemon off; master_process off; user root;\n"
                          f"pid {work}/nginx.pid; error_log {work}/nginx.error;\nevents {{ }}\n"
                          f"http {{ access_log {self.log}; client_body_temp_path {work}/body; {' '.join(blocks)} }}\n")
        self.process = subprocess.Popen(["nginx", "-c", config], stderr=subprocess.DEVNULL)
        for port in self.ports.values():
            for _ in range(100):
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                time.sleep(0.05)

    def address(self, name):
        scheme, host = ("https", "localhost") if name.startswith("tls") else ("http", "127.0.0.1")
        return f"{scheme}://{host}:{self.ports[name]}"
