"""The PROXY protocol: what balancers say of clients, and what upstreams are told."""
import socket
import ssl

import pytest

from harness.certificates import Authority
from harness.origins import hold, read_head, response
from harness.proxy_protocol import LOCAL, PROXY, TCP4, TCP6, UNIX, UNSPEC
from harness.proxy_protocol import header, own, peer, ProxiedOrigin, tlv, v1, v2, with_checksum
from harness.waiting import wait_for
from harness.wire import request_bytes, Wire

FROM = 'proxy-protocol { from "127.0.0.1/32" "127.0.0.4" }'
INET = v2()[16:]
CLIENT = '203.0.113.7'
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
    proxy = sentinel(server, upstream=f'send-proxy-protocol "{version}"',
                     timeouts='upstream-keep-alive 60s')
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


@pytest.fixture
def behind(sentinel, echo):
    """behind(): a proxy whose balancers are 127.0.0.1 and 127.0.0.4."""
    return lambda line='', *targets, **parts: sentinel(
        *(targets or [echo]), listener=f'{FROM}\n{line}', **parts)


def fields_of(answer):
    return {name.lower(): value for name, value in answer['fields']}


def said(proxy, *pieces, source=None):
    """What comes back on a connection that begins with these pieces, each sent alone."""
    with proxy.connect(source=source) as wire:
        for piece in pieces:
            wire.send(piece)
        return ask(wire)


@pytest.mark.parametrize('head, client', [
    (v1(), CLIENT),
    (v1('2001:db8::7', '::1'), '2001:db8::7'),
    (v1('::ffff:203.0.113.7', '::1'), CLIENT),
    (v2(), CLIENT),
    (v2('2001:db8::7', '::1'), '2001:db8::7'),
    (v2(tlvs=tlv(1, b'h2') + tlv(4, bytes(900)) + tlv(0xee, b'x')), CLIENT),
    (with_checksum(v2(tlvs=tlv(2, b'shop.example'))), CLIENT),
    (header(PROXY, UNIX, bytes(216)), 'unix'),
    # Who names nobody is the peer itself.
    (b'PROXY UNKNOWN\r\n', '127.0.0.1'),
    (b'PROXY UNKNOWN 203.0.113.7 x 1 2\r\n', '127.0.0.1'),
    (header(LOCAL, UNSPEC), '127.0.0.1'),
    (header(LOCAL, TCP4, INET), '127.0.0.1'),
    (header(PROXY, UNSPEC), '127.0.0.1'),
])
def test_whom_the_header_names_is_the_client(behind, head, client):
    proxy = behind()
    seen = fields_of(said(proxy, head))
    assert (seen['x-forwarded-for'], seen['x-real-ip']) == (client, client)
    assert proxy.log_record()['client'] == client


def test_curl_sends_one(behind, curl):
    proxy = behind()
    done = curl('--haproxy-protocol', proxy.url)
    assert done.returncode == 0 and b'"origin": "echo"' in done.stdout
    assert curl('--haproxy-protocol', '--interface', '127.0.0.4', proxy.url).returncode == 0


@pytest.mark.parametrize('head', [v1(), with_checksum(v2())])
def test_a_header_comes_in_any_pieces_and_takes_nothing_of_the_request(behind, head):
    proxy = behind()
    request = request_bytes('/x')
    for pieces in ([head + request + request], [head, request + request],
                   [bytes([byte]) for byte in head + request] + [request],
                   [head[:7], head[7:] + request[:1], request[1:] + request]):
        with proxy.connect() as wire:
            for piece in pieces:
                wire.send(piece)
            for _ in range(2):
                answer = wire.read_response()
                assert answer.status == 200
                assert fields_of(answer.json())['x-real-ip'] == CLIENT


