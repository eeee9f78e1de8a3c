"""Origins that break the rules: 502 with a reason, or a truncation that the client can see."""
import threading

import pytest

from harness.checks import assert_own_answer
from harness.origins import (CHUNKED, drip, pause, read_head, read_request, read_to_end, reset,
                             response)
from harness.wire import Closed, chunked, request_bytes

BAD_HEADS = {
    'no HTTP': b'hello\r\n\r\n',
    'binary': b'\x00\x01\x02\x03' * 100 + b'\r\n\r\n',
    'HTTP/2': b'HTTP/2 200 OK\r\n\r\n',
    'HTTP/1.2': b'HTTP/1.2 200 OK\r\n\r\n',
    'no status': b'HTTP/1.1\r\n\r\n',
    'a status of two digits': b'HTTP/1.1 20 OK\r\n\r\n',
    'a status of four digits': b'HTTP/1.1 2000 OK\r\n\r\n',
    'a status of letters': b'HTTP/1.1 2xx OK\r\n\r\n',
    'status 099': b'HTTP/1.1 099 Odd\r\nContent-Length: 0\r\n\r\n',
    'a bare LF': b'HTTP/1.1 200 OK\nContent-Length: 0\n\n',
    'a bare CR in a value': b'HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n',
    'a bare CR in the reason': b'HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n',
    'a NUL in a value': b'HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n',
    'a folded value': b'HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n',
    'a blank before the colon': b'HTTP/1.1 200 OK\r\nX : a\r\nContent-Length: 0\r\n\r\n',
    'an empty name': b'HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n',
    'a line without a colon': b'HTTP/1.1 200 OK\r\nX a\r\nContent-Length: 0\r\n\r\n',
    'length and coding': b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n'
                         b'Transfer-Encoding: chunked\r\n\r\n',
    'two lengths': b'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc',
    'a list of lengths': b'HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\nabc',
    'a negative length': b'HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n',
    'a length above 64 bits': b'HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n',
    'another coding': b'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
    'chunked in HTTP/1.0': b'HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
}


