"""The admin listener stays what it is for: an answer when everything else is full or stuck."""
import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from harness.checks import assert_alive
from harness.origins import hold, read_request
from harness.proxy import binary, environment
from harness.waiting import free_ports, wait_for
from harness.wire import Closed, connect, request_bytes

HALF_A_HEAD = b'GET / HTTP/1.1\r\nHost: ha'
FLOOD = 200


def workers_of(proxy):
    return [int(pid) for pid in proxy.children()
            if Path(f'/proc/{pid}/cmdline').read_bytes().startswith(b'sentinel: worker')]


def assert_admin_answers(proxy):
    assert proxy.admin('/health').status == 200
    assert proxy.admin('/ready').status == 200
    metrics = proxy.admin('/metrics')
    assert metrics.status == 200 and b'sentinel_requests_total' in metrics.body


@contextlib.contextmanager
def many(port, count, data):
    clients = [socket.create_connection(('127.0.0.1', port), timeout=10) for _ in range(count)]
    try:
        for client in clients:
            with contextlib.suppress(OSError):  # it may have had to make room
                client.sendall(data)
        yield clients
    finally:
        for client in clients:
            client.close()


def test_it_answers_while_all_connections_and_requests_are_taken(sentinel, origin):
    slow = origin([read_request, hold])
    proxy = sentinel(slow, server='workers 2\nmax-connections 40', limits='max-requests 10')
    with many(proxy.port, 60, HALF_A_HEAD), many(proxy.port, 20, request_bytes('/')):
        wait_for(lambda: proxy.metric('sentinel_failures_total', reason='connections_full') > 0, 10,
                 'a full house')
        for _ in range(5):
            assert_admin_answers(proxy)


def test_it_answers_while_all_workers_hang(sentinel, echo):
    proxy = sentinel(echo, server='workers 2')
    pids = workers_of(proxy)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        assert_admin_answers(proxy)
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize('data', [b'', HALF_A_HEAD, request_bytes('/metrics', host='localhost')])
def test_a_flood_of_it_locks_nobody_out_and_hurts_no_traffic(sentinel, echo, data):
    proxy = sentinel(echo)
    with many(proxy.admin_port, FLOOD, data):
        for _ in range(5):
            assert_alive(proxy)
            assert_admin_answers(proxy)


def test_its_heads_are_bounded_and_its_bodies_unread(sentinel, echo):
    proxy = sentinel(echo)
    with connect(proxy.admin_port) as client:
        client.send(b'GET /health HTTP/1.1\r\nHost: localhost\r\nX: ' + b'x' * 9000 + b'\r\n\r\n')
        assert client.read_response().status == 431
    with connect(proxy.admin_port) as client:
        client.send(b'GET /health HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999\r\n\r\n')
        assert client.read_response().status == 200
        assert client.ended()


def ready(port):
    """What /ready says, or None while nobody listens."""
    try:
        with connect(port) as client:
            client.send(request_bytes('/ready', fields=[('Connection', 'close')],
                                      host=f'127.0.0.1:{port}'))
            return client.read_response()
    except (OSError, Closed):
        return None


def test_it_is_not_ready_before_the_first_checks_have_ended(origin, tmp_path):
    mute = origin([read_request, hold])
    port, admin = free_ports(2)
    config = tmp_path / 'sentinel.kdl'
    config.write_text(f'''
server {{ workers 1; pid-file "{tmp_path}/pid"; admin {{ address "127.0.0.1:{admin}"; }}; }}
listener "l" {{ address "127.0.0.1:{port}"; }}
upstream "u" {{
    target "{mute.address}"
    health-check {{ type "http"; interval 60s; timeout 60s; }}
}}
route "r" {{ upstream "u"; }}
observability {{ access-log "off"; }}
''')
    process = subprocess.Popen([binary(), 'run', '--config', config], env=environment(),
                               stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: (answer := ready(admin)) and answer.json()['waiting_for'] ==
                 ['health_checks'], 20, 'the workers')
        assert ready(admin).status == 503
        mute.release()
        wait_for(lambda: ready(admin).status == 200, 20, 'the first check')
    finally:
        process.terminate()
        assert process.wait(20) == 0


def test_it_is_not_ready_while_draining(sentinel, origin):
    slow = origin([read_request, hold])
    proxy = sentinel(slow, server='workers 1\ngraceful-shutdown-timeout 5s')
    with proxy.connect() as client:
        client.send(request_bytes('/'))
        slow.wait_requests(1)
        proxy.signal(signal.SIGTERM)
        answer = wait_for(lambda: (lambda got: got if got.status == 503 else None)(
            proxy.admin('/ready')), 5, 'the drain')
        assert 'draining' in answer.json()['waiting_for']
        slow.release()
