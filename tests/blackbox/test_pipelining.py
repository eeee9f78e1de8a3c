"""Several requests on one connection, and HTTP/1.0 clients."""
import pytest

from harness.checks import assert_own_answer
from harness.origins import hold, read_request, read_to_end, response
from harness.wire import chunked, request_bytes


def test_pipelined_requests_are_answered_in_order(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(b''.join(request_bytes(f'/{number}') for number in range(20)))
        targets = [client.read_response().json()['target'] for _ in range(20)]
    assert targets == [f'/{number}' for number in range(20)]
    assert len(proxy.log_records(20)) == 20


def test_pipelined_bodies_do_not_mix(sentinel, echo):
    proxy = sentinel(echo)
    requests = [request_bytes('/1', 'POST', body=b'GET /not HTTP/1.1\r\n\r\n'),
                request_bytes('/2', 'POST', [('Transfer-Encoding', 'chunked')]) + chunked(b'two'),
                request_bytes('/3', 'HEAD'), request_bytes('/4', 'POST', body=b'four')]
    with proxy.connect() as client:
        client.send(b''.join(requests))
        first, second = (client.read_response().json() for _ in range(2))
        assert client.read_response('HEAD').status == 200
        last = client.read_response().json()
    bodies = [seen['body'] for seen in (first, second, last)]
    assert bodies == ['GET /not HTTP/1.1\r\n\r\n', 'two', 'four']
    assert [request.target for request in echo.requests] == ['/1', '/2', '/3', '/4']


def test_the_second_request_waits_for_the_first_answer(sentinel, origin):
    server = origin([read_request, hold, response(b'1'), read_request, response(b'2'), read_to_end])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes('/1') + request_bytes('/2'))
        server.wait_requests(1)
        assert client.silent(0.3)
        server.release()
        assert [client.read_response().body for _ in range(2)] == [b'1', b'2']


def test_what_follows_a_close_is_not_served(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(request_bytes('/1', fields=[('Connection', 'close')]) + request_bytes('/2'))
        assert client.read_response().json()['target'] == '/1'
        assert client.ended(5)
        assert client.buffer == b''
    assert [request.target for request in echo.requests] == ['/1']


def test_what_follows_a_refused_request_is_not_served(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(b'GET / HTTP/1.1\r\nHost : x\r\n\r\n' + request_bytes('/2'))
        assert_own_answer(client.read_response(), 400, 'bad_field')
        assert client.ended(10)
        assert client.buffer == b''
    assert echo.requests == []


def test_empty_lines_before_a_request_are_passed_over(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(b'\r\n' + request_bytes('/1'))
        assert client.read_response().json()['target'] == '/1'


def test_an_undrained_body_is_never_read_as_a_request(sentinel, origin):
    """The origin answers without reading; what is left of the body must not become a request."""
    smuggled = request_bytes('/smuggled')
    server = origin([lambda o, w: o.requests.append(w.read_head()), response(b'early')])
    proxy = sentinel(server)
    body = smuggled * 2000
    with proxy.connect() as client:
        try:
            client.send(request_bytes('/first', 'POST', body=body))
        except ConnectionError:
            pass  # closed while we were still sending: as good
        try:
            assert client.read_response().body == b'early'
        except Exception:
            pass  # the reset overtook the answer
    assert [request.target for request in server.requests] == ['/first']
    assert len(proxy.log_records(1)) == 1


def test_an_http_1_0_client_is_closed_after_one_answer(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(request_bytes(version='HTTP/1.0'))
        answer = client.read_response()
        assert answer.status == 200
        assert client.ended(5)
    assert proxy.log_record()['protocol'] == 'HTTP/1.0'


def test_an_http_1_0_client_may_ask_to_be_kept(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        for _ in range(2):
            client.send(request_bytes(version='HTTP/1.0', fields=[('Connection', 'keep-alive')]))
            answer = client.read_response()
            assert answer.get('Connection').lower() == 'keep-alive'


def test_an_http_1_0_client_needs_no_host(sentinel, echo):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(b'GET /old HTTP/1.0\r\n\r\n')
        assert client.read_response().json()['target'] == '/old'


def test_an_http_1_0_client_never_sees_chunks(sentinel, origin):
    server = origin([read_request, b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
                     + chunked(b'abc', b'def')])
    proxy = sentinel(server)
    with proxy.connect() as client:
        client.send(request_bytes(version='HTTP/1.0', fields=[('Connection', 'keep-alive')]))
        answer = client.read_response()
    assert (answer.framing, answer.body) == ('close', b'abcdef')


def test_an_http_1_0_origin_is_not_reused(sentinel, origin):
    server = origin([read_request, b'HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok', read_to_end])
    proxy = sentinel(server)
    assert [proxy.request().body for _ in range(2)] == [b'ok', b'ok']
    assert len(server.connections) == 2


@pytest.mark.parametrize('count', [3])
def test_a_connection_is_closed_after_its_last_allowed_request(sentinel, echo, count):
    proxy = sentinel(echo, limits=f'requests-per-connection {count}')
    with proxy.connect() as client:
        for number in range(count):
            client.send(request_bytes())
            answer = client.read_response()
            assert (answer.get('Connection') == 'close') == (number == count - 1)
        assert client.ended(5)
