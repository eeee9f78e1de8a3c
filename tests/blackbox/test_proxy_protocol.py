"""The PROXY protocol: what upstreams are told of the client."""
import socket
import ssl

import pytest

from harness.certificates import Authority
from harness.proxy_protocol import ProxiedOrigin, own, peer
from harness.waiting import wait_for
from harness.wire import request_bytes, Wire

VERSIONS = {'v1': 1, 'v2': 2}


@pytest.fixture
def proxied(stack):
    """An origin that wants a header; with a context behind it, TLS."""
    def start(**options):
        stack.append(ProxiedOrigin(**options))
        return stack[-1]
    return start


def ask(wire, target='/'):
    wire.send(request_bytes(target))
    answer = wire.read_response()
    assert answer.status == 200
    return answer.json()


@pytest.mark.parametrize('version', VERSIONS)
def test_upstreams_are_told_of_the_client_in_the_version_that_is_asked_for(sentinel, proxied,
                                                                           version):
    server = proxied()
    proxy = sentinel(server, upstream=f'send-proxy-protocol "{version}"')
    with proxy.connect(source='127.0.0.7') as wire:
        ask(wire)
        assert server.headers == [(VERSIONS[version], own(wire.sock), peer(wire.sock))]
    assert not server.errors


def test_without_the_key_nothing_comes_before_the_request(sentinel, echo):
    for line in ('', 'send-proxy-protocol "off"'):
        assert sentinel(echo, upstream=line).request().status == 200
    assert all(wire.received.startswith(b'GET ') for wire in echo.connections)


@pytest.mark.parametrize('version', VERSIONS)
def test_no_client_gets_anothers_connection(sentinel, proxied, version):
    """Not even its own once more: each request has the connection that says for whom it is."""
    server = proxied()
    proxy = sentinel(server, upstream=f'send-proxy-protocol "{version}"')
    with proxy.connect(source='127.0.0.7') as one, proxy.connect(source='127.0.0.8') as other:
        seen = [ask(wire)['connection'] for wire in (one, other, one, other)]
        assert seen == [0, 1, 2, 3]
        assert [told[1] for told in server.headers] == 2 * [own(one.sock), own(other.sock)]
    wait_for(lambda: proxy.metric('sentinel_upstream_connections', state='idle') == 0 and
             proxy.metric('sentinel_upstream_connections', state='active') == 0,
             what='the end of all connections')


def test_behind_a_trusted_proxy_the_client_is_whom_it_names(sentinel, proxied):
    server = proxied()
    proxy = sentinel(server, upstream='send-proxy-protocol "v2"',
                     listener='trusted-proxies "127.0.0.0/8"')
    with proxy.connect() as wire:
        wire.send(request_bytes('/', fields=[('X-Forwarded-For', '2001:db8::5')]))
        assert wire.read_response().status == 200
        _, client, destination = server.headers[0]
        assert client == '2001:db8::5 0'
        assert destination == f'::ffff:7f00:1 {proxy.port}'


def test_a_client_without_an_address_is_unknown(sentinel, proxied, sockets):
    for version, number in VERSIONS.items():
        server = proxied()
        path = sockets / f'{version}.sock'
        sentinel(server, upstream=f'send-proxy-protocol "{version}"',
                 extra=f'listener "local" {{ address "unix:{path}" }}')
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(path))
        with Wire(client) as wire:
            ask(wire)
        assert server.headers == [(number, None, None)]


@pytest.mark.parametrize('version', VERSIONS)
def test_the_header_comes_before_tls(sentinel, proxied, tmp_path, version):
    authority = Authority(tmp_path / 'pki')
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.issue('origin', 'IP:127.0.0.1'))
    server = proxied(context=context)
    proxy = sentinel(server, upstream=f'send-proxy-protocol "{version}"; '
                                      f'tls {{ ca "{authority.ca}" }}')
    with proxy.connect(source='127.0.0.7') as wire:
        ask(wire)
        assert server.headers == [(VERSIONS[version], own(wire.sock), peer(wire.sock))]


@pytest.mark.parametrize('kind', ['type "http" path="/health"', 'type "tcp"'])
@pytest.mark.parametrize('version', VERSIONS)
def test_health_checks_name_nobody(sentinel, proxied, version, kind):
    server = proxied()
    proxy = sentinel(server, upstream=f'send-proxy-protocol "{version}"; '
                                      f'health-check {{ {kind}; interval 200ms; timeout 100ms }}')
    wait_for(lambda: len(server.headers) >= 2, what='two checks')
    assert set(server.headers) == {(VERSIONS[version], None, None)}
    assert not server.errors
    assert proxy.request().status == 200


@pytest.mark.parametrize('version', VERSIONS)
def test_nginx_understands_it(sentinel, nginx, version):
    proxy = sentinel(nginx.proxied_address, upstream=f'send-proxy-protocol "{version}"')
    with proxy.connect(source='127.0.0.7') as wire:
        wire.send(request_bytes('/peer'))
        answer = wire.read_response()
        assert answer.body.decode() == own(wire.sock)
