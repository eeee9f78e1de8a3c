"""Messages between HTTP/1 and HTTP/2, in every combination: interim responses, trailers, lengths,
and what must not cross over."""
import json

import pytest

from harness.http2 import (DATA, END_HEADERS, END_STREAM, HEADERS, PROTOCOL_ERROR, Http2, frame)
from harness.http2_origins import body_of, read_on, send_head, serve_frames, until_request
from harness.origins import read_request
from harness.wire import Closed

UPSTREAM = 'http-version "2"'
LISTENER = 'h2c true'

HINTED = (b'HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n'
          b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
          b'3\r\nabc\r\n0\r\nServer-Timing: a;dur=1\r\nX-Other: b\r\n\r\n')


def hint(_origin, h2):
    """The same in frames."""
    send_head(h2, [(':status', '103'), ('link', '</x>')])
    send_head(h2, [(':status', '200')])
    h2.wire.send(frame(DATA, 0, h2.next, b'abc'))
    send_head(h2, [('server-timing', 'a;dur=1'), ('x-other', 'b')], end=True)


ORIGINS = {'h1': [[read_request, HINTED]], 'h2': [serve_frames(until_request, hint, read_on)]}


def upstream_of(kind):
    return {'upstream': UPSTREAM} if kind == 'h2' else {}


@pytest.mark.parametrize('upstream', ORIGINS)
def test_early_hints_and_trailers_reach_a_client_of_http1(sentinel, origin, upstream):
    proxy = sentinel(origin(*ORIGINS[upstream]), **upstream_of(upstream))
    with proxy.connect() as wire:
        wire.send(b'GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n')
        interim = wire.read_interim()
        assert interim.status == 103 and interim.get('Link') == '</x>'
        answer = wire.read_response()
    assert answer.status == 200 and answer.body == b'abc' and answer.framing == 'chunked'
    assert [(name.lower(), value) for name, value in answer.trailers] == [('server-timing',
                                                                          'a;dur=1')]


@pytest.mark.parametrize('upstream', ORIGINS)
def test_early_hints_and_trailers_reach_a_client_of_http2(sentinel, origin, upstream):
    proxy = sentinel(origin(*ORIGINS[upstream]), listener=LISTENER, **upstream_of(upstream))
    answer = Http2(proxy.connect()).request(fields=[('te', 'trailers')])
    assert answer.interim == [103] and dict(answer.heads[0])[b'link'] == b'</x>'
    assert answer.status == 200 and answer.body == b'abc'
    assert answer.trailers == [(b'server-timing', b'a;dur=1')]


@pytest.mark.parametrize('upstream', ORIGINS)
def test_a_client_of_http10_hears_of_neither(sentinel, origin, upstream):
    proxy = sentinel(origin(*ORIGINS[upstream]), **upstream_of(upstream))
    with proxy.connect() as wire:
        wire.send(b'GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n')
        answer = wire.read_response(interim=True)
        assert answer.status == 200 and answer.body == b'abc' and answer.framing == 'close'


def keep_body(seen):
    def step(_origin, h2):
        seen.append((h2.pairs, *body_of(h2)))
        send_head(h2, [(':status', '200')], end=True)
    return step


def send_upload(proxy, client, body, trailers):
    """A body of unknown length with a trailer section; the answer's status."""
    if client == 'h2':
        h2 = Http2(proxy.connect())
        stream = h2.open(method='POST', end=False)
        h2.data(stream, body)
        h2.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, h2.block(trailers)))
        return h2.answer(stream)
    with proxy.connect() as wire:
        lines = b''.join(b'%s: %s\r\n' % (name.encode(), value.encode())
                         for name, value in trailers)
        wire.send(b'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n'
                  b'%x\r\n%s\r\n0\r\n%s\r\n' % (len(body), body, lines))
        return wire.read_response()


@pytest.mark.parametrize('client', ['h1', 'h2'])
def test_the_trailers_of_a_request_end_here_and_its_body_arrives_whole(sentinel, origin, echo,
                                                                      client):
    trailers = [('x-checksum', '1'), ('x-other', 'b')]
    proxy = sentinel(echo, listener=LISTENER)
    answer = send_upload(proxy, client, b'body', trailers)
    seen = json.loads(answer.body)
    assert seen['length'] == 4 and seen['trailers'] == []
    bodies = []
    proxy = sentinel(origin(serve_frames(until_request, keep_body(bodies), read_on)),
                     listener=LISTENER, upstream=UPSTREAM)
    assert send_upload(proxy, client, b'body', trailers).status == 200
    head, body, after = bodies[0]
    assert body == b'body' and after == []
    assert not {b'transfer-encoding', b'connection', b'host'} & {name for name, _ in head}


BAD_TRAILERS = {
    'a pseudo-field': [(':path', '/admin')], 'a status': [(':status', '200')],
    'a pseudo-field behind others': [('a', 'b'), (':method', 'GET')],
    'a name in upper case': [('X-A', 'b')], 'LF in a value': [('a', 'b\nc')],
    'connection': [('connection', 'close')], 'te': [('te', 'gzip')],
    'transfer-encoding': [('transfer-encoding', 'chunked')],
}


