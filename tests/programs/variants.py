#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Payloads that are right in form, but not for the kernel that runs.

    variants.py PAYLOAD.kpatch PREFIX

Writes PREFIX.NAME.kpatch without signatures; whoever signs them with the right key makes payloads that only the
checks behind the signature can refuse. Offsets are those of rust-kmod/payload/layout.rs and trailer.rs.
"""

import struct
import sys

MARKER = b"~Module signature appended~\n"


def body_of(payload):
    """The payload without its signature."""
    assert payload.endswith(MARKER)
    (length,) = struct.unpack_from(">I", payload, len(payload) - len(MARKER) - 4)
    return payload[: len(payload) - len(MARKER) - 12 - length]


def section(body, wanted):
    """File offset and size of a section."""
    (table,) = struct.unpack_from("<Q", body, 40)
    count, names = struct.unpack_from("<HH", body, 60)

    def header(index):
        return struct.unpack_from("<IIQQQQ", body, table + 64 * index)

    strings = header(names)[4]
    for index in range(count):
        name, _, _, _, offset, size = header(index)
        start = strings + name
        if body[start : body.index(b"\0", start)] == wanted.encode():
            return offset, size
    raise SystemExit(f"there is no section {wanted}")


def other_build(body):
    """The first byte of the kernel's build-id is another one."""
    at, _ = section(body, ".kcare.objects")
    body[at + 8] ^= 0xFF


def build_id_cut(body):
    """The first four bytes of the kernel's build-id, and no more."""
    at, _ = section(body, ".kcare.objects")
    struct.pack_into("<I", body, at + 4, 4)
    body[at + 12 : at + 28] = bytes(16)


def other_code(body):
    """The last byte of the first function's pre-image that has to match is another one."""
    at, _ = section(body, ".kcare.funcs")
    (size,) = struct.unpack_from("<I", body, at + 16)
    code, _ = section(body, ".kcare.preimages")
    last = max(i for i in range(size) if body[code + size + i] == 0xFF)
    body[code + last] ^= 0x01


def main():
    path, prefix = sys.argv[1:]
    with open(path, "rb") as file:
        good = body_of(file.read())
    variants = {
        "unsigned": lambda body: None,
        "other-build": other_build,
        "build-id-cut": build_id_cut,
        "other-code": other_code,
    }
    for name, change in variants.items():
        body = bytearray(good)
        change(body)
        with open(f"{prefix}.{name}.kpatch", "wb") as file:
            file.write(body)


main()
