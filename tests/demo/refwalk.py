#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does a file that is covered by a mount show through while its name is removed?

A name that is removed in one mount namespace loses its mounts in the others. Who is just then on his way to it must
get to the mount or find no name, but not the file below. A file system of our own (FUSE) answers the kernel's
question about the name only when the name has been removed, so that there is no need for luck.
"""

import errno
import os
import select
import signal
import struct

from common import MS_BIND, conclude, guarded, mount, private_mounts, read

DIRECTORY = "/run/kcare-demo"
FILE = DIRECTORY + "/file"
SECRET = b"the secret"

# include/uapi/linux/fuse.h
LOOKUP, FORGET, GETATTR, UNLINK, OPEN, READ, RELEASE, FLUSH, INIT, BATCH_FORGET = 1, 2, 3, 10, 14, 15, 18, 25, 26, 42
ROOT_NODE, FILE_NODE = 1, 2
REQUEST = struct.Struct("<IIQQIIIHH")  # length, operation, number, node, uid, gid, pid, extensions, padding


def attributes(node):
    mode = 0o40755 if node == ROOT_NODE else 0o100644
    return struct.pack("<6Q10I", node, len(SECRET), 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


# Both times of validity are 0: the kernel asks again every time.
ENTRY = struct.pack("<4Q2I", FILE_NODE, 0, 0, 0, 0, 0) + attributes(FILE_NODE)


class Server:
    """The file system, and the two processes it plays with: a reader, and one that removes the name."""

    def __init__(self):
        self.device = os.open("/dev/fuse", os.O_RDWR)
        mount("kcare-demo", DIRECTORY, "fuse",
              data=f"fd={self.device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}")
        self.covered = self.removed = self.result = b""
        self.gone = False
        self.withheld = None
        self.pipes = {name: os.pipe() for name in ("covered", "again", "remove", "removed", "result")}
        self.reader = self.spawn(self.read_file)
        self.remover = self.spawn(self.remove_file)

    def spawn(self, job):
        pid = os.fork()
        if pid == 0:
            # Else this process would keep alive the file system that it may wait for.
            os.close(self.device)
            try:
                job()
            finally:
                os._exit(0)
        return pid

    def stop(self):
        # Who waits for the file system gets an error when that is gone.
        os.close(self.device)
        for pid in (self.reader, self.remover):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)

    def tell(self, name, data=b"x"):
        os.write(self.pipes[name][1], data)

    def hear(self, name):
        return os.read(self.pipes[name][0], 256)

    def read_file(self):
        os.unshare(os.CLONE_NEWNS)
        mount("/dev/null", FILE, flags=MS_BIND)
        if read(FILE):
            return
        self.tell("covered")
        self.hear("again")
        try:
            self.tell("result", b"+" + read(FILE).encode())
        except OSError as error:
            self.tell("result", b"-" + errno.errorcode[error.errno].encode())

    def remove_file(self):
        self.hear("remove")
        # Here nothing covers it, so it may be removed.
        os.unlink(FILE)
        self.tell("removed")

    def reply(self, number, data=b"", error=0):
        os.write(self.device, struct.pack("<IiQ", 16 + len(data), -error, number) + data)

    def answer(self, request):
        _, operation, number, node, _, _, pid, _, _ = REQUEST.unpack_from(request)
        if operation == INIT:
            self.reply(number, struct.pack("<4I2HI40x", 7, 31, 65536, 0, 12, 10, 65536))
        elif operation == LOOKUP and self.gone:
            self.reply(number, error=errno.ENOENT)
        elif operation == LOOKUP and self.covered and pid == self.reader and self.withheld is None:
            self.withheld = number
            self.tell("remove")
        elif operation == LOOKUP:
            self.reply(number, ENTRY)
        elif operation == GETATTR:
            self.reply(number, bytes(16) + attributes(node))
        elif operation == OPEN:
            self.reply(number, bytes(16))
        elif operation == READ:
            offset, size = struct.unpack_from("<QI", request, REQUEST.size + 8)
            self.reply(number, SECRET[offset:offset + size])
        elif operation in (UNLINK, FLUSH, RELEASE):
            self.gone |= operation == UNLINK
            self.reply(number)
        elif operation not in (FORGET, BATCH_FORGET):
            self.reply(number, error=errno.ENOSYS)

    def run(self):
        """Serves until the reader has its result."""
        sources = {self.device: None} | {self.pipes[name][0]: name for name in ("covered", "removed", "result")}
        while not self.result:
            ready = select.select(list(sources), [], [], 20)[0]
            if not ready:
                raise OSError("nobody asks the file system anything")
            for source in ready:
                name = sources[source]
                if name is None:
                    self.answer(os.read(self.device, 1 << 17))
                    continue
                setattr(self, name, self.hear(name))
                if name == "covered":
                    self.tell("again")
                elif name == "removed":
                    self.reply(self.withheld, ENTRY)
        return self.result


def main():
    os.makedirs(DIRECTORY, exist_ok=True)
    private_mounts()
    server = Server()
    try:
        result = server.run()
    finally:
        server.stop()
    if result == b"+" + SECRET:
        conclude(True, f"a reader gets \"{SECRET.decode()}\" from under a mount, while the name is being removed")
    elif result == b"-ENOENT":
        conclude(False, "a reader gets \"No such file\", what is covered stays covered while its name is removed")
    raise OSError(f"unexpected: the reader got {result!r}")


guarded(main)
