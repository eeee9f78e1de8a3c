"""HTTP/2 to upstreams: many requests on one connection, and what becomes of them when it ends.

The upstream is a second Sentinel, or a scripted peer that speaks frames.
"""
import json

from harness.http2 import (ACK, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PREFACE, REFUSED_STREAM,
                           RST_STREAM, SETTINGS, Http2, frame, settings)
from harness.origins import hold, read_head, response
from harness.waiting import wait_for

UPSTREAM = 'http-version "2"'


def chain(sentinel, *origins, **parts):
    """A proxy that speaks HTTP/2 to a second one in front of the origins: (first, second)."""
    second = sentinel(*origins, listener='h2c true', limits=parts.pop('second_limits', ''),
                      policies='max-body-size "10MiB"')
    first = sentinel(f'127.0.0.1:{second.port}', upstream=UPSTREAM,
                     policies=parts.pop('policies', 'max-body-size "10MiB"'), **parts)
    return first, second


def test_requests_share_one_connection_upstream(sentinel, origin):
    server = origin([read_head, hold, response(b'late')])
    first, second = chain(sentinel, server)
    wires = [first.connect() for _ in range(10)]
    for wire in wires:
        wire.send(b'GET /x?y=z HTTP/1.1\r\nHost: a.test\r\nX-One: 1\r\n\r\n')
    wait_for(lambda: len(server.requests) == 10, what='all requests')
    assert second.metric('sentinel_http2_streams') == 10
    assert first.metric('sentinel_upstream_connections') == 1
    server.release()
    assert [wire.read_response().body for wire in wires] == [b'late'] * 10
    assert server.requests[0].target == '/x?y=z' and server.requests[0].get('X-One') == '1'
    assert {record['protocol'] for record in second.log_records(10)} == {'HTTP/2.0'}


def test_bodies_and_trailers_go_both_ways(sentinel, echo):
    first, _ = chain(sentinel, echo)
    body = bytes(range(256)) * 8000
    for fields in ([('Content-Length', str(len(body)))], None):
        if fields:
            answer = first.request('/up', 'POST', fields, body)
        else:
            with first.connect() as wire:
                wire.send(b'POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n')
                for start in range(0, len(body), 50000):
                    part = body[start:start + 50000]
                    wire.send(b'%x\r\n' % len(part) + part + b'\r\n')
                wire.send(b'0\r\n\r\n')
                answer = wire.read_response()
        assert answer.status == 200 and answer.json()['length'] == len(body)


def test_large_responses_come_through_windows(sentinel, origin):
    body = b'abcdefgh' * 500_000
    first, _ = chain(sentinel, origin([read_head, response(body)]),
                     limits='http2-window "64KiB"')
    assert first.request('/big').body == body
    h1 = first.request('/big', 'HEAD')
    assert h1.status == 200


def test_an_idle_connection_is_used_again(sentinel, echo):
    first, second = chain(sentinel, echo)
    for _ in range(5):
        assert first.request().status == 200
    assert first.metric('sentinel_upstream_connections_opened_total') == 1
    assert len(second.log_records(5)) == 5


def test_an_upstream_that_says_goodbye_costs_no_request(sentinel, echo):
    first, second = chain(sentinel, echo, second_limits='requests-per-connection 3')
    for i in range(20):
        assert first.request('/', 'POST', [('Content-Length', '1')], b'x').status == 200, i
    assert len(second.log_records(20)) == 20


def serve_frames(*steps):
    """A scripted peer: each step is a function of an Http2 that plays the server."""
    def serve(origin, wire):
        assert wire.take(len(PREFACE)) == PREFACE
        h2 = Http2(wire, preface=False)
        wire.send(settings())
        for step in steps:
            step(origin, h2)
    return [serve]


def until_request(_origin, h2):
    """Reads to the next head; its stream in h2.next."""
    while True:
        kind, _, stream, payload = h2.take_raw()
        if kind == HEADERS:
            h2.next = stream
            return
        if kind == SETTINGS and not payload == b'':
            h2.send(frame(SETTINGS, ACK))


def answer_200(origin, h2):
    origin.requests.append(h2.next)
    h2.wire.send(frame(HEADERS, END_HEADERS | END_STREAM, h2.next,
                       h2.encoder.encode([(':status', '200')])))


def refuse(_origin, h2):
    h2.wire.send(frame(RST_STREAM, 0, h2.next, REFUSED_STREAM.to_bytes(4, 'big')))


def say_goodbye(last):
    return lambda _origin, h2: h2.wire.send(frame(GOAWAY, 0, 0, last.to_bytes(4, 'big') +
                                                  b'\0\0\0\0'))


def test_a_request_that_goaway_excludes_is_sent_again_whatever_its_method(sentinel, origin):
    server = origin(serve_frames(until_request, answer_200, until_request, say_goodbye(1)),
                    serve_frames(until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request('/', 'POST').status == 200
    assert proxy.request('/', 'POST').status == 200
    assert len(server.requests) == 2


def test_a_refused_stream_is_sent_again_whatever_its_method(sentinel, origin):
    server = origin(serve_frames(until_request, answer_200, until_request, refuse, until_request),
                    serve_frames(until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request('/', 'POST').status == 200
    assert proxy.request('/', 'POST').status == 200


def test_a_peer_that_speaks_first_is_heard(sentinel, origin):
    """Its SETTINGS may be here before anybody reads: many do not wait for the preface."""
    def serve(origin, wire):
        assert wire.take(len(PREFACE)) == PREFACE
        h2 = Http2(wire, preface=False)
        until_request(origin, h2)
        answer_200(origin, h2)
    proxy = sentinel(origin([settings(), serve]), upstream=UPSTREAM)
    for _ in range(20):
        assert proxy.request().status == 200


def test_a_malformed_response_is_502_and_the_connection_goes_on(sentinel, origin):
    def answer_badly(_origin, h2):
        h2.wire.send(frame(HEADERS, END_HEADERS | END_STREAM, h2.next,
                           h2.encoder.encode([(':status', '200'), ('connection', 'close')])))
    server = origin(serve_frames(until_request, answer_badly, until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request().status == 502
    assert proxy.logged('bad_response')
    assert proxy.request().status == 200


def test_a_peer_that_speaks_http1_is_502(sentinel, origin):
    server = origin([read_head, response(b'what')])
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request().status == 502
    assert json.loads(proxy.request().body)['status'] == 502


def test_a_client_of_http2_and_an_upstream_of_http2(sentinel, echo):
    second = sentinel(echo, listener='h2c true')
    first = sentinel(f'127.0.0.1:{second.port}', upstream=UPSTREAM, listener='h2c true')
    h2 = Http2(first.connect())
    streams = [h2.open(method='POST', path=f'/{i}', end=False) for i in range(30)]
    for stream in streams:
        h2.data(stream, b'x' * 1000, end=True)
    for i, stream in enumerate(streams):
        seen = json.loads(h2.answer(stream).body)
        assert seen['target'] == f'/{i}' and seen['length'] == 1000
        assert ['Via', '2 sentinel'] in seen['fields']
