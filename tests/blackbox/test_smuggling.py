"""Requests that two peers could read in two ways: refused, closed, never forwarded."""
import pytest

from harness.checks import assert_alive, assert_refused, get, head
from harness.wire import Closed, request_bytes

TE = 'bad_transfer_encoding'
CL = 'bad_content_length'

POST = ('POST / HTTP/1.1', 'Host: example.test')
CODED = (*POST, 'Transfer-Encoding: chunked')

FRAMING = {
    'length and coding': ([*POST, 'Content-Length: 5', 'Transfer-Encoding: chunked'], TE),
    'coding and length': ([*CODED, 'Content-Length: 5'], TE),
    'two lengths that differ': ([*POST, 'Content-Length: 5', 'Content-Length: 6'], CL),
    'two lengths that agree': ([*POST, 'Content-Length: 5', 'Content-Length: 5'], CL),
    'a list of lengths': ([*POST, 'Content-Length: 5, 5'], CL),
    'a signed length': ([*POST, 'Content-Length: +5'], CL),
    'a negative length': ([*POST, 'Content-Length: -5'], CL),
    'a hexadecimal length': ([*POST, 'Content-Length: 0x5'], CL),
    'an empty length': ([*POST, 'Content-Length:'], CL),
    'a length with a blank inside': ([*POST, 'Content-Length: 5 5'], CL),
    'a length above 64 bits': ([*POST, 'Content-Length: 18446744073709551621'], CL),
    'a length above 63 bits': ([*POST, 'Content-Length: 9223372036854775808'], CL),
    'a length of 300 digits': ([*POST, 'Content-Length: ' + '9' * 300], CL),
    'two codings in one field': ([*POST, 'Transfer-Encoding: gzip, chunked'], TE),
    'chunked twice': ([*POST, 'Transfer-Encoding: chunked, chunked'], TE),
    'chunked in two fields': ([*CODED, 'Transfer-Encoding: chunked'], TE),
    'chunked then identity': ([*CODED, 'Transfer-Encoding: identity'], TE),
    'identity': ([*POST, 'Transfer-Encoding: identity'], TE),
    'a coding that begins like chunked': ([*POST, 'Transfer-Encoding: chunkedx'], TE),
    'a quoted coding': ([*POST, 'Transfer-Encoding: "chunked"'], TE),
    'a coding with a parameter': ([*POST, 'Transfer-Encoding: chunked;q=1'], TE),
    'an empty coding': ([*POST, 'Transfer-Encoding:'], TE),
    'chunked in HTTP/1.0': (['POST / HTTP/1.0', 'Host: a', 'Transfer-Encoding: chunked'], TE),
    'a coding after a vertical tab': ([*POST, 'Transfer-Encoding: \x0bchunked'], None),
}


@pytest.mark.shared
@pytest.mark.parametrize('name', FRAMING)
def test_ambiguous_framing_is_refused(sentinel, echo, name):
    lines, reason = FRAMING[name]
    proxy = sentinel(echo)
    assert_refused(proxy, head(*lines) + b'0\r\n\r\n' + request_bytes('/smuggled'), 400, reason)
    assert echo.requests == []
    assert_alive(proxy)


FIELDS = {
    'a bare LF after the request line': b'GET / HTTP/1.1\nHost: a\r\n\r\n',
    'a bare LF after a field': b'GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n',
    'a bare CR in a value': b'GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n',
    'a bare CR before a field': b'GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n',
    'a head that ends in LF LF': b'GET / HTTP/1.1\r\nHost: a\n\n',
    'a head that ends in CRLF LF': b'GET / HTTP/1.1\r\nHost: a\r\n\nX: y\r\n\r\n',
    'a folded value': b'GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n',
    'a fold by a tab': b'GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n\tb\r\n\r\n',
    'a blank before the first field': b'GET / HTTP/1.1\r\n Host: a\r\n\r\n',
    'a blank before the colon': b'GET / HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n',
    'a tab before the colon': b'GET / HTTP/1.1\r\nHost: a\r\nX\t: b\r\n\r\n',
    'an empty name': b'GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n',
    'a name that is no token': b'GET / HTTP/1.1\r\nHost: a\r\nX(y): b\r\n\r\n',
    'a name beyond ASCII': b'GET / HTTP/1.1\r\nHost: a\r\nX\xe9: b\r\n\r\n',
    'a line without a colon': b'GET / HTTP/1.1\r\nHost: a\r\nXb\r\n\r\n',
    'a NUL in a value': b'GET / HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n',
    'a NUL in a name': b'GET / HTTP/1.1\r\nHost: a\r\nX\x00: b\r\n\r\n',
    'a control byte in a value': b'GET / HTTP/1.1\r\nHost: a\r\nX: a\x1bb\r\n\r\n',
    'a DEL in a value': b'GET / HTTP/1.1\r\nHost: a\r\nX: a\x7fb\r\n\r\n',
}


