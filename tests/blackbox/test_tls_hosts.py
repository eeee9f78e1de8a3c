"""Names by which a client of one host tries to reach another: whatever it is called, it is 421 or 400."""
import pytest

from harness.certificates import Authority
from harness.http2 import Http2
from harness.wire import Wire, request_bytes
from test_routing import route
from test_tls import context_of, secure, tls

# A name of the other host, however written, over a connection that was made for a.example.
OTHERS = ['b.example', 'B.Example', 'b.example.', 'b.example:443', 'B.EXAMPLE.:8443', 'x.b.example',
          'y.x.b.example']
BAD = ['b.example..', '.b.example', 'b..example', 'b.example:x', 'b.example:70000', 'b.example b.example',
       'a.example,b.example', 'a.example/b.example', 'a.example@b.example', 'b\u00e9.example',
       '[::1', '[b.example]', 'b.example\\', 'b%2eexample']


@pytest.fixture(scope='module')
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp('certificates'))
    authority.issue('a', 'a.example')
    authority.issue('b', 'b.example', '*.b.example')
    return authority


@pytest.fixture
def proxy(sentinel, authority):
    """b.example has a certificate and a route of its own; all else is a.example's."""
    return sentinel(listener=tls(authority),
                    routes=route('other', 'match host="b.example"\npriority 1')
                    + route('below', 'match host="*.b.example"\npriority 1')
                    + route('own', 'match path-prefix="/"'))


def asked(proxy, authority, request, name='a.example'):
    """Status and body of one answer over TLS."""
    with secure(proxy, context_of(authority), name) as client:
        wire = Wire(client)
        wire.send(request)
        answer = wire.read_response()
        return answer.status, answer.body.decode()


def test_a_host_of_another_certificate_is_misdirected_however_it_is_written(proxy, authority):
    for host in OTHERS:
        status, body = asked(proxy, authority, request_bytes(host=host))
        assert status == 421 and 'misdirected' in body, host
        for scheme in ('https', 'http'):  # the target's authority counts, and not the field
            target = f'{scheme}://{host}/'
            status, body = asked(proxy, authority, request_bytes(target, host='a.example'))
            assert status in (400, 421), (target, body)
    # Who has come for it is served, by its route.
    for host in OTHERS[:-1]:
        name = host.split(':')[0].rstrip('.').lower()
        expected = 'other' if name == 'b.example' else 'below'
        assert asked(proxy, authority, request_bytes(host=host), name=name) == (200, expected)


def test_a_host_that_could_be_read_in_two_ways_is_refused(proxy, authority):
    for host in BAD:
        status, body = asked(proxy, authority, request_bytes(host=host))
        assert status == 400, (host, body)


def test_what_is_served_with_the_same_certificate_is_served(proxy, authority):
    for host in ('127.0.0.1', '[::1]', '[::1]:443', 'xn--b-example-9ya.example', 'a.example.', 'A.EXAMPLE:1'):
        assert asked(proxy, authority, request_bytes(host=host)) == (200, 'own'), host


def test_two_hosts_are_none(proxy, authority):
    request = b'GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\n\r\n'
    assert asked(proxy, authority, request)[0] == 400
    assert asked(proxy, authority, b'GET / HTTP/1.1\r\n\r\n')[0] == 400
    # HTTP/1.0 may leave it out: then nothing is claimed.
    assert asked(proxy, authority, b'GET / HTTP/1.0\r\n\r\n') == (200, 'own')


def multiplexed(proxy, authority, heads):
    """The statuses (None: the stream was reset) of requests over one connection for a.example."""
    context = context_of(authority)
    context.set_alpn_protocols(['h2'])
    with secure(proxy, context) as sock:
        client = Http2(Wire(sock))
        found = []
        for parts in heads:
            stream = client.open(scheme='https', **parts)
            answer = client.answer(stream)
            found.append(answer.status)
        return found


def test_http2_holds_each_stream_to_the_connections_certificate(proxy, authority):
    found = multiplexed(proxy, authority, [{'authority': host} for host in ['a.example', *OTHERS,
                                                                          'A.Example.:443']])
    assert found == [200, *[421] * len(OTHERS), 200]
    # Two names that are not one (RFC 9113, 8.3.1).
    found = multiplexed(proxy, authority, [
        {'authority': 'a.example', 'fields': [('host', 'b.example')]},
        {'authority': None, 'fields': [('host', 'b.example')]}])
    assert found[0] in (None, 400) and found[1] == 421


def test_without_a_name_the_default_hosts_certificate_counts(proxy, authority):
    context = context_of(authority)
    context.check_hostname = False
    with secure(proxy, context, name=None) as client:
        wire = Wire(client)
        wire.send(request_bytes(host='b.example') + request_bytes(host='a.example'))
        assert [wire.read_response().status for _ in range(2)] == [421, 200]


def test_a_redirect_to_https_names_the_host_and_nothing_else(sentinel, authority):
    proxy = sentinel(listener='redirect-https', routes=route('own', 'match path-prefix="/"'))
    for host, place in (('b.example:8080', 'b.example'), ('B.Example', 'b.example'), ('[::1]:80', '[::1]'),
                        ('b.example.', 'b.example'), ('127.0.0.1', '127.0.0.1')):
        with proxy.connect() as client:
            client.send(request_bytes('/x?y=//evil.example', host=host))
            answer = client.read_response()
            assert answer.status == 308
            assert answer.get('Location').lower() == f'https://{place}/x?y=//evil.example'
    with proxy.connect() as client:  # the target's authority counts
        client.send(request_bytes('http://b.example:81//evil.example/', host='a.example'))
        answer = client.read_response()
        assert answer.status in (308, 400)
        if answer.status == 308:
            assert answer.get('Location').startswith('https://b.example/')
    for host in BAD:
        with proxy.connect() as client:
            client.send(request_bytes(host=host))
            assert client.read_response().status == 400, host