@pytest.mark.parametrize('begin', [
    request_bytes('/'),
    b'\x16\x03\x01\x00\x00',
    b'PROXY TCP4 203.0.113.7 198.51.100.1 4711\r\n',
    b'PROXY TCP4 203.0.113.7 198.51.100.1 4711 443\n',
    b'PROXY UNKNOWN ' + b'x' * 100,
    header(0x22, TCP4, INET),
    header(PROXY, 0x12, INET),
    header(PROXY, 0x41, INET),
    header(PROXY, TCP6, INET),
    header(PROXY, TCP4, INET + b'\4'),
    header(PROXY, TCP4, INET + tlv(5, bytes(129))),
    header(PROXY, TCP4, INET + tlv(4, bytes(2000))),
    with_checksum(v2())[:-1] + b'x',
])
def test_who_has_to_send_a_header_and_does_not_is_cut_off(behind, echo, begin):
    proxy = behind()
    with proxy.connect() as wire:
        wire.send(begin)
        assert wire.ended() and not wire.received
    record = proxy.logged('bad_proxy_header')
    assert (record['client'], record['status'], record['listener']) == ('127.0.0.1', None, 'http')
    assert proxy.metric('sentinel_failures_total', reason='bad_proxy_header') == 1
    assert not echo.requests
    assert fields_of(said(proxy, v2()))['x-real-ip'] == CLIENT


def test_who_leaves_within_a_header_is_told_of_and_who_says_nothing_is_not(behind):
    proxy = behind()
    with proxy.connect():
        pass
    with proxy.connect() as wire:
        wire.send(v2()[:20])
    proxy.logged('bad_proxy_header')
    assert len(proxy.records()) == 1


def test_others_are_ordinary_clients_who_may_not_send_one(behind):
    proxy = behind()
    assert fields_of(said(proxy, source='127.0.0.2'))['x-real-ip'] == '127.0.0.2'
    for head in (v1(), v2()):
        with proxy.connect(source='127.0.0.2') as wire:
            wire.send(head + request_bytes('/'))
            assert wire.read_response().status == 400
    assert {record['client'] for record in proxy.log_records(3)} == {'127.0.0.2'}


def test_a_header_has_its_time(behind):
    proxy = behind(timeouts='proxy-header 300ms')
    with proxy.connect() as silent, proxy.connect() as slow:
        slow.send(v2()[:15])
        assert slow.ended() and silent.ended()
    record = proxy.logged('proxy_header_timeout')
    assert record['client'] == '127.0.0.1' and record['total_ms'] >= 300
    assert len(proxy.records()) == 1
    assert said(proxy, v1())


def test_bounds_are_those_of_the_client_and_not_of_the_balancer(behind):
    proxy = behind(limits='connections-per-client 2')
    with proxy.connect() as one, proxy.connect() as two, proxy.connect() as other:
        for wire, client in ((one, CLIENT), (two, CLIENT), (other, '203.0.113.8')):
            wire.send(v2(client))
            ask(wire)
        with proxy.connect() as third:
            third.send(v1() + request_bytes('/'))
            assert third.read_response().status == 429
        assert proxy.logged('client_connections')['client'] == CLIENT
    wait_for(lambda: proxy.metric('sentinel_connections') == 0, what='the end of all')
    assert said(proxy, v1())


def test_a_flood_of_connections_without_header_is_bounded_in_all(behind):
    """Nobody can be told apart before the header: what bounds them is max-connections."""
    proxy = behind(limits='connections-per-client 1', server='max-connections 8')
    wires = [proxy.connect() for _ in range(8)]
    try:
        wires[0].send(v2())
        ask(wires[0])
        ninth = proxy.connect()
        ninth.send(v2('203.0.113.9'))
        with ninth:
            ask(ninth)  # an older one that has said nothing made room
    finally:
        for wire in wires:
            wire.close()


