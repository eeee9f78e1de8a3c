"""Tunnels over TLS: an end that is told is one direction's end, and a cut is nobody's."""
import contextlib
import hashlib
import os
import ssl

import pytest

from harness.certificates import Authority
from harness.origins import read_head, read_to_end
from harness.waiting import wait_for
from harness.wire import Closed, connect, request_bytes
from test_tunnels import ASKS, TUNNEL, WEBSOCKET, mirror, record_of, switch

SIZE = 3 << 20


@pytest.fixture
def authority(tmp_path):
    authority = Authority(tmp_path / 'pki')
    authority.issue('a', 'a.example')
    return authority


@pytest.fixture
def tunnels(sentinel, authority):
    """tunnels(origin): a proxy that switches over TLS."""
    def start(target):
        pair = f'certificate "{authority.folder}/a.pem" key="{authority.folder}/a.key"'
        return sentinel(target, route=WEBSOCKET,
                        listener=f'protocol "https"\ntls {{\n{pair}\nalpn "http/1.1"\n}}')
    return start


class Secure:
    """A client's TLS by hand, so that close_notify and FIN are two things."""

    def __init__(self, proxy, authority, version):
        context = ssl.create_default_context(cafile=str(authority.ca))
        context.minimum_version = context.maximum_version = version
        self.wire = connect(proxy.port)
        self.inward, self.outward = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.inward, self.outward, server_hostname='a.example')
        self.call(self.tls.do_handshake)

    def send_out(self):
        data = self.outward.read()
        if data:
            self.wire.send(data)

    def call(self, function, *words):
        """What it returns, once the peer has sent what it needs; Closed when the peer has gone."""
        while True:
            try:
                result = function(*words)
                self.send_out()
                return result
            except ssl.SSLWantReadError:
                self.send_out()
                self.wire.fill()
                self.inward.write(bytes(self.wire.take(len(self.wire.buffer))))

    def send(self, data):
        self.tls.write(data)
        self.send_out()

    def take(self, size):
        data = b''
        while len(data) < size:
            data += self.call(self.tls.read, size - len(data))
        return data

    def switch(self):
        self.send(request_bytes('/chat', fields=[('Host', 'a.example'), *ASKS], host=None))
        head = b''
        while not head.endswith(b'\r\n\r\n'):
            head += self.take(1)
        assert head.startswith(b'HTTP/1.1 101 '), head

    def say_goodbye(self):
        """close_notify without a FIN."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        self.send_out()

    def hears_goodbye(self):
        """Whether the proxy's end is told, and by nothing less."""
        try:
            return self.call(self.tls.read, 1) == b''
        except ssl.SSLZeroReturnError:
            return True
        except Closed:
            return False


BOTH = pytest.mark.parametrize('version', [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def until_end(answers):
    """Takes all that comes to its end, then goes on speaking."""
    def step(origin, wire):
        read_to_end(origin, wire)
        for answer in answers:
            wire.send(answer)
    return step


@BOTH
def test_a_client_that_said_goodbye_still_hears_the_other_side(tunnels, origin, authority, version):
    proxy = tunnels(origin([read_head, switch(), until_end([b'still ', b'here'])]))
    client = Secure(proxy, authority, version)
    client.switch()
    client.send(b'the last of mine')
    client.say_goodbye()
    assert client.take(10) == b'still here'
    assert client.hears_goodbye(), 'a clean end, not a cut'
    assert record_of(proxy)['reason'] is None


@BOTH
def test_a_cut_is_not_passed_on_as_an_end(tunnels, origin, authority, version):
    server = origin(TUNNEL)
    proxy = tunnels(server)
    client = Secure(proxy, authority, version)
    client.switch()
    client.send(b'hello')
    assert client.take(5) == b'hello'
    client.wire.half_close()  # a FIN that nobody has vouched for
    assert record_of(proxy)['reason'] == 'client_closed'
    wait_for(lambda: proxy.metric('sentinel_tunnels') == 0, what='its place is free')


@BOTH
def test_an_upstream_that_ends_first_is_told_as_an_end(tunnels, origin, authority, version):
    def speak(_origin, wire):
        wire.send(b'goodbye')
        wire.half_close()
        heard = b''
        while not heard.endswith(b'bye'):
            wire.fill()
            heard = bytes(wire.buffer)
    proxy = tunnels(origin([read_head, switch(), speak]))
    client = Secure(proxy, authority, version)
    client.switch()
    assert client.take(7) == b'goodbye'
    assert client.hears_goodbye()
    client.send(b'and good ')
    client.send(b'bye')
    client.say_goodbye()
    assert record_of(proxy)['reason'] is None


@BOTH
def test_much_goes_both_ways_at_once(tunnels, origin, authority, version):
    proxy = tunnels(origin([read_head, switch(), mirror]))
    client = Secure(proxy, authority, version)
    client.switch()
    data = os.urandom(SIZE)
    back = b''
    for at in range(0, SIZE, 100_000):
        client.send(data[at:at + 100_000])
        back += client.take(len(data[at:at + 100_000]))
    assert hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
    client.say_goodbye()
    assert client.hears_goodbye()
    assert record_of(proxy)['reason'] is None
