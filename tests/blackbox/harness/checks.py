"""What many scenarios assert in the same words."""
from .wire import Closed


def assert_own_answer(answer, status, reason=None):
    """An answer that Sentinel made itself: JSON that says why, and never in whose words."""
    assert answer.status == status, (answer.start, answer.body)
    assert answer.get('Content-Type', '').startswith('application/json'), answer.fields
    body = answer.json()
    assert body['status'] == status
    assert set(body) == {'status', 'reason', 'message', 'request_id'}
    assert body['request_id'] == answer.get('X-Request-Id')
    assert answer.get('X-Content-Type-Options') == 'nosniff'
    assert answer.has('Proxy-Status')
    if reason is not None:
        assert body['reason'] == reason, body
    return body


def assert_refused(proxy, data, status, reason=None):
    """These bytes get one answer of our own with this status, and then the connection is closed."""
    with proxy.connect() as client:
        client.send(data)
        try:
            answer = client.read_response()
        except Closed:
            raise AssertionError(f'closed without an answer to {data[:200]!r}') from None
        body = assert_own_answer(answer, status, reason)
        assert (answer.get('Connection') or '').lower() == 'close'
        assert client.ended(10), 'the connection stays open'
        assert client.buffer == b'', f'a second answer: {client.buffer!r}'
    return body


def assert_alive(proxy):
    """The proxy still serves others."""
    assert proxy.request().status == 200


def head(*lines):
    """Lines of a head as bytes, with the empty line; nothing is added."""
    return b''.join((line if isinstance(line, bytes) else line.encode('latin-1')) + b'\r\n'
                    for line in lines) + b'\r\n'


def get(target='/', *fields):
    """A GET with these extra field lines, as bytes."""
    return head(f'GET {target} HTTP/1.1', 'Host: example.test', *fields)


