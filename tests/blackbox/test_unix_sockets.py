"""Listeners and targets on Unix sockets, and on IPv6."""
import hashlib
import os
import socket
import stat

from harness.checks import assert_own_answer
from harness.origins import read_request, read_to_end, response
from harness.proxy import command
from harness.waiting import free_ports, wait_for
from harness.wire import Closed, connect_local, request_bytes

SIZE = 4 << 20
BODY = (bytes(range(251)) * (SIZE // 251 + 1))[:SIZE]


def listener(path, lines=''):
    return f'listener "local" {{\n    address "unix:{path}"\n    {lines}\n}}\n'


def ask(path, target='/', fields=(), **options):
    with connect_local(path) as client:
        client.send(request_bytes(target, fields=fields, **options))
        return client.read_response()


def test_clients_are_served_on_a_unix_socket(sentinel, echo, sockets, curl):
    place = sockets / 's'
    proxy = sentinel(echo, extra=listener(place, 'socket-mode "0666"'))
    done = curl('--unix-socket', str(place), 'http://example.test/a', 'http://example.test/b')
    assert done.returncode == 0, done.stderr
    record = proxy.log_records(2)[1]
    assert (record['listener'], record['client'], record['path']) == ('local', 'unix', '/b')
    seen = dict(echo.requests[1].fields)
    assert seen['X-Forwarded-For'] == seen['X-Real-IP'] == 'unix'
    assert proxy.metric('sentinel_connections_accepted_total', listener='local') == 1
    assert f'unix:{place} (local)' in proxy.stderr()


def test_a_client_that_half_closes_on_a_unix_socket_is_answered(sentinel, echo, sockets):
    sentinel(echo, extra=listener(sockets / 's'))
    with connect_local(sockets / 's') as client:
        client.send(request_bytes())
        client.half_close()
        assert client.read_response().status == 200
        assert client.ended()


def test_pipelined_requests_and_large_bodies_pass_through_unix_sockets(sentinel, origin, sockets):
    server = origin(path=sockets / 'origin')
    proxy = sentinel(server, extra=listener(sockets / 's'))
    with connect_local(sockets / 's') as client:
        head = request_bytes('/', 'POST', [('Content-Length', str(SIZE))])
        client.send(head + BODY + request_bytes('/next') + request_bytes('/last'))
        first = client.read_response().json()
        assert first['sha256'] == hashlib.sha256(BODY).hexdigest()
        assert client.read_response().json()['target'] == '/next'
        assert client.read_response().json()['target'] == '/last'
    assert len(server.connections) == 1
    assert {record['status'] for record in proxy.log_records(3)} == {200}


def test_the_file_has_the_mode_and_group_that_the_configuration_says(sentinel, echo, sockets):
    places = {name: sockets / name for name in ('standard', 'closed', 'open')}
    text = listener(places['standard'])
    text += listener(places['closed'], 'socket-mode "0600"').replace('local', 'closed')
    text += listener(places['open'], 'socket-mode "0666"').replace('local', 'open')
    proxy = sentinel(echo, server='user "nobody"\ngroup "nogroup"' if os.geteuid() == 0 else '',
                     extra=text)
    group = 65534 if os.geteuid() == 0 else os.getegid()
    for name, mode in (('standard', 0o660), ('closed', 0o600), ('open', 0o666)):
        status = places[name].stat()
        assert stat.S_ISSOCK(status.st_mode)
        assert stat.S_IMODE(status.st_mode) == mode
        assert (status.st_uid, status.st_gid) == (os.geteuid(), group)
    proxy.stop()
    assert not list(sockets.iterdir()), 'their files go with them'


def test_a_file_that_was_left_is_taken_over_and_another_is_not(sentinel, echo, sockets, tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(sockets / 's'))
    left.listen()
    left.close()
    (sockets / 'file').write_text('precious')
    busy, *waiting = (socket.socket(socket.AF_UNIX) for _ in range(3))
    busy.bind(str(sockets / 'busy'))
    busy.listen(0)
    for client in waiting:  # more than its queue takes
        client.setblocking(False)
        client.connect_ex(str(sockets / 'busy'))
    sentinel(echo, extra=listener(sockets / 's'))
    assert ask(sockets / 's').status == 200
    for name, why in (('s', 'another instance answers there'),
                      ('busy', 'another instance answers there'),
                      ('file', 'there is a file that is no socket')):
        config = tmp_path / 'other.kdl'
        config.write_text('server {\n    pid-file "off"\n    control-socket "off"\n'
                          '    admin {\n        address "off"\n    }\n}\n'
                          + listener(sockets / name) + 'route "r" {\n    respond 200\n}\n')
        done = command('run', '--config', config)
        assert done.returncode == 1
        assert f'cannot listen on unix:{sockets / name}: {why} ({config}:' in done.stderr
    assert (sockets / 'file').read_text() == 'precious' and (sockets / 'busy').is_socket()
    assert ask(sockets / 's').status == 200


def test_a_trusted_unix_socket_says_who_the_client_is(sentinel, echo, sockets):
    text = listener(sockets / 'trusted', 'trusted-proxies "unix"')
    text += listener(sockets / 'not', 'trusted-proxies "127.0.0.0/8"').replace('local', 'not')
    proxy = sentinel(echo, extra=text)
    fields = [('X-Forwarded-For', '192.0.2.1, 198.51.100.7')]
    assert ask(sockets / 'trusted', fields=fields).status == 200
    assert ask(sockets / 'not', fields=fields).status == 200
    # Nobody becomes a trusted peer by that name.
    assert ask(sockets / 'trusted', fields=[('X-Forwarded-For', '192.0.2.1, unix')]).status == 200
    believed, foreign, named = proxy.log_records(3)
    assert believed['client'] == '198.51.100.7'
    assert foreign['client'] == 'unix'
    assert named['client'] == 'unix'
    assert dict(echo.requests[0].fields)['X-Forwarded-For'] == '192.0.2.1, 198.51.100.7, unix'
    assert dict(echo.requests[1].fields)['X-Forwarded-For'] == 'unix'


def test_bounds_per_client_are_not_for_peers_without_an_address(sentinel, echo, sockets):
    sentinel(echo, limits='connections-per-client 1\nrequest-rate-per-client 1 burst=1',
             extra=listener(sockets / 's', 'trusted-proxies "unix"'))
    clients = [connect_local(sockets / 's') for _ in range(4)]
    for client in clients:
        client.send(request_bytes())
        assert client.read_response().status == 200
    # A client whom a trusted proxy names is one.
    fields = [('X-Forwarded-For', '198.51.100.7')]
    answers = [ask(sockets / 's', fields=fields).status for _ in range(3)]
    assert 429 in answers
    for client in clients:
        client.close()


def test_nginx_on_a_unix_socket_is_an_endpoint(sentinel, nginx):
    (nginx.www / 'file').write_bytes(BODY)
    for parent in (nginx.folder, *nginx.folder.parents[:3]):
        if parent.owner() != 'root' or parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o755)
    (nginx.folder / 'nginx.sock').chmod(0o666)
    proxy = sentinel(nginx.local_address)
    for _ in range(3):
        assert proxy.request('/file').body == BODY
    assert proxy.metric('sentinel_upstream_connections_reused_total') == 2
    assert proxy.log_records(3)[2]['endpoint'] == nginx.local_address


def test_an_endpoint_without_a_socket_costs_no_request(sentinel, origin, sockets):
    good = origin(name='good')
    proxy = sentinel(f'unix:{sockets}/none', good)
    assert [proxy.request().status for _ in range(10)] == [200] * 10
    failures = proxy.metric('sentinel_upstream_failures_total', reason='connect_failed')
    assert failures >= 1
    assert proxy.metric('sentinel_endpoint_ejections_total',
                        endpoint=f'unix:{sockets}/none') == 1


def test_a_lone_endpoint_without_a_socket_is_502(sentinel, sockets):
    proxy = sentinel(f'unix:{sockets}/none')
    assert_own_answer(proxy.request(), 502, 'connect_failed')


def test_a_body_that_an_endpoint_cuts_short_is_seen_as_cut(sentinel, origin, sockets):
    cut = b'HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this'
    server = origin([read_request, cut], path=sockets / 'origin')
    proxy = sentinel(server, extra=listener(sockets / 's'))
    with connect_local(sockets / 's') as client:
        client.send(request_bytes())
        try:
            assert client.read_response().truncated
        except Closed:
            pass
    assert proxy.log_record()['reason'] == 'upstream_truncated'


def test_an_endpoint_on_a_unix_socket_that_closes_is_not_used_again(sentinel, origin, sockets):
    server = origin([read_request, response(b'one')], [read_request, response(b'two'), read_to_end],
                    path=sockets / 'origin')
    proxy = sentinel(server)
    assert proxy.request().body == b'one'
    assert proxy.request().body == b'two'
    assert {record['reason'] for record in proxy.log_records(2)} == {None}


def test_checks_ask_on_a_unix_socket(sentinel, origin, sockets):
    server = origin(path=sockets / 'origin', name='well')
    check = ('health-check {\n    type "http"\n    interval "100ms"\n    timeout "80ms"\n'
             '    healthy-threshold 1\n    unhealthy-threshold 1\n}')
    proxy = sentinel(server, upstream=check)
    checked = server.wait_requests(1)[0]
    assert dict(checked.fields)['Host'] == 'localhost'
    assert proxy.request().status == 200
    server.refuse()
    wait_for(lambda: proxy.request().status == 503, 10, 'the endpoint being down')


def test_ipv6_is_served_and_connected_to(sentinel, origin):
    port, = free_ports(1)
    server = origin(host='::1')
    text = f'listener "six" {{\n    address "[::1]:{port}"\n    trusted-proxies "::1"\n}}\n'
    proxy = sentinel(server, extra=text)
    with socket.create_connection(('::1', port), 10) as sock:
        sock.sendall(request_bytes('/', fields=[('Connection', 'close')]))
        answer = b''
        while data := sock.recv(65536):
            answer += data
    assert answer.startswith(b'HTTP/1.1 200 ')
    record = proxy.log_record()
    assert record['client'] == '::1'
    assert record['endpoint'] == server.address
    assert dict(server.requests[0].fields)['X-Forwarded-For'] == '::1'
