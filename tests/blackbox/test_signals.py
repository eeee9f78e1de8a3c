"""Stopping: in good order on the first signal, at once on the second; children follow."""
import os
import signal
import time

import pytest

from harness.origins import hold, pause, read_request, response
from harness.processes import gone, refused
from harness.waiting import wait_for
from harness.wire import connect, request_bytes


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_signal_ends_all_processes_with_exit_0(sentinel, echo, number):
    proxy = sentinel(echo, server='workers 2')
    assert proxy.request().status == 200
    children = proxy.children()
    assert len(children) >= 3
    start = time.monotonic()
    proxy.signal(number)
    assert proxy.wait() == 0
    assert time.monotonic() - start < 10
    gone(children)
    with pytest.raises(ConnectionRefusedError):
        connect(proxy.port)


def test_what_means_nothing_here_ends_nobody(sentinel, echo):
    """Other servers replace their program on USR2; and a terminal tells the whole group of QUIT."""
    proxy = sentinel(echo)
    before = proxy.children()
    proxy.signal(signal.SIGUSR2)
    wait_for(lambda: 'SIGUSR2: it means nothing' in proxy.stderr(), 10, 'the line')
    for child in before:
        for number in (signal.SIGQUIT, signal.SIGUSR2, signal.SIGINT):
            os.kill(child, number)
    assert proxy.request().status == 200
    assert proxy.admin('/ready').status == 200
    assert proxy.children() == before


def test_running_requests_are_finished_first(sentinel, origin):
    server = origin([read_request, pause(1), response(b'finished')])
    proxy = sentinel(server, server='graceful-shutdown-timeout 20s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        proxy.signal(signal.SIGTERM)
        answer = client.read_response()
        assert answer.body == b'finished'
        assert answer.get('Connection') == 'close'
    assert proxy.wait() == 0
    assert proxy.log_record()['status'] == 200


def test_a_response_begun_before_the_signal_ends_its_connection(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf', hold, b'half'])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        head = client.read_head()
        assert head.get('Connection') is None
        assert client.take(4) == b'half'
        proxy.signal(signal.SIGTERM)
        wait_for(lambda: refused(proxy.port), 10, 'the listener to close')
        server.release()
        assert client.take(4) == b'half'
        assert client.ended(10)
        assert proxy.wait() == 0


def test_idle_connections_do_not_delay_the_end(sentinel, echo):
    proxy = sentinel(echo, server='graceful-shutdown-timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        assert client.read_response().status == 200
        start = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert client.ended(10)
        assert proxy.wait() == 0
        assert time.monotonic() - start < 10


def test_the_grace_time_has_an_end(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, server='graceful-shutdown-timeout 1s', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        start = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert 0.5 < time.monotonic() - start < 12
        assert len(proxy.records()) == 1


def test_a_second_signal_stops_at_once(sentinel, origin):
    server = origin([read_request, hold])
    proxy = sentinel(server, server='graceful-shutdown-timeout 60s', policies='timeout 60s')
    with proxy.connect() as client:
        client.send(request_bytes())
        server.wait_requests(1)
        children = proxy.children()
        proxy.signal(signal.SIGTERM)
        wait_for(lambda: refused(proxy.port), 10, 'the listener to close')
        assert proxy.process.poll() is None
        start = time.monotonic()
        proxy.signal(signal.SIGTERM)
        assert proxy.wait() == 0
        assert time.monotonic() - start < 10
    gone(children)
