"""HTTP/2 to upstreams: many requests on one connection, and what becomes of them when it ends.

The upstream is a second Sentinel, or a scripted peer that speaks frames.
"""
import json
import threading
import time

import pytest

from harness.attack import shed
from harness.http2 import ACK, END_HEADERS, HEADERS, PING, PREFACE, Http2, frame, settings
from harness.http2_origins import (answer, answer_200, body_of, heads, read_on, refuse, say_goodbye,
                                   send_head, serve_frames, until_request)
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


def test_a_request_that_goaway_excludes_is_sent_again_whatever_its_method(sentinel, origin):
    server = origin(serve_frames(until_request, answer_200, until_request, say_goodbye(1)),
                    serve_frames(until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request('/', 'POST').status == 200
    assert proxy.request('/', 'POST').status == 200
    assert len(server.requests) == 2


def ask_all(proxy, count, method='GET'):
    """So many requests at once, each on a connection of its own; their answers."""
    answers = [None] * count

    def ask(i):
        answers[i] = proxy.request(f'/{i}', method)
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    return answers


def test_of_many_requests_those_above_the_last_stream_are_sent_again_and_no_other(sentinel,
                                                                                 origin):
    """Two of six were looked at; the other four find one new connection together."""
    server = origin(serve_frames(until_request, answer_200, heads(6), say_goodbye(5),
                                 answer(3), answer(5)),
                    serve_frames(heads(4), answer(1), answer(3), answer(5), answer(7), read_on))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request('/', 'POST').status == 200
    assert [one.status for one in ask_all(proxy, 6, 'POST')] == [200] * 6
    assert sorted(server.requests, key=str) == [1, 1, 3, 3, 5, 5, 7]
    assert proxy.metric('sentinel_upstream_connections_opened_total') == 2
    assert {record['status'] for record in proxy.log_records(7)} == {200}


def test_a_silent_connection_is_asked_whether_it_lives_and_given_up(sentinel, origin):
    """The request is safe: it is sent again, on a new connection."""
    frames = []
    server = origin(serve_frames(until_request, answer_200, until_request,
                                 lambda origin, h2: read_on(origin, h2, frames)),
                    serve_frames(until_request, answer_200, read_on))
    proxy = sentinel(server, upstream=UPSTREAM, timeouts='upstream-ping 300ms')
    assert proxy.request().status == 200
    began = time.monotonic()
    assert proxy.request().status == 200
    assert time.monotonic() - began > 0.55
    assert [kind for kind, *_ in frames] == [PING]
    assert proxy.metric('sentinel_upstream_failures_total', reason='upstream_ping_timeout') == 1


def test_what_is_not_safe_to_repeat_ends_with_its_silent_connection(sentinel, origin):
    server = origin(serve_frames(heads(3), read_on), serve_frames(until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM, timeouts='upstream-ping 200ms')
    answers = ask_all(proxy, 3, 'POST')
    assert [one.status for one in answers] == [504] * 3
    assert {one.json()['reason'] for one in answers} == {'upstream_ping_timeout'}
    assert proxy.logged('upstream_ping_timeout')['upstream'] == 'backend'
    assert proxy.request().status == 200


def test_a_response_whose_connection_goes_silent_is_cut(sentinel, origin):
    def begin(_origin, h2):
        h2.send(frame(HEADERS, END_HEADERS, h2.next, h2.encoder.encode([(':status', '200')])))
    server = origin(serve_frames(until_request, begin, read_on))
    proxy = sentinel(server, upstream=UPSTREAM, timeouts='upstream-ping 200ms')
    with proxy.connect() as wire:
        wire.send(b'GET / HTTP/1.1\r\nHost: a.test\r\n\r\n')
        assert wire.read_response().truncated
    assert proxy.logged('upstream_ping_timeout')['status'] == 200


def test_who_answers_pings_is_waited_for_and_asked_ever_less_often(sentinel, origin):
    pings = []

    def answer_pings(_origin, h2):
        while len(pings) < 3:
            kind, flags, _, payload = h2.take_raw()
            if kind == PING and not flags & ACK:
                pings.append(time.monotonic())
                h2.send(frame(PING, ACK, 0, payload))
    server = origin(serve_frames(until_request, answer_pings, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM, timeouts='upstream-ping 100ms')
    assert proxy.request('/', 'POST').status == 200
    first, second, third = pings
    assert second - first > 0.35 and third - second > 1.4


def test_a_refused_stream_is_sent_again_whatever_its_method(sentinel, origin):
    server = origin(serve_frames(until_request, answer_200, until_request, refuse, until_request),
                    serve_frames(until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request('/', 'POST').status == 200
    assert proxy.request('/', 'POST').status == 200


@pytest.mark.parametrize('refusals, status', [(2, 200), (3, 502)])
def test_a_second_refusal_is_an_attempt_that_failed(sentinel, origin, refusals, status):
    """The first says nothing of the endpoint; max-attempts is 2 where nobody says otherwise."""
    server = origin(*[serve_frames(until_request, say_goodbye(0))] * refusals,
                    serve_frames(until_request, answer_200))
    proxy = sentinel(server, upstream=UPSTREAM)
    assert proxy.request('/', 'POST').status == status
    assert len(server.connections) == min(refusals + 1, 3)
    assert proxy.log_record()['attempts'] == 3


def test_a_body_larger_than_what_its_route_collects_is_sent_again_like_any(sentinel, origin):
    bodies = []
    server = origin(serve_frames(until_request, say_goodbye(0)),
                    serve_frames(until_request, lambda _, h2: bodies.append(body_of(h2)), answer_200))
    proxy = sentinel(server, upstream=UPSTREAM, policies='buffering { request "1KiB" }')
    assert proxy.request('/', 'POST', body=b'x' * 5000).status == 200
    assert bodies == [(b'x' * 5000, [])]


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


BAD_HEADS = {
    'no status': [('a', 'b')], 'a status of two digits': [(':status', '20')],
    'a status beyond 599': [(':status', '600')], 'two': [(':status', '200'), (':status', '200')],
    'a request\'s pseudo-field': [(':status', '200'), (':path', '/')],
    'an unknown pseudo-field': [(':status', '200'), (':x', 'y')],
    'a status behind a field': [('a', 'b'), (':status', '200')],
    'switching protocols': [(':status', '101')],
    'an interim head that ends the stream': [(':status', '103')],
    'a name in upper case': [(':status', '200'), ('X-A', 'b')],
    'a space in a name': [(':status', '200'), ('a b', 'c')],
    'CR in a value': [(':status', '200'), ('a', 'b\rc')],
    'LF in a value': [(':status', '200'), ('a', 'b\nx: y')],
    'NUL in a value': [(':status', '200'), ('a', 'b\0c')],
    'a space before a value': [(':status', '200'), ('a', ' b')],
    'a space behind a value': [(':status', '200'), ('a', 'b ')],
    'connection': [(':status', '200'), ('connection', 'close')],
    'keep-alive': [(':status', '200'), ('keep-alive', 'timeout=5')],
    'proxy-connection': [(':status', '200'), ('proxy-connection', 'close')],
    'transfer-encoding': [(':status', '200'), ('transfer-encoding', 'chunked')],
    'upgrade': [(':status', '200'), ('upgrade', 'h2c')],
    'a length and no body': [(':status', '200'), ('content-length', '5')],
    'a length that is none': [(':status', '200'), ('content-length', '+5')],
    'two lengths': [(':status', '200'), ('content-length', '0'), ('content-length', '0')],
}


def test_a_malformed_response_is_502_and_the_connection_goes_on(sentinel, origin):
    steps = [step for head in BAD_HEADS.values() for step in (until_request, answer(fields=head))]
    proxy = sentinel(origin(serve_frames(*steps, until_request, answer_200)), upstream=UPSTREAM)
    for kind in BAD_HEADS:
        assert proxy.request('/' + kind.replace(' ', '-')).status == 502, kind
    assert proxy.request().status == 200
    assert proxy.metric('sentinel_upstream_connections_opened_total') == 1
    reasons = [record['reason'] for record in proxy.log_records(len(BAD_HEADS) + 1)]
    assert reasons == ['bad_response'] * len(BAD_HEADS) + [None]


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


def answer_without_its_end(_origin, h2):
    send_head(h2, [(':status', '200'), ('content-length', '5')])
    h2.data(h2.next, b'hello')


def test_a_client_that_has_everything_may_go_before_its_upstream_says_that_it_is_all(sentinel, origin):
    proxy = sentinel(origin(serve_frames(until_request, answer_without_its_end, until_request,
                                         answer_without_its_end, read_on)),
                     upstream=UPSTREAM, listener='h2c true')
    wire = proxy.connect()
    wire.send(b'GET /one HTTP/1.1\r\nHost: a.test\r\n\r\n')
    assert wire.read_response().body == b'hello'
    wire.reset()
    h2 = Http2(proxy.connect())
    assert h2.request(path='/two').body == b'hello'
    h2.wire.reset()
    found = {(record['path'], record['status'], record['reason'])
             for record in proxy.log_records(2)}
    assert found == {('/one', 200, None), ('/two', 200, None)}


def stuck_reader(proxy, path='/big', streams=1):
    """A client that asks for so many responses and takes nothing of their bodies."""
    h2 = Http2(proxy.connect(), first=settings((4, 0)), refill=False)
    for _ in range(streams):
        stream = h2.open(path=path)
        h2.until(lambda on=stream: on in h2.answers and
                 (h2.answers[on].heads or h2.answers[on].over))
    return h2


def big_and_small(sentinel, origin, echo, **parts):
    """A proxy in front of another one, which has a large answer and small ones."""
    big = origin([read_head, response(b'x' * 5_000_000)])
    second = sentinel(echo, listener='h2c true', extra=f'''
upstream "big" {{ target "{big.address}" }}
route "big" {{ match path-prefix="/big"; upstream "big" }}
''')
    return sentinel(f'127.0.0.1:{second.port}', upstream=UPSTREAM, listener='h2c true', **parts)


def test_clients_that_do_not_read_hold_up_nobody_on_the_connection_that_they_share(sentinel, origin,
                                                                                 echo):
    proxy = big_and_small(sentinel, origin, echo)
    stuck = stuck_reader(proxy, streams=20)
    for _ in range(5):
        assert proxy.request('/other').status == 200
    assert proxy.metric('sentinel_upstream_connections_opened_total') == 1
    assert not any(answer.over for answer in stuck.answers.values())


def test_when_memory_is_short_those_go_that_do_not_read(sentinel, origin, echo):
    proxy = big_and_small(sentinel, origin, echo, limits='http2-pool "2MiB"\nhttp2-window "256KiB"')
    stuck = stuck_reader(proxy, streams=12)
    wait_for(lambda: shed(proxy, 'slow_reader') > 0, 10, 'readers that are shed')
    assert proxy.logged('shed_slow_reader')['path'] == '/big'
    wait_for(lambda: proxy.request('/other').status == 200, 10, 'an answer')
    stuck.until(lambda: any(answer.reset is not None for answer in stuck.answers.values()))
