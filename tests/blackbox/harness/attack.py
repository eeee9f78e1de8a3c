"""Attacks on a bound, and the client beside them who must not notice."""
import contextlib
import socket
import threading
import time

from .wire import Closed, connect, request_bytes

BOUND = 5  # seconds for one request; what the attacks wait for takes at least twice as long
ADDRESSES = [f'127.0.1.{n}' for n in range(1, 21)]


class Neighbour:
    """A well-behaved client at an address of its own: one request after the other, by turns on a
    new connection and on the one it has. Whatever goes wrong, or takes too long, is kept."""

    def __init__(self, proxy, target='/', size=None):
        self.proxy, self.target, self.size = proxy, target, size
        self.served, self.worst, self.failures = 0, 0.0, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def ask(self, client):
        client.send(request_bytes(self.target))
        answer = client.read_response()
        if answer.status != 200 or (self.size and len(answer.body) != self.size):
            self.failures.append((answer.start, len(answer.body), answer.body[:200]))
        self.served += 1
        return (answer.get('Connection') or '').lower() != 'close'

    def visit(self):
        with self.proxy.connect(source='127.0.0.9', seconds=BOUND * 2) as client:
            if self.ask(client):
                self.ask(client)

    def run(self):
        while not self.stopping.is_set():
            began = time.monotonic()
            try:
                self.visit()
            except (OSError, Closed) as error:
                self.failures.append(repr(error))
            self.worst = max(self.worst, time.monotonic() - began)
            self.stopping.wait(0.01)

    def check(self):
        assert self.failures == [], (self.failures[:3], len(self.failures), self.served)
        assert self.served > 0 and self.worst < BOUND, (self.served, self.worst)


@contextlib.contextmanager
def beside(client):
    """Runs a Neighbour beside the block, and checks it afterwards."""
    client.thread.start()
    try:
        yield client
    finally:
        client.stopping.set()
        client.thread.join(BOUND * 4)
    assert not client.thread.is_alive()
    client.check()


def neighbour(proxy, **options):
    return beside(Neighbour(proxy, **options))


class Flood:
    """Connections from many addresses, opened at a pace; what one does is the scenario's."""

    def __init__(self, proxy, addresses=None, receive_buffer=None):
        self.proxy = proxy
        self.addresses = addresses or ADDRESSES
        self.receive_buffer = receive_buffer
        self.wires = []

    def open(self, data=b''):
        """One more connection that sends this; whether it came about."""
        source = self.addresses[len(self.wires) % len(self.addresses)]
        try:
            wire = connect(self.proxy.port, source=source, receive_buffer=self.receive_buffer)
            self.wires.append(wire)
            wire.sock.setblocking(False)
            wire.sock.send(data)
            return True
        except OSError:
            return False

    def drip(self, data):
        """Each living connection sends a little more."""
        for wire in self.wires:
            with contextlib.suppress(OSError):
                wire.sock.send(data)

    def go_on(self, seconds, pace, data, more=b''):
        """Opens `pace` connections a second for a while; all of them keep sending `more`."""
        end = time.monotonic() + seconds
        opened = 0
        while time.monotonic() < end:
            began = time.monotonic()
            self.open(data)
            opened += 1
            if more and opened % 10 == 0:
                self.drip(more)
            time.sleep(max(0.0, 1 / pace - (time.monotonic() - began)))

    def ended(self):
        """How many the proxy has closed."""
        count = 0
        for wire in self.wires:
            try:
                while True:
                    if not wire.sock.recv(65536):
                        count += 1
                        break
            except BlockingIOError:
                continue
            except OSError:
                count += 1
        return count

    def close(self):
        for wire in self.wires:
            wire.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def attack(proxy, seconds, pace, data, more=b'', ended=0, target='/', **flood):
    """A flood for a while, which the neighbour does not notice; more than `ended` of it are ended."""
    with Flood(proxy, **flood) as attackers, neighbour(proxy, target=target):
        attackers.go_on(seconds, pace, data, more)
        assert not ended or attackers.ended() > ended


def shed(proxy, kind):
    """How many of this kind were given up so far."""
    return proxy.metric('sentinel_shed_total', kind=kind)


def send_all(wire, data, seconds=2):
    """Sends as much as the proxy takes in this time."""
    wire.sock.setblocking(True)
    wire.sock.settimeout(seconds)
    with contextlib.suppress(OSError):
        wire.sock.sendall(data)
        wire.sock.shutdown(socket.SHUT_WR)
