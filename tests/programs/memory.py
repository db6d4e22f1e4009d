# SPDX-License-Identifier: GPL-2.0
"""The running kernel's memory (/proc/kcore) and names (/proc/kallsyms), for programs beside this one."""

import bisect
import struct


class Memory:
    """Reads kernel memory by address."""

    def __init__(self):
        self.file = open("/proc/kcore", "rb", buffering=0)
        header = self.file.read(64)
        assert header[:6] == b"\x7fELF\x02\x01"
        (table,) = struct.unpack_from("<Q", header, 32)
        size, count = struct.unpack_from("<HH", header, 54)
        self.file.seek(table)
        entries = self.file.read(size * count)
        self.segments = []
        for i in range(count):
            kind, _, offset, start, _, _, length, _ = struct.unpack_from("<IIQQQQQQ", entries, size * i)
            if kind == 1:
                self.segments.append((start, start + length, offset))

    def read(self, address, size):
        """The bytes there."""
        for start, end, offset in self.segments:
            if start <= address and address + size <= end:
                self.file.seek(offset + address - start)
                data = self.file.read(size)
                assert len(data) == size, f"{address:#x} cannot be read"
                return data
        raise SystemExit(f"{address:#x} is not in /proc/kcore")


class Symbols:
    """Names of addresses and addresses of names."""

    def __init__(self):
        self.by_name = {}
        names = {}
        with open("/proc/kallsyms") as lines:
            for line in lines:
                address, _, name, *module = line.split()
                module = module[0].strip("[]") if module else ""
                if module.startswith("__builtin"):
                    continue
                address = int(address, 16)
                self.by_name.setdefault((module, name), address)
                names.setdefault(address, set()).add(name)
        self.addresses = sorted(names)
        self.names = names

    def address(self, name, module=""):
        """Of a name, which must be there."""
        found = self.by_name.get((module, name))
        if not found:
            raise SystemExit(f"there is no {name} {module}")
        return found

    def at(self, address):
        """All names of exactly this address."""
        return self.names.get(address, set())

    def end(self, address):
        """Where the next symbol starts; for the last one, the end of its page."""
        after = bisect.bisect_right(self.addresses, address)
        return self.addresses[after] if after < len(self.addresses) else (address | 0xFFF) + 1
