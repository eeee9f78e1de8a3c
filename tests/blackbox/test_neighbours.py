"""Slow or greedy clients and origins, while others are served as if nothing was."""
import threading
import time

import pytest

from harness.origins import hold, read_head, read_request, read_to_end
from harness.wire import request_bytes

CROWD = 60
PATIENCE = 2.0  # seconds for one request of a neighbour; the machine may be busy, the crowd is slow


@pytest.fixture
def crowd():
    clients = []
    yield clients
    for client in clients:
        client.close()


def assert_neighbours_are_served(proxy, target='/', count=20):
    for _ in range(count):
        start = time.monotonic()
        assert proxy.request(target, source='127.0.0.77').status == 200
        assert time.monotonic() - start < PATIENCE


def test_slow_heads_disturb_nobody(sentinel, echo, crowd):
    proxy = sentinel(echo)
    for _ in range(CROWD):
        crowd.append(proxy.connect())
        crowd[-1].send(b'GET / HTTP/1.1\r\nHost: a\r\nX: ')
    assert_neighbours_are_served(proxy)
    assert len(echo.requests) == 20


def test_slow_bodies_disturb_nobody(sentinel, origin, echo, crowd):
    slow = origin([read_head, read_to_end])
    proxy = sentinel(echo, extra=f'''
upstream "slow" {{
    target "{slow.address}"
}}
route "slow" {{
    match path-prefix="/slow"
    upstream "slow"
}}
''')
    for _ in range(CROWD):
        crowd.append(proxy.connect())
        crowd[-1].send(request_bytes('/slow', 'POST', [('Content-Length', '1000')]) + b'x')
    assert_neighbours_are_served(proxy)


def test_slow_readers_disturb_nobody(sentinel, nginx, crowd):
    (nginx.www / 'big').write_bytes(b'x' * (16 << 20))
    (nginx.www / 'small').write_bytes(b'y')
    proxy = sentinel(nginx)
    for _ in range(CROWD):
        crowd.append(proxy.connect(receive_buffer=4096))
        crowd[-1].send(request_bytes('/big'))
    assert_neighbours_are_served(proxy, '/small')


def test_a_silent_origin_disturbs_nobody(sentinel, origin, echo, crowd):
    silent = origin([read_request, hold])
    proxy = sentinel(echo, extra=f'''
upstream "silent" {{
    target "{silent.address}"
}}
route "silent" {{
    match path-prefix="/silent"
    upstream "silent"
}}
''')
    for _ in range(CROWD):
        crowd.append(proxy.connect())
        crowd[-1].send(request_bytes('/silent'))
    assert_neighbours_are_served(proxy)


def test_a_flood_on_one_connection_disturbs_nobody(sentinel, echo):
    proxy = sentinel(echo, limits='requests-per-connection 1000000')
    stop = threading.Event()

    def flood():
        with proxy.connect() as client:
            while not stop.is_set():
                client.send(request_bytes() * 50)
                for _ in range(50):
                    client.read_response()
    thread = threading.Thread(target=flood, daemon=True)
    thread.start()
    try:
        assert_neighbours_are_served(proxy)
    finally:
        stop.set()
        thread.join(10)


def test_garbage_on_many_connections_disturbs_nobody(sentinel, echo, crowd):
    proxy = sentinel(echo)
    for number in range(CROWD):
        crowd.append(proxy.connect())
        crowd[-1].send(bytes([number * 4 % 256]) * 3000)
    assert_neighbours_are_served(proxy)


def test_resets_leave_nothing_behind(sentinel, echo):
    proxy = sentinel(echo)
    for number in range(50):
        client = proxy.connect()
        client.send(request_bytes('/', 'POST', [('Content-Length', '100')])[:number * 2] or b'G')
        client.reset()
    assert_neighbours_are_served(proxy)
    deadline = time.monotonic() + 10
    while proxy.metric('sentinel_connections', listener='http') and time.monotonic() < deadline:
        time.sleep(0.05)
    assert proxy.metric('sentinel_connections', listener='http') == 0
    assert proxy.metric('sentinel_requests_in_flight') == 0