def test_malformed_trailers_of_a_request_reset_its_stream(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    h2 = Http2(proxy.connect())
    for kind, trailers in BAD_TRAILERS.items():
        stream = h2.open(method='POST', end=False)
        h2.data(stream, b'body')
        h2.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, h2.block(trailers)))
        answer = h2.answer(stream)
        assert answer.reset == PROTOCOL_ERROR or answer.status == 400, kind
    assert h2.request().status == 200
    reasons = [record['reason'] for record in proxy.log_records(len(BAD_TRAILERS) + 1)]
    assert set(reasons) <= {None, 'http2_malformed', 'bad_trailer'} and reasons.count(None) == 1
    assert [request.method for request in echo.requests] == ['GET']  # none of them became whole


def looks_whole(proxy, client):
    """Whether there is an answer of the upstream's from its begin to its end."""
    if client == 'h2':
        answer = Http2(proxy.connect()).request()
        return answer.status == 200 and answer.ended
    try:
        answer = proxy.request()
        return answer.status == 200 and not answer.truncated
    except Closed:
        return False


@pytest.mark.parametrize('client', ['h1', 'h2'])
def test_malformed_trailers_of_a_response_cut_it(sentinel, origin, client):
    def respond(trailers):
        def step(_origin, h2):
            send_head(h2, [(':status', '200')])
            h2.wire.send(frame(DATA, 0, h2.next, b'abc'))
            send_head(h2, trailers, end=True)
        return step
    steps = [step for bad in BAD_TRAILERS.values() for step in (until_request, respond(bad))]
    proxy = sentinel(origin(serve_frames(*steps, read_on)), listener=LISTENER, upstream=UPSTREAM)
    for kind in BAD_TRAILERS:
        assert not looks_whole(proxy, client), kind
    reasons = [record['reason'] for record in proxy.log_records(len(BAD_TRAILERS))]
    assert set(reasons) <= {'upstream_truncated', 'bad_response'}


LENGTHS = {'more': (3, b'four'), 'less': (5, b'four'), 'none': (4, b'')}


@pytest.mark.parametrize('client', ['h1', 'h2'])
def test_a_response_that_is_not_as_long_as_announced_never_looks_whole(sentinel, origin, client):
    def respond(length, body):
        def step(_origin, h2):
            send_head(h2, [(':status', '200'), ('content-length', str(length))])
            h2.wire.send(frame(DATA, END_STREAM, h2.next, body))
        return step
    steps = [step for row in LENGTHS.values() for step in (until_request, respond(*row))]
    proxy = sentinel(origin(serve_frames(*steps, read_on)), listener=LISTENER, upstream=UPSTREAM)
    for kind in LENGTHS:
        assert not looks_whole(proxy, client), kind
    reasons = [record['reason'] for record in proxy.log_records(len(LENGTHS))]
    assert set(reasons) <= {'upstream_truncated', 'bad_response'}


def test_fields_of_the_connection_do_not_cross_over(sentinel, origin):
    """What HTTP/1 says of its connection is not HTTP/2's to repeat (RFC 9113, 8.2.2)."""
    bodies = []
    proxy = sentinel(origin(serve_frames(until_request, keep_body(bodies), read_on)),
                     upstream=UPSTREAM)
    with proxy.connect() as wire:
        wire.send(b'GET /a?b HTTP/1.1\r\nHost: A.test:80\r\nConnection: x-mine, TE\r\nX-Mine: 1\r\n'
                  b'Keep-Alive: timeout=5\r\nProxy-Connection: close\r\nTE: gzip, trailers\r\n'
                  b'Upgrade: h2c\r\nCookie: a=1\r\nX-Kept: yes\r\n\r\n')
        assert wire.read_response().status == 200
    pairs = bodies[0][0]
    names = [name for name, _ in pairs]
    assert pairs[:4] == [(b':method', b'GET'), (b':scheme', b'http'), (b':authority', b'A.test:80'),
                         (b':path', b'/a?b')]
    assert not {b'connection', b'keep-alive', b'proxy-connection', b'x-mine', b'upgrade', b'host',
                b'transfer-encoding'} & set(names)
    assert dict(pairs)[b'te'] == b'trailers' and dict(pairs)[b'cookie'] == b'a=1'
    assert dict(pairs)[b'x-kept'] == b'yes' and names == [name.lower() for name in names]


def test_a_host_that_says_the_same_is_told_once(sentinel, echo):
    proxy = sentinel(echo, listener=LISTENER)
    seen = json.loads(Http2(proxy.connect()).request(
        authority='A.test', fields=[('host', 'a.test')]).body)
    assert [value.lower() for name, value in seen['fields'] if name == 'Host'] == ['a.test']
    seen = json.loads(Http2(proxy.connect()).request(
        authority=None, fields=[('host', 'b.test')]).body)
    assert [value for name, value in seen['fields'] if name == 'Host'] == ['b.test']
