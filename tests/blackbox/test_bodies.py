"""Bodies both ways: lengths, chunks, trailers, interim responses, and messages without a body."""
import threading

import pytest

from harness.origins import (CHUNKED, drip, hold, pause, read_body, read_head, read_request,
                             read_to_end, response)
from harness.waiting import wait_for
from harness.wire import Closed, chunked, request_bytes

MEGABYTE = bytes(range(256)) * 4096
CONTINUE = b'HTTP/1.1 100 Continue\r\n\r\n'
EXPECTING = request_bytes('/', 'PUT', [('Expect', '100-continue'), ('Content-Length', '4')])


@pytest.mark.parametrize('size', [0, 1, 16383, 16384, 65536, 1 << 20])
def test_a_request_body_with_a_length_arrives_whole(sentinel, echo, size):
    answer = sentinel(echo).request('/', 'POST', [('Content-Length', str(size))], MEGABYTE[:size])
    assert answer.json()['length'] == size
    assert echo.requests[0].body == MEGABYTE[:size]


def test_a_chunked_request_body_arrives_whole(sentinel, echo):
    parts = [MEGABYTE[:1], MEGABYTE[1:70000], MEGABYTE[70000:70003], MEGABYTE[70003:]]
    answer = sentinel(echo).request('/', 'POST', [('Transfer-Encoding', 'chunked')],
                                    chunked(*parts))
    assert answer.status == 200
    assert echo.requests[0].body == MEGABYTE


