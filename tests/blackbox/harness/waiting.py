"""Waiting for what must happen, with a bound and a message."""
import socket
import time


def wait_for(predicate, seconds=10, what='the condition'):
    """The first true value of predicate(); AssertionError when there is none in time."""
    deadline = time.monotonic() + seconds
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f'{what} did not come within {seconds} s'
        time.sleep(0.02)


def free_ports(count):
    """Ports that nobody used a moment ago, all different."""
    sockets = [socket.socket() for _ in range(count)]
    for sock in sockets:
        sock.bind(('', 0))  # free on every address: some tests listen on all
    ports = [sock.getsockname()[1] for sock in sockets]
    for sock in sockets:
        sock.close()
    return ports