@pytest.mark.parametrize('name', BAD_HEADS)
def test_a_malformed_head_is_502(sentinel, origin, name):
    server = origin([read_request, BAD_HEADS[name]], [read_request, response(b'well')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', body=b'x'))
        assert_own_answer(client.read_response(), 502, 'bad_response')
        client.send(request_bytes())
        assert client.read_response().body == b'well'
    record = proxy.log_records(2)[0]
    assert (record['status'], record['reason']) == (502, 'bad_response')
    assert proxy.metric('sentinel_upstream_failures_total', upstream='backend',
                        reason='bad_response') == 1


def test_a_head_that_is_too_large_is_502(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nX: ' + b'a' * 100000 + b'\r\n\r\n'])
    assert_own_answer(sentinel(server).request(), 502, 'response_head_too_large')


def test_a_head_without_end_is_502(sentinel, origin):
    def flood(server, wire):
        while not server.released.is_set():
            wire.send(b'X: y\r\n' * 1000)
    server = origin([read_request, b'HTTP/1.1 200 OK\r\n', flood])
    assert_own_answer(sentinel(server).request(), 502, 'response_head_too_large')


def test_too_many_fields_are_502(sentinel, origin):
    server = origin([read_request, response(b'x', fields=[(f'X{n}', 'a') for n in range(200)])])
    assert_own_answer(sentinel(server).request(), 502, 'response_head_too_large')


@pytest.mark.parametrize('end', [[], [reset], [b'HTTP/1.1 200'], [b'HTTP/1.1 200 OK\r\nX: y\r\n']])
def test_an_origin_that_closes_before_its_head_is_502(sentinel, origin, end):
    server = origin([read_request, *end])
    answer = sentinel(server).request('/', 'POST', body=b'x')
    assert_own_answer(answer, 502)
    assert answer.json()['reason'] in ('upstream_closed', 'bad_response')


def test_a_post_is_sent_only_once(sentinel, origin):
    server = origin([read_request])
    proxy = sentinel(server)
    assert proxy.request('/', 'POST', body=b'x').status == 502
    assert len(server.requests) == 1
    assert proxy.log_record()['attempts'] == 1


def assert_truncated(proxy, whole, **options):
    """The client sees less than a complete response: an end before the end, a reset, or 502."""
    with proxy.connect() as client:
        client.send(request_bytes(**options))
        try:
            answer = client.read_response()
        except Closed as error:
            assert 'reset' in str(error)
            return
    assert answer.status == 502 or (answer.truncated and whole.startswith(answer.body)), answer.raw


CUT = {
    'a length that is not reached': b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345',
    'no last chunk': CHUNKED + b'5\r\n12345\r\n',
    'half a chunk': CHUNKED + b'a\r\n12345',
    'no end of the trailers': CHUNKED + b'5\r\n12345\r\n0\r\n',
}


@pytest.mark.parametrize('name', CUT)
def test_a_truncated_body_stays_truncated(sentinel, origin, name):
    server = origin([read_request, CUT[name]])
    proxy = sentinel(server)
    assert_truncated(proxy, b'12345')
    record = proxy.log_record()
    assert (record['status'], record['reason']) == (200, 'upstream_truncated')


@pytest.mark.parametrize('name', ['no last chunk', 'half a chunk'])
def test_a_truncated_body_is_visible_to_http_1_0_as_a_reset(sentinel, origin, name):
    server = origin([read_request, CUT[name]])
    assert_truncated(sentinel(server), b'12345', version='HTTP/1.0')


def test_a_reset_in_a_body_that_ends_with_the_connection_is_a_truncation(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\n\r\n', b'x' * 1000, pause(0.3), reset])
    assert_truncated(sentinel(server), b'x' * 1000)


BAD_CHUNKS = {
    'no size': b'hello\r\n0\r\n\r\n',
    'a bare LF': b'5\nhello\r\n0\r\n\r\n',
    'a size that is too small': b'3\r\nhello\r\n0\r\n\r\n',
    'a sign': b'-5\r\nhello\r\n0\r\n\r\n',
    'a size above 64 bits': b'fffffffffffffffff\r\nhello\r\n0\r\n\r\n',
    'a trailer that is no field': b'5\r\nhello\r\n0\r\nbad\r\n\r\n',
}


@pytest.mark.parametrize('name', BAD_CHUNKS)
def test_malformed_chunks_never_become_a_complete_body(sentinel, origin, name):
    server = origin([read_request, CHUNKED + BAD_CHUNKS[name], read_to_end],
                    [read_request, response(b'well'), read_to_end])
    proxy = sentinel(server)
    assert_truncated(proxy, b'hello')
    assert proxy.log_record()['reason'] in ('upstream_bad_body', 'bad_response')
    assert proxy.request().body == b'well'
    assert len(server.connections) == 2


def test_bytes_after_a_response_poison_nobody(sentinel, origin):
    """The classic desync: what follows must not be taken for the answer to the next request."""
    evil = response(b'evil', '200 Evil')
    server = origin([read_request, response(b'first') + evil, read_to_end],
                    [read_request, response(b'second'), read_to_end])
    proxy = sentinel(server)
    assert proxy.request('/1').body == b'first'
    assert proxy.request('/2').body == b'second'
    assert [wire.number for wire in server.connections] == [0, 1]


def test_bytes_between_requests_poison_nobody(sentinel, origin):
    dropped = threading.Event()
    late = [read_request, response(b'first'), lambda o, w: o.released.wait(10),
            response(b'evil', '200 Evil'), read_to_end, lambda o, w: dropped.set()]
    server = origin(late, [read_request, response(b'second')] * 4)
    proxy = sentinel(server, timeouts='upstream-keep-alive 60s')
    assert proxy.request('/1').body == b'first'
    server.release()
    assert dropped.wait(10)  # a request that is quicker could not tell whose answer that is
    answers = [proxy.request(f'/{number}').body for number in range(2, 5)]
    assert answers == [b'second'] * 3


def test_a_body_on_head_poisons_nobody(sentinel, origin):
    server = origin([read_request, response(b'body that must not be here'), read_to_end],
                    [read_request, response(b'second'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes(method='HEAD'))
        assert client.read_response('HEAD').status == 200
        client.send(request_bytes())
        assert client.read_response().body == b'second'


@pytest.mark.parametrize('status', ['204 No Content', '304 Not Modified'])
def test_a_body_where_none_may_be_poisons_nobody(sentinel, origin, status):
    server = origin([read_request, response(b'evil', status), read_to_end],
                    [read_request, response(b'second'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        assert client.read_response().status in (int(status[:3]), 502)
        client.send(request_bytes())
        assert client.read_response().body == b'second'


def test_a_response_before_the_request_poisons_nobody(sentinel, origin):
    early = [response(b'evil', '200 Evil'), read_head, response(b'late'), read_to_end]
    server = origin([read_request, response(b'first')], early, [read_request, response(b'ok')])
    proxy = sentinel(server)
    assert proxy.request('/1').body == b'first'
    answer = proxy.request('/2')
    assert answer.status in (200, 502)


def test_nothing_of_a_response_head_is_passed_through(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200    Weird  Reason\r\nX-Odd:   spaced\t \r\n'
                     b'Content-Length:  2 \r\n\r\nok'])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        answer = client.read_response()
    assert answer.status in (200, 502)
    if answer.status == 200:
        assert b'X-Odd: spaced\r\n' in answer.raw + b'\r\n'
        assert b'Content-Length: 2\r\n' in answer.raw + b'\r\n'


def test_a_dripping_chunked_origin_is_relayed_in_full(sentinel, origin):
    head = CHUNKED
    server = origin([read_request, drip(head + chunked(b'abc', b'defg'), 0.003)])
    answer = sentinel(server).request()
    assert (answer.body, answer.truncated) == (b'abcdefg', False)