def test_trust_is_for_whom_the_header_names(behind):
    proxy = behind('trusted-proxies "203.0.113.0/24"')
    fields = [('X-Forwarded-For', '198.51.100.9'), ('X-Forwarded-Proto', 'https')]
    for source, client in ((CLIENT, '198.51.100.9'), ('203.0.114.7', '203.0.114.7')):
        with proxy.connect() as wire:
            wire.send(v2(source) + request_bytes('/', fields=fields))
            assert fields_of(wire.read_response().json())['x-real-ip'] == client
    # The balancer itself is not among them.
    with proxy.connect() as wire:
        wire.send(header(LOCAL, UNSPEC) + request_bytes('/', fields=fields))
        assert fields_of(wire.read_response().json())['x-real-ip'] == '127.0.0.1'


def test_what_came_in_goes_out(behind, proxied):
    server = proxied()
    proxy = behind('', server, upstream='send-proxy-protocol "v1"')
    said(proxy, v2('2001:db8::7', '::1'))
    assert server.headers[0][1] == '2001:db8::7 4711'


def test_it_comes_before_tls(sentinel, echo, stack, tmp_path):
    authority = Authority(tmp_path / 'pki')
    file, key = authority.issue('front', 'front.test')
    proxy = sentinel(echo, listener=f'protocol "https"\n{FROM}\n'
                                    f'tls {{ certificate "{file}" key="{key}" }}')
    context = ssl.create_default_context(cafile=authority.ca)
    for head in (v1(), with_checksum(v2())):
        with proxy.connect() as wire:
            wire.send(head)
            wire.sock = context.wrap_socket(wire.sock, server_hostname='front.test')
            wire.send(request_bytes('/', host='front.test'))
            assert fields_of(wire.read_response().json())['x-real-ip'] == CLIENT
    with proxy.connect() as wire:
        with pytest.raises(OSError):
            context.wrap_socket(wire.sock, server_hostname='front.test')
    assert proxy.logged('bad_proxy_header')['client'] == '127.0.0.1'


def test_a_balancer_on_a_unix_socket_names_clients(sentinel, echo, sockets):
    path = sockets / 'front.sock'
    proxy = sentinel(echo, extra=f'listener "local" {{ address "unix:{path}"; '
                                 'proxy-protocol { from "unix" } }')
    for head, client in ((v1(), CLIENT), (header(LOCAL, UNSPEC), 'unix')):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        with Wire(sock) as wire:
            wire.send(head)
            assert fields_of(ask(wire))['x-real-ip'] == client
    assert len(proxy.log_records(2)) == 2


@pytest.mark.parametrize('secured', [False, True])
def test_http2_follows_a_header_and_is_for_one_client_too(sentinel, origin, tmp_path, secured):
    """Two proxies: what one sends, the other takes, and then they speak HTTP/2."""
    server = origin([read_head, hold, response(b'late')])
    authority = Authority(tmp_path / 'pki')
    file, key = authority.issue('front', 'front.test')
    spoken = (f'protocol "https"\ntls {{ certificate "{file}" key="{key}" }}' if secured
              else 'h2c true')
    second = sentinel(server, listener=f'{FROM}\n{spoken}')
    more = f'tls {{ ca "{authority.ca}"; server-name "front.test" }}' if secured else ''
    first = sentinel(f'127.0.0.1:{second.port}',
                     upstream=f'send-proxy-protocol "v2"\nhttp-version "2"\n{more}')
    clients = ['127.0.0.7', '127.0.0.8', '127.0.0.7']
    wires = [first.connect(source=client) for client in clients]
    for wire in wires:
        wire.send(request_bytes('/', host='front.test'))
    wait_for(lambda: len(server.requests) == 3, what='all requests')
    assert first.metric('sentinel_upstream_connections') == 3
    server.release()
    assert [wire.read_response().body for wire in wires] == [b'late'] * 3
    records = second.log_records(3)
    assert sorted(record['client'] for record in records) == sorted(clients)
    assert {record['protocol'] for record in records} == {'HTTP/2.0'}
    wait_for(lambda: first.metric('sentinel_upstream_connections') == 0, what='their end')
