# SPDX-License-Identifier: GPL-2.0
"""What the programs of the demo share: their verdict, and system calls that Python has no function for.

A program says in one line what the kernel did. Its exit status is SOUND if that was right, FAULTY if that was the
fault that the fix is for, and anything else if it could not tell.
"""

import ctypes
import os
import sys

SOUND = 0
FAULTY = 10

NOBODY = 65534

# include/uapi/linux/mount.h and fs.h
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
OPEN_TREE_CLONE = 1
AT_RECURSIVE = 0x8000
MOVE_MOUNT_F_EMPTY_PATH = 4
MOVE_MOUNT_BENEATH = 0x200
MNT_DETACH = 2
AT_FDCWD = -100
PR_SET_DUMPABLE = 4
# arch/x86/entry/syscalls/syscall_64.tbl
SYS_OPEN_TREE = 428
SYS_MOVE_MOUNT = 429

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result):
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def mount(source, target, kind=None, flags=0, data=None):
    text = [None if x is None else x.encode() for x in (source, target, kind, data)]
    _check(_libc.mount(text[0], text[1], text[2], ctypes.c_ulong(flags), text[3]))


def umount(target, flags=0):
    _check(_libc.umount2(target.encode(), flags))


def open_tree(path, flags):
    return _check(_libc.syscall(SYS_OPEN_TREE, AT_FDCWD, path.encode(), flags))


def move_mount(fd, target, flags=0):
    """Mounts the tree that open_tree() has cloned."""
    _check(_libc.syscall(SYS_MOVE_MOUNT, fd, b"", AT_FDCWD, target.encode(), flags | MOVE_MOUNT_F_EMPTY_PATH))


def private_mounts():
    """A mount namespace of our own, from which nothing propagates."""
    os.unshare(os.CLONE_NEWNS)
    mount(None, "/", flags=MS_REC | MS_PRIVATE)


def become_nobody(namespaces):
    """Becomes an ordinary user, with a user namespace and these others of his own: all that any user may have."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # Who changes his user id loses the right to his own /proc/self.
    _libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)
    os.unshare(os.CLONE_NEWUSER | namespaces)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"0 {NOBODY} 1")
    write("/proc/self/gid_map", f"0 {NOBODY} 1")


def read(path):
    with open(path, encoding="ascii") as file:
        return file.read()


def write(path, text):
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def conclude(faulty, text):
    """Says what the kernel did, and ends the program."""
    print(text, flush=True)
    sys.exit(FAULTY if faulty else SOUND)


def guarded(main):
    """Runs the program; a failure of its own is no verdict."""
    try:
        main()
    except OSError as error:
        sys.exit(f"{os.path.basename(sys.argv[0])}: {error}")
