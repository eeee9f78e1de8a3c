"""Attacks on handshakes and records of TLS, and the client beside them who must not notice.

Handshakes have 10 s; what the attacks take would be held for as long.
"""
import contextlib
import socket
import ssl
import threading
import time

import pytest

from harness.attack import ADDRESSES, BOUND, Flood, Neighbour, beside, neighbour, shed
from harness.certificates import Authority
from harness.waiting import free_ports
from test_tls import ask, context_of, read_answer, secure, tls

HALF_HELLO = b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03'


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('a', 'a.example')
    authority.issue('b', 'b.example')
    return authority


class SecureNeighbour(Neighbour):
    """A handshake, full and resumed by turns, and two requests."""

    def __init__(self, proxy, authority):
        super().__init__(proxy)
        self.context = context_of(authority)
        self.session = None

    def visit(self):
        raw = socket.create_connection(('127.0.0.1', self.proxy.port), timeout=BOUND * 2,
                                       source_address=('127.0.0.9', 0))
        with self.context.wrap_socket(raw, server_hostname='a.example',
                                      session=self.session) as client:
            for _ in range(2):
                if ask(client)[0] != 200:
                    self.failures.append('not 200')
                self.served += 1
            self.session = None if client.session_reused else client.session


def secure_neighbour(proxy, authority):
    return beside(SecureNeighbour(proxy, authority))


def test_half_handshakes_that_drip_on_hold_nobody_up(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority), limits='max-handshakes 16')
    with Flood(proxy) as flood, secure_neighbour(proxy, authority):
        flood.go_on(4, 100, HALF_HELLO, b'\x01')
    assert shed(proxy, 'handshake') > 20
    assert proxy.logged('tls_handshakes_full')['status'] is None


def test_connections_without_a_byte_take_no_handshake(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority), limits='max-handshakes 4')
    with Flood(proxy) as flood, secure_neighbour(proxy, authority):
        flood.go_on(3, 100, b'')
    assert shed(proxy, 'handshake') == 0


def test_a_storm_of_handshakes_leaves_requests_their_turn(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    stopping = threading.Event()
    made = []

    def storm():
        context = context_of(authority)
        while not stopping.is_set():
            with contextlib.suppress(OSError):
                secure(proxy, context).close()
                made.append(1)
    threads = [threading.Thread(target=storm) for _ in range(4)]
    with secure(proxy, context_of(authority)) as client:
        for thread in threads:
            thread.start()
        try:
            worst = 0.0
            for _ in range(40):
                began = time.monotonic()
                assert ask(client)[0] == 200
                worst = max(worst, time.monotonic() - began)
        finally:
            stopping.set()
            for thread in threads:
                thread.join(30)
    assert made and worst < BOUND / 5


class Piecemeal:
    """What ask() and read_answer() need of a connection, over a socket that is written to in pieces."""

    def __init__(self, proxy, context, piece):
        self.raw = socket.create_connection(('127.0.0.1', proxy.port), timeout=20)
        self.raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.piece = piece
        self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.into, self.out, server_hostname='a.example')
        self.drive(self.tls.do_handshake)

    def send(self):
        data = self.out.read()
        for at in range(0, len(data), self.piece):
            self.raw.sendall(data[at:at + self.piece])

    def drive(self, action):
        while True:
            try:
                done = action()
                self.send()
                return done
            except ssl.SSLWantReadError:
                self.send()
                data = self.raw.recv(65536)
                assert data, 'closed'
                self.into.write(data)

    def sendall(self, data):
        self.tls.write(data)
        self.send()

    def recv(self, size):
        return self.drive(lambda: self.tls.read(size))


def test_a_client_whose_bytes_come_one_by_one_is_served(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    client = Piecemeal(proxy, context_of(authority), 1)
    try:
        assert ask(client)[0] == 200
        assert ask(client, path='/again')[0] == 200
    finally:
        client.raw.close()
    assert [request.target for request in echo.requests] == ['/', '/again']


def test_a_goodbye_in_pieces_between_requests_is_no_request(sentinel, echo, authority):
    proxy = sentinel(echo, listener=tls(authority))
    client = Piecemeal(proxy, context_of(authority), 65536)
    try:
        assert ask(client)[0] == 200
        with contextlib.suppress(ssl.SSLWantReadError):
            client.tls.unwrap()
        goodbye = client.out.read()
        client.raw.sendall(goodbye[:3])
        with secure(proxy, context_of(authority)) as other:
            assert ask(other)[0] == 200  # by then the worker has seen the first piece
        client.raw.sendall(goodbye[3:])
        while client.raw.recv(65536):  # to its end, which is no reset
            pass
    finally:
        client.raw.close()
    assert [record['reason'] for record in proxy.log_records(2)] == [None, None]


def test_a_body_in_records_of_one_byte_arrives_and_holds_nobody_up(sentinel, echo, authority):
    size = 20000
    proxy = sentinel(echo, listener=tls(authority))
    with secure_neighbour(proxy, authority), secure(proxy, context_of(authority)) as client:
        client.sendall(f'POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {size}\r\n\r\n'.encode())
        for _ in range(size):
            client.send(b'x')
        status, _, body = read_answer(client)
        assert status == 200 and f'"length": {size}'.encode() in body


def test_plain_requests_are_served_beside_a_flood_of_garbage_on_tls(sentinel, echo, authority):
    [port] = free_ports(1)
    proxy = sentinel(echo, extra=f'listener "tls" {{\naddress "127.0.0.1:{port}"\n{tls(authority)}\n}}\n')
    with neighbour(proxy):
        for at in range(300):
            source = ADDRESSES[at % len(ADDRESSES)]
            with contextlib.suppress(OSError):
                with socket.create_connection(('127.0.0.1', port), 5, (source, 0)) as raw:
                    raw.sendall(bytes(range(256)) * 4)
    proxy.logged('tls_protocol')
