"""Waiting for what must happen, with a bound and a message."""
import fcntl
import functools
import itertools
import os
import socket
import tempfile
import time
from pathlib import Path


def wait_for(predicate, seconds=10, what='the condition'):
    """The first true value of predicate(); AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f'{what} did not come within {seconds} s'
        time.sleep(0.02)


class Ports:
    """Ports of this process alone: below those that the kernel gives to outgoing connections, and out
    of a block that no other process of tests has while this one lives."""

    FIRST, SIZE, BLOCKS = 10240, 256, 80

    def __init__(self):
        folder = Path(tempfile.gettempdir(), f'sentinel-test-ports-{os.getuid()}')
        folder.mkdir(exist_ok=True)
        for block in range(self.BLOCKS):
            self.lock = open(folder / str(block), 'w')
            try:
                fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.lock.close()
                continue
            first = self.FIRST + block * self.SIZE
            self.ports = itertools.cycle(range(first, first + self.SIZE))
            return
        raise AssertionError(f'all blocks of ports are taken, see {folder}')

    def free(self):
        for port in itertools.islice(self.ports, self.SIZE):
            with socket.socket() as sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as Sentinel does
                try:
                    sock.bind(('', port))  # free on every address: some tests listen on all
                except OSError:
                    continue
                return port
        raise AssertionError('no port is free')


@functools.cache
def own_ports():
    return Ports()


def free_ports(count):
    """Ports that nobody uses, all different."""
    return [own_ports().free() for _ in range(count)]
