# SPDX-License-Identifier: GPL-2.0
"""python-tuf, for the scripts that compare with it: Debian's, or one below target/."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("KCARE_TARGET", REPO / "target"))
# The version of Debian 13, and what it makes and verifies signatures with.
WANTED = ["tuf==5.1.0", "securesystemslib[crypto]~=1.0"]


def importable(python):
    """Whether this Python has python-tuf and what it needs."""
    if not Path(python).exists():
        return False
    probe = [python, "-c", "import tuf.ngclient, cryptography"]
    return subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode == 0


def with_python_tuf():
    """Starts this script anew in a Python that has python-tuf: Debian's, or one below target/."""
    own = TARGET / "tuf-python/bin/python"
    if importable(sys.executable):
        return
    for python in ("/usr/bin/python3", own):
        if importable(python):
            os.execv(python, [python, *sys.argv])
    if not importlib.util.find_spec("ensurepip"):
        lib = REPO / "scripts/lib.sh"
        subprocess.run(["bash", "-c", f". '{lib}'; need_packages python3-venv"], check=True)
    subprocess.run([sys.executable, "-m", "venv", own.parent.parent], check=True)
    pip = [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *WANTED], check=True)
    if not importable(own):
        sys.exit(f"tuf: {own} has no python-tuf although pip installed it")
    os.execv(own, [own, *sys.argv])