def test_a_chunked_body_that_comes_byte_by_byte_arrives_whole(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        head = request_bytes('/', 'POST', [('Transfer-Encoding', 'Chunked')])
        for byte in head + chunked(b'abc', b'de'):
            client.send(bytes([byte]))
        assert client.read_response().json()['body'] == 'abcde'


def test_chunk_extensions_are_not_forwarded(sentinel, origin):
    server = origin([read_request, response(b'ok'), read_to_end])
    body = b'3;a=b;c="d"\r\nabc\r\n0;last\r\n\r\n'
    answer = sentinel(server).request('/', 'POST', [('Transfer-Encoding', 'chunked')], body)
    assert answer.status == 200
    assert server.requests[0].body == b'abc'
    assert b'a=b' not in server.connections[0].received
    assert b'last' not in server.connections[0].received


@pytest.mark.parametrize('size', [0, 1, 65536, 1 << 20])
def test_a_response_body_with_a_length_arrives_whole(sentinel, origin, size):
    server = origin([read_request, response(MEGABYTE[:size])])
    answer = sentinel(server).request()
    assert (answer.framing, answer.body, answer.truncated) == ('length', MEGABYTE[:size], False)


def test_a_chunked_response_body_arrives_whole(sentinel, origin):
    server = origin([read_request, CHUNKED
                     + chunked(MEGABYTE[:5], MEGABYTE[5:90000], MEGABYTE[90000:])])
    answer = sentinel(server).request()
    assert (answer.framing, answer.body, answer.truncated) == ('chunked', MEGABYTE, False)


def test_a_response_body_that_ends_with_the_connection_becomes_chunked(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\n\r\n', MEGABYTE])
    answer = sentinel(server).request()
    assert (answer.framing, answer.body, answer.truncated) == ('chunked', MEGABYTE, False)


def test_a_body_of_unknown_length_ends_the_connection_of_http_1_0_kept_alive_or_not(sentinel,
                                                                                   origin):
    proxy = sentinel(origin([read_request, CHUNKED + chunked(b'data'), read_to_end]))
    with proxy.connect() as client:
        client.send(b'GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n')
        answer = client.read_response()
        assert (answer.body, answer.get('Connection')) == (b'data', 'close')
        assert client.ended(5)


def test_response_bytes_are_not_held_back(sentinel, origin):
    server = origin([read_request, CHUNKED + b'5\r\nfirst\r\n', hold, b'6\r\nsecond\r\n0\r\n\r\n'])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        message = client.read_head()
        assert client.take_until(b'first')
        server.release()
        rest = client.take_until(b'0\r\n\r\n')
        assert b'second' in rest
    assert message.status == 200


def test_a_dripping_origin_is_waited_for(sentinel, origin):
    server = origin([read_request, drip(response(b'slowly'), 0.01)])
    assert sentinel(server).request().body == b'slowly'


def test_a_large_body_in_both_directions_at_once(sentinel, origin):
    def mirror(_server, wire):
        for _ in range(64):
            wire.send(wire.take(16384))
    server = origin([read_head, b'HTTP/1.1 200 OK\r\nContent-Length: 1048576\r\n\r\n', mirror])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', str(1 << 20))]))
        sender = threading.Thread(target=client.send, args=(MEGABYTE,), daemon=True)
        sender.start()
        answer = client.read_response()
        sender.join(10)
    assert answer.body == MEGABYTE


def test_head_has_the_length_and_no_body(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n',
                     read_request, response(b'next'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes(method='HEAD'))
        answer = client.read_response('HEAD')
        assert (answer.status, answer.get('Content-Length')) == (200, '1234')
        client.send(request_bytes())
        assert client.read_response().body == b'next'
    assert len(server.connections) == 1


@pytest.mark.parametrize('status', ['204 No Content', '304 Not Modified'])
def test_responses_without_content_end_with_their_head(sentinel, origin, status):
    server = origin([read_request, f'HTTP/1.1 {status}\r\nETag: "a"\r\n\r\n'.encode(),
                     read_request, response(b'next'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        answer = client.read_response()
        assert answer.start.startswith(f'HTTP/1.1 {status[:3]}')
        assert not answer.has('Transfer-Encoding')
        client.send(request_bytes())
        assert client.read_response().body == b'next'


def test_the_first_pull_of_a_body_asks_the_client_to_continue(sentinel, origin):
    server = origin([read_head, CONTINUE, read_body, response(b'done'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(EXPECTING)
        assert client.read_interim().status == 100
        client.send(b'body')
        answer = client.read_response(interim=True)
    assert (answer.status, answer.body) == (200, b'done')
    assert server.requests[0].body == b'body'


def test_a_final_answer_instead_of_continue_reaches_the_client(sentinel, origin):
    server = origin([read_head, response(b'no', '403 Forbidden', [('Connection', 'close')])])
    proxy = sentinel(server, timeouts='request-body-idle 5s')
    with proxy.connect() as client:
        client.send(EXPECTING)
        answer = client.read_response()
        assert (answer.status, answer.body) == (403, b'no')
        # Whether the body still comes nobody knows, so nothing that follows is taken for a request.
        assert answer.get('Connection') == 'close'
        client.send(request_bytes('/another'))
        assert client.ended(10) and client.buffer == b''
    assert [request.target for request in server.requests] == ['/']


def test_an_origin_that_never_says_continue_gets_the_body_all_the_same(sentinel, origin):
    server = origin([read_head, read_body, response(b'done')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(EXPECTING)
        assert client.read_interim().status == 100
        client.send(b'body')
        assert client.read_response().body == b'done'


def test_a_refused_request_is_not_asked_to_continue(sentinel, echo):
    proxy = sentinel(echo, policies='max-body-size "1KiB"')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'PUT', [('Expect', '100-continue'),
                                               ('Content-Length', '2000')]))
        answer = client.read_response(interim=True)
    assert (answer.status, answer.get('Connection')) == (413, 'close')
    assert echo.requests == []


def test_curl_uploads_with_expect(sentinel, echo, curl, tmp_path):
    (tmp_path / 'upload').write_bytes(MEGABYTE)
    done = curl('-T', str(tmp_path / 'upload'), '-H', 'Expect: 100-continue',
                f'{sentinel(echo).url}/up')
    assert done.returncode == 0
    assert echo.requests[0].body == MEGABYTE


def test_an_expectation_nobody_knows_is_417(sentinel, echo):
    proxy = sentinel(echo)
    for value in ('200-ok', '100-continue, x'):
        assert proxy.request('/', 'PUT', [('Expect', value)], b'x').status == 417, value
    assert echo.requests == []


def test_a_continue_nobody_waits_for_is_not_relayed(sentinel, origin):
    server = origin([read_request, CONTINUE * 2 + response(b'ok')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        answer = client.read_response(interim=True)
    assert (answer.status, answer.body) == (200, b'ok')


def test_early_hints_are_relayed(sentinel, origin):
    hints = b'HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n'
    server = origin([read_request, hints, hold, response(b'page')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes())
        hint = client.read_interim()
        assert (hint.status, hint.get('Link')) == (103, '</a.css>; rel=preload')
        server.release()
        assert client.read_response(interim=True).body == b'page'


def test_early_hints_are_kept_from_http_1_0(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n',
                     response(b'page')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes(version='HTTP/1.0'))
        assert client.read_response(interim=True).status == 200


def test_an_origin_that_sends_interim_responses_forever_is_cut_off(sentinel, origin):
    hints = b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n'
    def flood(server, wire):
        while not server.released.is_set():
            wire.send(hints * 100)
    proxy = sentinel(origin([read_request, flood]), policies='timeout 3s')
    with proxy.connect() as client:
        client.send(request_bytes())
        answer = client.read_response()
    assert answer.status in (502, 504)


@pytest.mark.parametrize('hints, status', [(16, 200), (17, 502)])
def test_a_response_may_have_sixteen_interim_ones_before_it(sentinel, origin, hints, status):
    interim = b'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n' * hints
    proxy = sentinel(origin([read_request, interim + response(b'done'), read_to_end]))
    with proxy.connect() as client:
        client.send(request_bytes())
        assert client.read_response().status == status
    assert proxy.log_record()['reason'] == (None if status == 200 else 'bad_response')


TRAILERS = chunked(b'data', trailers=[('Server-Timing', 'db;dur=1'), ('X-Secret', '1'),
                                      ('Content-Length', '9'), ('Set-Cookie', 'a=b')])


def test_listed_trailers_reach_a_client_that_asked(sentinel, origin):
    server = origin([read_request, CHUNKED + TRAILERS])
    answer = sentinel(server).request(fields=[('TE', 'trailers'), ('Connection', 'TE')])
    assert answer.body == b'data'
    assert answer.trailers == [('Server-Timing', 'db;dur=1')]


def test_trailers_are_dropped_for_a_client_that_did_not_ask(sentinel, origin):
    server = origin([read_request, CHUNKED + TRAILERS])
    answer = sentinel(server).request()
    assert (answer.body, answer.trailers, answer.truncated) == (b'data', [], False)


def test_unlisted_trailers_of_a_request_never_reach_the_origin(sentinel, echo):
    seen = sentinel(echo).request('/', 'POST', [('Transfer-Encoding', 'chunked')], TRAILERS).json()
    assert seen['body'] == 'data'
    assert {name for name, _ in map(tuple, seen['trailers'])} <= {'Server-Timing'}


def test_an_early_answer_reaches_the_client_while_it_uploads(sentinel, origin):
    server = origin([read_head, response(b'enough', '413 Content Too Large',
                                         [('Connection', 'close')]), hold])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'POST', [('Content-Length', '1000000')]) + b'x' * 1000)
        answer = client.read_response()
        assert (answer.status, answer.body) == (413, b'enough')
        assert client.ended(15)


FIXED = 'route "fixed" {\n    match path-prefix="/"\n    respond 200 body="fixed"\n}\n'


@pytest.mark.parametrize('size, persists', [(40 << 10, True), (400 << 10, False)])
def test_what_nobody_wants_of_a_body_is_read_up_to_a_bound(sentinel, size, persists):
    proxy = sentinel(routes=FIXED)
    with proxy.connect() as client:
        client.send(request_bytes('/', 'PUT', [('Content-Length', str(size))]))
        assert client.read_response().body == b'fixed'
        try:
            client.send(b'x' * size + request_bytes())
            second = client.read_response().body
        except (Closed, ConnectionError):
            second = None
    assert second == (b'fixed' if persists else None)


def test_what_nobody_wants_of_a_body_is_waited_for_briefly(sentinel):
    proxy = sentinel(routes=FIXED, timeouts='request-body-idle 60s\nkeep-alive 60s\nlinger 200ms')
    with proxy.connect() as client:
        client.send(request_bytes('/', 'PUT', [('Content-Length', '1000')]) + b'half')
        assert client.read_response().body == b'fixed'
        assert client.silent(1) and client.ended(8)


def test_a_client_that_leaves_half_way_ends_the_upload(sentinel, origin):
    server = origin([read_head, read_to_end])
    proxy = sentinel(server)
    client = proxy.connect()
    client.send(request_bytes('/', 'POST', [('Content-Length', '1000')]) + b'half')
    server.wait_requests(1)
    client.reset()
    record = proxy.log_record()
    assert record['reason'] in ('client_body_truncated', 'client_closed')
    wait_for(lambda: server.connections[0].sock.fileno() == -1, 5, 'the end at the origin')


def test_a_client_that_leaves_during_the_response_is_logged(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n',
                     b'x' * 1000000, hold])
    proxy = sentinel(server)
    client = proxy.connect()
    client.send(request_bytes())
    assert client.read_head().status == 200
    client.reset()
    assert proxy.log_record()['reason'] == 'client_closed'


def test_a_client_that_leaves_while_the_origin_pauses_is_noticed_at_once(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun', hold])
    proxy = sentinel(server)
    client = proxy.connect()
    client.send(request_bytes())
    assert client.read_head().status == 200
    assert client.take(5) == b'begun'
    client.reset()
    assert proxy.log_record(5)['reason'] == 'client_closed'


def test_a_half_closed_client_still_gets_its_answer(sentinel, origin):
    server = origin([read_request, pause(0.3), response(b'late')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes(fields=[('Connection', 'close')]))
        client.half_close()
        answer = client.read_response()
    assert (answer.status, answer.body) == (200, b'late')
