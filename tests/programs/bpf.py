#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0
"""A BPF program that stays until the standard input ends, for what bpftrace cannot do; prints "attached" when it is.

    bpf.py hold ADDRESS    at one address, with a reference to the module that the address lies in (kprobe.multi)
    bpf.py sleep FUNCTION  at the entry of a system call's function, whose first argument it reads from user space, so
                           that it sleeps while that page is not there (fentry.s, bpf_copy_from_user())
    bpf.py exit FUNCTION   at the return of a function, which its trampoline calls; each call is a line "kcare-exit" of
                           the trace (fexit)
    bpf.py deny FUNCTION   answers -EPERM in place of a hook of the kernel's security modules (fmod_ret)
"""

import ctypes
import os
import struct
import sys

SYS_BPF = 321
# enum bpf_cmd, bpf_prog_type and bpf_attach_type of include/uapi/linux/bpf.h.
PROG_LOAD, RAW_TRACEPOINT_OPEN, LINK_CREATE = 5, 17, 28
TYPE_KPROBE, TYPE_TRACING = 2, 26
FENTRY, FEXIT, MODIFY_RETURN, KPROBE_MULTI = 24, 25, 26, 42
SLEEPABLE = 1 << 4
TRACE_PRINTK, COPY_FROM_USER = 6, 148
# Offset of struct pt_regs' di, a system call's first argument.
DI = 112
# Bytes behind struct btf_type for each kind, and for each member of one (include/uapi/linux/btf.h).
FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
PER_MEMBER = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
KIND_FUNC = 12


def bpf(command, attr):
    """Makes the system call with a union bpf_attr."""
    libc = ctypes.CDLL(None, use_errno=True)
    result = libc.syscall(SYS_BPF, command, attr, len(attr))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), f"bpf command {command}")
    return result


def insn(code, dst=0, src=0, off=0, imm=0):
    """One instruction."""
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


def load(kind, attach, instructions, flags=0, btf_id=0):
    """Loads a program."""
    code = ctypes.create_string_buffer(b"".join(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    log = ctypes.create_string_buffer(1 << 16)
    attr = struct.pack(
        "<IIQQIIQII16sIIIIQIIQII",
        *(kind, len(instructions), ctypes.addressof(code), ctypes.addressof(licence)),
        *(1, len(log), ctypes.addressof(log), 0, flags, b"kcare_test", 0, attach, 0, 0, 0, 0, 0, 0, 0, btf_id),
    )
    try:
        return bpf(PROG_LOAD, attr)
    except OSError:
        sys.stderr.buffer.write(log.value)
        raise


def btf_id(function):
    """The number of a function in the kernel's BTF."""
    with open("/sys/kernel/btf/vmlinux", "rb") as file:
        data = file.read()
    header, types, types_size, strings = struct.unpack_from("<4xIIII", data)
    wanted = data.index(b"\0" + function.encode() + b"\0", header + strings) + 1 - header - strings
    at, end, number = header + types, header + types + types_size, 0
    while at < end:
        number += 1
        name, info = struct.unpack_from("<II", data, at)
        kind, members = info >> 24 & 0x1F, info & 0xFFFF
        if kind == KIND_FUNC and name == wanted:
            return number
        at += 12 + FIXED.get(kind, 0) + PER_MEMBER.get(kind, 0) * members
    raise LookupError(f"no function {function}")


def attach(program):
    """Attaches a program to the function that it was loaded for; gives the link."""
    return bpf(RAW_TRACEPOINT_OPEN, struct.pack("<QIIQ", 0, program, 0, 0))


def hold(address):
    """Attaches to an address."""
    program = load(TYPE_KPROBE, KPROBE_MULTI, [insn(0xB7), insn(0x95)])
    addresses = (ctypes.c_uint64 * 1)(int(address, 16))
    return bpf(
        LINK_CREATE,
        struct.pack("<IIIIIIQQQ", program, 0, KPROBE_MULTI, 0, 0, 1, 0, ctypes.addressof(addresses), 0),
    )


def sleep(function):
    """Attaches to a system call's function."""
    program = load(
        TYPE_TRACING,
        FENTRY,
        [
            # r3 = ((struct pt_regs *)ctx[0])->di
            insn(0x79, 1, 1, 0),
            insn(0x79, 3, 1, DI),
            # bpf_copy_from_user(fp - 8, 8, r3)
            insn(0xBF, 1, 10),
            insn(0x07, 1, imm=-8),
            insn(0xB7, 2, imm=8),
            insn(0x85, imm=COPY_FROM_USER),
            insn(0xB7),
            insn(0x95),
        ],
        SLEEPABLE,
        btf_id(function),
    )
    return attach(program)


def exit_of(function):
    """Attaches to a function's return."""
    low, high = struct.unpack("<ii", b"kcare-ex")
    (rest,) = struct.unpack("<i", b"it\0\0")
    program = load(
        TYPE_TRACING,
        FEXIT,
        [
            # bpf_trace_printk(fp - 16, 11), of "kcare-exit" that is stored there
            insn(0x62, 10, off=-16, imm=low),
            insn(0x62, 10, off=-12, imm=high),
            insn(0x62, 10, off=-8, imm=rest),
            insn(0xBF, 1, 10),
            insn(0x07, 1, imm=-16),
            insn(0xB7, 2, imm=11),
            insn(0x85, imm=TRACE_PRINTK),
            insn(0xB7),
            insn(0x95),
        ],
        btf_id=btf_id(function),
    )
    return attach(program)


def deny(function):
    """Attaches to a security hook."""
    program = load(TYPE_TRACING, MODIFY_RETURN, [insn(0xB7, imm=-1), insn(0x95)], btf_id=btf_id(function))
    return attach(program)


def main():
    link = {"hold": hold, "sleep": sleep, "exit": exit_of, "deny": deny}[sys.argv[1]](sys.argv[2])
    print("attached", flush=True)
    sys.stdin.read()
    os.close(link)


main()
