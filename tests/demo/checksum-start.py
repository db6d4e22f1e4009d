#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does the kernel, on its way to fragment a packet, write a checksum into the packet's IP header?

A TAP device's owner tells the kernel from where to compute a packet's checksum and where to put it. Both have to be
behind the IP header, whose options have been checked by then. Here the place is in the padding of the options, where
it can be seen and does no harm.
"""

import fcntl
import os
import select
import socket
import struct
import subprocess

from common import become_nobody, conclude, guarded, write

# include/uapi/linux/if_tun.h, sockios.h, if.h, virtio_net.h
TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI_VNET_HDR = 0x5001
SIOCSIFFLAGS, SIOCSIFADDR, SIOCSIFNETMASK, SIOCSIFMTU = 0x8914, 0x8916, 0x891C, 0x8922
IFF_UP_RUNNING = 0x41
NEEDS_CSUM = 1
VNET_HDR_LEN = 10

HEADER_LEN = 24  # with four bytes of options
PACKET_LEN = 1400
SMALL_MTU = 576


def tun(name, address, mtu):
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", name, IFF_TUN_NO_PI_VNET_HDR))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for request, value in ((SIOCSIFADDR, address), (SIOCSIFNETMASK, "255.255.255.0")):
            fcntl.ioctl(control, request, struct.pack("16sHH4s16x", name, socket.AF_INET, 0, socket.inet_aton(value)))
        fcntl.ioctl(control, SIOCSIFMTU, struct.pack("16si20x", name, mtu))
        fcntl.ioctl(control, SIOCSIFFLAGS, struct.pack("16sH22x", name, IFF_UP_RUNNING))
    return device


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def packet(start, offset):
    """A UDP packet, and before it the request to put the checksum from `start` on at `start + offset`."""
    def header(check):
        return struct.pack("!BBHHHBBH4s4s4x", 0x40 | HEADER_LEN // 4, 0, PACKET_LEN, 1, 0, 64, socket.IPPROTO_UDP, check,
                           socket.inet_aton("10.0.1.2"), socket.inet_aton("10.0.2.2"))

    payload = PACKET_LEN - HEADER_LEN
    return (struct.pack("=BBHHHH", NEEDS_CSUM, 0, 0, 0, start, offset) + header(checksum(header(0))) +
            struct.pack("!4H", 7, 7, payload, 0) + bytes(payload - 8))


def fragments(device):
    """The UDP fragments that come out, until no more do for a second."""
    found = []
    while select.select([device], [], [], 1)[0]:
        data = os.read(device, 2048)[VNET_HDR_LEN:]
        if data[0] >> 4 == 4 and data[9] == socket.IPPROTO_UDP:
            found.append(data)
    return found


def main():
    subprocess.run(["modprobe", "tun"], check=True)
    # What udev does.
    os.chmod("/dev/net/tun", 0o666)
    become_nobody(os.CLONE_NEWNET)
    entry = tun(b"in", "10.0.1.1", 1500)
    way_out = tun(b"out", "10.0.2.1", SMALL_MTU)
    write("/proc/sys/net/ipv4/ip_forward", "1")

    os.write(entry, packet(HEADER_LEN, 6))
    good = fragments(way_out)
    if len(good) != 3 or any(any(data[20:HEADER_LEN]) for data in good):
        raise OSError(f"an ordinary packet came out as {len(good)} fragments, not as 3 with its options")
    os.write(entry, packet(20, 2))
    bad = fragments(way_out)
    if not bad:
        conclude(False, "the packet whose checksum would go into its IP header is dropped, an ordinary one passes")
    written = bad[0][22:HEADER_LEN]
    if any(written):
        conclude(True, f"an unprivileged user makes the kernel write {written.hex()} into a checked IP header")
    raise OSError("the packet passed, with nothing written into its header")


guarded(main)
