"""Streams are never held back: each event is with the client before the origin makes the next.

That is so without buffering, which is the default, and with it, whatever the protocols.
"""
import threading

import pytest

from harness.http2 import Http2
from harness.origins import CHUNKED, read_head, read_request, read_to_end
from harness.waiting import wait_for
from harness.wire import request_bytes

EVENTS = 20
CLOSE = b'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n'
BUFFERING = ['', 'buffering { request "64KiB"; response "1MiB" }']


class Clock:
    """Ticks when the client has seen an event; the origin waits for that before the next one."""

    def __init__(self):
        self.seen = threading.Semaphore(0)

    def events(self, as_chunks):
        def step(_origin, wire):
            for number in range(EVENTS):
                data = b'data: %d\n\n' % number
                wire.send(b'%x\r\n%s\r\n' % (len(data), data) if as_chunks else data)
                assert self.seen.acquire(timeout=20), f'event {number} was held back'
            if as_chunks:
                wire.send(b'0\r\n\r\n')
        return step


@pytest.mark.parametrize('policies', BUFFERING)
@pytest.mark.parametrize('head', [CHUNKED, CLOSE], ids=['chunked', 'close-delimited'])
def test_each_event_arrives_before_the_next_is_made(sentinel, origin, head, policies):
    clock = Clock()
    server = origin([read_request, head, clock.events(head is CHUNKED)])
    proxy = sentinel(server, policies=policies)
    with proxy.connect() as client:
        client.send(request_bytes('/events'))
        assert client.read_head().get('Transfer-Encoding') == 'chunked'
        for number in range(EVENTS):
            client.take_until(b'data: %d\n\n' % number)
            clock.seen.release()
        client.take_until(b'0\r\n\r\n')
    assert server.errors == []


@pytest.mark.parametrize('policies', BUFFERING)
def test_events_reach_clients_of_http_1_0_as_they_come(sentinel, origin, policies):
    clock = Clock()
    server = origin([read_request, CLOSE, clock.events(False)])
    proxy = sentinel(server, policies=policies)
    with proxy.connect() as client:
        client.send(request_bytes('/events', version='HTTP/1.0'))
        assert client.read_head().get('Connection') == 'close'
        for number in range(EVENTS):
            client.take_until(b'data: %d\n\n' % number)
            clock.seen.release()
        assert client.ended()
    assert server.errors == []


@pytest.mark.parametrize('policies', BUFFERING)
@pytest.mark.parametrize('hops', [1, 2], ids=['to HTTP/1 upstreams', 'to HTTP/2 upstreams'])
def test_events_reach_clients_of_http2_as_they_come(sentinel, origin, policies, hops):
    clock = Clock()
    server = origin([read_request, CHUNKED, clock.events(True)])
    proxy = sentinel(server, listener='h2c true', policies=policies)
    if hops == 2:
        proxy = sentinel(f'127.0.0.1:{proxy.port}', listener='h2c true', policies=policies,
                         upstream='http-version "2"')
    client = Http2(proxy.connect())
    stream = client.open(path='/events')
    for number in range(EVENTS):
        mark = b'data: %d\n\n' % number
        client.until(lambda mark=mark: stream in client.answers
                     and client.answers[stream].body.endswith(mark))
        clock.seen.release()
    answer = client.answer(stream)
    assert answer.ended and answer.body.count(b'data: ') == EVENTS
    client.wire.close()
    assert server.errors == []


def test_a_request_streams_to_the_origin_unless_the_route_collects_it(sentinel, origin):
    """Each piece of an upload is with the origin before the client sends the next."""
    got = []

    def take(_origin, wire):
        for _ in range(EVENTS):
            got.append(wire.take(1))
        wire.send(b'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n')
    proxy = sentinel(origin([read_head, take, read_to_end]))
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', str(EVENTS))]))
        for number in range(EVENTS):
            client.send(b'x')
            wait_for(lambda number=number: len(got) > number, 10, f'byte {number}')
        assert client.read_response().status == 200