@pytest.mark.shared
@pytest.mark.parametrize('name', FIELDS)
def test_malformed_fields_are_refused(sentinel, echo, name):
    proxy = sentinel(echo)
    assert_refused(proxy, FIELDS[name], 400)
    assert echo.requests == []


LINES = {
    'two blanks': (b'GET  / HTTP/1.1', 400),
    'a tab': (b'GET\t/ HTTP/1.1', 400),
    'a blank in front': (b' GET / HTTP/1.1', 400),
    'a blank at the end': (b'GET / HTTP/1.1 ', 400),
    'no version': (b'GET /', 400),
    'no target': (b'GET HTTP/1.1', 400),
    'a method that is no token': (b'G(T / HTTP/1.1', 400),
    'a NUL': (b'GET /\x00 HTTP/1.1', 400),
    'a target beyond ASCII': (b'GET /\xc3\xa9 HTTP/1.1', 400),
    'a fragment': (b'GET /a#b HTTP/1.1', 400),
    'a relative target': (b'GET a HTTP/1.1', 400),
    'user information in the authority': (b'GET http://u:p@example.test/ HTTP/1.1', 400),
    'a scheme that is not HTTP': (b'GET ftp://example.test/ HTTP/1.1', 400),
    'lower case in the version': (b'GET / http/1.1', 400),
    'HTTP/2.0': (b'GET / HTTP/2.0', 505),
    'HTTP/0.9': (b'GET / HTTP/0.9', 505),
    'HTTP/1.2': (b'GET / HTTP/1.2', 505),
    'a long version': (b'GET / HTTP/1.10', 400),
    'CONNECT': (b'CONNECT example.test:443 HTTP/1.1', 501),
}


@pytest.mark.shared
@pytest.mark.parametrize('name', LINES)
def test_malformed_request_lines_are_refused(sentinel, echo, name):
    line, status = LINES[name]
    fields = ('Host: example.test:443',) if name == 'CONNECT' else ('Host: example.test',)
    assert_refused(sentinel(echo), head(line, *fields), status)
    assert echo.requests == []


HOSTS = {
    'none': (),
    'two': ('Host: a', 'Host: a'),
    'an empty one before another': ('Host:', 'Host: a'),
    'a list': ('Host: a, b',),
    'a blank inside': ('Host: a b',),
    'user information': ('Host: u@a',),
    'a path': ('Host: a/b',),
    'a query': ('Host: a?b',),
    'a port that is no number': ('Host: a:b',),
    'a port above 65535': ('Host: a:65536',),
    'an open bracket': ('Host: [::1',),
    'no address in brackets': ('Host: [zz]',),
    'a backslash': ('Host: a\\b',),
    'bytes beyond ASCII': (b'Host: \xc3\xa9',),
}


@pytest.mark.shared
@pytest.mark.parametrize('name', HOSTS)
def test_malformed_hosts_are_refused(sentinel, echo, name):
    assert_refused(sentinel(echo), head('GET / HTTP/1.1', *HOSTS[name]), 400, 'bad_host')
    assert echo.requests == []


