#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""A workload that notices everything: load.py FILE, until SIGTERM.

A client asks a server over loopback, by TCP and by UDP in fragments; the server looks the answer up in a file behind
a mount that the client has just made. An answer that is wrong, late or missing is an error. FILE always has the number
of requests, of errors, and the longest wait in milliseconds since the last SIGUSR1.
"""

import os
import signal
import socket
import sys
import time

from common import (AT_RECURSIVE, MNT_DETACH, OPEN_TREE_CLONE, mount, move_mount, open_tree, private_mounts, read,
                    umount, write)

DIRECTORY = "/run/kcare-load"
TIMEOUT = 5.0
# Longer than the MTU that loopback gets, so that it goes in fragments.
DATAGRAM = 4000
MTU = 1500


def receive(connection, length):
    data = b""
    while len(data) < length:
        more = connection.recv(length - len(data))
        if not more:
            raise OSError("the connection was closed")
        data += more
    return data


def serve(listener, datagrams):
    connection, _ = listener.accept()
    while True:
        name = receive(connection, 8).decode()
        connection.sendall(read(f"{DIRECTORY}/copy/{name}").encode())
        data, client = datagrams.recvfrom(DATAGRAM)
        datagrams.sendto(data[::-1], client)


class Client:
    def __init__(self, tcp, udp):
        self.tcp = socket.create_connection(tcp, TIMEOUT)
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.settimeout(TIMEOUT)
        self.udp.connect(udp)

    def request(self, number):
        name = f"{number % 100:08}"
        move_mount(open_tree(f"{DIRECTORY}/data", OPEN_TREE_CLONE | AT_RECURSIVE), f"{DIRECTORY}/copy")
        try:
            self.tcp.sendall(name.encode())
            answer = receive(self.tcp, len(name)).decode()
        finally:
            umount(f"{DIRECTORY}/copy", MNT_DETACH)
        data = os.urandom(DATAGRAM)
        self.udp.send(data)
        if answer != name[::-1] or self.udp.recv(DATAGRAM) != data[::-1]:
            raise OSError("a wrong answer")


def main():
    private_mounts()
    for part in ("data", "copy"):
        os.makedirs(f"{DIRECTORY}/{part}", exist_ok=True)
    mount("kcare-load", f"{DIRECTORY}/data", "tmpfs")
    for number in range(100):
        write(f"{DIRECTORY}/data/{number:08}", f"{number:08}"[::-1])
    write("/sys/class/net/lo/mtu", str(MTU))
    listener = socket.create_server(("127.0.0.1", 0))
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    server = os.fork()
    if server == 0:
        serve(listener, datagrams)
    client = Client(listener.getsockname(), datagrams.getsockname())

    def stop(*_):
        os.kill(server, signal.SIGKILL)
        os._exit(0)

    requests = errors = longest = 0

    def start_over(*_):
        nonlocal longest
        longest = 0

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGUSR1, start_over)
    report = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    while True:
        start = time.monotonic()
        try:
            client.request(requests)
        except OSError as error:
            errors += 1
            print(f"load.py: request {requests}: {error}", file=sys.stderr)
        requests += 1
        longest = max(longest, time.monotonic() - start)
        os.pwrite(report, b"%10d %10d %10d\n" % (requests, errors, round(longest * 1000)), 0)


main()
