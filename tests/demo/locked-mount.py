#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Can a user look under a mount with which root covers a file?

In a namespace that a user makes, root's mounts are locked: they stay where they are. Moving another mount beneath
one hands it the lock. A mount of a mount namespace (nsfs) must not get it, as it is left out when mounts are copied,
with all that is on it, and what was covered lies open in the copy.
"""

import os

from common import (MOVE_MOUNT_BENEATH, MS_BIND, OPEN_TREE_CLONE, become_nobody, conclude, guarded, move_mount,
                    mount, open_tree, private_mounts, read, write)

FILE = "/run/kcare-demo-secret"
SECRET = "the secret"


def newer_mount_namespace():
    """A process with a mount namespace that is younger than ours, which can be mounted here therefore."""
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        os.unshare(os.CLONE_NEWNS)
        os.write(tell, b"x")
        # It ends with us.
        os.execlp("sleep", "sleep", "60")
    os.close(tell)
    os.read(ready, 1)
    os.close(ready)
    return pid


def main():
    write(FILE, SECRET)
    os.chmod(FILE, 0o644)
    private_mounts()
    mount("/dev/null", FILE, flags=MS_BIND)

    become_nobody(os.CLONE_NEWNS)
    if read(FILE):
        raise OSError(f"{FILE} is not covered")
    pid = newer_mount_namespace()
    try:
        namespace = open_tree(f"/proc/{pid}/ns/mnt", OPEN_TREE_CLONE)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    try:
        move_mount(namespace, FILE, MOVE_MOUNT_BENEATH)
    except OSError as error:
        refused = error.strerror
    else:
        refused = ""
    # Nothing but a copy of what this user sees.
    os.unshare(os.CLONE_NEWNS)
    seen = read(FILE)
    if seen == SECRET:
        conclude(True, f"an unprivileged user reads \"{seen}\", which root has covered with a mount")
    elif seen == "" and refused:
        conclude(False, f"an unprivileged user gets \"{refused}\", what root has covered stays covered")
    raise OSError(f"unexpected: moving the mount: {refused or 'done'}, the file reads {seen!r}")


guarded(main)