@pytest.mark.shared
@pytest.mark.parametrize('host', ['a', 'a.example:8080', '127.0.0.1', '[::1]:80', 'xn--e1a.test'])
def test_good_hosts_are_taken(sentinel, echo, host):
    assert sentinel(echo).request(host=host).status == 200


CHUNKS = {
    'a bare LF after the size': b'5\nhello\r\n0\r\n\r\n',
    'a bare LF after the data': b'5\r\nhello\n0\r\n\r\n',
    'data longer than its size': b'3\r\nhello\r\n0\r\n\r\n',
    'no size': b'\r\nhello\r\n0\r\n\r\n',
    'a prefix': b'0x5\r\nhello\r\n0\r\n\r\n',
    'a sign': b'+5\r\nhello\r\n0\r\n\r\n',
    'a blank before the size': b' 5\r\nhello\r\n0\r\n\r\n',
    'letters beyond hexadecimal': b'5g\r\nhello\r\n0\r\n\r\n',
    'a size above 64 bits': b'10000000000000005\r\nhello\r\n0\r\n\r\n',
    'a size of 17 zeros and more': b'0' * 300 + b'5\r\nhello\r\n0\r\n\r\n',
    'a bare LF inside an extension': b'5;a=b\nc\r\nhello\r\n0\r\n\r\n',
    'a bare CR inside an extension': b'5;a\rb\r\nhello\r\n0\r\n\r\n',
    'a NUL inside an extension': b'5;a\x00\r\nhello\r\n0\r\n\r\n',
    'an extension without end': b'5;' + b'a' * 100000,
    'a trailer that is no field': b'0\r\nno colon\r\n\r\n',
    'a folded trailer': b'0\r\nX: a\r\n b\r\n\r\n',
    'a bare LF after the last chunk': b'0\n\r\n',
}


@pytest.mark.parametrize('name', CHUNKS)
def test_malformed_chunks_end_the_request(sentinel, echo, name):
    """The head may be on its way already; the origin must never see a complete request."""
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(head(*POST, 'Transfer-Encoding: chunked') + CHUNKS[name])
        try:
            answer = client.read_response()
            assert answer.status in (400, 431), answer.start
        except Closed:
            raise AssertionError('no answer') from None
        assert client.ended(10)
    assert echo.requests == []
    assert proxy.log_record()['reason'] in ('bad_chunk', 'bad_trailer')


def test_many_tiny_extensions_are_bounded(sentinel, echo):
    """One byte of data and a hundred of extension in each chunk is an attack on the parser."""
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(head(*POST, 'Transfer-Encoding: chunked'))
        try:
            client.send((b'1;' + b'e' * 100 + b'\r\nx\r\n') * 20000 + b'0\r\n\r\n')
            assert client.read_response().status in (200, 400)
        except ConnectionError:
            pass
    assert proxy.request().status == 200


@pytest.mark.parametrize('method', ['GET', 'HEAD', 'DELETE', 'OPTIONS'])
def test_a_body_on_a_method_without_one_is_framed_all_the_same(sentinel, echo, method):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(request_bytes('/1', method, body=request_bytes('/smuggled'))
                    + request_bytes('/2'))
        assert client.read_response(method).status == 200
        assert client.read_response().json()['target'] == '/2'
    assert [request.target for request in echo.requests] == ['/1', '/2']


def test_nothing_of_a_head_is_passed_through(sentinel, echo):
    """Odd but legal spelling is written anew."""
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(get('/', 'X-A:\t  padded \t', 'x-b:tight'))
        client.read_response()
    raw = echo.connections[0].received
    assert b'X-A: padded\r\n' in raw
    assert b'b: tight\r\n' in raw


@pytest.mark.shared
@pytest.mark.parametrize('data', [b'\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03', b'\x00' * 64,
                                  b'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', b'\xff' * 9000,
                                  b'PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nGET / HTTP/1.1\r\n\r\n'])
def test_other_protocols_are_refused_at_once(sentinel, echo, data):
    proxy = sentinel(echo)
    with proxy.connect() as client:
        client.send(data)
        assert client.read_response().status in (400, 414, 505)
        assert client.ended(10)
    assert_alive(proxy)
